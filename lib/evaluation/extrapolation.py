"""A future by what moved before: optical flow between two past frames, continued in straight lines.

Shapes: `H W` pixels, `G` futures.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from skimage.registration import optical_flow_tvl1
from torch import Tensor


def optical_flow(past: Tensor, earlier: Tensor) -> Tensor:
    """Where each pixel of `past`, uint8 (3, H, W), lies in `earlier`, less where it is: float32 (2, H, W), rows first.

    TV-L1 (Zach et al. 2007), from scikit-image, on grey pictures.
    """
    grey = [frame.float().mean(dim=0).numpy() / 255 for frame in (past, earlier)]
    return torch.from_numpy(np.asarray(optical_flow_tvl1(*grey), dtype=np.float32))


def extrapolate(frame: Tensor, flow: Tensor, steps: Sequence[float]) -> Tensor:
    """A frame (3, H, W) as it is `steps` times the flow's span later: (G, 3, H, W).

    What comes to a place is taken to move as what lies there now, and edges are continued.
    """
    height, width = frame.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows]) + torch.tensor(steps).view(-1, 1, 1, 1) * flow.flip(0)  # (G, 2, H, W)
    size = torch.tensor([width, height]).view(2, 1, 1)
    grid = ((2 * places + 1) / size - 1).permute(0, 2, 3, 1)  # -1..1 from edge to edge
    frames = frame.expand(len(steps), -1, -1, -1)
    return F.grid_sample(frames, grid.to(frame.dtype), padding_mode="border", align_corners=False)
