"""Labelled videos of the action data sets, all in one form: paths with class indices, and the names of the classes.

Layouts read: Kinetics-400 (class folders with `annotations/{split}.csv`), Something-Something v2 (the official JSON
files), UCF101 (`ucfTrainTestlist/`), and plain lists with lines `path label`, as VideoMAE's code takes them. Classes
are counted from 0 in the order of the official class list; no video is opened here. Errors name the file and the line.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.data.kinetics import class_folder, list_kinetics, read_csv
from lib.errors import UserError, unknown

UNLABELLED = -1  # the label of a video whose class is not published
SSV2 = "something-something-v2-{}.json"
SSV2_VIDEOS = ("videos", "20bn-something-something-v2", ".")
SSV2_SUFFIXES = (".webm", ".mp4")  # as published, and as most people convert them


@dataclass(frozen=True)
class LabelledVideo:
    """A video file and the index of its class, or UNLABELLED."""

    path: Path
    label: int


@dataclass(frozen=True)
class ActionList:
    """The videos of one split, in the order of its list.

    classes: names; a label is an index into them. mirrored: whether a mirrored video still shows its class. It does
    not in Something-Something, where "left to right" is a class.
    """

    videos: tuple[LabelledVideo, ...]
    classes: tuple[str, ...]
    mirrored: bool


def list_kinetics_actions(
    root: str | Path, split: str = "train", classes: Sequence[str] | None = None, missing_ok: bool = False
) -> ActionList:
    """Kinetics-400 with labels, from `annotations/{split}.csv` or, where it is not there, from the class folders.

    classes: the class list; by default the sorted labels of `annotations/train.csv`, or the sorted class folders of
        `train` (of `split`, if there is no `train`), whichever is there, so that every split counts its classes alike.
    missing_ok: keep rows whose video is not there, for `ClipReader.usable` to skip: copies of Kinetics lack some.
    """
    root = Path(root)
    paths = list_kinetics(root, split)
    table = root / "annotations" / f"{split}.csv"
    if table.is_file() and (root / split).is_dir():
        labels = _table_labels(table)
        places = [f"{table}:{line}" for line in range(2, len(labels) + 2)]
    else:
        labels, places = [path.parent.name for path in paths], [str(path) for path in paths]
    names = tuple(_kinetics_classes(root, split) if classes is None else classes)
    numbers = {class_folder(name): number for number, name in enumerate(names)}
    videos = []
    for path, label, place in zip(paths, labels, places, strict=True):
        if class_folder(label) not in numbers:
            raise _not_a_class(place, label, names)
        videos.append(_video(path, numbers[class_folder(label)], place, missing_ok))
    return ActionList(tuple(videos), names, mirrored=True)


def _kinetics_classes(root: Path, split: str) -> list[str]:
    table = root / "annotations" / "train.csv"
    if table.is_file():
        return sorted(set(_table_labels(table)))
    folder = root / "train" if (root / "train").is_dir() else root / split
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not classes:
        raise UserError(f"{root}: has neither annotations/train.csv nor class folders: its videos have no labels")
    return classes


def _table_labels(table: Path) -> list[str]:
    return [row["label"] for row in read_csv(table, ["label"])]


def list_ssv2(root: str | Path, split: str = "train") -> ActionList:
    """Something-Something v2, split `train`, `validation` or `test`, from the official JSON files in `root`.

    Videos are `{id}.webm`, or converted `{id}.mp4`, in `root`, in its folder `videos` or in
    `20bn-something-something-v2`. The test split is published without labels: there all are UNLABELLED. JSON has no
    lines, so errors name the number of the item (from 1) and its id.
    """
    root = Path(root)
    if split not in ("train", "validation", "test"):
        raise unknown("split of Something-Something v2", split, ("train", "validation", "test"))
    numbers = _ssv2_classes(root / SSV2.format("labels"))
    path = root / SSV2.format(split)
    items = _read_json(path)
    if not isinstance(items, list) or not all(isinstance(item, dict) and "id" in item for item in items):
        raise UserError(f"{path}: is no list of items with an id; fetch the official file again")
    videos = []
    for number, item in enumerate(items, start=1):
        place = f"{path}: item {number} (id {item['id']})"
        label = UNLABELLED
        if split != "test":
            if not isinstance(item.get("template"), str):
                raise UserError(f"{place}: has no template, so no label; fetch the official file again")
            name = item["template"].replace("[", "").replace("]", "")
            if name not in numbers:
                raise _not_a_class(place, name, numbers)
            label = numbers[name]
        videos.append(_video(_ssv2_path(root, str(item["id"])), label, place))
    return ActionList(_not_empty(videos, path), tuple(sorted(numbers, key=numbers.get)), mirrored=False)


def _ssv2_classes(path: Path) -> dict[str, int]:
    """Names and indices from the labels file, whose indices are strings."""
    content = _read_json(path)
    try:
        numbers = {name: int(number) for name, number in content.items()}
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{path}: is no map of class names to numbers; fetch the official file again") from None
    if sorted(numbers.values()) != list(range(len(numbers))) or not numbers:
        raise UserError(f"{path}: its {len(numbers)} classes are not numbered 0, 1, 2, ...; fetch the file again")
    return numbers


def _ssv2_path(root: Path, name: str) -> Path:
    places = [root / folder / f"{name}{suffix}" for folder in SSV2_VIDEOS for suffix in SSV2_SUFFIXES]
    return next((place for place in places if place.is_file()), places[0])


def list_ucf101(root: str | Path, split: str = "train", fold: int = 1) -> ActionList:
    """UCF101, split `train` or `test` of the official fold 1, 2 or 3.

    `root` holds `UCF-101/{class}/*.avi` and `ucfTrainTestlist/`. Lines of the test lists carry no label: the class
    folder tells it; train lines carry a number from 1, which must agree with the folder.
    """
    root = Path(root)
    if split not in ("train", "test"):
        raise unknown("split of UCF101", split, ("train", "test"))
    if fold not in (1, 2, 3):
        raise UserError(f"fold {fold}: UCF101 has the folds 1, 2 and 3")
    classes = _ucf_classes(root / "ucfTrainTestlist" / "classInd.txt")
    path = root / "ucfTrainTestlist" / f"{split}list{fold:02d}.txt"
    videos = []
    for place, line in _lines(path):
        name, *number = line.split()
        class_name = name.split("/")[0]
        if class_name not in classes:
            raise _not_a_class(place, class_name, classes)
        label = classes.index(class_name)
        if number and number != [str(label + 1)]:
            raise UserError(f"{place}: label {' '.join(number)}, but {class_name} is {label + 1} in classInd.txt")
        videos.append(_video(root / "UCF-101" / name, label, place))
    return ActionList(_not_empty(videos, path), classes, mirrored=True)


def _ucf_classes(path: Path) -> tuple[str, ...]:
    classes = []
    for place, line in _lines(path):
        number, _, name = line.partition(" ")
        if number != str(len(classes) + 1) or not name:
            raise UserError(f"{place}: {line!r} is not `{len(classes) + 1} ClassName`; fetch classInd.txt again")
        classes.append(name.strip())
    return _not_empty(classes, path)


def list_labelled(path: str | Path, classes: Sequence[str], mirrored: bool) -> ActionList:
    """A text file with a line `path label` for each video, as VideoMAE's code takes it.

    A path is relative to the list's folder and may hold spaces: the last word of the line is the label, an index into
    `classes`. mirrored: see ActionList.
    """
    path = Path(path)
    videos = []
    for place, line in _lines(path):
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal():
            raise UserError(f"{place}: {line!r} is not `path label` with a whole number as label; correct the line")
        if int(label) >= len(classes):
            raise UserError(f"{place}: label {label}, but there are {len(classes)} classes, counted from 0")
        videos.append(_video(path.parent / name.strip(), int(label), place))
    return ActionList(_not_empty(videos, path), tuple(classes), mirrored)


def unlabelled(paths: Sequence[str | Path]) -> ActionList:
    """Videos without classes, such as a folder of clips: enough to pre-train on."""
    if not paths:
        raise UserError("no videos: check the folder or the list they should come from")
    return ActionList(tuple(LabelledVideo(Path(path), UNLABELLED) for path in paths), (), mirrored=True)


def read_classes(path: str | Path) -> tuple[str, ...]:
    """The class names of a text file, one a line, in its order."""
    return _not_empty([line for _, line in _lines(Path(path))], Path(path))


def _lines(path: Path) -> list[tuple[str, str]]:
    """The lines of a text file that are not blank, each with its place."""
    lines = _read(path).splitlines()
    return [(f"{path}:{number}", line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _read(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8; fetch it again") from None


def _read_json(path: Path) -> object:
    try:
        return json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: is no JSON ({error.msg}); fetch it again") from None


def _video(path: Path, label: int, place: str, missing_ok: bool = False) -> LabelledVideo:
    if not missing_ok and not path.is_file():
        raise UserError(f"{place}: no video {path}; put it there, or take it off the list")
    return LabelledVideo(path, label)


def _not_empty(items: list, path: Path) -> tuple:
    if not items:
        raise UserError(f"{path}: the list is empty; fetch it again")
    return tuple(items)


def _not_a_class(place: str, name: str, classes: Sequence[str] | Mapping[str, int]) -> UserError:
    """The error for a class that the class list lacks; a near miss is named, hundreds of classes are not."""
    hint = str(unknown("class", name, classes)).partition(": ")[2].partition("choose one")[0]
    return UserError(
        f"{place}: unknown class {name!r}: {hint}the class list has {len(classes)} others; is it of this data set?"
    )
