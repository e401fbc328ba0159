"""How much of a picture's detail a reconstruction has: power by frequency, and sharpness.

A blurred picture lacks power at high frequencies. Power alone does not tell detail from the seams of patches, so there
is also how much of the truth's waves is there, in phase. Shapes: `n` pictures, `C` channels, `S` side, `R` = S/2 rings.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError


class Spectra(NamedTuple):
    """Means over pictures and channels of the rings 1..R, in cycles a picture; float64 (R,)."""

    truth: Tensor  # power
    predicted: Tensor  # power
    shared: (
        Tensor  # real part of predicted times conjugate truth: as large as `truth` if these agree, about 0 by chance
    )


def radial_spectra(predicted: Tensor, truth: Tensor) -> Spectra:
    """Power spectra of two lots of square pictures, float (n, C, S, S), over rings of whole radius around 0.

    The corners beyond the last ring, and the mean, are left out. A horizontal wave of k cycles lies on ring k.
    """
    size = truth.shape[-1]
    if predicted.shape != truth.shape or truth.ndim != 4 or truth.shape[-2] != size:
        raise UserError(f"pictures are {tuple(predicted.shape)} and {tuple(truth.shape)}: both must be (n, C, S, S)")
    one, other = (torch.fft.fft2(images.double(), norm="ortho") for images in (predicted, truth))
    cycles = torch.fft.fftfreq(size, 1 / size, device=truth.device)
    ring = torch.hypot(cycles[:, None], cycles).round().long().flatten()  # of each frequency

    def by_ring(values: Tensor) -> Tensor:
        means = values.mean(dim=(0, 1)).flatten()
        sums = torch.zeros(int(ring.max()) + 1, dtype=means.dtype, device=means.device).scatter_add_(0, ring, means)
        return (sums / torch.bincount(ring))[1 : size // 2 + 1].cpu()

    return Spectra(by_ring(other.abs() ** 2), by_ring(one.abs() ** 2), by_ring((one * other.conj()).real))


def sharpness(images: Tensor) -> Tensor:
    """Variance of the Laplacian of each picture's grey, float (n, 3, H, W) -> (n,): the usual measure of focus."""
    grey = images.double().mean(dim=1, keepdim=True)
    kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(grey, kernel).var(dim=(1, 2, 3), correction=0)
