"""Clips of the complex-scene data sets to disk: VSPW (classes), UVO (many objects) and KITTI (wide, with ignore)."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from lib.data.rle import encode_rle
from lib.toyworld.layouts import VSPW_CLASSES, ClipPlan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import object_map, part_map, render_frame
from lib.toyworld.scene import Scene
from lib.toyworld.staging import find_scene, make_folders, shown_pixels

MOST_PUPPETS = 8


def write_vspw(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Classes for every pixel: the stage is wall, puppets are persons, one row of pixels is void (255)."""
    scene = find_scene(clip, options, lambda scene: shown_pixels(scene, 0).min() > 0, objects=4, puppets=2)
    images, masks = (base / "data" / clip.name / kind for kind in ("origin", "mask"))
    make_folders(images, masks)
    names = ["person" if part.object_id in scene.puppets else part.name for part in scene.parts] + ["wall"]
    classes = np.array([VSPW_CLASSES.get(name, VSPW_CLASSES["toy"]) for name in names], np.uint8)
    for t in range(scene.length):
        stem = f"{t + 1:08d}"
        Image.fromarray(render_frame(scene, t)).save(images / f"{stem}.jpg", quality=93)
        picture = classes[part_map(scene, t)]
        picture[-1] = 255
        Image.fromarray(picture).save(masks / f"{stem}.png")
    if clip.fault == "empty picture":
        (images / f"{scene.length // 2:08d}.jpg").write_bytes(b"")


def write_uvo(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """1 to 8 puppets by turns, all of them in frame 0; beside the frames, one JSON piece for layouts.write_lists."""
    count = 1 + clip.index % MOST_PUPPETS
    least = 200 * (options.height / 144) ** 2
    scene = find_scene(
        clip, options, lambda scene: shown_pixels(scene, 0).min() >= least, objects=count, puppets=count, crowd=True
    )
    if clip.fault == "null mask":
        hide(scene, count, scene.length // 2)
    folder = base / "uvo_videos_dense_frames" / clip.name
    make_folders(folder)
    objects = [{"segmentations": [], "areas": [], "bboxes": []} for _ in range(count)]
    for t in range(scene.length):
        Image.fromarray(render_frame(scene, t)).save(folder / f"{t}.png", compress_level=3)
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


def hide(scene: Scene, number: int, t: int) -> None:
    """Take object `number` out of the picture in frame `t` alone."""
    for part in scene.parts:
        if part.object_id == number:
            part.maps = part.maps.copy()  # a head and its hat share theirs
            part.maps[t, 1, 2] -= 10 * scene.height


def _box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(n) for n in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def write_kitti(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """Puppets are pedestrians, props are cars; on the right edge of the stage lies a region to ignore (void in STEP).

    The tracking boxes of the real data set (label_02) are left out: no mask comes from them.
    """
    scene = find_scene(clip, options, lambda scene: shown_pixels(scene, 0).min() >= 30, objects=5, puppets=3)
    images, mots = base / "training" / "image_02" / clip.name, base / "instances" / clip.name
    step = base / "panoptic_maps" / clip.split / clip.name
    make_folders(images, mots, step)
    people = [0] + [number in scene.puppets for number in range(1, scene.object_count + 1)]
    id_of = np.array([0] + [(2000 if people[n] else 1000) + n for n in range(1, scene.object_count + 1)], np.uint16)
    class_of = np.array([2] + [11 if people[n] else 13 for n in range(1, scene.object_count + 1)], np.uint8)  # building
    for t in range(scene.length):
        name, objects = f"{t:06d}.png", object_map(scene, part_map(scene, t))
        Image.fromarray(render_frame(scene, t)).save(images / name, compress_level=3)
        ignore = (objects == 0) & (np.arange(scene.width) >= scene.width * 15 // 16)
        Image.fromarray(np.where(ignore, 10000, id_of[objects]).astype(np.uint16)).save(mots / name)
        semantic = np.where(ignore, 255, class_of[objects])
        panoptic = np.stack([semantic, np.zeros_like(objects), objects], -1).astype(np.uint8)
        Image.fromarray(panoptic).save(step / name)
