"""Wave-ViT's attention against a slow, direct reference in float64; maps with holes; its parameters."""

import math

import pytest
import torch
from slow_layers import linear, shake
from slow_siammae import weights_of

from lib.errors import UserError
from lib.models.wavelet_attention import NORMS, WaveletAttention
from lib.tokens.masking import random_mask

DIM, HEADS = 16, 2


def attention(transform: str = "haar", norm: str = "layer") -> WaveletAttention:
    torch.manual_seed(0)
    return shake(WaveletAttention(DIM, HEADS, transform, norm)).eval()


def some(grid: tuple[int, int], visible: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens with a class token, and the places of all but that, in a random order."""
    torch.manual_seed(1)
    places = torch.stack([torch.randperm(grid[0] * grid[1])[:visible] for _ in range(batch)])
    return torch.randn(batch, 1 + visible, DIM), places


def reference(tokens, places, grid, weights, transform: str, norm: str) -> torch.Tensor:
    """One sample (1 + K, D), place by place and head by head."""
    (h, w), quarter = grid, DIM // 4

    def normed(values, name):  # one place's channels
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if norm == "batch":
            mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        else:
            mean, variance = values.mean(), values.var(correction=0)
        return (scale * (values - mean) / (variance + 1e-5).sqrt() + shift).clamp(min=0)

    narrow = {}  # place -> a quarter of the channels
    for token, place in zip(tokens[1:], places.tolist(), strict=True):
        narrow[divmod(place, w)] = normed(weights["reduce.weight"] @ token + weights["reduce.bias"], "reduce_norm")
    nothing = torch.zeros(quarter, dtype=torch.float64)
    bands = {}
    for row in range(h // 2):
        for column in range(w // 2):
            spots = [(2 * row + i, 2 * column + j) for i in (0, 1) for j in (0, 1)]
            a, b, c, d = (narrow.get(spot, nothing) for spot in spots)
            if transform == "haar":
                a, b, c, d = (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2
            bands[row, column] = torch.cat([a, b, c, d])
    filtered = {}
    for row, column in bands:
        total = weights["filter.0.bias"].clone()
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                if (row + i, column + j) in bands:
                    total += weights["filter.0.weight"][:, :, i + 1, j + 1] @ bands[row + i, column + j]
        filtered[row, column] = normed(total, "filter.1")
    known = sorted({(place // w // 2, place % w // 2) for place in places.tolist()})  # cells with a token
    memory = torch.stack([filtered[cell] for cell in known])
    mean, variance = memory.mean(1, keepdim=True), memory.var(1, correction=0, keepdim=True)
    memory = weights["kv.0.weight"] * (memory - mean) / (variance + 1e-6).sqrt() + weights["kv.0.bias"]
    keys, values = linear(memory, weights, "kv.1").chunk(2, dim=1)
    queries, size, out = linear(tokens, weights, "q"), DIM // HEADS, []
    for number, query in enumerate(queries):
        parts = []
        for head in range(HEADS):
            one = slice(head * size, (head + 1) * size)
            share = (keys[:, one] @ query[one] / math.sqrt(size)).softmax(dim=0)
            parts.append(share @ values[:, one])
        own = nothing
        if number:
            row, column = divmod(places[number - 1].item(), w)
            ll, lh, hl, hh = filtered[row // 2, column // 2].chunk(4)
            i, j = (-1) ** (row % 2), (-1) ** (column % 2)
            if transform == "haar":
                own = (ll + i * lh + j * hl + i * j * hh) / 2
            else:
                own = (ll, lh, hl, hh)[2 * (row % 2) + column % 2]
        out.append(torch.cat([*parts, own]))
    return linear(torch.stack(out), weights, "proj")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("transform", ["haar", "regroup"])
@pytest.mark.parametrize(("grid", "visible"), [((4, 6), 24), ((4, 6), 7), ((2, 2), 1)])
def test_it_equals_a_slow_reference(grid, visible, transform, norm):
    layer = attention(transform, norm)
    tokens, places = some(grid, visible)
    weights = weights_of(layer)
    for name, value in layer.named_buffers():
        weights[name] = value.double()
    pairs = zip(tokens.double(), places, strict=True)
    expected = torch.stack([reference(*pair, grid, weights, transform, norm) for pair in pairs])
    torch.testing.assert_close(layer(tokens, places, grid).double(), expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_tokens_is_nothing_to_it():
    layer, grid = attention(), (4, 4)
    tokens, places = some(grid, 6)
    order = torch.tensor([3, 5, 0, 2, 1, 4])
    moved = layer(torch.cat([tokens[:, :1], tokens[:, 1:][:, order]], dim=1), places[:, order], grid)
    torch.testing.assert_close(moved[:, 1:], layer(tokens, places, grid)[:, 1:][:, order])


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_hidden_changes_nothing(norm):
    """A map that is wider by cells of holes gives the same, but for the border that the filter sees: also zeros."""
    layer = attention(norm=norm)
    tokens, places = some((4, 4), 6)
    wide = places // 4 * 8 + places % 4
    torch.testing.assert_close(layer(tokens, wide, (4, 8)), layer(tokens, places, (4, 4)))


def test_its_parameters_are_those_of_wave_vit():
    """14,165,760 at a width of 1024, and as many without wavelets."""
    for transform in ("haar", "regroup"):
        with torch.device("meta"):
            layer = WaveletAttention(1024, 8, transform, "batch")
        assert sum(parameter.numel() for parameter in layer.parameters()) == 14_165_760


def test_gradients_reach_every_parameter():
    layer, grid = attention().train(), (4, 4)
    tokens, places = some(grid, 5)
    layer(tokens, places, grid).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((15, 3), "15.*multiple of 4"), ((16, 3), "16.*3 heads"), ((16, 2, "fourier"), "fourier"),
        ((16, 2, "haar", "group"), "group"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        WaveletAttention(*arguments)


def test_a_random_mask_gives_its_places():
    layer, grid = attention(), (4, 4)
    mask = random_mask(2, 16, 0.75)
    assert layer(torch.randn(2, 5, DIM), mask.keep, grid).shape == (2, 5, DIM)
