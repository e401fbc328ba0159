"""RandAugment for videos: one draw of operations for all frames of a clip, a function of the generator."""

import pickle
import random

import numpy as np

from lib.data.rand_augment import VideoRandAugment
from lib.presets import FINE_TUNING


def picture() -> np.ndarray:
    y, x = np.mgrid[:24, :32]
    return np.stack([x * 8, y * 10, (x + y) * 4], axis=-1).astype(np.uint8)


def test_posterizing_at_full_strength_keeps_a_bit():
    """Pillow refuses 0 bits, which timm asks for at magnitude 10; 9 with deviation 0.5 is cut there."""
    augment = VideoRandAugment("rand-m10-n1-inc1", 24)
    augment.transform.choice_weights = [op.name == "PosterizeIncreasing" for op in augment.transform.ops]
    augment.transform.choice_weights = np.array(augment.transform.choice_weights, float)
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    found = [augment(frames, np.random.default_rng(seed)) for seed in range(20)]
    assert all(np.array_equal(clip, frames) or set(np.unique(clip)) <= {0, 128} for clip in found)
    assert any(set(np.unique(clip)) == {0, 128} for clip in found)


def test_all_frames_get_the_same_operations():
    augment = VideoRandAugment(FINE_TUNING["ssv2"].rand_augment, 24)
    changed = set()
    for seed in range(20):
        frames = np.stack([picture(), picture(), picture() // 2, picture()])
        out = augment(frames, np.random.default_rng(seed))
        assert out.shape == frames.shape and out.dtype == np.uint8
        assert (out[0] == out[1]).all() and (out[0] == out[3]).all()  # whatever the frames between them show
        changed.add(out[0].tobytes())
    assert len(changed) > 15


def test_rand_augment_is_a_function_of_the_generator_and_goes_to_workers():
    augment = VideoRandAugment("rand-m7-n4-mstd0.5-inc1", 24)
    again = pickle.loads(pickle.dumps(augment))
    frames = picture()[None]
    for seed in range(5):
        first, second = (a(frames, np.random.default_rng(seed)) for a in (augment, again))
        assert (first == second).all()


def test_drawing_leaves_the_global_generators_as_they_were():
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    VideoRandAugment("rand-m9-n4", 8)(np.zeros((2, 8, 8, 3), np.uint8), np.random.default_rng(0))
    assert (random.random(), np.random.rand()) == expected
