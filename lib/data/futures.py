"""Held-out clips for measuring predictions: one past frame and several of its futures, further and further away.

All frames of a clip share one crop, so that only the gap differs between its pairs. Shapes: `C` clips (videos), `I`
pasts (the same number from each clip, in a row), `G` gaps in frames at 30 fps, `S` side of the crop, `N` patches.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.data.clips import crop_frames, draw_crop, frames_at
from lib.data.video import Clip, read_frames
from lib.errors import UserError
from lib.runtime import progress


class Futures(NamedTuple):
    """Pasts with their futures, and the truth where it is known."""

    past: Tensor  # uint8 (I, 3, S, S)
    future: Tensor  # uint8 (I, G, 3, S, S)
    gaps: tuple[int, ...]  # G, rising
    clips: int  # C: pasts I * k / C to I * (k + 1) / C are of clip k
    # float32 (I, G, N), parts of each patch's pixels: hidden in the past frame, though inside its crop; outside it
    occluded: Tensor | None = None
    outside: Tensor | None = None
    earlier: Tensor | None = None  # uint8 (I, A, 3, S, S): frames before the past, under its crop
    ages: tuple[int, ...] = ()  # A, rising: how long before, in frames at 30 fps


def futures_of_videos(
    clips: Sequence[Clip], gaps: Sequence[int], image_size: int, crop_scale: tuple[float, float],
    frame_size: int | None = None, draws: int = 1, seed: int = 0, ages: Sequence[int] = (),
) -> Futures:  # fmt: skip
    """`draws` pasts from each video, place and crop drawn as in training but not mirrored; no truth.

    A function of (seed, number of the clip, number of the draw).
    """
    gaps, ages = checked_gaps(gaps), checked_gaps(ages) if ages else ()
    pasts, futures, earlier = [], [], []
    for number, clip in enumerate(progress(clips, "held-out pairs")):
        places = frames_at(clip.info, [0, *gaps, *(-age for age in ages)])
        if not len(places):
            needed = gaps[-1] + max(ages, default=0)
            raise UserError(f"{clip.path}: spans less than {needed} frames at 30 fps; scan with a larger min_seconds")
        for draw in range(draws):
            rng = np.random.default_rng([seed, number, draw])
            frames = read_frames(clip.path, places[rng.integers(len(places))], frame_size, clip.info)
            views = crop_frames(frames, draw_crop(*frames.shape[1:3], rng, crop_scale), image_size)
            pasts.append(views[0])
            futures.append(views[1 : 1 + len(gaps)])
            earlier.append(views[1 + len(gaps) :])
    past, future, before = map(torch.stack, (pasts, futures, earlier))
    return Futures(past, future, gaps, len(clips), earlier=before, ages=ages)


def checked_gaps(gaps: Sequence[int]) -> tuple[int, ...]:
    """The gaps as a tuple; they must rise from 1 or more."""
    if not gaps or gaps[0] < 1 or any(after <= before for before, after in zip(gaps, gaps[1:], strict=False)):
        raise UserError(f"gaps {list(gaps)} must rise from 1 or more: for example 4, 8, 12")
    return tuple(gaps)
