"""Pixels and truth of one frame of a Scene.

Painting: for each part, far to near, its box of pixels is mapped to the part's own coordinates by the inverse affine
map; a signed distance there (pixels, negative inside) gives coverage and outline, the texture the colour. Truth: the
topmost part at each pixel centre, where that same surface point lies in the next frame, and whether any part nearer to
the viewer covers it there. `T` frames, `H W` pixels, flow is (x, y) in pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.toyworld.actions import ACTIONS, compose
from lib.toyworld.cast import MARGIN, TEXELS, Part
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.scene import BACKDROP_TEXELS, Scene, build_scene

OUTLINE = 1.3  # pixels of dark line inside every part's edge


def signed_distance(shape: str, u: np.ndarray, v: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    """Distance (pixels at zoom 1, negative inside) of (u, v) to the edge of a shape with half extents `size`.

    Exact for ball, capsule and boxes; a close bound for the others.
    """
    rx, ry = size
    if shape == "ball":
        return np.hypot(u, v) - rx
    if shape == "capsule":
        return np.hypot(u, np.maximum(np.abs(v) - (ry - rx), 0)) - rx
    if shape in ("box", "torso"):
        corner = 0.28 * rx if shape == "box" else 0.62 * rx
        qx, qy = np.abs(u) - rx + corner, np.abs(v) - ry + corner
        return np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - corner
    if shape == "cone":  # point up
        slope = rx / (2 * ry)
        return np.maximum((np.abs(u) - slope * (v + ry)) / np.hypot(1, slope), v - ry)
    if shape == "kite":
        return (np.abs(u) / (0.78 * rx) + np.abs(v) / ry - 1) * 0.62 * rx
    points, depth = (5, 0.27) if shape == "star" else (7, 0.13)
    return (np.hypot(u, v) - rx * (1 - depth + depth * np.cos(points * np.arctan2(v, u)))) * 0.8


def inverse(maps: np.ndarray) -> np.ndarray:
    """(...,2,3): the inverse of affine maps (...,2,3)."""
    a, b, c, d = maps[..., 0, 0], maps[..., 0, 1], maps[..., 1, 0], maps[..., 1, 1]
    linear = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2) / (a * d - b * c)[..., None, None]
    return np.concatenate([linear, -(linear @ maps[..., 2:])], -1)


def _inverse(m: np.ndarray) -> np.ndarray:
    """(2,3): the inverse of one map; in plain numbers, since it is taken for every part of every frame."""
    (a, b, x), (c, d, y) = m.tolist()
    k = 1 / (a * d - b * c)
    return np.array([[d * k, -b * k, (b * y - d * x) * k], [-c * k, a * k, (c * x - a * y) * k]])


def _shown(scene: Scene, t: int) -> Iterator[tuple[int, Part, np.ndarray, tuple[int, int, int, int]]]:
    """Index, part, its map's inverse and the pixels (x0, y0, x1, y1; ends excluded) that it may touch in frame `t`."""
    for index, part in enumerate(scene.parts):
        (a, b, x), (c, d, y) = part.maps[t].tolist()
        (u, v), rx, ry = part.centre, part.size[0] + 1.5, part.size[1] + 1.5
        x, y = a * u + b * v + x, c * u + d * v + y
        reach_x, reach_y = abs(a) * rx + abs(b) * ry, abs(c) * rx + abs(d) * ry
        x0, y0 = max(math.floor(x - reach_x), 0), max(math.floor(y - reach_y), 0)
        x1, y1 = min(math.ceil(x + reach_x) + 1, scene.width), min(math.ceil(y + reach_y) + 1, scene.height)
        if x0 < x1 and y0 < y1:
            yield index, part, _inverse(part.maps[t]), (x0, y0, x1, y1)


def _distance(part: Part, back: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance in the part's own coordinates, at pixel positions (x, y); `back` is its map's inverse."""
    u = back[0, 0] * x + back[0, 1] * y + (back[0, 2] - part.centre[0])
    v = back[1, 0] * x + back[1, 1] * y + (back[1, 2] - part.centre[1])
    return signed_distance(part.shape, u.astype(np.float32), v.astype(np.float32), part.size)


def _grid(box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """x (1, w) and y (h, 1), float32, of the pixels of a box."""
    x0, y0, x1, y1 = box
    return np.arange(x0, x1, dtype=np.float32)[None], np.arange(y0, y1, dtype=np.float32)[:, None]


def _sample(picture: Image.Image, back: np.ndarray, corner: tuple[float, float], texels: float, box) -> np.ndarray:
    """(h,w,3) uint8: bilinear texture lookup over a box of pixels; `corner`: the texture's, in own coordinates."""
    x0, y0, x1, y1 = box
    a, b = back[:, :2].T * texels
    start = (back[:, 2] - corner) * texels + a * x0 + b * y0
    shift = start - 0.5 * a - 0.5 * b  # Pillow puts pixel centres at one half
    data = (a[0], b[0], shift[0], a[1], b[1], shift[1])
    return np.asarray(picture.transform((x1 - x0, y1 - y0), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR))


def _backdrop(scene: Scene, t: int) -> np.ndarray:
    back = _inverse(scene.camera[t])
    half = np.array(scene.backdrop.size) / BACKDROP_TEXELS / 2
    corner = np.array([(scene.width - 1) / 2, (scene.height - 1) / 2]) - half
    return _sample(scene.backdrop, back, corner, BACKDROP_TEXELS, (0, 0, scene.width, scene.height))


def render_frame(scene: Scene, t: int) -> np.ndarray:
    """(H,W,3) uint8: frame `t`, antialiased."""
    frame = _backdrop(scene, t).astype(np.float32)
    for _, part, back, box in _shown(scene, t):
        zoom = float(np.hypot(part.maps[t, 0, 0], part.maps[t, 1, 0]))
        distance = _distance(part, back, *_grid(box)) * zoom
        corner = np.asarray(part.centre) - np.asarray(part.size) - MARGIN
        painted = _sample(part.picture, back, corner, TEXELS, box)
        shade = np.clip(0.5 - (distance + OUTLINE) * 0.6, 0.3, 1)
        alpha = np.clip(0.5 - distance, 0, 1)
        x0, y0, x1, y1 = box
        patch = frame[y0:y1, x0:x1]
        patch += (painted * shade[..., None] - patch) * alpha[..., None]
    return _lit(scene, t, frame)


def _lit(scene: Scene, t: int, frame: np.ndarray) -> np.ndarray:
    """Apply the light of frame `t` to painted colours."""
    light = scene.light
    tone = 255 * (np.arange(256, dtype=np.float32) / 255) ** np.float32(light.gamma[t])
    x, y = np.arange(scene.width, dtype=np.float32), np.arange(scene.height, dtype=np.float32)
    cx, cy, radius, strength = light.spot[t].astype(np.float32)
    spot = np.exp(-(((y - cy) / radius) ** 2))[:, None] * np.exp(-(((x - cx) / radius) ** 2))[None]
    place, half, dark = light.shadow[t].astype(np.float32)
    across = (x - scene.width / 2)[None] * np.float32(0.85) + (y - scene.height / 2)[:, None] * np.float32(0.5)
    field = (1 - 0.3 * strength + strength * spot) * (1 - dark * np.exp(-(((across - place) / half) ** 2)))
    lit = tone[frame.astype(np.uint8)] * field[..., None] * light.gain[t].astype(np.float32)
    return np.clip(lit, 0, 255).astype(np.uint8)


def part_map(scene: Scene, t: int) -> np.ndarray:
    """(H,W) int16: the index into scene.parts of the topmost part at each pixel centre, -1 for the backdrop."""
    top = np.full((scene.height, scene.width), -1, np.int16)
    for index, part, back, box in _shown(scene, t):
        x0, y0, x1, y1 = box
        top[y0:y1, x0:x1][_distance(part, back, *_grid(box)) < 0] = index
    return top


def object_map(scene: Scene, parts: np.ndarray) -> np.ndarray:
    """uint8, the shape of `parts` (indices as part_map gives): object ids, 0 for the backdrop."""
    ids = np.array([part.object_id for part in scene.parts] + [0], np.uint8)  # index -1 reads the last
    return ids[parts]


def moves(scene: Scene, t: int, later: int) -> np.ndarray:
    """(n+1,2,3): where a pixel of frame `t` that shows each of the n parts, or last the stage, is in frame `later`."""
    now, then = (np.stack([part.maps[i] for part in scene.parts] + [scene.camera[i]]) for i in (t, later))
    return compose(then, inverse(now))


def flow_truth(scene: Scene, t: int, parts: np.ndarray, later: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where the surface seen at each pixel of frame `t` is in frame `later` (default: the next).

    Returns flow (H,W,2) float32 and visible (H,W) bool: on a pixel there, and behind no nearer part.
    """
    later = t + 1 if later is None else later
    move = moves(scene, t, later)[parts]  # (H,W,2,3)
    y, x = np.mgrid[0 : scene.height, 0 : scene.width].astype(np.float64)
    target = move[..., 0] * x[..., None] + move[..., 1] * y[..., None] + move[..., 2]
    visible = ((target > -0.5) & (target < (scene.width - 0.5, scene.height - 0.5))).all(-1)
    for index, part, back, box in _shown(scene, later):
        near = (target > np.array(box[:2]) - 1) & (target < np.array(box[2:]) + 1)
        rows, columns = np.nonzero(near.all(-1) & (parts < index))
        at = target[rows, columns]
        hidden = _distance(part, back, at[:, 0], at[:, 1]) < 0
        visible[rows[hidden], columns[hidden]] = False
    return (target - np.stack([x, y], -1)).astype(np.float32), visible


@dataclass
class RenderedClip:
    """A rendered clip and its truth. `T` frames, `n` puppets."""

    frames: np.ndarray  # (T,H,W,3) uint8 RGB
    objects: np.ndarray  # (T,H,W) uint8: object ids 1..n contiguous, 0 for the backdrop
    parts: np.ndarray  # (T,H,W) int16: index into scene.parts, -1 for the backdrop
    flow: np.ndarray  # (T-1,H,W,2) float32: pixels (x,y) to the next frame
    visible: np.ndarray  # (T-1,H,W) bool: the surface point is also seen in the next frame
    joints: np.ndarray  # (n,T,15,2) float64: pixels (x,y), in actions.JOINTS' order
    scene: Scene


def render_clip(
    seed: int, options: ToyWorldOptions | None = None, *, action: str | None = None, frames: int = 40, **scene_choices
) -> RenderedClip:
    """Invent and render one clip at 30 frames a second with all its truth, without touching the disk.

    `action` is drawn when None; `scene_choices` go to scene.build_scene.
    """
    rng = np.random.default_rng(seed)
    action = action or str(rng.choice(ACTIONS))
    options, seconds = options or ToyWorldOptions(), np.arange(frames) / 30
    scene = build_scene(rng, options, action=action, seconds=seconds, **scene_choices)
    parts = np.stack([part_map(scene, t) for t in range(frames)])
    truth = [flow_truth(scene, t, parts[t]) for t in range(frames - 1)]
    return RenderedClip(
        np.stack([render_frame(scene, t) for t in range(frames)]), object_map(scene, parts), parts,
        np.stack([flow for flow, _ in truth]), np.stack([visible for _, visible in truth]),
        np.array(scene.joints).reshape(-1, frames, 15, 2), scene,
    )  # fmt: skip
