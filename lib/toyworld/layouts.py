"""Which clips a toy world holds, what they are called, and the lists that name them; lib.data tells the formats."""

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from lib.data.kinetics import class_folder
from lib.toyworld.actions import ACTIONS
from lib.toyworld.options import DATASETS, ToyWorldOptions

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SSV2_TEMPLATES = {
    "jumping jacks": ("Making [something] jump", "puppet"),
    "waving hand": ("Pretending to greet [someone] with [something]", "public", "hand"),
}

# Ids as in the real file, of the classes that the toy copy shows.
VSPW_CLASSES = {"others": 0, "wall": 1, "person": 61, "flower": 68, "toy": 70, "ball": 75, "box": 77}
VSPW_FRAMES, KITTI_FRAMES = 12, 25
STUDIO_FRAMES, STUDIO_SIZE = 40, (96, 128)  # height, width


@dataclass(frozen=True)
class ClipPlan:
    """One clip to be made: its place in the world, its name, what happens and what is wrong with it on purpose.

    fault: "" or "broken" (cut off before its index), "empty picture" (a frame of zero bytes), "null mask" (one object
    is absent from one frame).
    """

    dataset: str
    index: int  # number within the data set: with the seed it fixes the clip's content
    split: str
    name: str
    action: str
    frames: int
    fps: int = 30
    fault: str = ""
    width: int = 0  # 0: the options'
    height: int = 0

    def rng(self, seed: int) -> np.random.Generator:
        """The random stream of this clip in the world of this seed."""
        return np.random.default_rng([seed, DATASETS.index(self.dataset), self.index])


def plan(options: ToyWorldOptions) -> list[ClipPlan]:
    """Every clip of a world, in a fixed order."""
    planners = {
        "kinetics400": _plan_kinetics, "davis2017": _plan_davis, "vip": _plan_vip, "vspw": _plan_vspw, "uvo": _plan_uvo,
        "kitti": _plan_kitti, "studio": _plan_studio, "cifar10": _plan_cifar10,
    }  # fmt: skip
    return [clip for name in options.datasets for clip in planners.get(name, _plan_classes)(name, options)]


def _plan_kinetics(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    good = options.kinetics_frames
    kinds = [("val", good, 30, "")] * options.kinetics_val + [("train", good, 30, "")] * options.kinetics_train
    kinds += [("train", good, 30, "broken"), ("train", 30, 30, ""), ("train", good * 25 // 30, 25, "")]
    clips = []
    for i, (split, frames, fps, fault) in enumerate(kinds):
        rng = np.random.default_rng([options.seed, 97, i])
        start = int(rng.integers(0, 300))
        name = f"{_youtube_id(rng)}_{start:06d}_{start + -(-frames // fps):06d}"
        clips.append(ClipPlan(dataset, i, split, name, _turn(i), frames, fps, fault))
    return clips


def _plan_davis(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    clips = []
    for i in range(options.davis_val + options.davis_train):
        name = f"{_turn(i).split()[0]}-{ascii_lowercase[i // len(ACTIONS) % 26]}"
        width = (0, options.width * 7 // 6 // 16 * 16, options.width * 5 // 6 // 16 * 16)[i % 3]
        split = "val" if i < options.davis_val else "train"
        clips.append(ClipPlan(dataset, i, split, name, _turn(i), options.davis_frames, width=width))
    return clips


def _plan_vip(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    names = [f"videos{i + 1}" for i in range(options.small_clips)]
    return [ClipPlan(dataset, i, "val", name, _turn(i), options.small_frames) for i, name in enumerate(names)]


def _plan_classes(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """Two classes of `small_clips` clips each; in SSv2 the last of each is to validate on, and one more to test."""
    fps, count, clips = {"jhmdb": 30, "ucf101": 25, "ssv2": 12}[dataset], 2 * options.small_clips, []
    for i in range(count + (dataset == "ssv2")):
        action, take = list(SSV2_TEMPLATES)[i % 2], i // 2
        name = {
            "jhmdb": f"Puppet_theatre_{action.split()[0]}_f_cm_np1_fr_med_{take}",
            "ucf101": f"v_{action.title().replace(' ', '')}_g{take + 1:02d}_c01",
            "ssv2": str(100001 + i),
        }[dataset]
        split = "train" if i < count - 2 else "validation" if i < count else "test"
        clips.append(ClipPlan(dataset, i, split if dataset == "ssv2" else "", name, action, options.small_frames, fps))
    return clips


def _plan_vspw(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """Two videos; the published archive's fault, a picture of zero bytes, is in the second."""
    names = [f"{100 + i}_{_youtube_id(np.random.default_rng([options.seed, 96, i]))}" for i in range(2)]
    faults = ("", "empty picture")
    return [ClipPlan(dataset, i, "val", name, _turn(i), VSPW_FRAMES, 15, faults[i]) for i, name in enumerate(names)]


def _plan_uvo(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    names = [_youtube_id(np.random.default_rng([options.seed, 95, i])) for i in range(options.uvo_videos)]
    faults = ["null mask" if i == min(1, len(names) - 1) else "" for i in range(len(names))]
    frames = options.uvo_frames
    return [ClipPlan(dataset, i, "val", name, _turn(i), frames, 15, faults[i]) for i, name in enumerate(names)]


def _plan_kitti(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """One sequence of the validation split, in KITTI's format of 1242 x 375 (3.312)."""
    height = options.height * 2 // 3
    return [ClipPlan(dataset, 0, "val", "0002", _turn(2), KITTI_FRAMES, 10, "", round(height * 3.312), height)]


def _plan_studio(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """All actions in turn, so that they are equally frequent in both splits (up to one)."""
    splits, (height, width) = ["val"] * options.studio_val + ["train"] * options.studio_train, STUDIO_SIZE
    return [
        ClipPlan(dataset, i, split, f"{split}_{i:04d}", _turn(i), STUDIO_FRAMES, 15, "", width, height)
        for i, split in enumerate(splits)
    ]


def _plan_cifar10(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """Files of pictures, each as a clip; its `action` is what the published file says of itself."""
    batches = [("train", f"data_batch_{i}", f"training batch {i} of 5") for i in range(1, 6)]
    batches.append(("test", "test_batch", "testing batch 1 of 1"))
    return [ClipPlan(dataset, i, *batch, options.batch_pictures) for i, batch in enumerate(batches)]


def _turn(number: int) -> str:
    """The actions by turns."""
    return ACTIONS[number % len(ACTIONS)]


def _youtube_id(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(LETTERS), 11))


def write_lists(base: Path, dataset: str, clips: list[ClipPlan]) -> None:
    """The annotation and split lists of one data set, under `base`."""
    writers = {
        "kinetics400": _lists_kinetics, "davis2017": _lists_davis, "jhmdb": _lists_jhmdb, "vip": _lists_vip,
        "ucf101": _lists_ucf101, "ssv2": _lists_ssv2, "vspw": _lists_vspw, "uvo": partial(_lists_uvo, base),
        "kitti": lambda clips: {},  # its folders are all there is
        "studio": _lists_studio,
        "cifar10": lambda clips: {},  # its list of classes lies with the pictures
    }  # fmt: skip
    for name, lines in writers[dataset](clips).items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))


def _lists_kinetics(clips: list[ClipPlan]) -> dict[str, list[str]]:
    lists = {f"annotations/{split}.csv": ["label,youtube_id,time_start,time_end"] for split in ("train", "val")}
    for clip in clips:
        row = f"{clip.action},{clip.name[:11]},{int(clip.name[12:18])},{int(clip.name[19:25])}"
        lists[f"annotations/{clip.split}.csv"].append(row)
    return lists


def _lists_davis(clips: list[ClipPlan]) -> dict[str, list[str]]:
    return {f"ImageSets/2017/{split}.txt": [c.name for c in clips if c.split == split] for split in ("train", "val")}


def _lists_jhmdb(clips: list[ClipPlan]) -> dict[str, list[str]]:
    """Three splits that differ in which take of each class is the test clip (2); the others train (1)."""
    lists = {}
    for action in dict.fromkeys(c.action for c in clips):
        takes = [c for c in clips if c.action == action]
        for k in range(3):
            lines = [f"{c.name}.avi {2 if i == k % len(takes) else 1}" for i, c in enumerate(takes)]
            lists[f"sub_splits/{class_folder(action)}_test_split{k + 1}.txt"] = lines
    return lists


def _lists_vip(clips: list[ClipPlan]) -> dict[str, list[str]]:
    stems = [f"{c.name}/{1 + 25 * t:012d}" for c in clips for t in range(c.frames)]
    return {"VIP_Fine/lists/val_videos.txt": [c.name for c in clips], "VIP_Fine/lists/val_id.txt": stems}


def _lists_ucf101(clips: list[ClipPlan]) -> dict[str, list[str]]:
    """Split k tests one group of every class and trains on the others."""
    classes = sorted({c.name.split("_")[1] for c in clips})
    groups = sorted({c.name.split("_")[2] for c in clips})
    lists = {"ucfTrainTestlist/classInd.txt": [f"{i} {name}" for i, name in enumerate(classes, start=1)]}
    paths = {c.name: f"{c.name.split('_')[1]}/{c.name}.avi" for c in sorted(clips, key=lambda c: c.name)}
    for k in range(3):
        test = groups[k % len(groups)]
        is_test = {name: name.split("_")[2] == test for name in paths}
        train = [f"{p} {classes.index(p.split('/')[0]) + 1}" for name, p in paths.items() if not is_test[name]]
        lists[f"ucfTrainTestlist/trainlist{k + 1:02d}.txt"] = train
        lists[f"ucfTrainTestlist/testlist{k + 1:02d}.txt"] = [p for name, p in paths.items() if is_test[name]]
    return lists


def _lists_ssv2(clips: list[ClipPlan]) -> dict[str, list[str]]:
    def item(clip: ClipPlan) -> dict:
        template, *fillers = SSV2_TEMPLATES[clip.action]
        label = template
        for filler in fillers:
            label = re.sub(r"\[.*?\]", filler, label, count=1)
        return {"id": clip.name, "label": label.lower(), "template": template, "placeholders": fillers}

    plain = sorted(template.replace("[", "").replace("]", "") for template, *_ in SSV2_TEMPLATES.values())
    contents = {split: [item(c) for c in clips if c.split == split] for split in ("train", "validation")}
    contents["test"] = [{"id": c.name} for c in clips if c.split == "test"]
    contents["labels"] = {name: str(i) for i, name in enumerate(plain)}
    return {f"something-something-v2-{name}.json": [json.dumps(content)] for name, content in contents.items()}


def _lists_vspw(clips: list[ClipPlan]) -> dict[str, list[str]]:
    classes = {name: str(number) for name, number in VSPW_CLASSES.items()}
    lists = {f"{split}.txt": [c.name for c in clips if c.split == split] for split in ("train", "val", "test")}
    return lists | {"label_num_dic_final.json": [json.dumps(classes)]}


def _lists_uvo(base: Path, clips: list[ClipPlan]) -> dict[str, list[str]]:
    """One file of all videos, out of the pieces that writing them left, one a video, which go."""
    videos, annotations = [], []
    for number, clip in enumerate(clips, start=1):
        piece = base / f"{clip.name}.json"
        content = json.loads(piece.read_text())
        piece.unlink()
        videos.append({"id": number} | content["video"])
        for masks in content["objects"]:
            annotations.append({"id": len(annotations) + 1, "video_id": number, "category_id": 1, "iscrowd": 0} | masks)
    content = {"videos": videos, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    return {"VideoDenseSet/UVO_video_val_dense.json": [json.dumps(content)]}


def _lists_studio(clips: list[ClipPlan]) -> dict[str, list[str]]:
    """The class list, and for each split lines `path label`."""
    lines = {c.name: f"videos/{c.name}.mp4 {ACTIONS.index(c.action)}" for c in clips}
    lists = {f"{split}.txt": [lines[c.name] for c in clips if c.split == split] for split in ("train", "val")}
    return {"classes.txt": list(ACTIONS)} | lists
