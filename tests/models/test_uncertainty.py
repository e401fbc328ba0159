"""Estimators of SiamMAE's uncertainty: mixtures against the law of total variance, draws counted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import P, build, equal, scene

from lib.errors import UserError
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import (
    DeepEnsemble,
    FreshMasks,
    MCDropout,
    SingleModel,
    VisibleSubsets,
    evaluating,
    mix,
    subset,
    to_pixels,
)
from lib.models.variance_heads import GaussianSiamMAE, Prediction
from lib.tokens.masking import Mask, random_mask
from lib.tokens.patches import denormalize_images, patchify, target_patches, unpatchify

# --- mixtures -----------------------------------------------------------------------------------------------


def test_the_law_of_total_variance_on_a_known_case():
    """Means 1 and 3, variances 4 and 8: half and half they have mean 2, E[var] = 6 and var[E] = 1; in all 7."""
    ones = torch.ones(1, 1, 3)
    members = [Prediction(ones, 4 * ones, 0 * ones), Prediction(3 * ones, 8 * ones, 0 * ones)]
    mixed = mix(members)
    equal(mixed, Prediction(2 * ones, 6 * ones, ones))
    assert torch.equal(mixed.total, 7 * ones)
    with_own = mix(member._replace(epistemic=2 * ones) for member in members)
    equal(with_own, Prediction(2 * ones, 6 * ones, 3 * ones))


def test_the_total_variance_is_that_of_samples_of_the_mixture():
    torch.manual_seed(0)
    means, variances = torch.randn(4, 1, 2, 3), torch.rand(4, 1, 2, 3) + 0.1
    mixed = mix(Prediction(mean, variance, 0 * mean) for mean, variance in zip(means, variances, strict=True))
    samples = means[torch.arange(200_000) % 4] + variances[torch.arange(200_000) % 4].sqrt() * torch.randn(
        200_000, 1, 2, 3
    )
    torch.testing.assert_close(mixed.mean, samples.mean(0), rtol=0.02, atol=0.02)
    torch.testing.assert_close(mixed.total, samples.var(0), rtol=0.03, atol=0.01)


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(0, 10**6))
def test_mixtures_equal_a_slow_reference(members, seed):
    generator = torch.Generator().manual_seed(seed)
    means, own, within = torch.rand(3, members, 2, 5, 3, generator=generator, dtype=torch.float64)
    counted = torch.rand(members, 2, 5, generator=generator) < 0.6
    found = mix((Prediction(*parts) for parts in zip(means, own, within, strict=True)), counted)
    for sample in range(2):
        for patch in range(5):
            chosen = counted[:, sample, patch]
            if not chosen.any():
                assert all(bool(part[sample, patch].isnan().all()) for part in found)
                continue
            mean = means[chosen, sample, patch].mean(0)
            spread = ((means[chosen, sample, patch] - mean) ** 2).mean(0) + within[chosen, sample, patch].mean(0)
            torch.testing.assert_close(found.mean[sample, patch], mean)
            torch.testing.assert_close(found.aleatoric[sample, patch], own[chosen, sample, patch].mean(0))
            torch.testing.assert_close(found.epistemic[sample, patch], spread)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_pixel_units_are_those_of_the_true_frame(norm_pix):
    """A perfect prediction becomes the picture; sigma scales as the value does, patch by patch and colour by colour."""
    _, future, _ = scene()
    truth = target_patches(future, P, norm_pix)
    picture = patchify(denormalize_images(future), P)
    step = to_pixels(Prediction(truth + 0.5, torch.full_like(truth, 0.25), torch.ones_like(truth)), future, P, norm_pix)
    exact = to_pixels(Prediction(truth, 0 * truth, 0 * truth), future, P, norm_pix)
    torch.testing.assert_close(exact.mean, picture, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(step.aleatoric.sqrt(), step.mean - exact.mean, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(step.epistemic, 4 * step.aleatoric)
    if not norm_pix:
        torch.testing.assert_close(step.aleatoric[0, 0, :3].sqrt(), torch.tensor([0.229, 0.224, 0.225]) / 2)


# --- estimators ---------------------------------------------------------------------------------------------


def counted_encodings(model) -> list[int]:
    """A list that grows by the number of tokens at each pass of the model's encoder."""
    sizes = []
    model.encoder.register_forward_hook(lambda _, __, tokens: sizes.append(tokens.shape[1]))
    return sizes


def test_a_plain_siammae_states_no_variance():
    model = build(SiamMAE)
    prediction = SingleModel(model).predict(*scene())
    assert torch.equal(prediction.mean, model.predict(*scene())[0])
    assert not prediction.aleatoric.any() and not prediction.epistemic.any()
    assert not prediction.mean.requires_grad


def test_dropout_is_in_the_decoder_alone_and_the_encoder_runs_once():
    model = build(GaussianSiamMAE, dropout=0.5)
    sizes, modes = counted_encodings(model), []
    drops = [part for part in model.modules() if isinstance(part, torch.nn.Dropout) and part.p]
    assert len(drops) == 1 and drops[0] is model.decoder.blocks[0].drop
    model.encoder.blocks[0].register_forward_hook(lambda part, *_: modes.append(part.training))
    model.decoder.head.register_forward_hook(lambda part, *_: modes.append(part.training))
    model.train()
    past, future, mask = scene()
    torch.manual_seed(0)
    prediction = MCDropout(model, 5).predict(past, future, mask)
    assert sorted(sizes) == [1 + 4, 1 + 16] and modes == [False] * 7
    assert all(part.training for part in model.modules())
    assert bool((prediction.epistemic > 0).all())

    torch.manual_seed(0)
    model.eval()
    drops[0].train()
    with torch.no_grad():
        memory, latent = model.encoder(past), model.encoder(future, mask.keep)
        passes = torch.stack([model.read(latent, mask, memory).mean for _ in range(5)])
    torch.testing.assert_close(prediction.mean, passes.mean(0))
    torch.testing.assert_close(prediction.epistemic, passes.var(0, correction=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [SiamMAE, GaussianSiamMAE])
def test_without_dropout_the_epistemic_variance_is_exactly_zero(kind):
    model, case = build(kind), scene()
    prediction = MCDropout(model, 7).predict(*case)
    assert not prediction.epistemic.any()
    equal(prediction, SingleModel(model).predict(*case), rtol=0, atol=0)


def test_identical_members_have_no_epistemic_variance():
    model = build(GaussianSiamMAE)
    prediction = DeepEnsemble([model, build(GaussianSiamMAE), model]).predict(*scene())
    assert not prediction.epistemic.any()
    equal(prediction, SingleModel(model).predict(*scene()), rtol=0, atol=0)


def test_an_ensemble_is_the_mixture_of_its_members():
    models = [build(GaussianSiamMAE, seed=seed) for seed in range(3)]
    prediction = DeepEnsemble(models).predict(*scene())
    members = [SingleModel(model).predict(*scene()) for model in models]
    means = torch.stack([member.mean for member in members])
    torch.testing.assert_close(prediction.mean, means.mean(0))
    torch.testing.assert_close(prediction.epistemic, means.var(0, correction=0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(prediction.aleatoric, torch.stack([member.aleatoric for member in members]).mean(0))


def test_unlike_members_are_refused():
    for models in (
        [],
        [build(GaussianSiamMAE), build(GaussianSiamMAE, patch_size=8, mask_ratio=0.5)],
        [build(GaussianSiamMAE), build(GaussianSiamMAE, norm_pix=False)],
    ):
        with pytest.raises(UserError, match="one patch size, grid and target"):
            DeepEnsemble(models).predict(*scene())


def spied(model) -> list[Mask]:
    """The masks under which the model's decoder predicts, as (B, N) hidden flags in order."""
    seen, tokens = [], model.decoder.tokens

    def noted(latent, restore, memory):
        seen.append(restore >= latent.shape[1] - 1)
        return tokens(latent, restore, memory)

    model.decoder.tokens = noted
    return seen


def test_visible_subsets_hide_all_that_the_mask_hides():
    model, (past, future, mask) = build(GaussianSiamMAE), scene()
    sizes, seen = counted_encodings(model), spied(model)
    prediction = VisibleSubsets(model, draws=12).predict(past, future, mask)
    assert len(seen) == 12 and sizes.count(1 + 16) == 1 and sizes.count(1 + 3) == 12
    for hidden in seen:
        assert bool((hidden | ~mask.hidden).all()) and bool((hidden.sum(1) == 13).all())
    assert len({hidden.numpy().tobytes() for hidden in seen}) > 6
    assert bool((prediction.epistemic > 0).all())
    changed = future.clone()  # pixels that the mask hides never reach it
    patches = patchify(changed, P)
    patches[mask.hidden] = 0
    torch.manual_seed(5)
    one = VisibleSubsets(model, 4).predict(past, future, mask)
    torch.manual_seed(5)
    equal(one, VisibleSubsets(model, 4).predict(past, unpatchify(patches, P, (4, 4)), mask), rtol=0, atol=0)


def test_subsets_are_uniform():
    mask = Mask(*(part[:1].repeat(6000, *[1] * (part.ndim - 1)) for part in random_mask(1, 16, 0.75)))
    torch.manual_seed(0)
    shown = ~subset(mask, 2).hidden
    assert not (shown & mask.hidden).any() and bool((shown.sum(1) == 2).all())
    pairs = torch.unique(shown, dim=0, return_counts=True)[1]
    assert len(pairs) == 6 and bool((pairs - 1000).abs().max() < 130)  # 4 standard deviations are 115


def test_fresh_masks_count_where_they_hide():
    model, (past, future, mask) = build(GaussianSiamMAE), scene()
    seen, sizes = spied(model), counted_encodings(model)
    torch.manual_seed(0)
    prediction = FreshMasks(model, draws=40).predict(past, future, mask)
    assert sizes.count(1 + 16) == 1 and sizes.count(1 + 4) == 40
    seen = list(seen)  # the passes below are no draws
    counts = torch.stack(seen).sum(0)
    assert bool((counts.sum(1) == 40 * 12).all()) and bool((counts > 0).all())
    assert (counts - 30.0).abs().max() < 12  # 0.75 of 40, +- 4 standard deviations
    means = []
    for hidden in seen:
        drawn = torch.stack([torch.cat([row.logical_not().nonzero(), row.nonzero()]).flatten() for row in hidden])
        means.append(SingleModel(model).predict(past, future, Mask(drawn[:, :4], drawn.argsort(1), hidden)).mean)
    weights = torch.stack(seen).unsqueeze(-1).double()
    means = torch.stack(means).double()
    centre = (means * weights).sum(0) / weights.sum(0)
    spread = ((means - centre).square() * weights).sum(0) / weights.sum(0)
    torch.testing.assert_close(prediction.mean.double(), centre, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prediction.epistemic.double(), spread, rtol=1e-3, atol=1e-5)


def test_a_patch_that_no_fresh_mask_hides_is_nan():
    model, (past, future, mask) = build(GaussianSiamMAE), scene()
    seen = spied(model)
    prediction = FreshMasks(model, draws=1).predict(past, future, mask)
    for part in prediction:
        assert torch.equal(part.isnan().all(-1), ~seen[0]) and torch.equal(part.isnan().any(-1), ~seen[0])


def test_what_cannot_be_predicted_is_refused():
    model, (past, future, mask) = build(GaussianSiamMAE), scene()
    for estimator in (MCDropout(model, 0), VisibleSubsets(model, 0), FreshMasks(model, 0)):
        with pytest.raises(UserError, match="must be at least 1"):
            estimator.predict(past, future, mask)
    with pytest.raises(UserError, match="frames are 8x8"):
        SingleModel(model).predict(past, future[..., :8, :8], mask)
    with pytest.raises(UserError, match="frames are 8x8"):
        FreshMasks(model).predict(past[..., :8, :8], future, mask)


def test_modes_come_back_after_an_error():
    model = build(GaussianSiamMAE, dropout=0.1)
    model.train()
    model.encoder.eval()
    modes = [part.training for part in model.modules()]
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(part.training for part in model.modules()) and not torch.is_grad_enabled()
        raise RuntimeError
    assert [part.training for part in model.modules()] == modes and torch.is_grad_enabled()
