"""Label propagation: the first frame's labels, carried through a video by the similarity of frozen features.

Videowalk (Jabri et al. 2020) introduced the procedure; DINO (Caron et al. 2021), SiamMAE (Gupta et al.
2023), CropMAE and RSP vary it. One engine serves all; a `Protocol` states every choice. For each frame:
context = frame 0 and the last `queue` frames with their *predicted, soft* labels; score = cosine of two
cells' features; cells outside the neighbourhood are forbidden; the `top_k` best cells over the whole
context, weighted by softmax(score / temperature), average their labels into the new one.

Shape letters: `T` frames, `B` batch, `D` feature width, `h w` feature grid (cells), `H W` pixels, `K` label
channels (background first, then the objects), `P` patch side.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError, unknown
from lib.tokens.patches import normalize_images

SCORES_AT_ONCE = 2_000_000  # bounds the memory of one block of similarities (float32: 8 MB)


@dataclass(frozen=True)
class Protocol:
    """Every choice of a label propagation. Radii count feature cells, whatever the patch size.

    `shape`: a cell sees those at Euclidean distance < radius ("disc") or at |dx|, |dy| <= radius ("square").
    `mask_first_frame`: whether that also holds for frame 0. `padded_start`: the queue starts full of copies of
    frame 0; otherwise it starts empty and never holds frame 0. `label_resize`: the first mask goes to cells as
    one-hot, "bilinear" without antialiasing, or by "nearest" id. `channel_min_max`: stretch each upsampled
    channel to 0..1 before the arg max. `input_size`: (H, W) exactly; or the short side, the long one floored
    to a multiple of 64; or None: the native size, each side rounded to the nearest multiple of the patch.
    """

    top_k: int
    queue: int
    radius: int
    shape: str
    mask_first_frame: bool
    padded_start: bool
    temperature: float
    label_resize: str
    channel_min_max: bool
    input_size: tuple[int, int] | int | None

    def __post_init__(self):
        if self.shape not in ("disc", "square"):
            raise unknown("neighbourhood shape", self.shape, ("disc", "square"))
        if self.label_resize not in ("bilinear", "nearest"):
            raise unknown("label_resize", self.label_resize, ("bilinear", "nearest"))
        if self.top_k < 1 or self.queue < 0 or self.radius < 1 or not self.temperature > 0:
            raise UserError("a protocol needs top_k >= 1, queue >= 0, radius >= 1 (cells), temperature > 0")


_CRW = Protocol(
    top_k=10, queue=20, radius=12, shape="disc", mask_first_frame=False, padded_start=True, temperature=0.05,
    label_resize="bilinear", channel_min_max=False, input_size=None,
)  # fmt: skip
_CROPMAE = replace(_CRW, top_k=7, radius=20, temperature=0.7, input_size=(480, 880))
_DINO = Protocol(
    top_k=5, queue=7, radius=12, shape="square", mask_first_frame=True, padded_start=False, temperature=0.1,
    label_resize="nearest", channel_min_max=True, input_size=480,
)  # fmt: skip

# The DAVIS settings of each released evaluation. SiamMAE's Table 4b states top_k, queue and radius alone; the
# rest of "siammae-4b" is CropMAE's, an assumption to be stated with every number.
PROTOCOLS = {
    "crw": _CRW,
    "cropmae": _CROPMAE,
    "siammae-4b": replace(_CROPMAE, top_k=7, queue=20, radius=20),
    "dino": _DINO,
    "rsp": replace(_DINO, top_k=7, queue=30, radius=30),
}


def get_protocol(name: str, **overrides) -> Protocol:
    """The preset `name`, some fields replaced: `get_protocol("dino", input_size=(240, 432))`. UserError if wrong."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    for field in overrides:
        if field not in Protocol.__dataclass_fields__:
            raise unknown("protocol field", field, Protocol.__dataclass_fields__)
    return replace(PROTOCOLS[name], **overrides)


@torch.no_grad()
def propagate(features: Iterable[Tensor], first_labels: Tensor, protocol: Protocol) -> Iterator[Tensor]:
    """Soft labels of every frame, (K, h, w) float32 each; frame 0's are `first_labels` themselves.

    `features`: per frame (D, h, w), any float type, not yet normalised; consumed one at a time, just before
    the labels of that frame are yielded. `first_labels`: (K, h, w). Works on the device of the features.
    Keeps the features and labels of frame 0 and of at most `protocol.queue` other frames.
    Raises UserError if a frame's grid differs from the labels'.
    """
    grid = tuple(first_labels.shape[1:])
    memory = None
    for index, frame in enumerate(features):
        if tuple(frame.shape[1:]) != grid:
            raise UserError(f"frame {index} has grid {tuple(frame.shape[1:])}, the first labels have {grid}")
        cells = F.normalize(_to_cells(frame.float()), dim=1)
        if memory is None:
            memory = _Memory(cells, _to_cells(first_labels.to(cells)), protocol, *sorted(grid, reverse=True))
            yield first_labels.to(cells)
        else:
            labels = memory.label(cells)
            memory.push(cells, labels)
            yield _from_cells(labels, grid)


def _to_cells(frame: Tensor) -> Tensor:
    """(C, h, w) -> (cells, C), line by line across the longer side, so that bands of lines are contiguous."""
    lines_first = frame if frame.shape[1] >= frame.shape[2] else frame.transpose(1, 2)
    return lines_first.flatten(1).T.contiguous()


def _from_cells(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    lines_first = cells.T.reshape(-1, max(grid), min(grid))
    return lines_first if grid[0] >= grid[1] else lines_first.transpose(1, 2)


class _Memory:
    """Features (slots, cells, D), labels (slots, cells, K) of the context. Slot 0: frame 0; others: a ring.

    The grid is `lines` x `width` cells with lines >= width. Cells are compared by blocks of lines: only the
    band of lines within the radius is read, and a block has SCORES_AT_ONCE scores at most (or is one line).
    """

    def __init__(self, cells: Tensor, labels: Tensor, protocol: Protocol, lines: int, width: int):
        self.protocol, self.lines, self.width = protocol, lines, width
        self.pushed = 0
        self.filled = protocol.queue if protocol.padded_start else 0
        self.features = cells.repeat(protocol.queue + 1, 1, 1)
        self.labels = labels.repeat(protocol.queue + 1, 1, 1)
        band = min(lines, 2 * protocol.radius + 1) * width
        self.block = max(1, SCORES_AT_ONCE // (max(1, protocol.queue) * band * width))

    def push(self, cells: Tensor, labels: Tensor) -> None:
        """Put a frame in the place of the oldest of the queue."""
        if self.protocol.queue:
            slot = 1 + self.pushed % self.protocol.queue
            self.features[slot], self.labels[slot] = cells, labels
            self.pushed += 1
            self.filled = max(self.filled, min(self.pushed, self.protocol.queue))

    def label(self, cells: Tensor) -> Tensor:
        """Labels (cells, K) of a frame's normalised features (cells, D)."""
        starts = range(0, self.lines, self.block)
        return torch.cat([self._label_block(cells, s, min(s + self.block, self.lines)) for s in starts])

    def _label_block(self, cells: Tensor, start: int, stop: int) -> Tensor:
        queries = cells[start * self.width : stop * self.width]
        reach = self.protocol.radius - (self.protocol.shape == "disc")
        low, high = max(0, start - reach), min(self.lines, stop + reach)
        allowed = self._allowed(start, stop, low, high, cells.device)
        last = self.filled + 1
        if self.protocol.mask_first_frame:
            found = [self._best(queries, 0, last, low, high, allowed)]
        else:
            found = [self._best(queries, 0, 1, 0, self.lines, None)]
            if last > 1:
                found.append(self._best(queries, 1, last, low, high, allowed))
        scores, sources = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        scores, order = scores.topk(min(self.protocol.top_k, scores.shape[1]), dim=1)
        weights = (scores / self.protocol.temperature).softmax(dim=1)
        labels = self.labels.flatten(0, 1)[sources.gather(1, order)]
        return torch.einsum("nk,nkc->nc", weights, labels)

    def _allowed(self, start: int, stop: int, low: int, high: int, device: torch.device) -> Tensor:
        """Which cells of lines low..high neighbour which cells of lines start..stop: (n, c) bool."""
        line, column = (torch.arange(n, device=device) for n in (self.lines, self.width))
        along = (line[start:stop, None, None, None] - line[low:high, None]).abs()
        across = (column[:, None, None] - column).abs()
        if self.protocol.shape == "disc":
            near = along**2 + across**2 < self.protocol.radius**2
        else:
            near = torch.maximum(along, across) <= self.protocol.radius
        return near.flatten(2).flatten(0, 1)

    def _best(self, queries, first, last, low, high, allowed) -> tuple[Tensor, Tensor]:
        """Candidates of slots first..last, lines low..high: scores and flat (slot, cell) indices, (n, m).

        The k best of all slots lie in the k cells whose best score over the slots is highest, so the costly
        search runs over cells once, not over cells times slots. Exact; ties are broken arbitrarily.
        """
        context = self.features[first:last, low * self.width : high * self.width]
        scores = queries @ context.transpose(1, 2)  # (slots, n, c)
        best = scores.amax(dim=0)
        if allowed is not None:
            best = best.masked_fill(~allowed, -torch.inf)
        best, cell = best.topk(min(self.protocol.top_k, best.shape[1]), dim=1)
        scores = scores.gather(2, cell.expand(last - first, -1, -1))
        scores = scores.masked_fill(best == -torch.inf, -torch.inf)
        slot = torch.arange(first, last, device=cell.device)[:, None, None]
        sources = slot * (self.lines * self.width) + low * self.width + cell
        return tuple(part.permute(1, 0, 2).flatten(1) for part in (scores, sources))


def labels_to_cells(mask: np.ndarray, num_objects: int, grid: tuple[int, int], protocol: Protocol) -> Tensor:
    """The first mask as soft labels: (H, W) ids -> (K, h, w) float32, K = 1 + num_objects.

    Both ways read the native mask at the cell centres: the one-hot maps bilinearly, or the nearest id.
    Raises UserError if the mask is not (H, W) or holds an id above `num_objects`.
    """
    if mask.ndim != 2 or mask.max() > num_objects:
        raise UserError(f"first mask: {mask.shape}, ids to {mask.max()}; expected (H, W), ids 0..{num_objects}")
    ids = torch.from_numpy(np.ascontiguousarray(mask)).long()
    one_hot = F.one_hot(ids, num_objects + 1).permute(2, 0, 1)[None].float()
    if protocol.label_resize == "nearest":
        return F.interpolate(one_hot, grid, mode="nearest-exact")[0]
    return F.interpolate(one_hot, grid, mode="bilinear", align_corners=False)[0]


def cells_to_mask(soft: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """Soft labels (K, h, w) -> ids (H, W) uint8: bilinear to `size`, stretched if asked, arg max."""
    maps = F.interpolate(soft[None], size, mode="bilinear", align_corners=False)[0]
    if protocol.channel_min_max:
        low, high = (bound(maps, dim=(1, 2), keepdim=True) for bound in (torch.amin, torch.amax))
        # a constant channel says the same everywhere and has no range to stretch
        maps = torch.where(high > low, (maps - low) / (high - low).clamp_min(1e-12), maps)
    return maps.argmax(dim=0).to(torch.uint8)


def input_size(size: tuple[int, int], patch_size: int, protocol: Protocol) -> tuple[int, int]:
    """The (H, W) at which frames of `size` are encoded; UserError if that is no whole number of patches."""
    if protocol.input_size is None:
        return tuple(max(1, round(side / patch_size)) * patch_size for side in size)
    if isinstance(protocol.input_size, int):
        short = protocol.input_size
        scaled = [short if side == min(size) else short * side // min(size) // 64 * 64 for side in size]
    else:
        scaled = protocol.input_size
    if any(side <= 0 or side % patch_size for side in scaled):
        shown = "x".join(map(str, scaled))
        raise UserError(f"input size {shown} is no whole number of patches of {patch_size}; override input_size")
    return tuple(scaled)


@torch.inference_mode()
def propagate_masks(
    frames: Iterable[np.ndarray],
    first_mask: np.ndarray,
    feature_fn: Callable[[Tensor], Tensor],
    patch_size: int,
    protocol: Protocol,
    batch_size: int = 4,
    device: torch.device | str = "cpu",
) -> Iterator[np.ndarray]:
    """Object masks of a video from the mask of its first frame: (H, W) uint8 ids a frame, frame 0's as given.

    `frames`: (T, H, W, 3) uint8, or any iterable of (H, W, 3) uint8; read `batch_size` at a time.
    `first_mask`: (H, W) ids, 0 = background, as many objects as its largest id. `feature_fn` takes float32
    (B, 3, H, W) on `device`, resized bilinearly without antialiasing (as the reference evaluations do) and
    normalised by ImageNet's statistics, and returns (B, D, H / P, W / P); it runs in inference mode. Labels are
    upsampled to the input size, made ids there, and the ids brought to the frame's size by nearest neighbour.
    Raises UserError if sizes disagree or are no multiple of the patch.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError("a video without frames has no masks; give at least one frame")
    size = first.shape[:2]
    if first_mask.shape != size:
        raise UserError(f"the first mask is {first_mask.shape}, the first frame {size} (H, W); make them agree")
    resized = input_size(size, patch_size, protocol)
    grid = (resized[0] // patch_size, resized[1] // patch_size)
    labels = labels_to_cells(first_mask, int(first_mask.max()), grid, protocol)
    features = _features(chain([first], frames), resized, grid, feature_fn, batch_size, torch.device(device))
    yield first_mask.astype(np.uint8)
    for soft in islice(propagate(features, labels, protocol), 1, None):
        ids = cells_to_mask(soft, resized, protocol)[None, None].float()
        yield F.interpolate(ids, size, mode="nearest-exact")[0, 0].byte().cpu().numpy()


def _features(frames, size, grid, feature_fn, batch_size, device) -> Iterator[Tensor]:
    """Features of each frame, encoded in batches: (D, h, w)."""
    while batch := list(islice(frames, batch_size)):
        images = torch.from_numpy(np.stack(batch)).to(device).permute(0, 3, 1, 2).float() / 255
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        features = feature_fn(normalize_images(images))
        if features.ndim != 4 or tuple(features.shape[2:]) != grid:
            raise UserError(f"feature_fn returned {tuple(features.shape)}; expected (B, D, *{grid})")
        yield from features


def rgb_patch_features(patch_size: int) -> Callable[[Tensor], Tensor]:
    """A baseline's `feature_fn`: each cell's feature is its patch of pixels, (B, 3 * P * P, H / P, W / P)."""
    return lambda images: F.pixel_unshuffle(images, patch_size)


def copy_first_mask(frames: Iterable[np.ndarray], first_mask: np.ndarray) -> Iterator[np.ndarray]:
    """A baseline that does not look: the first mask, (H, W) uint8, once per frame."""
    for _ in frames:
        yield first_mask.astype(np.uint8)
