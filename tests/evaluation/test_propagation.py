import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from make_davis import make_davis, moving_squares, write_png
from slow_propagation import random_video, slow_propagate

from lib.data.davis import DavisDataset
from lib.errors import UserError
from lib.evaluation import propagation
from lib.evaluation.features import rgb_patch_features
from lib.evaluation.masks import cells_to_classes, copy_first_mask, labels_to_cells, propagate_masks
from lib.evaluation.propagation import propagate
from lib.evaluation.protocols import PROTOCOLS, Protocol, get_protocol, input_size

# --- An independent, slow reading of the same procedure: lists, loops, one cell at a time ---


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
    memory = propagation._Memory(torch.zeros(4, 3, 6), torch.zeros(4, 3, 2), torch.zeros(12), protocol)
    size = memory.features.numel()
    for _ in range(10):
        memory.push(torch.ones(4, 3, 6), torch.ones(12, 2), torch.zeros(12))
    kept = int(protocol.mask_first_frame)  # frame 0 is in the ring where the neighbourhood holds for it
    assert memory.features.numel() == size == (protocol.queue + kept) * 12 * 6
    assert memory.features[:, :, kept:].min() == 1 and memory.labels.sum() == 2 * 12 * protocol.queue
    assert memory.features[:, :, :kept].abs().sum() == 0 and memory.labels[:12].abs().sum() == 0  # never overwritten


def test_video_frames_are_read_in_batches_and_not_ahead():
    masks = moving_squares(1, 7, (32, 32))
    frames = [np.full((32, 32, 3), 20 * t, np.uint8) for t in range(7)]
    taken = []
    source = (taken.append(t) or frame for t, frame in enumerate(frames))
    protocol = get_protocol("dino", input_size=(32, 32))
    stream = propagate_masks(source, masks[0], rgb_patch_features(8), 8, protocol, batch_size=2)
    assert np.array_equal(next(stream), masks[0]) and len(taken) == 1  # needed for its size alone
    next(stream)
    assert len(taken) == 2
    assert len(list(stream)) == 5 and len(taken) == 7


# --- Whole videos ---


def texture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_still_video_keeps_its_mask(name):
    frames = np.repeat(texture(64, 96)[None], 6, axis=0)
    mask = np.zeros((64, 96), np.uint8)
    mask[16:40, 24:56], mask[48:64, 0:32] = 1, 2
    protocol = get_protocol(name, input_size=(64, 96), top_k=1)
    predicted = list(propagate_masks(frames, mask, rgb_patch_features(8), 8, protocol))
    assert np.array_equal(predicted[0], mask)
    for later in predicted[1:]:
        assert np.array_equal(later, predicted[1])  # what one round trip through the cells makes of it, and no drift
        assert np.mean(later != mask) < 0.02


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("step", [(0, 8), (8, 0), (8, -8)])
def test_a_moving_texture_takes_the_mask_along(name, step):
    """A textured square crosses a texture by one patch a frame."""
    background, square = texture(96, 128), texture(24, 32, seed=1)
    frames, truth = [], []
    for t in range(6):
        top, left = 16 + t * step[0], 56 + t * step[1]
        frames.append(background.copy())
        frames[-1][top : top + 24, left : left + 32] = square
        truth.append(np.zeros((96, 128), np.uint8))
        truth[-1][top : top + 24, left : left + 32] = 1
    protocol = get_protocol(name, input_size=(96, 128), top_k=1)
    predicted = list(propagate_masks(iter(frames), truth[0], rgb_patch_features(8), 8, protocol))
    for mask, expected in zip(predicted, truth, strict=True):
        overlap = np.sum((mask == 1) & (expected == 1)) / np.sum((mask == 1) | (expected == 1))
        assert overlap > 0.85  # the corners are lost on the way through the cells
    assert not np.array_equal(predicted[0], predicted[-1])


def test_later_annotations_are_never_read(tmp_path):
    masks = moving_squares(2, 6, (64, 96))
    root = make_davis(tmp_path, {"dog": masks})
    protocol = get_protocol("cropmae", input_size=(64, 96))

    def predict():
        sequence = DavisDataset(root)["dog"]
        first = sequence.masks(1)[0]
        return np.stack(list(propagate_masks(sequence.frames(), first, rgb_patch_features(8), 8, protocol)))

    before = predict()
    for t in range(1, 6):
        write_png(root / "Annotations" / "480p" / "dog" / f"{t:05d}.png", np.full((64, 96), 2))
    assert np.array_equal(predict(), before)
    write_png(root / "Annotations" / "480p" / "dog" / "00000.png", np.where(masks[0] == 1, 2, masks[0] // 2))
    assert not np.array_equal(predict(), before)


def test_copying_looks_at_nothing():
    mask = moving_squares(2, 1)[0]
    copies = list(copy_first_mask(iter(range(4)), mask))
    assert len(copies) == 4 and all(np.array_equal(copy, mask) for copy in copies)


# --- Labels and sizes ---


@pytest.mark.parametrize("label_resize", ["bilinear", "nearest"])
def test_labels_are_read_at_cell_centres(label_resize):
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 16:32] = 2
    mask[0:8, 0:3] = 1  # less than half a cell, off its centre: neither way sees it
    labels = labels_to_cells(mask, np.arange(3), (4, 6), get_protocol("crw", label_resize=label_resize))
    expected = np.zeros((4, 6), int)
    expected[1:3, 2:4] = 2
    assert labels.shape == (3, 4, 6) and labels.dtype == torch.float32
    np.testing.assert_array_equal(labels.argmax(0), expected)
    assert set(labels.unique().tolist()) == {0.0, 1.0}


def test_only_bilinear_labels_are_soft():
    mask = np.zeros((16, 16), np.uint8)
    mask[:, :4] = 1  # the border passes through the centres of the first cells
    soft, hard = (labels_to_cells(mask, np.arange(2), (2, 2), get_protocol(name)) for name in ("cropmae", "dino"))
    assert soft[1].tolist() == [[0.5, 0.0], [0.5, 0.0]]
    assert hard[1].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_channels_are_kept_for_objects_that_miss_every_cell():
    mask = np.zeros((64, 64), np.uint8)
    mask[0, 0] = 3
    for name in PROTOCOLS:
        assert labels_to_cells(mask, np.arange(4), (4, 4), get_protocol(name)).shape == (4, 4, 4)
    with pytest.raises(UserError, match="ids \\[0, 1, 2\\]"):
        labels_to_cells(mask, np.arange(3), (4, 4), get_protocol("dino"))


def test_min_max_lets_a_faint_object_win():
    soft = torch.stack([torch.full((4, 4), 0.9), torch.full((4, 4), 0.1)])
    soft[:, 0, 0] = torch.tensor([0.7, 0.3])
    assert cells_to_classes(soft, (32, 32), get_protocol("cropmae")).max() == 0
    stretched = cells_to_classes(soft, (32, 32), get_protocol("dino"))
    assert stretched[0, 0] == 1 and stretched[-1, -1] == 0 and stretched.dtype == torch.uint8
    for constant in (0, 1):  # an object nowhere or everywhere has no range to stretch
        whole = F.one_hot(torch.full((4, 4), constant), 2).permute(2, 0, 1).float()
        assert torch.all(cells_to_classes(whole, (32, 32), get_protocol("dino")) == constant)


def test_input_sizes_of_the_presets():
    sizes = {(name, patch): [input_size((480, width), patch, PROTOCOLS[name]["davis"]) for width in (854, 910, 1152)]
             for name in PROTOCOLS for patch in (8, 16)}  # fmt: skip
    assert sizes["dino", 8] == sizes["rsp", 16] == [(480, 832), (480, 896), (480, 1152)]
    assert sizes["cropmae", 16] == sizes["siammae-4b", 8] == [(480, 880)] * 3
    assert sizes["crw", 8] == [(480, 856), (480, 912), (480, 1152)] and sizes["crw", 16][0] == (480, 848)
    assert input_size((854, 480), 8, PROTOCOLS["dino"]["davis"]) == (832, 480)
    assert input_size((480, 854), 8, get_protocol("dino", input_size=(240, 432))) == (240, 432)
    with pytest.raises(UserError, match="480x880 .* patches of 14"):
        input_size((480, 854), 14, PROTOCOLS["cropmae"]["davis"])


def test_presets_are_the_published_settings():
    table = {name: (p.shape, p.mask_first_frame, p.padded_start, p.queue, p.radius, p.top_k, p.temperature)
             for name, p in ((name, tasks["davis"]) for name, tasks in PROTOCOLS.items())}  # fmt: skip
    assert table == {
        "crw": ("disc", False, True, 20, 12, 10, 0.05),
        "cropmae": ("disc", False, True, 20, 20, 7, 0.7),
        "siammae-4b": ("disc", False, True, 20, 20, 7, 0.7),
        "dino": ("square", True, False, 7, 12, 5, 0.1),
        "rsp": ("square", True, False, 30, 30, 7, 0.1),
    }


# --- Faults ---


@pytest.mark.parametrize(
    "message, call",
    [
        ("unknown protocol 'cropmea': did you mean 'cropmae'", lambda: get_protocol("cropmea")),
        ("unknown protocol field 'topk': did you mean 'top_k'", lambda: get_protocol("dino", topk=3)),
        ("unknown neighbourhood shape 'disk': did you mean 'disc'", lambda: get_protocol("dino", shape="disk")),
        ("unknown label_resize", lambda: get_protocol("dino", label_resize="bicubic")),
        ("temperature > 0", lambda: get_protocol("dino", temperature=0)),
        ("temperature > 0", lambda: get_protocol("crw", radius=0)),
    ],
)
def test_wrong_protocols_are_named(message, call):
    with pytest.raises(UserError, match=message):
        call()


def run_masks(frames=2, size=(32, 32), mask=(32, 32), patch=8, feature_fn=None, **overrides):
    video = np.zeros((frames, *size, 3), np.uint8)
    protocol: Protocol = get_protocol("dino", **{"input_size": (32, 32), **overrides})
    fn = feature_fn or rgb_patch_features(patch)
    return list(propagate_masks(video, np.zeros(mask, np.uint8), fn, patch, protocol))


@pytest.mark.parametrize(
    "message, arguments",
    [
        ("without frames has no labels", {"frames": 0}),
        ("32x36 is no whole number of patches of 8", {"input_size": (32, 36)}),
        (r"first mask is \(16, 32\)", {"mask": (16, 32)}),
        (r"feature_fn returned \(2, 192\)", {"feature_fn": lambda batch: torch.zeros(2, 192)}),
        (r"expected \(B, D, \*\(4, 4\)\)", {"feature_fn": rgb_patch_features(16)}),
    ],
)
def test_videos_that_do_not_fit_are_refused(message, arguments):
    assert len(run_masks()) == 2
    with pytest.raises(UserError, match=message):
        run_masks(**arguments)


def test_grids_must_agree():
    features, labels = random_video(2, (3, 4))
    with pytest.raises(UserError, match=r"frame 1 has grid \(4, 3\)"):
        list(propagate([features[0], features[1].transpose(1, 2)], labels, get_protocol("dino")))


def test_features_are_computed_on_resized_normalised_frames_in_inference_mode():
    seen = []

    def feature_fn(batch):
        seen.append((batch, torch.is_inference_mode_enabled()))
        return rgb_patch_features(8)(batch)

    frames = np.full((3, 40, 60, 3), (255, 0, 51), np.uint8)
    protocol = get_protocol("crw", input_size=(32, 64))
    list(propagate_masks(frames, np.zeros((40, 60), np.uint8), feature_fn, 8, protocol, batch_size=2))
    assert [tuple(batch.shape) for batch, _ in seen] == [(2, 3, 32, 64), (1, 3, 32, 64)]
    assert all(inference for _, inference in seen)
    expected = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225])
    torch.testing.assert_close(seen[0][0][0, :, 5, 7], expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_gpu_gives_the_same_labels(name):
    features, labels = random_video(8, (6, 9))
    protocol = get_protocol(name, **SMALL)
    on_gpu = propagate([frame.cuda() for frame in features], labels, protocol)
    for a, b in zip(propagate(features, labels, protocol), on_gpu, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=0, atol=1e-5)
