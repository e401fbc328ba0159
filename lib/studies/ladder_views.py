"""What notebook 10 shows of the ladder's study: predicted frames as pictures, gains, accuracies and losses by row.

`python -m lib.studies.ladder_views --data FOLDER --out FOLDER --npz FILE` keeps predictions of a few test clips by the
runs of a finished study. Shapes: `n` clips, `F` futures, `H W` pixels.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import presets
from lib.data.video import PAPER_FPS
from lib.errors import UserError, cli
from lib.presets.ladder import LADDER, Ladder
from lib.runtime import atomic_path
from lib.studies import ladder
from lib.studies.grid import Row, choose, run_folder
from lib.studies.ladder_data import FUTURES, Held, LadderData, held_out, open_data
from lib.studies.ladder_measures import baseline, patch_predictions
from lib.studies.table import wide

SHOWN = (
    "copy of the last frame", "optical flow", "SiamMAE, pixels", "three frames", "one frame", "full resolution",
)  # fmt: skip


def predictions(
    base: Ladder, data: LadderData, held: Held, names: Sequence[str], out: Path, seed: int = 0
) -> dict[str, Tensor]:
    """Each named row's futures of the held-out clips, uint8 (n, F, 3, H, W), by the runs in `out`, made if need be."""
    found = {}
    for row in choose(ladder.ROWS, names):
        found[row.name] = as_bytes(predict(base, data, held, row, out, seed))
    return found


def as_bytes(frames: Tensor) -> Tensor:
    """Frames of 0..1 as uint8; what is beyond is clipped."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


def predict(base: Ladder, data: LadderData, held: Held, row: Row, out: Path, seed: int) -> Tensor:
    """The row's futures, float (n, F, 3, H, W)."""
    folder = run_folder(out, row.name, seed)
    if row.name in ladder.BASELINES:
        return baseline(row.name, held)
    if "norm_pix" in row.changes:
        model, _ = ladder.train_siammae(base, data, row, seed, folder)
        return patch_predictions(model, held, PAPER_FPS / data.fps)
    return ladder.ladder_predictions(ladder.train_ladder(base, data, row, seed, folder)[0], held)


def only(held: Held, clips: Sequence[int]) -> Held:
    """Some of the clips."""
    rows = [clip * FUTURES + ahead for clip in clips for ahead in range(FUTURES)]
    mask = type(held.mask)(*(part[rows] for part in held.mask))
    return Held(*(part[list(clips)] for part in held[:-1]), mask)


def picture_rows(held: Held, found: Mapping[str, Tensor], clip: int) -> dict[str, list[Tensor | None]]:
    """Rows of pictures of one clip: the given frames with the true futures, and each prediction below these."""
    given, truth = list(held.given[clip]), list(held.futures[clip])
    return {"truth": [*given, *truth]} | {name: [None] * len(given) + list(part[clip]) for name, part in found.items()}


def learned_rows(
    base: Ladder, data: LadderData, names: Sequence[str], out: Path, seed: int = 0
) -> dict[str, list[Tensor | None]]:
    """Rows of pictures of what ladders learned by heart, by rows on few clips: the first of these, and its futures."""
    rows = {}
    for row in choose(ladder.ROWS, names):
        model, _, samples = ladder.train_ladder(base, data, row, seed, run_folder(out, row.name, seed))
        frames = samples[0]["video"].transpose(0, 1)
        own = Held(frames[None, : model.given], frames[None, model.given :], None, None)
        predicted = as_bytes(ladder.ladder_predictions(model, own)[0])
        rows |= {row.name: list(frames), f"{row.name}:\npredicted": [None] * model.given + list(predicted)}
    return rows


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """The study's table in wide form, without the loss curves."""
    return wide(table[table["metric"] != "loss"])


def gains(table: pd.DataFrame, names: Sequence[str], region: str) -> pd.DataFrame:
    """A line a row, `case`: its gain in SSIM over a copy of the last frame at "+1" and so on, mean over seeds, and
    "+1_low", "+1_high": of the seeds' intervals over clips the lowest and highest ends.
    """
    found = []
    for name in names:
        line = {"case": name}
        for ahead in range(1, FUTURES + 1):
            mine = table[(table["row"] == name) & (table["metric"] == f"gain {region} +{ahead}")]
            ends = mine["value"].mean(), mine["low"].min(), mine["high"].max()
            line |= dict(zip((f"+{ahead}", f"+{ahead}_low", f"+{ahead}_high"), ends, strict=True))
        found.append(line)
    return pd.DataFrame(found)


def accuracies(lines: pd.DataFrame, names: Sequence[str], arms: Sequence[str], by: str = "video") -> pd.DataFrame:
    """Of the wide table, a line for each named row, seed and arm: `row`, `seed`, `case` (the arm), `accuracy`."""
    columns = {f"{arm}: {by}": arm for arm in arms}
    mine = lines[lines["row"].isin(names)][["row", "seed", *columns]].rename(columns=columns)
    return mine.melt(["row", "seed"], var_name="case", value_name="accuracy")


def losses(table: pd.DataFrame, names: Sequence[str], seed: int = 0) -> dict[str, pd.Series]:
    """The loss curves of the named rows: loss by step."""
    mine = table[(table["metric"] == "loss") & (table["seed"] == seed)]
    return {name: mine[mine["row"] == name].set_index("step")["value"] for name in names}


def load(path: Path) -> tuple[Held, dict[str, Tensor]]:
    """What `main` kept."""
    with np.load(path, allow_pickle=False) as file:
        parts = {name: torch.from_numpy(file[name]) for name in file.files}
    given, futures = parts.pop("given"), parts.pop("futures")
    return Held(given, futures, torch.ones_like(futures[:, :, 0], dtype=torch.bool), None), parts


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m lib.studies.ladder_views", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="as the study's")
    add("--out", type=Path, required=True, help="the study's folder")
    add("--npz", type=Path, required=True, help="the file to write")
    add("--preset", choices=LADDER, default="toy")
    add("--epochs", type=float, help="as the study's")
    add("--clips", type=int, nargs="+", default=[0, 20, 40], help="numbers of test clips")
    add("--rows", nargs="+", default=SHOWN)
    args = parser.parse_args(arguments)
    base = presets.get(LADDER, args.preset, epochs=args.epochs)
    data = open_data(args.data.absolute(), base, args.out.absolute() / "frames")
    held = held_out(data)
    if max(args.clips) >= len(held.given):
        raise UserError(f"clip {max(args.clips)}: there are {len(held.given)}, counted from 0")
    held = only(held, args.clips)
    found = predictions(base, data, held, args.rows, args.out.absolute())
    with atomic_path(args.npz) as temporary, open(temporary, "wb") as file:
        arrays = {"given": held.given, "futures": held.futures, **found}
        np.savez_compressed(file, **{name: part.numpy() for name, part in arrays.items()})


if __name__ == "__main__":
    sys.exit(main())
