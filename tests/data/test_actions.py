"""Lists of labelled videos: the layouts of the real data sets, their label orders, and broken ones."""

import json
import re
from pathlib import Path

import pytest

from lib.data.actions import (
    UNLABELLED,
    ActionList,
    LabelledVideo,
    list_jhmdb_actions,
    list_kinetics_actions,
    list_labelled,
    list_ssv2,
    list_ucf101,
)
from lib.data.kinetics import class_folder
from lib.errors import UserError
from lib.toyworld import ToyWorldOptions, ensure_toy_world
from lib.toyworld.layouts import plan

SMALL = ToyWorldOptions(
    datasets=("kinetics400", "ucf101", "ssv2"), kinetics_train=6, kinetics_val=2, kinetics_frames=60,
    height=48, width=64, objects=1, small_frames=25,
)  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return ensure_toy_world(tmp_path_factory.mktemp("world") / "toy", SMALL, workers=1)


def shown(actions: ActionList) -> dict[str, str]:
    """File stem -> name of the class."""
    return {video.path.stem: actions.classes[video.label] for video in actions.videos}


def labels(actions: ActionList) -> list[int]:
    return [video.label for video in actions.videos]


def planned(dataset: str, split: str) -> dict[str, str]:
    """File stem -> what the toy world's plan says is done there."""
    return {clip.name: clip.action for clip in plan(SMALL) if (clip.dataset, clip.split) == (dataset, split)}


def make(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- Kinetics-400 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_toy_kinetics_has_the_actions_that_were_planned(toy, split):
    actions = list_kinetics_actions(toy / "kinetics400", split)
    assert shown(actions) == planned("kinetics400", split)
    assert actions.mirrored and len(actions.classes) == 6 and list(actions.classes) == sorted(actions.classes)
    assert all(video.path.parent.name == class_folder(actions.classes[video.label]) for video in actions.videos)


def test_a_split_with_few_classes_counts_them_as_the_training_split(toy):
    train, val = (list_kinetics_actions(toy / "kinetics400", split) for split in ("train", "val"))
    assert len(set(labels(val))) == 2 and val.classes == train.classes
    assert labels(val) == [train.classes.index(name) for name in planned("kinetics400", "val").values()]


def kinetics(root: Path, rows: list[str], videos: list[str], split: str = "train") -> Path:
    table = "\n".join(["label,youtube_id,time_start,time_end", *rows]) + "\n"
    return make(root, {f"annotations/{split}.csv": table, **{f"{split}/{name}.mp4": b"" for name in videos}})


def test_class_folders_may_keep_spaces_quotes_and_brackets(tmp_path):
    rows = ["b (x),idb,1,2", "\"a 'y'\",ida,3,4"]
    kinetics(tmp_path, rows, ["b (x)/idb_000001_000002", "a_y/ida_000003_000004"])
    actions = list_kinetics_actions(tmp_path)
    assert actions.classes == ("a 'y'", "b (x)") and labels(actions) == [1, 0]


def test_class_folders_alone_are_labels_too(tmp_path):
    make(tmp_path, {f"{split}/{name}/{i}.mp4": b"" for split, i in (("train", 1), ("val", 2)) for name in ("b", "a")})
    (tmp_path / "val/b/2.mp4").unlink()
    assert labels(list_kinetics_actions(tmp_path)) == [0, 1]
    val = list_kinetics_actions(tmp_path, "val")
    assert val.classes == ("a", "b") and labels(val) == [0]


def test_a_label_that_training_lacks_is_named(tmp_path):
    kinetics(tmp_path, ["jumping jacks,ida,1,2"], ["jumping_jacks/ida_000001_000002"])
    kinetics(tmp_path, ["jumping,idb,1,2"], ["jumping/idb_000001_000002"], "val")
    with pytest.raises(UserError, match="split val, idb.*: unknown class 'jumping': did you mean 'jumping jacks'") as e:
        list_kinetics_actions(tmp_path, "val")
    one_line(e)


def test_a_missing_video_is_left_to_the_reader(tmp_path):
    root = kinetics(tmp_path, ["a,ida,1,2", "a,idb,1,2"], ["a/ida_000001_000002"])
    assert len(list_kinetics_actions(root).videos) == 2


def test_kinetics_without_labels_or_rows(tmp_path):
    make(tmp_path / "flat", {"videos/x.mp4": b""})
    with pytest.raises(UserError, match="without class folders in it the videos have no labels"):
        list_kinetics_actions(tmp_path / "flat")
    with pytest.raises(UserError, match="names no video"):
        list_kinetics_actions(kinetics(tmp_path / "empty", [], ["a/x"]))
    make(tmp_path / "other", {"annotations/train.csv": "name,x\na,b\n", "train/a/x.mp4": b""})
    with pytest.raises(UserError, match="train.csv: the first line must name the columns label"):
        list_kinetics_actions(tmp_path / "other")


# --- Something-Something v2 ---------------------------------------------------------------------------------


def test_toy_ssv2_strips_brackets_and_hides_the_test_labels(toy):
    root = toy / "ssv2"
    templates = {"jumping jacks": "Making something jump", "waving hand": "Pretending to greet someone with something"}
    for split in ("train", "validation"):
        actions = list_ssv2(root, split)
        assert shown(actions) == {name: templates[action] for name, action in planned("ssv2", split).items()}
        assert not actions.mirrored and actions.classes == tuple(sorted(templates.values()))
    test = list_ssv2(root, "test")
    assert labels(test) == [UNLABELLED]
    assert [video.path.name for video in test.videos] == ["100005.webm"]


def ssv2(root: Path, classes: object, train: object, videos: list[str] = ()) -> Path:
    files = {
        f"something-something-v2-{name}.json": json.dumps(c) for name, c in (("labels", classes), ("train", train))
    }
    return make(root, {**files, **{name: b"" for name in videos}})


def test_ssv2_classes_are_in_the_order_of_their_numbers_and_videos_may_be_converted(tmp_path):
    items = [{"id": "7", "template": "Pulling [something] from [left] to right"}, {"id": 8, "template": "Zip"}]
    files = ["20bn-something-something-v2/7.mp4", "8.webm"]
    actions = list_ssv2(ssv2(tmp_path, {"Zip": "0", "Pulling something from left to right": "1"}, items, files))
    assert actions.classes == ("Zip", "Pulling something from left to right") and labels(actions) == [1, 0]
    assert [str(video.path.relative_to(tmp_path)) for video in actions.videos] == files


FORM = "not of Something-Something's form"


@pytest.mark.parametrize(
    ("classes", "train", "words"),
    [
        ({"A": "0"}, [{"id": "1", "template": "A"}, {"id": "2", "template": "[B]"}],
         r"train.json, id 2: unknown class 'B'"),
        ({"A": "0"}, [{"id": "1"}], "train.json, id 1: unknown class"),
        ({"A": "0"}, [{"id": "3", "template": "A"}], "train.json, id 3: no video .*videos/3.webm"),
        ({"A": "0"}, {"id": "1"}, f"train.json: {FORM}"),
        (["A"], [], f"labels.json: {FORM}"),
        ({"A": "first"}, [], f"labels.json: {FORM}"),
    ],
)  # fmt: skip
def test_broken_ssv2_files(tmp_path, classes, train, words):
    root = ssv2(tmp_path, classes, train, ["videos/1.webm"])
    with pytest.raises(UserError, match=words) as error:
        list_ssv2(root)
    one_line(error)


@pytest.mark.parametrize("folder", ["", "labels/"])
def test_ssv2_as_it_is_published_now(tmp_path, folder):
    """Short names, and the answers of the test split in a table."""
    videos = "videos/20bn-something-something-v2/"
    item = '{"id": "7", "template": "Moving [something] up"}'
    make(tmp_path, {
        f"{folder}labels.json": '{"Moving something up": "1", "Dropping something": "0"}',
        f"{folder}validation.json": f"[{item}]", f"{folder}test.json": '[{"id": "8"}, {"id": "9"}]',
        f"{videos}7.webm": "", f"{videos}8.webm": "", f"{videos}9.mp4": "",
    })  # fmt: skip
    assert labels(list_ssv2(tmp_path, "validation")) == [1]
    assert labels(list_ssv2(tmp_path, "test")) == [UNLABELLED, UNLABELLED]
    make(tmp_path, {f"{folder}test-answers.csv": "9;Dropping something\n8;Moving something up\n"})
    assert labels(list_ssv2(tmp_path, "test")) == [1, 0]
    make(tmp_path, {"something-something-v2-labels.json": "{}"})
    with pytest.raises(UserError, match="is the same part of Something-Something; leave one"):
        list_ssv2(tmp_path)


def test_class_and_video_names_may_have_spaces(tmp_path):
    make(tmp_path, {
        "ucfTrainTestlist/classInd.txt": "1 Apply Make Up\n2 Archery\n",
        "ucfTrainTestlist/trainlist01.txt": "Apply Make Up/v 1.avi 1\nArchery/v2.avi 2\n",
        "ucfTrainTestlist/testlist01.txt": "Archery/v 3.avi\n",
        "UCF-101/Apply Make Up/v 1.avi": "", "UCF-101/Archery/v2.avi": "", "UCF-101/Archery/v 3.avi": "",
    })  # fmt: skip
    train, test = list_ucf101(tmp_path), list_ucf101(tmp_path, "test")
    assert (labels(train), labels(test), train.absent) == ([0, 1], [1], 0)
    assert train.classes == ("Apply Make Up", "Archery")


def test_ssv2_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="labels.json: no such file"):
        list_ssv2(tmp_path)
    make(tmp_path, {"something-something-v2-labels.json": '{"A": "0",\n"B" "1"}'})
    with pytest.raises(UserError, match=f"labels.json: {FORM}"):
        list_ssv2(tmp_path)
    make(tmp_path, {"something-something-v2-labels.json": b"{\xfa}"})
    with pytest.raises(UserError, match="is no text in UTF-8"):
        list_ssv2(tmp_path)


# --- UCF101 -------------------------------------------------------------------------------------------------


def test_toy_ucf101_folds(toy):
    root = toy / "ucf101"
    everything = set()
    for fold in (1, 2, 3):
        train, test = (list_ucf101(root, split, fold) for split in ("train", "test"))
        assert train.classes == test.classes == ("JumpingJacks", "WavingHand") and train.mirrored
        assert not set(shown(train)) & set(shown(test)) and len(train.videos) == len(test.videos) == 2
        assert all(name in stem for actions in (train, test) for stem, name in shown(actions).items())
        everything |= set(shown(test))
    assert everything == {clip.name for clip in plan(SMALL) if clip.dataset == "ucf101"}


CLASSES = "1 ApplyEyeMakeup\n2 Archery\n"


@pytest.mark.parametrize(
    ("classes", "train", "words"),
    [
        (CLASSES, "Archery/a.avi 2\nBowling/b.avi 3\n", r"trainlist01.txt:2: unknown class 'Bowling'"),
        (CLASSES, "Archery/gone.avi 2\n", r"none of 1 listed videos is there, such as .*UCF-101/Archery/gone.avi"),
        (CLASSES, "\n", r"trainlist01.txt: the list is empty"),
        ("", "", r"classInd.txt: the list is empty"),
    ],
)  # fmt: skip
def test_broken_ucf101_lists(tmp_path, classes, train, words):
    lists = {"ucfTrainTestlist/classInd.txt": classes, "ucfTrainTestlist/trainlist01.txt": train}
    make(tmp_path, {**lists, "UCF-101/Archery/a.avi": b"", "UCF-101/Bowling/b.avi": b""})
    with pytest.raises(UserError, match=words) as error:
        list_ucf101(tmp_path)
    one_line(error)


def test_videos_that_a_copy_of_ucf101_lacks_are_counted(tmp_path):
    lists = {"classInd.txt": CLASSES, "trainlist01.txt": "Archery/gone.avi 2\nArchery/a.avi 2\nArchery/gone2.avi 2\n"}
    make(tmp_path, {f"ucfTrainTestlist/{name}": text for name, text in lists.items()})
    make(tmp_path, {"UCF-101/Archery/a.avi": b""})
    actions = list_ucf101(tmp_path)
    assert shown(actions) == {"a": "Archery"} and actions.absent == 2


def test_another_split_or_fold_has_no_list(tmp_path):
    make(tmp_path, {"ucfTrainTestlist/classInd.txt": CLASSES})
    for split, fold in (("val", 1), ("train", 4)):
        with pytest.raises(UserError, match=f"{split}list0{fold}.txt: no such file"):
            list_ucf101(tmp_path, split, fold)


def test_windows_line_ends_and_byte_order_marks_do_no_harm(tmp_path):
    lists = {"classInd.txt": "\ufeff1 Archery\r\n", "testlist01.txt": "Archery/a.avi\r\n"}
    make(tmp_path, {f"ucfTrainTestlist/{name}": text for name, text in lists.items()})
    make(tmp_path, {"UCF-101/Archery/a.avi": b""})
    assert list_ucf101(tmp_path, "test").videos == (LabelledVideo(tmp_path / "UCF-101/Archery/a.avi", 0),)


def test_real_ucf101_clips_fit_the_layout(real_data, tmp_path):
    videos = sorted((real_data / "ucf101" / "UCF-101").glob("*/*.avi"))
    classes = sorted({video.parent.name for video in videos})
    index = "".join(f"{i} {name}\n" for i, name in enumerate(classes, 1))
    tests = "".join(f"{video.parent.name}/{video.name}\n" for video in videos)
    make(tmp_path, {"ucfTrainTestlist/classInd.txt": index, "ucfTrainTestlist/testlist03.txt": tests})
    (tmp_path / "UCF-101").symlink_to((real_data / "ucf101" / "UCF-101").resolve())
    actions = list_ucf101(tmp_path, "test", 3)
    assert all(re.match(f"v_{actions.classes[v.label]}_g", v.path.name) for v in actions.videos) and len(videos) >= 2


# --- JHMDB --------------------------------------------------------------------------------------------------


def test_jhmdb_splits(tmp_path):
    clip = "ReCompress_Videos/{}/{}.avi"
    lists = {"catch": "a b.avi 1\nc.avi 2\ngone.avi 2\n", "wave": "d.avi 2\ne.avi 0\nf.avi 1\n"}
    make(tmp_path, {f"splits/{name}_test_split1.txt": text for name, text in lists.items()})
    there = [("catch", "a b"), ("catch", "c"), ("wave", "d"), ("wave", "e"), ("wave", "f")]
    make(tmp_path, {clip.format(*names): b"" for names in there})
    train, test = (list_jhmdb_actions(tmp_path, split) for split in ("train", "test"))
    assert shown(train) == {"a b": "catch", "f": "wave"} and not train.absent
    assert shown(test) == {"c": "catch", "d": "wave"} and test.absent == 1
    for split, fold, words in (("val", 1, "split 'val'"), ("train", 2, "split in .*'?2")):
        with pytest.raises(UserError, match=words):
            list_jhmdb_actions(tmp_path, split, fold)


def test_real_jhmdb_clips_of_split_1(real_data):
    root = real_data / "jhmdb_actions"
    if not root.is_dir():
        pytest.skip("no jhmdb_actions in the real data")
    train, test = (list_jhmdb_actions(root, split) for split in ("train", "test"))
    assert len(train.classes) == 21 and train.classes == test.classes
    assert (len(train.videos) + train.absent, len(test.videos) + test.absent) == (660, 268)
    assert not {video.path for video in train.videos} & {video.path for video in test.videos}


# --- plain lists --------------------------------------------------------------------------------------------


def test_a_plain_list_may_have_spaces_and_absolute_paths(tmp_path):
    make(tmp_path, {"in/my clip.mp4": b"", "b.mp4": b"", "in/list.txt": f"my clip.mp4 1\n\n{tmp_path}/b.mp4 0\n"})
    actions = list_labelled(tmp_path / "in/list.txt", ["x", "y"])
    assert actions.videos == (LabelledVideo(tmp_path / "in/my clip.mp4", 1), LabelledVideo(tmp_path / "b.mp4", 0))
    assert actions.classes == ("x", "y") and actions.mirrored


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.mp4 0\na.mp4 2\n", "list.txt:2: label 2, but there are 2 classes, counted from 0"),
        ("a.mp4\n", "list.txt:1: 'a.mp4' is not `path label`"),
        ("a.mp4 -1\n", "is not `path label` with a whole number"),
        ("a.mp4 1.0\n", "is not `path label` with a whole number"),
        ("a.mp4 0\ngone.mp4 0\n", r"list.txt:2: no video .*gone.mp4"),
        ("", "list.txt: the list is empty"),
    ],
)
def test_broken_plain_lists(tmp_path, text, words):
    make(tmp_path, {"a.mp4": b"", "list.txt": text})
    with pytest.raises(UserError, match=words) as error:
        list_labelled(tmp_path / "list.txt", ["x", "y"])
    one_line(error)
