"""Frames of a clip, decoded each time or stored once: CPUs decode slower than they train."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.data.kinetics import Clip
from lib.data.video import read_frames
from lib.errors import UserError
from lib.runtime import atomic_path, digest


def read_clip(clip: Clip, indices: Sequence[int], frame_size: int | None, folder: str | Path | None) -> np.ndarray:
    """Frames of a clip by number, uint8 (T, H, W, 3), with the short side `frame_size` (never enlarged).

    folder: where the whole clip is stored when it is first asked for (about 25 MB for 10 s at frame_size 128).
    """
    if folder is None:
        return read_frames(clip.path, indices, frame_size)
    try:
        stat = clip.path.stat()
    except OSError:
        raise UserError(f"{clip.path}: no such file any more; scan the videos again") from None
    key = digest(clip.path.name, stat.st_size, stat.st_mtime_ns, frame_size)  # a replaced video is decoded again
    path = Path(folder) / f"{clip.path.stem}-{key}.npy"
    if not path.is_file():
        frames = read_frames(clip.path, range(clip.info.num_frames), frame_size)
        with atomic_path(path) as temporary:  # its own for each process that wants the clip, moved into place whole
            np.save(temporary, frames)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)[indices]
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: is no whole frame cache ({error}); delete it, it will be made again") from None
