"""AdaMAE on real clips of actions: adaptive, random and tube masking, tested clip by clip on JHMDB's first split.

Each row pre-trains on the split's training clips, without labels; then four tests see its frozen features, or fine-tune
with labels and average two clips x three crops of each test clip. Chance is 1 in 21.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from lib import presets
from lib.data.action_clips import ClipReader, TestingViews, TrainingClips
from lib.data.actions import ActionList, action_splits
from lib.data.rand_augment import VideoRandAugment
from lib.presets.video import Video
from lib.runtime import dataset_root
from lib.studies.finetuning import finetuned_scores
from lib.studies.grid import Row, run_grid
from lib.studies.masking import build_model, class_scores
from lib.studies.real_tables import comparisons
from lib.training import fit

NAME = "jhmdb_actions"
SAMPLES = 9600  # to pre-train on, as many as the preset has on 15 clips
FINE_TUNING = presets.get(presets.FINE_TUNING, "laptop", epochs=20, warmup_epochs=2.0)
STRIDE = 1  # in the files' own frames: most clips have 15 to 40 of them
TESTS = {
    "probe": "linear probe, mean token",
    "motion_probe": "linear probe, motion",
    "knn": "20 nearest, mean token",
    "fine-tuned": "fine-tuned, 6 views",
}
PAIRS = (("adaptive", "random"), ("adaptive", "tube"), ("adaptive", "untrained"))
ROWS = (
    Row("adaptive"),
    Row("random", {"masking": "random"}),
    Row("tube", {"masking": "tube"}),
    Row("untrained", length=0),
)


def run(data: Path, out: Path, epochs: float | None, rows: Sequence[Row], **grid) -> pd.DataFrame | None:
    """The study on JHMDB's clips at or below `data`; `grid`: seeds and so on, of run_grid."""
    if grid.get("dry_run"):  # which opens no clip
        return run_grid(rows, measure=None, out=out, **grid)
    base = presets.get(presets.ADAMAE, "laptop", stride=STRIDE)
    reader = ClipReader(base.num_frames, base.stride, base.frame_size, out / "frames")
    parts = [reader.usable(part)[0] for part in action_splits(dataset_root(data, [NAME, "jhmdb"]), NAME)]
    base = presets.get({"base": base}, "base", epochs=epochs or SAMPLES / len(parts[0].videos))
    about = f"{[len(part.videos) for part in parts]} clips; {base} {FINE_TUNING}"
    return run_grid(rows, measure=partial(measure_row, base, parts, reader), out=out, about=about, **grid)


def measure_row(
    base: Video, parts: Sequence[ActionList], reader: ClipReader, row: Row, seed: int, folder: Path
) -> list[dict]:
    """Pre-train, then whether each test clip's action is found, 100 or 0, by each test: records with `clip`."""
    (settings, arguments), (train_set, test_set) = row.settings(base), parts
    model = build_model(settings, seed, **arguments)
    clips = TrainingClips(train_set, reader, settings.image_size, settings.crop_area, seed=seed)
    losses = fit(model, clips, settings, folder, seed) if row.length else []
    model.eval()
    scores, truth = class_scores(model, train_set, test_set, reader)
    augment = VideoRandAugment(FINE_TUNING.rand_augment, settings.image_size)
    labelled = TrainingClips(train_set, reader, settings.image_size, settings.crop_area, augment, seed)
    views = TestingViews(test_set, reader, settings.image_size, clips=2, crops=3)
    torch.manual_seed(seed)  # the classifier's first weights
    scores["fine-tuned"], _ = finetuned_scores(model, FINE_TUNING, labelled, views, folder / "finetuned")
    seconds = sum(record["seconds"] for record in losses)
    names = [video.path.stem for video in test_set.videos]
    told = {"data": NAME, "block": None, "step": len(losses), "seconds": seconds}
    return [
        {"metric": name, "value": 100.0 * right, "clip": clip, **told}
        for name, score in scores.items()
        for clip, right in zip(names, (score.argmax(dim=1) == truth).tolist(), strict=True)
    ]


def verdicts(lines: pd.DataFrame) -> pd.DataFrame:
    """By each test the comparisons of PAIRS (see `real_tables.comparisons`), of lines that `read_clips` gave."""
    found = {words: comparisons(lines, PAIRS, test).drop(columns="data") for test, words in TESTS.items()}
    return pd.concat(found, names=["test"]).reset_index("test").reset_index(drop=True)
