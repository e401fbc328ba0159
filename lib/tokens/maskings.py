"""The fixed masking strategies by name, of `N` tokens on a grid (s, h, w): s times h*w places."""

import torch
from torch import Tensor

from lib.errors import unknown
from lib.tokens.masking import Grid, Mask, Masking, RandomMasking, mask_from_noise, num_visible


class TubeMasking(Masking):
    """The same random places visible at all times (VideoMAE, arXiv 2203.12602): s * int(h*w * (1 - ratio)) tokens.

    8 x 14 x 14 at 0.95 leave 8 * 9 = 72, not 78.
    """

    def __call__(self, tokens: Tensor, grid: Grid) -> Mask:
        """A mask for each sample."""
        s, h, w = grid
        places = num_visible(h * w, self.mask_ratio, "places")
        ranks = random_ranks(len(tokens), h * w, tokens.device)
        return mask_from_noise(ranks.unsqueeze(1).expand(-1, s, -1).flatten(1), s * places)  # (B, s, h*w) -> (B, N)


class FrameMasking(Masking):
    """Random times wholly visible, all others hidden (AdaMAE, arXiv 2211.09120, Table 1a): int(s * (1 - ratio)) * h*w.

    8 x 14 x 14 at 0.875 leave one time of 196.
    """

    def __call__(self, tokens: Tensor, grid: Grid) -> Mask:
        """A mask for each sample."""
        s, h, w = grid
        times = num_visible(s, self.mask_ratio, "times", "longer clips")
        ranks = random_ranks(len(tokens), s, tokens.device)
        return mask_from_noise(ranks.unsqueeze(2).expand(-1, -1, h * w).flatten(1), times * h * w)  # (B, s, h*w)


def random_ranks(batch: int, number: int, device: torch.device) -> Tensor:
    """0..number-1 in random order, int64 (batch, number). Ranks, for equal random numbers would split a tube."""
    return torch.rand(batch, number, device=device).argsort(dim=1).argsort(dim=1)


MASKINGS = {"random": RandomMasking, "tube": TubeMasking, "frame": FrameMasking}


def get_masking(name: str, mask_ratio: float) -> Masking:
    """The strategy that MASKINGS knows by `name`."""
    if name not in MASKINGS:
        raise unknown("masking", name, MASKINGS)
    return MASKINGS[name](mask_ratio)
