"""The cast: props and puppets, each a list of flat textured parts with a map to the picture for every frame.

A part has its own coordinates (pixels at camera zoom 1, y down). `T` frames, `H W` pixels.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.toyworld import actions, textures
from lib.toyworld.actions import affine, compose

TEXELS = 2.0  # texels per pixel of a part's own coordinates
MARGIN = 2.0  # pixels of texture beyond a part's edge
PROP_SHAPES = ("ball", "box", "star", "flower", "kite")


@dataclass(frozen=True)
class CastSetting:
    """What all members of a clip's cast share: picture size, camera (T,2,3), times (T,), palette, difficulty."""

    height: int
    width: int
    camera: np.ndarray
    seconds: np.ndarray
    palette: list[np.ndarray]
    difficulty: float


@dataclass
class Part:
    """A flat textured shape. `size` are its half extents (rx, ry) in pixels, its centre lies at `centre`."""

    name: str
    object_id: int
    shape: str
    size: tuple[float, float]
    centre: tuple[float, float]
    picture: Image.Image
    maps: np.ndarray  # (T,2,3): own coordinates to pixels


def wave(rng, seconds: np.ndarray, amplitude: float, slow: float = 0.1, fast: float = 0.35) -> np.ndarray:
    """(T,) a smooth random course within +-amplitude: two sines between `slow` and `fast` Hz."""
    parts = [np.sin(2 * np.pi * rng.uniform(slow, fast) * seconds + rng.uniform(0, 6.28)) for _ in range(2)]
    return amplitude * (0.65 * parts[0] + 0.35 * parts[1])


def _tones(rng: np.random.Generator, setting: CastSetting) -> list[np.ndarray]:
    """Two colours for a pattern. The harder the clip, the fewer colours all its objects share."""
    palette = setting.palette
    shared = palette[2 : 2 + max(2, round(4 - 2 * setting.difficulty))]
    first, second = rng.permutation(len(shared))[:2]
    return [shared[first], (palette[1], shared[second])[rng.integers(0, 2)]]


def _part(name, number, shape, half, centre, picture, maps) -> Part:
    return Part(name, number, shape, half, centre, Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)), maps)


def _texture_size(half: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of the texture of a part with these half extents."""
    return int(np.ceil(2 * (half[1] + MARGIN) * TEXELS)), int(np.ceil(2 * (half[0] + MARGIN) * TEXELS))


def prop(rng: np.random.Generator, setting: CastSetting, number: int, path: str, radius: float) -> list[Part]:
    """A patterned toy of about `radius` pixels with object id `number`; `path`: drift, hop, leave or return."""
    shape = str(rng.choice(PROP_SHAPES))
    half = (radius, radius * rng.uniform(0.75, 1.0)) if shape == "box" else (radius, radius)
    picture = _prop_picture(rng, setting, half)
    t = setting.seconds * (0.7 + 0.6 * setting.difficulty)
    x, y = _course(rng, setting, t, path, radius)
    turn = rng.uniform(-1.2, 1.2) * t + wave(rng, t, 0.5) + rng.uniform(0, 6.28)
    own = affine(x, y, turn, np.exp(wave(rng, t, 0.15)))
    return [_part(shape, number, shape, half, (0.0, 0.0), picture, compose(setting.camera, own))]


def poster(
    rng, setting: CastSetting, number: int, place: tuple[float, float], radius: float, shape: str | None = None
) -> Part:  # fmt: skip
    """A patterned prop of `radius` pixels with object id `number` that hangs at `place` (x, y) and never moves.

    shape: one of PROP_SHAPES, drawn when None.
    """
    shape, still = shape or str(rng.choice(PROP_SHAPES)), np.zeros(len(setting.seconds))
    picture = _prop_picture(rng, setting, (radius, radius))
    own = affine(still + place[0], still + place[1], still + rng.uniform(0, 6.28))
    return _part(shape, number, shape, (radius, radius), (0.0, 0.0), picture, compose(setting.camera, own))


def _prop_picture(rng: np.random.Generator, setting: CastSetting, half: tuple[float, float]) -> np.ndarray:
    period = max(4.0, half[0] * rng.uniform(0.45, 0.8)) * TEXELS
    kind = str(rng.choice(textures.PATTERNS))
    return textures.pattern(rng, kind, _tones(rng, setting), *_texture_size(half), period)


def _course(rng, setting: CastSetting, t: np.ndarray, path: str, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a prop is over time, (T,) x and y in stage pixels."""
    height, width = setting.height, setting.width
    x0, y0 = rng.uniform(0.2, 0.8) * width, rng.uniform(0.25, 0.75) * height
    x, y = x0 + wave(rng, t, 0.16 * width, 0.15, 0.4), y0 + wave(rng, t, 0.16 * height, 0.15, 0.4)
    if path == "hop":
        phase = (t * rng.uniform(0.8, 1.1) + rng.random()) % 1
        y = 0.82 * height - 0.3 * height * 4 * phase * (1 - phase)
    if path == "leave":  # out of the picture by the clip's last third, and staying out
        way = 1 if x0 > width / 2 else -1
        distance = (width - x0 if way > 0 else x0) + 2.5 * radius + 0.45 * width
        since = t - t[0]
        x = x + way * distance * np.clip(since / (0.66 * since[-1]), 0, 1)
    if path == "return":  # in from one side, and out again
        side = rng.choice([-0.12, 1.12])
        x = width * (side + np.sign(0.5 - side) * 0.63 * (0.5 - 0.5 * np.cos(2 * np.pi * (0.3 * t + rng.random()))))
    return x, y


def puppet(
    rng: np.random.Generator, setting: CastSetting, number: int, action: str, x: float, unit: float, raised: float = 0.0
) -> tuple[list[Part], np.ndarray]:
    """A puppet with object id `number` that acts: its parts in painting order, and joints (T,15,2) in pixels.

    It stands about `x`, `raised` pixels above the front of the stage; `unit` is the pixels of one puppet unit.
    """
    seconds, still = setting.seconds, np.zeros(len(setting.seconds))
    pose = actions.act(action, seconds, rng, 0.7 + 0.4 * setting.difficulty)
    frames, joints = actions.skeleton(pose)
    turning = action == "cartwheeling"  # its centre rolls higher
    ground = (0.82 if turning else 0.9) * setting.height - (42.5 if turning else 37) * unit - raised
    grow = np.exp(wave(rng, seconds, 0.08))
    place = compose(setting.camera, affine(x + wave(rng, seconds, 0.04 * setting.width), still + ground, still, grow))
    frames = {name: compose(place, frame * np.array([1, 1, unit])) for name, frame in frames.items()}
    return _puppet_parts(rng, setting, number, unit, frames), actions.apply(place[:, None], joints * unit)


def _puppet_parts(rng, setting: CastSetting, number, unit, frames) -> list[Part]:
    """Parts of a puppet in painting order: far arm, legs, torso, head with hat, near arm."""
    palette = setting.palette
    skin = textures.colour(str(rng.choice(textures.SKINS)))
    hair = palette[2 * rng.integers(0, 2)] * 0.8
    clothes = {}
    for name in ("torso", "sleeve", "trouser"):
        kind = str(rng.choice(textures.PATTERNS[:-1]))
        period = rng.uniform(6, 14 if name == "torso" else 11) * unit * TEXELS
        clothes[name] = kind, _tones(rng, setting), max(period, 4 * TEXELS)

    def cloth(name: str, half: tuple[float, float]) -> np.ndarray:
        kind, tones, period = clothes[name]
        return textures.pattern(rng, kind, tones, *_texture_size(half), period)

    def limb(name: str, piece: str, length: float, radius: float, end: np.ndarray | None) -> Part:
        half = (radius * unit, (length / 2 + radius) * unit)
        picture = cloth(piece, half)
        if end is not None:  # the last stretch of the limb is a hand or a shoe
            picture = textures.dip(picture, end, (2 * half[1] + MARGIN - 2.1 * radius * unit) * TEXELS)
        return _part(name, number, "capsule", half, (0.0, length / 2 * unit), picture, frames[name])

    def limbs(side: str, upper: str, lower: str, piece: str, lengths, radius: float, end: np.ndarray) -> list[Part]:
        above = limb(f"{side} {upper}", piece, lengths[0], radius, None)
        return [above, limb(f"{side} {lower}", piece, lengths[1], radius * 0.94, end)]

    arms = {s: limbs(s, "upper arm", "forearm", "sleeve", (actions.ARM, actions.FOREARM), 5.6, skin) for s in "RL"}
    shoe = 0.6 * palette[0] + 0.4 * palette[2 + rng.integers(0, 4)]
    legs = {s: limbs(s, "thigh", "shin", "trouser", (actions.THIGH, actions.SHIN), 6.4, shoe) for s in "RL"}
    half = (15.5 * unit, (actions.TORSO / 2 + 5) * unit)
    centre = (0.0, (-actions.TORSO / 2 + 3) * unit)
    torso = _part("torso", number, "torso", half, centre, cloth("torso", half), frames["torso"])
    near, far = ("RL", "LR")[rng.integers(0, 2)]
    head = _head(rng, number, palette, skin, hair, unit, frames)
    return [*arms[far], *legs[far][::-1], *legs[near][::-1], torso, *head, *arms[near]]


def _head(rng, number, palette, skin, hair, unit, frames) -> list[Part]:
    """The head, and on most puppets a hat that belongs to it."""
    radius = 14.5 * unit
    side = _texture_size((radius, radius))[0]
    picture = textures.face(rng, skin, hair, palette[0], palette[2], side)
    parts = [_part("head", number, "ball", (radius, radius), (0.0, -actions.HEAD * unit), picture, frames["head"])]
    if rng.random() < 0.7:
        half = (10.5 * unit, 9.5 * unit)
        tones = [palette[2 + i] for i in rng.permutation(4)[:2]]
        kind = str(rng.choice(["stripes", "dots", "checks"]))
        picture = textures.pattern(rng, kind, tones, *_texture_size(half), 6 * unit * TEXELS)
        parts.append(_part("hat", number, "cone", half, (0.0, -(actions.HEAD + 18.5) * unit), picture, frames["head"]))
    return parts
