"""The studio: what moves, what is only textured, and nothing else. It stands for no published data set.

One puppet acts before a plain wall on which posters hang; camera and light are still. So every pixel is known to move
(the puppet), to be textured but static (a poster) or to be plain (the wall), and only the action tells clips apart.

Layout: `classes.txt`, `train.txt` and `val.txt` with lines `path label`, `videos/*.mp4`, and for the val split
`layers/{video}/{frame:05d}.png`, grey, of indices into LAYERS.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from lib.toyworld import cast, textures
from lib.toyworld.actions import affine
from lib.toyworld.cast import CastSetting
from lib.toyworld.layouts import ClipPlan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import part_map
from lib.toyworld.scene import Scene, stage_size, steady_light
from lib.toyworld.staging import save

LAYERS = ("wall", "puppet", "poster")
WALL, PUPPET, POSTER = range(3)
POSTERS = 3


def build_studio(clip: ClipPlan, options: ToyWorldOptions) -> Scene:
    """The scene of a clip: object 1 is the puppet, the posters behind it are objects 2 and on."""
    rng, (height, width) = clip.rng(options.seed), (clip.height, clip.width)
    seconds = np.arange(clip.frames) / clip.fps
    palette = [textures.colour(c) for c in textures.PALETTES[rng.choice(list(textures.PALETTES))]]
    still = np.zeros(clip.frames)
    camera = affine(still, still, still)
    setting = CastSetting(height, width, camera, seconds, palette, options.difficulty)
    scene = Scene(height, width, _wall(rng, palette, height, width), camera, steady_light(clip.frames))
    for number, place in enumerate(rng.permutation(2 * POSTERS)[:POSTERS], start=2):
        row, column = divmod(int(place), POSTERS)  # a grid of 2 x POSTERS places, each left or right of its middle
        x = width * (column + 0.5 + rng.uniform(-0.2, 0.2)) / POSTERS
        y = height * (0.25 + 0.45 * row + rng.uniform(-0.06, 0.06))
        scene.parts.append(cast.poster(rng, setting, number, (x, y), height * rng.uniform(0.09, 0.14)))
    unit = height / 144 * rng.uniform(0.6, 0.85)
    # high or low, so that its place does not give the puppet away
    x, raised = rng.uniform(0.2, 0.8) * width, rng.uniform(0, 0.3) * height
    parts, joints = cast.puppet(rng, setting, 1, clip.action, x, unit, raised)
    scene.parts += parts
    scene.joints.append(joints)
    scene.puppets.append(1)
    return scene


def write_layers(folder: Path, scene: Scene) -> None:
    """What each pixel of each frame belongs to, one grey PNG a frame."""
    layer_of = np.array([PUPPET if part.object_id == 1 else POSTER for part in scene.parts] + [WALL], np.uint8)
    for t in range(scene.length):
        save(folder / f"{t:05d}.png", layer_of[part_map(scene, t)])


def _wall(rng, palette: list[np.ndarray], height: int, width: int) -> Image.Image:
    """A wall of one tone, a little lighter or darker from place to place."""
    rows, columns = stage_size(height, width)
    # darker than the puppet as often as lighter, so that brightness does not give it away
    tone = 0.4 * palette[rng.integers(2, 6)] + 0.6 * palette[rng.integers(0, 2)]
    shade = 1 + 0.06 * textures.smooth_noise(rng, rows, columns, rows / 3)
    return Image.fromarray(np.clip(tone * shade[..., None], 0, 255).astype(np.uint8))
