"""Kinetics-400 as the Common Visual Data Foundation gives it: parts that a list names, and files for broken ones."""

import csv
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from lib.data.folders import read_csv
from lib.data.kinetics import class_folder, list_kinetics, subset_table
from lib.fetch.datasets import KINETICS, REPLACEMENT, Place
from lib.fetch.download import Source
from lib.runtime import atomic_path

SPLITS = ("train", "val")


def parts(split: str, fetch: Callable[[Source, Path], Path], downloads: Path) -> list[Source]:
    """The archives of a split, as its list on the server names them."""
    listed = fetch(Source(f"{KINETICS}/{split}/k400_{split}_path.txt"), downloads)
    lines = listed.read_text(encoding="utf-8").split()
    return [Source(line, name=f"{split}_{line.rpartition('/')[2]}") for line in lines]  # part_0 is in both splits


def class_places(folder: Path, archive: Source, replaced: set[str]) -> Place:
    """`{id}_{start}_{end}.mp4` goes to `{split}/{class}/`, as the annotations say; a clip that has none, nowhere.

    replaced: of these another archive has a whole file, which is never overwritten by a part's broken one.
    """
    classes = {}
    for split in SPLITS:
        for row in read_csv(folder / "annotations" / f"{split}.csv", ["label", "youtube_id", "time_start", "time_end"]):
            start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
            classes[f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"] = f"{split}/{class_folder(row['label'])}"

    def place(name: str) -> str | None:
        file = PurePosixPath(name).name
        where = f"{classes[file]}/{file}" if file in classes else None
        return None if where in replaced and archive != REPLACEMENT else where

    return place


def note_subset(folder: Path, split: str, subset: int | None) -> None:
    """Which rows of the split are there, where only a part was fetched: the others are then not missed."""
    table, columns = subset_table(folder, split), ["label", "youtube_id", "time_start", "time_end"]
    table.unlink(missing_ok=True)
    if subset is None:
        return
    rows = read_csv(folder / "annotations" / f"{split}.csv", columns)
    there = [row for row, path in zip(rows, list_kinetics(folder, split), strict=True) if path.is_file()]
    with atomic_path(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(there)


def replaced_files(marker: Path) -> set[str]:
    """What the archive of replacements held, by what is noted of it."""
    return set(json.loads(marker.read_text())["names"]) if marker.is_file() else set()
