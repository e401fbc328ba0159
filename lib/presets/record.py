"""What every run's settings share: the words of the schedule, and one check.

A preset is a frozen record. Its defaults are the paper's; the other presets replace what a smaller machine needs.
"""

import math
from dataclasses import dataclass
from typing import get_type_hints

from lib.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train. An epoch takes `repeated_sampling` samples from each clip.

    base_lr: per 256 samples. accumulation: micro-batches a step. save_every: steps between checkpoints.
    workers: of the loader.
    """

    epochs: float
    warmup_epochs: float
    batch_size: int
    base_lr: float
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    repeated_sampling: int = 1
    accumulation: int = 1
    save_every: int = 500
    workers: int = 8

    free = ("save_every", "workers")  # what changes no weights
    may_be_0 = ("workers", "decoder_depth")  # whole numbers that are counts of what there need not be
    shortened = ("warmup_epochs",)  # with the epochs, unless they are given

    def steps(self, num_clips: int) -> int:
        """Optimizer steps of the whole run (at least one); the last batch of an epoch may reach into the next."""
        return max(1, round(self.epochs * num_clips * self.repeated_sampling / self.batch_size))

    def warmup_steps(self, num_clips: int) -> int:
        """Optimizer steps of the warm-up."""
        part = self.warmup_epochs / self.epochs
        return math.ceil(round(part * self.steps(num_clips), 6))  # 12.000000001 is 12

    def check(self) -> None:
        """UserError for settings that cannot work together; called by `get` on whatever it returns."""
        for name in ("epochs", "batch_size", "base_lr", "repeated_sampling", "accumulation", "save_every"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("warmup_epochs", "weight_decay"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas is {list(self.betas)}: both must be 0 or more, below 1")
        if not 0 < getattr(self, "mask_ratio", 0.5) < 1:
            raise UserError(f"mask_ratio is {self.mask_ratio}: it must be above 0, below 1")
        for name, value in vars(self).items():
            least = 0 if name in self.may_be_0 else 1
            if type(value) is int and get_type_hints(type(self))[name] in (int, int | None) and value < least:
                raise UserError(f"{name} is {value}: it must be {least} or more")
        samples = self.repeated_sampling * self.accumulation
        if self.batch_size % samples:
            words = f"batch_size {self.batch_size} is no multiple of repeated_sampling x accumulation = {samples}"
            raise UserError(f"{words}: change one")
