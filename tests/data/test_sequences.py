"""The common form of data sets with masks: laziness, sizes, and which objects count."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from make_davis import grey_levels, moving_squares
from PIL import Image

from lib.data.sequences import MAX_OBJECTS, MaskSequence, SequenceDataset, from_first_object
from lib.errors import UserError
from lib.evaluation import metrics


def write_frames(folder: Path, masks: np.ndarray) -> list[Path]:
    paths = [folder / f"{t:03d}.png" for t in range(len(masks))]
    for path, frame in zip(paths, grey_levels(masks), strict=True):
        Image.fromarray(frame).save(path)
    return paths


def memory(tmp_path: Path, masks: np.ndarray, **changes) -> MaskSequence:
    """A sequence whose mask sources are indices into an array."""
    fields = {"frame_paths": tuple(write_frames(tmp_path, masks)), "sources": tuple(range(len(masks)))}
    return MaskSequence("made", **fields | {"read_ids": lambda t: masks[t]} | changes)


def test_frames_and_masks_are_read_one_at_a_time(tmp_path):
    masks, asked = moving_squares(2, 5), []
    sequence = memory(tmp_path, masks, read_ids=lambda t: [asked.append(t), masks[t]][1])
    assert (len(sequence), sequence.stems) == (5, ("000", "001", "002", "003", "004"))
    np.testing.assert_array_equal(sequence.mask(3), masks[3])
    assert asked == [3]
    np.testing.assert_array_equal(sequence.masks(2), masks[:2])
    assert asked == [3, 0, 1] and sequence.num_objects == 2
    np.testing.assert_array_equal(sequence.masks(), masks)
    np.testing.assert_array_equal(sequence.frames(), grey_levels(masks))
    frames = sequence.iter_frames(4)
    sequence.frame_paths[4].unlink()  # not asked for
    sequence.frame_paths[2].unlink()
    np.testing.assert_array_equal(next(frames), grey_levels(masks)[0])
    np.testing.assert_array_equal(next(frames), sequence.frame(1))
    with pytest.raises(UserError, match=r"002.png: no such image"):
        next(frames)


def test_max_frames_must_leave_a_frame(tmp_path):
    sequence = memory(tmp_path, moving_squares(1, 3))
    for read in (sequence.iter_frames, sequence.frames, sequence.masks):
        for wrong in (0, -1):
            with pytest.raises(UserError, match="max_frames .* give 1 or more"):
                read(wrong)
    assert len(sequence.masks(99)) == len(sequence.frames(99)) == 3


def test_sizes_that_differ_are_named(tmp_path):
    masks = moving_squares(1, 3)
    small = [masks[0], masks[1][:, :50], masks[2]]
    sequence = memory(tmp_path, masks, read_ids=lambda t: small[t])
    np.testing.assert_array_equal(sequence.mask(0), masks[0])
    with pytest.raises(UserError, match="^1: 50x40 pixels, but its frame .*001.png has 60x40"):
        sequence.masks()
    Image.fromarray(grey_levels(masks)[1][:, :50]).save(sequence.frame_paths[1])  # now both differ from the first
    np.testing.assert_array_equal(sequence.mask(1), small[1])
    with pytest.raises(UserError, match="^1: 50x40 pixels, but 0 has 60x40"):
        sequence.masks()
    with pytest.raises(UserError, match="001.png: 50x40 pixels, but .*000.png has 60x40"):
        sequence.frames()


@pytest.mark.parametrize("shown", [[], [2], [1, 3]])
def test_the_first_frame_shows_1_to_n(tmp_path, shown):
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[0, 0, : len(shown)] = shown
    with pytest.raises(UserError, match="ids in the first frame must be 1, 2, ... without gaps"):
        assert memory(tmp_path, masks).num_objects


@given(arrays(np.int64, (4, 3, 5), elements=st.sampled_from([0, 0, 7, 1001, 2002, 900000])))
def test_what_the_first_mask_with_an_object_shows_becomes_1_to_n(values):
    paths = [Path(f"{t}.jpg") for t in range(4)]
    sequence = from_first_object("made", paths, range(4), lambda t: values[t])
    start = next((t for t in range(4) if values[t].any()), None)
    if start is None:
        assert sequence is None
        return
    assert sequence.frame_paths == tuple(paths[start:]) and sequence.sources == tuple(range(start, 4))
    first = sorted({int(value) for value in values[start].ravel()} - {0})
    assert sequence.num_objects == len(first)
    slow = [
        [[first.index(v) + 1 if v in first else 0 for v in row] for row in mask] for mask in values[start:].tolist()
    ]
    ids = [sequence.read_ids(source) for source in sequence.sources]
    np.testing.assert_array_equal(ids, slow)
    assert ids[0].dtype == np.uint8


def test_ids_end_where_eight_bits_do():
    def read(count: int) -> np.ndarray:
        return np.arange(count + 1).reshape(1, -1)

    full = from_first_object("full", [Path("a")], [MAX_OBJECTS], read)
    assert full.num_objects == MAX_OBJECTS and full.read_ids(MAX_OBJECTS).max() == MAX_OBJECTS
    with pytest.raises(UserError, match="255: shows 255 objects, at most 254"):
        from_first_object("more", [Path("a")], [MAX_OBJECTS + 1], read)


def test_objects_that_appear_later_do_not_count(tmp_path):
    values = 10 * moving_squares(3, 6).astype(np.int64)
    values[:2][values[:2] == 20] = 0  # 20 comes in frame 2
    sequence = from_first_object("late", write_frames(tmp_path, values // 10), range(6), lambda t: values[t])
    assert sequence.num_objects == 2
    np.testing.assert_array_equal(sequence.masks(), np.select([values == 10, values == 30], [1, 2]))
    truth = sequence.masks()[metrics.SCORED]
    statistics = metrics.object_statistics(*metrics.score_sequence(truth, truth, sequence.num_objects))
    assert [(found["J_mean"], found["F_mean"]) for found in statistics] == [(1, 1), (1, 1)]


def test_a_data_set_finds_by_name_and_is_never_empty(tmp_path):
    sequence = memory(tmp_path, moving_squares(1, 3))
    dataset = SequenceDataset([None, sequence], "split val")
    assert (len(dataset), list(dataset)) == (1, [sequence])
    assert dataset["made"] is sequence
    with pytest.raises(UserError, match="unknown sequence of split val 'mode': did you mean 'made'"):
        dataset["mode"]
    with pytest.raises(UserError, match="split val: holds no sequence that shows an object"):
        SequenceDataset([None], "split val")
