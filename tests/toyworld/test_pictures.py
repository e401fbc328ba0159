"""The toy CIFAR-10: the published layout, classes equally often, the same pictures from the same seed."""

import pickle

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from lib.toyworld import ToyWorldOptions, ensure_toy_world
from lib.toyworld.pictures import CLASSES, draw

OPTIONS = ToyWorldOptions(datasets=("cifar10",), batch_pictures=20)


def batches(root) -> dict[str, dict]:
    folder = root / "cifar10" / "cifar-10-batches-py"
    return {path.name: pickle.loads(path.read_bytes(), encoding="latin1") for path in folder.iterdir()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ensure_toy_world(tmp_path_factory.mktemp("pictures") / "world", OPTIONS, workers=1)


def test_the_files_are_those_of_the_published_set(world):
    found = batches(world)
    published = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    assert sorted(found) == sorted([*published, CIFAR10.meta["filename"]])
    assert found["batches.meta"]["label_names"] == list(CLASSES) == sorted(CLASSES) and len(CLASSES) == 10
    for name in published:
        batch = found[name]
        assert batch["data"].shape == (20, 3072) and batch["data"].dtype == np.uint8
        assert np.bincount(batch["labels"]).tolist() == [2] * 10 and len(batch["filenames"]) == 20


def test_the_same_seed_gives_the_same_pictures_whatever_the_processes(world, tmp_path):
    again, other = (
        ensure_toy_world(tmp_path / str(seed), ToyWorldOptions(datasets=("cifar10",), batch_pictures=20, seed=seed), 2)
        for seed in (0, 1)
    )
    one, same, different = (batches(root)["test_batch"]["data"] for root in (world, again, other))
    assert np.array_equal(one, same) and not np.array_equal(one, different)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_drawn_in_many_ways(name):
    rng = np.random.default_rng(0)
    first, second = draw(rng, name), draw(rng, name)
    assert first.shape == (32, 32, 3) and first.std() > 10
    assert np.abs(first.astype(int) - second).mean() > 5
