"""From a plan to a scene that shows what its clip must show, and pictures of it to disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lib.errors import UserError
from lib.toyworld.cast import Part
from lib.toyworld.layouts import ClipPlan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import object_map, part_map
from lib.toyworld.scene import Scene, build_scene

TRIES = 200


def find_scene(
    clip: ClipPlan, options: ToyWorldOptions, fits: Callable[[Scene], bool] = lambda scene: True,
    stretch: float = 1.0, **choices,
) -> Scene:  # fmt: skip
    """The first scene of the clip's random stream that `fits`; `choices` go to scene.build_scene.

    `stretch` lengthens the seconds between frames.
    """
    rng, seconds = clip.rng(options.seed), np.arange(clip.frames) / clip.fps * stretch
    size = (clip.height or options.height, clip.width or options.width)
    for _ in range(TRIES):
        scene = build_scene(rng, options, action=clip.action, seconds=seconds, size=size, **choices)
        if fits(scene):
            return scene
    wanted = f"no scene of {clip.dataset} {clip.name} shows all it must in {TRIES} tries"
    raise UserError(f"{wanted}: choose a larger picture or fewer objects")


def take_away(scene: Scene, chosen: Callable[[Part], bool], frames: int | slice) -> None:
    """Keep the parts that are chosen out of the picture in one frame or several."""
    for part in filter(chosen, scene.parts):
        part.maps = part.maps.copy()  # a head and its hat share theirs
        part.maps[frames, 1, 2] -= 10 * scene.height


def shown_pixels(scene: Scene, t: int) -> np.ndarray:
    """(n,) pixels that each object 1..n shows in frame `t`."""
    return np.bincount(object_map(scene, part_map(scene, t)).ravel(), minlength=scene.object_count + 1)[1:]


def save(path: Path, pixels: np.ndarray, **options) -> None:
    """Write a picture and make its folder; `options` go to Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
