"""What lies on a disk: text in whatever encoding, folders with what programs leave in them, links, frames by number.

Where something is missing or can be read in two ways, the error names it and says what it should be.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lib.errors import UserError, unknown

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
LOSSLESS = {".png", ".bmp", ".tif", ".tiff"}  # in which masks are kept
NOTES = {".txt", ".csv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".mat", ".log"}  # may lie beside frames
# Left by editors, desktops, archives and storage systems, besides all that is hidden.
LITTER = {
    "__macosx", "__pycache__", "thumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "lost+found",
    "system volume information", "icon\r",
}  # fmt: skip
MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
         (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))  # fmt: skip

# --- Text ---


def read_text(path: Path, names: bool = False) -> str:
    """A text file in UTF-8, or with the mark that editors put at the beginning of UTF-8, UTF-16 and UTF-32.

    names: it names files, whose names may be no UTF-8: bytes that are none are kept as Python has them in paths.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    content = path.read_bytes()
    encoding = next((encoding for mark, encoding in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding, "surrogateescape" if names and encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in {encoding.upper()}; fetch it again, or save it as UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path}: holds zero bytes, as UTF-16 without its mark does; save it as UTF-8")
    return text


def read_lines(path: Path) -> list[tuple[str, str]]:
    """The lines of a list that are not blank, each with its place for messages; at least one."""
    lines = re.split(r"\r\n|\r|\n", read_text(path, names=True))  # splitlines() would divide names at rarer characters
    lines = [(f"{path}:{number}", line.strip(" \t")) for number, line in enumerate(lines, start=1)]
    lines = [(place, line) for place, line in lines if line]
    if not lines:
        raise UserError(f"{path}: the list is empty; fetch it again")
    return lines


def read_names(folder: Path, split: str, ending: str = ".txt") -> list[str]:
    """The videos of a split: the lines of the list `{split}{ending}` in `folder`."""
    listing = folder / f"{split}{ending}"
    if not listing.is_file():
        splits = [path.name.removesuffix(ending) for path in children(folder) if path.name.endswith(ending)]
        raise unknown(f"split in {folder}", split, splits or ["(no list there)"])
    return [line for _, line in read_lines(listing)]


def read_csv(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """All rows of a CSV file that has these columns, and perhaps others."""
    csv.field_size_limit(2**31 - 1)  # the times of an hour's frames are one field
    reader = csv.DictReader(io.StringIO(read_text(path, names=True), newline=""))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"{path}: is no table ({error}); fetch or write it again") from None
    absent = set(columns) - set(reader.fieldnames or [])
    if absent or any(row[column] is None for row in rows for column in columns):
        raise UserError(f"{path}: the first line must name the columns {','.join(columns)} and each line fill them")
    return rows


# --- Folders ---


def children(folder: Path) -> list[Path]:
    """What a folder holds, by name, but for what programs leave behind."""
    return sorted(path for path in folder.iterdir() if not is_litter(path.name))


def is_litter(name: str) -> bool:
    """Whether a program left a file or folder of this name behind: `.git`, `._a.jpg`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in LITTER


def walk(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """All files in a folder and in the folders in it; links are followed, but for those back to a folder around them.

    A link that leads nowhere is a file: whoever reads it tells that it is not there.
    """
    here = folder.stat()
    own = (here.st_dev, here.st_ino)
    if own in above:
        return
    for path in children(folder):
        if path.is_dir():
            yield from walk(path, above | {own})
        else:
            yield path


def check_root(root: Path, name: str, *folders: str) -> Path:
    """`root`, which must hold these folders to be the data set called `name`."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the {name} root, the folder that holds {folders[0]}/")
    if not all((root / folder).is_dir() for folder in folders):
        present = ", ".join(path.name for path in children(root)[:8]) or "nothing"
        raise UserError(f"{root}: not a {name} root: expected {', '.join(folders)}; found {present}")
    return root


def check_files(paths: Iterable[Path], what: str) -> None:
    """Every file must be there."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: missing {what} ({len(missing)} missing)")


# --- Frames ---


def stem_of(path: Path, suffixes: Iterable[str] = PICTURES) -> str:
    """A file's name without the suffixes that tell its kind, in whatever case and however many."""
    while path.suffix.lower() in suffixes:
        path = path.with_suffix("")
    return path.name


def frames_in(folder: Path, what: str = "frame") -> list[Path]:
    """The pictures of a video's folder, at least one, in the order of their numbers."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, but the video is listed; unpack the data set again")
    files = [path for path in children(folder) if not path.is_dir()]
    check_files(files, f"{what}, to which a link leads")
    others = [path for path in files if path.suffix.lower() not in PICTURES | NOTES]
    if others:
        raise UserError(f"{others[0]}: no picture that can be read, among {what}s; convert it, or move it elsewhere")
    paths = [path for path in files if path.suffix.lower() in PICTURES]
    if not paths:
        raise UserError(f"{folder}: holds no {what}, a {', '.join(sorted(PICTURES))}; unpack the data set again")
    return in_order(paths)


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Frames of one video by the numbers in their names, padded or not; UserError where their order cannot be told."""
    numbers, first = {}, paths[0]
    pieces = {path: re.split(r"([0-9]+)", stem_of(path)) for path in paths}
    for path, words in pieces.items():
        key = tuple(map(int, words[1::2]))
        if words[::2] != pieces[first][::2]:
            raise UserError(f"{path}: is not numbered as {first.name} beside it; frames are ordered by their numbers")
        if key in numbers:
            raise UserError(f"{path}: has the number of {numbers[key].name}; leave one file for each frame")
        numbers[key] = path
    digits = [words[1::2] for words in pieces.values()]
    counting = [len(set(column)) > 1 for column in zip(*digits, strict=True)]
    uneven = [len(set(map(len, column))) > 1 for column in zip(*digits, strict=True)]
    for place, between in enumerate(pieces[first][2:-1:2]):  # 0.5 may come before or after 0.25
        if between == "." and counting[place] and counting[place + 1] and uneven[place + 1]:
            raise UserError(f"{first}: is its number a fraction or two counts? Write as many digits in each name")
    return [numbers[key] for key in sorted(numbers)]


def beside(
    frames: Sequence[Path], folder: Path, what: str, suffixes: Iterable[str] = LOSSLESS
) -> tuple[Path | None, ...]:
    """For each frame the picture of the same name in another folder, None where there is none; at least one."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; unpack the data set again")
    found: dict[str, Path] = {}
    for path in children(folder):
        if path.suffix.lower() in suffixes and path.is_file():
            twin = found.setdefault(stem_of(path), path)
            if twin != path:
                raise UserError(f"{path}: {twin.name} is the {what} of the same frame; leave one")
    pairs = tuple(found.get(stem_of(frame)) for frame in frames)
    if not any(pairs):
        raise UserError(f"{folder / stem_of(frames[0])}.png: missing {what} (all {len(frames)} missing)")
    return pairs
