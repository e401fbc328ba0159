"""Weights small enough to be committed: a long toy training that no other notebook reads is loaded, not repeated.

`python -m lib.studies.shipped RUN FILE --command WORDS` writes those of a finished run; with `--blocks N` its encoder's
first N blocks alone, for lib.models.pretrained.load_encoder.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from lib.checkpoints import Record, load_checkpoint, other_options, read_losses
from lib.errors import UserError, cli
from lib.runtime import atomic_path
from lib.training import TrainOptions, fit, options_of


def load_or_fit(
    shipped: Path | None, model: nn.Module, samples: Dataset, settings, out_dir: Path, seed: int = 0, **others
) -> list[Record]:
    """`lib.training.fit`, unless nothing is trained in `out_dir` and the file `shipped` is of just this run."""
    trained = (out_dir / "last.pt").is_file()
    if shipped and not trained and (losses := load_shipped(model, shipped, options_of(settings, samples, seed))):
        model.eval()
        return losses
    return fit(model, samples, settings, out_dir, seed, **others)


def ship(run: str | Path, path: str | Path, command: str) -> None:
    """Write a finished run's weights in half precision, its loss curve and the `command` that made it to one file."""
    state = load_checkpoint(Path(run) / "last.pt")
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in state["model"].items()
        if not name.endswith("pos_embed")  # tables that the model makes itself
    }
    about = {"architecture": state["architecture"], "options": state["options"], "command": command}
    about |= {"losses": [list(row.values()) for row in read_losses(run)], "columns": list(read_losses(run)[0])}
    about |= {"sha256": _sha256(weights)}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, {name: json.dumps(value) for name, value in about.items()})


def ship_encoder(run: str | Path, path: str | Path, command: str, blocks: int) -> None:
    """Write a finished run's encoder, its first blocks, in half precision to a .pt, with the `command` that made it."""
    state = load_checkpoint(Path(run) / "last.pt")
    there = {name.split(".")[2] for name in state["model"] if name.startswith("encoder.blocks.")}
    if not 0 < blocks <= len(there):
        raise UserError(f"{blocks} blocks: the encoder of {run} has {len(there)}")
    beyond = tuple(f"encoder.blocks.{number}." for number in range(blocks, len(there)))
    weights = {
        name: value.half()
        for name, value in state["model"].items()
        if name.startswith("encoder.") and not name.startswith(beyond)
    }
    with atomic_path(path) as temporary:
        torch.save({"model": weights, "architecture": state["architecture"], "command": command}, temporary)


def load_shipped(model: nn.Module, path: str | Path, options: TrainOptions) -> list[Record]:
    """Weights by `ship` into the model, and the loss curve; nothing at all if they are of another run than asked for.

    UserError when the file does not hold what its hash says.
    """
    if not Path(path).is_file():
        return []
    damaged = UserError(f"{path} is damaged: restore it (git checkout), or delete it to train instead")
    try:
        with safe_open(path, "pt") as file:
            about = {name: json.loads(value) for name, value in file.metadata().items()}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, ValueError) as error:
        raise damaged from error
    architecture = json.loads(json.dumps(model.architecture))
    if about["architecture"] != architecture or other_options(about["options"], options):
        return []
    if _sha256(weights) != about["sha256"]:
        raise damaged
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or any(not name.endswith("pos_embed") for name in missing):
        raise UserError(f"{path} does not fit the model: delete it to train instead; it was made by {about['command']}")
    return [dict(zip(about["columns"], row, strict=True)) for row in about["losses"]]


def _sha256(weights: dict[str, Tensor]) -> str:
    parts = (name.encode() + weights[name].numpy().tobytes() for name in sorted(weights))
    return hashlib.sha256(b"".join(parts)).hexdigest()


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m lib.studies.shipped", description=ship.__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("path", type=Path, help="the .safetensors file to write")
    parser.add_argument("--command", required=True, help="the command that made the run, to be kept with the weights")
    parser.add_argument("--blocks", type=int, help="write so many of the encoder's blocks, a .pt, and no more")
    given = vars(parser.parse_args(arguments))
    blocks = given.pop("blocks")
    if blocks is None:
        ship(**given)
    else:
        ship_encoder(**given, blocks=blocks)


if __name__ == "__main__":
    sys.exit(main())
