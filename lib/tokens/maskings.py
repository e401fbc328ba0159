"""The fixed masking strategies by name, of `N` tokens on a grid (s, h, w): s times h*w places."""

from functools import cache

import torch
from torch import Tensor

from lib.errors import UserError, unknown
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


class GroupedMasking(Masking):
    """int(N * (1 - ratio)) visible tokens that lie together: those nearest to a random place."""

    def __call__(self, tokens: Tensor, grid: Grid) -> Mask:
        """A mask for each sample."""
        places = torch.cartesian_prod(*(torch.arange(side, device=tokens.device) for side in grid)).float()  # (N, 3)
        centres = places[torch.randint(len(places), (len(tokens),), device=tokens.device)]  # (B, 3)
        ties = 0.5 * torch.rand(len(tokens), len(places), device=tokens.device)  # squared distances are whole numbers
        distances = (places - centres.unsqueeze(1)).square().sum(dim=-1)
        return mask_from_noise(distances + ties, num_visible(len(places), self.mask_ratio))


class GridMasking(Masking):
    """int(N * (1 - ratio)) visible tokens, evenly spread: one pattern, moved by a random way around the grid's edges.

    16 of 8 x 8 are every second of every second row, as MAE's grid-wise masking has them (its Figure 6, right).
    """

    def __call__(self, tokens: Tensor, grid: Grid) -> Mask:
        """A mask for each sample."""
        ranks = spread_ranks(grid).to(tokens.device)
        shifts = [torch.randint(side, (len(tokens), 1), device=tokens.device) for side in grid]
        places = torch.cartesian_prod(*(torch.arange(side, device=tokens.device) for side in grid)).T  # (3, N)
        t, y, x = ((place + shift) % side for place, shift, side in zip(places, shifts, grid, strict=True))
        return mask_from_noise(ranks[t, y, x], num_visible(ranks.numel(), self.mask_ratio))


class CellMasking(Masking):
    """Cells of 2 x 2 places of one time visible or hidden as a whole: 4 * int(N / 4 * (1 - ratio)) visible tokens."""

    def __call__(self, tokens: Tensor, grid: Grid) -> Mask:
        """A mask for each sample."""
        s, h, w = grid
        if h % 2 or w % 2:
            raise UserError(f"a grid of {h}x{w} does not divide into cells of 2x2: choose another patch or frame size")
        cells = s * h * w // 4
        visible = num_visible(cells, self.mask_ratio, "cells")
        ranks = random_ranks(len(tokens), cells, tokens.device).view(-1, s, h // 2, 1, w // 2, 1)
        return mask_from_noise(ranks.expand(-1, -1, -1, 2, -1, 2).flatten(1), 4 * visible)


@cache
def spread_ranks(grid: Grid) -> Tensor:
    """0..N-1, int64 (s, h, w): each place is the one farthest from all of lower rank, on a grid whose edges meet."""
    sides = torch.tensor(grid)
    places = torch.cartesian_prod(*(torch.arange(side) for side in grid))  # (N, 3)
    ranks, nearest = torch.zeros(len(places), dtype=torch.int64), torch.full((len(places),), torch.inf)
    place = 0
    for rank in range(len(places)):
        ranks[place] = rank
        way = (places - places[place]).abs()
        nearest = torch.minimum(nearest, torch.minimum(way, sides - way).square().sum(dim=1))
        place = int(nearest.argmax())
    return ranks.view(grid)


MASKINGS = {
    "random": RandomMasking, "tube": TubeMasking, "frame": FrameMasking, "grouped": GroupedMasking, "grid": GridMasking,
    "cell": CellMasking,
}  # fmt: skip


def get_masking(name: str, mask_ratio: float) -> Masking:
    """The strategy that MASKINGS knows by `name`."""
    if name not in MASKINGS:
        raise unknown("masking", name, MASKINGS)
    return MASKINGS[name](mask_ratio)
