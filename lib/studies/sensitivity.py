"""How much a score hangs on the protocol: one factor is changed at a time, all others stay as in a base protocol.

Published codes of label propagation (videowalk, Jabri et al. 2020, and those after it) differ in every factor here.
Features do not depend on them, so each video is encoded once and propagated many times.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import presets
from lib.data.davis import DavisDataset
from lib.data.sequences import MaskSequence
from lib.data.video import Clip
from lib.evaluation import metrics
from lib.evaluation.features import FrameFeatures
from lib.evaluation.masks import masks_from_features
from lib.evaluation.protocols import RESIZES, Protocol, get_protocol
from lib.models.pretrained import load_encoder
from lib.models.siammae import SiamMAE
from lib.presets.frame_pairs import FramePairs
from lib.runtime import dataset_root, in_threads
from lib.studies.frame_pairs import pretrain, training_clips
from lib.studies.grid import Row, run_folder, run_grid
from lib.studies.table import records

FACTORS: dict[str, tuple] = {
    "top_k": (1, 3, 5, 7, 10, 15, 20, 40), "queue": (0, 1, 2, 4, 7, 14, 20, 30),
    "radius": (1, 2, 4, 8, 12, 16, 20, 40), "shape": ("disc", "square"),
    "temperature": (0.01, 0.03, 0.05, 0.07, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0), "padded_start": (False, True),
    "mask_first_frame": (False, True), "label_resize": RESIZES, "channel_min_max": (False, True),
}  # fmt: skip
BASE = Row("base")  # the model is trained here
ROWS = (BASE, *(Row(factor, stage=1) for factor in FACTORS))
SEQUENCES = 2  # the first of DAVIS: a propagation for each variant


class CachedVideo(NamedTuple):
    """A video of which only the features are needed any more, and its truth."""

    features: Sequence[Tensor]  # (D, h, w) a frame, on any device
    input_size: tuple[int, int]  # (H, W) at which the frames were encoded
    truth: np.ndarray  # ids at the native size, (T, H, W), of which frame 0 shows 1 to num_objects
    num_objects: int


@torch.inference_mode()
def cached_videos(
    sequences: Sequence[MaskSequence], feature_fn: Callable[[Tensor], Tensor], patch_size: int, protocol: Protocol,
    max_frames: int | None = None, device: str = "cpu",
) -> list[CachedVideo]:  # fmt: skip
    """Arguments as in FrameFeatures. A sequence of DAVIS takes about 160 MB with ViT-S/16, 660 MB with ViT-S/8."""
    videos = []
    for s in sequences:
        features = FrameFeatures(s.iter_frames(max_frames), feature_fn, patch_size, protocol, device)
        videos.append(CachedVideo(list(features), features.input_size, s.masks(max_frames), s.num_objects))
    return videos


def one_at_a_time(base: Protocol) -> list[tuple[str, object, Protocol]]:
    """(factor, value, the base with that changed), numbers in rising order; each factor has the base's value, too."""
    variants = []
    for factor, values in FACTORS.items():
        given = getattr(base, factor)
        values = dict.fromkeys([*values, given])
        for value in values if isinstance(given, str) else sorted(values):
            variants.append((factor, value, replace(base, **{factor: value})))
    return variants


def study(videos: Sequence[CachedVideo], base: Protocol, workers: int = 1) -> Iterator[dict[str, object]]:
    """Every variant's `factor`, `value`, `is_base` and scores, as soon as they are known. workers: threads."""
    variants = one_at_a_time(base)
    protocols = [base, *(protocol for *_, protocol in variants if protocol != base)]  # the base is propagated once
    scores = in_threads(partial(jf_of_protocol, videos), protocols, workers)
    at_base = next(scores)
    for factor, value, protocol in variants:
        is_base = protocol == base
        yield {"factor": factor, "value": value, "is_base": is_base, **(at_base if is_base else next(scores))}


def jf_of_protocol(videos: Sequence[CachedVideo], protocol: Protocol) -> dict[str, float]:
    """`J_mean`, `F_mean`, `JF_mean` as DAVIS has them: fractions, means over objects, of masks at the native size."""
    objects = []
    for video in videos:
        first = video.truth[0]
        masks = masks_from_features(video.features, first.shape, video.input_size, first, protocol)
        truth, predicted = video.truth[metrics.SCORED], np.stack(list(masks))[metrics.SCORED]
        objects += metrics.object_statistics(*metrics.score_sequence(truth, predicted, video.num_objects))
    result = metrics.summary(objects)
    return {name: result[name] for name in ("J_mean", "F_mean", "JF_mean")}


def run(data: Path, out: Path, epochs: float | None, rows: Sequence[Row], **grid) -> pd.DataFrame | None:
    """The study on the toy world at `data`, of SiamMAE's last block; `grid`: seeds and minutes of run_grid."""
    settings, rows = presets.get(presets.SIAMMAE, "toy", epochs=epochs), [BASE, *(row for row in rows if row != BASE)]
    davis = DavisDataset(dataset_root(data, ["davis2017"]))
    measure = partial(measure_row, settings, training_clips(data), davis, out)
    return run_grid(rows, measure=measure, out=out, about=f"{data.name} {settings}", **grid)


def measure_row(
    settings: FramePairs, clips: list[Clip], davis: DavisDataset, out: Path, row: Row, seed: int, folder: Path
) -> list[dict]:
    """J and F, in percent, of a factor's variants, in rows such as "top_k 5"; or of the base protocol, and train."""
    if row == BASE:
        pretrain(SiamMAE, settings, clips, seed, folder, out / "frames")
    encoder = load_encoder(run_folder(out, BASE.name, seed) / "last.pt")
    base = get_protocol(settings.protocol, "davis", input_size=settings.eval_size)
    videos = cached_videos(davis.sequences[:SEQUENCES], encoder.features, encoder.patch_size, base)
    protocols = {
        f"{factor} {value}": protocol
        for factor, value, protocol in one_at_a_time(base)
        if factor == row.name and protocol != base
    }
    table = []
    for name, protocol in (protocols or {BASE.name: base}).items():
        table += records({metric: 100 * value for metric, value in jf_of_protocol(videos, protocol).items()}, row=name)
    return table
