"""How well features find a place again, measured on true optical flow: no labels, no propagation.

Each cell of the first frame is matched to the cell of the second with the most similar feature (cosine). The match says
where the surface at the cell's centre went; true flow knows. Only cells whose centre is seen in both frames count.
Most of a picture stands still, and there "nothing moves" is right: look at the moving cells. Cells move if the true
motion exceeds half a cell in x or y, which is when the nearest cell is another one. (Above one cell, "nothing moves"
never is within one cell: ask for that, `moving_above=1`, when slow camera motion moves every cell a little.)

End-point error (Baker et al. 2011): the Euclidean distance in pixels of found and true place. A match within one cell:
they differ by at most one cell's width in x and one cell's height in y (Chebyshev). Even the best choice of a cell has
an error, of up to half a cell in each direction; the baseline "nearest cell" states it.

Shape letters: `D` feature width, `h w` feature grid (cells), `H W` pixels, `N` = h * w cells, `n` cells that count.
Displacements and flow are (x, y), from the first frame to the second.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError

SCORES_AT_ONCE = 1_000_000  # bounds the memory of one block of pairs of cells (int64: 8 MB)


class CellErrors(NamedTuple):
    """One way of matching, over the cells that count, of one pair of frames or many."""

    end_point_error: Tensor
    """(n,) float32, pixels."""
    within_one_cell: Tensor
    """(n,) bool."""
    moving: Tensor
    """(n,) bool: the true motion in x or y exceeds what counts as motion."""


def flow_at_cells(flow: Tensor, visible: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """True flow of the surface at each cell's centre: flow (h, w, 2) and visible (h, w) bool.

    `flow`: (H, W, 2) pixels, `visible`: (H, W) bool. A centre between pixels takes the lower or right one: a mean over
    neighbours would mix the flow of surfaces that part. Raises UserError if the shapes do not fit.
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


def best_matches(first: Tensor, second: Tensor, radius: float | None = None) -> Tensor:
    """Displacement of each cell of `first` to its most similar cell of `second` by cosine, (h, w, 2) long, in cells.

    `first`, `second`: (D, h, w), any float type, one device. `radius`: only cells at this Euclidean distance or less,
    in cells, are looked at; None looks everywhere. Of equals the nearest is taken, so that a surface without features
    stands still. Raises UserError if the shapes differ, a feature is not
    finite, or the radius is negative.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise UserError(f"features are {tuple(first.shape)} and {tuple(second.shape)}; expected one shape (D, h, w)")
    if not (first.isfinite().all() and second.isfinite().all()):
        raise UserError("features hold NaN or infinity; nothing is similar to that")
    queries, keys = (F.normalize(frame.float().flatten(1).T, dim=1) for frame in (first, second))
    return _choose(lambda cells: queries[cells] @ keys.T, tuple(first.shape[1:]), radius, first.device)


def random_matches(grid: tuple[int, int], radius: float | None = None, seed: int = 0) -> Tensor:
    """Displacement of each cell to one drawn evenly from all, or from those within `radius`: (h, w, 2) long, in cells.

    A baseline. Raises UserError if the radius is negative.
    """
    generator = torch.Generator().manual_seed(seed)
    number = grid[0] * grid[1]
    return _choose(lambda cells: torch.rand(len(cells), number, generator=generator), grid, radius, "cpu")


def _choose(
    score: Callable[[Tensor], Tensor], grid: tuple[int, int], radius: float | None, device: torch.device | str
) -> Tensor:
    """The best cell for each by `score` (n cells -> (n, N)) as a displacement; the nearest of equals."""
    if radius is not None and radius < 0:
        raise UserError(f"radius must be 0 cells or more, not {radius}")
    rows, columns = torch.meshgrid(*(torch.arange(side, device=device) for side in grid), indexing="ij")
    places = torch.stack([columns, rows], dim=-1).flatten(0, 1)  # (N, 2) as (x, y)
    found = []
    for cells in torch.arange(len(places), device=device).split(max(1, SCORES_AT_ONCE // len(places))):
        similarity = score(cells)
        distance = sum((side[cells][:, None] - side).square() for side in places.T)
        if radius is not None:
            similarity = similarity.masked_fill(distance > radius**2, -torch.inf)
        best = similarity == similarity.amax(dim=1, keepdim=True)
        found.append(distance.masked_fill(~best, distance.max() + 1).argmin(dim=1))
    return (places[torch.cat(found)] - places).reshape(*grid, 2)


def _cell_size(visible: Tensor, grid: tuple[int, int]) -> Tensor:
    """Width and height of a cell in pixels, (2,)."""
    return torch.tensor([visible.shape[1] / grid[1], visible.shape[0] / grid[0]], device=visible.device)


def cell_errors(displacement: Tensor, flow: Tensor, visible: Tensor, moving_above: float = 0.5) -> CellErrors:
    """What a displacement of cells misses of the truth, over the cells that are visible.

    `displacement`: (h, w, 2) in cells, `flow`: (H, W, 2) pixels, `visible`: (H, W) bool, `moving_above`: in cells.
    Raises UserError as `flow_at_cells` does.
    """
    grid = tuple(displacement.shape[:2])
    true, seen = flow_at_cells(flow, visible, grid)
    cell = _cell_size(visible, grid)
    true = true[seen]
    miss = displacement.to(true)[seen] * cell - true
    return CellErrors(miss.norm(dim=-1), (miss.abs() <= cell).all(-1), (true.abs() > moving_above * cell).any(-1))


def pooled(errors: Iterable[CellErrors]) -> CellErrors:
    """The cells of many pairs of frames, one after the other."""
    return CellErrors(*(torch.cat(parts) for parts in zip(*errors, strict=True)))


def scores(errors: CellErrors) -> dict[str, float]:
    """`cells`, `end_point_error` (mean, pixels), `end_point_error_median`, `within_one_cell` (share), over all cells;
    the same four with `moving_` before them, over those that move. Without a cell the last three are NaN."""
    result = {}
    for prefix, chosen in (("", torch.ones_like(errors.moving)), ("moving_", errors.moving)):
        error, within = errors.end_point_error[chosen], errors.within_one_cell[chosen]
        result[f"{prefix}cells"] = len(error)
        result[f"{prefix}end_point_error"] = error.mean().item()
        result[f"{prefix}end_point_error_median"] = _median(error)
        result[f"{prefix}within_one_cell"] = within.float().mean().item()
    return result


def _median(values: Tensor) -> float:
    """As NumPy's: the mean of the two in the middle; NaN of nothing. torch.quantile has a limit on how many."""
    return values.sort().values[(len(values) - 1) // 2 : len(values) // 2 + 1].mean().item()


def correspondence(
    pairs: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]],
    radius: float | None = None,
    moving_above: float = 0.5,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """`scores` of the features and of three baselines, each over the cells of all pairs.

    `pairs`: (first (D, h, w), second (D, h, w), flow (H, W, 2), visible (H, W)), all on one device; consumed one at a
    time. `radius`: as in `best_matches`; `moving_above`: cells; `seed`: of the random matches. Rows: "features";
    "nothing moves"; "random match"; and "nearest cell", the best that a choice of cells can do.
    Raises UserError if shapes do not fit, a feature is not finite, or there is no pair.
    """
    errors: dict[str, list[CellErrors]] = {}
    for index, (first, second, flow, visible) in enumerate(pairs):
        grid = tuple(first.shape[1:])
        found = best_matches(first, second, radius)
        true, _ = flow_at_cells(flow, visible, grid)
        ways = {
            "features": found,
            "nothing moves": torch.zeros_like(found),
            "random match": random_matches(grid, radius, seed + index),
            "nearest cell": (true / _cell_size(visible, grid)).round(),
        }
        for name, displacement in ways.items():
            errors.setdefault(name, []).append(cell_errors(displacement, flow, visible, moving_above))
    if not errors:
        raise UserError("no pair of frames to match; give at least one")
    return {name: scores(pooled(parts)) for name, parts in errors.items()}
