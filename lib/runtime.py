"""What every part needs and no method owns: the repository's root, seeds, progress, threads, safe writes."""

import errno
import hashlib
import json
import os
import platform
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm

from lib.errors import UserError

Item, Result = TypeVar("Item"), TypeVar("Result")
REPO_ROOT = Path(__file__).resolve().parent.parent
SAMPLE = 16384  # bytes of head, middle and tail; MP4's tables are in one of them, and change with any other encoding


def resolve(path: str | Path) -> Path:
    """An absolute path as it is; a relative one from the repository, or from the folder SIAMMAE_HOME names."""
    return Path(os.environ.get("SIAMMAE_HOME") or REPO_ROOT) / Path(path).expanduser()


def dataset_root(data_root: str | Path, names: Sequence[str]) -> Path:
    """The data set's folder: the first of `names` inside `data_root`, or `data_root` itself when it is the set's."""
    root, wanted = resolve(data_root), " or ".join(names)
    if root.is_file():  # whoever reads it knows whether it is a list of videos
        return root
    if not root.is_dir():
        raise UserError(f"data_root {data_root} is no folder: give the folder that holds {wanted}")
    if not any(root.iterdir()):
        raise UserError(f"data_root {data_root} is empty: put {wanted} there, or make the toy world")
    return next((root / name for name in names if (root / name).is_dir()), root)


def digest(*values) -> str:
    """Twelve hexadecimal digits that tell plain values (numbers, text, tuples, records) from others."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def fingerprint(path: Path, whole: bool = False) -> str:
    """Sixteen digits from a file's size and second, and samples of it or, where wrong pictures would follow, all."""
    stat = path.stat()
    return _digits(path, whole, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@lru_cache(maxsize=2**17)  # a training asks for each sample
def _digits(path: Path, whole: bool, size: int, mtime_ns: int, *_: int) -> str:
    digest = hashlib.sha256(f"{size} {mtime_ns // 10**9}".encode())
    with path.open("rb") as file:
        if whole:
            while content := file.read(2**20):
                digest.update(content)
        else:
            for place in (0, size // 2, size - SAMPLE):
                file.seek(max(0, place))
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def cpu_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def progress(iterable: Iterable, desc: str, total: int | None = None, initial: int = 0) -> tqdm:
    """A progress bar on a terminal, nothing elsewhere: notebooks and logs stay free of its residue.

    Environment: SIAMMAE_PROGRESS, 1 (always) or 0 (never), overrules the terminal check; SIAMMAE_TERMINAL names the
    terminal to draw on when stderr leads elsewhere, as it does in a notebook's kernel.
    """
    setting, terminal = os.environ.get("SIAMMAE_PROGRESS"), os.environ.get("SIAMMAE_TERMINAL")
    disable = not (terminal or sys.stderr.isatty()) if setting is None else setting == "0"
    file = open(terminal, "a") if terminal and not disable else sys.stderr  # noqa: SIM115 - lives as long as the bar
    return tqdm(iterable, desc, total, initial=initial, disable=disable, file=file, dynamic_ncols=True, leave=False)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`function` of every item, in order, `workers` threads at a time; the first error ends it."""
    if workers < 1:
        raise UserError(f"workers must be 1 or more, not {workers}")
    if workers == 1:
        yield from map(function, items)
        return
    # Each thread keeps to one core: on small tensors PyTorch's own threads mostly wait for each other.
    threads = torch.get_num_threads()
    pool, items = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)), iter(items)
    try:
        while some := list(islice(items, 1024)):  # a job for each of 240,000 files at once would take 400 MB
            yield from pool.map(function, some)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write to the yielded temporary path; on success it is moved to `path`, on any failure it is removed.

    Works for a file or a folder (create it yourself); an existing folder stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, for a move across file systems is not atomic; with the suffix, by which savers choose
    temporary = path.with_name(f".{path.stem}.{os.getpid()}@{platform.node()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{path}: no space left to write it; free some and start again") from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: dict) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
