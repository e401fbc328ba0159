"""Label propagation: the first frame's labels, carried through a video by the similarity of frozen features.

Videowalk (Jabri et al. 2020) introduced the procedure; others vary it, and a `Protocol` states every choice. For each
frame: context = frame 0 and the last `queue` frames with their *predicted, soft* labels; score = cosine of two cells'
features; cells outside the neighbourhood are forbidden; the `top_k` best cells over the whole context, weighted by
softmax(score / temperature), average their labels into the new one. Shapes: `D` feature width, `h w` feature grid
(cells), `K` label channels.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.protocols import Protocol

TILE = 5  # keys are compared by tiles of this many cells squared, in all slots, each with the queries it can reach
QUERIES_AT_ONCE = 512  # bounds the memory of the scores that look everywhere in frame 0


@torch.no_grad()
def propagate(
    features: Iterable[Tensor], first_labels: Tensor, protocol: Protocol, confidences: Iterable[Tensor] | None = None
) -> Iterator[Tensor]:
    """Soft labels of every frame, (K, h, w) float32 each; frame 0's are `first_labels` themselves.

    `features`: per frame (D, h, w), any float type, not yet normalised; consumed one at a time, just before the labels
    of that frame are yielded. `first_labels`: (K, h, w). `confidences`: per frame (h, w), above 0; a neighbour's weight
    is multiplied by its own, which does not change what the neighbours are.
    """
    grid = tuple(first_labels.shape[1:])
    memory, confidences = None, None if confidences is None else iter(confidences)
    for index, frame in enumerate(features):
        if tuple(frame.shape[1:]) != grid:
            raise UserError(f"frame {index} has grid {tuple(frame.shape[1:])}, the first labels have {grid}")
        cells = F.normalize(frame.float(), dim=0).permute(1, 2, 0).contiguous()
        confidence = torch.ones(grid) if confidences is None else next(confidences, torch.empty(0))
        if tuple(confidence.shape) != grid or not confidence.min() > 0 or not confidence.isfinite().all():
            raise UserError(f"frame {index}: confidences {tuple(confidence.shape)} must be {grid}, finite and above 0")
        log_confidence = confidence.to(cells).log().flatten()
        if memory is None:
            memory = _Memory(cells, first_labels.to(cells).permute(1, 2, 0), log_confidence, protocol)
            yield first_labels.to(cells)
        else:
            labels = memory.label(cells)
            memory.push(cells, labels, log_confidence)
            yield labels.T.unflatten(1, grid)


class _Memory:
    """The context: frame 0 and a ring of the last frames; their cells' features and labels.

    The ring is (h, w, S, D) with the S slots innermost: a tile of cells in all slots is one block of keys, which is
    compared with the queries around it and with no others. So the work follows the neighbourhood, and the matrix
    products stay large. Where frame 0 obeys the neighbourhood it is the ring's slot 0, never overwritten.

    A source is a row of `labels` and of `log_confidence`: first the cells of frame 0, then those of the ring, slot by
    slot within a cell.
    """

    def __init__(self, cells: Tensor, labels: Tensor, log_confidence: Tensor, protocol: Protocol):
        self.protocol, self.grid = protocol, cells.shape[:2]
        self.first = None if protocol.mask_first_frame else cells.flatten(0, 1)
        self.fixed = int(protocol.mask_first_frame)  # slots that hold frame 0 for good
        self.slots = self.fixed + protocol.queue
        self.filled = self.slots if protocol.padded_start else self.fixed
        self.pushed = 0
        self.features = cells[:, :, None].repeat(1, 1, self.slots, 1)
        first_labels = labels.flatten(0, 1)
        self.labels = torch.cat([first_labels, first_labels.repeat_interleave(self.slots, dim=0)])
        self.log_confidence = torch.cat([log_confidence, log_confidence.repeat_interleave(self.slots)])
        self.num_cells = len(first_labels)
        tops, lefts = (range(0, side, TILE) for side in self.grid)
        self.tiles = [self._tile(top, left) for top in tops for left in lefts]

    def push(self, cells: Tensor, labels: Tensor, log_confidence: Tensor) -> None:
        """Put a frame's features (h, w, D), labels (cells, K) and confidence (cells,) in the place of the oldest."""
        if self.protocol.queue:
            slot = self.fixed + self.pushed % self.protocol.queue
            self.features[:, :, slot] = cells
            self.labels[self.num_cells + slot :: self.slots] = labels
            self.log_confidence[self.num_cells + slot :: self.slots] = log_confidence
            self.pushed += 1
            self.filled = max(self.filled, min(self.fixed + self.pushed, self.slots))

    def label(self, cells: Tensor) -> Tensor:
        """Labels (cells, K) of a frame's normalised features (h, w, D)."""
        queries = cells.flatten(0, 1)
        best = queries.new_full((len(queries), self.protocol.top_k), -torch.inf)
        source = torch.zeros_like(best, dtype=torch.long)
        floor = self._floor(queries)
        for rows, scores, sources in self._candidates(queries):
            # few queries find anything better in a further block: only those are sorted anew
            better = (scores.amax(dim=1) > torch.maximum(best[rows, -1], floor[rows])).nonzero()[:, 0]
            rows, scores = rows[better], scores[better]
            scores, keys = scores.topk(min(self.protocol.top_k, scores.shape[1]), dim=1)
            scores, keys = torch.cat([best[rows], scores], dim=1), torch.cat([source[rows], sources[keys]], dim=1)
            best[rows], order = scores.topk(self.protocol.top_k, dim=1)
            source[rows] = keys.gather(1, order)
        weights = (best / self.protocol.temperature + self.log_confidence[source]).softmax(dim=1)
        return torch.einsum("nk,nkc->nc", weights, self.labels[source])

    def _floor(self, queries: Tensor) -> Tensor:
        """What the k-th best score of each query surely exceeds, (n,): the k-th best at its own place in the ring."""
        if self.filled < self.protocol.top_k:
            return queries.new_full((len(queries),), -torch.inf)
        here = torch.einsum("nd,nsd->ns", queries, self.features.flatten(0, 1)[:, : self.filled])
        return here.topk(self.protocol.top_k, dim=1).values[:, -1] - 1e-4  # far above any rounding of a cosine

    def _candidates(self, queries: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Blocks of the affinity: query rows (n,), their scores (n, m), and the sources (m,) of the m keys."""
        if self.first is not None:
            everywhere = torch.arange(self.num_cells, device=queries.device)
            for rows in everywhere.split(QUERIES_AT_ONCE):
                yield rows, queries[rows] @ self.first.T, everywhere
        if self.filled:
            for region, rows, far, sources in self.tiles:
                keys = self.features[region][:, :, : self.filled].flatten(0, 2)
                scores = queries[rows] @ keys.T
                partly = scores[len(rows) - len(far) :]
                partly.view(*far.shape[:2], self.filled).masked_fill_(far, -torch.inf)
                yield rows, scores, sources[:, : self.filled].flatten()

    def _tile(self, top: int, left: int) -> tuple[tuple[slice, slice], Tensor, Tensor, Tensor]:
        """A tile of c keys: its region, the queries that reach any of them (n,), the sources (c, S) of the keys.

        The queries that do not reach all of the keys come last; for them, which pairs are too far: (m, c, 1).
        """
        device, radius = self.labels.device, self.protocol.radius
        place = torch.arange(self.num_cells, device=device).view(self.grid)
        region = slice(top, top + TILE), slice(left, left + TILE)
        around = tuple(slice(max(0, part.start - radius), part.stop + radius) for part in region)
        down, right = (
            (torch.arange(side, device=device)[wide, None] - torch.arange(side, device=device)[part]).abs()
            for side, wide, part in zip(self.grid, around, region, strict=True)
        )
        down, right = down[:, None, :, None], right[None, :, None, :]
        if self.protocol.shape == "disc":
            near = down**2 + right**2 < radius**2
        else:
            near = torch.maximum(down, right) <= radius
        near = near.flatten(2).flatten(0, 1)
        whole = near.all(dim=1)
        partly = near.any(dim=1) & ~whole
        rows = place[around].flatten()
        slots = torch.arange(self.slots, device=device)
        sources = self.num_cells + place[region].flatten()[:, None] * self.slots + slots
        return region, torch.cat([rows[whole], rows[partly]]), ~near[partly, :, None], sources
