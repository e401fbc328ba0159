"""Which clips a toy world holds, what they are called, and the lists that name them, as in the real data sets.

Nothing is rendered here. Formats follow the published copies; lib.data tells them.
"""

import csv
import io
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
    """One clip to be made: its place in the world, its name, what happens and what is wrong with it on purpose."""

    dataset: str
    index: int
    """Number within the data set: with the seed it fixes the clip's content."""
    split: str
    name: str
    action: str
    frames: int
    fps: int = 30
    fault: str = ""
    """"" or "broken" (cut off before its index), "empty picture" (a frame of zero bytes), "null mask" (one object is
    absent from one frame)."""
    width: int = 0
    """0: the options' width."""
    height: int = 0
    """0: the options' height."""

    def rng(self, seed: int) -> np.random.Generator:
        """The random stream of this clip in the world of this seed."""
        return np.random.default_rng([seed, DATASETS.index(self.dataset), self.index])


def plan(options: ToyWorldOptions) -> list[ClipPlan]:
    """Every clip of a world, in a fixed order."""
    planners = {"kinetics400": _plan_kinetics, "davis2017": _plan_davis}
    planners |= {"vspw": _plan_vspw, "uvo": _plan_uvo, "kitti": _plan_kitti, "studio": _plan_studio}
    return [clip for name in options.datasets for clip in planners.get(name, _plan_small)(name, options)]


def _plan_kinetics(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    good = options.kinetics_frames
    kinds = [("val", good, 30, "")] * options.kinetics_val + [("train", good, 30, "")] * options.kinetics_train
    kinds += [("train", good, 30, "broken"), ("train", 30, 30, ""), ("train", good * 25 // 30, 25, "")]
    clips = []
    for i, (split, frames, fps, fault) in enumerate(kinds):
        rng = np.random.default_rng([options.seed, 97, i])
        start = int(rng.integers(0, 300))
        name = "".join(rng.choice(list(LETTERS), 11)) + f"_{start:06d}_{start + -(-frames // fps):06d}"
        clips.append(ClipPlan(dataset, i, split, name, ACTIONS[i % len(ACTIONS)], frames, fps, fault))
    return clips


def _plan_davis(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    clips = []
    for i in range(options.davis_val + options.davis_train):
        action = ACTIONS[i % len(ACTIONS)]
        name = f"{action.split()[0]}-{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'.lower()[i // len(ACTIONS) % 26]}"
        width = (0, options.width * 7 // 6 // 16 * 16, options.width * 5 // 6 // 16 * 16)[i % 3]
        split = "val" if i < options.davis_val else "train"
        clips.append(ClipPlan(dataset, i, split, name, action, options.davis_frames, width=width))
    return clips


def _plan_small(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """Two classes of `small_clips` clips each; VIP has videos instead; SSv2 has train, validation and test items."""
    actions, clips, frames = list(SSV2_TEMPLATES), [], options.small_frames
    fps = {"ucf101": 25, "ssv2": 12}.get(dataset, 30)
    if dataset == "vip":
        names = [f"videos{i + 1}" for i in range(options.small_clips)]
        return [ClipPlan(dataset, i, "val", name, ACTIONS[i % len(ACTIONS)], frames) for i, name in enumerate(names)]
    for i in range(2 * options.small_clips):
        action, take = actions[i % 2], i // 2
        class_name = action.split()[0]
        name = {
            "jhmdb": f"Puppet_theatre_{class_name}_f_cm_np1_fr_med_{take}",
            "ucf101": f"v_{action.title().replace(' ', '')}_g{take + 1:02d}_c01",
            "ssv2": str(100001 + i),
        }[dataset]
        split = "" if dataset != "ssv2" else "train" if take < options.small_clips - 1 else "validation"
        clips.append(ClipPlan(dataset, i, split, name, action, frames, fps))
    if dataset == "ssv2":
        clips.append(ClipPlan(dataset, len(clips), "test", str(100001 + len(clips)), actions[0], frames, fps))
    return clips


def _plan_vspw(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """Two videos; the published archive's fault, a picture of zero bytes, is in the second."""
    names = [f"{100 + i}_{_youtube_id(options.seed, 96, i)}" for i in range(2)]
    faults = ("", "empty picture")
    return [ClipPlan(dataset, i, "val", name, ACTIONS[i], VSPW_FRAMES, 15, faults[i]) for i, name in enumerate(names)]


def _plan_uvo(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    null, clips = min(1, options.uvo_videos - 1), []
    for i in range(options.uvo_videos):
        name, fault = _youtube_id(options.seed, 95, i), "null mask" if i == null else ""
        clips.append(ClipPlan(dataset, i, "val", name, ACTIONS[i % len(ACTIONS)], options.uvo_frames, 15, fault))
    return clips


def _plan_kitti(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """One sequence of the validation split, in KITTI's format of 1242 x 375 (3.312)."""
    height = options.height * 2 // 3
    width = round(height * 3.312)
    return [ClipPlan(dataset, 0, "val", "0002", ACTIONS[2], KITTI_FRAMES, 10, width=width, height=height)]


def _plan_studio(dataset: str, options: ToyWorldOptions) -> list[ClipPlan]:
    """All actions in turn, so that they are equally frequent in both splits (up to one)."""
    splits = ["val"] * options.studio_val + ["train"] * options.studio_train
    height, width = STUDIO_SIZE
    return [
        ClipPlan(dataset, i, split, f"{split}_{i:04d}", ACTIONS[i % len(ACTIONS)], STUDIO_FRAMES, 15, "", width, height)
        for i, split in enumerate(splits)
    ]


def _youtube_id(*seeds: int) -> str:
    return "".join(np.random.default_rng(seeds).choice(list(LETTERS), 11))


def write_lists(base: Path, dataset: str, clips: list[ClipPlan]) -> None:
    """The annotation and split lists of one data set, under `base`."""
    writers = {
        "kinetics400": _lists_kinetics, "davis2017": _lists_davis, "jhmdb": _lists_jhmdb, "vip": _lists_vip,
        "ucf101": _lists_ucf101, "ssv2": _lists_ssv2, "vspw": _lists_vspw, "uvo": partial(_lists_uvo, base),
        "kitti": lambda clips: {},  # its folders are all there is
        "studio": _lists_studio,
    }  # fmt: skip
    for name, lines in writers[dataset](clips).items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))


def _lists_kinetics(clips: list[ClipPlan]) -> dict[str, list[str]]:
    lists = {}
    for split in ("train", "val"):
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["label", "youtube_id", "time_start", "time_end"])
        for clip in clips:
            if clip.split == split:
                writer.writerow([clip.action, clip.name[:11], int(clip.name[12:18]), int(clip.name[19:25])])
        lists[f"annotations/{split}.csv"] = table.getvalue().splitlines()
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
            label = label.replace(label[label.index("[") : label.index("]") + 1], filler, 1)
        return {"id": clip.name, "label": label.lower(), "template": template, "placeholders": fillers}

    plain = sorted(template.replace("[", "").replace("]", "") for template, *_ in SSV2_TEMPLATES.values())
    contents = {
        "labels": {name: str(i) for i, name in enumerate(plain)},
        "train": [item(c) for c in clips if c.split == "train"],
        "validation": [item(c) for c in clips if c.split == "validation"],
        "test": [{"id": c.name} for c in clips if c.split == "test"],
    }
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
