"""Folders and files that a data set must have: where one is missing, the error names it and what it should be."""

from collections.abc import Iterable
from pathlib import Path

from lib.errors import UserError, unknown


def read_text(path: Path) -> str:
    """A text file in UTF-8, without the mark that some editors put at its beginning."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8; fetch it again, or save it as UTF-8") from None


def read_lines(path: Path) -> list[tuple[str, str]]:
    """The lines of a text file that are not blank, each with its place for messages; at least one."""
    lines = enumerate(read_text(path).splitlines(), start=1)
    lines = [(f"{path}:{number}", line.strip()) for number, line in lines if line.strip()]
    if not lines:
        raise UserError(f"{path}: the list is empty; fetch it again")
    return lines


def read_names(folder: Path, split: str, ending: str = ".txt") -> list[str]:
    """The videos of a split: the lines of the list `{split}{ending}` in `folder`."""
    listing = folder / f"{split}{ending}"
    if not listing.is_file():
        splits = [path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")]
        raise unknown(f"split in {folder}", split, splits or ["(no list there)"])
    return [line for _, line in read_lines(listing)]


def check_root(root: Path, name: str, *folders: str) -> Path:
    """`root`, which must hold these folders to be the data set called `name`."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the {name} root, the folder that holds {folders[0]}/")
    if not all((root / folder).is_dir() for folder in folders):
        present = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise UserError(f"{root}: not a {name} root: expected {', '.join(folders)}; found {present}")
    return root


def files_in(folder: Path, pattern: str, what: str) -> list[Path]:
    """The files of a video's folder by name, at least one."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, but the video is listed; unpack the data set again")
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise UserError(f"{folder}: holds no {pattern.removeprefix('*')} {what}; unpack the data set again")
    return paths


def check_files(paths: Iterable[Path], what: str) -> None:
    """Every file must be there."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: missing {what} ({len(missing)} missing)")
