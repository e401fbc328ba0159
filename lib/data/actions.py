"""Labelled videos of the action data sets, all in one form: paths with class indices, and the names of the classes.

Read are Kinetics-400, Something-Something v2, UCF101, JHMDB, and plain lists of lines `path label`, as VideoMAE's code
takes them. Classes are counted from 0 in the order of the official class list; no video is opened here.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.data.folders import read_csv, read_lines, read_text
from lib.data.jhmdb import split_lists
from lib.data.kinetics import class_folder, list_kinetics
from lib.errors import UserError, unknown

UNLABELLED = -1  # the label of a video whose class is not published
SSV2 = "something-something-v2-"
SSV2_VIDEOS = ("videos", "20bn-something-something-v2", "videos/20bn-something-something-v2", ".")
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
    not in Something-Something, where "left to right" is a class. absent: how many listed videos are not there.
    """

    videos: tuple[LabelledVideo, ...]
    classes: tuple[str, ...]
    mirrored: bool = True
    absent: int = 0


def list_kinetics_actions(root: str | Path, split: str = "train") -> ActionList:
    """Kinetics-400 with labels, from `annotations/{split}.csv` or, where it is not there, from the class folders.

    Classes are the sorted ones of the train split, so that every split counts them alike. A listed video need not be
    there: copies of Kinetics lack some, and `ClipReader.usable` skips them.
    """
    root = Path(root)
    classes = sorted(set(_kinetics_labels(root, "train")))
    numbers = {class_folder(name): number for number, name in enumerate(classes)}
    videos = []
    for path, name in zip(list_kinetics(root, split), _kinetics_labels(root, split), strict=True):
        if class_folder(name) not in numbers:
            raise _not_a_class(f"{root}, split {split}, {path.name}", name, classes)
        videos.append(LabelledVideo(path, numbers[class_folder(name)]))
    return ActionList(tuple(videos), tuple(classes))


def _kinetics_labels(root: Path, split: str) -> list[str]:
    """The label of every video that list_kinetics lists."""
    table = root / "annotations" / f"{split}.csv"
    if not (root / split).is_dir():
        raise UserError(f"{root / split}: no such folder; without class folders in it the videos have no labels")
    if table.is_file():
        return [row["label"] for row in read_csv(table, ["label"])]
    labels = [path.relative_to(root / split).parts[0] for path in list_kinetics(root, split)]
    if loose := [path for path, label in zip(list_kinetics(root, split), labels, strict=True) if path.name == label]:
        raise UserError(f"{loose[0]}: lies in no class folder; put it into one, or add {table}")
    return labels


def action_splits(root: str | Path, name: str) -> tuple[ActionList, ActionList]:
    """The videos to train on, and those to test on, of the data set in the folder `root` that is called `name`.

    UCF101 and JHMDB by their first fold; Kinetics-400 and Something-Something are tested on what is published with
    labels, their validation sets.
    """
    readers = {
        "kinetics400": (list_kinetics_actions, "val"), "ssv2": (list_ssv2, "validation"),
        "ucf101": (list_ucf101, "test"), "jhmdb_actions": (list_jhmdb_actions, "test"),
    }  # fmt: skip
    if name not in readers:
        raise unknown("data set of actions", name, readers)
    read, test = readers[name]
    return read(root, "train"), read(root, test)


def list_ssv2(root: str | Path, split: str = "train") -> ActionList:
    """Something-Something v2, split `train`, `validation` or `test`, from the official JSON files below `root`.

    They are `labels/{split}.json` as published now, `something-something-v2-{split}.json` before; either may lie in
    `root` or in `labels/`. Videos are `{id}.webm`, or converted `{id}.mp4`, in one of the folders SSV2_VIDEOS. The test
    split has labels where `test-answers.csv` tells them, lines `id;template`, as it now does.
    """
    root, videos = Path(root), []
    path = _ssv2_file(root, "labels")
    try:
        numbers = {name: int(number) for name, number in json.loads(read_text(path)).items()}
        path = _ssv2_file(root, split)
        items = [(str(item["id"]), item.get("template")) for item in json.loads(read_text(path))]
        answers = path.parent / "test-answers.csv"
        if split == "test" and answers.is_file():
            told = dict(line.split(";", 1) for _, line in read_lines(answers))
            path, items = answers, [(name, told[name]) for name, _ in items]
    except UserError:  # is a ValueError, but tells more
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        fault = f"not of Something-Something's form ({type(error).__name__}: {error})"
        raise UserError(f"{path}: {fault}; fetch the official file again") from None
    classes = sorted(numbers, key=numbers.get)
    for name, template in items:
        place, class_name = f"{path}, id {name}", str(template).replace("[", "").replace("]", "")
        unlabelled_here = split == "test" and template is None
        if not unlabelled_here and class_name not in numbers:
            raise _not_a_class(place, class_name, classes)
        label = UNLABELLED if unlabelled_here else classes.index(class_name)
        places = [root / folder / f"{name}{suffix}" for folder in SSV2_VIDEOS for suffix in SSV2_SUFFIXES]
        videos.append(_video(next(filter(Path.is_file, places), places[0]), label, place))
    return ActionList(tuple(videos), tuple(classes), mirrored=False)


def _ssv2_file(root: Path, part: str) -> Path:
    """`labels` or a split's file, by the names of all releases; the oldest name where there is none."""
    names = [root / folder / f"{start}{part}.json" for folder in (".", "labels") for start in (SSV2, "")]
    found = [path for path in names if path.is_file()]
    if len(found) > 1:
        raise UserError(f"{found[1]}: {found[0]} is the same part of Something-Something; leave one")
    return found[0] if found else names[0]


def list_ucf101(root: str | Path, split: str = "train", fold: int = 1) -> ActionList:
    """UCF101, split `train` or `test` of the official fold 1, 2 or 3, from `UCF-101/{class}/*.avi`.

    A line of the lists in `ucfTrainTestlist/` is `{class}/{video}`, in those to train on with a number. Copies lack
    some of the videos: these are counted, and only where all are gone is it an error.
    """
    root = Path(root)
    lists = root / "ucfTrainTestlist"
    classes = tuple(re.sub(r"^\d+\s+", "", line) for _, line in read_lines(lists / "classInd.txt"))
    videos = []
    for place, line in read_lines(lists / f"{split}list{fold:02d}.txt"):
        name = re.sub(r"\s+\d+$", "", line)
        class_name = name.partition("/")[0]
        if class_name not in classes:
            raise _not_a_class(place, class_name, classes)
        videos.append(LabelledVideo(root / "UCF-101" / name, classes.index(class_name)))
    return _present(videos, classes, lists)


def list_jhmdb_actions(root: str | Path, split: str = "train", fold: int = 1) -> ActionList:
    """JHMDB, split `train` or `test` of the official fold 1, 2 or 3, from `ReCompress_Videos/{class}/*.avi`.

    The lists are HMDB's, one a class; absent videos are counted as in `list_ucf101`.
    """
    marks = {"train": "1", "test": "2"}
    if split not in marks:
        raise unknown("split", split, marks)
    root, videos = Path(root), []
    names = list(split_lists(root, fold))
    classes = tuple(dict.fromkeys(class_name for class_name, _, _ in names))
    for class_name, name, marked in names:
        if marked == marks[split]:
            path = root / "ReCompress_Videos" / class_name / f"{name}.avi"
            videos.append(LabelledVideo(path, classes.index(class_name)))
    return _present(videos, classes, root)


def _present(videos: Sequence[LabelledVideo], classes: Sequence[str], where: Path) -> ActionList:
    """The videos that are there."""
    there = tuple(video for video in videos if video.path.is_file())
    if videos and not there:
        raise UserError(f"{where}: none of {len(videos)} listed videos is there, such as {videos[0].path}")
    return ActionList(there, tuple(classes), absent=len(videos) - len(there))


def list_labelled(path: str | Path, classes: Sequence[str]) -> ActionList:
    """A text file with a line `path label` for each video, as VideoMAE's code takes it.

    A path is relative to the list's folder and may hold spaces: the last word of the line is the label, an index into
    `classes`.
    """
    path, videos = Path(path), []
    for place, line in read_lines(path):
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal():
            raise UserError(f"{place}: {line!r} is not `path label` with a whole number as label; correct the line")
        if int(label) >= len(classes):
            raise UserError(f"{place}: label {label}, but there are {len(classes)} classes, counted from 0")
        videos.append(_video(path.parent / name.rstrip(), int(label), place))
    return ActionList(tuple(videos), tuple(classes))


def unlabelled(paths: Sequence[Path]) -> ActionList:
    """Videos without classes, such as a folder of clips: enough to pre-train on."""
    return ActionList(tuple(LabelledVideo(path, UNLABELLED) for path in paths), ())


def _video(path: Path, label: int, place: str) -> LabelledVideo:
    if not path.is_file():
        raise UserError(f"{place}: no video {path}; put it there, or take it off the list")
    return LabelledVideo(path, label)


def _not_a_class(place: str, name: str, classes: Iterable[str]) -> UserError:
    """The error for a class that the class list lacks; a near miss is named, hundreds of classes are not."""
    hint = str(unknown("class", name, classes)).partition(": ")[2].partition("choose one")[0]
    return UserError(f"{place}: unknown class {name!r}: {hint}is this the class list of this data set?")
