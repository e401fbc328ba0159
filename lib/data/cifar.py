"""CIFAR-10 (Krizhevsky 2009): from its own pickles, or from pictures in a folder or an archive, {split}/{class}/{name}.

Labels count the classes in the order of the data set's list, which for CIFAR-10 is also that of the alphabet.
Shapes: `n` pictures of 32 x 32 pixels.
"""

import io
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10

from lib.data.folders import children, is_litter
from lib.errors import UserError

SIDE, SPLITS, BATCHES = 32, ("train", "test"), "cifar-10-batches-py"
PICTURES, ARCHIVES = (".jpg", ".jpeg", ".png"), (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LARGEST = 100_000  # bytes of a picture's file
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


class LabelledPictures(NamedTuple):
    """Pictures with labels, all in memory."""

    images: np.ndarray  # uint8 (n, 32, 32, 3)
    labels: np.ndarray  # int64 (n,)
    classes: tuple[str, ...]
    source: str  # what must stand beside numbers: "as published", "not as published" or "as .jpg", which lost detail


def read_splits(root: str | Path) -> tuple[LabelledPictures, LabelledPictures]:
    """The training and the test pictures below `root`, as `read_cifar` reads them; their classes must be the same."""
    train, test = (read_cifar(root, split) for split in SPLITS)
    if train.classes != test.classes:
        words = " and ".join(
            f"{len(part.classes)} classes in {name}" for name, part in zip(SPLITS, (train, test), strict=True)
        )
        raise UserError(f"{root}: its splits differ in their classes ({words}): labels would shift; complete it")
    return train, test


def read_cifar(root: str | Path, split: str) -> LabelledPictures:
    """The "train" or "test" pictures below `root`: the folder that holds cifar-10-batches-py/, that folder itself, one
    with train/ and test/, an archive of that, or a folder with one such archive.

    Files of the published checksums are read by torchvision; others of their layout, such as the toy world's, without
    running what a pickle may hold. UserError for whatever is missing or is no picture of this size.
    """
    root = Path(root)
    if split not in SPLITS:
        raise UserError(f"split {split!r}: CIFAR-10 has {' and '.join(SPLITS)}")
    if root.is_dir():
        if root.name == BATCHES or (root / BATCHES).is_dir():
            return _read_batches(root if root.name == BATCHES else root / BATCHES, split)
        if (root / split).is_dir():
            return _decode(_folder_files(root / split), f"{root / split}")
        archives = [path for path in children(root) if path.name.lower().endswith(ARCHIVES)]
        if len(archives) != 1:
            raise UserError(f"{root}: holds neither {BATCHES}/, {split}/ nor one archive; give CIFAR-10's folder")
        root = archives[0]
    if not root.is_file():
        raise UserError(f"{root}: no such file or folder; give CIFAR-10's folder or archive")
    return _decode(_archive_files(root, split), f"{root}, {split}")


# --- Pickles ---


def _read_batches(folder: Path, split: str) -> LabelledPictures:
    names = [name for name, _ in (CIFAR10.train_list if split == "train" else CIFAR10.test_list)]
    try:
        known = CIFAR10(folder.parent, train=split == "train")
        return LabelledPictures(known.data, np.array(known.targets), tuple(known.classes), "as published")
    except RuntimeError:  # other checksums: a toy's, or a damaged copy
        batches = [_unpickle(folder / name) for name in names]
    names_of = _unpickle(folder / CIFAR10.meta["filename"]).get("label_names")
    images = np.concatenate([_pixels(batch, folder / name) for batch, name in zip(batches, names, strict=True)])
    labels = [label for batch in batches for label in _list(batch.get("labels"))]
    classes = tuple(map(str, _list(names_of)))
    if len(labels) != len(images) or not all(type(label) is int and 0 <= label < len(classes) for label in labels):
        raise UserError(f"{folder}: labels and pictures of {split} do not fit together; fetch it again")
    return LabelledPictures(images, np.array(labels, dtype=np.int64), classes, "not as published")


def _list(values: object) -> list:
    return values if isinstance(values, list) else []


def _pixels(batch: dict, path: Path) -> np.ndarray:
    data = batch.get("data")
    data = getattr(data, "values", None) if isinstance(data, _Bytes) else None
    if data is None or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE:
        raise UserError(f"{path}: holds no pictures of {SIDE}x{SIDE} pixels; fetch it again")
    return data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


class _Bytes:
    """Stands for a NumPy array while a pickle is read: takes bytes and a shape, and nothing else."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, columns_first, data = state
        if not isinstance(kind, _ByteType):
            raise pickle.UnpicklingError("holds an array that is not of bytes")
        data = data.encode("latin1") if isinstance(data, str) else data
        self.values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if columns_first else "C")


class _ByteType:
    """Stands for the type of these arrays."""

    def __init__(self, name: str, *_):
        if name not in ("u1", "uint8"):
            raise pickle.UnpicklingError(f"holds an array of {name}, not of bytes")

    def __setstate__(self, state: tuple) -> None:
        """There is nothing to set."""


def _from_buffer(data: bytes, kind: _ByteType, shape: tuple, order: str, axes: tuple | None = None) -> _Bytes:
    array = _Bytes()  # as protocol 5, Python 3.14's own, spells it
    array.__setstate__((None, shape, kind, order == "F", data))
    array.values = array.values if axes is None else array.values.transpose(axes)
    return array


class _Plain(pickle.Unpickler):
    """Reads plain values and arrays of bytes. NumPy's own constructors are left out: they would take any pointer."""

    stand_ins = {("numpy", "ndarray"): None, ("numpy", "dtype"): _ByteType}
    stand_ins |= {(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Bytes() for core in ("core", "_core")}
    stand_ins |= {(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")}
    stand_ins |= {("_codecs", "encode"): lambda text, _: text.encode("latin1")}

    def find_class(self, module: str, name: str):
        if (module, name) not in self.stand_ins:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return self.stand_ins[module, name]


def _unpickle(path: Path) -> dict:
    try:
        with path.open("rb") as file:
            content = _Plain(file, encoding="latin1").load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; fetch CIFAR-10 again") from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"{path}: is no CIFAR-10 batch ({error}); fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no CIFAR-10 batch; fetch it again")
    return content


# --- Pictures ---


def _folder_files(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """(class, name, content) of each picture."""
    for of_class in filter(Path.is_dir, children(folder)):
        for path in children(of_class):
            if path.is_file() and _is_picture(path.name):
                yield of_class.name, str(path), path.read_bytes()


def _archive_files(path: Path, split: str) -> Iterator[tuple[str, str, bytes]]:
    """(class, name, content) of each picture of the split, in the archive's order; nothing is unpacked to disk."""
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for item in archive.infolist():
                    if of_class := _class_of(item.filename, split, item.file_size, path):
                        yield of_class, f"{path}: {item.filename}", archive.read(item)
        else:
            with tarfile.open(path) as archive:
                for item in archive:
                    if item.isfile() and (of_class := _class_of(item.name, split, item.size, path)):
                        yield of_class, f"{path}: {item.name}", archive.extractfile(item).read()
    except BROKEN as error:
        raise UserError(f"{path}: is damaged or no archive ({error}); fetch it again") from None


def _class_of(name: str, split: str, size: int, path: Path) -> str | None:
    """The class of a picture's path in an archive, if it is one of the split."""
    parts = PurePosixPath(name).parts
    if BATCHES in parts:
        raise UserError(f"{path}: holds the pickles of CIFAR-10; unpack it, and give the folder with {BATCHES}/")
    if len(parts) < 3 or parts[-3] != split or not _is_picture(parts[-1]) or any(map(is_litter, parts)):
        return None
    if size > LARGEST:
        raise UserError(f"{path}: {name} has {size} bytes, too many for {SIDE}x{SIDE} pixels")
    return parts[-2]


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURES)


def _decode(files: Iterator[tuple[str, str, bytes]], where: str) -> LabelledPictures:
    images, names, suffixes = [], [], set()
    for of_class, name, content in files:
        images.append(_picture(content, name))
        names.append(of_class)
        suffixes.add(Path(name).suffix.lower())
    if not images:
        raise UserError(f"{where}: holds no pictures; they must lie in {{train,test}}/{{class}}/")
    classes = tuple(sorted(set(names)))
    labels = np.array([classes.index(name) for name in names])
    return LabelledPictures(np.stack(images), labels, classes, f"as {' and '.join(sorted(suffixes))}")


def _picture(content: bytes, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.size != (SIDE, SIDE):
                raise UserError(f"{name}: is {image.size[0]}x{image.size[1]}, not {SIDE}x{SIDE}: no CIFAR-10 picture")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{name}: is no readable picture ({error}); fetch it again") from None


# --- Subsets ---


def some(pictures: LabelledPictures, number: int | None) -> LabelledPictures:
    """`number` of the pictures, as many of each class; always the same ones, and fewer are among more.

    None, or more than there are: all. UserError for a number that the classes cannot share.
    """
    if number is None or number >= len(pictures.images):
        return pictures
    classes, rng = len(pictures.classes), np.random.default_rng(0)
    orders = [rng.permutation(np.flatnonzero(pictures.labels == label)) for label in range(classes)]
    each, rest = divmod(number, classes)
    if rest or not 1 <= each <= min(map(len, orders)):
        most = classes * min(map(len, orders))
        raise UserError(f"{number} pictures of {classes} classes: choose a multiple of it, {most} at most, or all")
    chosen = np.sort(np.concatenate([order[:each] for order in orders]))
    return pictures._replace(images=pictures.images[chosen], labels=pictures.labels[chosen])
