"""One clip to disk, in the file formats of the real data set it stands for.

What a clip holds depends on the world's seed, the data set and the clip's number alone.
"""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.io import savemat

from lib.data.images import write_mask
from lib.data.kinetics import class_folder
from lib.data.rle import encode_rle
from lib.toyworld.layouts import VSPW_CLASSES, ClipPlan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.pictures import write_batch
from lib.toyworld.render import flow_truth, object_map, part_map, render_frame
from lib.toyworld.scene import Scene
from lib.toyworld.staging import find_scene, save, shown_pixels, take_away
from lib.toyworld.studio import build_studio, write_layers

# Equal frames must give equal files on any machine: x264's macroblock tree reads memory nobody has written, and its
# fastest routines differ from one processor to another.
X264 = {"preset": "veryfast", "crf": "18", "g": "24", "mbtree": "0", "x264-params": "cpu-independent=1"}
# VIP's part ids used here (of its 20), deliberately not consecutive; props are background there.
VIP_CLASSES = {
    "hat": 1, "torso": 5, "head": 13, "L upper arm": 14, "L forearm": 14, "R upper arm": 15, "R forearm": 15,
    "L thigh": 16, "L shin": 16, "R thigh": 17, "R shin": 17,
}  # fmt: skip
UVO_PUPPETS = 8  # most in a video


def write_clip(root: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Render one clip and write its files under `root`/{data set}."""
    writers = {
        "kinetics400": _write_kinetics, "davis2017": _write_davis, "jhmdb": _write_jhmdb, "vip": _write_vip,
        "ucf101": _write_ucf101, "ssv2": _write_ssv2, "vspw": _write_vspw, "uvo": _write_uvo, "kitti": _write_kitti,
        "studio": _write_studio, "cifar10": write_batch,
    }  # fmt: skip
    writers[clip.dataset](root / clip.dataset, clip, options)


def _encode(path: Path, scene: Scene, fps: int, codec: str, container: str, options: dict, **settings) -> None:
    """Encode all frames of a scene; `options` and `settings` go to the codec."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
        stream.codec_context.thread_count = 1  # so that equal scenes give equal files
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for t in range(scene.length):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(render_frame(scene, t), format="rgb24")))
        out.mux(stream.encode(None))


def _write_kinetics(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    path = base / clip.split / class_folder(clip.action) / f"{clip.name}.mp4"
    _encode(path, find_scene(clip, options), clip.fps, "libx264", "mp4", X264)
    if clip.fault == "broken":  # the index (moov atom) is written last: without it nothing can be decoded
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _write_davis(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """1 to `objects` objects by turns, all in frame 0.

    Where there are two or more, one leaves for good in sequence 0, and one is smaller than a patch in sequence 1.
    """
    objects = 1 + (clip.index + 2) % options.objects
    leaves, tiny = (objects > 1 and clip.index == number for number in (0, 1))

    def fits(scene: Scene) -> bool:
        first, last = shown_pixels(scene, 0), shown_pixels(scene, scene.length - 1)
        large_enough = first.min() >= (20 if tiny else 60 * (options.height / 144) ** 2)
        return large_enough and (last.min() == 0 or not leaves)

    puppets = 1 if tiny or leaves or objects == 1 else None
    scene = find_scene(clip, options, fits, objects=objects, leaves=leaves, tiny=tiny, puppets=puppets)
    images, masks, flows = (base / kind / "480p" / clip.name for kind in ("JPEGImages", "Annotations", "Flow"))
    flows.mkdir(parents=True)
    for t in range(scene.length):
        save(images / f"{t:05d}.jpg", render_frame(scene, t), quality=93)
        parts = part_map(scene, t)
        write_mask(masks / f"{t:05d}.png", object_map(scene, parts))
        if t + 1 < scene.length:
            flow, visible = flow_truth(scene, t, parts)
            np.savez_compressed(flows / f"{t:05d}.npz", flow=flow.astype(np.float16), visible=visible)


def _write_jhmdb(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """One puppet a clip; in clip 0 it is moved so that a joint lies outside frame 0."""
    scene = find_scene(clip, options, puppets=1)
    if clip.index == 0:
        push_out(scene)
    class_name = class_folder(clip.action)
    images, joints = (base / kind / class_name / clip.name for kind in ("Rename_Images", "joint_positions"))
    joints.mkdir(parents=True)
    for t in range(scene.length):
        save(images / f"{t + 1:05d}.png", render_frame(scene, t), compress_level=3)
    pos_img = scene.joints[0].transpose(2, 1, 0) + 1.0  # 2 x 15 x T, pixels counted from 1
    pos_world = (pos_img - np.array([scene.width, scene.height])[:, None, None] / 2) / 108
    savemat(joints / "joint_positions.mat", {"pos_img": pos_img, "pos_world": pos_world})


def push_out(scene: Scene) -> None:
    """Shift the puppet sideways until its outermost joint of frame 0 lies outside the picture."""
    first = scene.joints[0][0, :, 0]
    left = first.min() < scene.width - first.max()
    shift = -(first.min() + 3) if left else scene.width + 2 - first.max()
    scene.joints[0][..., 0] += shift
    for part in scene.parts:
        if part.object_id == scene.puppets[0]:
            part.maps = part.maps + np.array([[0, 0, shift], [0, 0, 0]])  # anew: parts may share maps


def _write_vip(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Annotated frames only, 25 source frames apart; hats (class 1) are put on late in the first video."""
    late, base = clip.index == 0, base / "VIP_Fine"

    def has_hat(scene: Scene) -> bool:
        return not late or any(part.name == "hat" for part in scene.parts)

    scene = find_scene(clip, options, has_hat, stretch=3.0, objects=3, puppets=2)
    if late:
        take_away(scene, lambda part: part.name == "hat", slice(scene.length // 3))
    category = np.array([VIP_CLASSES.get(part.name, 0) for part in scene.parts] + [0])
    people = {number: i for i, number in enumerate(scene.puppets, start=1)}
    human = np.array([people.get(part.object_id, 0) for part in scene.parts] + [0])
    pairs = sorted({(h, c) for h, c in zip(human, category, strict=True) if c})
    instance = np.array([pairs.index((h, c)) + 1 if c else 0 for h, c in zip(human, category, strict=True)])
    for t in range(scene.length):
        parts, stem = part_map(scene, t), f"{1 + 25 * t:012d}"
        save(base / "Images" / clip.name / f"{stem}.jpg", render_frame(scene, t), quality=93)
        for kind, ids in (("Category_ids", category), ("Human_ids", human), ("Instance_ids", instance)):
            picture = ids[parts].astype(np.uint8)
            if kind == "Category_ids" and late and t == 1:
                picture[0, 0] = 255  # one void pixel
            save(base / "Annotations" / kind / clip.name / f"{stem}.png", picture)


def _write_ucf101(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    path = base / "UCF-101" / clip.name.split("_")[1] / f"{clip.name}.avi"
    settings = {"max_b_frames": 2, "gop_size": 12, "bit_rate": 1_500_000, "codec_tag": "XVID"}
    _encode(path, find_scene(clip, options), clip.fps, "mpeg4", "avi", {"qscale": "3"}, **settings)


def _write_ssv2(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    path = base / "videos" / f"{clip.name}.webm"
    fast = {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"}
    _encode(path, find_scene(clip, options), clip.fps, "libvpx-vp9", "webm", fast)


def _write_vspw(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Classes for every pixel: the stage is wall, puppets are persons, one row of pixels is void (255)."""
    scene = find_scene(clip, options, lambda scene: shown_pixels(scene, 0).min() > 0, objects=4, puppets=2)
    images, masks = (base / "data" / clip.name / kind for kind in ("origin", "mask"))
    names = ["person" if part.object_id in scene.puppets else part.name for part in scene.parts] + ["wall"]
    classes = np.array([VSPW_CLASSES.get(name, VSPW_CLASSES["toy"]) for name in names], np.uint8)
    for t in range(scene.length):
        stem = f"{t + 1:08d}"
        save(images / f"{stem}.jpg", render_frame(scene, t), quality=93)
        picture = classes[part_map(scene, t)]
        picture[-1] = 255
        save(masks / f"{stem}.png", picture)
    if clip.fault == "empty picture":
        (images / f"{scene.length // 2:08d}.jpg").write_bytes(b"")


def _write_uvo(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """1 to 8 puppets by turns, all of them in frame 0; beside the frames, one JSON piece for layouts.write_lists."""
    count, least = 1 + clip.index % UVO_PUPPETS, 200 * (options.height / 144) ** 2

    def all_seen(scene: Scene) -> bool:
        return shown_pixels(scene, 0).min() >= least

    scene = find_scene(clip, options, all_seen, objects=count, puppets=count, crowd=True)
    if clip.fault == "null mask":
        take_away(scene, lambda part: part.object_id == count, scene.length // 2)
    folder = base / "uvo_videos_dense_frames" / clip.name
    objects = [{"segmentations": [], "areas": [], "bboxes": []} for _ in range(count)]
    for t in range(scene.length):
        save(folder / f"{t}.png", render_frame(scene, t), compress_level=3)
        ids = object_map(scene, part_map(scene, t))
        for number, annotation in enumerate(objects, start=1):
            mask = ids == number
            shown = bool(mask.any())
            annotation["segmentations"].append(encode_rle(mask) if shown else None)
            annotation["areas"].append(int(mask.sum()) if shown else None)
            annotation["bboxes"].append(_box(mask) if shown else None)
    size = {"height": scene.height, "width": scene.width}
    names = [f"{clip.name}/{t}.png" for t in range(scene.length)]
    video = {"ytid": clip.name, "start_idx": 0, **size, "length": scene.length, "file_names": names}
    content = {"video": video, "objects": [size | annotation for annotation in objects]}
    (base / f"{clip.name}.json").write_text(json.dumps(content))


def _box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(n) for n in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def _write_kitti(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Puppets are pedestrians, props are cars; on the right edge of the stage lies a region to ignore.

    `instances` is MOTS' annotation, `panoptic_maps` that of STEP (Weber et al. 2021), in which that region is void. The
    tracking boxes (label_02) are left out.
    """
    scene = find_scene(clip, options, lambda scene: shown_pixels(scene, 0).min() >= 30, objects=5, puppets=3)
    images, mots = base / "training" / "image_02" / clip.name, base / "instances" / clip.name
    step = base / "panoptic_maps" / clip.split / clip.name
    numbers = np.arange(scene.object_count + 1)
    people, stage = np.isin(numbers, scene.puppets), numbers == 0
    id_of = np.where(stage, 0, np.where(people, 2000, 1000) + numbers)
    class_of = np.where(stage, 2, np.where(people, 11, 13))  # the stage is a building
    for t in range(scene.length):
        name, objects = f"{t:06d}.png", object_map(scene, part_map(scene, t))
        save(images / name, render_frame(scene, t), compress_level=3)
        ignore = (objects == 0) & (np.arange(scene.width) >= scene.width * 15 // 16)
        save(mots / name, np.where(ignore, 10000, id_of[objects]).astype(np.uint16))
        semantic = np.where(ignore, 255, class_of[objects])
        panoptic = np.stack([semantic, np.zeros_like(objects), objects], -1).astype(np.uint8)
        save(step / name, panoptic)


def _write_studio(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    scene = build_studio(clip, options)
    _encode(base / "videos" / f"{clip.name}.mp4", scene, clip.fps, "libx264", "mp4", X264)
    if clip.split == "val":
        write_layers(base / "layers" / clip.name, scene)
