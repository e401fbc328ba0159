"""Which tokens a model sees: masks, what draws them, and how tokens are dropped and put back (MAE, section 3).

Shapes: `B` batch, `N` tokens, `K` visible tokens, `D` width. Tokens lie on a grid (s, h, w), numbered time by time and
row by row; a single frame's grid is (1, h, w).
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lib.errors import UserError

Grid = tuple[int, int, int]


class Mask(NamedTuple):
    """A choice of visible tokens for each sample."""

    keep: Tensor  # int64 (B, K), the visible tokens in the order in which the encoder sees them
    restore: Tensor  # int64 (B, N), where each token stands in [visible, hidden] order
    hidden: Tensor  # bool (B, N), True where hidden


def num_visible(num_tokens: int, mask_ratio: float, what: str = "patches", remedy: str = "smaller patches") -> int:
    """int(N * (1 - ratio)), truncated as in MAE: 196 at 0.95 leave 9. `what` and `remedy` are words for the error."""
    if not 0 < mask_ratio < 1:
        raise UserError(f"mask_ratio {mask_ratio} is outside (0, 1): use for example 0.95 for SiamMAE, 0.75 for MAE")
    visible = int(num_tokens * (1 - mask_ratio) + 1e-9)  # 20 * (1 - 0.95) is 0.99999... in floats
    if visible == 0:
        raise UserError(f"mask_ratio {mask_ratio} hides all {num_tokens} {what}: lower it or use {remedy}")
    return visible


def mask_from_noise(noise: Tensor, visible: int) -> Mask:
    """The `visible` tokens with the smallest noise are seen: (B, N) -> Mask."""
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    return Mask(keep=order[:, :visible], restore=restore, hidden=restore >= visible)


def random_mask(batch: int, num_tokens: int, mask_ratio: float, device: torch.device | str = "cpu") -> Mask:
    """A uniformly random mask, drawn for each sample apart."""
    noise = torch.rand(batch, num_tokens, device=device)
    return mask_from_noise(noise, num_visible(num_tokens, mask_ratio))


@dataclass(frozen=True)
class Masking:
    """What draws a model's masks; kinds of it define `masking(tokens (B, N, D), grid) -> Mask`.

    Tokens are embedded patches without positions. The fixed kinds look at their shape alone; AdaMAE's learned one
    (lib.models.adaptive_sampler) looks at the tokens and has an objective of its own.
    """

    mask_ratio: float

    def prepare(self, positions: Tensor, grid: Grid) -> "Masking":
        """What draws for a model whose encoder adds the table `positions` (N, D); called once, by that model."""
        self(torch.empty(1, len(positions), 0), grid)  # what cannot work fails here
        return self

    def objective(self, loss: Tensor, errors: Tensor, mask: Mask) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss and logs; loss: the reconstruction's, a scalar, errors: of every token, (B, N)."""
        return loss, {"loss": loss.detach()}

    @property
    def architecture(self) -> dict:
        """Plain values that tell it from others, so that a run is not resumed with another masking."""
        return {"name": type(self).__name__, **asdict(self)}


class RandomMasking(Masking):
    """int(N * (1 - ratio)) visible tokens anywhere (MAE)."""

    def __call__(self, tokens: Tensor, grid: Grid) -> Mask:
        """A mask for each sample."""
        return random_mask(len(tokens), tokens.shape[1], self.mask_ratio, tokens.device)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens by index for each sample: (B, N, D), int64 (B, K) -> (B, K, D)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def restore_order(visible_tokens: Tensor, mask_token: Tensor, restore: Tensor) -> Tensor:
    """Visible tokens (B, K, D) back at their places, the mask token (1, 1, D) everywhere else -> (B, N, D)."""
    batch, visible, _ = visible_tokens.shape
    fill = mask_token.to(visible_tokens.dtype).expand(batch, restore.shape[1] - visible, -1)
    return take(torch.cat([visible_tokens, fill], dim=1), restore)


def masked_mean(values: Tensor, hidden: Tensor) -> Tensor:
    """Mean of `values` (B, N) over the hidden tokens of the whole batch -> scalar."""
    weight = hidden.to(values.dtype)
    return (values * weight).sum() / weight.sum()
