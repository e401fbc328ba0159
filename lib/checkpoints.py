"""What a training run leaves on disk: the loss curve as it goes and the checkpoint to resume from, or to load.

Checkpoints are tensors and plain values, read without running code. A checkpoint is written whole or not at all.
"""

import csv
import json
import math
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from lib.errors import UserError
from lib.runtime import atomic_path

Record = dict[str, float]


class RunFiles:
    """The loss curve (`losses.csv` and TensorBoard, with whatever the model logs) and the checkpoint `last.pt`.

    `options`: a dataclass of plain values; a checkpoint of other ones is refused, save for `save_every`.
    """

    def __init__(self, out_dir: Path, architecture: dict, options: Any, is_main: bool):
        self.out_dir, self.architecture, self.options, self.is_main = out_dir, architecture, options, is_main
        self.checkpoint, self.curve = out_dir / "last.pt", out_dir / "losses.csv"
        self.saved_step = 0

    def restore(self, model: nn.Module, optimizer) -> int:
        """Load the checkpoint if there is one; returns the first step still to do."""
        if not self.checkpoint.is_file():
            return 0
        state = load_checkpoint(self.checkpoint)
        if not {"optimizer", "options"} <= state.keys():
            raise UserError(f"{self.checkpoint} holds weights alone: load them, or use another out_dir to train")
        if other := other_options(state["options"], self.options):
            raise UserError(
                f"{self.checkpoint} was trained with {other}: use another out_dir, or delete it to start over"
            )
        _fill(model, self.checkpoint, state, self.architecture)
        optimizer.load_state_dict(state["optimizer"])
        self.saved_step = state["step"]
        return self.saved_step

    def __enter__(self):
        if self.is_main:
            self.out_dir.mkdir(parents=True, exist_ok=True)
            rows = [row for row in read_losses(self.out_dir) if row["step"] < self.saved_step]
            with atomic_path(self.curve) as temporary, temporary.open("w", newline="") as file:
                for row in rows:
                    self._write({**row, "step": int(row["step"])}, file)
            self.csv_file = self.curve.open("a", newline="")
            self.board = SummaryWriter(str(self.out_dir / "tensorboard"), purge_step=self.saved_step)
        return self

    def __exit__(self, *_):
        if self.is_main:
            self.csv_file.close()
            self.board.close()

    def log(self, record: Record) -> None:
        """Append one step's record to the curve, at once on disk."""
        if self.is_main:
            self._write(record, self.csv_file)
            self.csv_file.flush()
            for name in record.keys() - {"step", "seconds"}:
                self.board.add_scalar(name, record[name], int(record["step"]))

    def _write(self, record: Record, file: TextIO) -> None:
        """Append a record; the first one of a file names the columns."""
        writer = csv.DictWriter(file, list(record))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(record)

    def save(self, model: nn.Module, optimizer, step: int) -> None:
        """Write the checkpoint after `step` finished steps, whole or not at all."""
        self.saved_step = step
        if self.is_main:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            with atomic_path(self.checkpoint) as temporary:
                torch.save({**state, "architecture": self.architecture, "options": plain(self.options)}, temporary)

    def not_finite(self, record: Record) -> str:
        """The message that ends a run whose loss or gradient is not a number."""
        name = "grad_norm" if math.isfinite(record["loss"]) else "loss"
        last = f"{self.checkpoint} (after step {self.saved_step})" if self.saved_step else "none was saved"
        what = f"{name} is {record[name]} at step {int(record['step'])}: lower base_lr or lengthen the warm-up"
        return f"{what}; last good checkpoint: {last}"


def plain(options: Any) -> dict:
    """A dataclass of options as JSON would give it back: tuples are lists."""
    return json.loads(json.dumps(asdict(options)))


def other_options(stored: dict, options: Any) -> str:
    """In words the first option in which a stored run differs; "" where none does. How often to save is free."""
    for name, value in plain(options).items():
        if name != "save_every" and stored.get(name) != value:
            return f"{name}={stored.get(name)}, not {value}"
    return ""


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint of this loop: tensors and plain values only, never code. UserError for anything else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        kind = type(error).__name__
        raise UserError(f"{path} is no readable checkpoint ({kind}): delete it to start over") from error
    kinds = {"model": dict, "architecture": dict, "step": int}
    if not isinstance(state, dict) or not all(isinstance(state.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path} is no checkpoint of this project: it lacks model, architecture or step")
    return state


def check_architecture(path: str | Path, found: dict, wanted: dict) -> None:
    """UserError, naming the first differences, when a checkpoint's architecture is not the model's."""
    differ = [k for k in sorted(found.keys() | wanted.keys()) if found.get(k) != wanted.get(k)]
    if differ:
        words = ", ".join(f"{k} {found.get(k)} instead of {wanted.get(k)}" for k in differ[:4])
        raise UserError(f"{path} holds another architecture ({words}): build the model to match, or use another path")


def _fill(model: nn.Module, path: str | Path, state: dict, architecture: dict) -> None:
    """Load a checkpoint's weights once its settings, and then every name and shape, are found to be the model's."""
    check_architecture(path, state["architecture"], architecture)
    weights = state["model"], model.state_dict()
    check_architecture(path, *({name: tuple(w.shape) for name, w in part.items()} for part in weights))
    model.load_state_dict(state["model"])


def read_losses(out_dir: str | Path) -> list[Record]:
    """The loss curve written so far: one record a step, whole lines only (a killed run may end within a line)."""
    path = Path(out_dir) / "losses.csv"
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    rows = csv.DictReader(line for line in lines if line.endswith("\n"))
    return [{name: float(value) for name, value in row.items()} for row in rows]


def training_minutes(losses: list[Record]) -> float:
    """How long a run's steps took at their median, so that pauses and other work of the machine do not count."""
    return len(losses) * statistics.median(record["seconds"] for record in losses) / 60


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Load a trained model's weights from a checkpoint of this loop; every name and shape must match."""
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist: train first, or correct the path")
    _fill(model, path, load_checkpoint(path), dict(model.architecture))
    return model
