"""Predictions and masks as pictures of patches, and predictions that need no model to hold them against.

Shapes: `B` batch, `C` channels, `H W` pixels, `P` patch side, `N` patches.
"""

import torch
from torch import Tensor

from lib.tokens.patches import grid_of, patch_statistics, patchify, target_patches, unpatchify


def model_free_predictions(past: Tensor, future: Tensor, patch_size: int, norm_pix: bool) -> dict[str, Tensor]:
    """Baselines for a painted future: predictions (B, N, P*P*3) in the loss's target space that need no model.

    past, future: normalised frames float (B, 3, H, W). "faded copy" scales what differs in the copy from the patch
    means by the one factor that fits these futures best, an oracle's. "true patch means alone" is what `norm_pix` tells
    every picture.
    """
    copied, truth = (target_patches(images, patch_size, norm_pix) for images in (past, future))
    means = torch.zeros_like(truth) if norm_pix else patch_statistics(truth)[0].expand_as(truth)
    factor = ((copied - means) * (truth - means)).sum() / (copied - means).square().sum()
    faded = means + factor * (copied - means)
    return {"copy of the past": copied, "faded copy": faded, "true patch means alone": means}


def paint_prediction(images: Tensor, prediction: Tensor, hidden: Tensor, patch_size: int, norm_pix: bool) -> Tensor:
    """A viewable reconstruction: predicted pixels where hidden, true pixels elsewhere.

    images float (B, C, H, W), prediction (B, N, P*P*C), hidden bool (B, N) -> (B, C, H, W). With `norm_pix` the mean
    and contrast of each patch are the truth's, which flatters every picture: say so beside it.
    """
    patches = patchify(images, patch_size)
    if norm_pix:
        mean, std = patch_statistics(patches)
        prediction = prediction * std + mean
    painted = torch.where(hidden.unsqueeze(-1), prediction, patches)
    return unpatchify(painted, patch_size, grid_of(*images.shape[-2:], patch_size))


def paint_mask(images: Tensor, hidden: Tensor, patch_size: int) -> Tensor:
    """Normalised images (B, C, H, W) with their hidden patches, bool (B, N), at 0, ImageNet's mean -> same shape."""
    patches = patchify(images, patch_size).masked_fill(hidden.unsqueeze(-1), 0)
    return unpatchify(patches, patch_size, grid_of(*images.shape[-2:], patch_size))
