"""Tiny SiamMAEs of any kind, pairs for them, and a masking that gives one known mask."""

from dataclasses import dataclass

import torch
from small_training import DECODER, SHAPE
from torch import Tensor

from lib.models.siammae import SiamMAE
from lib.models.variance_heads import Prediction
from lib.tokens.masking import Grid, Mask, Masking, random_mask
from lib.tokens.patches import normalize_images

P, PATCHES = SHAPE["patch_size"], 16


@dataclass(frozen=True)
class GivenMask(Masking):
    """Always the same mask."""

    mask: Mask

    def __call__(self, tokens: Tensor, grid: Grid) -> Mask:
        return self.mask


def give(model: torch.nn.Module, mask: Mask) -> None:
    """Let the model draw this mask from now on."""
    model.masking = GivenMask(model.mask_ratio, mask)


def build(kind: type[SiamMAE], seed: int = 0, shaken: bool = True, **arguments) -> SiamMAE:
    """A tiny model that knows no gap; shaken: every weight moved, so that no zero hides a mistake."""
    torch.manual_seed(seed)
    blind = {} if kind is SiamMAE else {"knows_gap": False}
    model = kind(**{**SHAPE, **DECODER, **blind, **arguments})
    if shaken:
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def frames(batch: int = 3) -> Tensor:
    return torch.randint(256, (batch, 3, 16, 16), dtype=torch.uint8)


def scene(batch: int = 3) -> tuple[Tensor, Tensor, Mask]:
    """Always the same normalised past and future, and a mask."""
    torch.manual_seed(7)
    past, future = normalize_images(frames(batch)), normalize_images(frames(batch))
    return past, future, random_mask(batch, PATCHES, 0.75)


def equal(one: Prediction, other: Prediction, **tolerance) -> None:
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


def linear(part: torch.nn.Linear, values: Tensor) -> Tensor:
    return values @ part.weight.T + (0 if part.bias is None else part.bias)


def variance_maps(head, tokens: Tensor, gap: Tensor | None = None) -> Tensor:
    """A VarianceHead by its formula, GELU by the normal distribution's function."""
    hidden = linear(head.hidden, tokens)
    if gap is not None:
        hidden = hidden + torch.log(gap / 16)[:, None, None] * head.gap.weight[:, 0]
    return linear(head.maps, hidden * torch.distributions.Normal(0, 1).cdf(hidden))
