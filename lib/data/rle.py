"""Run-length encoded masks as COCO writes them: column by column, runs of 0 and 1 by turns, beginning with 0.

A mask is `{"size": [H, W], "counts": ...}`. Counts are a list of run lengths, or the same list compressed into a
string (Lin et al. 2014, the COCO API): from the fourth on, each length minus the one two before it; in groups of five
bits, lowest first, each group plus 48 as a character; bit 6 says that more groups follow, bit 5 of the last group is
the sign.
"""

import numpy as np

from lib.errors import UserError


def decode_rle(rle: dict, where: str = "RLE") -> np.ndarray:
    """The mask (H, W) bool of a run-length encoding; `where` names it in messages."""
    try:
        (height, width), counts = map(int, rle["size"]), rle["counts"]
        counts = np.array(_parsed(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise UserError(f"{where}: not a run-length encoding of two sizes and counts; fetch the file again") from None
    if counts.ndim != 1 or (counts < 0).any() or min(height, width) < 1 or counts.sum() != height * width:
        raise UserError(f"{where}: runs of {counts.sum()} pixels do not fill {width}x{height}; fetch the file again")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def encode_rle(mask: np.ndarray) -> dict:
    """The compressed encoding `{"size": [H, W], "counts": str}` of a mask (H, W); every non-zero value is inside."""
    runs = np.asarray(mask).astype(bool).T.ravel()
    changes = np.flatnonzero(np.diff(runs)) + 1
    counts = np.diff([0, *changes, runs.size]).tolist()
    counts = [0, *counts] if runs.size and runs[0] else counts
    small = [count - counts[i - 2] if i > 2 else count for i, count in enumerate(counts)]
    return {"size": list(mask.shape), "counts": "".join(map(_characters, small))}


def _characters(number: int) -> str:
    text = ""
    while True:
        group, number = number & 31, number >> 5  # a negative number's sign bits go on for ever
        last = number == (-1 if group & 16 else 0)
        text += chr(48 + group + (0 if last else 32))
        if last:
            return text


def _parsed(text: str) -> list[int]:
    counts, number, shift = [], 0, 0
    for group in text.encode("ascii"):
        group -= 48
        if not 0 <= group < 64:
            raise ValueError("no character of a run-length encoding")
        number |= (group & 31) << shift
        shift += 5
        if group < 32:
            number -= (1 << shift) if group & 16 else 0
            counts.append(number + counts[-2] if len(counts) > 2 else number)
            number, shift = 0, 0
    if shift:
        raise ValueError("the last number has no end")
    return counts
