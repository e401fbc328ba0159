"""Masks to soft labels and back in every way a protocol may ask for, and their propagation through whole videos."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from make_davis import make_davis, moving_squares, write_png
from make_vip import colours, people

from lib.data.davis import DavisDataset
from lib.errors import UserError
from lib.evaluation.features import FrameFeatures, rgb_patch_features
from lib.evaluation.masks import (
    cells_to_classes,
    copy_first_mask,
    labels_to_cells,
    masks_from_features,
    propagate_masks,
)
from lib.evaluation.protocols import PROTOCOLS, get_protocol

AREA = get_protocol("crw", label_resize="area")
seeds = st.integers(0, 2**32 - 1)


def still(mask: np.ndarray, frames: int = 3) -> tuple[list[torch.Tensor], tuple[int, int]]:
    """Features of a video that stands still, a cell a pixel, each with a feature of its own; and its size."""
    features = torch.eye(mask.size).unflatten(1, mask.shape)
    return [features] * frames, mask.shape


# --- Labels ---


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_area_labels_are_block_means_where_sizes_divide(seed, h, w, down, right):
    mask = np.random.default_rng(seed).integers(0, 4, (h * down, w * right)).astype(np.uint8)
    labels = labels_to_cells(mask, np.arange(4), (h, w), AREA)
    assert labels.shape == (4, h, w) and labels.dtype == torch.float32
    for row in range(h):
        for column in range(w):
            block = mask[row * down : (row + 1) * down, column * right : (column + 1) * right]
            expected = np.bincount(block.ravel(), minlength=4) / block.size
            np.testing.assert_allclose(labels[:, row, column], expected, atol=1e-6)


def test_area_labels_by_hand():
    """A quarter, half and all of a cell; bilinear labels read the four pixels at the centre alone."""
    mask = np.zeros((4, 12), np.uint8)
    mask[:2, 2:4] = 1
    mask[:, 4:6] = 1
    mask[:, 8:] = 1
    assert labels_to_cells(mask, np.arange(2), (1, 3), AREA)[1].tolist() == [[0.25, 0.5, 1.0]]
    bilinear = replace(AREA, label_resize="bilinear")
    assert labels_to_cells(mask, np.arange(2), (1, 3), bilinear)[1].tolist() == [[0.25, 0.5, 1.0]]
    mask[[0, 3]] = 1  # the outer rows: half of each cell, and nothing at its centre
    assert labels_to_cells(mask, np.arange(2), (1, 3), AREA)[1].tolist() == [[0.625, 0.75, 1.0]]
    assert labels_to_cells(mask, np.arange(2), (1, 3), bilinear)[1].tolist() == [[0.25, 0.5, 1.0]]


def test_an_object_smaller_than_a_cell_is_seen_by_area_labels_alone():
    mask = np.zeros((32, 32), np.uint8)
    mask[1:3, 1:3] = 1
    found = {resize: labels_to_cells(mask, np.arange(2), (2, 2), replace(AREA, label_resize=resize))[1]
             for resize in ("area", "bilinear", "nearest")}  # fmt: skip
    assert found["area"].flatten().tolist() == [4 / 256, 0, 0, 0]
    assert found["bilinear"].sum() == found["nearest"].sum() == 0


@given(seeds, st.integers(1, 9), st.integers(1, 9), st.sampled_from(["area", "bilinear", "nearest"]))
def test_labels_are_fractions_whatever_the_sizes(seed, h, w, resize):
    mask = np.random.default_rng(seed).integers(0, 3, (17, 23)).astype(np.uint8)
    labels = labels_to_cells(mask, np.arange(3), (h, w), replace(AREA, label_resize=resize))
    torch.testing.assert_close(labels.sum(0), torch.ones(h, w))
    assert labels.min() >= 0


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


# --- Ids as they come ---


@pytest.mark.parametrize("ids", [(0, 1, 2), (0, 2, 13), (4, 7), (19,), (0, 200, 254), (3, 0, 255)])
def test_ids_may_skip_and_need_no_background(ids):
    mask = np.random.default_rng(1).choice(ids, (6, 7)).astype(np.uint8)
    features, size = still(mask)
    for name in PROTOCOLS:
        protocol = get_protocol(name, top_k=1)
        found = list(masks_from_features(features, size, size, mask, protocol, keep_first=False))
        assert len(found) == 3 and all(np.array_equal(each, mask) and each.dtype == np.uint8 for each in found)


@given(seeds, st.sampled_from(sorted(PROTOCOLS)), st.permutations([0, 2, 5, 13]))
def test_names_of_the_ids_do_not_matter(seed, name, renamed):
    """Other ids give the other ids: no value of an id is ever mixed with another's."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 4, (12, 16))
    features = [torch.from_numpy(rng.normal(size=(5, 3, 4))) for _ in range(3)]
    protocol = get_protocol(name, radius=2, queue=1)
    plain, other = (
        np.stack(list(masks_from_features(features, (12, 16), (12, 16), ids[mask].astype(np.uint8), protocol)))
        for ids in (np.arange(4), np.array(sorted(renamed)))
    )
    assert np.array_equal(other, np.array(sorted(renamed))[plain])


def test_classes_that_the_first_mask_does_not_show_are_never_predicted():
    masks = people(5)
    protocol = get_protocol("cropmae", "vip", input_size=(24, 32))
    first = np.where(masks[0] == 255, 0, masks[0]).astype(np.uint8)
    found = np.stack(list(propagate_masks(colours(masks), first, rgb_patch_features(4), 4, protocol)))
    assert (masks == 1).any() and set(np.unique(found)) == {0, 2, 13}


# --- Frame 0 ---


@pytest.mark.parametrize("name", PROTOCOLS)
def test_frame_0_is_as_given_or_as_the_cells_hold_it(name):
    masks = moving_squares(2, 4, (40, 64))
    protocol = get_protocol(name, input_size=(32, 64))
    kept, coarse = (
        list(propagate_masks(colours(masks), masks[0], rgb_patch_features(8), 8, protocol, keep_first=keep))
        for keep in (True, False)
    )
    assert len(kept) == len(coarse) == 4 and np.array_equal(kept[0], masks[0])
    assert all(map(np.array_equal, kept[1:], coarse[1:]))
    labels = labels_to_cells(masks[0], np.arange(3), (4, 8), protocol)
    index = cells_to_classes(labels, (32, 64), protocol).numpy()
    rows = ((np.arange(40) + 0.5) * 32 / 40).astype(int)  # the pixel under each centre
    assert np.array_equal(coarse[0], index[rows]) and not np.array_equal(coarse[0], masks[0])


def test_an_empty_first_mask_stays_empty():
    found = list(propagate_masks(colours(np.zeros((3, 16, 16), int)), np.zeros((16, 16), np.uint8),
                                 rgb_patch_features(8), 8, get_protocol("dino", input_size=(16, 16))))  # fmt: skip
    assert len(found) == 3 and not np.any(found)


# --- Features that are there ---


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("keep", [True, False])
def test_features_that_are_there_give_the_same_masks(name, keep):
    masks = moving_squares(2, 5, (40, 60))
    protocol = get_protocol(name, input_size=(32, 48), queue=2, radius=3, top_k=2)
    features = FrameFeatures(colours(masks), rgb_patch_features(4), 4, protocol)
    cached = list(features)
    direct = list(propagate_masks(colours(masks), masks[0], rgb_patch_features(4), 4, protocol, keep_first=keep))
    for protocol_again in (protocol, replace(protocol, input_size=None)):  # the size is that of the features
        arguments = (cached, features.size, features.input_size, masks[0], protocol_again, keep)
        for _ in range(2):  # they are there to be used again
            assert all(map(np.array_equal, direct, masks_from_features(*arguments)))
    assert len(list(masks_from_features(*arguments))) == len(direct) == 5
    assert not np.array_equal(direct[1], direct[-1])


def test_first_masks_that_do_not_fit_are_named():
    features, size = still(np.zeros((4, 5), np.uint8))
    with pytest.raises(UserError, match=r"the first mask is \(5, 4\), the first frame \(4, 5\)"):
        next(masks_from_features(features, size, size, np.zeros((5, 4), np.uint8), AREA))
    with pytest.raises(UserError, match=r"first mask: \(2, 4, 5\)"):
        labels_to_cells(np.zeros((2, 4, 5), np.uint8), np.arange(1), (2, 2), AREA)


def test_no_features_are_told():
    with pytest.raises(UserError, match="no features"):
        list(masks_from_features([], (4, 4), (4, 4), np.zeros((4, 4), np.uint8), get_protocol("crw")))


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


# --- Neighbours weighted by confidence ---


def test_confidences_are_asked_of_the_same_frames_and_reach_the_labels():
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (6, 48, 64, 3), dtype=np.uint8))
    mask = rng.integers(0, 3, (48, 64)).astype(np.uint8)
    protocol, features = get_protocol("crw", radius=3, queue=3), rgb_patch_features(8)
    given_confidences = list(torch.rand(6, 6, 8, generator=torch.Generator().manual_seed(0)) ** 8 + 1e-3)
    seen = []

    def doubt(again):
        for frame, confidence in zip(again, given_confidences, strict=True):
            seen.append(frame)
            yield confidence

    found = list(propagate_masks(iter(frames), mask, features, 8, protocol, confidence_fn=doubt))
    assert len(seen) == 6 and all(one is other for one, other in zip(seen, frames, strict=True))
    encoded = FrameFeatures(frames, features, 8, protocol)
    expected = masks_from_features(encoded, (48, 64), (48, 64), mask, protocol, True, given_confidences)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    plain = list(propagate_masks(frames, mask, features, 8, protocol))
    assert any((one != other).any() for one, other in zip(found, plain, strict=True))
