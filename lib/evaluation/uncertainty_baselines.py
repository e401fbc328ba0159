"""Guesses of the uncertainty without a model: what a learned estimate, as a constant, must beat.

They know the mask and the visible pixels alone. Each returns what takes the place of a standard deviation, in its own
units: rank with it as it is, and fit a scale (`calibration.fit_scale`) before looking at calibration, on variances
`baseline**2 + floor`, for a baseline may be 0. Shapes: `B` batch, `h w` patch grid, `N` = h*w patches, `P` their side.
"""

import torch
from torch import Tensor

from lib.errors import UserError


def distance_to_visible(hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """Euclidean distance on the grid to the nearest visible patch: bool (B, N) -> float32 (B, N), in patches."""
    distances = _distances(hidden, grid)
    return torch.stack([distances[:, ~row].amin(dim=1) for row in hidden])


def visible_neighbour_deviation(patches: Tensor, hidden: Tensor, grid: tuple[int, int], neighbours: int) -> Tensor:
    """Spread of the pixels of the nearest visible patches: (B, N, P*P*3), bool (B, N) -> float32 (B, N).

    For each patch its `neighbours` nearest visible patches are taken (all that are no farther than the last of them, so
    that ties need no choice). The result is the root of the variance over all their pixels, a mean over channels, in
    the pixels' units. `patches` must not be normalised each by itself, which would leave the same variance in all.
    """
    if patches.ndim != 3 or patches.shape[:2] != hidden.shape or patches.shape[2] % 3 or neighbours < 1:
        given = f"patches {tuple(patches.shape)}, hidden {tuple(hidden.shape)}, {neighbours} neighbours"
        raise UserError(f"{given}; expected (B, N, P*P*3), (B, N), 1 or more")
    distances = _distances(hidden, grid)
    pixels = patches.double().cpu().unflatten(2, (-1, 3))
    rows = []
    for row, sample in zip(hidden, pixels, strict=True):
        visible = sample[~row.cpu()]  # (V visible, P*P, 3)
        away = distances[:, ~row].cpu()
        farthest = away.sort(dim=1).values[:, min(neighbours, len(visible)) - 1]
        near = (away <= farthest[:, None]).double()
        near /= near.sum(dim=1, keepdim=True)
        means = visible.mean(dim=1)
        centre = near @ means  # (N, 3)
        between = near[:, :, None] * (means - centre[:, None]).square()
        within = near @ visible.var(dim=1, correction=0)  # by the law of total variance; flat surfaces give 0
        rows.append((within + between.sum(dim=1)).mean(dim=1).sqrt())
    return torch.stack(rows).float().to(hidden.device)


def _distances(hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """Distances between all patches, float32 (N, N), once the mask is checked."""
    h, w = grid
    if hidden.dtype != torch.bool or hidden.ndim != 2 or hidden.shape[1] != h * w or not len(hidden):
        raise UserError(f"hidden is {hidden.dtype} {tuple(hidden.shape)}; expected bool (B, {h * w}) for grid {grid}")
    if hidden.all(dim=1).any():
        raise UserError("a sample has no visible patch: lower mask_ratio")
    places = torch.cartesian_prod(torch.arange(h), torch.arange(w)).float().to(hidden.device)  # (N, 2)
    return (places[:, None] - places).square().sum(dim=-1).sqrt()
