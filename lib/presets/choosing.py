"""Settings as a notebook or a command gives them: a preset with some replaced, each of the type that it must have."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args, get_origin, get_type_hints

from lib.errors import UserError, unknown
from lib.presets.record import Schedule


def get(presets: Mapping[str, Schedule], name: str, **overrides) -> Schedule:
    """The preset `name` with some settings replaced; an override that is None leaves the preset's value.

    Lists count as tuples, because a notebook's parameters may come from JSON. A run that is made shorter by `epochs`
    has its warm-up, as all that `shortened` names, shortened alike. UserError, with near misses, for an unknown name,
    and for impossible values.
    """
    if name not in presets:
        raise unknown("preset", name, presets)
    preset, given = presets[name], {}
    types = get_type_hints(type(preset))
    for setting, value in overrides.items():
        if setting not in types:
            raise unknown("setting", setting, types)
        if value is not None:
            given[setting] = tuple(value) if isinstance(value, list) else value
            _check_type(setting, given[setting], types[setting])
    if 0 < given.get("epochs", math.inf) < preset.epochs:
        alike = {name: getattr(preset, name) * given["epochs"] / preset.epochs for name in preset.shortened}
        given = alike | given
    preset = replace(preset, **given)
    preset.check()
    return preset


def check_types(values: Mapping[str, object], **kinds: object) -> None:
    """UserError unless each of `kinds` is the type of the value of its name, as a notebook's parameters must have it.

    Lists count as tuples; a whole number will do for a float.
    """
    for name, kind in kinds.items():
        value = values[name]
        _check_type(name, tuple(value) if isinstance(value, list) else value, kind)
        if kind is int and value < (name != "seed"):
            raise UserError(f"{name} is {value}: it must be {int(name != 'seed')} or more")


def _check_type(setting: str, value: object, kind: object) -> None:
    """UserError unless `value` is of the field's type; a whole number will do for a float."""
    kinds = get_args(kind) if get_origin(kind) not in (None, tuple) else (kind,)  # `int | None` is either
    for single in kinds:
        if get_origin(single) is tuple:
            parts = get_args(single)
            parts = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
            if isinstance(value, tuple) and len(value) == len(parts):
                for part, wanted in zip(value, parts, strict=True):
                    _check_type(setting, part, wanted)
                return
        elif type(value) is single or (single is float and type(value) is int):
            return
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "text", type(None): "None"}
    names = [words.get(single, f"values as {str(single).removeprefix('tuple')}") for single in kinds]
    raise UserError(f"{setting} is {value!r}: it must be {' or '.join(names)}")
