"""Estimators of SiamMAE's uncertainty: losses against formulas, mixtures against the law of total variance."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import OPTIONS, make_loader

from lib.checkpoints import load_checkpoint, load_weights, read_losses
from lib.errors import UserError
from lib.models.evidential import EvidentialSiamMAE, evidence, nig_nll, nig_regularizer
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import (
    DeepEnsemble,
    FreshMasks,
    MCDropout,
    SingleModel,
    VisibleSubsets,
    adopt_encoder,
    evaluating,
    mix,
    subset,
    to_pixels,
)
from lib.models.variance_heads import BOUND, GaussianSiamMAE, Prediction, beta_nll, bounded, target_patches
from lib.tokens.masking import Mask, random_mask
from lib.tokens.patches import denormalize_images, normalize_images, patchify, unpatchify
from lib.training import train

P = 4
SHAPE = {"image_size": 16, "patch_size": P, "embed_dim": 16, "depth": 1, "num_heads": 2, "mask_ratio": 0.75}
DECODER = {"decoder_embed_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2}
KINDS = [GaussianSiamMAE, EvidentialSiamMAE]


def build(kind=GaussianSiamMAE, seed: int = 0, shaken: bool = True, **arguments):
    """A tiny model; shaken: every weight moved, so that no zero hides a mistake."""
    torch.manual_seed(seed)
    blind = {} if kind is SiamMAE else {"knows_gap": False}
    model = kind(**{**SHAPE, **DECODER, **blind, **arguments})
    if shaken:
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def frames(batch: int = 3) -> torch.Tensor:
    return torch.randint(256, (batch, 3, 16, 16), dtype=torch.uint8)


def scene(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, Mask]:
    torch.manual_seed(7)
    past, future = normalize_images(frames(batch)), normalize_images(frames(batch))
    return past, future, random_mask(batch, 16, 0.75)


def equal(one: Prediction, other: Prediction, **tolerance):
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


# --- the beta-NLL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_beta_nll_has_the_gradients_of_the_paper(beta):
    """Mean: 2 s^(beta-1) (mean - y). Log-variance: s^beta (1 - error^2 / s). The weight sends no gradient."""
    torch.manual_seed(0)
    mean, log_variance, target = torch.randn(3, 50, dtype=torch.float64)
    mean.requires_grad_(), log_variance.requires_grad_()
    beta_nll(mean, log_variance, target, beta).sum().backward()
    variance, error = log_variance.detach().exp(), mean.detach() - target
    torch.testing.assert_close(mean.grad, 2 * variance ** (beta - 1) * error)
    torch.testing.assert_close(log_variance.grad, variance**beta * (1 - error**2 / variance))


def test_beta_1_gives_the_mean_the_gradient_of_the_mean_squared_error():
    mean, log_variance, target = torch.randn(3, 20, dtype=torch.float64)
    mean.requires_grad_()
    (found,) = torch.autograd.grad(beta_nll(mean, log_variance, target, 1.0).sum(), mean)
    (wanted,) = torch.autograd.grad((mean - target).square().sum(), mean)
    torch.testing.assert_close(found, wanted)


def test_beta_0_is_twice_the_gaussians_nll_without_its_constant():
    mean, log_variance, target = torch.randn(3, 20, dtype=torch.float64)
    likelihood = torch.distributions.Normal(mean, (log_variance / 2).exp()).log_prob(target)
    torch.testing.assert_close(beta_nll(mean, log_variance, target, 0.0), -2 * likelihood - math.log(2 * math.pi))


def test_the_log_variance_is_bounded_without_a_dead_end():
    raw = torch.tensor([-30.0, -8.0, 0.0, 8.0, 30.0], requires_grad=True)
    values = bounded(raw)
    assert values.abs().max() <= BOUND and values[2] == 0 and bool((values.diff() > 0).all())
    values.sum().backward()
    assert bool((raw.grad > 0).all()) and raw.grad[2] == 1


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_head_recovers_a_known_noise(beta):
    """y = sin(3x) + (0.1 + 0.5 x^2) noise: mean and sigma are fitted with the loss and the bounded log-variance."""
    torch.manual_seed(0)
    x = torch.rand(4000, 1) * 2 - 1
    sigma = 0.1 + 0.5 * x.square()
    y = (3 * x).sin() + sigma * torch.randn_like(x)
    trunk = torch.cat([torch.cos(math.pi / 2 * k * (x + 1)) for k in range(10)], dim=1)
    head = torch.nn.Linear(10, 2)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        mean, raw = head(trunk).split(1, dim=1)
        beta_nll(mean, bounded(raw), y, beta).mean().backward()
        optimizer.step()
    mean, raw = head(trunk).detach().split(1, dim=1)
    found = (bounded(raw) / 2).exp()
    assert (mean - (3 * x).sin()).abs().mean() < 0.03
    assert ((found - sigma).abs() / sigma).mean() < 0.08


# --- the Gaussian model -------------------------------------------------------------------------------------


def linear(part: torch.nn.Linear, values: torch.Tensor) -> torch.Tensor:
    return values @ part.weight.T + (0 if part.bias is None else part.bias)


def spread_maps(head, tokens: torch.Tensor, gap: torch.Tensor | None = None) -> torch.Tensor:
    """The head by its formula, GELU by the normal distribution's function."""
    hidden = linear(head.hidden, tokens)
    if gap is not None:
        hidden = hidden + torch.log(gap / 16)[:, None, None] * head.gap.weight[:, 0]
    return linear(head.maps, hidden * torch.distributions.Normal(0, 1).cdf(hidden))


def reference_gaussian(model: GaussianSiamMAE, past, future, mask):
    """Means and log-variances by pixel and colour, value by value, from the decoder's tokens."""
    tokens = []
    handle = model.decoder.head.register_forward_hook(lambda _, inputs, __: tokens.append(inputs[0]))
    model.predict(past, future, mask)
    handle.remove()
    mean, raw = linear(model.decoder.head, tokens[0]), spread_maps(model.spread, tokens[0])
    spread = torch.empty_like(mean)
    for value in range(mean.shape[-1]):
        spread[..., value] = BOUND * torch.tanh(raw[..., value // 3] / BOUND)  # three colours of one pixel in a row
    return mean, spread


@pytest.mark.parametrize(("beta", "norm_pix"), [(0.5, True), (0.0, False)])
def test_the_gaussian_models_loss_and_logs_equal_a_reference(beta, norm_pix):
    model = build(beta=beta, norm_pix=norm_pix)
    past, future, mask = scene()
    mean, spread = (part.detach() for part in reference_gaussian(model, past, future, mask))
    target = target_patches(future, P, norm_pix)
    losses = spread.exp() ** beta * ((mean - target) ** 2 / spread.exp() + spread)
    nll = -torch.distributions.Normal(mean, spread.exp().sqrt()).log_prob(target)
    model.draw_mask = lambda *_: mask
    pictures = {name: denormalize_images(images) for name, images in (("past", past), ("future", future))}
    loss, logs = model(pictures)
    hidden = mask.hidden
    torch.testing.assert_close(loss, losses[hidden].mean(), rtol=1e-4, atol=1e-5)
    assert list(logs) == ["loss", "mse", "nll", "log_variance"] and loss.requires_grad
    wanted = [losses[hidden], (mean - target)[hidden].square(), nll[hidden], spread[hidden]]
    for value, reference in zip(logs.values(), wanted, strict=True):
        assert not value.requires_grad
        torch.testing.assert_close(value, reference.mean(), rtol=1e-4, atol=1e-5)

    prediction = SingleModel(model).predict(past, future, mask)
    equal(prediction, Prediction(mean, spread.exp(), torch.zeros_like(mean)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prediction.total, prediction.aleatoric)
    assert torch.equal(model.predict(past, future, mask)[0], prediction.mean)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_training_starts_as_plain_siammae_does(kind, dropout):
    """The same seed gives the same weights; the first prediction is the same and its aleatoric variance is 1."""
    plain, model = build(SiamMAE, shaken=False), build(kind, shaken=False, dropout=dropout)
    past, future, mask = scene()
    prediction = SingleModel(model).predict(past, future, mask)
    assert torch.equal(prediction.mean, plain.predict(past, future, mask)[0])
    torch.testing.assert_close(prediction.aleatoric, torch.ones_like(prediction.mean))


def gradients(model, batch) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    model.zero_grad()
    model(batch)[0].backward()
    return {name: part.grad for name, part in model.named_parameters()}


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_first_gradient_is_plain_siammaes(beta):
    batch = {"past": frames(), "future": frames()}
    plain = gradients(build(SiamMAE, shaken=False), batch)
    found = gradients(build(shaken=False, beta=beta), batch)
    assert all(name.startswith("spread.") for name in found.keys() - plain.keys())
    for name, wanted in plain.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6)
    assert bool(found["spread.maps.weight"].any())


def test_with_beta_1_and_detached_input_the_mean_is_trained_as_plain_siammaes():
    batch = {"past": frames(), "future": frames()}
    model, plain = build(beta=1.0, detach_input=True), SiamMAE(**SHAPE, **DECODER)
    plain.load_state_dict({name: part for name, part in model.state_dict().items() if not name.startswith("spread.")})
    found = gradients(model, batch)
    for name, wanted in gradients(plain, batch).items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6)
    attached = gradients(build(beta=1.0), batch)
    assert not torch.allclose(attached["decoder.norm.weight"], found["decoder.norm.weight"], rtol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_spread_may_depend_on_the_gap_and_the_mean_does_not(kind):
    """The head's numbers equal the formula's, pair by pair; at 16 frames they are those of a head without a gap."""
    model, blind = build(kind, knows_gap=True), build(kind)
    state = model.state_dict()
    blind.load_state_dict({name: part for name, part in state.items() if name != "spread.gap.weight"})
    past, future, mask = scene()
    gap = torch.tensor([4.0, 16.0, 48.0])
    with torch.no_grad():
        latent, memory = model.encoder(future, mask.keep), model.encoder(past)
        tokens = model.decoder.tokens(latent, mask.restore, memory)
        _, maps = model.distribute(latent, mask, memory, gap)
        torch.testing.assert_close(
            torch.cat(maps, dim=-1),
            spread_maps(model.spread, tokens, gap).unflatten(-1, (model.maps, P * P)).transpose(-1, -2),
            rtol=1e-4,
            atol=1e-5,
        )
    for estimator in (
        SingleModel(model),
        MCDropout(model, 2),
        DeepEnsemble([model, model]),
        VisibleSubsets(model, 1, 1.0),
    ):
        found, same = estimator.predict(past, future, mask, gap), SingleModel(blind).predict(past, future, mask)
        torch.testing.assert_close(found.mean, same.mean)
        torch.testing.assert_close(found.total[1], same.total[1])
        assert not torch.allclose(found.total[0], same.total[0]) and not torch.allclose(found.total[2], same.total[2])
    for wrong in (None, gap[:2]):
        with pytest.raises(UserError, match="depends on the gap"):
            SingleModel(model).predict(past, future, mask, wrong)


def test_training_teaches_that_noise_grows_with_the_gap():
    """Futures are the past, each pixel with noise of a size that only the gap tells: sigma must follow it."""
    model = build(shaken=False, knows_gap=True, norm_pix=False).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(150):
        torch.manual_seed(step)
        gap = torch.tensor([4.0, 12.0, 48.0]).repeat_interleave(8)
        noise = torch.randn(24, 3, 16, 16) * (2 * gap)[:, None, None, None]
        past = torch.full((24, 3, 16, 16), 128, dtype=torch.uint8)
        loss, _ = model({"past": past, "future": (past + noise).clamp(0, 255).to(torch.uint8), "gap": gap})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    past, future, mask = scene()
    sigma = SingleModel(model).predict(past, past, mask, torch.tensor([4.0, 12.0, 48.0])).total.sqrt().mean(dim=(1, 2))
    assert sigma[1] > 1.5 * sigma[0] and sigma[2] > 1.5 * sigma[1]


def test_the_head_is_light():
    with torch.device("meta"):
        plain, heads = SiamMAE(), [kind() for kind in KINDS]
    size = sum(part.numel() for part in plain.parameters())
    extra = [sum(part.numel() for part in model.parameters()) - size for model in heads]
    hidden = 257 * 256 + 256  # and a factor for the gap; the decoder is 256 wide
    assert extra == [hidden + 257 * 256, hidden + 3 * 257 * 256]  # a number a pixel, or three


@pytest.mark.parametrize("kind", KINDS)
def test_adaptive_masking_works_with_a_distribution(kind):
    model = build(kind, masking="ours", mask_ratio=0.5)
    loss, logs = model({"past": frames(), "future": frames()})
    assert {"mse", "nll", "reconstruction", "sampling", "entropy"} <= logs.keys()
    torch.testing.assert_close(loss, logs["reconstruction"] + 1e-4 * logs["sampling"])


def test_impossible_arguments_are_refused():
    for arguments, words in [({"beta": 1.5}, "beta 1.5"), ({"dropout": 1.0}, "dropout 1.0")]:
        with pytest.raises(UserError, match=words):
            build(**arguments)
    with pytest.raises(UserError, match="evidential weight -1"):
        build(EvidentialSiamMAE, evidential_weight=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_round_trip(kind, tmp_path):
    options = {"dropout": 0.2, "detach_input": True}
    model = build(kind, shaken=False, **options)
    train(model, make_loader(OPTIONS), OPTIONS, tmp_path)
    state = load_checkpoint(tmp_path / "last.pt")
    again = load_weights(kind(**state["architecture"]), tmp_path / "last.pt").eval()
    assert again.architecture == model.architecture and model.architecture["dropout"] == 0.2
    past, future, mask = scene()
    equal(
        SingleModel(again).predict(past, future, mask), SingleModel(model).predict(past, future, mask), rtol=0, atol=0
    )
    rows = read_losses(tmp_path)
    assert len(rows) == OPTIONS.steps and {"mse", "nll"} <= rows[0].keys()
    assert all(math.isfinite(value) for row in rows for value in row.values())
    with pytest.raises(UserError, match="dropout 0.2 instead of 0.0"):
        load_weights(build(kind), tmp_path / "last.pt")
    with pytest.raises(UserError, match="another architecture"):
        load_weights(build(SiamMAE), tmp_path / "last.pt")


# --- evidential regression ----------------------------------------------------------------------------------


def test_the_evidential_nll_is_the_student_ts_and_equals_the_papers_formula():
    """The paper's formula in plain floats, and an independent way: integrate mean and variance out numerically."""
    for error, nu, alpha, beta in [(0.3, 0.7, 1.4, 0.9), (-2.0, 3.0, 2.5, 0.2), (0.0, 0.1, 5.0, 4.0)]:
        omega = 2 * beta * (1 + nu)
        formula = 0.5 * math.log(math.pi / nu) - alpha * math.log(omega)
        formula += (alpha + 0.5) * math.log(error**2 * nu + omega) + math.lgamma(alpha) - math.lgamma(alpha + 0.5)
        found = nig_nll(*(torch.tensor(value, dtype=torch.float64) for value in (error, nu, alpha, beta)))
        assert found.item() == pytest.approx(formula, rel=1e-9)

        precision = torch.logspace(
            -8, 5, 200_001, base=math.e, dtype=torch.float64
        )  # 1 / variance ~ Gamma(alpha, beta)
        gamma = torch.distributions.Gamma(torch.tensor(alpha).double(), torch.tensor(beta).double())
        spread = ((1 + 1 / nu) / precision).sqrt()  # of the value, once its mean ~ N(gamma, variance / nu) is out
        density = (
            gamma.log_prob(precision) + torch.distributions.Normal(0.0, spread).log_prob(torch.tensor(error))
        ).exp()
        assert found.item() == pytest.approx(-torch.trapezoid(density, precision).log().item(), rel=1e-3)


def test_the_evidential_likelihood_does_not_know_nu():
    """Why it is contested: nu moves freely, if beta (1 + nu) / nu is held, though the epistemic variance follows it."""
    error = torch.linspace(-3, 3, 11, dtype=torch.float64)
    nu = torch.tensor([0.05, 0.5, 5.0, 50.0], dtype=torch.float64).unsqueeze(1)
    alpha, scale = torch.tensor(2.0, dtype=torch.float64), 1.3
    beta = scale * nu / (1 + nu)
    values = nig_nll(error, nu, alpha, beta)
    torch.testing.assert_close(values, values[:1].expand_as(values))
    epistemic = beta / (nu * (alpha - 1))
    assert epistemic.max() > 20 * epistemic.min()


def test_the_evidential_models_loss_and_variances_equal_a_reference():
    model = build(EvidentialSiamMAE, evidential_weight=0.05)
    past, future, mask = scene()
    tokens = model.decoder.tokens(model.encoder(future, mask.keep), mask.restore, model.encoder(past)).detach()
    mean = linear(model.decoder.head, tokens).detach().double()
    raw = spread_maps(model.spread, tokens).detach().double().unflatten(-1, (3, P * P)).repeat_interleave(3, dim=-1)
    nu, excess, beta = ((1 + raw[:, :, i].exp()).log() + 1e-4 for i in range(3))
    target = target_patches(future, P).double()
    omega, alpha = 2 * beta * (1 + nu), excess + 1
    nll = 0.5 * (math.pi / nu).log() - alpha * omega.log() + alpha.lgamma() - (alpha + 0.5).lgamma()
    nll = nll + (alpha + 0.5) * ((target - mean) ** 2 * nu + omega).log()
    regularizer = (target - mean).abs() * (2 * nu + alpha)

    model.draw_mask = lambda *_: mask
    loss, logs = model({"past": denormalize_images(past), "future": denormalize_images(future)})
    wanted = (nll + 0.05 * regularizer)[mask.hidden].mean().float()
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logs["nll"], nll[mask.hidden].mean().float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logs["regularizer"], regularizer[mask.hidden].mean().float(), rtol=1e-4, atol=1e-5)

    prediction = SingleModel(model).predict(past, future, mask)
    reference = Prediction(mean.float(), (beta / excess).float(), (beta / (nu * excess)).float())
    equal(prediction, reference, rtol=1e-3, atol=1e-5)
    student = beta * (1 + nu) / (nu * excess)  # the Student-t's variance is the sum of the two
    torch.testing.assert_close(prediction.total, student.float(), rtol=1e-3, atol=1e-5)


def test_evidence_is_in_range_for_any_output():
    nu, excess, beta = evidence(tuple(torch.tensor([-1e4, 0.0, 1e4]) for _ in range(3)))
    for part in (nu, excess, beta):
        assert bool((part > 0).all()) and bool(part.isfinite().all())
    assert bool(nig_nll(torch.tensor(0.5), nu, 1 + excess, beta).isfinite().all())
    assert nig_regularizer(torch.tensor(-2.0), torch.tensor(3.0), torch.tensor(1.5)) == 15


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
    model = build(dropout=0.5)
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


def test_dropout_follows_each_part_of_the_block():
    """With nearly everything dropped the tokens pass through unchanged; without dropout the blocks agree."""
    model = build(dropout=0.999999)
    block = model.decoder.blocks[0]
    tokens, memory = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    torch.manual_seed(0)
    assert torch.equal(block.train()(tokens, memory), tokens)
    plain = build().decoder.blocks[0]
    plain.load_state_dict(block.state_dict())
    assert torch.equal(block.eval()(tokens, memory), plain(tokens, memory))


@pytest.mark.parametrize("kind", [SiamMAE, GaussianSiamMAE])
def test_without_dropout_the_epistemic_variance_is_exactly_zero(kind):
    model, case = build(kind), scene()
    prediction = MCDropout(model, 7).predict(*case)
    assert not prediction.epistemic.any()
    equal(prediction, SingleModel(model).predict(*case), rtol=0, atol=0)


def test_identical_members_have_no_epistemic_variance_and_share_the_encoder():
    model, twin = build(), build()
    twin.load_state_dict(model.state_dict())
    sizes, others = counted_encodings(model), counted_encodings(twin)
    prediction = DeepEnsemble([model, twin, model]).predict(*scene())
    assert not prediction.epistemic.any() and len(sizes) == 2 and not others
    equal(prediction, SingleModel(model).predict(*scene()), rtol=0, atol=0)


def test_an_ensemble_is_the_mixture_of_its_members():
    models = [build(seed=seed) for seed in range(3)]
    prediction = DeepEnsemble(models).predict(*scene())
    members = [SingleModel(model).predict(*scene()) for model in models]
    means = torch.stack([member.mean for member in members])
    torch.testing.assert_close(prediction.mean, means.mean(0))
    torch.testing.assert_close(prediction.epistemic, means.var(0, correction=0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(prediction.aleatoric, torch.stack([member.aleatoric for member in members]).mean(0))


def test_the_cheap_ensemble_trains_decoders_on_one_encoder(tmp_path):
    first, member = build(), build(seed=1, shaken=False)
    adopt_encoder(member, first.encoder)
    train(member, make_loader(OPTIONS), OPTIONS, tmp_path)
    reloaded = load_weights(build(seed=2), tmp_path / "last.pt").eval()
    for name, value in first.encoder.state_dict().items():
        assert torch.equal(reloaded.encoder.state_dict()[name], value)
    sizes = counted_encodings(reloaded)
    prediction = DeepEnsemble([first, reloaded]).predict(*scene())
    assert not sizes and bool((prediction.epistemic > 0).all())
    means = [SingleModel(model).predict(*scene()).mean for model in (first, reloaded)]
    torch.testing.assert_close(prediction.epistemic, (means[0] - means[1]).square() / 4, rtol=1e-4, atol=1e-6)


def test_unlike_members_are_refused():
    for models in ([], [build(), build(patch_size=8, mask_ratio=0.5)], [build(), build(norm_pix=False)]):
        with pytest.raises(UserError, match="one patch size, grid and target"):
            DeepEnsemble(models).predict(*scene())


def spied(model) -> list[Mask]:
    """The masks under which the model's decoder is asked, as (B, N) hidden flags in order."""
    seen, tokens = [], model.decoder.tokens

    def noted(latent, restore, memory):
        seen.append(restore >= latent.shape[1] - 1)
        return tokens(latent, restore, memory)

    model.decoder.tokens = noted
    return seen


def test_visible_subsets_hide_all_that_the_mask_hides():
    model, (past, future, mask) = build(), scene()
    sizes, seen = counted_encodings(model), spied(model)
    prediction = VisibleSubsets(model, draws=12, share=0.5).predict(past, future, mask)
    assert len(seen) == 12 and sizes.count(1 + 16) == 1 and sizes.count(1 + 2) == 12
    for hidden in seen:
        assert bool((hidden | ~mask.hidden).all()) and bool((hidden.sum(1) == 14).all())
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
    model, (past, future, mask) = build(), scene()
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
    model, (past, future, mask) = build(), scene()
    seen = spied(model)
    prediction = FreshMasks(model, draws=1).predict(past, future, mask)
    for part in prediction:
        assert torch.equal(part.isnan().all(-1), ~seen[0]) and torch.equal(part.isnan().any(-1), ~seen[0])


def test_impossible_questions_are_refused():
    model, (past, future, mask) = build(), scene()
    for estimator in (MCDropout(model, 0), VisibleSubsets(model, 0), FreshMasks(model, 0)):
        with pytest.raises(UserError, match="must be at least 1, not 0"):
            estimator.predict(past, future, mask)
    with pytest.raises(UserError, match="share 1.5 of the visible"):
        VisibleSubsets(model, share=1.5).predict(past, future, mask)
    with pytest.raises(UserError, match="frames are 8x8"):
        SingleModel(model).predict(past, future[..., :8, :8], mask)
    with pytest.raises(UserError, match="frames are 8x8"):
        FreshMasks(model).predict(past[..., :8, :8], future, mask)


def test_modes_come_back_after_an_error():
    model = build(dropout=0.1)
    model.train()
    model.encoder.eval()
    modes = [part.training for part in model.modules()]
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(part.training for part in model.modules()) and not torch.is_grad_enabled()
        raise RuntimeError
    assert [part.training for part in model.modules()] == modes and torch.is_grad_enabled()
