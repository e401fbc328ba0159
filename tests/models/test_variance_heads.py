"""SiamMAE with a Gaussian: the loss against formulas, the head by what it learns, training as plain SiamMAE does."""

import math

import pytest
import torch
from small_models import P, build, equal, frames, give, linear, scene, variance_maps
from small_training import OPTIONS, make_loader

from lib.checkpoints import load_checkpoint, load_weights, read_losses
from lib.errors import UserError
from lib.models import uncertainty
from lib.models.adaptive_sampler import AdaptiveMasking
from lib.models.evidential import EvidentialSiamMAE
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import DeepEnsemble, MCDropout, SingleModel, VisibleSubsets
from lib.models.variance_heads import BOUND, GaussianSiamMAE, Prediction, beta_nll, bounded
from lib.tokens.patches import denormalize_images, target_patches
from lib.training import train

KINDS = [GaussianSiamMAE, EvidentialSiamMAE]

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


def reference_gaussian(model: GaussianSiamMAE, past, future, mask):
    """Means and log-variances by pixel and colour, value by value, from the decoder's tokens."""
    tokens = []
    handle = model.decoder.head.register_forward_hook(lambda _, inputs, __: tokens.append(inputs[0]))
    model.predict(past, future, mask)
    handle.remove()
    mean, raw = linear(model.decoder.head, tokens[0]), variance_maps(model.variance_head, tokens[0])
    log_variance = torch.empty_like(mean)
    for value in range(mean.shape[-1]):
        log_variance[..., value] = BOUND * torch.tanh(raw[..., value // 3] / BOUND)  # three colours of a pixel in a row
    return mean, log_variance


@pytest.mark.parametrize(("beta", "norm_pix"), [(0.5, True), (0.0, False)])
def test_the_gaussian_models_loss_and_logs_equal_a_reference(beta, norm_pix):
    model = build(GaussianSiamMAE, beta=beta, norm_pix=norm_pix)
    past, future, mask = scene()
    mean, log_variance = (part.detach() for part in reference_gaussian(model, past, future, mask))
    target = target_patches(future, P, norm_pix)
    losses = log_variance.exp() ** beta * ((mean - target) ** 2 / log_variance.exp() + log_variance)
    nll = -torch.distributions.Normal(mean, log_variance.exp().sqrt()).log_prob(target)
    give(model, mask)
    pictures = {name: denormalize_images(images) for name, images in (("past", past), ("future", future))}
    loss, logs = model(pictures)
    hidden = mask.hidden
    torch.testing.assert_close(loss, losses[hidden].mean(), rtol=1e-4, atol=1e-5)
    assert list(logs) == ["loss", "mse", "nll", "log_variance"] and loss.requires_grad
    wanted = [losses[hidden], (mean - target)[hidden].square(), nll[hidden], log_variance[hidden]]
    for value, reference in zip(logs.values(), wanted, strict=True):
        assert not value.requires_grad
        torch.testing.assert_close(value, reference.mean(), rtol=1e-4, atol=1e-5)

    prediction = SingleModel(model).predict(past, future, mask)
    equal(prediction, Prediction(mean, log_variance.exp(), torch.zeros_like(mean)), rtol=1e-4, atol=1e-5)
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
    found = gradients(build(GaussianSiamMAE, shaken=False, beta=beta), batch)
    assert all(name.startswith("variance_head.") for name in found.keys() - plain.keys())
    for name, wanted in plain.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6)
    assert bool(found["variance_head.maps.weight"].any())


def test_with_beta_1_and_detached_input_the_mean_is_trained_as_plain_siammaes():
    batch = {"past": frames(), "future": frames()}
    model, plain = build(GaussianSiamMAE, beta=1.0, detach_input=True), build(SiamMAE)
    plain.load_state_dict(
        {name: part for name, part in model.state_dict().items() if not name.startswith("variance_head.")}
    )
    found = gradients(model, batch)
    for name, wanted in gradients(plain, batch).items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6)
    attached = gradients(build(GaussianSiamMAE, beta=1.0), batch)
    assert not torch.allclose(attached["decoder.norm.weight"], found["decoder.norm.weight"], rtol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_variance_may_depend_on_the_gap_and_the_mean_does_not(kind, monkeypatch):
    """The head's numbers equal the formula's, pair by pair; at 16 frames they are those of a head without a gap."""
    monkeypatch.setattr(uncertainty, "FRACTION", 1)
    model, blind = build(kind, knows_gap=True), build(kind)
    state = model.state_dict()
    blind.load_state_dict({name: part for name, part in state.items() if name != "variance_head.gap.weight"})
    past, future, mask = scene()
    gap = torch.tensor([4.0, 16.0, 48.0])
    with torch.no_grad():
        latent, memory = model.encoder(future, mask.keep), model.encoder(past)
        tokens = model.decoder.tokens(latent, mask.restore, memory)
        _, maps = model.distribute(latent, mask, memory, gap)
        torch.testing.assert_close(
            torch.cat(maps, dim=-1),
            variance_maps(model.variance_head, tokens, gap).unflatten(-1, (model.maps, P * P)).transpose(-1, -2),
            rtol=1e-4,
            atol=1e-5,
        )
    for estimator in (
        SingleModel(model),
        MCDropout(model, 2),
        DeepEnsemble([model, model]),
        VisibleSubsets(model, 1),
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
    model = build(GaussianSiamMAE, shaken=False, knows_gap=True, norm_pix=False).train()
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
    model = build(kind, masking=AdaptiveMasking(0.5))
    loss, logs = model({"past": frames(), "future": frames()})
    assert {"mse", "nll", "reconstruction", "sampling", "entropy"} <= logs.keys()
    torch.testing.assert_close(loss, logs["reconstruction"] + 1e-4 * logs["sampling"])


def test_impossible_arguments_are_refused():
    for arguments, words in [({"beta": 1.5}, "beta 1.5"), ({"dropout": 1.0}, "dropout 1.0")]:
        with pytest.raises(UserError, match=words):
            build(GaussianSiamMAE, **arguments)
    with pytest.raises(UserError, match="evidential weight -1"):
        build(EvidentialSiamMAE, evidential_weight=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_round_trip(kind, tmp_path):
    options = {"dropout": 0.2, "detach_input": True}
    model = build(kind, shaken=False, **options)
    train(model, make_loader(OPTIONS), OPTIONS, tmp_path)
    state = load_checkpoint(tmp_path / "last.pt")
    again = load_weights(kind(**{**state["architecture"], "masking": model.masking}), tmp_path / "last.pt").eval()
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


def test_dropout_follows_each_part_of_the_block():
    """With nearly everything dropped the tokens pass through unchanged; without dropout the blocks agree."""
    model = build(GaussianSiamMAE, dropout=0.999999)
    block = model.decoder.blocks[0]
    tokens, memory = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    torch.manual_seed(0)
    assert torch.equal(block.train()(tokens, memory), tokens)
    plain = build(GaussianSiamMAE).decoder.blocks[0]
    plain.load_state_dict(block.state_dict())
    assert torch.equal(block.eval()(tokens, memory), plain(tokens, memory))
