"""Guided masking: the law of the draw, where the scores come from, and training with it."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import build as build_model
from small_models import frames, give
from small_training import OPTIONS, make_loader

from lib.checkpoints import load_checkpoint, load_weights, read_losses
from lib.errors import UserError
from lib.models import guided_masking
from lib.models.guided_masking import GuidedSiamMAE, guided_mask, relative_ranks, visible_log_probs
from lib.models.uncertainty import SingleModel
from lib.models.variance_heads import GaussianSiamMAE
from lib.tokens.masking import Mask, random_mask
from lib.tokens.patches import normalize_images
from lib.training import train

DRAWS = 40_000


def build(kind=GuidedSiamMAE, **arguments):
    return build_model(kind, **{"knows_gap": True, **arguments}).train()


def pairs() -> dict[str, torch.Tensor]:
    return {"past": frames(), "future": frames(), "gap": torch.tensor([4.0, 20.0, 48.0])}


def draws(scores: list[float], ratio: float, direction: float) -> Mask:
    torch.manual_seed(0)
    return guided_mask(torch.tensor(scores).repeat(DRAWS, 1), ratio, direction)


@pytest.fixture
def cold(monkeypatch):
    """Draws that the scores alone decide."""
    monkeypatch.setattr(guided_masking, "TEMPERATURE", 2e-3)
    monkeypatch.setattr(guided_masking, "EPSILON", 1e-300)


# --- ranks and the law of the draw --------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=3))
def test_ranks_equal_a_slow_reference(rows):
    found = relative_ranks(torch.tensor(rows, dtype=torch.float32))
    for row, ranks in zip(rows, found.tolist(), strict=True):
        order = sorted(row)
        for value, rank in zip(row, ranks, strict=True):
            places = [place for place, other in enumerate(order) if other == value]
            assert rank == pytest.approx(sum(places) / len(places) / 4)


def test_ranks_know_order_alone():
    scores = torch.randn(2, 30)
    assert torch.equal(relative_ranks(scores), relative_ranks((3 * scores).exp()))
    assert relative_ranks(scores).amin() == 0 and relative_ranks(scores).amax() == 1
    assert torch.equal(relative_ranks(torch.zeros(1, 5)), torch.full((1, 5), 0.5))


@pytest.mark.parametrize(("direction", "temperature", "epsilon"), [(1.0, 0.2, 0.1), (-1.0, 0.3, 1e-9), (0.5, 0.2, 0.5)])
def test_the_draw_has_its_law_order_included(direction, temperature, epsilon, monkeypatch):
    """Sampling without replacement from the mixture at the module's head, every ordered pair counted."""
    monkeypatch.setattr(guided_masking, "TEMPERATURE", temperature)
    monkeypatch.setattr(guided_masking, "EPSILON", epsilon)
    scores = [3.0, -1.0, 10.0, 0.5]
    ranks = [2 / 3, 0.0, 1.0, 1 / 3]
    weights = [math.exp(direction * rank / temperature) for rank in ranks]
    law = [(1 - epsilon) * weight / sum(weights) + epsilon / 4 for weight in weights]
    keep = draws(scores, 0.5, direction).keep
    for first, second in itertools.permutations(range(4), 2):
        wanted = law[first] * law[second] / (1 - law[first])
        found = ((keep[:, 0] == first) & (keep[:, 1] == second)).float().mean().item()
        assert abs(found - wanted) < 4.5 * math.sqrt(wanted * (1 - wanted) / DRAWS) + 1e-9


def test_direction_0_is_random_masking():
    scores = torch.randn(2, 16)
    torch.testing.assert_close(visible_log_probs(scores, 0.0), torch.full((2, 16), -math.log(16)))
    shown = ~draws([5.0, 1.0, 9.0, 2.0], 0.5, 0.0).hidden
    counts = torch.unique(shown, dim=0, return_counts=True)[1]
    assert len(counts) == 6 and (counts / DRAWS - 1 / 6).abs().max() < 4.5 * math.sqrt(5 / 36 / DRAWS)


def test_cold_draws_are_decided_by_the_scores_alone(cold):
    scores = torch.randn(50, 16)
    for direction, largest in ((1.0, True), (-1.0, False)):
        mask = guided_mask(scores, 0.75, direction)
        assert torch.equal(mask.keep, scores.topk(4, dim=1, largest=largest).indices)
        assert torch.equal(mask.hidden.gather(1, mask.keep), torch.zeros(50, 4, dtype=torch.bool))


def test_easy_first_hides_the_certain_and_hard_first_the_uncertain():
    scores = torch.rand(400, 64)
    for direction, sign in ((1.0, -1), (-1.0, 1)):
        hidden = guided_mask(scores, 0.75, direction).hidden
        assert bool((hidden.sum(1) == 48).all())
        assert sign * (scores[hidden].mean() - scores[~hidden].mean()) > 0.3


def test_epsilon_is_a_floor():
    log_probs = visible_log_probs(torch.randn(3, 20), 1.0)
    assert bool((log_probs.exp() >= 0.1 / 20 * 0.999).all())
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(3))


def test_impossible_draws_are_refused():
    with pytest.raises(UserError, match="hides all 16 patches"):
        guided_mask(torch.randn(1, 16), 0.99, 1.0)


# --- the model ----------------------------------------------------------------------------------------------


def drawn_in_training(model, batch) -> Mask:
    """The mask that a training step uses: the last one under which its decoder predicts."""
    seen, tokens = [], model.decoder.tokens
    model.decoder.tokens = lambda latent, restore, memory: seen.append(restore) or tokens(latent, restore, memory)
    model(batch)
    model.decoder.tokens = tokens
    keep = seen[-1].argsort(dim=1)[:, :4]
    return Mask(keep, seen[-1], seen[-1] >= 4)


def test_the_first_look_is_the_models_own_variance_and_has_no_gradient():
    model = build().eval()
    past, future = normalize_images(frames()), normalize_images(frames())
    with torch.no_grad():
        memory = model.encoder(past)
    torch.manual_seed(4)
    gap = torch.tensor([4.0, 20.0, 48.0])
    scores = model.first_look(memory, future, gap)
    torch.manual_seed(4)
    mask = model.masking(model.encoder.patch_embed(future), model.grid)
    wanted = SingleModel(model).predict(past, future, mask, gap).total.mean(-1)
    assert not scores.requires_grad
    torch.testing.assert_close(scores[mask.hidden], wanted[mask.hidden])
    for row, hidden in zip(scores, mask.hidden, strict=True):
        assert (row[~hidden] == row[hidden].median()).all()


@pytest.mark.parametrize(("order", "largest"), [("easy-first", True), ("hard-first", False)])
def test_training_shows_what_the_first_look_ranks_first(order, largest, cold):
    model, batch = build(order=order), pairs()
    scores = torch.rand(3, 16)
    model.first_look = lambda *_: scores
    assert torch.equal(drawn_in_training(model, batch).keep, scores.topk(4, dim=1, largest=largest).indices)


def test_the_past_is_encoded_once_and_the_gradients_are_those_of_the_chosen_mask():
    model, batch = build(), pairs()
    sizes = []
    model.encoder.register_forward_hook(lambda _, __, tokens: sizes.append(tokens.shape[1]))
    torch.manual_seed(2)
    mask = drawn_in_training(model, batch)
    assert sizes == [1 + 16, 1 + 4, 1 + 4]
    torch.manual_seed(2)
    model(batch)[0].backward()
    plain = build(GaussianSiamMAE)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name != "calls"})
    give(plain, mask)
    plain(batch)[0].backward()
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_scores_may_come_with_the_batch(cold):
    model = build(order="easy-first", score="batch")
    batch = {**pairs(), "score": torch.rand(3, 16)}
    assert torch.equal(drawn_in_training(model, batch).keep, batch["score"].topk(4, dim=1).indices)
    for score, words in ((None, "none"), (torch.rand(3, 9), r"shape \(3, 9\)")):
        with pytest.raises(UserError, match=rf"must be of shape \(3, 16\), but is {words}"):
            model({**batch, "score": score})


def test_predictions_are_masked_at_random():
    model = build(order="easy-first", score="batch")  # no batch, no score
    past, future = normalize_images(frames()), normalize_images(frames())
    torch.manual_seed(0)
    mask = model.predict(past, future)[1]
    torch.manual_seed(0)
    assert torch.equal(mask.keep, random_mask(3, 16, 0.75).keep)


def test_the_curriculum_goes_from_easy_to_hard_and_counts_training_alone():
    model, batch = build(order="curriculum", curriculum_steps=4), pairs()
    model.eval()
    assert model(batch)[1]["direction"] == 1 and model(batch)[1]["direction"] == 1
    model.train()
    assert [model(batch)[1]["direction"].item() for _ in range(6)] == [1.0, 0.5, 0.0, -0.5, -1.0, -1.0]
    for order, wanted in (("easy-first", 1.0), ("hard-first", -1.0)):
        model = build(order=order)
        assert [model(batch)[1]["direction"].item() for _ in range(2)] == [wanted, wanted]


def test_a_run_that_stops_resumes_its_curriculum(tmp_path, monkeypatch):
    """Steps 0..7 of 20, then a fresh process's model: the same curve as the run that did not stop."""

    def model():
        return build(shaken=False, order="curriculum", curriculum_steps=40, knows_gap=False)

    whole = train(model(), make_loader(OPTIONS), OPTIONS, tmp_path / "whole")

    class Stop(Exception):
        pass

    broken, calls = model(), []
    forward = broken.forward

    def stopping(batch):
        calls.append(1)
        if len(calls) > 18:
            raise Stop
        return forward(batch)

    broken.forward = stopping
    with pytest.raises(Stop):
        train(broken, make_loader(OPTIONS), OPTIONS, tmp_path / "broken")
    assert load_checkpoint(tmp_path / "broken" / "last.pt")["step"] == 8
    resumed = train(model(), make_loader(OPTIONS), OPTIONS, tmp_path / "broken")
    for one, other in zip(whole, resumed, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert whole[0]["direction"] == pytest.approx(0.975) and whole[-1]["direction"] == pytest.approx(-0.925)


def test_checkpoints_round_trip(tmp_path):
    model = build(shaken=False, knows_gap=False)
    train(model, make_loader(OPTIONS), OPTIONS, tmp_path)
    state = load_checkpoint(tmp_path / "last.pt")
    again = load_weights(build(knows_gap=False), tmp_path / "last.pt")
    assert state["architecture"] == model.architecture | {"masking": model.masking.architecture}
    assert again.architecture == model.architecture and again.calls == 40
    assert {"direction", "nll", "mse"} <= read_losses(tmp_path)[0].keys()
    with pytest.raises(UserError, match="order hard-first instead of easy-first"):
        load_weights(build(order="easy-first", knows_gap=False), tmp_path / "last.pt")


def test_impossible_settings_are_refused():
    for arguments, words in [
        ({"order": "hard-frist"}, "did you mean 'hard-first'"),
        ({"score": "variances"}, "did you mean 'variance'"),
        ({"order": "curriculum"}, "only a curriculum has steps"),
        ({"curriculum_steps": 5}, "only a curriculum has steps"),
    ]:
        with pytest.raises(UserError, match=words):
            build(**arguments)
