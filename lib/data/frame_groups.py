"""Several past and several future frames of one clip, under one crop and one flip.

Shapes: `R` groups drawn from one clip, `P` past, `F` future frames, `S` side of the crop.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lib.data.clips import FramePairs, crop_frames, draw_crop, frames_at, read_clip
from lib.data.video import PAPER_FPS, VideoInfo
from lib.errors import UserError
from lib.runtime import digest

REDRAWN = 1000  # a group with no place in a video whose frames come unsteadily is drawn anew


class FrameGroups(FramePairs):
    """dataset[i] is {"pasts": uint8 (R, P, 3, S, S), "age": float32 (R, P), "futures": (R, F, 3, S, S), "gap": (R, F)}.

    age: how long before the last past frame; gap: how long after it, both in frames at 30 fps and in the order of time.
    The F gaps are drawn as different numbers of gap[0]..gap[1], the P - 1 ages as those of `age_range`, all alike
    likely; in a clip of a lower rate two may fall on one frame. All else, and the other arguments, as in FramePairs,
    but for `augment`. UserError where a clip is too short, or a range holds too few numbers.
    """

    def __init__(
        self, clips: Sequence, *, pasts: int = 1, futures: int = 1, age_range: tuple[int, int] = (4, 24), **pairs
    ) -> None:  # fmt: skip
        super().__init__(clips, **pairs)
        self.pasts, self.futures, self.age_range = pasts, futures, age_range
        if self.augment or self.still or self.crop_tries > 1:
            raise UserError("groups of frames are cropped and flipped alone: leave rotation and the like off")
        for clip in self.clips:
            farthest = [-age_range[1] * (pasts > 1), self.gap[1]]
            if not len(frames_at(clip.info, farthest)):
                seconds = f"min_seconds={(farthest[1] - farthest[0]) / PAPER_FPS + 1 / clip.info.fps:.3f}"
                raise UserError(f"{clip.path}: spans less than largest gap and age; scan with {seconds}")
        for number, (low, high), what in ((futures, self.gap, "gaps"), (pasts - 1, age_range, "ages")):
            if number > high - low + 1:
                raise UserError(f"{number} different {what} do not lie in {low}..{high}: widen the range")

    @property
    def identity(self) -> str:
        """As FramePairs'."""
        return digest(super().identity, self.pasts, self.futures, self.age_range)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        clip = self.clips[index % len(self.clips)]
        info, rng = clip.info, np.random.default_rng([self.seed, index])
        times = [self._times(clip.path, info, rng) for _ in range(self.repeated_sampling)]
        frames = read_clip(clip, [frame for group in times for frame in group], self.frame_size, self.frame_cache)
        number, groups = self.pasts + self.futures, []
        for k in range(self.repeated_sampling):
            box, mirror = draw_crop(*frames.shape[1:3], rng, self.crop_scale), rng.random() < 0.5
            views = crop_frames(frames[k * number : (k + 1) * number], box, self.image_size)
            groups.append(views.flip(-1) if mirror and self.flip else views)
        pasts, futures = torch.stack(groups).split([self.pasts, self.futures], dim=1)
        since = torch.tensor([[info.between(group[self.pasts - 1], frame) for frame in group] for group in times])
        age, gap = (since * PAPER_FPS).float().split([self.pasts, self.futures], dim=1)
        return {"pasts": pasts.contiguous(), "age": -age, "futures": futures.contiguous(), "gap": gap}

    def _times(self, path: Path, info: VideoInfo, rng: np.random.Generator) -> list[int]:
        """P + F frame numbers, rising."""
        (low, high), (youngest, oldest) = self.gap, self.age_range
        for _ in range(REDRAWN):
            gaps = low + rng.choice(high - low + 1, self.futures, replace=False)
            ages = youngest + rng.choice(oldest - youngest + 1, self.pasts - 1, replace=False)
            groups = frames_at(info, sorted([*-ages, 0, *gaps]))
            if len(groups):
                return groups[rng.integers(len(groups))].tolist()
        raise UserError(f"{path}: its frames come too unsteadily for {self.pasts + self.futures} of them; leave it out")
