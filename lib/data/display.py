"""How a player turns, mirrors and stretches the pictures that a video file stores.

Telephones store the picture lying down, front cameras mirrored, DV tapes with pixels that are not square; what a
player does about it stands in a display matrix and a pixel aspect ratio. FFmpeg hands on the matrix of whatever
container or stream tells it, with each frame. Shapes: `H W` pixels.
"""

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type

from lib.errors import UserError

TILT = np.sin(np.radians(1))  # less than a degree off a right angle is one, as FFmpeg's own player has it
SQUARE = 0.01  # pixels whose sides differ by less count as square


class Turn(NamedTuple):
    """One of eight ways to lay a picture: rows and columns may change places, then either may be reversed."""

    swaps: bool = False
    mirrors: bool = False
    upends: bool = False

    def of(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) -> the same turned, without a copy."""
        picture = picture.swapaxes(0, 1) if self.swaps else picture
        return picture[:: -1 if self.upends else 1, :: -1 if self.mirrors else 1]


def turned(path: Path, frame: av.VideoFrame) -> Turn | None:
    """How the frame's display matrix lays it, if it has one. UserError for a tilt: players differ in what they show."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return None
    a, b, _, c, d, *_ = np.frombuffer(data, np.int32)[:9].astype(float)  # x' = a x + c y, y' = b x + d y
    axes = np.array([[a, b], [c, d]])
    lengths = np.hypot(*axes.T)
    if not lengths.all():  # all zero: nothing is told
        return Turn()
    (a, b), (c, d) = axes / lengths[:, None]
    swaps = abs(b) > abs(a)
    off = max(abs(a), abs(d)) if swaps else max(abs(b), abs(c))
    if off > TILT:
        degrees = f"{np.degrees(np.arcsin(min(off, 1))):.0f} degrees"
        raise UserError(f"{path}: is to be shown tilted by {degrees}; convert it, or leave it out")
    return Turn(True, c < 0, b < 0) if swaps else Turn(False, a < 0, d < 0)


def shown_size(path: Path, frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Height and width of the picture as a player shows it, its pixels stretched to squares in width."""
    wide = float(aspect or 1)
    width = frame.width if abs(wide - 1) < SQUARE or not 0.1 < wide < 10 else round(frame.width * wide)
    return (width, frame.height) if (turned(path, frame) or Turn()).swaps else (frame.height, width)
