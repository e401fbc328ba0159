"""What every command in data_scripts does: fetch, verify, unpack, look into it, and report.

In the data set's folder, `downloads/` holds archives while they are needed, and `.fetched/NAME.json` says that the
archive NAME is unpacked whole, with its checksum: what is done is not done again, whoever did it.
"""

import argparse
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests
from filelock import FileLock

from lib.data.manifest import MANIFEST, complete_manifest
from lib.data.video import VideoInfo
from lib.errors import UserError, cli, shard_of
from lib.fetch import kinetics
from lib.fetch.archives import parts_of, unpack
from lib.fetch.datasets import DATASETS, REPLACEMENT, DataSet, Place
from lib.fetch.download import Source, checksum, download, open_session
from lib.runtime import atomic_path, cpu_cores, write_json

TABLES = (".json",)  # of what is fetched by hand: to be copied, not unpacked


@dataclass(frozen=True)
class Task:
    """What is asked for. folder: the data set's own. subset: so many videos. shard: which one, of how many."""

    dataset: DataSet
    folder: Path
    session: requests.Session
    split: str = "train"
    subset: int | None = None
    shard: tuple[int, int] = (1, 1)
    mirror: str = ""
    keep: bool = False

    @property
    def downloads(self) -> Path:
        """Where archives lie."""
        return self.folder / "downloads"

    def marker(self, archive: Source) -> Path:
        """What says that an archive is unpacked."""
        return self.folder / ".fetched" / f"{archive.file_name}.json"

    def fetch(self, source: Source, folder: Path) -> Path:
        """The source's file in the folder; from the mirror, if there is one, under the address's own name."""
        parts = urlsplit(source.url)
        url = f"{self.mirror.rstrip('/')}/{parts.netloc}{parts.path}" if self.mirror else source.url
        return download(replace(source, url=url), folder, self.session)


def get(task: Task) -> list[str]:
    """Fetch and unpack the task's part of the data set, a printed line for each archive; those that could not be had.

    Under a shard, what all others need is made by whichever comes first.
    """
    for folder, source in task.dataset.files:
        path = task.fetch(source, task.folder / folder)
        write_json(task.marker(source), {"url": source.url, "bytes": path.stat().st_size, "sha256": checksum(path)})
    for table in (path for path in _by_hand(task) if path.suffix in TABLES):
        with atomic_path(task.folder / table.name) as temporary:
            shutil.copyfile(table, temporary)
    # A few videos do without the replacements of broken ones, which are more than they
    shared = task.dataset.archives if task.dataset.name == "kinetics400" and task.subset is None else ()
    own, failed, taken = [*_archives(task)][task.shard[0] - 1 :: task.shard[1]], [], 0
    for archive in (*shared, *own):
        left = None if task.subset is None else task.subset - taken
        if left is not None and left <= 0:
            break
        try:
            found = _unpacked(task, archive, left)
        except UserError as error:
            failed.append(archive.file_name)
            print(f"{archive.file_name}: failed: {error}", flush=True)
            continue
        taken += found["videos"]
        print(f"{archive.file_name}: {found['files']} files, {found['left']} others left out", flush=True)
    return failed


def _archives(task: Task) -> list[Source]:
    """What is divided among shards."""
    if task.dataset.name == "kinetics400":
        return kinetics.parts(task.split, task.fetch, task.downloads)
    by_hand = (path for path in _by_hand(task) if path.suffix not in TABLES and path == parts_of(path)[0])
    return [*task.dataset.archives, *(Source("", name=path.name) for path in by_hand)]


def _by_hand(task: Task) -> list[Path]:
    """What a person has fetched; UserError, which says what to fetch, where it is not there."""
    patterns = task.dataset.patterns
    there = sorted({path for pattern in patterns for path in task.downloads.glob(pattern)})
    if patterns and not there:
        raise UserError(
            f"{task.downloads}: holds none of {', '.join(patterns)}. From {task.dataset.page}: {task.dataset.by_hand}; "
            "put the files there and start again"
        )
    return there


def _unpacked(task: Task, archive: Source, limit: int | None) -> dict:
    """What is noted of the archive, once it is unpacked: at most `limit` of its videos."""
    marker = task.marker(archive)
    marker.parent.mkdir(parents=True, exist_ok=True)  # write_json makes it, a lock does not
    with FileLock(marker.with_suffix(".lock")):
        noted = json.loads(marker.read_text()) if marker.is_file() else {}
        if noted and (noted["limit"] is None or limit is not None and noted["limit"] >= limit):
            return noted
        path = task.fetch(archive, task.downloads) if archive.url else task.downloads / archive.file_name
        place, names = _place(task, archive, limit), []

        def noting(name: str) -> str | None:
            where = place(name)
            names.extend([where] if where else [])
            return where

        unpacked = unpack(path, task.folder, noting, marker.with_suffix(".partial"))
        noted = {"url": archive.url, "limit": limit}
        noted |= {f"{part.name}": {"bytes": part.stat().st_size, "sha256": checksum(part)} for part in parts_of(path)}
        noted |= {"files": unpacked.written + unpacked.there, "left": unpacked.left}
        noted["videos"] = sum(_is_video(task.dataset, name) for name in names)
        noted |= {"names": sorted(names)} if archive == REPLACEMENT else {}
        write_json(marker, noted)
        if archive.url and not task.keep:
            path.unlink()
    return noted


def _place(task: Task, archive: Source, limit: int | None) -> Place:
    place, seen = task.dataset.place, set()
    if task.dataset.name == "kinetics400":
        replaced = kinetics.replaced_files(task.marker(REPLACEMENT))
        place = kinetics.class_places(task.folder, archive, replaced)
        if archive == REPLACEMENT:
            return place

    def limited(name: str) -> str | None:
        where = place(name)
        if where is None or limit is None or not _is_video(task.dataset, where) or where in seen:
            return where
        if len(seen) == limit:
            return None
        seen.add(where)
        return where

    return limited


def _is_video(dataset: DataSet, name: str) -> bool:
    return bool(dataset.videos) and PurePosixPath(name).match(dataset.videos)


def look(task: Task, workers: int) -> str:
    """Open every video once, leave what was found in the manifest that scans look into, and count it in a line."""
    videos = sorted(path for path in task.folder.rglob(task.dataset.videos) if task.downloads not in path.parents)
    found = complete_manifest(task.folder / MANIFEST, videos, workers, f"open {task.dataset.name}")
    bad = {path: verdict for path, verdict in found.items() if not isinstance(verdict, VideoInfo)}
    line = f"{len(found) - len(bad)} of {len(found)} videos can be read"
    if bad:
        path, reason = next(iter(bad.items()))
        line += f"; skipped: {len(bad)}, the first {path.relative_to(task.folder)}: {reason}"
    return f"{line} (all in {MANIFEST})"


def plan(task: Task) -> str:
    """What would be fetched, how much disk it takes, and the terms of use, as lines."""
    dataset = task.dataset
    archives = () if dataset.name == "kinetics400" and task.subset is not None else dataset.archives
    sources = [*(source for _, source in dataset.files), *archives]
    lines = [f"{dataset.title}, {dataset.page}", f"terms of use: {dataset.terms}"]
    lines += [f"fetches {source.url}" for source in sources]
    if dataset.name == "kinetics400":
        lines.append(f"fetches the parts that {kinetics.KINETICS}/{task.split}/k400_{task.split}_path.txt names")
    if dataset.by_hand:
        lines.append(f"by hand into {task.downloads}: {dataset.by_hand}")
    to_fetch, on_disk = ("not known" if size is None else f"{size:g} GB" for size in dataset.gigabytes)
    there = next(folder for folder in (task.folder, *task.folder.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    part = task.subset is not None or task.shard != (1, 1) or task.split != "train"
    all_of = "all of it, of which you want a part: " if part else ""
    return "\n".join([*lines, f"{all_of}to fetch: {to_fetch}; on the disk: {on_disk}; free there: {free:.0f} GB"])


@cli
def main(name: str, arguments: list[str] | None = None) -> None:
    """The command of the data set `name`; see its `--help`. Exits with 1 where something could not be had."""
    dataset = DATASETS[name]
    parser = argparse.ArgumentParser(description=f"{dataset.title}: fetch, verify, unpack. {dataset.page}")
    parser.add_argument("--root", type=Path, required=True, help=f"folder of all data sets; this one goes to {name}/")
    parser.add_argument("--dry-run", action="store_true", help="fetch nothing; say what, how much, on which terms")
    parser.add_argument("--shard", type=shard_of, default=(1, 1), metavar="i/n", help="only the i-th of n parts")
    parser.add_argument("--mirror", default="", help="fetch URL/HOST/PATH instead of https://HOST/PATH")
    parser.add_argument("--keep-archives", action="store_true", help="do not delete what is unpacked")
    if dataset.videos:
        parser.add_argument("--subset", type=int, help="so many videos, and no more archives than these take")
        parser.add_argument("--workers", type=int, default=cpu_cores(), help="videos opened at a time in the end")
    if name == "kinetics400":
        parser.add_argument("--split", choices=kinetics.SPLITS, default="train")
    given = vars(parser.parse_args(arguments))
    folder, workers, dry_run = given.pop("root").absolute() / name, given.pop("workers", 1), given.pop("dry_run")
    task = Task(dataset, folder, open_session(), keep=given.pop("keep_archives"), **given)
    if task.subset is not None and (task.subset < 1 or task.shard != (1, 1)):
        raise UserError(f"--subset {task.subset}: give 1 or more, and no --shard beside it")
    if workers < 1:
        raise UserError(f"--workers {workers}: give 1 or more")
    print(plan(task), flush=True)
    if dry_run:
        return
    folder.mkdir(parents=True, exist_ok=True)
    failed = get(task)
    if name == "kinetics400" and (folder / task.split).is_dir():
        kinetics.note_subset(folder, task.split, task.subset)
    if dataset.videos and task.shard == (1, 1):
        print(look(task, workers))
    if failed:
        print(f"{len(failed)} could not be had: {', '.join(failed)}; start again for these")
        raise SystemExit(1)
