"""k-NN, linear probe, top-k, views and intervals against slow or exact references and cases done by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from lib.errors import UserError
from lib.evaluation import recognition
from lib.evaluation.recognition import average_views, knn, linear_probe, topk_accuracy, wilson_interval


def clusters(per_class: int, classes: int, width: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features around one centre a class; the centres are the same for every seed."""
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(classes).repeat(per_class)
    noise = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(seed))
    return centres[labels] + spread * noise, labels


# --- k-NN ---------------------------------------------------------------------------------------------------


def slow_knn(train, labels, test, k, temperature):
    """One sample after the other, in Python floats: DINO's vote, then shares of it."""
    rows = []
    for sample in test.tolist():
        pairs = []
        for other, label in zip(train.tolist(), labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(sample, other, strict=True))
            cosine = dot / math.sqrt(sum(a * a for a in sample) * sum(b * b for b in other))
            pairs.append((cosine, label))
        votes = [0.0] * (max(labels.tolist()) + 1)
        for cosine, label in sorted(pairs, reverse=True)[:k]:
            votes[label] += math.exp(cosine / temperature)
        rows.append([vote / sum(votes) for vote in votes])
    return torch.tensor(rows)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5), (30, 1.0)])
@pytest.mark.parametrize("pairs_at_once", [1, 70, 10_000])
def test_knn_equals_a_slow_reading(monkeypatch, k, temperature, pairs_at_once):
    monkeypatch.setattr(recognition, "PAIRS_AT_ONCE", pairs_at_once)
    train, labels = clusters(10, 3, 6, 2.0, 0)
    test, _ = clusters(3, 3, 6, 2.0, 1)
    votes = knn(train, labels, test, k, temperature)
    torch.testing.assert_close(votes, slow_knn(train, labels, test, k, temperature), rtol=0, atol=1e-5)


def test_knn_by_hand():
    train = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 0.5]])  # lengths do not count
    test = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    votes = knn(train, torch.tensor([1, 0, 2]), test, k=3, temperature=1.0)
    e = math.e
    expected = torch.tensor([[1 / (2 + e), e / (2 + e), 1 / (2 + e)], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(votes, expected)
    assert knn(train, torch.tensor([1, 0, 2]), test[:1], k=1).tolist() == [[0, 1, 0]]


def test_a_near_neighbour_outvotes_two_far_ones_only_at_a_low_temperature():
    train = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]])
    labels, test = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]])
    assert knn(train, labels, test, 3, temperature=0.07).argmax() == 0  # exp(0.4 / 0.07) > 2
    assert knn(train, labels, test, 3, temperature=1.0).argmax() == 1  # exp(0.4) < 2


def test_a_very_low_temperature_does_not_overflow():
    train, labels = clusters(5, 2, 4, 1.0, 0)
    assert knn(train, labels, train, k=3, temperature=1e-4).isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 9}, "k 9 must be between 1 and the 8 training samples"),
        ({"k": 0}, "k 0 must be between"),
        ({"temperature": 0.0}, "temperature 0.0 must be above 0"),
        ({"train_labels": torch.zeros(7, dtype=torch.long)}, r"are \[\(8, 3\), \(7,\), \(2, 3\)\]; expected"),
        ({"test_features": torch.zeros(2, 4)}, r"expected \(n, D\), \(n,\) and \(M, D\)"),
        ({"train_features": torch.zeros(8, 3) / 0}, "a training feature is not finite"),
        ({"test_features": torch.full((2, 3), math.inf)}, "a test feature is not finite"),
        ({"train_labels": torch.tensor([0, 1] * 3 + [1, -1])}, "has no label"),
        ({"train_features": torch.zeros(0, 3), "train_labels": torch.zeros(0, dtype=torch.long)}, "expected"),
    ],
)
def test_knn_refuses_what_it_cannot_judge(change, words):
    given_ = {
        "train_features": torch.ones(8, 3),
        "train_labels": torch.arange(8) % 2,
        "test_features": torch.ones(2, 3),
    }
    with pytest.raises(UserError, match=words):
        knn(**{**given_, "k": 2, **change})


# --- linear probe -------------------------------------------------------------------------------------------


def slow_probe(train, labels, test, strength, steps=60):
    """Newton's method in float64 with the Hessian from autograd, on features standardised column by column."""
    columns = []
    for values in train.double().T:
        deviation = values.std(correction=0)
        columns.append((values.mean(), deviation if deviation > 0 else torch.tensor(1.0)))
    train, test = (
        torch.stack([(c - m) / d for c, (m, d) in zip(x.double().T, columns, strict=True)], 1) for x in (train, test)
    )
    width, classes = train.shape[1], int(labels.max()) + 1

    def objective(flat):
        weights, bias = flat[: width * classes].view(width, classes), flat[width * classes :]
        return F.cross_entropy(train @ weights + bias, labels) + strength / 2 * weights.square().sum()

    flat = torch.zeros((width + 1) * classes, dtype=torch.float64)
    for _ in range(steps):
        gradient = torch.autograd.functional.jacobian(objective, flat)
        hessian = torch.autograd.functional.hessian(objective, flat)
        flat = flat - torch.linalg.lstsq(hessian, gradient[:, None], driver="gelsd").solution[:, 0]
    weights, bias = flat[: width * classes].view(width, classes), flat[width * classes :]
    return (test @ weights + bias).log_softmax(dim=-1).float()


@pytest.mark.parametrize("strength", [1.0, 0.1, 0.003])
def test_the_probe_equals_newtons_method(strength):
    train, labels = clusters(12, 3, 4, 2.0, 0)
    train = train * torch.tensor([1.0, 100.0, 0.01, 1.0]) + 5  # features of every scale
    test = clusters(4, 3, 4, 2.0, 1)[0] * torch.tensor([1.0, 100.0, 0.01, 1.0]) + 5
    probe = linear_probe(train, labels, test, strengths=[strength])
    assert probe.strength == strength and math.isnan(probe.held_out[strength])
    torch.testing.assert_close(probe.log_probabilities, slow_probe(train, labels, test, strength), rtol=0, atol=2e-4)


def test_a_constant_feature_changes_nothing():
    train, labels = clusters(8, 2, 3, 1.0, 0)
    test = clusters(3, 2, 3, 1.0, 1)[0]
    plain = linear_probe(train, labels, test, strengths=[0.1])
    wider = [torch.cat([x, torch.full((len(x), 1), 7.0)], dim=1) for x in (train, test)]
    other = linear_probe(wider[0], labels, wider[1], strengths=[0.1])
    torch.testing.assert_close(plain.log_probabilities, other.log_probabilities, rtol=0, atol=1e-4)


def test_the_probe_by_symmetry():
    train = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]])
    probe = linear_probe(train, torch.tensor([0, 0, 1, 1]), torch.tensor([[0.0], [2.0], [-2.0]]), strengths=[0.01])
    p = probe.log_probabilities.exp()
    torch.testing.assert_close(p[0], torch.tensor([0.5, 0.5]), rtol=0, atol=1e-4)
    torch.testing.assert_close(p[1], p[2].flip(0), rtol=0, atol=1e-4)
    assert p[1, 1] > 0.9


def test_the_strength_is_chosen_by_held_out_training_samples():
    train, labels = clusters(30, 2, 40, 6.0, 0)  # noise: a weak penalty overfits
    test, _ = clusters(30, 2, 40, 6.0, 1)
    probe = linear_probe(train, labels, test)
    judged = recognition._held_out(labels.numpy(), 0.2, 0)
    expected = {}
    for strength in recognition.STRENGTHS:
        part = linear_probe(train[~judged], labels[~judged], train[judged], strengths=[strength])
        expected[strength] = float((part.log_probabilities.argmax(1) == labels[judged]).double().mean())
    assert probe.held_out == expected and len(set(expected.values())) > 1
    assert probe.held_out[probe.strength] == max(expected.values())
    assert probe.strength == max(s for s, value in expected.items() if value == max(expected.values()))
    other = linear_probe(train, labels, test.flip(0) * 3)  # the test features choose nothing
    assert (other.strength, other.held_out) == (probe.strength, probe.held_out)


def test_the_probe_is_deterministic_and_as_good_as_the_features():
    train, labels = clusters(20, 4, 8, 0.3, 0)
    test, truth = clusters(10, 4, 8, 0.3, 1)
    first, second = (linear_probe(train, labels, test) for _ in range(2))
    assert torch.equal(first.log_probabilities, second.log_probabilities)
    assert topk_accuracy(first.log_probabilities, truth, [1])[1] == 1.0
    torch.testing.assert_close(first.log_probabilities.exp().sum(dim=1), torch.ones(40))
    shuffled = linear_probe(train, labels[torch.randperm(80, generator=torch.Generator().manual_seed(0))], test)
    assert topk_accuracy(shuffled.log_probabilities, truth, [1])[1] < 0.7  # labels without meaning teach nothing


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.floats(0.05, 0.95))
def test_held_out_samples_are_the_share_of_each_class_and_never_all(labels, share):
    labels = np.array(labels)
    counts = np.bincount(labels)
    if counts.max() < 2:
        with pytest.raises(UserError, match="none can be held out"):
            recognition._held_out(labels, share, 0)
        return
    judged = recognition._held_out(labels, share, 0)
    for label, count in enumerate(counts):
        held = np.count_nonzero(judged[labels == label])
        assert held == (0 if count < 2 else min(max(1, round(share * count)), count - 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_labels": torch.ones(6, dtype=torch.long)}, "all 6 training labels are 1: a probe needs two classes"),
        ({"strengths": []}, r"strengths \(\) must be above 0"),
        ({"strengths": [0.0, 1.0]}, "must be above 0"),
        ({"held_out": 1.0}, "held_out 1.0 between 0 and 1"),
        ({"train_labels": torch.arange(6)}, "every class has one training sample"),
        ({"train_labels": torch.arange(6) - 1}, "has no label"),
    ],
)
def test_the_probe_refuses_what_it_cannot_fit(change, words):
    given_ = {"train_features": torch.eye(6), "train_labels": torch.arange(6) % 2, "test_features": torch.eye(6)}
    with pytest.raises(UserError, match=words):
        linear_probe(**{**given_, **change})


# --- top-k --------------------------------------------------------------------------------------------------


def test_topk_by_hand():
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.4, 0.5, 0.1]])
    labels = torch.tensor([1, 1, 0, 2])
    assert topk_accuracy(scores, labels, (1, 2)) == {1: 0.25, 2: 0.5}


@given(st.integers(0, 2**32), st.integers(2, 9), st.integers(1, 30))
def test_topk_equals_sorting(seed, classes, samples):
    rng = np.random.default_rng(seed)
    scores, labels = (
        rng.permuted(np.tile(np.arange(classes), (samples, 1)), axis=1),
        rng.integers(classes, size=samples),
    )
    ks = range(1, classes)
    expected = {
        k: np.mean([label in np.argsort(-row)[:k] for row, label in zip(scores, labels, strict=True)]) for k in ks
    }
    found = topk_accuracy(torch.from_numpy(scores).float(), torch.from_numpy(labels), ks)
    assert found == pytest.approx(expected) and sorted(found.values()) == list(found.values())


def test_equal_scores_earn_nothing():
    assert topk_accuracy(torch.zeros(4, 7), torch.arange(4), (1, 5, 6)) == {1: 0.0, 5: 0.0, 6: 0.0}
    infinite = torch.tensor([[-math.inf, -math.inf, 0.0]])
    assert topk_accuracy(infinite, torch.tensor([2]), (1,)) == {1: 1.0}


@pytest.mark.parametrize(
    ("scores", "labels", "ks", "words"),
    [
        (torch.zeros(2, 3) / 0, [0, 1], (1,), "a score is not a number"),
        (torch.zeros(2, 3), [0, -1], (1,), "labels are -1 to 0, but scores are for classes 0 to 2"),
        (torch.zeros(2, 3), [0, 3], (1,), "labels are 0 to 3"),
        (torch.zeros(2, 3), [0], (1,), "expected"),
        (torch.zeros(0, 3), [], (1,), "expected"),
        (torch.zeros(2, 3), [0, 1], (1, 5), "top-5 of 3 classes says nothing: choose k between 1 and 2"),
        (torch.zeros(2, 3), [0, 1], (3,), "top-3 of 3 classes"),
        (torch.zeros(2, 3), [0, 1], (0,), "top-0 of 3 classes"),
    ],
)
def test_topk_refuses_what_it_cannot_count(scores, labels, ks, words):
    with pytest.raises(UserError, match=words):
        topk_accuracy(scores, torch.tensor(labels, dtype=torch.long), ks)


# --- views --------------------------------------------------------------------------------------------------


def test_views_of_one_video_are_averaged():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.2, 0.8], [0.4, 0.6]])
    torch.testing.assert_close(average_views(scores, 2), torch.tensor([[0.5, 0.5], [0.3, 0.7]]))
    assert torch.equal(average_views(scores, 1), scores)
    torch.testing.assert_close(average_views(scores, 4), scores.mean(dim=0, keepdim=True))


@pytest.mark.parametrize(("shape", "views"), [((5, 3), 2), ((4, 3), 0), ((4,), 2)])
def test_rows_that_are_no_whole_videos_are_refused(shape, views):
    with pytest.raises(UserError, match=rf"not \(n \* {views}, C\)"):
        average_views(torch.zeros(shape), views)


# --- intervals ----------------------------------------------------------------------------------------------


def test_wilson_intervals_of_known_cases():
    lower, upper = wilson_interval(0.5, 10)  # z^2 = 3.8415: the textbook's 0.237 and 0.763
    assert (round(lower, 3), round(upper, 3)) == (0.237, 0.763)
    lower, upper = wilson_interval(1.0, 10)
    assert upper == pytest.approx(1) and lower == pytest.approx(10 / (10 + 3.841459), abs=1e-6)
    assert wilson_interval(0.0, 10) == pytest.approx((0, 3.841459 / (10 + 3.841459)), abs=1e-6)


@given(st.integers(1, 500), st.data(), st.floats(0.5, 0.99))
def test_wilson_bounds_are_where_the_score_test_turns(samples, data, confidence):
    accuracy = data.draw(st.integers(0, samples)) / samples
    lower, upper = wilson_interval(accuracy, samples, confidence)
    assert 0 <= lower <= accuracy + 1e-12 and accuracy - 1e-12 <= upper <= 1
    z = norm.ppf((1 + confidence) / 2)
    for bound in (lower, upper):  # |accuracy - p| = z sqrt(p (1 - p) / n) defines them
        assert (accuracy - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / samples, abs=1e-9)


def test_wilson_intervals_hold_the_truth_as_often_as_they_say():
    counts = np.random.default_rng(0).binomial(60, 0.7, size=4000)
    held = [lower <= 0.7 <= upper for lower, upper in (wilson_interval(count / 60, 60) for count in counts)]
    assert 0.93 < np.mean(held) < 0.97


@pytest.mark.parametrize("arguments", [(1.5, 10), (0.5, 0), (0.5, 10, 1.0), (-0.1, 10)])
def test_impossible_intervals_are_refused(arguments):
    with pytest.raises(UserError, match="not 0..1"):
        wilson_interval(*arguments)
