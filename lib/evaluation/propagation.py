"""Label propagation: the first frame's labels, carried through a video by the similarity of frozen features.

Videowalk (Jabri et al. 2020) introduced the procedure; DINO (Caron et al. 2021), SiamMAE (Gupta et al.
2023), CropMAE and RSP vary it. One engine serves all; a `Protocol` states every choice. For each frame:
context = frame 0 and the last `queue` frames with their *predicted, soft* labels; score = cosine of two
cells' features; cells outside the neighbourhood are forbidden; the `top_k` best cells over the whole
context, weighted by softmax(score / temperature), average their labels into the new one.

Shape letters: `D` feature width, `h w` feature grid (cells), `K` label channels.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.protocols import Protocol

SCORES_AT_ONCE = 2_000_000  # bounds the memory of one block of similarities (float32: 8 MB)


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
