"""Pictures of the toy world: its actions, and one clip's truth over time. `T` frames, `H W` pixels."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.errors import UserError
from lib.runtime import atomic_path
from lib.toyworld.actions import ACTIONS, JOINTS
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import RenderedClip, render_clip, render_frame
from lib.toyworld.scene import build_scene

WIDTH = 900  # pixels, what a README shows without shrinking
GAP, TITLE = 4, 19  # pixels between panels, and above a row for its label
TONES = np.array([(214, 84, 60), (58, 134, 164), (240, 178, 72), (128, 166, 92), (140, 96, 150)], np.float32)
BONES = [
    (0, 2), (0, 1), (0, 3), (0, 4), (3, 7), (7, 11), (4, 8), (8, 12), (1, 5), (1, 6), (5, 9), (9, 13), (6, 10),
    (10, 14),
]  # fmt: skip
PALE, DARK = (252, 248, 240), (52, 40, 44)


def show_objects(frame: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(H,W,3) uint8: a frame in grey, each object id (H,W) in a tone of its own."""
    grey = np.repeat(frame.mean(-1, keepdims=True), 3, -1)
    tint = TONES[(objects.astype(int) - 1) % len(TONES)]
    return np.where(objects[..., None] > 0, 0.35 * grey + 0.65 * tint, 0.45 * grey + 110).clip(0, 255).astype(np.uint8)


def show_parts(clip: RenderedClip, t: int) -> np.ndarray:
    """(H,W,3) uint8: every part of every object in a tone of its own."""
    count = len(clip.scene.parts)
    tones = TONES[np.arange(count) % len(TONES)] * np.linspace(0.72, 1.15, 7)[np.arange(count) % 7, None]
    tones = np.concatenate([tones, [PALE]])  # part -1, the backdrop, reads the last
    return tones[clip.parts[t]].clip(0, 255).astype(np.uint8)


def show_flow(flow: np.ndarray, visible: np.ndarray, reach: float = 3.5) -> np.ndarray:
    """(H,W,3) uint8: hue is the flow's direction, strength its length up to `reach` pixels; dark: not visible next."""
    hue = np.arctan2(flow[..., 1], flow[..., 0])[..., None] + np.array([0, -2.0944, 2.0944])
    strength = np.clip(np.hypot(flow[..., 0], flow[..., 1]) / reach, 0, 1)[..., None]
    picture = 245 * (1 - strength * (0.5 - 0.5 * np.cos(hue)))
    return np.where(visible[..., None], picture, DARK).astype(np.uint8)


def contact_sheet(clip: RenderedClip, times: list[int], size: tuple[int, int]) -> list[tuple[str, list[Image.Image]]]:
    """Labelled rows of panels of `size` (width, height): the frames at `times`, objects, parts and joints, flow."""
    scale = np.array(size) / (clip.scene.width, clip.scene.height)

    def panel(picture: np.ndarray) -> Image.Image:
        return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)

    def skeleton(t: int) -> Image.Image:
        picture = panel(show_parts(clip, t))
        draw = ImageDraw.Draw(picture)
        for joints in (clip.joints[:, t] + 0.5) * scale:
            for a, b in BONES:
                draw.line([tuple(joints[a]), tuple(joints[b])], fill=DARK, width=1)
            for x, y in joints:
                draw.ellipse([x - 2.2, y - 2.2, x + 2.2, y + 2.2], fill=PALE, outline=DARK)
        return picture

    flow = "optical flow; dark: not visible in the next frame"
    return [
        ("frames", [panel(clip.frames[t]) for t in times]),
        ("objects", [panel(show_objects(clip.frames[t], clip.objects[t])) for t in times]),
        (f"parts and {len(JOINTS)} joints", [skeleton(t) for t in times]),
        (flow, [panel(show_flow(clip.flow[t], clip.visible[t])) for t in times]),
    ]


def _stack(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """One picture of labelled rows."""
    heights = [TITLE + panels[0].height for _, panels in rows]
    sheet = Image.new("RGB", (WIDTH, sum(heights) + GAP), PALE)
    draw, y = ImageDraw.Draw(sheet), 0
    for (label, panels), height in zip(rows, heights, strict=True):
        draw.text((GAP, y + 3), label, fill=DARK, font=ImageFont.load_default(13))
        for i, picture in enumerate(panels):
            sheet.paste(picture, (GAP + i * (picture.width + GAP), y + TITLE))
        y += height
    return sheet


def _panel_size(columns: int, options: ToyWorldOptions) -> tuple[int, int]:
    """Width and height of so many panels side by side."""
    width = (WIDTH - GAP) // columns - GAP
    return width, width * options.height // options.width


def write_figure(path: str | Path, options: ToyWorldOptions | None = None) -> Path:
    """Write the contact sheet, a .png of 900 pixels; return the path."""
    path, options = Path(path), options or ToyWorldOptions()
    if path.suffix != ".png":
        raise UserError(f"{path}: the contact sheet is a .png")
    stars, seconds = [], np.arange(25) / 30
    for i, action in enumerate(ACTIONS):
        rng = np.random.default_rng([options.seed, 1001 + i])
        frame = render_frame(build_scene(rng, options, action=action, seconds=seconds), 12)
        stars.append(Image.fromarray(frame).resize(_panel_size(len(ACTIONS), options), Image.Resampling.LANCZOS))
    clip = render_clip(options.seed + 64, options, action="jumping jacks", frames=49, objects=4, puppets=2)
    sheet = contact_sheet(clip, [0, 10, 20, 30, 40], _panel_size(5, options))
    rows = [("actions: " + ", ".join(ACTIONS), stars), *sheet]
    with atomic_path(path) as temporary:
        _stack(rows).quantize(256).save(temporary, optimize=True)  # a palette keeps the painted grain's file small
    return path
