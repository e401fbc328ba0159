"""AdaMAE, and SiamMAE with its sampler: gradients, losses, sizes against the released code, logs."""

import json

import pytest
import torch
from slow_layers import shake

from lib.errors import UserError
from lib.models.adamae import AdaMAE
from lib.models.adaptive_sampler import OBJECTIVES, AdaptiveMasking, collapsed, distribution_logs
from lib.models.siammae import SiamMAE
from lib.tokens.cubes import normalize_videos
from lib.tokens.masking import masked_mean

TINY = {
    "num_frames": 4, "image_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4,
    "decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2, "mask_ratio": 0.5,
}  # fmt: skip
TINY_SIAMMAE = {
    "image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 4, "decoder_embed_dim": 16,
    "decoder_depth": 1, "decoder_num_heads": 2, "mask_ratio": 0.75,
}  # fmt: skip


def clips(batch: int = 3, frames: int = 4, side: int = 16) -> torch.Tensor:
    return torch.randint(256, (batch, 3, frames, side, side), dtype=torch.uint8)


def pairs(batch: int = 4) -> dict[str, torch.Tensor]:
    past, future = torch.randint(256, (2, batch, 3, 32, 32), dtype=torch.uint8)
    return {"past": past, "future": future}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- gradients ----------------------------------------------------------------------------------------------


def gradients(model, batch, seed: int = 3) -> dict[str, torch.Tensor | None]:
    model.zero_grad()
    torch.manual_seed(seed)
    model(batch)[0].backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def build(kind, variant: str, weight: float = 1e-4):
    torch.manual_seed(0)
    if kind is AdaMAE:
        return shake(AdaMAE(variant, sampling_weight=weight, **TINY)), {"video": clips()}
    return shake(SiamMAE(**TINY_SIAMMAE, masking=AdaptiveMasking(0.75, variant, weight=weight))), pairs()


@pytest.mark.parametrize("kind", [AdaMAE, SiamMAE])
@pytest.mark.parametrize("variant", OBJECTIVES)
def test_the_sampling_loss_touches_the_mae_only_where_the_release_lets_it(kind, variant):
    model, batch = build(kind, variant, weight=0.0)
    without = gradients(model, batch)
    model.masking.weight = 1.0
    with_loss = gradients(model, batch)
    changed = {name for name in without if not torch.equal(without[name], with_loss[name])}
    sampling = {name for name in without if name.startswith("masking.")}
    still = {name for name in sampling if name.endswith("head.bias")}  # softmax cancels it up to rounding
    embedding = {name for name in without if name.startswith("encoder.patch_embed.")}
    assert changed - still == sampling - still | (embedding if variant == "released_code" else set())


@pytest.mark.parametrize("variant", OBJECTIVES)
def test_the_sampler_learns_from_the_sampling_loss_alone(variant):
    model, batch = build(AdaMAE, variant)
    errors, mask = model.errors(batch["video"])
    masked_mean(errors, mask.hidden).backward()
    assert all(parameter.grad is None for parameter in model.masking.parameters())


def test_errors_are_detached():
    model, batch = build(AdaMAE, "paper")
    errors, mask = model.errors(batch["video"])
    loss, logs = model.masking.objective(torch.zeros(()), errors, mask)
    loss.backward()
    assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("masking."))
    assert not any(value.requires_grad for value in logs.values())


# --- the model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", OBJECTIVES)
def test_the_loss_is_its_parts(variant):
    model, batch = build(AdaMAE, variant, weight=0.25)
    torch.manual_seed(5)
    loss, logs = model(batch)
    torch.manual_seed(5)
    errors, mask = model.errors(batch["video"])
    reconstruction = masked_mean(errors, mask.hidden)
    sampling = OBJECTIVES[variant].loss(mask.log_probs, mask, errors).mean()
    torch.testing.assert_close(loss, reconstruction + 0.25 * sampling)
    assert logs["loss"] == loss and logs["reconstruction"] == reconstruction and logs["sampling"] == sampling
    assert logs.items() >= distribution_logs(mask.log_probs, 4).items()


@pytest.mark.parametrize("variant", OBJECTIVES)
def test_probabilities_are_what_masks_are_drawn_from(variant):
    model, _ = build(AdaMAE, variant)
    videos = normalize_videos(clips())
    mask, probabilities = model.predict(videos)[1], model.probabilities(videos)
    assert probabilities.shape == (3, 2, 2, 2) and not probabilities.requires_grad
    torch.testing.assert_close(probabilities.flatten(1).log(), mask.log_probs)


@pytest.mark.parametrize("variant", ["paper", "ours", "reinforce"])
def test_the_sampler_sees_what_the_encoder_sees(variant):
    model, _ = build(AdaMAE, variant)
    videos, given = normalize_videos(clips()), []
    model.masking.embed.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    model.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    _, mask = model.predict(videos)
    index = mask.keep.unsqueeze(-1).expand(-1, -1, 32)
    assert torch.equal(given[0].gather(1, index), given[1])


def test_parameter_counts_against_the_released_code():
    with torch.device("meta"):
        ours, paper = AdaMAE("released_code", positions="flattened"), AdaMAE("paper")
    assert count(ours.masking) == 8_290_561  # the released sampler, to the parameter
    # Ours has a bias on the keys (768 in 12 blocks, 384 in 4) and one on the projection to the decoder.
    assert count(ours.encoder) == 86_227_200 + 12 * 768
    assert count(ours.decoder) == 7_983_744 + 4 * 384 + 384
    assert count(ours) == 102_501_505 + 12 * 768 + 4 * 384 + 384
    # The text's sampler has no table of 1568 positions, but biases on q, k and v.
    assert count(paper) - count(ours) == -1568 * 768 + 3 * 768
    assert paper.num_cubes == 1568 and paper.masking.visible == 78


@pytest.mark.parametrize("variant", OBJECTIVES)
def test_a_micro_model_trains_on_small_clips(variant):
    torch.manual_seed(0)
    model = AdaMAE(variant, image_size=64, patch_size=8, embed_dim=128, depth=4, num_heads=4, decoder_depth=1)
    optimizer, before = torch.optim.AdamW(model.parameters(), lr=1e-3), None
    batch = {"video": clips(2, 16, 64)}
    for _ in range(2):
        loss, logs = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before = before or logs
    assert model.num_cubes == 512 and model.masking.visible == 25
    assert logs["reconstruction"] < before["reconstruction"]
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_a_trained_sampler_looks_where_the_noise_is():
    """Half of each clip is grey, half is noise: `ours` comes to show the noise, which cannot be painted."""
    torch.manual_seed(0)
    model = AdaMAE("ours", **{**TINY, "image_size": 32, "depth": 1, "norm_pix": False, "mask_ratio": 0.75})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    videos = torch.full((16, 3, 4, 32, 32), 128, dtype=torch.uint8)
    for step in range(60):
        left = step % 2 == 0
        videos[..., :16] = torch.randint(256, (16, 3, 4, 32, 16)) if left else 128
        videos[..., 16:] = 128 if left else torch.randint(256, (16, 3, 4, 32, 16))
        loss, logs = model({"video": videos})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    share = model.probabilities(normalize_videos(videos))[..., 2:].sum(dim=(1, 2, 3))
    assert share.min() > 0.8 and not collapsed(logs)


def test_the_architecture_is_plain_and_tells_samplers_apart():
    shape = {"sampler_depth": 2, "sampler_dim": 16, "sampling_weight": 0.5}
    architecture = AdaMAE("paper", **shape, **TINY).architecture
    assert architecture == json.loads(json.dumps(architecture)) == AdaMAE("paper", **shape, **TINY).architecture
    for other in ({"sampler_depth": 1}, {"sampler_dim": 8}, {"sampling_weight": 0.1}, {"sampler_mlp": False}):
        assert AdaMAE("paper", **shape | other, **TINY).architecture != architecture
    assert AdaMAE("ours", **shape, **TINY).architecture != architecture


def test_a_collapsed_sampler_is_found_and_a_spread_one_is_not():
    model, batch = build(AdaMAE, "ours")
    with torch.no_grad():
        model.masking.head.weight.zero_()
        assert not collapsed(model(batch)[1])
        model.masking.head.weight.normal_(std=100)
        logs = model(batch)[1]
    assert collapsed(logs) and logs["effective_tokens"] < 4 and logs["loss"].isfinite()


# --- SiamMAE's future frame ---------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", OBJECTIVES)
def test_siammae_draws_the_futures_patches_from_the_sampler(variant):
    model, batch = build(SiamMAE, variant, weight=0.5)
    loss, logs = model(batch)
    torch.testing.assert_close(loss, logs["reconstruction"] + 0.5 * logs["sampling"])
    assert {"entropy", "effective_tokens", "collapsed"} <= logs.keys()
    future = torch.randn(2, 3, 32, 32)
    prediction, mask = model.predict(future, future)
    assert prediction.shape == (2, 16, 192) and mask.keep.shape == (2, 4)
    torch.testing.assert_close(mask.log_probs, model.masking.log_probs(model.encoder.patch_embed(future)))


def test_what_cannot_work_is_refused():
    for arguments, said in (
        ({"variant": "papers"}, "unknown sampling variant 'papers'"),
        ({"mask_ratio": 0.95}, "mask_ratio 0.95 hides all 8 patches"),
        ({"num_frames": 3}, "frames 3 must be a multiple of 2"),
    ):
        with pytest.raises(UserError, match=said):
            AdaMAE(**{**TINY, **arguments})
    with pytest.raises(UserError, match="^videos are 4x24x24, but this model was built for 4x16"):
        AdaMAE(**TINY)({"video": clips(1, 4, 24)})
