"""How far scores vary with the seed of pre-training: MAE and SiamMAE, trained and scored as notebooks 02, 03, 06 do."""

from functools import partial
from pathlib import Path

import pandas as pd
import torch

from lib import presets
from lib.data.video import Clip
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.presets.frame_pairs import FramePairs
from lib.studies import three_tasks
from lib.studies.frame_pairs import pretrain, training_clips
from lib.studies.grid import Row, run_grid
from lib.studies.table import read_table, records, wide

# Each gives rows of its own to the table: the methods of three_tasks, "SiamMAE, block 2" and the like.
ROWS = (
    Row("untrained"),  # and what needs no network, which is the same for all seeds
    Row("MAE", {"mask_ratio": presets.MAE["toy"].mask_ratio}, MAE),
    Row("SiamMAE", model=SiamMAE),
)


def read_rows(path: str | Path) -> pd.DataFrame:
    """The study's table at `path` in wide form: `method`, `seed`, and scores in percent."""
    return wide(read_table(path)).rename(columns={"row": "method"})


def run(data: Path, out: Path, epochs: float | None, **grid) -> pd.DataFrame | None:
    """The study on the toy world at `data`; `grid`: rows, seeds and minutes of run_grid."""
    base = presets.get(presets.SIAMMAE, "toy", epochs=epochs)
    measure = partial(measure_row, base, training_clips(data), three_tasks.open_tasks(data), out / "frames")
    return run_grid(measure=measure, out=out, about=f"{data.name} {base}", **grid)


def measure_row(
    base: FramePairs, clips: list[Clip], tasks: dict, frames: Path, row: Row, seed: int, folder: Path
) -> list[dict]:
    """Train if there is something to train, and score on the tasks; decoded clips are stored in `frames`."""
    settings = row.settings(base)[0]
    losses = pretrain(row.model, settings, clips, seed, folder, frames)[1] if row.model else []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoders = three_tasks.load_encoders({row.name: folder} if row.model else {}, settings, seed, device=device)
    wanted = (row.name,) if row.model else ("", three_tasks.UNTRAINED)
    methods = three_tasks.methods_of(encoders, settings)
    methods = {name: method for name, method in methods.items() if method.encoder in wanted}
    protocols = three_tasks.protocols_of(settings)
    tasks = {task: dataset for task, dataset in tasks.items() if task in protocols}
    scores = three_tasks.score_methods(tasks, methods, protocols, folder / "predictions", settings.eval_frames, device)
    shown = three_tasks.conditions(tasks, protocols, settings)
    common = {"step": len(losses), "seconds": sum(record["seconds"] for record in losses)} if losses else {}
    table = []
    for line in three_tasks.score_table(scores).to_dict("records"):
        method = line.pop("method")
        for record in records(line, row=method, **common):
            task = next((task for task in tasks if record["metric"] in three_tasks.MEASURES[task]), "jhmdb")
            size = shown["input" if task == "davis" else f"{task} input"]  # without these no score may be read
            words = f"protocol {shown['protocol']}, temperature {shown['temperature']}, input {size}"
            table.append(record | {"conditions": words})
    return table
