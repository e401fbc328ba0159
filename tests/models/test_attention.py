"""Attention maps against a softmax spelled out query by query, for ViTEncoder and for timm's models."""

import math

import pytest
import timm
import torch
from torch.nn import functional as F

from lib.errors import UserError
from lib.models.attention import attention_maps, query_map
from lib.models.pretrained import TimmEncoder
from lib.models.vit import ViTEncoder

P, HEADS, DEPTH = 8, 4, 3


def shaken(model):
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def encoder() -> ViTEncoder:
    return shaken(ViTEncoder(32, P, 32, DEPTH, HEADS))


def timm_encoder(name: str) -> TimmEncoder:
    return TimmEncoder(shaken(timm.create_model(name, dynamic_img_size=True, num_classes=0)))


def slow_attention(tokens: torch.Tensor, block, heads: int) -> torch.Tensor:
    """(T, D) tokens that enter a block -> (heads, T, T), in float64, one query at a time."""
    x = F.layer_norm(tokens, tokens.shape[-1:], block.norm1.weight, block.norm1.bias, 1e-6).double()
    queries, keys, _ = (x @ block.attn.qkv.weight.double().T + block.attn.qkv.bias.double()).chunk(3, dim=-1)
    width = tokens.shape[1] // heads
    maps = torch.zeros(heads, len(tokens), len(tokens), dtype=torch.float64)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for number, query in enumerate(queries[:, part]):
            scores = torch.exp(keys[:, part] @ query / math.sqrt(width))
            maps[head, number] = scores / scores.sum()
    return maps


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (16, 40)])
def test_maps_are_the_softmax_of_queries_and_keys(encoder, size):
    entered = []
    encoder.blocks[-1].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    maps = attention_maps(encoder, torch.randn(2, 3, *size))
    expected = torch.stack([slow_attention(sample, encoder.blocks[-1], HEADS) for sample in entered[0]])
    assert maps.shape == expected.shape and maps.dtype == torch.float32
    torch.testing.assert_close(maps.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_vit", "test_vit2"])  # a class token; a register and no class token
def test_maps_of_timms_models(name):
    encoder, images = timm_encoder(name), torch.randn(2, 3, 64, 96)
    maps = attention_maps(encoder, images)
    tokens = encoder.model.patch_embed(images * encoder.scale + encoder.shift)
    tokens = encoder.model._pos_embed(tokens)
    for before in encoder.blocks[:-1]:
        tokens = before(tokens)
    expected = torch.stack([slow_attention(sample, encoder.blocks[-1], 2) for sample in tokens])
    if name == "test_vit2":
        assert (maps.sum(-1) < 1).all()
        expected = expected[:, :, 1:, 1:]
    assert maps.shape == (2, 2, 24 + encoder.has_cls, 24 + encoder.has_cls)
    torch.testing.assert_close(maps.double(), expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_maps_of_rotary_attention_are_what_its_fused_kernel_forms(monkeypatch):
    encoder, images, calls = timm_encoder("eva02_tiny_patch14_224"), torch.randn(1, 3, 56, 70), []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *args, **kw: calls.append(args) or fused(*args, **kw))
    encoder.features(images)
    queries, keys, _ = (part.double() for part in calls[-1])
    scores = torch.exp(queries @ keys.mT / math.sqrt(queries.shape[-1]))
    maps, depth = attention_maps(encoder, images), len(encoder.blocks)
    assert len(calls) == 2 * depth - 1 and maps.shape == (1, 3, 21, 21)  # the second look forms the last block's itself
    torch.testing.assert_close(maps.double(), scores / scores.sum(-1, keepdim=True), rtol=1e-4, atol=1e-6)


def test_looking_leaves_the_encoder_as_it_was(encoder):
    images = torch.randn(1, 3, 32, 32)
    before, fused = encoder.features(images), encoder.blocks[-1].attn.fused_attn
    maps = attention_maps(encoder, images)
    assert not maps.requires_grad
    assert encoder.blocks[-1].attn.fused_attn == fused and not encoder.blocks[-1].attn.attn_drop._forward_pre_hooks
    assert torch.equal(encoder.features(images), before)
    with pytest.raises(UserError, match="use 32x32"):  # also when it fails midway
        attention_maps(encoder, torch.randn(1, 3, 31, 32))
    assert encoder.blocks[-1].attn.fused_attn == fused and not encoder.blocks[-1].attn.attn_drop._forward_pre_hooks


# --- one query's map ----------------------------------------------------------------------------------------


def test_a_querys_map_by_hand():
    attention = torch.arange(2 * 7 * 7.0).view(
        1, 2, 7, 7
    )  # a class token and 2 x 3 patches; entry 49 head + 7 query + key
    assert query_map(attention, (2, 3)).tolist() == [[[[1, 2, 3], [4, 5, 6]], [[50, 51, 52], [53, 54, 55]]]]
    assert query_map(attention, (2, 3), (1, 0))[0, 0].tolist() == [[29, 30, 31], [32, 33, 34]]  # query 1 + 3
    bare = torch.arange(36.0).view(1, 1, 6, 6)
    assert query_map(bare, (3, 2), (2, 1))[0, 0].tolist() == [[30, 31], [32, 33], [34, 35]]


def test_queries_that_do_not_exist():
    attention = torch.rand(1, 2, 7, 7)
    for query in ((2, 0), (0, 3), (-1, 0), (0, 0, 0), "all"):
        with pytest.raises(UserError, match=r"is no patch of a 2x3 grid: choose \(row, column\) from 0, or 'cls'"):
            query_map(attention, (2, 3), query)
    with pytest.raises(UserError, match="no class token: choose a patch"):
        query_map(attention[:, :, 1:, 1:], (2, 3), "cls")
    with pytest.raises(UserError, match="7 tokens is not of a 2x2 grid"):
        query_map(attention, (2, 2))


@torch.no_grad()
def test_a_querys_map_lies_on_the_frame():
    """A patch that is made to attract all attention is found at its own place."""
    encoder = shaken(ViTEncoder(32, P, 32, 1, HEADS))
    images = torch.zeros(1, 3, 24, 40)
    attention = encoder.blocks[0].attn
    attention.qkv.weight.zero_()
    attention.qkv.bias.zero_()
    attention.qkv.bias[:32] = 1  # each query is all ones ...
    attention.qkv.weight[32:64] = 5 * torch.eye(32)  # ... and each key its own token, normed
    encoder.blocks[0].norm1.weight.fill_(1)
    encoder.blocks[0].norm1.bias.zero_()
    encoder.cls_token.zero_()
    encoder.pos_embed.zero_()
    encoder.patch_embed.proj.weight.zero_()
    encoder.patch_embed.proj.weight[:8, 0] = 1  # red light raises the first head's channels
    encoder.patch_embed.proj.bias.copy_(torch.linspace(-1, 1, 32) * 1e-3)
    images[:, 0, 8:16, 32:40] = 1
    found = query_map(attention_maps(encoder, images), (3, 5), (0, 0))[0, 0]
    assert divmod(found.argmax().item(), 5) == (1, 4) and found.max() > 0.9
