"""Object and part masks, propagated: ids to soft labels on cells, and back to ids on pixels.

Shapes: `D` feature width, `h w` feature grid (cells), `H W` pixels, `K` classes: the ids that the first mask shows, in
ascending order (0, where it is among them, is the background).
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, tee

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.features import FrameFeatures
from lib.evaluation.propagation import propagate
from lib.evaluation.protocols import Protocol


def labels_to_cells(mask: np.ndarray, classes: np.ndarray, grid: tuple[int, int], protocol: Protocol) -> Tensor:
    """The first mask as soft labels: (H, W) ids -> (K, h, w) float32, one channel for each of the ids in `classes`.

    The one-hot maps are read at the cell centres, bilinearly or by the nearest id, or averaged over each cell.
    """
    if mask.ndim != 2 or not np.isin(mask, classes).all():
        raise UserError(f"first mask: {mask.shape}, ids to {mask.max()}; expected (H, W) with ids {classes.tolist()}")
    one_hot = torch.from_numpy(mask[None] == classes[:, None, None])[None].float()
    if protocol.label_resize == "bilinear":
        return F.interpolate(one_hot, grid, mode="bilinear", align_corners=False)[0]
    return F.interpolate(one_hot, grid, mode={"nearest": "nearest-exact", "area": "area"}[protocol.label_resize])[0]


def cells_to_classes(soft: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """Soft labels (K, h, w) -> the strongest channel's index (H, W) uint8: bilinear to `size`, stretched if asked."""
    maps = F.interpolate(soft[None], size, mode="bilinear", align_corners=False)[0]
    if protocol.channel_min_max:
        low, high = (bound(maps, dim=(1, 2), keepdim=True) for bound in (torch.amin, torch.amax))
        # a constant channel says the same everywhere and has no range to stretch
        maps = torch.where(high > low, (maps - low) / (high - low).clamp_min(1e-12), maps)
    best, classes = maps[0], torch.zeros(maps.shape[1:], dtype=torch.uint8, device=maps.device)
    for number, channel in enumerate(maps[1:], start=1):  # argmax, first of equals; torch's takes far longer
        classes.masked_fill_(channel > best, number)
        best = torch.maximum(best, channel)
    return classes


@torch.inference_mode()
def propagate_masks(
    frames: Iterable[np.ndarray], first_mask: np.ndarray, feature_fn: Callable[[Tensor], Tensor], patch_size: int,
    protocol: Protocol, device: torch.device | str = "cpu", keep_first: bool = True,
    confidence_fn: Callable[[Iterable[np.ndarray]], Iterable[Tensor]] | None = None,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Masks of a video from the mask of its first frame: (H, W) uint8 ids a frame, only such as `first_mask` shows.

    Arguments as in FrameFeatures. Frame 0's mask is yielded as given, or with `keep_first=False` as the cells hold it
    (so it counts in VIP's published scores). `confidence_fn`: frames to a confidence (h, w) for each, see `propagate`.
    """
    confidences = None
    if confidence_fn is not None:
        frames, again = tee(frames)
        confidences = confidence_fn(again)
    features = FrameFeatures(frames, feature_fn, patch_size, protocol, device)
    sizes = features.size, features.input_size
    yield from masks_from_features(features, *sizes, first_mask, protocol, keep_first, confidences)


@torch.inference_mode()
def masks_from_features(
    features: Iterable[Tensor], size: tuple[int, int], input_size: tuple[int, int], first_mask: np.ndarray,
    protocol: Protocol, keep_first: bool = True, confidences: Iterable[Tensor] | None = None,
) -> Iterator[np.ndarray]:  # fmt: skip
    """As `propagate_masks`, from the features (D, h, w) of frames of `size` (H, W), encoded at `input_size`."""
    if first_mask.shape != tuple(size):
        raise UserError(f"the first mask is {first_mask.shape}, the first frame {tuple(size)}; make them agree")
    if keep_first:
        yield first_mask.astype(np.uint8)
    features = iter(features)
    first = next(features, None)
    if first is None:
        raise UserError("no features, so no masks; give those of at least one frame")
    classes = np.unique(first_mask)
    labels = labels_to_cells(first_mask, classes, tuple(first.shape[1:]), protocol)
    for soft in islice(propagate(chain([first], features), labels, protocol, confidences), int(keep_first), None):
        # classes are decided at the input's size, and brought to the frame's by nearest neighbour
        indices = cells_to_classes(soft, input_size, protocol)[None, None].float()
        indices = F.interpolate(indices, size, mode="nearest-exact")[0, 0].long().cpu().numpy()
        yield classes[indices].astype(np.uint8)


def copy_first_mask(frames: Iterable[np.ndarray], first_mask: np.ndarray) -> Iterator[np.ndarray]:
    """A baseline that does not look: the first mask, (H, W) uint8, once per frame."""
    for _ in frames:
        yield first_mask.astype(np.uint8)
