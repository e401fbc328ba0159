"""One level of the two-dimensional Haar transform of maps, its inverse, and the same regrouping without wavelets.

Haar turns each 2x2 cell a b / c d into its sum, its vertical, horizontal and diagonal difference, each halved. That is
orthogonal, and no place of a cell ever sees another cell. Shapes: `B` maps, `C` channels, `H W` places, both even.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError


def haar(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 4C, H/2, W/2): C channels each of the sub-bands LL, LH, HL, HH (PyWavelets' cA, cH, cV, cD).

    UserError for an odd side.
    """
    _check(maps)
    a, b = maps[..., ::2, ::2], maps[..., ::2, 1::2]
    c, d = maps[..., 1::2, ::2], maps[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], dim=1) / 2


def inverse_haar(bands: Tensor) -> Tensor:
    """(B, 4C, H/2, W/2) -> (B, C, H, W). Inverse of `haar`."""
    ll, lh, hl, hh = (band / 2 for band in _quarters(bands))
    rows = [
        torch.stack([ll + lh + hl + hh, ll + lh - hl - hh], dim=-1).flatten(-2),
        torch.stack([ll - lh + hl - hh, ll - lh - hl + hh], dim=-1).flatten(-2),
    ]
    return torch.stack(rows, dim=-2).flatten(-3, -2)


def regroup(maps: Tensor) -> Tensor:
    """`haar` without wavelets: the sub-bands are the cell's places themselves, a, b, c, d; else as there."""
    _check(maps)
    return torch.cat([maps[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], dim=1)


def inverse_regroup(bands: Tensor) -> Tensor:
    """Inverse of `regroup`."""
    return F.pixel_shuffle(torch.stack(_quarters(bands), dim=2).flatten(1, 2), 2)


TRANSFORMS = {"haar": (haar, inverse_haar), "regroup": (regroup, inverse_regroup)}  # and their inverses


def _check(maps: Tensor) -> None:
    height, width = maps.shape[-2:]
    if height % 2 or width % 2:
        raise UserError(f"a map of {height}x{width} does not divide into 2x2 cells: give it even sides")


def _quarters(bands: Tensor) -> tuple[Tensor, ...]:
    if bands.shape[1] % 4:
        raise UserError(f"{bands.shape[1]} channels are no 4 sub-bands: give what the transform returns")
    return bands.chunk(4, dim=1)
