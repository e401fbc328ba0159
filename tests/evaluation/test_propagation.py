import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from slow_propagation import random_video, slow_propagate

from lib.errors import UserError
from lib.evaluation import propagation
from lib.evaluation.propagation import propagate
from lib.evaluation.protocols import PROTOCOLS, get_protocol

SMALL = {"radius": 3, "queue": 4}  # so that 8 frames overflow the queue and 7 cells exceed the neighbourhood


@pytest.mark.parametrize("grid", [(5, 8), (8, 4)])
@pytest.mark.parametrize("overrides", [SMALL, {}, {"radius": 1, "queue": 1, "top_k": 1}, {"queue": 0, "radius": 2}])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_preset_agrees_with_the_slow_reading(name, overrides, grid, monkeypatch):
    protocol = get_protocol(name, **overrides)
    features, labels = random_video(8 if overrides is SMALL else 4, grid)
    slow = slow_propagate(features, labels, protocol)
    for tile, queries_at_once in ((propagation.TILE, propagation.QUERIES_AT_ONCE), (1, 7), (3, 1), (100, 100)):
        monkeypatch.setattr(propagation, "TILE", tile)
        monkeypatch.setattr(propagation, "QUERIES_AT_ONCE", queries_at_once)
        fast = list(propagate(features, labels, protocol))
        assert len(fast) == len(slow) and all(frame.shape == labels.shape for frame in fast)
        for a, b in zip(fast, slow, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_neighbours_are_weighted_by_confidence_as_the_slow_reading_does(name):
    protocol = get_protocol(name, **SMALL)
    features, labels = random_video(8, (5, 8))
    confidences = list(torch.rand(8, 5, 8, generator=torch.Generator().manual_seed(1)) + 0.05)
    slow = slow_propagate(features, labels, protocol, confidences)
    fast = list(propagate(features, labels, protocol, confidences))
    plain = list(propagate(features, labels, protocol))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)
    assert max((a - b).abs().max() for a, b in zip(fast, plain, strict=True)) > 1e-3
    for a, b in zip(propagate(features, labels, protocol, [torch.full((5, 8), 0.3)] * 8), plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [torch.ones(5, 7), torch.zeros(5, 8), torch.full((5, 8), torch.nan), torch.full((5, 8), torch.inf)]
)
def test_a_confidence_that_cannot_be_is_named_with_its_frame(wrong):
    features, labels = random_video(3, (5, 8))
    with pytest.raises(UserError, match="frame 1: confidences"):
        list(propagate(features, labels, get_protocol("crw"), [torch.ones(5, 8), wrong, torch.ones(5, 8)]))
    with pytest.raises(UserError, match="frame 1: confidences"):  # too few of them
        list(propagate(features, labels, get_protocol("crw"), [torch.ones(5, 8)]))


def test_presets_differ_where_the_table_says_so():
    """A context or neighbourhood rule that does nothing would pass every parity test."""
    features, labels = random_video(8, (5, 8))
    base = get_protocol("crw", **SMALL)
    reference = torch.stack(list(propagate(features, labels, base)))
    for change in ({"shape": "square"}, {"mask_first_frame": True}, {"padded_start": False}, {"queue": 3}, {"top_k": 3},
                   {"radius": 2}, {"temperature": 0.7}):  # fmt: skip
        changed = torch.stack(list(propagate(features, labels, get_protocol("crw", **{**SMALL, **change}))))
        assert (changed - reference).abs().max() > 1e-3, change


def test_padded_start_makes_the_first_target_a_nearest_neighbour_search():
    features, labels = random_video(2, (5, 8))
    protocol = get_protocol("cropmae", radius=20)  # all cells in reach: 21 copies of frame 0 fill the 7 places
    second = list(propagate(features, labels, protocol))[1].flatten(1)
    a, b = (F.normalize(frame, dim=0).flatten(1) for frame in features)
    torch.testing.assert_close(second, labels.flatten(1)[:, (b.T @ a).argmax(dim=1)], rtol=0, atol=1e-5)


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(sorted(PROTOCOLS)), st.integers(0, 1000))
def test_labels_stay_a_distribution(height, width, name, seed):
    features, labels = random_video(4, (height, width), seed=seed)
    for frame in propagate(features, labels, get_protocol(name, radius=2, queue=2)):
        torch.testing.assert_close(frame.sum(0), torch.ones(height, width), rtol=0, atol=1e-5)
        assert frame.min() >= 0


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_scale_of_the_features_does_not_matter(name):
    features, labels = random_video(4, (5, 6))
    protocol = get_protocol(name, **SMALL)
    for a, b in zip(propagate(features, labels, protocol),
                    propagate([3 * frame * (t + 1) for t, frame in enumerate(features)], labels, protocol),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_labels_of_one_frame_come_from_predicted_labels():
    """Frame 2 resembles only frame 1, so its labels must be frame 1's prediction, right or wrong."""
    features = [torch.eye(4).reshape(4, 2, 2), torch.eye(4)[[1, 0, 3, 2]].reshape(4, 2, 2)]
    features[1] = features[1] + torch.tensor([0.0, 0.0, 0.0, 9.0])[:, None, None]  # all cells resemble cell 3
    labels = F.one_hot(torch.tensor([[0, 1], [1, 2]])).permute(2, 0, 1).float()
    protocol = get_protocol("dino", top_k=1, radius=4)
    first, second, third = propagate([features[0], features[1], features[1]], labels, protocol)
    assert torch.equal(first, labels)
    assert torch.equal(second.argmax(0), torch.full((2, 2), 2))
    assert torch.equal(third, second)


# --- Streaming ---


@pytest.mark.parametrize("name", ["cropmae", "dino"])
def test_features_are_consumed_one_at_a_time(name):
    features, labels = random_video(6, (3, 4))
    taken = []

    def source():
        for index, frame in enumerate(features):
            taken.append(index)
            yield frame

    stream = propagate(source(), labels, get_protocol(name))
    assert taken == []
    for index in range(6):
        next(stream)
        assert taken == list(range(index + 1))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_memory_holds_a_queue_and_frame_0_however_long_the_video(name):
    protocol, alive, most = get_protocol(name, queue=3, radius=2), weakref.WeakSet(), 0

    def source():
        for seed in range(30):
            frame = random_video(1, (3, 4), seed=seed)[0][0]
            alive.add(frame)
            yield frame

    for _ in propagate(source(), random_video(1, (3, 4))[1], protocol):
        most = max(most, len(alive))
    assert most <= protocol.queue + 1 + 1  # and the one being labelled


def test_grids_must_agree():
    features, labels = random_video(2, (3, 4))
    with pytest.raises(UserError, match=r"frame 1 has grid \(4, 3\)"):
        list(propagate([features[0], features[1].transpose(1, 2)], labels, get_protocol("dino")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_gpu_gives_the_same_labels(name):
    features, labels = random_video(8, (6, 9))
    protocol = get_protocol(name, **SMALL)
    on_gpu = propagate([frame.cuda() for frame in features], labels, protocol)
    for a, b in zip(propagate(features, labels, protocol), on_gpu, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=0, atol=1e-5)
