"""CIFAR-10 from pickles, folders and archives: the same pictures, and one line for whatever is wrong."""

import hashlib
import io
import lzma
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from lib.data.cifar import BATCHES, SPLITS, read_cifar, read_splits, some
from lib.errors import UserError
from lib.toyworld import ToyWorldOptions, ensure_toy_world

ARCHIVE = Path(os.environ.get("SIAMMAE_REAL_DATA", "")) / "cifar10" / "cifar10_jpeg.tar.xz"


@pytest.fixture(scope="module")
def pickles(tmp_path_factory) -> Path:
    options = ToyWorldOptions(datasets=("cifar10",), batch_pictures=20)
    return ensure_toy_world(tmp_path_factory.mktemp("cifar") / "world", options, workers=1) / "cifar10"


@pytest.fixture(scope="module")
def folder(pickles, tmp_path_factory) -> Path:
    """The same pictures as PNG files."""
    root = tmp_path_factory.mktemp("folder")
    for split in SPLITS:
        pictures = read_cifar(pickles, split)
        for number, (image, label) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
            path = root / split / pictures.classes[label] / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def by_content(pictures) -> list[tuple[str, bytes]]:
    """(class, pixels) of each, in an order that owes nothing to the files'."""
    names = [pictures.classes[label] for label in pictures.labels]
    return sorted(zip(names, (image.tobytes() for image in pictures.images), strict=True))


@pytest.mark.parametrize("split", SPLITS)
def test_pickles_hold_what_their_arrays_say(pickles, split):
    pictures = read_cifar(pickles, split)
    paths = sorted((pickles / BATCHES).glob(f"{split.replace('train', 'data')}_*"))
    raw = [pickle.loads(path.read_bytes(), encoding="latin1") for path in paths]
    first = raw[0]["data"][0].reshape(3, 32, 32)
    assert np.array_equal(pictures.images[0], first.transpose(1, 2, 0))
    assert pictures.labels.tolist() == [label for batch in raw for label in batch["labels"]]
    assert len(pictures.images) == 20 * len(raw) and len(pictures.classes) == 10
    assert pictures.source == "not as published"
    assert by_content(read_cifar(pickles / BATCHES, split)) == by_content(pictures)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_batches_as_newer_python_and_numpy_write_them_are_read(pickles, tmp_path, protocol):
    root = shutil.copytree(pickles, tmp_path / "cifar10")
    for path in sorted((root / BATCHES).iterdir()):
        content = pickle.loads(path.read_bytes(), encoding="latin1")
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    for split in SPLITS:
        assert by_content(read_cifar(root, split)) == by_content(read_cifar(pickles, split))


def test_litter_beside_pictures_is_none(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "pictures")
    for place in (root / "train", root / "train" / sorted(p.name for p in (root / "train").iterdir())[0]):
        (place / ".ipynb_checkpoints").mkdir()
        (place / ".ipynb_checkpoints" / "0-checkpoint.png").write_bytes(b"no picture")
        (place / "._0000.png").write_bytes(b"no picture")
    assert by_content(read_cifar(root, "train")) == by_content(read_cifar(folder, "train"))
    with zipfile.ZipFile(tmp_path / "PICTURES.ZIP", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
            archive.writestr(f"__MACOSX/{path.relative_to(folder).parent}/._{path.name}", b"no picture")
    assert by_content(read_cifar(tmp_path / "PICTURES.ZIP", "test")) == by_content(read_cifar(folder, "test"))


def test_files_with_the_published_checksums_are_read_by_torchvision(pickles, monkeypatch):
    def listed(names) -> list[list[str]]:
        return [[name, hashlib.md5((pickles / BATCHES / name).read_bytes()).hexdigest()] for name, *_ in names]

    ours = {split: read_cifar(pickles, split) for split in SPLITS}
    monkeypatch.setattr(CIFAR10, "train_list", listed(CIFAR10.train_list))
    monkeypatch.setattr(CIFAR10, "test_list", listed(CIFAR10.test_list))
    meta = {**CIFAR10.meta, "md5": listed([[CIFAR10.meta["filename"]]])[0][1]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    for split in SPLITS:
        theirs = read_cifar(pickles, split)
        assert theirs.source == "as published" and theirs.classes == ours[split].classes
        assert np.array_equal(theirs.images, ours[split].images) and np.array_equal(theirs.labels, ours[split].labels)


def pack(folder: Path, path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.png"), reverse=True):
                archive.write(file, Path("cifar", file.relative_to(folder)))
            archive.writestr("__MACOSX/cifar/train/ball/._0001.png", b"not a picture")
    else:
        with tarfile.open(path, "w:xz") as archive:
            archive.add(folder, "cifar")
    return path


@pytest.mark.parametrize("name", ["cifar.zip", "cifar.tar.xz"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_folder_and_its_archives_hold_the_same(pickles, folder, tmp_path, name, split):
    expected = by_content(read_cifar(pickles, split))
    archive = pack(folder, tmp_path / name)
    for root in (folder, archive, tmp_path):
        pictures = read_cifar(root, split)
        assert by_content(pictures) == expected and pictures.source == "as .png"
        assert pictures.classes == read_cifar(pickles, split).classes
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing is unpacked to disk"


# An array of objects over bytes of the file's choice: NumPy would follow them as pointers.
POINTER = b"\x80\x02cnumpy\nndarray\n(K\x01\x85cnumpy\ndtype\nX\x01\x00\x00\x00O\x85RC\x08AAAAAAAAtR."


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Evil()), "test_batch: is no CIFAR-10 batch .*system"),
        (POINTER, "test_batch: is no CIFAR-10 batch"),
        (
            pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, 2),
            "test_batch: is no CIFAR-10 .*bytes",
        ),
        (pickle.dumps({"data": {}, "labels": [0, 1]}, 2), "no pictures of 32x32"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}, 2), "do not fit together"),
        (b"cut off", "test_batch: is no CIFAR-10 batch"),
        (pickle.dumps([1, 2]), "test_batch: is no CIFAR-10 batch"),
        (pickle.dumps({"data": np.zeros((2, 48), np.uint8), "labels": [0, 1]}, 2), "no pictures of 32x32"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, 2), "do not fit together"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, 2), "do not fit together"),
    ],
)
def test_damaged_pickles_are_refused_and_run_nothing(pickles, tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / BATCHES
    folder.mkdir()
    for path in (pickles / BATCHES).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_cifar(tmp_path, "test")
    assert not (tmp_path / "evil").exists()
    (folder / "test_batch").unlink()
    with pytest.raises(UserError, match="test_batch: no such file"):
        read_cifar(tmp_path, "test")


def picture(size: tuple[int, int] = (32, 32)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size).save(content, "PNG")
    return content.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def broken(archive: bytes) -> bytes:
    """With other bytes in the middle of its first file."""
    return archive[:60] + b"\xff" * 10 + archive[70:]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds neither .* nor one archive"),
        ({"test/ball/1.png": picture((64, 32))}, r"1.png: is 64x32, not 32x32"),
        ({"test/ball/1.png": picture()[:60]}, "1.png: is no readable picture"),
        ({"test/ball/notes.txt": b"no picture"}, "test: holds no pictures"),
        ({"a.zip": b"no archive"}, "a.zip: is damaged or no archive"),
        ({"a.tar": b"no archive"}, "a.tar: is damaged or no archive"),
        ({"a.tar.xz": lzma.compress(b"x" * 9000)[:-20]}, "a.tar.xz: is damaged or no archive"),
        ({"a.zip": zipped({f"{BATCHES}/test_batch": b""})}, "a.zip: holds the pickles of CIFAR-10; unpack it"),
        ({"a.zip": zipped({"test/ball/1.png": bytes(200_000)})}, "1.png has 200000 bytes, too many"),
        ({"a.zip": broken(zipped({"test/ball/1.png": picture()}))}, "a.zip: is damaged or no archive"),
        ({"a.zip": b"", "b.zip": b""}, "holds neither .* nor one archive"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_cifar(tmp_path, "test")


def test_a_cut_off_archive_is_refused(folder, tmp_path):
    archive = pack(folder, tmp_path / "cifar.tar.xz")
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(UserError, match="cifar.tar.xz: is damaged"):
        read_cifar(archive, "train")


def test_splits_of_other_classes_are_refused(folder, tmp_path):
    train, test = read_splits(folder)
    assert train.classes == test.classes and (len(train.images), len(test.images)) == (100, 20)
    shutil.copytree(folder, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "test" / "ball")
    with pytest.raises(UserError, match="10 classes in train and 9 classes in test"):
        read_splits(tmp_path / "less")


def test_a_wrong_path_or_split_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        read_cifar(tmp_path / "nothing", "train")
    with pytest.raises(UserError, match="split 'val'"):
        read_cifar(tmp_path, "val")


def test_fewer_pictures_are_of_all_classes_and_among_the_more(pickles):
    pictures = read_cifar(pickles, "train")
    ten, fifty = some(pictures, 10), some(pictures, 50)
    assert np.bincount(fifty.labels).tolist() == [5] * 10 and np.bincount(ten.labels).tolist() == [1] * 10
    assert set(by_content(ten)) <= set(by_content(fifty)) <= set(by_content(pictures))
    assert all(some(pictures, number) is pictures for number in (None, 100, 110))
    lopsided = pictures._replace(images=pictures.images[:-1], labels=pictures.labels[:-1])
    assert len(some(lopsided, 90).images) == 90
    for number in (0, 15):
        with pytest.raises(UserError, match=f"{number} pictures of 10 classes"):
            some(pictures, number)


@pytest.mark.skipif(not ARCHIVE.is_file(), reason="SIAMMAE_REAL_DATA names no folder with CIFAR-10 as JPEG")
def test_the_real_pictures_as_jpeg():
    pictures = read_cifar(ARCHIVE.parent, "test")
    assert pictures.images.shape == (10_000, 32, 32, 3) and pictures.source == "as .jpg"
    assert np.bincount(pictures.labels).tolist() == [1000] * 10
    assert pictures.classes[0] == "airplane" and pictures.classes[9] == "truck"
