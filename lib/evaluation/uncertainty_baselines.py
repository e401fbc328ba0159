"""Three guesses of the uncertainty without a model: what a learned estimate must beat.

They know the mask and the visible pixels alone. Each returns a quantity that takes the place of a standard deviation,
in its own units: rank with it as it is, and fit a scale (`calibration.fit_scale`) before asking for calibration, on
variances `baseline**2 + floor`, for a baseline may be 0.

Shapes: `B` batch, `N` = h * w patches, numbered row by row, `h w` patch grid, `P` patch side, `C` channels. `hidden` is
True where a patch is hidden.
"""

import torch
from torch import Tensor

from lib.errors import UserError


def constant_sigma(hidden: Tensor) -> Tensor:
    """Every patch alike: bool (B, N) -> ones, float32 (B, N). The least a calibrated spread must beat in NLL."""
    return torch.ones_like(hidden, dtype=torch.float32)


def distance_to_visible(hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """Euclidean distance on the grid to the nearest visible patch: bool (B, N) -> float32 (B, N), in patches.

    0 on visible patches, 1 or more elsewhere. Raises UserError when the grid does not fit, or a sample has nothing
    visible.
    """
    distances = _distances(hidden, grid)
    nearest = [distances[:, ~row].amin(dim=1) for row in hidden]
    return torch.stack(nearest)


def visible_neighbour_deviation(
    patches: Tensor, hidden: Tensor, grid: tuple[int, int], neighbours: int = 4, channels: int = 3
) -> Tensor:
    """Spread of the pixels of the nearest visible patches: (B, N, P*P*C), bool (B, N) -> float32 (B, N).

    For each patch its `neighbours` nearest visible patches are taken (all that are no farther than the last of them, so
    that ties need no choice; all there are when fewer). Within each channel the variance (divided by the number of
    values) over all their pixels is taken, so it counts texture and differences between patches; the result is the root
    of its mean over channels, in the pixels' units. Hidden pixels are not read. Of 196 patches 95 % hidden leave 9, so
    adjacent patches are rarely visible: nearest ones always are.

    `patches` as `tokens.patches.patchify` makes them, channel-last, not normalised each by itself: that would leave
    the same variance in all. Raises UserError as `distance_to_visible`, and for patches or numbers that do not fit.
    """
    if patches.ndim != 3 or patches.shape[:2] != hidden.shape or patches.shape[2] % channels or neighbours < 1:
        raise UserError(
            f"patches {tuple(patches.shape)}, hidden {tuple(hidden.shape)}, {channels} channels, {neighbours} "
            "neighbours; expected (B, N, P*P*C), (B, N), a divisor, 1 or more"
        )
    distances = _distances(hidden, grid)
    pixels = patches.double().cpu().unflatten(2, (-1, channels))
    rows = []
    for row, sample in zip(hidden, pixels, strict=True):
        visible = sample[~row.cpu()]  # (K, P*P, C)
        away = distances[:, ~row].cpu()
        farthest = away.sort(dim=1).values[:, min(neighbours, len(visible)) - 1]
        near = (away <= farthest[:, None]).double()
        near /= near.sum(dim=1, keepdim=True)
        means = visible.mean(dim=1)
        centre = near @ means  # (N, C)
        between = near[:, :, None] * (means - centre[:, None]).square()
        within = near @ visible.var(dim=1, correction=0)  # by the law of total variance; flat surfaces give 0
        rows.append((within + between.sum(dim=1)).mean(dim=1).sqrt())
    return torch.stack(rows).float().to(hidden.device)


def _distances(hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """Distances between all patches, float32 (N, N); checks the mask."""
    h, w = grid
    if hidden.dtype != torch.bool or hidden.ndim != 2 or hidden.shape[1] != h * w or not len(hidden):
        raise UserError(f"hidden is {hidden.dtype} {tuple(hidden.shape)}; expected bool (B, {h * w}) for grid {grid}")
    if hidden.all(dim=1).any():
        raise UserError("a sample has no visible patch: lower mask_ratio")
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([rows, columns], dim=-1).reshape(-1, 2).float().to(hidden.device)
    return (places[:, None] - places).square().sum(dim=-1).sqrt()
