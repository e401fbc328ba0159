"""How well features find a place again, measured on true optical flow: no labels, no propagation.

Each cell of the first frame is matched to the cell of the second with the most similar feature (cosine). Only cells
count whose centre is seen in both frames and whose true motion exceeds `moving_above` cells in x or y: most of a
picture stands still, and there "nothing moves" is right. Shapes: `D` feature width, `h w` feature grid (cells), `H W`
pixels, `N` = h * w cells, `n` cells that count. Displacements and flow are (x, y), from the first frame to the second.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError

SCORES_AT_ONCE = 1_000_000  # bounds the memory of one block of pairs of cells (int64: 8 MB)


def flow_at_cells(flow: Tensor, visible: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """True flow of the surface at each cell's centre: (H, W, 2) pixels, bool (H, W) -> float32 (h, w, 2), bool (h, w).

    A centre between pixels takes the lower or right one: a mean would mix the flow of surfaces that part.
    """
    if flow.ndim != 3 or flow.shape[2] != 2 or visible.shape != flow.shape[:2]:
        raise UserError(f"flow is {tuple(flow.shape)}, visible {tuple(visible.shape)}; expected (H, W, 2) and (H, W)")
    if any(cells > pixels for cells, pixels in zip(grid, visible.shape, strict=True)):
        raise UserError(f"{grid} cells on {tuple(visible.shape)} pixels of flow; a cell must be a pixel or more")
    rows, columns = (
        ((2 * torch.arange(cells, device=flow.device) + 1) * pixels) // (2 * cells)
        for cells, pixels in zip(grid, visible.shape, strict=True)
    )
    return flow[rows][:, columns].float(), visible[rows][:, columns]


def best_matches(first: Tensor, second: Tensor) -> Tensor:
    """Displacement in cells of each cell to the most similar of `second`: (D, h, w) twice -> long (h, w, 2).

    Of equals the nearest is taken, so that a surface without features stands still.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise UserError(f"features are {tuple(first.shape)} and {tuple(second.shape)}; expected one shape (D, h, w)")
    if not (first.isfinite().all() and second.isfinite().all()):
        raise UserError("features hold NaN or infinity; nothing is similar to that")
    queries, keys = (F.normalize(frame.float().flatten(1).T, dim=1) for frame in (first, second))
    return _best(lambda cells: queries[cells] @ keys.T, tuple(first.shape[1:]), first.device)


def random_matches(grid: tuple[int, int], seed: int = 0) -> Tensor:
    """A baseline: displacement of each cell to one drawn evenly from all, long (h, w, 2), in cells."""
    generator = torch.Generator().manual_seed(seed)
    number = grid[0] * grid[1]
    return _best(lambda cells: torch.rand(len(cells), number, generator=generator), grid, "cpu")


def _best(score: Callable[[Tensor], Tensor], grid: tuple[int, int], device: torch.device | str) -> Tensor:
    """The best cell for each by `score` (n cells -> (n, N)) as a displacement; the nearest of equals."""
    places = torch.cartesian_prod(*(torch.arange(side, device=device) for side in grid)).flip(1)  # (N, 2) as (x, y)
    matches = []
    for cells in torch.arange(len(places), device=device).split(max(1, SCORES_AT_ONCE // len(places))):
        similarity = score(cells)
        distance = sum((side[cells][:, None] - side).square() for side in places.T)
        best = similarity == similarity.amax(dim=1, keepdim=True)
        matches.append(distance.masked_fill(~best, distance.max() + 1).argmin(dim=1))
    return (places[torch.cat(matches)] - places).reshape(*grid, 2)


def _cell_size(visible: Tensor, grid: tuple[int, int]) -> Tensor:
    """Width and height of a cell in pixels, (2,)."""
    return torch.tensor([visible.shape[1] / grid[1], visible.shape[0] / grid[0]], device=visible.device)


def cell_errors(displacement: Tensor, flow: Tensor, visible: Tensor, moving_above: float) -> tuple[Tensor, Tensor]:
    """End-point error, float32 (n,) pixels, of a displacement (h, w, 2) of cells; and bool (n,), within one cell.

    The Euclidean distance of matched and true place (Baker et al. 2011); and whether they differ by at most a cell's
    width in x and its height in y. `flow`: (H, W, 2) pixels, `visible`: bool (H, W).
    """
    grid = tuple(displacement.shape[:2])
    true, seen = flow_at_cells(flow, visible, grid)
    cell = _cell_size(visible, grid)
    counted = seen & (true.abs() > moving_above * cell).any(-1)
    miss = (displacement.to(true) * cell - true)[counted]
    return miss.norm(dim=-1), (miss.abs() <= cell).all(-1)


def correspondence(
    pairs: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]], moving_above: float = 1.0, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Scores of matching, all cells of all pairs pooled, next to what does not look at the features.

    `pairs`: features of both frames (D, h, w), flow (H, W, 2) and visible (H, W). `seed`: of the random matches.
    "nearest cell" is the best that a choice of cells can do. `moving_end_point_error` is in pixels,
    `moving_within_one_cell` a fraction; without a cell both are NaN.
    """
    errors: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for index, (first, second, flow, visible) in enumerate(pairs):
        grid = tuple(first.shape[1:])
        matches = best_matches(first, second)
        true, _ = flow_at_cells(flow, visible, grid)
        ways = {
            "features": matches,
            "nothing moves": torch.zeros_like(matches),
            "random match": random_matches(grid, seed + index),
            "nearest cell": (true / _cell_size(visible, grid)).round(),
        }
        for name, displacement in ways.items():
            errors.setdefault(name, []).append(cell_errors(displacement, flow, visible, moving_above))
    if not errors:
        raise UserError("no pair of frames to match; give at least one")
    scores = {}
    for name, parts in errors.items():
        error, within = (torch.cat(side) for side in zip(*parts, strict=True))
        scores[name] = {
            "moving_cells": len(error),
            "moving_end_point_error": error.mean().item(),
            "moving_within_one_cell": within.float().mean().item(),
        }
    return scores
