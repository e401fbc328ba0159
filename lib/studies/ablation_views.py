"""What the ablations' maskings and augmentations do to a frame pair, as rows of pictures."""

from collections.abc import Sequence
from dataclasses import replace
from textwrap import fill

import torch
from torch import Tensor

from lib.data.clips import FramePairs as Pairs
from lib.data.video import Clip
from lib.presets.frame_pairs import FramePairs
from lib.studies.ablations import ROWS
from lib.studies.frame_pairs import augmentation_of
from lib.tokens.maskings import get_masking
from lib.tokens.painting import paint_mask
from lib.tokens.patches import normalize_images

SHOWN = (
    "default", "both up to 45°", "future up to 45°", "colour jitter 0.4, future alone", "gap 0, crop in crop",
    "crop 0.5 to 1",
)  # fmt: skip


def pair_rows(base: FramePairs, clips: Sequence[Clip], pairs: int, seed: int = 0) -> dict[str, list[Tensor]]:
    """For each row of SHOWN past and future of one pair from each of the first clips, side by side."""
    rows, views = {row.name: row for row in ROWS}, {}
    for name in SHOWN:
        settings, _ = rows[name].settings(replace(base, repeated_sampling=1))
        samples = Pairs(clips, **settings.pair_arguments(), augment=augmentation_of(settings), seed=seed)
        drawn = [samples[number] for number in range(pairs)]
        views[fill(name, 16)] = [sample[frame][0] for sample in drawn for frame in ("past", "future")]
    return views


def mask_rows(image: Tensor, patch_size: int, mask_ratio: float, masks: int) -> dict[str, list[Tensor]]:
    """Masks of a picture, uint8 (3, H, W), by each masking of single frames, several draws of each."""
    images, grid = (
        normalize_images(image).expand(masks, -1, -1, -1),
        tuple(side // patch_size for side in image.shape[1:]),
    )
    tokens, views = torch.empty(masks, grid[0] * grid[1], 0), {}
    for name in ("random", "grouped", "grid"):
        mask = get_masking(name, mask_ratio)(tokens, (1, *grid))
        views[f"{name}, {mask_ratio:g}"] = list(paint_mask(images, mask.hidden, patch_size))
    return views
