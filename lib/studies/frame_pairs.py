"""Pre-training on frame pairs: the very runs of notebooks 02 (MAE, on single frames) and 03 (SiamMAE)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from lib.checkpoints import Record
from lib.data import clips as data
from lib.data.augmentation import Augmentation
from lib.data.frame_groups import FrameGroups
from lib.data.kinetics import scan_videos, split_videos
from lib.data.video import Clip
from lib.models.mae import MAE
from lib.presets.frame_pairs import FramePairs
from lib.runtime import dataset_root
from lib.training import fit, make_loader


def training_clips(root: Path) -> list[Clip]:
    """The clips to train on of the Kinetics-400 in the folder `root`."""
    return scan_videos(split_videos(dataset_root(root, ["kinetics400"]))[0]).clips


def training_pairs(settings: FramePairs, clips: Sequence[Clip], seed: int, frames: Path) -> data.FramePairs:
    """The pairs that training draws; decoded frames are stored in the folder `frames`, if the settings want that."""
    cache = frames if settings.cache_frames else None
    given = {**settings.pair_arguments(), "augment": augmentation_of(settings)}
    return data.FramePairs(clips, **given, seed=seed, frame_cache=cache)


def augmentation_of(settings: FramePairs) -> Augmentation | None:
    """What is done to the pairs beside crop and flip, if anything."""
    arguments = settings.augmentation_arguments()
    return Augmentation(**arguments) if arguments else None


def split_pairs(
    root: Path, settings: FramePairs, seed: int, frames: Path
) -> tuple[data.FramePairs, data.FramePairs, str]:
    """Pairs to train on, and pairs of up to 64 clips that no training sees, one of each; what was found, in words."""
    train, held_out = split_videos(root)
    scan, held = scan_videos(train), scan_videos(held_out[:64]).clips
    given = {**settings.pair_arguments(), "repeated_sampling": 1, "augment": augmentation_of(settings)}
    unseen = data.FramePairs(held, **given, seed=seed + 1000)
    report = f"to train on: {scan.report()}; held out: {len(held_out)} videos, of which {len(held)} are looked at below"
    return training_pairs(settings, scan.clips, seed, frames), unseen, report


def pretrain(
    kind: type[nn.Module], settings: FramePairs, clips: Sequence[Clip], seed: int, folder: Path, frames: Path,
    futures: int | None = None, **arguments,
) -> tuple[nn.Module, list[Record]]:  # fmt: skip
    """Train a MAE, SiamMAE or relative of it in `folder`, or go on; the model and its loss curve.

    arguments: of the model, beside those that the settings have; `futures`: so many of each past, for SeveralFrames.
    """
    if futures is None:
        pairs = training_pairs(settings, clips, seed, frames)
    else:
        cache = frames if settings.cache_frames else None
        pairs = FrameGroups(clips, futures=futures, **settings.pair_arguments(), seed=seed, frame_cache=cache)
    collate = data.collate_images if kind is MAE else data.collate_pairs
    torch.manual_seed(seed)
    next(iter(make_loader(pairs, settings, seed, collate)))  # the notebooks look at a batch first: it draws a number
    model = kind(**settings.model_arguments() | arguments)
    return model, fit(model, pairs, settings, folder, seed, collate)
