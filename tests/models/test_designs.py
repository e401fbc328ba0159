"""SiamMAE's relatives: the default is SiamMAE itself, each design equals a slow reference and does what it says."""

import itertools

import pytest
import torch
from slow_layers import linear, plain_block, shake
from slow_siammae import (
    DECODER_HEADS,
    TINY,
    TINY_DECODER,
    cross_block,
    cross_self_block,
    cut,
    encode,
    encode_tokens,
    fill,
    floats,
    frames,
    head,
    patch_tokens,
    reference_loss,
    weights_of,
)
from small_models import give

from lib.errors import UserError
from lib.models.designs import DECODERS, ENCODERS, DesignedSiamMAE
from lib.models.siammae import SiamMAE
from lib.tokens.masking import random_mask
from lib.tokens.patches import normalize_images

DESIGNS = list(itertools.product(ENCODERS, DECODERS))
every_design = pytest.mark.parametrize(("encoder", "decoder"), DESIGNS)


def tiny(encoder: str = "siamese", decoder: str = "cross-self", **arguments) -> DesignedSiamMAE:
    torch.manual_seed(0)
    designs = {"encoder_design": encoder, "decoder_design": decoder}
    return shake(DesignedSiamMAE(**designs, **{**TINY, **TINY_DECODER, "mask_ratio": 0.75, **arguments}))


def memory_of(model, past, future, mask) -> torch.Tensor:
    """What the decoder gets of the past."""
    given = []
    hook = model.decoder.register_forward_pre_hook(lambda _, arguments: given.append(arguments[2]))
    model.predict(past, future, mask)
    hook.remove()
    return given[0]


# --- the default, and slow references -----------------------------------------------------------------------


def test_the_default_is_siammae_to_the_last_bit():
    designed, plain = tiny(), SiamMAE(**TINY, **TINY_DECODER, mask_ratio=0.75).eval()
    plain.load_state_dict(designed.state_dict())
    past, future, mask = floats(), floats(), random_mask(3, 16, 0.75)
    assert torch.equal(designed.predict(past, future, mask)[0], plain.predict(past, future, mask)[0])
    batch = {"past": frames(), "future": frames()}
    losses = []
    for model in (designed, plain):
        torch.manual_seed(5)  # the same masks
        losses.append(model(batch)[0])
    assert torch.equal(*losses)
    torch.manual_seed(2)
    fresh = SiamMAE(**TINY, **TINY_DECODER, mask_ratio=0.75).state_dict()
    torch.manual_seed(2)
    again = DesignedSiamMAE(**TINY, **TINY_DECODER, mask_ratio=0.75).state_dict()
    assert all(torch.equal(again[name], value) for name, value in fresh.items()), "it starts from the same weights"


def decode(x, memory, seen, weights, design):
    """Decoder tokens (1 + N, E) and past memory (1 + M, D) through blocks of a design."""
    past, length = linear(memory, weights, "decoder.embed"), len(x)
    if design == "joint":
        places = weights["decoder.pos_embed"][0][[1 + patch for patch in seen]]
        x = torch.cat([x, past[1:] + places + weights["decoder.past_token"][0, 0]])
    for number in range(TINY_DECODER["decoder_depth"]):
        name = f"decoder.blocks.{number}"
        if design == "joint":
            x = plain_block(x, weights, name, DECODER_HEADS)
        else:
            block = cross_block if design == "cross" else cross_self_block
            x = block(x, past, weights, f"{name}.", DECODER_HEADS)
    return head(x[:length], weights)[1:]


def reference(model, past, future, keeps, seens):
    """Predictions (B, N, P*P*3), sample by sample."""
    weights, designs, found = weights_of(model), model.architecture, []
    for before, after, keep, seen in zip(past.double(), future.double(), keeps.tolist(), seens.tolist(), strict=True):
        if designs["encoder_design"] == "joint":
            tokens = [*patch_tokens(after, weights, keep), *patch_tokens(before, weights, seen)]
            both = encode_tokens(tokens, weights)
            latent, memory = both[: 1 + len(keep)], torch.cat([both[:1], both[1 + len(keep) :]])
        else:
            latent, memory = encode(after, weights, keep), encode(before, weights, seen)
        found.append(decode(fill(latent, weights, keep, 16), memory, seen, weights, designs["decoder_design"]))
    return torch.stack(found)


@pytest.mark.parametrize("past_ratio", [0.0, 0.5])
@every_design
def test_every_design_equals_a_slow_reference(encoder, decoder, past_ratio):
    model, mask = tiny(encoder, decoder, past_mask_ratio=past_ratio), random_mask(3, 16, 0.75)
    images = {"past": frames(), "future": frames()}
    past, future = (normalize_images(views) for views in images.values())
    torch.manual_seed(4)
    seen = random_mask(3, 16, past_ratio).keep if past_ratio else torch.arange(16).expand(3, -1)
    expected = reference(model, past, future, mask.keep, seen)
    torch.manual_seed(4)
    prediction, used = model.predict(past, future, mask)
    assert used is mask
    torch.testing.assert_close(prediction.double(), expected, rtol=1e-4, atol=1e-5)
    give(model, mask)
    torch.manual_seed(4)
    loss, logs = model(images)
    wanted = reference_loss(expected, future, mask.keep, norm_pix=True)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-4, atol=1e-5)
    assert logs == {"loss": loss}


# --- what each must do --------------------------------------------------------------------------------------


@every_design
def test_every_weight_learns(encoder, decoder):
    model = tiny(encoder, decoder, past_mask_ratio=0.25)
    model({"past": frames(), "future": frames()})[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@every_design
def test_the_past_shows_in_every_prediction_and_hidden_pixels_do_not(encoder, decoder):
    model, mask = tiny(encoder, decoder), random_mask(3, 16, 0.75)
    past, future = floats().requires_grad_(), floats().requires_grad_()
    prediction = model.predict(past, future, mask)[0]
    without = model.predict(torch.zeros_like(past), future, mask)[0]
    assert (prediction - without).abs().amax(dim=2).min() > 1e-3  # every patch of every sample
    prediction.square().sum().backward()
    seen = torch.tensor([[bool(patch.any()) for patch in cut(image)] for image in future.grad])
    assert torch.equal(seen, ~mask.hidden)
    assert all(bool(patch.any()) for image in past.grad for patch in cut(image))


@every_design
def test_what_the_past_hides_reaches_nothing(encoder, decoder):
    model, mask = tiny(encoder, decoder, past_mask_ratio=0.75), random_mask(3, 16, 0.75)
    past, future = floats().requires_grad_(), floats()
    torch.manual_seed(9)
    prediction = model.predict(past, future, mask)[0]
    prediction.square().sum().backward()
    seen = torch.tensor([[bool(patch.any()) for patch in cut(image)] for image in past.grad])
    assert (seen.sum(dim=1) == 4).all() and len({tuple(row) for row in seen.tolist()}) == 3
    changed = past.detach().clone()
    for image, row in zip(changed, seen, strict=True):
        for patch, visible in zip(cut(image), row, strict=True):
            patch += 0 if visible else torch.randn_like(patch)
    torch.manual_seed(9)
    assert torch.equal(model.predict(changed, future, mask)[0], prediction)
    assert not torch.equal(model.predict(past, future, mask)[0], prediction), "drawn anew"


@every_design
def test_a_joint_encoder_mixes_the_frames_and_a_siamese_one_keeps_them_apart(encoder, decoder):
    model, past, mask = tiny(encoder, decoder), floats(), random_mask(3, 16, 0.75)
    future, other = floats(), floats()
    one, two = (memory_of(model, past, images, mask) for images in (future, other))
    assert one.shape == (3, 17, 32)
    if encoder == "siamese":
        assert torch.equal(one, two)
    else:
        assert (one - two).abs().amax(dim=2).min() > 1e-3


@pytest.mark.parametrize("encoder", ENCODERS)
def test_without_self_attention_a_place_knows_no_other(encoder):
    """A change of one visible patch reaches another place's prediction through the decoder alone, or not at all."""
    mask = random_mask(1, 16, 0.75)
    past, future = floats(1), floats(1)
    changed = future.clone()
    cut(changed[0])[int(mask.keep[0, 0])][:] += 1
    for decoder in DECODERS:
        model = tiny(encoder, decoder)
        one, two = (model.predict(past, images, mask)[0][0, mask.hidden[0]] for images in (future, changed))
        reached = not torch.allclose(one, two, atol=1e-6)
        assert reached == (decoder != "cross" or encoder == "joint")


# --- settings -----------------------------------------------------------------------------------------------


def test_unknown_designs_and_what_cannot_work_are_refused_in_one_line():
    with pytest.raises(UserError, match="^unknown encoder design 'siamse': did you mean 'siamese'.[^\n]+$"):
        tiny("siamse")
    with pytest.raises(UserError, match="^unknown decoder design 'self': [^\n]+ cross, cross-self, joint$"):
        tiny("siamese", "self")
    for arguments in ({"past_mask_ratio": 0.5}, {"decoder": "joint"}):
        with pytest.raises(UserError, match="^memory_positions needs the whole past [^\n]+$"):
            tiny(**arguments, memory_positions=True)
    assert tiny("joint", "cross", memory_positions=True).decoder.memory_positions
    for past, future in ((floats(1, 16, 64), floats(1)), (floats(1), floats(1, 16, 64))):
        with pytest.raises(UserError, match="frames are 16x64, .* 32x32"):
            tiny("joint", "joint").predict(past, future)


def test_the_architecture_tells_designs_apart_and_rebuilds_them():
    models = [tiny(*design, past_mask_ratio=ratio) for design in DESIGNS for ratio in (0.0, 0.5)]
    plain = SiamMAE(**TINY, **TINY_DECODER, mask_ratio=0.75).architecture
    found = [plain, *(model.architecture for model in models)]
    assert all(found.count(each) == 1 for each in found)
    past, future, mask = floats(), floats(), random_mask(3, 16, 0.75)
    for model in models:
        again = DesignedSiamMAE(**{**model.architecture, "masking": model.masking}).eval()
        again.load_state_dict(model.state_dict())
        predictions = []
        for each in (model, again):
            torch.manual_seed(1)
            predictions.append(each.predict(past, future, mask)[0])
        assert torch.equal(*predictions)


def test_features_are_those_of_the_encoder_whatever_the_design():
    model, images = tiny("joint", "joint", past_mask_ratio=0.5), floats(2, 16, 40)
    assert torch.equal(model.features(images), model.encoder.features(images))
    assert model.features(images).shape == (2, 32, 2, 5)
