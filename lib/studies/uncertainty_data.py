"""The data of the uncertainty study: clips to train on, and others with the masks under which everything is predicted.

Those are new clips of the toy world, or real videos that no model was trained on.
Shapes: `C` clips, `I` pasts, `G` gaps, `N` patches.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from lib.data.futures import Futures, futures_of_videos
from lib.data.kinetics import list_kinetics, scan_videos, split_videos
from lib.data.video import Clip
from lib.errors import UserError
from lib.presets.frame_pairs import FramePairs
from lib.runtime import atomic_path, dataset_root, digest, fingerprint
from lib.tokens.masking import Mask, random_mask
from lib.toyworld.pairs import toy_futures

GAPS = tuple(range(4, 49, 4))
TEST_CLIPS, CALIBRATION_CLIPS = 48, 24  # of the toy world, rendered for this alone
REAL_DRAWS, PASTS = 6, 60  # pasts from each real clip where these are few, and in all where they are many


class Split(NamedTuple):
    """Held-out clips and the masks under which everything is predicted."""

    futures: Futures
    mask: Mask  # of I pasts; all gaps of a past have its mask

    def only(self, past: int) -> "Split":
        """The split of one past with its futures and mask."""
        one = slice(past, past + 1)
        futures = self.futures._replace(past=self.futures.past[one], future=self.futures.future[one], clips=1)
        if futures.earlier is not None:
            futures = futures._replace(earlier=futures.earlier[one])
        return Split(futures._replace(occluded=None, outside=None), Mask(*(part[one] for part in self.mask)))


@dataclass(frozen=True)
class Study:
    """The data of a study and its scale."""

    preset: FramePairs
    root: Path
    out: Path
    clips: list[Clip]  # to train on
    test: Split
    calibration: Split
    frames: Path  # where decoded frames are stored, if the preset wants that; runs of other kinds may use it, too

    @property
    def gaps(self) -> list[int]:
        """Numbers of the gaps that training draws from; all measures but the growth with the gap are for these."""
        return [number for number, frames in enumerate(self.test.futures.gaps) if frames <= self.preset.gap[1]]

    @property
    def steps(self) -> int:
        """Optimizer steps of a run on the preset's schedule."""
        return self.preset.steps(len(self.clips))


def prepare(
    data: str | Path, preset: FramePairs, out: Path, test: int = TEST_CLIPS, frames: Path | None = None,
    ages: tuple[int, ...] = (),
) -> Study:  # fmt: skip
    """The clips to train on and the held-out ones, cached in `out`: of the toy world `test` new clips, and half as many
    for calibration; of real videos those of a `val` split, or a part of all when there is none.

    frames: the folder of decoded frames; None: one in `out`. ages: of earlier frames of the held-out clips.
    """
    root = dataset_root(data, ["kinetics400"])
    shape = {"gaps": GAPS, "ages": ages, "image_size": preset.image_size, "crop_scale": preset.crop_scale}
    if (root.parent / "manifest.json").is_file():
        clips = scan_videos(list_kinetics(root, "train")).clips
        make = partial(toy_futures, **shape, patch_size=preset.patch_size)
        parts = test, max(2, test // 2)
    else:
        clips, *parts = held_out_videos(root)
        draws = min(REAL_DRAWS, max(1, PASTS // max(map(len, parts))))
        make = partial(futures_of_videos, **shape, frame_size=preset.frame_size, draws=draws)
    sizes = preset.image_size, preset.patch_size, preset.crop_scale, preset.frame_size
    splits = []
    for seed, (name, part) in enumerate(zip(("test", "calibration"), parts, strict=True), start=1):
        made_from = part if isinstance(part, int) else [fingerprint(clip.path, whole=True) for clip in part]
        cached = out / f"{name}-{digest(str(root.resolve()), made_from, GAPS, *sizes, *ages)}.pt"
        if not cached.is_file():
            with atomic_path(cached) as temporary:
                torch.save(make(part, seed=seed)._asdict(), temporary)
        splits.append(masked(Futures(**torch.load(cached, weights_only=True)), preset.patch_size, preset.mask_ratio))
    return Study(preset, root, out, clips, *splits, frames or out / "frames")


def masked(futures: Futures, patch_size: int, mask_ratio: float) -> Split:
    """The clips with random masks, always the same."""
    num_patches = (futures.past.shape[-1] // patch_size) ** 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Split(futures, random_mask(len(futures.past), num_patches, mask_ratio))


def held_out_videos(root: Path) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """Clips to train on, to test on, to calibrate on: the first of the val split, or of a quarter of all for each."""
    train, held = split_videos(root)
    if (root / "val").is_dir():
        parts = train, held[0::2], held[1::2]
    else:
        parts = [video for k, video in enumerate(train) if k % 3 != 2], held, train[2::3]
    train, test, calibration = parts
    parts = train, test[:TEST_CLIPS], calibration[:CALIBRATION_CLIPS]  # whatever the data set's size
    train, *held = (scan_videos(part).clips if part else [] for part in parts)
    if min(map(len, held)) < 2:
        raise UserError(f"{root}: fewer than 2 usable videos to test or calibrate on; give 4 in val/, or 8 in all")
    return train, *held
