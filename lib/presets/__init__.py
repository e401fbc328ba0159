"""Settings of every run, as records with the same words for the same things: `get(SIAMMAE, "toy", epochs=2)`."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace

from lib.presets.choosing import check_types, get
from lib.presets.finetuning import FINE_TUNING
from lib.presets.frame_pairs import MAE, SIAMMAE
from lib.presets.record import Schedule
from lib.presets.video import ADAMAE

__all__ = ["ADAMAE", "FINE_TUNING", "MAE", "SIAMMAE", "Schedule", "check_types", "compare", "get", "run_name"]


def compare(presets: Mapping[str, Schedule], *names: str) -> list[dict]:
    """One row per setting with its value in each preset, for the notebooks' tables."""
    columns = {name: asdict(get(presets, name)) for name in names}
    settings = [field.name for field in fields(presets[names[0]])]
    settings = [*settings[len(fields(Schedule)) :], *settings[: len(fields(Schedule))]]  # the schedule last
    return [{"setting": setting, **{name: column[setting] for name, column in columns.items()}} for setting in settings]


def run_name(system: str, presets: Mapping[str, Schedule], preset: str, settings: Schedule, seed: int) -> str:
    """The folder of a run: the system, whatever of its settings is not the preset's, the seed.

    So runs with other parameters never meet in one folder: `siammae-epochs2-gap4,8-seed0`. What changes no weights
    (the record's `free` settings: evaluation, loading, checkpoints) is left out.
    """
    parts = [system]
    base = get(presets, preset, epochs=settings.epochs)  # with the warm-up that belongs to so many epochs
    base = replace(base, epochs=presets[preset].epochs)
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value != getattr(base, field.name) and field.name not in settings.free:
            values = value if isinstance(value, tuple) else (value,)
            words = (f"{part:g}" if isinstance(part, float) else str(part) for part in values)
            parts.append(field.name + ",".join(words))
    return "-".join([*parts, f"seed{seed}"])
