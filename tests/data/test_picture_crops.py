"""Crops of pictures: whole ones are left alone, boxes are where they say, draws depend on seed and index alone."""

import numpy as np
import torch
from torch.utils.data import DataLoader

from lib.data.cifar import LabelledPictures
from lib.data.picture_crops import PictureCrops, collate, crop, enlarged, random_boxes, to_tensor
from lib.training import StepBatches

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
PICTURES = LabelledPictures(IMAGES, np.arange(6), tuple("abcdef"), "made up")


def test_a_whole_picture_is_left_as_it_is():
    assert torch.equal(enlarged(IMAGES, 32), torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    flipped = crop(to_tensor(IMAGES), np.tile([0.0, 0, 1, 1], (6, 1)), np.ones(6, dtype=bool), 32)
    assert torch.equal(flipped, to_tensor(IMAGES).flip(-1))


def test_a_box_is_where_it_says():
    """The right lower quarter at its own size: pixel for pixel, and mirrored within itself."""
    boxes, images = np.tile([0.5, 0.5, 0.5, 0.5], (6, 1)), to_tensor(IMAGES)
    assert torch.equal(crop(images, boxes, np.zeros(6, dtype=bool), 16), images[..., 16:, 16:])
    assert torch.equal(crop(images, boxes, np.ones(6, dtype=bool), 16), images[..., 16:, 16:].flip(-1))


def test_enlarging_is_bilinear():
    expected = torch.nn.functional.interpolate(to_tensor(IMAGES).float(), (64, 64), mode="bilinear")
    assert (enlarged(IMAGES, 64).float() - expected).abs().max() <= 0.51


def test_boxes_stay_inside_and_have_the_area():
    boxes = random_boxes(np.random.default_rng(1), 5000, (0.2, 1.0))
    left, top, width, height = boxes.T
    assert (boxes >= 0).all() and (left + width <= 1 + 1e-9).all() and (top + height <= 1 + 1e-9).all()
    inside = (width < 1) & (height < 1)
    areas, aspects = (width * height)[inside], (width / height)[inside]
    assert areas.min() >= 0.2 - 1e-9 and 0.24 < np.quantile(areas, 0.1) < 0.32
    assert aspects.min() >= 3 / 4 - 1e-9 and aspects.max() <= 4 / 3 + 1e-9


def test_a_loader_gets_whole_batches_that_depend_on_seed_and_index():
    def batches(seed: int, start: int = 0) -> list[dict]:
        samples = PictureCrops(PICTURES, 32, (0.2, 1.0), seed)
        return list(DataLoader(samples, batch_sampler=StepBatches(6, 4, 5, 0, start), collate_fn=collate))

    first, again, resumed, other = batches(0), batches(0), batches(0, 2), batches(1)
    assert first[0]["image"].shape == (4, 3, 32, 32) and first[0]["image"].dtype == torch.uint8
    assert all(torch.equal(one["image"], two["image"]) for one, two in zip(first, again, strict=True))
    assert all(torch.equal(one["image"], two["image"]) for one, two in zip(first[2:], resumed, strict=True))
    assert not torch.equal(first[0]["image"], other[0]["image"])
    labels = torch.cat([batch["label"] for batch in first])[:18].view(3, 6)
    assert all(sorted(epoch.tolist()) == list(range(6)) for epoch in labels)


def test_the_identity_tells_pictures_and_settings_apart():
    def identity(pictures=PICTURES, size=32, area=(0.2, 1.0)) -> str:
        return PictureCrops(pictures, size, area).identity

    changed = PICTURES._replace(labels=PICTURES.labels[::-1].copy())
    assert len({identity(), identity(changed), identity(size=64), identity(area=(0.5, 1.0))}) == 4
    assert identity() == identity()
