"""The loss of predicted frames: structural dissimilarity, absolute and squared error, averaged over frames.

SSIM (Wang et al. 2004) is torchmetrics': Gaussian window of 11 pixels, deviation 1.5, values in 0..1. It is a product
of a term of brightness and one of contrast. Below black both change sign, and at edges the product does not: a negative
of what is to be seen costs less there than nothing at all, and networks find it. Clipped to 0..1 first, it costs more.
Shapes: `B` clips, `P` frames, `H W` pixels, 11 or more.
"""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from lib.errors import UserError

Weights = tuple[float, float, float]


def check_weights(weights: Weights) -> Weights:
    """The weights of `frame_loss`, which must sum to one: their ratio then changes no learning rate (the report)."""
    if abs(sum(weights) - 1) > 1e-6:
        raise UserError(f"the loss's weights {weights} sum to {sum(weights):g}: they must sum to 1")
    return weights


def frame_loss(
    predicted: Tensor, truth: Tensor, weights: Weights, clipped: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Weighted sum of 1 - SSIM, L1 and L2 of frames float (B, P, 3, H, W), values in 0..1; and its parts.

    clipped: for SSIM alone, see above; False as the report's code has it.
    """
    one, other = predicted.float().flatten(0, 1), truth.float().flatten(0, 1)
    with torch.autocast(one.device.type, enabled=False):  # variances as differences of squares need all digits
        similarity = structural_similarity_index_measure(one, other, data_range=(0.0, 1.0) if clipped else 1.0)
    parts = {"dssim": 1 - similarity, "l1": (one - other).abs().mean(), "l2": (one - other).square().mean()}
    loss = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
    return loss, {name: part.detach() for name, part in parts.items()}
