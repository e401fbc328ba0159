"""Archives, unpacked safely: zip, tar in any compression, rar. What is inside decides nothing but names below a folder.

All members are looked at before the first is written. A file appears whole or not at all; what a killed run left is
removed by the next one for the same archive.
"""

import io
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import rarfile

from lib.errors import UserError
from lib.runtime import progress

RATIO, SMALL = 60, 2**28  # an archive may hold so many times its own bytes, and so many bytes anyway: no bomb
CHUNK = 2**20


class Member(NamedTuple):
    """A file in an archive: its name there, its bytes, and how to read them."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


class Unpacked(NamedTuple):
    """How many files were written, how many were there already, and how many have no place in the data set."""

    written: int
    there: int
    left: int


def unpack(path: Path, root: Path, place: Callable[[str], str | None], staging: Path) -> Unpacked:
    """Write an archive's files below `root`, each where `place` wants the member of that name (None: nowhere).

    staging: a folder on the same disk for what is being written. A file that is there with as many bytes stays.
    UserError, before anything is written, for names that lead out of the root, links, devices, or too many bytes.
    """
    shutil.rmtree(staging, ignore_errors=True)
    places = _checked(path, place)
    staging.mkdir(parents=True)
    written = there = 0
    try:
        with opened(path) as members:
            for member in progress(members, f"unpack {path.name}"):
                if member.name not in places:
                    continue
                target = root / places[member.name]
                if target.is_file() and target.stat().st_size == member.size:
                    there += 1
                    continue
                _write(member, staging / "file")
                target.parent.mkdir(parents=True, exist_ok=True)
                (staging / "file").replace(target)
                written += 1
    except (OSError, tarfile.TarError, zipfile.BadZipFile, rarfile.Error, EOFError) as error:
        raise _fault(path, error) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Unpacked(written, there, places.pop("", 0))


def _checked(path: Path, place: Callable[[str], str | None]) -> dict[str, str]:
    """Where each member goes; under "" how many go nowhere."""
    places, total, limit, left = {}, 0, max(SMALL, RATIO * sum(part.stat().st_size for part in parts_of(path))), 0
    try:
        with opened(path) as members:
            for member in members:
                parts = PurePosixPath(member.name.replace("\\", "/"))
                if parts.is_absolute() or ".." in parts.parts or ":" in member.name or "\0" in member.name:
                    raise UserError(f"{path}: holds {member.name!r}, which leads out of its folder; do not trust it")
                total += member.size
                if total > limit:
                    raise UserError(f"{path}: holds more than {limit:,} bytes, {RATIO} times its own; do not trust it")
                where = place(parts.as_posix())
                if where is None:
                    left += 1
                else:
                    places[member.name] = where
    except (OSError, tarfile.TarError, zipfile.BadZipFile, rarfile.Error, EOFError) as error:
        raise _fault(path, error) from None
    return places | {"": left}


def _write(member: Member, path: Path) -> None:
    """As many bytes as the archive says, and not one more."""
    left = member.size
    with member.open() as source, path.open("wb") as target:
        while chunk := source.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            target.write(chunk)
    if left:
        raise OSError(f"{member.name} has not the {member.size} bytes that the archive tells")


def _fault(path: Path, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    if isinstance(error, rarfile.RarCannotExec):
        return UserError(f"{path}: a RAR needs one of unrar, unar, 7z or bsdtar; install one (conda: libarchive)")
    if isinstance(error, OSError) and error.errno:
        return UserError(f"{path}: {error.strerror}; what is whole stays, start again")
    return UserError(f"{path}: is no whole archive ({type(error).__name__}: {error}); delete it and fetch it again")


def parts_of(path: Path) -> list[Path]:
    """The files that make the archive, in order: it, or if it is called NAME-00, it and NAME-01, NAME-02, ..."""
    match = re.fullmatch(r"(.*-)\d\d", path.name)
    return sorted(path.parent.glob(f"{match[1]}[0-9][0-9]")) if match else [path]


class _Joined(io.RawIOBase):
    """Files read as if they were one."""

    def __init__(self, paths: list[Path]):
        self.paths, self.file = list(paths), io.BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not (count := self.file.readinto(buffer)) and self.paths:
            self.file.close()
            self.file = self.paths.pop(0).open("rb")
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


@contextmanager
def opened(path: Path) -> Iterator[Iterator[Member]]:
    """The archive's regular files in its order, each to be read while the next is not yet asked for.

    UserError for a member that is neither file nor folder.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield _zipped(path, archive)
    elif rarfile.is_rarfile(path):
        with rarfile.RarFile(path) as archive:
            yield _rarred(path, archive)
    else:  # a stream: its index would hold 200,000 names
        with _Joined(parts_of(path)) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            yield _tarred(path, archive)


def _zipped(path: Path, archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _no_file(path, info.filename)
        if not info.is_dir():
            yield Member(info.filename, info.file_size, lambda info=info: archive.open(info))


def _rarred(path: Path, archive: rarfile.RarFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.is_symlink() or info.file_redir:
            raise _no_file(path, info.filename)
        if not info.is_dir():
            yield Member(info.filename, info.file_size, lambda info=info: archive.open(info))


def _tarred(path: Path, archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        archive.members = []  # or it keeps them all
        if not info.isreg() and not info.isdir():
            raise _no_file(path, info.name)
        if info.isreg():
            yield Member(info.name, info.size, lambda info=info: archive.extractfile(info))


def _no_file(path: Path, name: str) -> UserError:
    return UserError(f"{path}: holds {name!r}, a link or device; do not trust it")
