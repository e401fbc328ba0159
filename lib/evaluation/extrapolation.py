"""A future by what moved before: optical flow between two past frames, continued in straight lines.

Shapes: `H W` pixels, `G` futures.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from skimage.registration import optical_flow_tvl1
from torch import Tensor
from torchvision.models.optical_flow import Raft_Small_Weights, raft_small

from lib.libraries import with_download

RAFT_STEP, RAFT_LEAST = 8, 128  # its frames have whole steps of pixels, and at least so many


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


def raft_flow(past: Tensor, earlier: Tensor) -> Tensor:
    """As `optical_flow`, by RAFT (Teed and Deng 2020), small: torchvision's, whose weights (4 MB) it downloads once."""
    frames = torch.stack([past, earlier]).float() / 127.5 - 1
    size = [RAFT_STEP * max(RAFT_LEAST // RAFT_STEP, -(-side // RAFT_STEP)) for side in past.shape[1:]]
    larger = F.interpolate(frames, size=size, mode="bilinear", antialias=True)
    with torch.inference_mode():
        flow = _raft()(larger[:1], larger[1:])[-1]
    flow = F.interpolate(flow, size=past.shape[1:], mode="bilinear", antialias=True)[0]
    scale = [theirs / ours for ours, theirs in zip(size[::-1], past.shape[:0:-1], strict=True)]  # columns, rows
    return (flow * flow.new_tensor(scale).view(2, 1, 1)).flip(0).clone()


@cache
def _raft() -> torch.nn.Module:
    weights = Raft_Small_Weights.DEFAULT
    return with_download(lambda: raft_small(weights=weights, progress=False), "RAFT").eval()
