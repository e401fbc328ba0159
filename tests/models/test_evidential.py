"""Evidential regression: the likelihood against the paper and by integration, the model against a reference."""

import math

import pytest
import torch
from small_models import P, build, equal, give, linear, scene, variance_maps

from lib.models.evidential import EvidentialSiamMAE, evidence, nig_nll, nig_regularizer
from lib.models.uncertainty import SingleModel
from lib.models.variance_heads import Prediction
from lib.tokens.patches import denormalize_images, target_patches


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
    raw = (
        variance_maps(model.variance_head, tokens)
        .detach()
        .double()
        .unflatten(-1, (3, P * P))
        .repeat_interleave(3, dim=-1)
    )
    nu, excess, beta = ((1 + raw[:, :, i].exp()).log() + 1e-4 for i in range(3))
    target = target_patches(future, P, norm_pix=True).double()
    omega, alpha = 2 * beta * (1 + nu), excess + 1
    nll = 0.5 * (math.pi / nu).log() - alpha * omega.log() + alpha.lgamma() - (alpha + 0.5).lgamma()
    nll = nll + (alpha + 0.5) * ((target - mean) ** 2 * nu + omega).log()
    regularizer = (target - mean).abs() * (2 * nu + alpha)

    give(model, mask)
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
