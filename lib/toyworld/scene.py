"""What is in a clip and how it moves: a backdrop, a camera, light, puppets and props, all as arrays over time.

Every visible surface is a flat part with its own coordinates (pixels at camera zoom 1, y down) and an affine map to
the picture for each frame. That map is the only geometry: pixels, masks, joints and optical flow all follow from it.
Pixel centres lie at integer coordinates. `T` frames, `H W` pixels.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from lib.errors import unknown
from lib.toyworld import actions, textures
from lib.toyworld.actions import affine, compose
from lib.toyworld.options import ToyWorldOptions

TEXELS = 2.0  # texels per pixel of a part's own coordinates
BACKDROP_TEXELS = 1.5
MARGIN = 2.0  # pixels of texture beyond a part's edge
PROP_SHAPES = ("ball", "box", "star", "flower", "kite")


@dataclass
class Part:
    """A flat textured shape. `size` are its half extents (rx, ry) in pixels, its centre lies at `centre`."""

    name: str
    object_id: int
    shape: str
    size: tuple[float, float]
    centre: tuple[float, float]
    picture: Image.Image
    maps: np.ndarray
    """(T,2,3): own coordinates to pixels."""


@dataclass
class Light:
    """What a frame's colours go through: gamma and three gains (T,3), then a soft spot and a soft band of shadow."""

    gamma: np.ndarray
    gain: np.ndarray
    spot: np.ndarray
    """(T,4): x, y, radius in pixels, strength."""
    shadow: np.ndarray
    """(T,3): position across the picture (pixels), half width, strength."""


@dataclass
class Scene:
    """Everything needed to render any frame of a clip. Parts are in painting order, far to near."""

    height: int
    width: int
    backdrop: Image.Image
    camera: np.ndarray
    """(T,2,3): stage pixels to picture pixels."""
    light: Light
    parts: list[Part] = field(default_factory=list)
    joints: list[np.ndarray] = field(default_factory=list)
    """One (T,15,2) array a puppet, pixels (x,y)."""
    puppets: list[int] = field(default_factory=list)
    """The object ids of the puppets, in the order of `joints`."""
    action: str = ""

    @property
    def length(self) -> int:
        return len(self.camera)

    @property
    def object_count(self) -> int:
        return max((part.object_id for part in self.parts), default=0)


def build_scene(
    rng: np.random.Generator,
    options: ToyWorldOptions,
    *,
    action: str,
    seconds: np.ndarray,
    size: tuple[int, int] | None = None,
    objects: int | None = None,
    puppets: int | None = None,
    leaves: bool = False,
    tiny: bool = False,
) -> Scene:
    """Invent a clip in which the first puppet performs `action` (one of actions.ACTIONS).

    `seconds` (T,) are the frames' times; `size` (H,W) replaces the options' size; `objects` and `puppets` fix how many
    objects there are and how many of them are puppets (drawn when None); with `leaves` the last prop leaves the picture;
    with `tiny` one prop is smaller than a patch of 16 pixels. Raises UserError for an unknown action.
    """
    if action not in actions.ACTIONS:
        raise unknown("action", action, actions.ACTIONS)
    height, width = size or (options.height, options.width)
    count = objects or int(rng.integers(2, max(3, options.objects + 1)))
    actors = puppets if puppets is not None else int(rng.integers(1, min(2, count) + 1))
    palette = [textures.colour(c) for c in textures.PALETTES[rng.choice(list(textures.PALETTES))]]
    stage = textures.backdrop(rng, rng.choice(textures.BACKDROPS), palette, *_stage_size(height, width))
    camera = _camera(rng, options.difficulty, seconds, height, width)
    scene = Scene(height, width, Image.fromarray(stage), camera, _light(rng, options.difficulty, seconds, height, width))
    scene.action = action
    unit = height / 144 * rng.uniform(0.68, 0.9) * (1 if actors == 1 else 0.9)
    spots = (rng.permutation(actors) + 0.5) / actors * 0.56 * width + 0.22 * width
    layers = []
    for i in range(actors):
        its_action = action if i == 0 else str(rng.choice(actions.ACTIONS))
        layers.append((_add_puppet, its_action, spots[i] + rng.uniform(-0.04, 0.04) * width, unit * (0.92**i)))
    for i in range(count - actors):
        path = "leave" if leaves and i == count - actors - 1 else str(rng.choice(["drift", "hop", "return"], p=[0.45, 0.35, 0.2]))
        radius = 4.2 if tiny and i == 0 else height / 144 * rng.uniform(8, 15)
        layers.append((_add_prop, path, radius))
    for number, i in enumerate(rng.permutation(len(layers)), start=1):
        add, *arguments = layers[i]
        add(scene, rng, number, palette, options.difficulty, seconds, *arguments)
    return scene


def _stage_size(height: int, width: int) -> tuple[int, int]:
    return int(1.5 * height * BACKDROP_TEXELS), int(1.5 * width * BACKDROP_TEXELS)


def _wave(rng: np.random.Generator, seconds: np.ndarray, amplitude: float, slow: float = 0.1, fast: float = 0.35):
    """(T,) a smooth random course of about +-amplitude: two sines between `slow` and `fast` Hz."""
    parts = [np.sin(2 * np.pi * rng.uniform(slow, fast) * seconds + rng.uniform(0, 6.28)) for _ in range(2)]
    return amplitude * (0.65 * parts[0] + 0.35 * parts[1])


def _camera(rng, difficulty, seconds, height, width) -> np.ndarray:
    """Pan, zoom and a little roll about the picture's centre."""
    centre = affine(np.full(len(seconds), (width - 1) / 2), np.full(len(seconds), (height - 1) / 2), np.zeros(len(seconds)))
    reach = 0.03 + 0.10 * difficulty
    move = affine(
        _wave(rng, seconds, reach * width), _wave(rng, seconds, 0.5 * reach * height),
        _wave(rng, seconds, 0.01 + 0.05 * difficulty), np.exp(_wave(rng, seconds, 0.03 + 0.10 * difficulty) + 0.06),
    )  # fmt: skip
    return compose(compose(centre, move), affine(-centre[:, 0, 2], -centre[:, 1, 2], np.zeros(len(seconds))))


def _light(rng, difficulty, seconds, height, width) -> Light:
    gain = 0.98 + _wave(rng, seconds, 0.08 + 0.26 * difficulty)
    tint = np.stack([_wave(rng, seconds, 0.02 + 0.10 * difficulty) for _ in range(3)], -1)
    spot = [width * (0.5 + _wave(rng, seconds, 0.45)), height * (0.45 + _wave(rng, seconds, 0.35)),
            np.full(len(seconds), rng.uniform(0.28, 0.45) * height), np.full(len(seconds), 0.15 + 0.5 * difficulty)]  # fmt: skip
    across = np.hypot(height, width)
    shadow = [across * _wave(rng, seconds, 0.5), np.full(len(seconds), across * rng.uniform(0.08, 0.14)),
              np.full(len(seconds), 0.12 + 0.4 * difficulty)]  # fmt: skip
    return Light(
        np.exp(_wave(rng, seconds, 0.08 + 0.3 * difficulty)),
        np.clip(gain[:, None] + tint, 0.45, 1.4), np.stack(spot, -1), np.stack(shadow, -1),
    )  # fmt: skip


def _tones(rng: np.random.Generator, palette: list[np.ndarray], difficulty: float) -> list[np.ndarray]:
    """Two colours for a pattern. The harder the clip, the fewer colours all its objects share."""
    shared = palette[2 : 2 + max(2, round(4 - 2 * difficulty))]
    first, second = rng.permutation(len(shared))[:2]
    return [shared[first], (palette[1], shared[second])[rng.integers(0, 2)]]


def _part(name, number, shape, half, centre, picture, maps) -> Part:
    return Part(name, number, shape, half, centre, Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)), maps)


def _texture_size(half: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of the texture of a part with these half extents."""
    return int(np.ceil(2 * (half[1] + MARGIN) * TEXELS)), int(np.ceil(2 * (half[0] + MARGIN) * TEXELS))


def _add_prop(scene, rng, number, palette, difficulty, seconds, path, radius) -> None:
    shape = str(rng.choice(PROP_SHAPES))
    half = (radius, radius * rng.uniform(0.75, 1.0)) if shape == "box" else (radius, radius)
    rows, columns = _texture_size(half)
    period = max(4.0, radius * rng.uniform(0.45, 0.8)) * TEXELS
    picture = textures.pattern(rng, str(rng.choice(textures.PATTERNS)), _tones(rng, palette, difficulty), rows, columns, period)
    speed, length = 0.7 + 0.6 * difficulty, scene.width
    t = seconds * speed
    x0, y0 = rng.uniform(0.2, 0.8) * length, rng.uniform(0.25, 0.75) * scene.height
    x, y = x0 + _wave(rng, t, 0.16 * length, 0.15, 0.4), y0 + _wave(rng, t, 0.16 * scene.height, 0.15, 0.4)
    if path == "hop":
        phase = (t * rng.uniform(0.8, 1.1) + rng.random()) % 1
        y = 0.82 * scene.height - 0.3 * scene.height * 4 * phase * (1 - phase)
    if path == "leave":  # out of the picture by the clip's last third
        way = 1 if x0 > length / 2 else -1
        way_out = (length - x0 if way > 0 else x0) + 2.5 * radius + 0.16 * length
        x = x + way * way_out * np.clip((seconds - seconds[0]) / (0.66 * (seconds[-1] - seconds[0])), 0, 1)
    if path == "return":
        side = rng.choice([-0.12, 1.12])
        x = length * (side + np.sign(0.5 - side) * 0.42 * (0.5 - 0.5 * np.cos(2 * np.pi * (0.3 * t + rng.random()))) * 1.5)
    turn = rng.uniform(-1.2, 1.2) * t + _wave(rng, t, 0.5) + rng.uniform(0, 6.28)
    own = affine(x, y, turn, np.exp(_wave(rng, t, 0.15)))
    scene.parts.append(_part(shape, number, shape, half, (0.0, 0.0), picture, compose(scene.camera, own)))


def _add_puppet(scene, rng, number, palette, difficulty, seconds, action, x, unit) -> None:
    pose = actions.act(action, seconds, rng, 0.75 + 0.5 * difficulty)
    frames, joints = actions.skeleton(pose)
    still = np.zeros(len(seconds))
    ground = scene.height * (0.9 if action != "cartwheeling" else 0.82) - 37 * unit * (1 if action != "cartwheeling" else 1.15)
    grow = np.exp(_wave(rng, seconds, 0.08))
    place = compose(scene.camera, affine(still + x + _wave(rng, seconds, 0.04 * scene.width), still + ground, still, grow))
    scene.joints.append(actions.apply(place[:, None], joints * unit))
    scene.puppets.append(number)
    frames = {name: compose(place, frame * np.array([1, 1, unit])) for name, frame in frames.items()}
    scene.parts += _puppet_parts(rng, number, palette, difficulty, unit, frames)


def _puppet_parts(rng, number, palette, difficulty, unit, frames) -> list[Part]:
    """Parts of a puppet in painting order: far arm, legs, torso, head with hat, near arm."""
    skin = textures.colour(str(rng.choice(textures.SKINS)))
    hair = palette[rng.integers(0, 2) * 2 or 0] * 0.8
    clothes = {}
    for name in ("torso", "sleeve", "trouser"):
        kind = str(rng.choice(textures.PATTERNS[:-1]))
        period = rng.uniform(6, 11) * unit * TEXELS if name != "torso" else rng.uniform(7, 14) * unit * TEXELS
        clothes[name] = (kind, _tones(rng, palette, difficulty), max(period, 4 * TEXELS))

    def limb(name: str, cloth: str, length: float, radius: float, end: np.ndarray | None) -> Part:
        half = (radius * unit, (length / 2 + radius) * unit)
        picture = textures.pattern(rng, clothes[cloth][0], clothes[cloth][1], *_texture_size(half), clothes[cloth][2])
        if end is not None:  # the last stretch of the limb is a hand or a shoe
            picture = textures.dip(picture, end, (2 * half[1] + MARGIN - 2.1 * radius * unit) * TEXELS)
        return _part(name, number, "capsule", half, (0.0, length / 2 * unit), picture, frames[name])

    def limbs(side: str, upper: str, lower: str, cloth: str, lengths, radius: float, end: np.ndarray) -> list[Part]:
        return [limb(f"{side} {upper}", cloth, lengths[0], radius, None),
                limb(f"{side} {lower}", cloth, lengths[1], radius * 0.94, end)]  # fmt: skip

    arms = {s: limbs(s, "upper arm", "forearm", "sleeve", (actions.ARM, actions.FOREARM), 5.6, skin) for s in "RL"}
    shoe = 0.6 * palette[0] + 0.4 * palette[2 + rng.integers(0, 4)]
    legs = {s: limbs(s, "thigh", "shin", "trouser", (actions.THIGH, actions.SHIN), 6.4, shoe) for s in "RL"}
    half = (15.5 * unit, (actions.TORSO / 2 + 5) * unit)
    picture = textures.pattern(rng, clothes["torso"][0], clothes["torso"][1], *_texture_size(half), clothes["torso"][2])
    torso = _part("torso", number, "torso", half, (0.0, (-actions.TORSO / 2 + 3) * unit), picture, frames["torso"])
    near = "RL"[rng.integers(0, 2)]
    far = "LR"["RL".index(near)]
    return [*arms[far], *legs[far][::-1], *legs[near][::-1], torso, *_head(rng, number, palette, skin, hair, unit, frames), *arms[near]]


def _head(rng, number, palette, skin, hair, unit, frames) -> list[Part]:
    """The head, and on most puppets a hat that belongs to it."""
    radius = 14.5 * unit
    side = _texture_size((radius, radius))[0]
    picture = textures.face(rng, skin, hair, palette[0], palette[2], side)
    parts = [_part("head", number, "ball", (radius, radius), (0.0, -actions.HEAD * unit), picture, frames["head"])]
    if rng.random() < 0.7:
        half = (10.5 * unit, 9.5 * unit)
        tones = [palette[2 + i] for i in rng.permutation(4)[:2]]
        picture = textures.pattern(rng, str(rng.choice(["stripes", "dots", "checks"])), tones, *_texture_size(half), 6 * unit * TEXELS)
        parts.append(_part("hat", number, "cone", half, (0.0, -(actions.HEAD + 18.5) * unit), picture, frames["head"]))
    return parts
