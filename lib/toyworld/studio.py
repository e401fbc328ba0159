"""The studio: what moves, what is only textured, and nothing else. It stands for no published data set.

One puppet acts before a plain wall on which posters hang; camera and light are still. So every pixel is known to move
(the puppet), to be textured but static (a poster) or to be plain (the wall), and the action is the only thing that a
clip can be told by. A sampler that looks for motion and one that looks for texture part company here. Walls are darker
than the puppet as often as lighter, and it stands high or low, so that neither brightness nor place gives it away.

Layout: `classes.txt`, `train.txt` and `val.txt` with lines `path label`, `videos/*.mp4`, and for the val split
`layers/{video}/{frame:05d}.png`, a grey picture for each frame: WALL, PUPPET or POSTER. `T` frames, `H W` pixels.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from lib.toyworld import cast, textures
from lib.toyworld.actions import affine
from lib.toyworld.cast import Setting
from lib.toyworld.layouts import ClipPlan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import part_map
from lib.toyworld.scene import BACKDROP_TEXELS, STAGE, Light, Scene

WALL, PUPPET, POSTER = 0, 1, 2
POSTERS = 3


def build_studio(clip: ClipPlan, options: ToyWorldOptions) -> Scene:
    """The scene of a clip: object 1 is the puppet, the posters behind it are objects 2 and on."""
    rng, (height, width) = clip.rng(options.seed), (clip.height, clip.width)
    seconds = np.arange(clip.frames) / clip.fps
    palette = [textures.colour(c) for c in textures.PALETTES[rng.choice(list(textures.PALETTES))]]
    still = np.zeros(clip.frames)
    camera = affine(still, still, still)
    setting = Setting(height, width, camera, seconds, palette, options.difficulty)
    scene = Scene(height, width, _wall(rng, palette, height, width), camera, _steady_light(clip.frames))
    for number, place in enumerate(rng.permutation(2 * POSTERS)[:POSTERS], start=2):
        row, column = divmod(int(place), POSTERS)  # a grid of 2 x POSTERS places, each left or right of its middle
        x = width * (column + 0.5 + rng.uniform(-0.2, 0.2)) / POSTERS
        y = height * (0.25 + 0.45 * row + rng.uniform(-0.06, 0.06))
        scene.parts.append(cast.poster(rng, setting, number, (x, y), height * rng.uniform(0.09, 0.14)))
    unit = height / 144 * rng.uniform(0.6, 0.85)
    x, raised = rng.uniform(0.2, 0.8) * width, rng.uniform(0, 0.3) * height
    parts, joints = cast.puppet(rng, setting, 1, clip.action, x, unit, raised)
    scene.parts += parts
    scene.joints.append(joints)
    scene.puppets.append(1)
    return scene


def write_layers(folder: Path, scene: Scene) -> None:
    """What each pixel of each frame belongs to, one grey PNG a frame."""
    folder.mkdir(parents=True)
    layer_of = np.array([PUPPET if part.object_id == 1 else POSTER for part in scene.parts] + [WALL], np.uint8)
    for t in range(scene.length):
        Image.fromarray(layer_of[part_map(scene, t)]).save(folder / f"{t:05d}.png")


def _wall(rng, palette: list[np.ndarray], height: int, width: int) -> Image.Image:
    """A dark or a light wall, a little lighter or darker from place to place, on the renderer's larger stage."""
    rows, columns = (int(STAGE * side * BACKDROP_TEXELS) for side in (height, width))
    tone = 0.4 * palette[rng.integers(2, 6)] + 0.6 * palette[rng.integers(0, 2)]
    shade = 1 + 0.06 * textures.smooth_noise(rng, rows, columns, rows / 3)
    return Image.fromarray(np.clip(tone * shade[..., None], 0, 255).astype(np.uint8))


def _steady_light(frames: int) -> Light:
    ones, spot = np.ones(frames), np.tile([0.0, 0.0, 1.0, 0.0], (frames, 1))
    return Light(ones, np.ones((frames, 3)), spot, np.tile([0.0, 1.0, 0.0], (frames, 1)))
