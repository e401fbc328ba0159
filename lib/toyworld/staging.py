"""From a plan to a scene that shows what its clip must show, and to the folders that its files lie in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.errors import UserError
from lib.toyworld.layouts import ClipPlan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import object_map, part_map
from lib.toyworld.scene import Scene, build_scene

TRIES = 200


def find_scene(
    clip: ClipPlan,
    options: ToyWorldOptions,
    fits: Callable[[Scene], bool] | None = None,
    stretch: float = 1.0,
    **choices,
) -> Scene:
    """The first scene of the clip's random stream that `fits`; `choices` go to scene.build_scene.

    `stretch` slows the clock (seconds between frames).
    """
    rng, seconds = clip.rng(options.seed), np.arange(clip.frames) / clip.fps * stretch
    size = (clip.height or options.height, clip.width or options.width)
    for _ in range(TRIES):
        scene = build_scene(rng, options, action=clip.action, seconds=seconds, size=size, **choices)
        if fits is None or fits(scene):
            return scene
    raise UserError(
        f"no scene of {clip.dataset} {clip.name} shows all it must in {TRIES} tries: choose a larger picture "
        "or fewer objects"
    )


def shown_pixels(scene: Scene, t: int) -> np.ndarray:
    """(n,) pixels that each object 1..n shows in frame `t`."""
    return np.bincount(object_map(scene, part_map(scene, t)).ravel(), minlength=scene.object_count + 1)[1:]


def make_folders(*folders: Path) -> None:
    """Make folders and what lies above them."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
