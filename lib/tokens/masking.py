"""Which patches a model sees. Masking is index arithmetic: keep, hide, put back in order.

Follows MAE (arXiv 2111.06377, section 3, "simple implementation").

Shapes: `B` batch, `N` patches, `K` kept (visible) patches, `D` token width. In a mask, True means hidden.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lib.errors import UserError


class Mask(NamedTuple):
    """A choice of visible patches for each sample.

    keep: int64 (B, K), the visible patches in the order in which the encoder sees them.
    restore: int64 (B, N), where each patch stands in [visible, hidden] order.
    hidden: bool (B, N), True where the patch is hidden.
    """

    keep: Tensor
    restore: Tensor
    hidden: Tensor


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """Visible patches at `mask_ratio`: int(N * (1 - ratio)), truncated as in MAE: 196 at 0.95 leave 9.

    UserError when the ratio is outside (0, 1), or leaves nothing visible.
    """
    if not 0 < mask_ratio < 1:
        raise UserError(f"mask_ratio {mask_ratio} is outside (0, 1): use for example 0.95 for SiamMAE, 0.75 for MAE")
    visible = int(num_patches * (1 - mask_ratio) + 1e-9)  # 20 * (1 - 0.95) is 0.99999... in floats
    if visible == 0:
        raise UserError(f"mask_ratio {mask_ratio} hides all {num_patches} patches: lower it or use smaller patches")
    return visible


def mask_from_noise(noise: Tensor, visible: int) -> Mask:
    """Keep the `visible` patches with the smallest noise: (B, N) -> Mask. The random part stays with the caller."""
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    return Mask(keep=order[:, :visible], restore=restore, hidden=restore >= visible)


def random_mask(batch: int, num_patches: int, mask_ratio: float, device: torch.device | str = "cpu") -> Mask:
    """A uniformly random mask, drawn for each sample apart, from PyTorch's global generator of `device`."""
    noise = torch.rand(batch, num_patches, device=device)
    return mask_from_noise(noise, num_visible(num_patches, mask_ratio))


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens by index for each sample: (B, N, D), int64 (B, K) -> (B, K, D)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def restore_order(visible_tokens: Tensor, mask_token: Tensor, restore: Tensor) -> Tensor:
    """Visible tokens (B, K, D) back at their places, the mask token (1, 1, D) everywhere else -> (B, N, D)."""
    batch, kept, _ = visible_tokens.shape
    fill = mask_token.to(visible_tokens.dtype).expand(batch, restore.shape[1] - kept, -1)
    return take(torch.cat([visible_tokens, fill], dim=1), restore)


def masked_mean(values: Tensor, hidden: Tensor) -> Tensor:
    """Mean of `values` (B, N) over the hidden patches of the whole batch -> scalar."""
    weight = hidden.to(values.dtype)
    return (values * weight).sum() / weight.sum()
