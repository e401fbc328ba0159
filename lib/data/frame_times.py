"""When a video's frames are shown, from the stamps that its container or its decoder gives them."""

from fractions import Fraction
from pathlib import Path

from lib.errors import UserError

ROUNDED = 1e-6  # seconds, to which times are kept
STEADY = 0.25  # parts of a frame by which times may be off the beat: containers round them, to milliseconds for one


def rising(path: Path, shown: list[tuple[int | None, int | None, bool]], is_avi: bool) -> list[int | None]:
    """The stamps of frames in the order in which they are shown, each (of presentation, of decoding, is B); or None.

    AVI has those of decoding alone. Without B-frames they are the others, too; with them FFmpeg's guess is right but
    for the order of some neighbours.
    """
    presented, decoded, between = zip(*shown, strict=True)
    for stamps in (decoded, presented) if is_avi and not any(between) else (presented, decoded):
        if None not in stamps and len(set(stamps)) == len(stamps):
            return sorted(stamps)
    if any(stamp is not None for stamp in presented):
        raise UserError(f"{path}: the times of its frames are missing or repeat; convert it or leave it out")
    return [None] * len(shown)  # a bare stream of pictures


def times_of(
    path: Path, stamps: list[int | None], time_base: Fraction, average_rate: Fraction | None
) -> tuple[float, tuple[float, ...]]:
    """Frames a second, and each frame's time where frames do not come steadily, from their stamps in order."""
    count, told = len(stamps), float(average_rate or 0)
    if stamps[0] is None:
        if not told:
            raise UserError(f"{path}: tells no frame rate; convert it to MP4 or leave it out")
        return told, ()
    seconds = [float((stamp - stamps[0]) * time_base) for stamp in stamps]
    if count == 1:
        return told or 30, ()
    mean = (count - 1) / seconds[-1]
    for fps in filter(None, (told, mean)):
        if max(abs(second * fps - number) for number, second in enumerate(seconds)) <= STEADY:
            return fps, ()
    return mean, tuple(round(second / ROUNDED) * ROUNDED for second in seconds)
