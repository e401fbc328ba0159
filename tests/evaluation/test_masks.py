"""Masks to soft labels and back in every way a protocol may ask for; the protocols of each task; input sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from make_davis import moving_squares
from make_vip import colours, people

from lib.errors import UserError
from lib.evaluation.features import FrameFeatures, rgb_patch_features
from lib.evaluation.masks import blended_ids, cells_to_classes, labels_to_cells, masks_from_features, propagate_masks
from lib.evaluation.protocols import PROTOCOLS, TASKS, Fit, get_protocol, input_size

AREA = get_protocol("crw", label_resize="area")
seeds = st.integers(0, 2**32 - 1)


def still(mask: np.ndarray, frames: int = 3) -> tuple[list[torch.Tensor], tuple[int, int]]:
    """Features of a video that stands still, a cell a pixel, each with a feature of its own; and its size."""
    features = torch.eye(mask.size).unflatten(1, mask.shape)
    return [features] * frames, mask.shape


# --- Labels as block means ---


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_area_labels_are_block_means_where_sizes_divide(seed, h, w, down, right):
    mask = np.random.default_rng(seed).integers(0, 4, (h * down, w * right)).astype(np.uint8)
    labels = labels_to_cells(mask, np.arange(4), (h, w), AREA)
    assert labels.shape == (4, h, w) and labels.dtype == torch.float32
    for row in range(h):
        for column in range(w):
            block = mask[row * down : (row + 1) * down, column * right : (column + 1) * right]
            shares = np.bincount(block.ravel(), minlength=4) / block.size
            np.testing.assert_allclose(labels[:, row, column], shares, atol=1e-6)


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
def test_labels_are_shares_whatever_the_sizes(seed, h, w, resize):
    mask = np.random.default_rng(seed).integers(0, 3, (17, 23)).astype(np.uint8)
    labels = labels_to_cells(mask, np.arange(3), (h, w), replace(AREA, label_resize=resize))
    torch.testing.assert_close(labels.sum(0), torch.ones(h, w))
    assert labels.min() >= 0


# --- Ids as brightness ---


def test_blended_ids_by_hand():
    """Two pixels become four: at -0.25, 0.25, 0.75, 1.25 of the way from 2 to 13, that is 2, 4.75, 10.25, 13."""
    assert blended_ids(np.array([[2, 13]], np.uint8), (1, 4)).tolist() == [[2, 5, 10, 13]]
    assert blended_ids(np.array([[0], [19]], np.uint8), (4, 1)).tolist() == [[0], [5], [14], [19]]
    same = np.random.default_rng(0).integers(0, 20, (5, 7)).astype(np.uint8)
    assert np.array_equal(blended_ids(same, (5, 7)), same) and blended_ids(same, (5, 7)).dtype == np.uint8


def test_new_ids_appear_between_others_if_asked_for():
    """A cell a pixel of the input, which is twice as wide as the frame: every other input pixel is seen at the end."""
    mask, features = np.array([[2, 2, 13, 13]], np.uint8), torch.eye(8).unflatten(1, (1, 8))
    for blend, at_input_size in ((True, [2, 2, 2, 5, 10, 13, 13, 13]), (False, [2, 2, 2, 2, 13, 13, 13, 13])):
        protocol = get_protocol("crw", "vip", top_k=1, blend_ids=blend)
        first, second = masks_from_features([features] * 2, (1, 4), (1, 8), mask, protocol)
        assert np.array_equal(first, mask) and second.tolist() == [at_input_size[1::2]]


def test_no_preset_blends_ids():
    assert not any(protocol.blend_ids for tasks in PROTOCOLS.values() for protocol in tasks.values())


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


# --- Input sizes ---


@pytest.mark.parametrize(
    "fit, sizes",
    [
        (Fit("short", 480), {(480, 854): (480, 832), (480, 910): (480, 896), (480, 1152): (480, 1152),
                             (854, 480): (832, 480), (480, 480): (480, 480), (240, 427): (480, 832)}),
        (Fit("long", 880), {(720, 1280): (448, 880), (1280, 720): (880, 448), (880, 880): (880, 880),
                            (360, 640): (448, 880), (240, 1280): (128, 880)}),
    ],
)  # fmt: skip
def test_one_side_is_given_and_the_other_keeps_the_ratio(fit, sizes):
    assert {size: fit(size) for size in sizes} == sizes


@given(st.sampled_from(["short", "long"]), st.integers(1, 20), st.integers(16, 2000), st.integers(16, 2000))
def test_the_other_side_is_the_next_multiple_of_64_below(side, blocks, height, width):
    length = 64 * blocks
    found = Fit(side, length)((height, width))
    order = (0, 1) if (height <= width) == (side == "short") else (1, 0)
    given_side, other = order
    assert found[given_side] == length
    exact = length * (height, width)[other] / (height, width)[given_side]
    assert found[other] % 64 == 0 and found[other] <= exact < found[other] + 64


def test_fits_that_cannot_be_are_named():
    with pytest.raises(UserError, match="unknown side 'longer': did you mean 'long'"):
        Fit("longer", 880)
    protocol = get_protocol("cropmae", "vip")
    assert input_size((720, 1280), 16, protocol) == (448, 880)
    with pytest.raises(UserError, match="input size 448x880 is no whole number of patches of 14; override input_size"):
        input_size((720, 1280), 14, protocol)
    with pytest.raises(UserError, match="input size 0x880 is no whole"):  # so narrow that no block of 64 is left
        input_size((50, 1280), 16, protocol)


def test_native_sizes_go_to_the_nearest_multiple():
    native = get_protocol("crw")
    assert [input_size((480, width), 16, native) for width in (848, 855, 857, 910)] == [
        (480, 848), (480, 848), (480, 864), (480, 912),
    ]  # fmt: skip
    assert input_size((5, 5), 16, native) == (16, 16)


# --- Protocols of each task ---

# shape, frame 0 masked, padded start, queue, radius, top k, temperature, joint cells, input size; D, V, J
CROPMAE = ("disc", False, True, 20, 20)
PUBLISHED = {
    ("crw", "davis"): ("disc", False, True, 20, 12, 10, 0.05, 3, None),
    ("crw", "vip"): ("disc", False, True, 4, 12, 10, 0.05, 3, (560, 560)),
    ("crw", "jhmdb"): ("disc", False, True, 7, 12, 10, 0.05, 3, (320, 320)),
    ("cropmae", "davis"): (*CROPMAE, 7, 0.7, 5, (480, 880)),
    ("cropmae", "vip"): (*CROPMAE, 10, 0.7, 5, Fit("long", 880)),
    ("cropmae", "jhmdb"): (*CROPMAE, 7, 0.7, 5, (320, 320)),
    ("siammae-4b", "davis"): (*CROPMAE, 7, 0.7, 5, (480, 880)),
    ("siammae-4b", "vip"): ("disc", False, True, 20, 8, 10, 0.7, 5, Fit("long", 880)),
    ("siammae-4b", "jhmdb"): (*CROPMAE, 7, 0.7, 5, (320, 320)),
    ("dino", "davis"): ("square", True, False, 7, 12, 5, 0.1, 5, Fit("short", 480)),
    ("rsp", "davis"): ("square", True, False, 30, 30, 7, 0.1, 5, Fit("short", 480)),
}


def test_every_task_has_the_published_settings():
    found = {
        (name, task): (p.shape, p.mask_first_frame, p.padded_start, p.queue, p.radius, p.top_k, p.temperature,
                       p.joint_cells, p.input_size)
        for name in PROTOCOLS for task in PROTOCOLS[name] for p in [get_protocol(name, task)]
    }  # fmt: skip
    assert found == PUBLISHED
    for name, task in PUBLISHED:
        protocol, square = get_protocol(name, task), name in ("dino", "rsp")
        assert protocol.label_resize == ("nearest" if square else "bilinear")
        assert protocol.channel_min_max == square
    assert get_protocol("crw") == get_protocol("crw", "davis")


def test_overrides_replace_and_leave_the_presets_alone():
    before = PROTOCOLS["cropmae"]["vip"]
    changed = get_protocol("cropmae", "vip", temperature=0.05, input_size=(240, 432))
    assert replace(changed, temperature=before.temperature, input_size=before.input_size) == before
    assert (changed.temperature, changed.input_size) == (0.05, (240, 432)) and before.temperature == 0.7


@pytest.mark.parametrize("name", ["dino", "rsp"])
@pytest.mark.parametrize("task", ["vip", "jhmdb"])
def test_a_task_that_a_protocol_does_not_define_is_told(name, task):
    with pytest.raises(
        UserError, match=f"{name} defines no settings for {task}: choose one of crw, cropmae, siammae-4"
    ):
        get_protocol(name, task)


@pytest.mark.parametrize(
    "message, call",
    [
        ("unknown task 'jhmbd': did you mean 'jhmdb'", lambda: get_protocol("crw", "jhmbd")),
        ("unknown protocol 'siammae'.*siammae-4b", lambda: get_protocol("siammae", "vip")),
        ("joint_cells >= 1", lambda: get_protocol("crw", "jhmdb", joint_cells=0)),
        ("queue >= 0", lambda: get_protocol("crw", queue=-1)),
        ("temperature > 0", lambda: get_protocol("crw", temperature=float("nan"))),
        ("unknown label_resize 'aera': did you mean 'area'", lambda: get_protocol("crw", label_resize="aera")),
        ("unknown protocol field 'blend'.*blend_ids", lambda: get_protocol("crw", blend=True)),
    ],
)
def test_wrong_settings_are_named(message, call):
    with pytest.raises(UserError, match=message):
        call()


def test_tasks_are_three():
    assert {task for tasks in PROTOCOLS.values() for task in tasks} == set(TASKS) == {"davis", "vip", "jhmdb"}


def test_no_features_are_told():
    with pytest.raises(UserError, match="no features"):
        list(masks_from_features([], (4, 4), (4, 4), np.zeros((4, 4), np.uint8), get_protocol("crw")))


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
