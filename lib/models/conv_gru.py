"""A convolutional gated recurrent unit (Siam et al. 2016, arXiv 1611.05435), one step at a time.

Shapes: `B` batch, `C` input, `D` state channels, `h w` places.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvGRU(nn.Module):
    """state = (1 - z) * state + z * tanh(candidate), gates and candidate by convolutions of [input, state]."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int):
        super().__init__()
        self.channels, both = channels, in_channels + channels
        self.gates = nn.Conv2d(both, 2 * channels, kernel_size, padding=kernel_size // 2)
        self.candidate = nn.Conv2d(both, channels, kernel_size, padding=kernel_size // 2)

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> Tensor:
        """inputs (B, C, h, w), state (B, D, h, w), zeros when None -> the next state."""
        if state is None:
            state = inputs.new_zeros(len(inputs), self.channels, *inputs.shape[-2:])
        reset, update = convolve(self.gates, torch.cat([inputs, state], dim=1)).sigmoid().chunk(2, dim=1)
        candidate = convolve(self.candidate, torch.cat([inputs, reset * state], dim=1)).tanh()
        return (1 - update) * state + update * candidate


def convolve(conv: nn.Conv2d, maps: Tensor) -> Tensor:
    """conv(maps), without the part of a large kernel that meets nothing but padding on small maps.

    On CPUs the bf16 gradient of that part is whatever lay in memory (oneDNN, as of PyTorch 2.14).
    """
    weight, (rows, columns) = conv.weight, maps.shape[-2:]
    down, right = (
        max(0, side // 2 - (room - 1)) for side, room in zip(weight.shape[-2:], (rows, columns), strict=True)
    )
    weight = weight[:, :, down : weight.shape[2] - down, right : weight.shape[3] - right]
    return F.conv2d(maps, weight, conv.bias, padding=(weight.shape[2] // 2, weight.shape[3] // 2))
