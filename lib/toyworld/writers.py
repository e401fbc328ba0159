"""One clip to disk, in the layout and file formats of the real data set it stands for (protocol section 7).

`plan` names every clip of a world without rendering any; `write_clip` renders one and writes its files; `write_lists`
writes the annotation and split lists of a data set. What a clip holds depends on the seed, the data set and the clip's
number alone. `T` frames, `H W` pixels.
"""

import csv
import io
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from scipy.io import savemat

from lib.data.davis import write_mask
from lib.toyworld.actions import ACTIONS
from lib.toyworld.options import DATASETS, ToyWorldOptions
from lib.toyworld.render import flow_truth, object_map, part_map, render_frame
from lib.toyworld.scene import Scene, build_scene

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# VIP's part ids used here (of its 20), deliberately not consecutive; props are background there.
VIP_CLASSES = {"hat": 1, "torso": 5, "head": 13, "L arm": 14, "R arm": 15, "L leg": 16, "R leg": 17}
SSV2_TEMPLATES = {
    "jumping jacks": ("Making [something] jump", "puppet"),
    "waving hand": ("Pretending to greet [someone] with [something]", "public", "hand"),
}  # fmt: skip


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
    """"" or "broken" (the file is cut off before its index)."""
    width: int = 0
    """0: the options' width."""

    def rng(self, seed: int) -> np.random.Generator:
        return np.random.default_rng([seed, DATASETS.index(self.dataset), self.index])


def folder_name(label: str) -> str:
    """A Kinetics label as a class folder: spaces to underscores, without quotes and parentheses."""
    return label.replace(" ", "_").translate(str.maketrans("", "", "'\"()"))


def plan(options: ToyWorldOptions) -> list[ClipPlan]:
    """Every clip of a world, in a fixed order."""
    planners = {"kinetics400": _plan_kinetics, "davis2017": _plan_davis}
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
    actions, clips = list(SSV2_TEMPLATES), []
    if dataset == "vip":
        return [ClipPlan(dataset, i, "val", f"videos{i + 1}", ACTIONS[i % len(ACTIONS)], options.small_frames)
                for i in range(options.small_clips)]  # fmt: skip
    for i in range(2 * options.small_clips):
        action, take = actions[i % 2], i // 2
        class_name = action.split()[0]
        name = {"jhmdb": f"Puppet_theatre_{class_name}_f_cm_np1_fr_med_{take}",
                "ucf101": f"v_{action.title().replace(' ', '')}_g{take + 1:02d}_c01", "ssv2": str(100001 + i)}[dataset]  # fmt: skip
        split = ("train", "validation", "test")[min(take, 2) if take < 2 else 2] if dataset == "ssv2" else ""
        clips.append(ClipPlan(dataset, i, split, name, action, options.small_frames, {"ucf101": 25, "ssv2": 12}.get(dataset, 30)))
    if dataset == "ssv2":
        clips.append(ClipPlan(dataset, len(clips), "test", str(100001 + len(clips)), actions[0], options.small_frames, 12))
    return clips


def write_clip(root: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Render one clip and write its files under `root`/{data set}."""
    writers = {"kinetics400": _write_kinetics, "davis2017": _write_davis, "jhmdb": _write_jhmdb,
               "vip": _write_vip, "ucf101": _write_ucf101, "ssv2": _write_ssv2}  # fmt: skip
    base = root / clip.dataset
    writers[clip.dataset](base / "VIP_Fine" if clip.dataset == "vip" else base, clip, options)


def _scene(clip: ClipPlan, options: ToyWorldOptions, stretch: float = 1.0, **choices) -> Scene:
    seconds = np.arange(clip.frames) / clip.fps * stretch
    size = (options.height, clip.width or options.width)
    return build_scene(clip.rng(options.seed), options, action=clip.action, seconds=seconds, size=size, **choices)


def _scene_with_all_objects(clip: ClipPlan, options: ToyWorldOptions, least: int, **choices) -> Scene:
    """The first scene of the clip's random stream whose objects all show at least `least` pixels in frame 0."""
    rng, seconds = clip.rng(options.seed), np.arange(clip.frames) / clip.fps
    size = (options.height, clip.width or options.width)
    while True:
        scene = build_scene(rng, options, action=clip.action, seconds=seconds, size=size, **choices)
        shown = np.bincount(object_map(scene, part_map(scene, 0)).ravel(), minlength=scene.object_count + 1)
        if shown.min() >= least:
            return scene


def encode(path: Path | io.BytesIO, scene: Scene, fps: int, codec: str, container: str, options: dict, **settings) -> None:
    """Encode all frames of a scene, single-threaded so that equal scenes give equal files."""
    with av.open(path if isinstance(path, io.BytesIO) else str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
        stream.codec_context.thread_count = 1
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for t in range(scene.length):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(render_frame(scene, t), format="rgb24")))
        out.mux(stream.encode(None))


def _write_kinetics(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    path = base / clip.split / folder_name(clip.action) / f"{clip.name}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, _scene(clip, options), clip.fps, "libx264", "mp4", {"preset": "veryfast", "crf": "18", "g": "24"})
    if clip.fault == "broken":  # the index (moov atom) is written last: without it nothing can be decoded
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _write_davis(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Sequence 0 has an object that leaves, sequence 1 one smaller than a patch; 1 to 4 objects by turns."""
    objects = 1 + (clip.index + 2) % options.objects
    tiny, leaves = clip.index == 1 and objects > 1, clip.index == 0 and objects > 1
    scene = _scene_with_all_objects(clip, options, 12 if tiny else 60, objects=objects, leaves=leaves, tiny=tiny,
                                    puppets=1 if tiny or leaves or objects == 1 else None)  # fmt: skip
    images, masks, flows = (base / kind / "480p" / clip.name for kind in ("JPEGImages", "Annotations", "Flow"))
    for folder in (images, masks, flows):
        folder.mkdir(parents=True, exist_ok=True)
    for t in range(scene.length):
        Image.fromarray(render_frame(scene, t)).save(images / f"{t:05d}.jpg", quality=93)
        parts = part_map(scene, t)
        write_mask(masks / f"{t:05d}.png", object_map(scene, parts))
        if t + 1 < scene.length:
            flow, visible = flow_truth(scene, t, parts)
            np.savez_compressed(flows / f"{t:05d}.npz", flow=flow.astype(np.float16), visible=visible)


def _write_jhmdb(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """One puppet a clip; in clip 0 the action is moved so that a joint lies outside frame 0."""
    scene = _scene(clip, options, puppets=1)
    if clip.index == 0:
        _push_out(scene)
    class_name = folder_name(clip.action)
    images, joints = base / "Rename_Images" / class_name / clip.name, base / "joint_positions" / class_name / clip.name
    for folder in (images, joints):
        folder.mkdir(parents=True, exist_ok=True)
    for t in range(scene.length):
        Image.fromarray(render_frame(scene, t)).save(images / f"{t + 1:05d}.png", compress_level=3)
    pos_img = scene.joints[0].transpose(2, 1, 0) + 1.0  # 2 x 15 x T, pixels counted from 1
    pos_world = (pos_img - np.array([scene.width, scene.height])[:, None, None] / 2) / 108
    savemat(joints / "joint_positions.mat", {"pos_img": pos_img, "pos_world": pos_world})


def _push_out(scene: Scene) -> None:
    """Shift the puppet sideways until its outermost joint of frame 0 lies outside the picture."""
    first = scene.joints[0][0, :, 0]
    left = first.min() < scene.width - first.max()
    shift = -(first.min() + 3) if left else scene.width + 2 - first.max()
    scene.joints[0][..., 0] += shift
    for part in scene.parts:
        if part.object_id == scene.puppets[0]:
            part.maps[:, 0, 2] += shift


def vip_class(part_name: str) -> int:
    """VIP's category id of a puppet part; 0 for props."""
    side = part_name[:2] if part_name[:2] in ("L ", "R ") else ""
    kind = {"forearm": "arm", "upper arm": "arm", "thigh": "leg", "shin": "leg"}.get(part_name.removeprefix(side), part_name)
    return VIP_CLASSES.get(side + kind, 0)


def _write_vip(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Annotated frames only, 25 source frames apart; hats (class 1) are put on late in the first video."""
    scene = _scene(clip, options, stretch=3.0, objects=3, puppets=2)
    kinds = ("Category_ids", "Human_ids", "Instance_ids")
    folders = [base / "Images" / clip.name, *(base / "Annotations" / kind / clip.name for kind in kinds)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    if clip.index == 0:
        _hats_late(scene)
    category = np.array([vip_class(part.name) for part in scene.parts] + [0], np.uint8)
    human = np.array([scene.puppets.index(p.object_id) + 1 if p.object_id in scene.puppets else 0 for p in scene.parts] + [0])
    pairs = sorted({(h, c) for h, c in zip(human, category, strict=True) if c})
    instance = np.array([pairs.index((h, c)) + 1 if c else 0 for h, c in zip(human, category, strict=True)])
    for t in range(scene.length):
        parts, stem = part_map(scene, t), f"{1 + 25 * t:012d}"
        Image.fromarray(render_frame(scene, t)).save(folders[0] / f"{stem}.jpg", quality=93)
        for folder, ids in zip(folders[1:], (category, human, instance), strict=True):
            picture = ids[parts].astype(np.uint8)
            if folder.parent.name == "Category_ids" and clip.index == 0 and t == 1:
                picture[0, 0] = 255  # one void pixel
            Image.fromarray(picture).save(folder / f"{stem}.png")


def _hats_late(scene: Scene) -> None:
    """Keep hats out of the picture for the first third of the clip."""
    for part in scene.parts:
        if part.name == "hat":
            part.maps[: scene.length // 3, 1, 2] -= 10 * scene.height


def _write_ucf101(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    path = base / "UCF-101" / clip.name.split("_")[1] / f"{clip.name}.avi"
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, _scene(clip, options), clip.fps, "mpeg4", "avi", {"qscale": "3"}, max_b_frames=2, gop_size=12,
           bit_rate=1_500_000, codec_tag="XVID")  # fmt: skip


def _write_ssv2(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    path = base / "videos" / f"{clip.name}.webm"
    path.parent.mkdir(parents=True, exist_ok=True)
    fast = {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"}
    encode(path, _scene(clip, options), clip.fps, "libvpx-vp9", "webm", fast)


def write_lists(base: Path, dataset: str, clips: list[ClipPlan]) -> None:
    """The annotation and split lists of one data set, under `base`. Every list ends with a newline."""
    writers = {"kinetics400": _lists_kinetics, "davis2017": _lists_davis, "jhmdb": _lists_jhmdb,
               "vip": _lists_vip, "ucf101": _lists_ucf101, "ssv2": _lists_ssv2}  # fmt: skip
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
            lists[f"sub_splits/{folder_name(action)}_test_split{k + 1}.txt"] = lines
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
    contents = {"labels": {name: str(i) for i, name in enumerate(plain)},
                "train": [item(c) for c in clips if c.split == "train"],
                "validation": [item(c) for c in clips if c.split == "validation"],
                "test": [{"id": c.name} for c in clips if c.split == "test"]}  # fmt: skip
    return {f"something-something-v2-{name}.json": [json.dumps(content)] for name, content in contents.items()}
