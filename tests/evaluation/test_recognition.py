"""k-NN, linear probe, top-k and views against slow or exact references and cases done by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.evaluation import recognition
from lib.evaluation.recognition import average_views, knn, linear_probe, topk_accuracy


def clusters(per_class: int, classes: int, width: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features around one centre a class; the centres are the same for every seed."""
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(classes).repeat(per_class)
    noise = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(seed))
    return centres[labels] + spread * noise, labels


# --- k-NN ---------------------------------------------------------------------------------------------------


def slow_knn(train, labels, test, k, temperature):
    """One sample after the other, in Python floats: DINO's vote, then fractions of it."""
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
    monkeypatch.setattr(recognition, "TEMPERATURE", temperature)
    votes = knn(train, labels, test, k)
    torch.testing.assert_close(votes, slow_knn(train, labels, test, k, temperature), rtol=0, atol=1e-5)


def test_knn_by_hand(monkeypatch):
    monkeypatch.setattr(recognition, "TEMPERATURE", 1.0)
    train = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 0.5]])  # lengths do not count
    test = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    votes = knn(train, torch.tensor([1, 0, 2]), test, k=3)
    e = math.e
    expected = torch.tensor([[1 / (2 + e), e / (2 + e), 1 / (2 + e)], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(votes, expected)
    assert knn(train, torch.tensor([1, 0, 2]), test[:1], k=1).tolist() == [[0, 1, 0]]


def test_a_near_neighbour_outvotes_two_far_ones_only_at_a_low_temperature(monkeypatch):
    train = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]])
    labels, test = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]])
    assert knn(train, labels, test, 3).argmax() == 0  # exp(0.4 / 0.07) > 2
    monkeypatch.setattr(recognition, "TEMPERATURE", 1.0)
    assert knn(train, labels, test, 3).argmax() == 1  # exp(0.4) < 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 9}, "k 9 must be between 1 and the 8 training samples"),
        ({"k": 0}, "k 0 must be between"),
        ({"train_labels": torch.zeros(7, dtype=torch.long)}, r"are \[\(8, 3\), \(7,\), \(2, 3\)\]; expected"),
        ({"test_features": torch.zeros(2, 4)}, r"expected \(n, D\), \(n,\) and \(M, D\)"),
        ({"train_features": torch.zeros(8, 3) / 0}, "a training feature is not finite"),
        ({"test_features": torch.full((2, 3), math.inf)}, "a test feature is not finite"),
        ({"train_labels": torch.tensor([0, 1] * 3 + [1, -1])}, "has no label"),
        ({"train_features": torch.zeros(0, 3), "train_labels": torch.zeros(0, dtype=torch.long)}, "expected"),
    ],
)
def test_knn_refuses_what_it_cannot_evaluate(change, words):
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
def test_the_probe_equals_newtons_method(monkeypatch, strength):
    monkeypatch.setattr(recognition, "STRENGTHS", (strength,))
    train, labels = clusters(12, 3, 4, 2.0, 0)
    train = train * torch.tensor([1.0, 100.0, 0.01, 1.0]) + 5  # features of every scale
    test = clusters(4, 3, 4, 2.0, 1)[0] * torch.tensor([1.0, 100.0, 0.01, 1.0]) + 5
    found = linear_probe(train, labels, test)
    torch.testing.assert_close(found, slow_probe(train, labels, test, strength), rtol=0, atol=2e-4)


def test_a_constant_feature_changes_nothing(monkeypatch):
    monkeypatch.setattr(recognition, "STRENGTHS", (0.1,))
    train, labels = clusters(8, 2, 3, 1.0, 0)
    test = clusters(3, 2, 3, 1.0, 1)[0]
    plain = linear_probe(train, labels, test)
    wider = [torch.cat([x, torch.full((len(x), 1), 7.0)], dim=1) for x in (train, test)]
    other = linear_probe(wider[0], labels, wider[1])
    torch.testing.assert_close(plain, other, rtol=0, atol=1e-4)


def test_the_probe_by_symmetry(monkeypatch):
    monkeypatch.setattr(recognition, "STRENGTHS", (0.01,))
    train = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]])
    p = linear_probe(train, torch.tensor([0, 0, 1, 1]), torch.tensor([[0.0], [2.0], [-2.0]])).exp()
    torch.testing.assert_close(p[0], torch.tensor([0.5, 0.5]), rtol=0, atol=1e-4)
    torch.testing.assert_close(p[1], p[2].flip(0), rtol=0, atol=1e-4)
    assert p[1, 1] > 0.9


def test_the_strength_is_chosen_by_held_out_training_samples(monkeypatch):
    train, labels = clusters(30, 2, 40, 6.0, 0)  # noise: a weak penalty overfits
    test, truth = clusters(30, 2, 40, 6.0, 1)
    found, other = linear_probe(train, labels, test), linear_probe(train, labels, 3 * test.flip(0))
    strengths, fits = recognition.STRENGTHS, {}
    for strength in strengths:
        monkeypatch.setattr(recognition, "STRENGTHS", (strength,))
        fits[strength] = linear_probe(train, labels, test), linear_probe(train, labels, 3 * test.flip(0))
    (chosen,) = [strength for strength, (fit, _) in fits.items() if torch.equal(fit, found)]
    assert torch.equal(fits[chosen][1], other)  # the test features choose nothing
    likelihood = {strength: fit[torch.arange(60), truth].mean() for strength, (fit, _) in fits.items()}
    assert likelihood[chosen] > likelihood[strengths[-1]] + 0.5


def test_the_probe_is_deterministic_and_as_good_as_the_features():
    train, labels = clusters(20, 4, 8, 0.3, 0)
    test, truth = clusters(10, 4, 8, 0.3, 1)
    first, second = (linear_probe(train, labels, test) for _ in range(2))
    assert torch.equal(first, second)
    assert topk_accuracy(first, truth, [1])[1] == 1.0
    torch.testing.assert_close(first.exp().sum(dim=1), torch.ones(40))
    shuffled = linear_probe(train, labels[torch.randperm(80, generator=torch.Generator().manual_seed(0))], test)
    assert topk_accuracy(shuffled, truth, [1])[1] < 0.7  # labels without meaning teach nothing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_labels": torch.ones(6, dtype=torch.long)}, "all 6 training labels are 1: a probe needs two classes"),
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
    with pytest.raises(UserError, match=rf"not \(M \* {views}, C\)"):
        average_views(torch.zeros(shape), views)
