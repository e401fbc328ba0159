"""The encoder against timm's ViT with the same weights; its named sizes and what it refuses."""

import pytest
import torch
from slow_layers import shake
from timm.models.vision_transformer import VisionTransformer

from lib.errors import UserError
from lib.models.vit import ViTEncoder

P = 8
TINY = {"image_size": 32, "patch_size": P, "embed_dim": 32, "depth": 2, "num_heads": 4}
TIMM = {"img_size": 32, "patch_size": P, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}


def floats(batch: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(batch, 3, height, width)


@pytest.fixture
def twins():
    """timm's ViT with moved weights, and ours with the same."""
    theirs, ours = shake(VisionTransformer(**TIMM)), ViTEncoder(**TINY)
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("head.")}
    ours.load_state_dict(state, strict=True)
    return theirs, ours.eval()


def resized(theirs: VisionTransformer, height: int, width: int) -> VisionTransformer:
    """The same timm model for other frames, its positions interpolated bicubically (timm's own way antialiases)."""
    other, state = VisionTransformer(**{**TIMM, "img_size": (height, width)}), theirs.state_dict()
    table = state["pos_embed"][:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    table = torch.nn.functional.interpolate(table, (height // P, width // P), mode="bicubic")
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], table.flatten(2).transpose(1, 2)], dim=1)
    other.load_state_dict(state)
    return other.eval()


def test_the_encoder_equals_timm(twins):
    theirs, ours = twins
    images = floats()
    torch.testing.assert_close(ours(images), theirs.forward_features(images), rtol=1e-5, atol=1e-5)


def test_the_encoder_equals_timm_at_another_size(twins):
    theirs, ours = twins
    for size in ((48, 64), (16, 24)):
        images, other = floats(2, *size), resized(theirs, *size)
        torch.testing.assert_close(ours(images), other.forward_features(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [1, 2, -1])
def test_features_equal_those_timm_reads_from_a_block(twins, block):
    theirs, ours = twins
    images = floats(2, 40, 64)
    index = TINY["depth"] - 1 if block == -1 else block - 1
    (expected,) = resized(theirs, 40, 64).get_intermediate_layers(images, n=[index], reshape=True, norm=True)
    features = ours.features(images, block)
    assert features.shape == (2, 32, 5, 8)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [0, 3, -2])
def test_a_block_that_does_not_exist_is_refused(block):
    with pytest.raises(UserError, match=rf"^block {block} does not exist: choose 1 to 2, or -1 for the last$"):
        ViTEncoder(**TINY).features(floats(), block)


def test_heads_that_cannot_share_the_width_are_refused():
    with pytest.raises(UserError, match="a width of 32 is no multiple of its 5 heads"):
        ViTEncoder(**{**TINY, "num_heads": 5})
