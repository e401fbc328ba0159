"""Pre-training on frame pairs: the very runs of notebooks 02 (MAE, on single frames) and 03 (SiamMAE)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from lib.checkpoints import Record
from lib.data import clips as data
from lib.data.kinetics import Clip
from lib.models.mae import MAE
from lib.presets.frame_pairs import FramePairs
from lib.training import fit, make_loader


def training_pairs(settings: FramePairs, clips: Sequence[Clip], seed: int, frames: Path) -> data.FramePairs:
    """The pairs that training draws; decoded frames are stored in the folder `frames`, if the settings want that."""
    return data.FramePairs(
        clips, settings.image_size, settings.gap, settings.crop_scale, repeated_sampling=settings.repeated_sampling,
        seed=seed, frame_size=settings.frame_size, frame_cache=frames if settings.cache_frames else None,
    )  # fmt: skip


def pretrain(
    kind: type[nn.Module], settings: FramePairs, clips: Sequence[Clip], seed: int, folder: Path, frames: Path
) -> tuple[nn.Module, list[Record]]:
    """A trained MAE or SiamMAE and its loss curve; a finished run in `folder` is loaded, a stopped one goes on."""
    pairs = training_pairs(settings, clips, seed, frames)
    collate = data.collate_images if kind is MAE else data.collate_pairs
    torch.manual_seed(seed)
    next(iter(make_loader(pairs, settings, seed, collate)))  # the notebooks look at a batch first: it draws a number
    model = kind(**settings.model_arguments())
    return model, fit(model, pairs, settings, folder, seed, collate)
