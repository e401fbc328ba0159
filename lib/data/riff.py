"""Whether an AVI is whole: its headers' frame counts do not tell."""

from pathlib import Path

from lib.errors import UserError


def check_riff(path: Path, whole_fraction: float) -> None:
    """An AVI's frame count may promise frames that never were, as JHMDB's do; its chunks' sizes tell a cut-off one."""
    there, promised = path.stat().st_size, 0
    with open(path, "rb") as file:
        while file.read(4) == b"RIFF":  # large files have several in a row
            size = int.from_bytes(file.read(4), "little")
            if size in (0, 0xFFFFFFFF):  # a writer that could not go back to fill it in
                return
            promised += 8 + size + size % 2
            file.seek(promised)
    if there < whole_fraction * promised:
        raise UserError(f"{path}: cut off, {there} of {promised} bytes are there; fetch it again")
