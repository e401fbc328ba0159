"""Settings of every run, as records with the same words for the same things: `get(SIAMMAE, "toy", epochs=2)`."""

from lib.presets.finetuning import FINE_TUNING
from lib.presets.frame_pairs import MAE, SIAMMAE
from lib.presets.record import Schedule, compare, get, run_name
from lib.presets.video import ADAMAE

__all__ = ["ADAMAE", "FINE_TUNING", "MAE", "SIAMMAE", "Schedule", "compare", "get", "run_name"]
