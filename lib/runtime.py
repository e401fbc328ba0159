"""What every part needs and no method owns: the repository's root, seeds, progress, safe writes, run records."""

import errno
import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm

from lib.errors import UserError

Item, Result = TypeVar("Item"), TypeVar("Result")
REPO_ROOT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Where relative data, result and figure paths start: the repository, or the folder SIAMMAE_HOME names."""
    return Path(os.environ.get("SIAMMAE_HOME") or REPO_ROOT)


def resolve(path: str | Path) -> Path:
    """An absolute path as it is; a relative one from `home()`, wherever the notebook or command was started."""
    return home() / Path(path).expanduser()


def dataset_root(data_root: str | Path, names: Iterable[str]) -> Path:
    """The data set's folder: the first of `names` inside `data_root`, or `data_root` itself when it is the set's own.

    A file is returned as it is: whoever reads it knows whether it is a list of videos.
    Raises UserError when there is nothing at `data_root`, or an empty folder.
    """
    root = resolve(data_root)
    names = list(names)
    if root.is_file():
        return root
    if not root.is_dir():
        raise UserError(f"data_root {data_root} is no folder: give the folder that holds {' or '.join(names)}")
    if not any(root.iterdir()):
        raise UserError(f"data_root {data_root} is empty: put {' or '.join(names)} there, or make the toy world")
    return next((root / name for name in names if (root / name).is_dir()), root)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def progress(iterable: Iterable, desc: str, total: int | None = None, initial: int = 0) -> tqdm:
    """A progress bar on a terminal, nothing elsewhere: notebooks and logs stay free of its residue.

    Set the environment variable SIAMMAE_PROGRESS to 1 (always) or 0 (never) to overrule the terminal check.
    SIAMMAE_TERMINAL names the terminal to draw on when stderr leads elsewhere, as it does in a notebook's kernel.
    """
    wanted, terminal = os.environ.get("SIAMMAE_PROGRESS"), os.environ.get("SIAMMAE_TERMINAL")
    disable = not (terminal or sys.stderr.isatty()) if wanted is None else wanted == "0"
    file = open(terminal, "a") if terminal and not disable else sys.stderr  # noqa: SIM115 - lives as long as the bar
    return tqdm(iterable, desc, total, initial=initial, disable=disable, file=file, dynamic_ncols=True, leave=False)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`function` of every item, in order, `workers` at a time; the first error ends it.

    With more than one worker each is a thread that keeps to one core: on small tensors PyTorch's own threads mostly
    wait for each other. With one, PyTorch's own threads share the work. UserError for fewer.
    """
    if workers < 1:
        raise UserError(f"workers must be 1 or more, not {workers}")
    if workers == 1:
        yield from map(function, items)
        return
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def share(items: Sequence[Item], part: str) -> Sequence[Item]:
    """The items of one of several processes: "0/2" and "1/2" share them out, "0/1" is all. UserError for other text."""
    number, _, parts = part.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and int(number) < int(parts)):
        raise UserError(f"part {part!r} must be like 0/2 or 1/2")
    return items[int(number) :: int(parts)]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write to the yielded temporary path; on success it is moved to `path`, on any failure it is removed.

    The temporary name keeps the suffix, by which savers choose the format, and lies in the same folder, because a move
    across file systems is not atomic. Works for a file or a folder (create it yourself); an existing folder stays.
    Raises UserError when the disk, or the user's share of it, is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{path}: no space left to write it; free some and start again") from None
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # what a link points to is not ours
        for child in path.iterdir():
            _remove(child)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def write_json(path: str | Path, content: dict) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def hardware() -> str:
    """The device's name in words, for tables: the GPU's name, or the CPU's with its core count."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"


def run_record(parameters: dict) -> dict:
    """What a number needs to be trusted later: parameters, commit, package versions, hardware."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    packages = ["torch", "torchvision", "timm", "numpy", "accelerate"]
    return {
        "parameters": parameters,
        "commit": commit or "no git checkout",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "hardware": hardware(),
    }
