"""MAE and SiamMAE against a slow reference, and against what the papers say they must do.

The reference takes a model's weights and nothing else from it: matrices, loops over samples, heads and patches, a
softmax spelled out, in float64.
"""

import math

import pytest
import torch
from slow_layers import linear, plain_block, shake
from slow_siammae import (
    DECODER_HEADS,
    TINY,
    TINY_DECODER,
    P,
    cross_self_block,
    cut,
    encode,
    fill,
    floats,
    frames,
    head,
    reference_loss,
    weights_of,
)
from small_models import give

from lib.errors import UserError
from lib.models.mae import MAE
from lib.models.siammae import CrossSelfBlock, SiamMAE
from lib.models.vit import ViTEncoder
from lib.tokens.masking import Mask, random_mask
from lib.tokens.maskings import get_masking
from lib.tokens.patches import normalize_images, sincos_positions, target_patches

KINDS = [MAE, SiamMAE]


def tiny(kind, **arguments):
    return shake(kind(**{**TINY, **TINY_DECODER, "mask_ratio": 0.75, **arguments}))


def predict(model, *images, mask: Mask | None = None):
    """The model's prediction and mask, MAE's from the last image alone."""
    return model.predict(*(images if isinstance(model, SiamMAE) else images[-1:]), mask)


# --- a slow reference ---------------------------------------------------------------------------------------


def reference(model, past, future, keeps):
    """Predictions (B, N, P*P*3) of MAE (past unused) or SiamMAE, sample by sample."""
    weights, predictions = weights_of(model), []
    for before, after, keep in zip(past.double(), future.double(), keeps.tolist(), strict=True):
        patches = len(cut(after))
        latent = encode(after, weights, keep)
        siamese = isinstance(model, SiamMAE)
        x = fill(latent, weights, keep, patches, class_position=siamese)
        if siamese:
            memory = linear(encode(before, weights, range(patches)), weights, "decoder.embed")
            if model.architecture["memory_positions"]:
                memory = memory + weights["decoder.pos_embed"][0]
        for number in range(TINY_DECODER["decoder_depth"]):
            if siamese:
                x = cross_self_block(x, memory, weights, f"decoder.blocks.{number}.", DECODER_HEADS)
            else:
                x = plain_block(x, weights, f"decoder.blocks.{number}", DECODER_HEADS)
        predictions.append(head(x, weights)[1:])
    return torch.stack(predictions)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(MAE, {}), (MAE, {"norm_pix": False}), (SiamMAE, {}), (SiamMAE, {"norm_pix": False}),
     (SiamMAE, {"memory_positions": True})],
)  # fmt: skip
def test_the_whole_forward_equals_a_slow_reference(kind, options):
    model, norm_pix = tiny(kind, **options), options.get("norm_pix", True)
    past, future = frames(), frames()
    mask = random_mask(3, 16, 0.75)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    normal_past, normal_future = (past / 255 - mean) / std, (future / 255 - mean) / std
    expected = reference(model, normal_past, normal_future, mask.keep)

    prediction, used = predict(model, normal_past, normal_future, mask=mask)
    assert used is mask
    torch.testing.assert_close(prediction.double(), expected, rtol=1e-5, atol=1e-5)

    give(model, mask)
    loss, logs = model({"past": past, "future": future} if kind is SiamMAE else {"image": future})
    wanted = reference_loss(expected, normal_future, mask.keep, norm_pix)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-5)
    assert logs == {"loss": loss} and loss.requires_grad and not logs["loss"].requires_grad


def test_the_cross_self_block_equals_a_slow_reference():
    block = shake(CrossSelfBlock(16, DECODER_HEADS, 4.0))
    tokens, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    weights = weights_of(block)
    expected = [
        cross_self_block(t, m, weights, "", DECODER_HEADS)
        for t, m in zip(tokens.double(), memory.double(), strict=True)
    ]
    torch.testing.assert_close(block(tokens, memory).double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


# --- features and initial weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_a_whole_model_are_its_encoders(kind):
    model, images = tiny(kind), floats(2, 16, 40)
    assert torch.equal(model.features(images, 1), model.encoder.features(images, 1))
    assert not torch.allclose(model.features(images, 1), model.features(images))


def trainable(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_parameter_counts_of_the_published_sizes():
    with torch.device("meta"):
        mae, siammae = MAE(), SiamMAE()
    assert trainable(mae) == 111_655_680
    assert trainable(siammae) == 26_102_528
    assert trainable(siammae.encoder) == 21_590_016


def test_positions_are_fixed_tables_with_a_zero_row_for_the_class_token():
    model = SiamMAE(**TINY, **TINY_DECODER, mask_ratio=0.75)
    for part, dim in ((model.encoder, 32), (model.decoder, 16)):
        assert not part.pos_embed.requires_grad
        assert torch.equal(part.pos_embed[0], torch.cat([torch.zeros(1, dim), sincos_positions(dim, (4, 4))]))


def test_initial_weights_follow_mae():
    torch.manual_seed(0)
    model = SiamMAE(**{**TINY, "embed_dim": 128}, **TINY_DECODER, mask_ratio=0.75)
    for name, parameter in model.named_parameters():
        last = name.split(".")[-1]
        if last == "bias":
            assert (parameter == 0).all(), name
        elif last in ("cls_token", "mask_token"):
            assert 0.01 < parameter.std() < 0.03, name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:  # Xavier-uniform of the matrix; the patch convolution counts as one
            rows, columns = parameter.flatten(1).shape
            bound = math.sqrt(6 / (rows + columns))
            assert parameter.abs().max() <= bound and parameter.std().item() == pytest.approx(
                bound / math.sqrt(3), rel=0.1
            )


def test_arguments_that_cannot_work_are_refused():
    for name in ("num_heads", "decoder_num_heads"):
        for kind in KINDS:
            with pytest.raises(UserError, match="is no multiple of its 5 heads"):
                tiny(kind, **{name: 5})
    with pytest.raises(UserError, match="mask_ratio 0.95 hides all 16 patches"):
        tiny(MAE, mask_ratio=0.95)
    with pytest.raises(UserError, match="use 32x32"):
        tiny(SiamMAE, image_size=30)


@pytest.mark.parametrize("size", [(48, 48), (16, 64)])  # the second has as many patches as the model's own 32 x 32
@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_another_size_than_the_decoders_are_refused(kind, size):
    model = tiny(kind)
    with pytest.raises(UserError, match=rf"frames are {size[0]}x{size[1]}, .* 32x32"):
        predict(model, floats(1, *size), floats(1, *size))


def test_a_past_frame_of_another_size_is_refused():
    with pytest.raises(UserError, match="frames are 16x64, .* 32x32"):
        tiny(SiamMAE).predict(floats(1, 16, 64), floats(1))


# --- what the methods must do -------------------------------------------------------------------------------


def test_siammae_looks_at_the_past():
    model, past, future = tiny(SiamMAE), floats(), floats()
    mask = random_mask(3, 16, 0.75)
    with_past, _ = model.predict(past, future, mask)
    without, _ = model.predict(torch.zeros_like(past), future, mask)
    assert (with_past - without).abs().amax(dim=2).min() > 1e-3  # every patch of every sample


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_pixels_never_reach_the_model_and_the_past_is_whole(kind):
    model = tiny(kind)
    past, future = floats().requires_grad_(), floats().requires_grad_()
    mask = random_mask(3, 16, 0.75)
    predict(model, past, future, mask=mask)[0].square().sum().backward()
    seen = torch.tensor([[bool(patch.any()) for patch in cut(image)] for image in future.grad])
    assert torch.equal(seen, ~mask.hidden)
    if kind is SiamMAE:
        assert all(bool(patch.any()) for image in past.grad for patch in cut(image))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm_pix", [True, False])
def test_the_loss_ignores_visible_patches_and_a_perfect_prediction_costs_nothing(kind, norm_pix):
    model, mask, images = tiny(kind, norm_pix=norm_pix), random_mask(2, 16, 0.75), frames(2)
    prediction = target_patches(normalize_images(images), P, norm_pix)
    model.predict = lambda *_: (prediction, mask)

    def loss(pictures):
        return model({"image": pictures, "past": pictures, "future": pictures})[0]

    assert loss(images) < 1e-10
    for patch in range(16):
        changed = images.clone()
        cut(changed[0])[patch].random_(256)
        assert bool(loss(changed) > 1e-3) == bool(mask.hidden[0, patch])


def test_one_encoder_serves_both_frames_and_learns_from_both():
    model, past, future = tiny(SiamMAE), floats(), floats()
    assert len([part for part in model.modules() if isinstance(part, ViTEncoder)]) == 1
    mask = random_mask(3, 16, 0.75)

    def encoder_gradients(cut_past: bool, cut_future: bool):
        model.zero_grad()
        memory, latent = model.encoder(past), model.encoder(future, mask.keep)
        memory = memory.detach() if cut_past else memory
        latent = latent.detach() if cut_future else latent
        model.decoder(latent, mask.restore, memory).square().mean().backward()
        return [parameter.grad.clone() for parameter in model.encoder.parameters()]

    from_past, from_future = encoder_gradients(False, True), encoder_gradients(True, False)
    for both, first, second in zip(encoder_gradients(False, False), from_past, from_future, strict=True):
        assert first.any() and second.any()
        torch.testing.assert_close(both, first + second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_differ_between_samples_and_between_steps(kind):
    model, images = tiny(kind), floats(4)
    drawn = [predict(model, images, images)[1] for _ in range(3)]
    assert len({tuple(row) for mask in drawn for row in mask.hidden.tolist()}) == 12
    assert all((mask.hidden.sum(dim=1) == 12).all() for mask in drawn)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["random", "tube"])
def test_a_model_draws_with_the_strategy_that_it_is_given(kind, name):
    masking = get_masking(name, 0.5)
    model, images = tiny(kind, masking=masking), floats(2)
    torch.manual_seed(0)
    expected = masking(torch.empty(2, 16, 0), (1, 4, 4))
    torch.manual_seed(0)
    assert torch.equal(predict(model, images, images)[1].hidden, expected.hidden)
    assert model.mask_ratio == model.architecture["mask_ratio"] == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_architecture_rebuilds_the_model_and_tells_maskings_apart(kind):
    model = tiny(kind, mask_ratio=0.5, norm_pix=False)
    again = kind(**{**model.architecture, "masking": model.masking})
    again.load_state_dict(model.state_dict())
    assert again.architecture == model.architecture and again.mask_ratio == 0.5
    assert tiny(kind, masking=get_masking("tube", 0.5), norm_pix=False).architecture != model.architecture
    mask = random_mask(1, 16, 0.5)
    images = floats(1)
    first, second = (predict(each.eval(), images, images, mask=mask)[0] for each in (model, again))
    assert torch.equal(first, second)
