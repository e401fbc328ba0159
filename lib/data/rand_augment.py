"""timm's RandAugment for videos (AdaMAE, Table 6)."""

from functools import partial

import numpy as np
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from lib.libraries import seeded_draws
from lib.tokens.patches import IMAGENET_MEAN


class VideoRandAugment:
    """timm's RandAugment, the same operations on every frame: an `augment` of `lib.data.action_clips.TrainingClips`.

    config: timm's notation, such as FineTuning.rand_augment. image_size: side of the crops taken afterwards, by which
    translations are measured.
    """

    def __init__(self, config: str, image_size: int) -> None:
        mean = tuple(round(255 * value) for value in IMAGENET_MEAN)
        options = {"translate_const": int(image_size * 0.45), "img_mean": mean}
        self.transform = rand_augment_transform(config, options)
        for operation in self.transform.ops:
            if operation.name == "PosterizeIncreasing":
                operation.level_fn = partial(_at_least_one_bit, operation.level_fn)

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (T, H, W, 3) -> the same; what is drawn is a function of `rng` alone."""
        seed, changed = int(rng.integers(2**32)), []
        for frame in frames:
            with seeded_draws(seed):  # the same draws for every frame: none of them depends on the picture
                changed.append(np.asarray(self.transform(Image.fromarray(frame))))
        return np.stack(changed)


def _at_least_one_bit(level_fn, *arguments) -> tuple[int]:
    """timm's posterizing may ask for 0 bits at full strength: black to older Pillows, an error to newer ones."""
    return (max(1, *level_fn(*arguments)),)
