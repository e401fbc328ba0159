"""What every video of a data set holds, probed once and kept in a table that a scan looks files up in.

A row holds for the very file it was made from: one that was encoded anew, or put in another's place, is probed again.
"""

import csv
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lib.data.folders import read_csv
from lib.data.jumps import from_text, to_text
from lib.data.video import VideoInfo, probe
from lib.errors import UserError
from lib.runtime import atomic_path, cpu_cores, digest, fingerprint, in_threads, progress

MANIFEST = "video_manifest.csv"
SAVE_SECONDS = 60
COLUMNS = ["path", "num_frames", "fps", "height", "width", "times", "jumps", "status", "fingerprint"]
BREAKS = "breaks in the middle: "  # what only decoding all finds, which probing anew would not
NAMES = "surrogateescape"  # as Python has the bytes of names that are no UTF-8
Verdict = VideoInfo | str  # what a file holds, or in one line why it cannot be read


class Entry(NamedTuple):
    """What was found in a file, and which file that was ("": none)."""

    verdict: Verdict
    fingerprint: str


def probe_all(paths: Sequence[Path], workers: int) -> Iterator[tuple[Path, Entry]]:
    """Each file's absolute path and what it holds, in order; `workers` at a time."""

    def attempt(path: Path) -> tuple[Path, Entry]:
        known = fingerprint(path) if path.is_file() else ""  # before: it may change meanwhile
        try:
            return path.resolve(), Entry(probe(path), known)
        except UserError as error:
            return path.resolve(), Entry(str(error).removeprefix(str(UserError(f"{path}: "))), known)

    return in_threads(attempt, paths, workers)  # the decoder works outside Python's lock


def complete_manifest(
    manifest: Path, paths: Sequence[Path], workers: int, words: str, others: Sequence[Path] = ()
) -> dict[Path, Verdict]:
    """Probe the videos that the manifest does not know or that could not be opened, and say what each of `paths` holds.

    It is rewritten whole once a minute, so that an interrupted run goes on from there. others: manifests, such as those
    of shards, that know some of the videos, too.
    """
    known = {}
    for table in (*others, manifest):
        known |= read_entries(table) if table.is_file() else {}
    verdicts = {path: entry.verdict for path, entry in known.items()}
    settled = {path for path, found in verdicts.items() if _is_settled(found)}
    todo, saved = [path for path in paths if path.resolve() not in settled], time.monotonic()
    for path, entry in progress(probe_all(todo, workers), words, len(paths), len(paths) - len(todo)):
        known[path] = entry
        if time.monotonic() - saved > SAVE_SECONDS:
            write_manifest(manifest, known)
            saved = time.monotonic()
    write_manifest(manifest, known)
    return {path: known[path.resolve()].verdict for path in paths}


def _is_settled(found: Verdict) -> bool:
    return found.startswith(BREAKS) if isinstance(found, str) else found.jumps is not None


def correct_manifest(manifest: Path, broken: Mapping[Path, str]) -> None:
    """Write down why videos that looked readable, of which all was decoded, are not."""
    if broken:
        known = read_entries(manifest)
        known |= {path.resolve(): Entry(f"{BREAKS}{reason}", fingerprint(path)) for path, reason in broken.items()}
        write_manifest(manifest, known)


def write_manifest(path: str | Path, entries: dict[Path, Entry]) -> None:
    """Write `probe_all`'s answers as CSV; `status` is `ok` or the reason.

    Paths are relative to the manifest's folder, so that both can move together. Files that are not there have no row.
    """
    folder = Path(path).resolve().parent
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors=NAMES) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for video, (found, known) in sorted(entries.items()):  # the same, whoever was probed first
            row = [""] * 6 + [found]
            if isinstance(found, VideoInfo):
                times, jumps = " ".join(map(str, found.times)), to_text(found.jumps or ())
                row = [found.num_frames, found.fps, found.height, found.width, times, jumps, "ok"]
            if known:
                writer.writerow([Path(os.path.relpath(video, folder)).as_posix(), *row, known])


def read_entries(path: str | Path, among: Collection[Path] | None = None) -> dict[Path, Entry]:
    """What `write_manifest` wrote, less the videos that are gone or are not the files they were then.

    among: absolute paths, to look only these up.
    """
    path = Path(path)
    old = [column for column in COLUMNS if column != "jumps"]  # of manifests of before there were jumps
    rows = {(path.parent / row["path"]).resolve(): row for row in read_csv(path, old)}
    asked = [video for video in rows if among is None or video in among]

    def is_known(video: Path) -> bool:
        return video.is_file() and fingerprint(video) == rows[video]["fingerprint"]

    known = zip(asked, in_threads(is_known, asked, cpu_cores()), strict=True)
    return {video: _entry(path, rows[video]) for video, same in known if same}


def read_manifest(path: str | Path, among: Collection[Path] | None = None) -> dict[Path, Verdict]:
    """As `read_entries`: what the files hold."""
    return {video: entry.verdict for video, entry in read_entries(path, among).items()}


def _entry(path: Path, row: dict[str, str]) -> Entry:
    if row["status"] != "ok":
        return Entry(row["status"], row["fingerprint"])
    try:
        numbers = int(row["num_frames"]), float(row["fps"]), int(row["height"]), int(row["width"])
        times, jumps = tuple(map(float, row["times"].split())), from_text(row["jumps"]) if "jumps" in row else None
        return Entry(VideoInfo(*numbers, times, jumps), row["fingerprint"])
    except ValueError:
        raise UserError(f"{path}: the row of {row['path']} lacks numbers; make the manifest anew") from None


def state_of(paths: Iterable[Path]) -> str:
    """A hash of the places, sizes and times of many files that are not read."""
    return digest([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths])
