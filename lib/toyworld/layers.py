"""The toy world's studio as a data set: labelled videos, and for the val split what each pixel belongs to."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from lib.data.action_clips import ClipReader, TestingViews, even_crops, evenly
from lib.data.actions import ActionList, list_labelled
from lib.data.folders import read_lines
from lib.data.images import read_mask
from lib.errors import UserError
from lib.toyworld.studio import LAYERS


def list_studio(root: str | Path, split: str = "train") -> ActionList:
    """The studio's videos of split `train` or `val`, with labels from `classes.txt`."""
    classes = [line for _, line in read_lines(Path(root, "classes.txt"))]
    return list_labelled(Path(root, f"{split}.txt"), classes)


class LayerViews(Dataset):
    """The middle view of every video, and how much of each pixel every layer covers, through the same crop.

    dataset[i] is {"video": uint8 (3, T, S, S), "label": int64 (), "layers": float32 (3, T, S, S)}; the planes of
    `layers` are those of LAYERS and sum to one.
    """

    def __init__(self, actions: ActionList, reader: ClipReader, image_size: int) -> None:
        self.views = TestingViews(actions, reader, image_size, clips=1, crops=1)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        path, reader, side = self.views.actions.videos[index].path, self.views.reader, self.views.image_size
        start = evenly(reader.starts(path) - 1, 1)[0]
        folder = path.parents[1] / "layers" / path.stem
        times = start + reader.stride * np.arange(reader.num_frames)
        ids = np.stack([read_mask(folder / f"{t:05d}.png") for t in times])
        if ids.max() >= len(LAYERS):
            raise UserError(f"{folder}: holds a layer {ids.max()} of {len(LAYERS)}; make the toy world anew")
        top, left, height, width = even_crops(*ids.shape[1:], 1)[0]
        layers = F.one_hot(torch.from_numpy(ids[:, top : top + height, left : left + width]).long(), len(LAYERS))
        layers = F.interpolate(layers.permute(0, 3, 1, 2).float(), (side, side), mode="area")
        return self.views[index] | {"layers": layers.transpose(0, 1)}
