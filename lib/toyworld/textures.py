"""What the puppet theatre is painted with: palettes, patterns, faces and backdrops.

Every picture is float32 RGB in 0..255 with soft edges about one pixel wide, so that bilinear sampling at about one
texel a pixel neither flickers nor aliases.
"""

import numpy as np
from PIL import Image

# Six colours each: dark, pale, then four that objects and backdrop share, so that colour alone names nothing.
PALETTES = {
    "harlequin": ("2b2233", "f4e7cf", "c8553d", "e0a458", "4f7c82", "8c5a7c"),
    "garden": ("22302b", "f2ecd8", "6a994e", "e9c46a", "bc6c4d", "5b8a94"),
    "night fair": ("1d2138", "efe3d0", "e07a5f", "f2cc8f", "5f6caf", "81b29a"),
    "seaside": ("20323f", "f6edd9", "3d8ea3", "f4b860", "d8655a", "9ab87a"),
    "autumn": ("33241f", "f3e6d3", "b5542f", "dda23f", "7a8450", "8f4a51"),
    "sugar": ("3a2740", "fbeee6", "d9668a", "f3b562", "6fa8a1", "8d7fc0"),
}
SKINS = ("f3cfae", "e2ad84", "b97b56", "8a5a3f")
PATTERNS = ("stripes", "checks", "dots", "blobs", "zigzag", "plaid", "rings")
BACKDROPS = ("hills", "city", "sea", "garlands")


def colour(code: str) -> np.ndarray:
    """(3,) float32 RGB in 0..255 of a six-digit hexadecimal code."""
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32)


def soft_step(value: np.ndarray, softness: float) -> np.ndarray:
    """0 to 1 across zero, linear over +-softness (in the unit of `value`)."""
    return np.clip(0.5 + value / (2 * softness), 0, 1)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """(H,W) float32 noise, about unit variance, that varies over `cell` pixels."""
    grid = rng.standard_normal((max(2, int(height / cell) + 2), max(2, int(width / cell) + 2))).astype(np.float32)
    noise = np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
    return noise / max(float(noise.std()), 1e-6)


def mix(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay the colour or picture `above` over `below` where alpha (H,W) is 1."""
    return below + (above - below) * alpha[..., None]


def pattern(rng, kind: str, colours: list[np.ndarray], height: int, width: int, period: float) -> np.ndarray:
    """(H,W,3) float32: a repeating pattern of `colours` (ground and figure, each one colour or a picture), turned.

    `period` is in texels. Grain and a slow shade are added so that no two places look quite alike.
    """
    angle = rng.uniform(0, np.pi)
    ground, figure = colours
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x - width / 2, y - height / 2
    u = (x * np.cos(angle) + y * np.sin(angle)) / period + rng.random()
    v = (-x * np.sin(angle) + y * np.cos(angle)) / period + rng.random()
    wave_u, wave_v = np.sin(2 * np.pi * u), np.sin(2 * np.pi * v)
    value = {
        "stripes": lambda: wave_u - rng.uniform(-0.3, 0.3),
        "checks": lambda: wave_u * wave_v * 2,
        "dots": lambda: np.sin(np.pi * u) ** 2 + np.sin(np.pi * v) ** 2 - 1.25,
        "blobs": lambda: 1.2 * smooth_noise(rng, height, width, period * 0.55),
        "zigzag": lambda: np.sin(2 * np.pi * (u + 0.7 * np.abs((2 * v) % 2 - 1))),
        "plaid": lambda: 0.6 * (wave_u + wave_v),
        "rings": lambda: np.sin(2 * np.pi * np.hypot(x, y) / period),
    }[kind]()
    alpha = soft_step(value, 0.55 if kind == "plaid" else min(1.0, 2 * np.pi / period))
    picture = mix(np.broadcast_to(ground, (height, width, 3)), figure, alpha)
    grain = 1 + 0.05 * smooth_noise(rng, height, width, 2.5) + 0.06 * smooth_noise(rng, height, width, period * 1.5)
    return np.clip(picture * grain[..., None], 0, 255).astype(np.float32)


def disc(picture, x: float, y: float, rx: float, ry: float, tone: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Paint a filled ellipse (texels) with a soft edge."""
    rows, columns = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float32)
    inside = (1 - np.hypot((columns - x) / rx, (rows - y) / ry)) * min(rx, ry)
    return mix(picture, tone, soft_step(inside, 1.0) * strength)


def face(rng, skin: np.ndarray, hair: np.ndarray, dark: np.ndarray, blush: np.ndarray, side: int) -> np.ndarray:
    """(side,side,3) float32: a painted head seen from the front, with eyes, cheeks, mouth and a fringe of hair."""
    picture = np.broadcast_to(skin, (side, side, 3)).astype(np.float32)
    r, c = side / 2 * 0.86, side / 2
    for sign in (-1, 1):
        picture = disc(picture, c + sign * 0.52 * r, c + 0.36 * r, 0.24 * r, 0.20 * r, blush, 0.65)
        picture = disc(picture, c + sign * 0.36 * r, c - 0.02 * r, 0.235 * r, 0.27 * r, colour("fffaf0"))
        picture = disc(picture, c + sign * 0.36 * r + 0.05 * r, c + 0.02 * r, 0.13 * r, 0.17 * r, dark)
    smile = disc(picture, c, c + 0.46 * r, 0.34 * r, 0.24 * r, 0.6 * dark + 0.4 * blush)
    lip = int(c + rng.uniform(0.38, 0.5) * r)
    picture = np.where((np.arange(side) > lip)[:, None, None], smile, picture)
    picture = disc(picture, c, c + 0.2 * r, 0.1 * r, 0.1 * r, 0.8 * skin)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    fringe = -0.42 * r + 0.12 * r * np.cos((columns - c) / r * rng.uniform(4, 9) + rng.uniform(0, 6))
    strands = hair * (1 + 0.12 * np.sin(columns[..., None] / side * 40))
    return mix(picture, strands, soft_step(fringe - (rows - c), 1.0)).astype(np.float32)


def dip(picture: np.ndarray, tone: np.ndarray, below: float) -> np.ndarray:
    """Paint the rows from `below` on in one tone: a hand at the end of a sleeve, a shoe at the end of a leg."""
    rows = np.arange(picture.shape[0], dtype=np.float32)[:, None]
    return mix(picture, tone, np.broadcast_to(soft_step(rows - below, 1.0), picture.shape[:2])).astype(np.float32)


def backdrop(rng: np.random.Generator, kind: str, palette: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """(H,W,3) uint8: a painted stage, scenery (`kind`, one of BACKDROPS) between curtains, above floor boards."""
    dark, pale, *tones = palette
    tones = [tones[i] for i in rng.permutation(len(tones))]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    floor = rng.uniform(0.68, 0.76)
    top = np.broadcast_to(0.45 * tones[0] + 0.55 * pale, (height, width, 3))
    sky = mix(top, 0.3 * tones[1] + 0.7 * pale, np.clip(y / floor, 0, 1))
    sky = mix(sky, pale, 0.55 * soft_step(smooth_noise(rng, height, width, height / 9) - 0.9, 0.25))
    picture = {"hills": _hills, "city": _city, "sea": _sea, "garlands": _garlands}[kind](rng, sky, tones, pale, x, y)
    picture = _floor(rng, picture, 0.55 * tones[1] + 0.35 * dark, x, y, floor)
    picture = _curtains(rng, picture, tones[2], 0.7 * tones[1] + 0.3 * pale, x, y)
    grain = 1 + 0.035 * smooth_noise(rng, height, width, 1.5) + 0.05 * smooth_noise(rng, height, width, height / 12)
    return np.clip(picture * grain[..., None], 0, 255).astype(np.uint8)


def _hills(rng, picture, tones, pale, x, y):
    rows, columns = picture.shape[:2]
    sun = 0.6 * tones[1] + 0.4 * pale
    picture = disc(picture, rng.uniform(0.25, 0.75) * columns, 0.2 * rows, 0.1 * rows, 0.1 * rows, sun)
    for level, tone in zip((0.42, 0.52, 0.62), (tones[3], tones[0], tones[2]), strict=True):
        ridge = level + 0.05 * np.sin(x * rng.uniform(4, 8) + rng.uniform(0, 6)) + 0.02 * np.sin(x * 17 + level * 50)
        kind, colours = rng.choice(["stripes", "dots", "blobs"]), [0.75 * tone + 0.25 * pale, tone]
        hill = pattern(rng, kind, colours, *y.shape, period=rng.uniform(14, 26))
        picture = mix(picture, hill, soft_step((y - ridge) * y.shape[0], 1.0))
    return picture


def _city(rng, picture, tones, pale, x, y):
    for depth in range(2):
        edges = np.cumsum(rng.uniform(0.1, 0.22, 20)) - 0.05
        house = np.searchsorted(edges, x[0])
        tops = rng.uniform(0.22, 0.45, 21)[house] + 0.12 * depth
        shade = np.stack(tones)[rng.integers(0, 4, 21)[house]] * (0.62 + 0.3 * depth) + pale * (0.3 - 0.22 * depth)
        kind = rng.choice(["checks", "stripes", "plaid"])
        bricks = pattern(rng, kind, [shade * 0.86, shade * 1.06], *y.shape, period=13)
        lit = (np.sin(x * 2 * np.pi / 0.055) > 0.1) & (np.sin(y * 2 * np.pi / 0.085) > 0.2)
        lit &= rng.random(y.shape)[(y * 11.7).astype(int), (x * 18.1).astype(int)] > 0.35
        walls = np.where(lit[..., None], 0.65 * tones[1] + 0.35 * pale, bricks)
        picture = mix(picture, walls, soft_step((y - tops[None]) * y.shape[0], 1.0))
    return picture


def _sea(rng, picture, tones, pale, x, y):
    rows, columns = picture.shape[:2]
    sun = 0.7 * tones[1] + 0.3 * pale
    picture = disc(picture, rng.uniform(0.3, 0.7) * columns, 0.28 * rows, 0.13 * rows, 0.13 * rows, sun)
    for row in range(6):
        level = 0.36 + 0.06 * row
        crest = level + 0.022 * np.abs(np.sin(x * rng.uniform(14, 20) + rng.uniform(0, 6)))
        tone = (tones[0], tones[3])[row % 2] * (0.75 + 0.05 * row)
        kind, colours = rng.choice(PATTERNS), [tone, 0.8 * tone + 0.2 * pale]
        water = pattern(rng, kind, colours, *y.shape, period=rng.uniform(14, 22))
        wave = mix(water, pale, 0.6 * soft_step((crest + 0.014 - y) * y.shape[0], 1))
        picture = mix(picture, wave, soft_step((y - crest) * y.shape[0], 1.0))
    return picture


def _garlands(rng, picture, tones, pale, x, y):
    kind = rng.choice(["stripes", "plaid", "checks"])
    colours = [0.4 * tones[3] + 0.6 * pale, 0.55 * tones[3] + 0.45 * pale]
    wall = pattern(rng, kind, colours, *y.shape, period=rng.uniform(24, 40))
    picture = mix(picture, wall, np.full(y.shape, 0.85, np.float32))
    for level in (0.2, 0.36, 0.52):
        swing = level + 0.07 * np.abs(np.sin(x * 4.2 + rng.uniform(0, 3)))
        cell = np.floor(x * 9)
        flag = 0.055 - np.abs((x * 9) % 1 - 0.5) * 0.13
        tone = np.stack([*tones, pale])[rng.integers(0, 5, 64)[cell.astype(int)]]
        drop = y - swing
        picture = mix(picture, tone, soft_step(np.minimum(drop, flag - drop * 0.6) * y.shape[0], 1.0))
    return picture


def _floor(rng, picture, tone, x, y, floor):
    centre = x.max() / 2
    spread = 1 + 1.6 * np.clip(y - floor, 0, None)
    plank = np.floor((x - centre) / spread * 11 + 100).astype(int)
    gap = np.abs(((x - centre) / spread * 11 + 100) % 1 - 0.5)
    shade = tone * rng.uniform(0.85, 1.15, 200)[plank][..., None]
    boards = mix(shade, 0.55 * tone, soft_step((gap - 0.46) * y.shape[0] / 11, 1.0))
    boards = boards * (1 + 0.05 * smooth_noise(rng, y.shape[0], y.shape[1], 4))[..., None]
    return mix(picture, boards, soft_step((y - floor) * y.shape[0], 1.0))


def _curtains(rng, picture, tone, trim, x, y):
    width = x.max()
    reach = rng.uniform(0.25, 0.31) + 0.035 * np.sin(y * 5 + 1)
    side = np.maximum(reach - x, x - (width - reach))
    folds = 0.78 + 0.22 * np.sin(x * rng.uniform(70, 95) + 2 * np.sin(y * 2))
    picture = mix(picture, 0.55 * tone, 0.8 * soft_step((side + 0.012) * y.shape[0], 4))
    picture = mix(picture, 0.9 * tone * folds[..., None], soft_step(side * y.shape[0], 1.2))
    hem = 0.19 + 0.035 * np.abs(np.sin(x * np.pi / 0.16))
    valance = tone * (0.75 + 0.18 * np.cos(x * 2 * np.pi / 0.16))[..., None]
    valance = mix(valance, trim, soft_step((y - hem + 0.018) * y.shape[0], 1.2))
    picture = mix(picture, 0.55 * tone, 0.7 * soft_step((hem + 0.012 - y) * y.shape[0], 4))
    return mix(picture, valance, soft_step((hem - y) * y.shape[0], 1.2))
