"""Convolution that knows where it is (Azizi et al. 2018, "Location Dependency in Video Prediction")."""

import torch
from torch import Tensor, nn

from lib.errors import UserError


class LocationConv2d(nn.Conv2d):
    """A convolution plus a learned map: a constant, a part that grows to the right, and one that grows downwards.

    The three planes are summed and added to every output channel alike, 3 * h * w weights from 0; with per_channel each
    channel has planes of its own. UserError for inputs of another size than `size`, (h, w).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, size: tuple[int, int], per_channel=False):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.size = tuple(size)
        self.planes = nn.Parameter(torch.zeros(out_channels if per_channel else 1, 3, *size))
        down, right = (torch.linspace(-1, 1, side) for side in size)
        ramps = torch.stack([torch.ones(size), right.expand(size), down[:, None].expand(size)])
        self.register_buffer("ramps", ramps, persistent=False)  # (3, h, w)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D, h, w)."""
        if tuple(maps.shape[-2:]) != self.size:
            sizes = ["x".join(map(str, size)) for size in (maps.shape[-2:], self.size)]
            raise UserError(
                f"maps are {sizes[0]}, but their locations were learned on {sizes[1]}: use frames of that size"
            )
        return super().forward(maps) + (self.planes * self.ramps).sum(dim=1)
