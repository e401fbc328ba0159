"""Small labelled pictures in the layout of CIFAR-10's Python version: props, faces, and sceneries without anybody.

A prop or a face hangs anywhere before any scenery: no place names a class, and colour alone none but faces.
Layout: `data_batch_1`
to `data_batch_5` and `test_batch`, pickles of {"data": uint8 (n, 3072), "labels": n ints, ...}, and `batches.meta`.
"""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from lib.runtime import atomic_path
from lib.toyworld import cast, textures
from lib.toyworld.actions import affine
from lib.toyworld.cast import CastSetting, Part
from lib.toyworld.layouts import ClipPlan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import render_frame
from lib.toyworld.scene import Scene, steady_light

CLASSES = tuple(sorted((*cast.PROP_SHAPES, *textures.BACKDROPS, "face")))
SIDE, DRAWN = 32, 64  # pixels of a picture, and of what it is made smaller from


def write_batch(base: Path, clip: ClipPlan, options: ToyWorldOptions) -> None:
    """One batch file: all classes equally often, up to one, in random order; with the last, their names."""
    rng = clip.rng(options.seed)
    labels = rng.permutation(np.arange(clip.frames) % len(CLASSES))
    images = np.stack([draw(rng, CLASSES[label]) for label in labels])
    content = {
        "batch_label": clip.action,
        "labels": labels.tolist(),
        "data": np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1),
        "filenames": [f"{CLASSES[label]}_{clip.name}_{number:04d}.png" for number, label in enumerate(labels)],
    }
    folder = base / "cifar-10-batches-py"
    _write(folder / clip.name, content)
    if clip.split == "test":
        about = {"num_cases_per_batch": clip.frames, "label_names": list(CLASSES), "num_vis": 3 * SIDE**2}
        _write(folder / "batches.meta", about)


def _write(path: Path, content: dict) -> None:
    """A pickle of the protocol that Python 2 wrote, as the published files are."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=2))


def draw(rng: np.random.Generator, name: str) -> np.ndarray:
    """A picture of the class: uint8 (32, 32, 3)."""
    palette = [textures.colour(code) for code in textures.PALETTES[rng.choice(list(textures.PALETTES))]]
    kind = name if name in textures.BACKDROPS else str(rng.choice(textures.BACKDROPS))
    scenery = textures.backdrop(rng, kind, palette, 2 * DRAWN, 3 * DRAWN)  # its curtains are left out of the picture
    still = np.zeros(1)
    scene = Scene(DRAWN, DRAWN, Image.fromarray(scenery), affine(still, still, still), steady_light(1))
    setting = CastSetting(DRAWN, DRAWN, scene.camera, still, palette, difficulty=0.5)
    radius = DRAWN * rng.uniform(0.22, 0.36)
    place = tuple(rng.uniform(radius, DRAWN - radius, 2))
    if name in cast.PROP_SHAPES:
        scene.parts.append(cast.poster(rng, setting, 1, place, radius, name))
    elif name == "face":
        scene.parts.append(_face(rng, setting, place, radius))
    frame = Image.fromarray(render_frame(scene, 0))
    return np.asarray(frame.resize((SIDE, SIDE), Image.Resampling.BOX))


def _face(rng, setting: CastSetting, place: tuple[float, float], radius: float) -> Part:
    """A puppet's head, leaning a little."""
    skin = textures.colour(str(rng.choice(textures.SKINS)))
    side = int(np.ceil(2 * (radius + cast.MARGIN) * cast.TEXELS))
    palette = setting.palette
    picture = textures.face(rng, skin, palette[2 * rng.integers(0, 2)] * 0.8, palette[0], palette[2], side)
    own = affine(np.array([place[0]]), np.array([place[1]]), rng.uniform(-0.4, 0.4, 1))
    picture = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return Part("head", 1, "ball", (radius, radius), (0.0, 0.0), picture, own)
