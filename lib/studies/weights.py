"""Other people's weights as a notebook's parameter names them: each encoder has a name, and so a row, of its own."""

from collections.abc import Collection, Sequence
from pathlib import Path

from lib.errors import UserError
from lib.models.pretrained import HUB
from lib.runtime import resolve


def named_weights(weights: str | Sequence[str], taken: Collection[str] = ()) -> dict[str, tuple[Path | str, dict]]:
    """Files (as paths), else what load_encoder knows, with arguments for it, by the shortest name not `taken`.

    weights: a list, or separated by commas. `FILE?num_heads=6&grid=9x16` says what a file does not tell of itself. A
    file's stem is its name, of a run's `last.pt` the folder; where several have it, suffix and folders are added.
    """
    items = [item.strip() for item in (weights.split(",") if isinstance(weights, str) else weights)]
    read = {item: _file_and_told(item) for item in items if item}
    if len(read) < sum(map(bool, items)):
        raise UserError(f"weights {weights}: names one twice; leave one")
    names = {item: _names(file) for item, (file, _) in read.items()}
    while True:
        used = [*taken, *(own[0] for own in names.values())]
        clash = [item for item, own in names.items() if used.count(own[0]) > 1]
        if not clash:
            return {names[item][0]: found for item, found in read.items()}
        for item in clash:
            if len(names[item]) == 1:
                raise UserError(f"weights {item}: there is an encoder of this name already; rename it")
            names[item].pop(0)


def _names(file: Path | str) -> list[str]:
    """What an encoder may be called, the shortest first."""
    if isinstance(file, str):
        if not file.startswith(HUB):
            return [file]
        file = Path(file.removeprefix(HUB))
    ends = ["/".join(file.parts[-number:]) for number in range(1, len(file.parts) + 1)]
    return [file.parent.name, *ends[1:]] if file.stem == "last" else [file.stem, *ends]


def _file_and_told(item: str) -> tuple[Path | str, dict]:
    if resolve(item).is_file():
        return resolve(item), {}
    item, _, words = item.partition("?")
    told = {}
    for name, _, value in (word.partition("=") for word in words.split("&") if word):
        numbers = value.split("x")
        if {"num_heads": 1, "grid": 2}.get(name) != len(numbers) or not all(map(str.isdecimal, numbers)):
            form = "write num_heads=6 and grid=9x16, rows and columns, with & between"
            raise UserError(f"weights {item}?{words}: {form}")
        told[name] = tuple(map(int, numbers)) if name == "grid" else int(value)
    return resolve(item) if resolve(item).is_file() else item, told
