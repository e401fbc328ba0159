"""How much a score hangs on the protocol: one factor is changed at a time, all others stay as in a base protocol.

Published codes of label propagation (videowalk, Jabri et al. 2020, and those after it) differ in every factor here.
Features do not depend on them, so each video is encoded once and propagated many times.

`python -m lib.studies sensitivity --data data/toy --out runs/sensitivity`

Shape letters: `T` frames, `D` feature width, `h w` feature grid (cells), `H W` pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import presets
from lib.data.davis import DavisDataset
from lib.data.kinetics import Clip, scan_videos, split_videos
from lib.errors import UserError, unknown
from lib.evaluation import metrics
from lib.evaluation.features import FrameFeatures
from lib.evaluation.masks import masks_from_features
from lib.evaluation.protocols import RESIZES, Protocol, get_protocol
from lib.models.pretrained import load_encoder
from lib.models.siammae import SiamMAE
from lib.presets.frame_pairs import FramePairs
from lib.runtime import dataset_root
from lib.studies.frame_pairs import pretrain
from lib.studies.grid import Row, run_folder, run_grid
from lib.studies.table import records

FACTORS: dict[str, tuple] = {
    "top_k": (1, 3, 5, 7, 10, 15, 20, 40),
    "queue": (0, 1, 2, 4, 7, 14, 20, 30),
    "radius": (1, 2, 4, 8, 12, 16, 20, 40),
    "shape": ("disc", "square"),
    "temperature": (0.01, 0.03, 0.05, 0.07, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0),
    "padded_start": (False, True),
    "mask_first_frame": (False, True),
    "label_resize": RESIZES,
    "channel_min_max": (False, True),
}
NOT_HERE = ("input_size", "joint_cells")  # the features' size is given; joints are another task
BASE = Row("base")  # the model is trained here
ROWS = (BASE, *(Row(factor, stage=1) for factor in FACTORS))
SEQUENCES = 2  # the first of DAVIS: a propagation for each variant


@dataclass(frozen=True)
class CachedVideo:
    """A video of which only the features are needed any more.

    `features`: (D, h, w) a frame, on any device; `size` (H, W) of the frames, `input_size` (H, W) at which they were
    encoded; `truth`: (T, H, W) ids, of which frame 0 shows 1..`num_objects`. Frames between the first and the last
    alone count.
    """

    features: Sequence[Tensor]
    size: tuple[int, int]
    input_size: tuple[int, int]
    truth: np.ndarray
    num_objects: int

    def __post_init__(self):
        if self.truth.shape != (len(self.features), *self.size):
            raise UserError(
                f"truth is {self.truth.shape} (T, H, W), but there are {len(self.features)} frames of {self.size}"
            )
        if len(self.truth) < 3 or self.num_objects < 1:
            raise UserError(
                f"{len(self.truth)} frames, {self.num_objects} objects: at least 3 frames and 1 object are needed"
            )


@dataclass(frozen=True)
class Variant:
    """The base protocol with one factor changed to `value`; `is_base` where that is no change."""

    factor: str
    value: object
    protocol: Protocol
    is_base: bool


@torch.inference_mode()
def cached_video(
    frames: Iterable[np.ndarray],
    truth: np.ndarray,
    num_objects: int,
    feature_fn: Callable[[Tensor], Tensor],
    patch_size: int,
    protocol: Protocol,
    device: torch.device | str = "cpu",
) -> CachedVideo:
    """The features of a video's frames at the protocol's input size, with its truth; arguments as in FrameFeatures.

    Holds T * D * h * w values on `device`; a sequence of DAVIS needs about 160 MB with ViT-S/16, 660 MB with ViT-S/8.
    """
    features = FrameFeatures(frames, feature_fn, patch_size, protocol, device)
    return CachedVideo(list(features), tuple(features.size), features.input_size, truth, num_objects)


def one_at_a_time(base: Protocol, factors: Mapping[str, Iterable] = FACTORS) -> list[Variant]:
    """All variants of the study, factor by factor, numbers in rising order; the base's value is added where missing.

    So each factor has exactly one variant that is the base.
    """
    variants = []
    for factor, values in factors.items():
        known = [name for name in Protocol.__dataclass_fields__ if name not in NOT_HERE]
        if factor not in known:
            raise unknown("factor", factor, known)
        given = getattr(base, factor)
        values = dict.fromkeys([*values, given])
        for value in values if isinstance(given, str) else sorted(values):
            variants.append(Variant(factor, value, replace(base, **{factor: value}), value == given))
    return variants


def study(
    videos: Sequence[CachedVideo],
    base: Protocol,
    factors: Mapping[str, Iterable] = FACTORS,
    each: Callable[[Callable, Iterable], Iterable] = map,
) -> Iterator[dict[str, object]]:
    """The scores of every variant, as soon as they are known: `factor`, `value`, `is_base`, and as `jf_of_protocol`.

    There are `len(one_at_a_time(base, factors))` rows; the base is propagated once and appears in each factor.
    `each(function, protocols)` calls the function on every protocol, in order: a `map`, perhaps one that uses threads.
    """
    variants = one_at_a_time(base, factors)
    protocols = [base, *(variant.protocol for variant in variants if not variant.is_base)]
    scores = iter(each(partial(jf_of_protocol, videos), protocols))
    at_base = next(scores)
    for variant in variants:
        own = at_base if variant.is_base else next(scores)
        yield {"factor": variant.factor, "value": variant.value, "is_base": variant.is_base, **own}


def jf_of_protocol(videos: Sequence[CachedVideo], protocol: Protocol) -> dict[str, float]:
    """`J_mean`, `F_mean`, `JF_mean` as DAVIS defines them: fractions, means over the objects of all videos.

    Equal to the scores of `propagate_masks` at the native size.
    """
    if not videos:
        raise UserError("no video to propagate; give at least one")
    objects = []
    for video in videos:
        masks = masks_from_features(video.features, video.size, video.input_size, video.truth[0], protocol)
        truth, predicted = video.truth[metrics.SCORED], np.stack(list(masks))[metrics.SCORED]
        objects += metrics.object_statistics(*metrics.score_sequence(truth, predicted, video.num_objects))
    result = metrics.summary(objects)
    return {name: result[name] for name in ("J_mean", "F_mean", "JF_mean")}


def run(data: Path, out: Path, epochs: float | None, rows: Sequence[Row], **grid) -> pd.DataFrame | None:
    """The study on the toy world at `data`, of SiamMAE's last block; `grid`: seeds and minutes of run_grid."""
    settings, rows = presets.get(presets.SIAMMAE, "toy", epochs=epochs), [BASE, *(row for row in rows if row != BASE)]
    clips = scan_videos(split_videos(dataset_root(data, ["kinetics400"]))[0]).clips
    davis = DavisDataset(dataset_root(data, ["davis2017"]))
    measure = partial(measure_row, settings, clips, davis, out)
    return run_grid(rows, measure=measure, out=out, about=f"{data.name} {settings}", **grid)


def measure_row(
    settings: FramePairs, clips: list[Clip], davis: DavisDataset, out: Path, row: Row, seed: int, folder: Path
) -> list[dict]:
    """J and F, in percent, of a factor's variants, in rows such as "top_k 5"; or of the base protocol, and train."""
    if row == BASE:
        pretrain(SiamMAE, settings, clips, seed, folder, out / "frames")
    encoder = load_encoder(run_folder(out, BASE.name, seed) / "last.pt")
    base = get_protocol(settings.protocol, "davis", input_size=settings.eval_size)
    videos = [
        cached_video(s.iter_frames(), s.masks(), s.num_objects, encoder.features, encoder.patch_size, base)
        for s in davis.sequences[:SEQUENCES]
    ]
    variants = one_at_a_time(base, {row.name: FACTORS[row.name]}) if row != BASE else []
    protocols = {f"{v.factor} {v.value}": v.protocol for v in variants if not v.is_base} or {BASE.name: base}
    table = []
    for name, protocol in protocols.items():
        table += records({metric: 100 * value for metric, value in jf_of_protocol(videos, protocol).items()}, row=name)
    return table
