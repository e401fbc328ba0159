"""Training steps to be timed: those of `lib.training`, on one batch again and again."""

import argparse
from itertools import repeat

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from lib.errors import UserError
from lib.training import TrainOptions, fast_cpu_attention, gradient_steps, parameter_groups

LEARNING_RATE = 1e-5  # small: the model stays what it was
MANY = 10**9  # steps of the schedule, which so is flat


class TrainingStep:
    """Called, it does a whole training step: forward, backward, AdamW. No gradient is left. batch: on the device."""

    def __init__(self, model: nn.Module, batch: dict[str, Tensor], device: str, precision: str):
        self.batch, size = batch, len(next(iter(batch.values())))
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
        self.optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=0.0, betas=(0.9, 0.95), fused=True)
        self.model, optimizer = accelerator.prepare(model.train(), self.optimizer)
        options = TrainOptions(MANY, size, LEARNING_RATE * 256 / size, precision=precision)
        self.steps = gradient_steps(accelerator, self.model, optimizer, repeat(batch), options)
        self.device = accelerator.device

    def __call__(self) -> None:
        """One step more."""
        with fast_cpu_attention(self.device, getattr(self.model, "sequence_length", 0)):
            next(self.steps)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every benchmark of training steps."""
    parser.add_argument("--precision", default="auto", help="auto, bf16 or no, as in training (default: auto)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def check_device(device: str) -> None:
    """The device must be there."""
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device {device} is not there: choose cpu, or cuda on a machine that has it")
