"""One clip to disk, in the file formats of the real data set it stands for.

What a clip holds depends on the world's seed, the data set and the clip's number alone.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from scipy.io import savemat

from lib.data.images import write_mask
from lib.data.kinetics import class_folder
from lib.toyworld.complex_writers import write_kitti, write_uvo, write_vspw
from lib.toyworld.layouts import ClipPlan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import flow_truth, object_map, part_map, render_frame
from lib.toyworld.scene import Scene
from lib.toyworld.staging import find_scene, make_folders, shown_pixels
from lib.toyworld.studio import build_studio, write_layers

# Equal frames must give equal files on any machine: x264's macroblock tree reads memory nobody has written, and its
# fastest routines differ from one processor to another.
X264 = {"preset": "veryfast", "crf": "18", "g": "24", "mbtree": "0", "x264-params": "cpu-independent=1"}
# VIP's part ids used here (of its 20), deliberately not consecutive; props are background there.
VIP_CLASSES = {"hat": 1, "torso": 5, "head": 13, "L arm": 14, "R arm": 15, "L leg": 16, "R leg": 17}


def write_clip(root: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Render one clip and write its files under `root`/{data set}."""
    writers = {
        "kinetics400": _write_kinetics, "davis2017": _write_davis, "jhmdb": _write_jhmdb, "vip": _write_vip,
        "ucf101": _write_ucf101, "ssv2": _write_ssv2, "vspw": write_vspw, "uvo": write_uvo, "kitti": write_kitti,
        "studio": _write_studio,
    }  # fmt: skip
    base = root / clip.dataset
    writers[clip.dataset](base / "VIP_Fine" if clip.dataset == "vip" else base, clip, options)


def _encode(path: Path, scene: Scene, fps: int, codec: str, container: str, options: dict, **settings) -> None:
    """Encode all frames of a scene; `options` and `settings` go to the codec."""
    make_folders(path.parent)
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
    leaves, tiny = clip.index == 0 and objects > 1, clip.index == 1 and objects > 1

    def fits(scene: Scene) -> bool:
        first, last = shown_pixels(scene, 0), shown_pixels(scene, scene.length - 1)
        large_enough = first.min() >= (20 if tiny else 60 * (options.height / 144) ** 2)
        return large_enough and (last.min() == 0 or not leaves)

    puppets = 1 if tiny or leaves or objects == 1 else None
    scene = find_scene(clip, options, fits, objects=objects, leaves=leaves, tiny=tiny, puppets=puppets)
    images, masks, flows = (base / kind / "480p" / clip.name for kind in ("JPEGImages", "Annotations", "Flow"))
    make_folders(images, masks, flows)
    for t in range(scene.length):
        Image.fromarray(render_frame(scene, t)).save(images / f"{t:05d}.jpg", quality=93)
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
    make_folders(images, joints)
    for t in range(scene.length):
        Image.fromarray(render_frame(scene, t)).save(images / f"{t + 1:05d}.png", compress_level=3)
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


def vip_class(part_name: str) -> int:
    """VIP's category id of a puppet part; 0 for props."""
    side = part_name[:2] if part_name[:2] in ("L ", "R ") else ""
    kind = part_name.removeprefix(side)
    limb = {"forearm": "arm", "upper arm": "arm", "thigh": "leg", "shin": "leg"}.get(kind, kind)
    return VIP_CLASSES.get(side + limb, 0)


def _write_vip(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Annotated frames only, 25 source frames apart; hats (class 1) are put on late in the first video."""
    late = clip.index == 0
    has_hat = (lambda scene: "hat" in {p.name for p in scene.parts}) if late else None
    scene = find_scene(clip, options, has_hat, stretch=3.0, objects=3, puppets=2)
    kinds = ("Category_ids", "Human_ids", "Instance_ids")
    folders = [base / "Images" / clip.name, *(base / "Annotations" / kind / clip.name for kind in kinds)]
    make_folders(*folders)
    if late:
        hats_late(scene)
    category = np.array([vip_class(part.name) for part in scene.parts] + [0], np.uint8)
    people = {number: i for i, number in enumerate(scene.puppets, start=1)}
    human = np.array([people.get(part.object_id, 0) for part in scene.parts] + [0])
    pairs = sorted({(h, c) for h, c in zip(human, category, strict=True) if c})
    instance = np.array([pairs.index((h, c)) + 1 if c else 0 for h, c in zip(human, category, strict=True)])
    for t in range(scene.length):
        parts, stem = part_map(scene, t), f"{1 + 25 * t:012d}"
        Image.fromarray(render_frame(scene, t)).save(folders[0] / f"{stem}.jpg", quality=93)
        for folder, ids in zip(folders[1:], (category, human, instance), strict=True):
            picture = ids[parts].astype(np.uint8)
            if folder.parent.name == "Category_ids" and late and t == 1:
                picture[0, 0] = 255  # one void pixel
            Image.fromarray(picture).save(folder / f"{stem}.png")


def hats_late(scene: Scene) -> None:
    """Keep hats out of the picture for the first third of the clip."""
    for part in scene.parts:
        if part.name == "hat":
            part.maps = part.maps.copy()  # the head shares it
            part.maps[: scene.length // 3, 1, 2] -= 10 * scene.height


def _write_ucf101(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    path = base / "UCF-101" / clip.name.split("_")[1] / f"{clip.name}.avi"
    settings = {"max_b_frames": 2, "gop_size": 12, "bit_rate": 1_500_000, "codec_tag": "XVID"}
    _encode(path, find_scene(clip, options), clip.fps, "mpeg4", "avi", {"qscale": "3"}, **settings)


def _write_ssv2(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    path = base / "videos" / f"{clip.name}.webm"
    fast = {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"}
    _encode(path, find_scene(clip, options), clip.fps, "libvpx-vp9", "webm", fast)


def _write_studio(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    scene = build_studio(clip, options)
    _encode(base / "videos" / f"{clip.name}.mp4", scene, clip.fps, "libx264", "mp4", X264)
    if clip.split == "val":
        write_layers(base / "layers" / clip.name, scene)
