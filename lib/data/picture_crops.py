"""Labelled pictures to train on: random crops and flips, drawn for a whole batch at once, or the pictures as they are.

Shapes: `n` pictures, `B` of a batch, `S` side of what comes out, to which it is enlarged.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from lib.data.cifar import LabelledPictures
from lib.runtime import digest

ASPECT = (3 / 4, 4 / 3)  # of a crop, as in torchvision


class PictureCrops(Dataset):
    """Batches {"image": uint8 (B, 3, S, S), "label": int64 (B,)}, each picture cropped at random and flipped or not.

    A loader asks for a whole batch at once (torchvision crops picture by picture, or all alike); give it `collate`.
    An index may go on counting past the pictures: the same one again, drawn anew. What is drawn is a
    function of the seed and the batch's first index. crop_area: the part of the picture that a crop takes.
    """

    def __init__(
        self, pictures: LabelledPictures, image_size: int, crop_area: tuple[float, float], seed: int = 0
    ) -> None:
        self.images, self.labels = to_tensor(pictures.images), torch.from_numpy(pictures.labels)
        self.image_size, self.crop_area, self.seed = image_size, crop_area, seed
        content = (hashlib.sha256(part.numpy()).hexdigest() for part in (self.images, self.labels))
        self.identity = digest(*content, image_size, crop_area)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rng, chosen = np.random.default_rng([self.seed, indices[0]]), [index % len(self) for index in indices]
        boxes = random_boxes(rng, len(chosen), self.crop_area)
        image = crop(self.images[chosen], boxes, rng.random(len(chosen)) < 0.5, self.image_size)
        return {"image": image, "label": self.labels[chosen]}


def collate(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Nothing is left to do."""
    return batch


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (n, H, W, 3) -> uint8 (n, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def random_boxes(rng: np.random.Generator, number: int, area: tuple[float, float]) -> np.ndarray:
    """(number, 4) left, top, width, height in parts of the picture; what would stick out is made as wide as it."""
    areas, aspects = rng.uniform(*area, number), np.exp(rng.uniform(*np.log(ASPECT), number))
    sizes = np.minimum(np.sqrt(np.stack([areas * aspects, areas / aspects], axis=1)), 1)
    return np.concatenate([rng.random((number, 2)) * (1 - sizes), sizes], axis=1)


def crop(images: Tensor, boxes: np.ndarray, flips: np.ndarray, size: int) -> Tensor:
    """uint8 (B, 3, H, W) -> uint8 (B, 3, size, size): each picture's box, bilinear, mirrored where `flips` (B,) is set.

    The crops are enlarged or kept, as here always; for smaller ones they would alias.
    """
    left, top, width, height = torch.from_numpy(boxes).float().unbind(1)
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width * (1 - 2 * torch.from_numpy(flips).float()), 2 * left + width - 1
    theta[:, 1, 1], theta[:, 1, 2] = height, 2 * top + height - 1
    places = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    seen = F.grid_sample(images.float(), places, padding_mode="border", align_corners=False)
    return seen.round_().to(torch.uint8)


def enlarged(images: np.ndarray, size: int) -> Tensor:
    """Whole pictures uint8 (n, H, W, 3) as uint8 (n, 3, size, size), bilinear."""
    whole = np.tile([0.0, 0.0, 1.0, 1.0], (len(images), 1))
    return crop(to_tensor(images), whole, np.zeros(len(images), dtype=bool), size)
