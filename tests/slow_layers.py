"""Slow, independent layers of a transformer: one sample (tokens, width), weights by name; for parity tests."""

import math

import torch


def shake(model: torch.nn.Module) -> torch.nn.Module:
    """Move every weight, so that no zero bias, unit gain or small token hides a mistake."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x, weights, name):
    centred = x - x.mean(dim=1, keepdim=True)
    variance = (centred**2).mean(dim=1, keepdim=True)
    return centred / (variance + 1e-6).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attention(queries, keys, values, heads):
    """(Q, D), (M, D), (M, D) of one sample -> (Q, D), head by head and query by query."""
    width = queries.shape[1] // heads
    out = torch.empty_like(queries)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for number, query in enumerate(queries[:, part]):
            scores = torch.exp(keys[:, part] @ query / math.sqrt(width))
            out[number, part] = (scores / scores.sum()) @ values[:, part]
    return out


def self_attention(x, weights, name, heads):
    queries, keys, values = linear(x, weights, f"{name}.qkv").chunk(3, dim=1)
    return linear(attention(queries, keys, values, heads), weights, f"{name}.proj")


def cross_attention(x, memory, weights, name, heads):
    keys, values = linear(memory, weights, f"{name}.kv").chunk(2, dim=1)
    return linear(attention(linear(x, weights, f"{name}.q"), keys, values, heads), weights, f"{name}.proj")


def mlp(x, weights, name):
    hidden = linear(x, weights, f"{name}.fc1")
    return linear(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, weights, f"{name}.fc2")


def plain_block(x, weights, name, heads):
    x = x + self_attention(layer_norm(x, weights, f"{name}.norm1"), weights, f"{name}.attn", heads)
    return x + mlp(layer_norm(x, weights, f"{name}.norm2"), weights, f"{name}.mlp")
