"""What is in a clip and how it moves: a backdrop, a camera, light, puppets and props, all as arrays over time.

Every visible surface is a flat part with its own coordinates (pixels at camera zoom 1, y down) and an affine map to the
picture for each frame. That map is the only geometry: pixels, masks, joints and optical flow all follow from it. Pixel
centres lie at integer coordinates. `T` frames, `H W` pixels.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from lib.errors import unknown
from lib.toyworld import actions, cast, textures
from lib.toyworld.actions import affine, compose
from lib.toyworld.cast import CastSetting, Part, wave
from lib.toyworld.options import ToyWorldOptions

BACKDROP_TEXELS = 1.5  # texels per stage pixel
STAGE = 1.5  # the stage is this much larger than the picture, so that the camera can move


@dataclass
class Light:
    """What a frame's colours go through: gamma and three gains (T,3), then a soft spot and a soft band of shadow."""

    gamma: np.ndarray
    gain: np.ndarray
    spot: np.ndarray  # (T,4): x, y, radius in pixels, strength
    shadow: np.ndarray  # (T,3): position across the picture (pixels), half width, strength


@dataclass
class Scene:
    """Everything needed to render any frame of a clip. Parts are in painting order, far to near."""

    height: int
    width: int
    backdrop: Image.Image
    camera: np.ndarray  # (T,2,3): stage pixels to picture pixels
    light: Light
    parts: list[Part] = field(default_factory=list)
    joints: list[np.ndarray] = field(default_factory=list)  # a (T,15,2) array for each puppet, pixels (x,y)
    puppets: list[int] = field(default_factory=list)  # their object ids, in the order of `joints`

    @property
    def length(self) -> int:
        """Number of frames T."""
        return len(self.camera)

    @property
    def object_count(self) -> int:
        """Number of objects n; their ids are 1..n."""
        return max((part.object_id for part in self.parts), default=0)


def build_scene(
    rng: np.random.Generator, options: ToyWorldOptions, *, action: str, seconds: np.ndarray,
    size: tuple[int, int] | None = None, objects: int | None = None, puppets: int | None = None,
    leaves: bool = False, tiny: bool = False, crowd: bool = False,
) -> Scene:  # fmt: skip
    """Invent a clip in which the first puppet performs `action` (one of actions.ACTIONS).

    `seconds` (T,) are the frames' times; `size` (H,W) replaces the options' size; `objects` and `puppets` fix how many
    objects there are and how many of them are puppets (drawn when None); with `leaves` the last prop leaves the
    picture; with `tiny` one prop is smaller than a patch of 16 pixels; with `crowd` the puppets stand side by side,
    from four on smaller and in two rows.
    """
    if action not in actions.ACTIONS:
        raise unknown("action", action, actions.ACTIONS)
    height, width = size or (options.height, options.width)
    count = objects or int(rng.integers(2, max(3, options.objects + 1)))
    actors = min(count, puppets) if puppets is not None else int(rng.integers(1, min(2, count) + 1))
    palette = [textures.colour(c) for c in textures.PALETTES[rng.choice(list(textures.PALETTES))]]
    stage = textures.backdrop(rng, rng.choice(textures.BACKDROPS), palette, *stage_size(height, width))
    camera = _camera(rng, options.difficulty, seconds, height, width)
    light = _light(rng, options.difficulty, seconds, height, width)
    scene = Scene(height, width, Image.fromarray(stage), camera, light)
    setting = CastSetting(height, width, camera, seconds, palette, options.difficulty)
    puppet_roles = (_crowd_roles if crowd else _puppet_roles)(rng, setting, actors, action)
    roles = puppet_roles + _prop_roles(rng, setting, count - actors, leaves, tiny)
    for number, role in enumerate(range(len(roles)) if crowd else rng.permutation(len(roles)), start=1):
        if role < actors:
            parts, joints = cast.puppet(rng, setting, number, *roles[role])
            scene.joints.append(joints)
            scene.puppets.append(number)
        else:
            parts = cast.prop(rng, setting, number, *roles[role])
        scene.parts += parts
    return scene


def _puppet_roles(rng, setting: CastSetting, count: int, action: str) -> list[tuple[str, float, float]]:
    """(action, x, unit) of each puppet: the first performs the clip's action, the others any."""
    unit = setting.height / 144 * rng.uniform(0.78, 1.0) * (1 if count == 1 else 0.9)
    places = (0.22 + 0.56 * (rng.permutation(count) + 0.5) / max(count, 1)) * setting.width
    roles = []
    for i, place in enumerate(places):
        kind = action if i == 0 else str(rng.choice(actions.ACTIONS))
        roles.append((kind, place + rng.uniform(-0.04, 0.04) * setting.width, unit * 0.92**i))
    return roles


def _crowd_roles(rng, setting: CastSetting, count: int, action: str) -> list[tuple[str, float, float, float]]:
    """(action, x, unit, raised) of each puppet, the back row first; the first performs the clip's action."""
    back = count // 2 if count > 3 else 0
    unit = setting.height / 144 * (0.54 if back else 0.8)
    roles = []
    for size, raised in ((back, 0.42), (count - back, 0.0)):
        for i in range(size):
            # the middle of the puppet's part of the row, in which it may stand a little to one side
            place = 0.08 + 0.84 * (i + 0.5 + rng.uniform(-0.08, 0.08)) / size
            kind = str(rng.choice(actions.ACTIONS)) if roles else action
            roles.append((kind, place * setting.width, unit * rng.uniform(0.92, 1.08), raised * setting.height))
    return roles


def _prop_roles(rng, setting: CastSetting, count: int, leaves: bool, tiny: bool) -> list[tuple[str, float]]:
    """(path, radius) of each prop."""
    roles = []
    for i in range(count):
        path = str(rng.choice(["drift", "hop", "return"], p=[0.45, 0.35, 0.2]))
        radius = 4.2 if tiny and i == 0 else setting.height / 144 * rng.uniform(8, 15)
        roles.append(("leave" if leaves and i == count - 1 else path, radius))
    return roles


def stage_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the painted backdrop behind a picture of this size."""
    return int(STAGE * height * BACKDROP_TEXELS), int(STAGE * width * BACKDROP_TEXELS)


def _camera(rng, difficulty, seconds, height, width) -> np.ndarray:
    """Pan, zoom and a little roll about the picture's centre."""
    still = np.zeros(len(seconds))
    centre = affine(still + (width - 1) / 2, still + (height - 1) / 2, still)
    reach = 0.03 + 0.10 * difficulty
    x, y = wave(rng, seconds, reach * width, 0.15, 0.45), wave(rng, seconds, 0.5 * reach * height)
    roll = wave(rng, seconds, 0.01 + 0.05 * difficulty)
    move = affine(x, y, roll, np.exp(wave(rng, seconds, 0.03 + 0.10 * difficulty) + 0.06))
    return compose(compose(centre, move), affine(-centre[:, 0, 2], -centre[:, 1, 2], still))


def _light(rng, difficulty, seconds, height, width) -> Light:
    gain = 0.98 + wave(rng, seconds, 0.08 + 0.26 * difficulty)
    tint = np.stack([wave(rng, seconds, 0.02 + 0.10 * difficulty) for _ in range(3)], -1)
    still, across = np.zeros(len(seconds)), np.hypot(height, width)
    x, y = width * (0.5 + wave(rng, seconds, 0.45)), height * (0.45 + wave(rng, seconds, 0.35))
    spot = [x, y, still + rng.uniform(0.28, 0.45) * height, still + 0.15 + 0.5 * difficulty]
    place, half = across * wave(rng, seconds, 0.5), still + across * rng.uniform(0.08, 0.14)
    shadow = [place, half, still + 0.12 + 0.4 * difficulty]
    gamma = np.exp(wave(rng, seconds, 0.08 + 0.3 * difficulty))
    return Light(gamma, np.clip(gain[:, None] + tint, 0.45, 1.4), np.stack(spot, -1), np.stack(shadow, -1))


def steady_light(frames: int) -> Light:
    """The light that leaves painted colours as they are."""
    ones, spot = np.ones(frames), np.tile([0.0, 0.0, 1.0, 0.0], (frames, 1))
    return Light(ones, np.ones((frames, 3)), spot, np.tile([0.0, 1.0, 0.0], (frames, 1)))
