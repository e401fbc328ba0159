"""One loop for every system: it knows gradients, schedules and files, and nothing of models or data.

`model(batch)` returns (loss, logs). Everything random in a step is a function of (seed, step, process), so a run that
was killed resumes with exactly the losses it would have had. Hugging Face Accelerate carries devices and processes.
Recipe: MAE (arXiv 2111.06377, appendix A.1) as SiamMAE uses it (arXiv 2305.14344, Table 4a).
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration, notebook_launcher
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset, Sampler

from lib.checkpoints import Record, RunFiles, load_weights, read_losses
from lib.errors import UserError
from lib.runtime import progress

FUSED_FROM = 256  # tokens: below, a CPU computes plain attention and its gradient faster than the fused one


@dataclass(frozen=True)
class TrainOptions:
    """How to train: optimizer `steps` of `batch_size` samples, over all processes and accumulated micro-batches.

    base_lr: per 256 samples; linear warm-up from 0, then a half cosine to 0. precision: "auto" (bf16 where the hardware
    has it), "bf16" or "no". data: says which samples these are; a run is not resumed on others. clip_norm: longer
    gradients are shortened to it.
    """

    steps: int
    batch_size: int
    base_lr: float = 1.5e-4
    warmup_steps: int = 0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    accumulation: int = 1
    save_every: int = 100
    precision: str = "auto"
    seed: int = 0
    data: str = ""
    clip_norm: float | None = None

    def learning_rate(self, step: int) -> float:
        """Learning rate of optimizer step `step` (from 0): warm-up, then half-cosine decay (MAE appendix A.1)."""
        peak = self.base_lr * self.batch_size / 256
        if step < self.warmup_steps:
            return peak * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return peak * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    model: nn.Module,
    samples: Dataset,
    settings,
    out_dir: str | Path,
    seed: int = 0,
    collate: Callable | None = None,
    num_processes: int = 1,
) -> list[Record]:
    """Load the finished run in `out_dir`, go on with a stopped one, or train: the one way to make a run.

    `model` then holds the trained weights and is in evaluation mode; returned is the loss curve, a record a step.

    samples: their index may go on counting (`StepBatches`); `samples.identity`, text, guards the run if it is there.
    settings: a record of lib.presets. collate: a list of samples -> a batch. num_processes: above 1, so many GPUs.
    """
    options = options_of(settings, samples, seed)
    loader = partial(make_loader, samples, settings, seed, collate)
    if num_processes > 1:
        notebook_launcher(train, (model, loader, options, out_dir), num_processes=num_processes)
    else:
        train(model, loader, options, out_dir)
    load_weights(model, Path(out_dir) / "last.pt").eval()
    return read_losses(out_dir)


def options_of(settings, samples: Dataset, seed: int) -> TrainOptions:
    """The loop's options for these settings (a record of lib.presets) and samples."""
    names = ("batch_size", "base_lr", "weight_decay", "betas", "accumulation", "save_every")
    return TrainOptions(
        steps=settings.steps(len(samples)),
        warmup_steps=settings.warmup_steps(len(samples)),
        **{name: getattr(settings, name) for name in names},
        seed=seed,
        data=getattr(samples, "identity", ""),
        clip_norm=getattr(settings, "clip_norm", None),  # only recurrent models ask for it
    )


def make_loader(samples: Dataset, settings, seed: int, collate: Callable | None, first: int = 0) -> DataLoader:
    """A run's micro-batches from number `first` on; what they hold depends on their number and the seed alone."""
    size = settings.batch_size // settings.accumulation // settings.repeated_sampling
    micro_batches = settings.steps(len(samples)) * settings.accumulation
    batches = StepBatches(len(samples), size, micro_batches, seed, first)
    return DataLoader(samples, batch_sampler=batches, collate_fn=collate, num_workers=settings.workers)


class StepBatches(Sampler[list[int]]):
    """Index lists for the steps start_step..steps-1 of a run: a function of the step alone, so resuming is exact.

    Each epoch is a fresh permutation of the clips from (seed, epoch); index = epoch * num_clips + clip, so that a data
    set can draw something new each time. A batch may reach over the end of an epoch: any batch size will do.
    """

    def __init__(self, num_clips: int, batch_size: int, steps: int, seed: int = 0, start_step: int = 0) -> None:
        if min(num_clips, batch_size) < 1:
            raise UserError(f"num_clips {num_clips} and batch_size {batch_size} must both be at least 1")
        self.num_clips, self.batch_size, self.steps = num_clips, batch_size, steps
        self.seed, self.start_step = seed, start_step
        self.drop_last = False  # read, with batch_size, by accelerate when it splits batches among processes

    def __len__(self) -> int:
        return max(0, self.steps - self.start_step)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, None
        for step in range(self.start_step, self.steps):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.num_clips != epoch:
                    epoch = position // self.num_clips
                    # The 1 keeps this stream apart from those of the data sets.
                    order = np.random.default_rng([self.seed, epoch, 1]).permutation(self.num_clips)
                batch.append(epoch * self.num_clips + int(order[position % self.num_clips]))
            yield batch


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW groups: matrices decay; biases, norms, tokens and position tables (see MAE's release) do not."""
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim <= 1 or name.split(".")[-1] in {"cls_token", "mask_token", "past_token", "pos_embed"}
            (no_decay if plain else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def choose_precision(precision: str = "auto") -> str:
    """ "bf16" or "no" for "auto", by what the device computes natively; otherwise the given value, checked."""
    if precision == "auto":
        precision = os.environ.get("SIAMMAE_PRECISION", "auto")  # to measure what another machine would do
    if precision not in {"auto", "bf16", "no"}:
        raise UserError(f"precision {precision!r} is unknown: choose auto, bf16 or no")
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "no"
    native = [getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return "bf16" if any(check() for check in native) else "no"


def train(
    model: nn.Module, make_loader: Callable[[int], DataLoader], options: TrainOptions, out_dir: str | Path
) -> list[Record]:
    """Train `model`, or resume where the last checkpoint in `out_dir` stands; returns the loss curve.

    model: `model.architecture`, a plain dict, guards its checkpoints. It may have `parameter_groups(weight_decay)` for
        AdamW, in which `lr_scale` multiplies the learning rate, and `sequence_length` (see `fast_cpu_attention`).
    make_loader: gives the micro-batches from a number on; Accelerate splits each among the processes.
    out_dir: gets `losses.csv`, with a column for whatever the model logs, `tensorboard/` and `last.pt`.
    """
    accelerator = Accelerator(
        mixed_precision="no",  # the steps cast themselves: Accelerate would fix one precision for the whole process
        gradient_accumulation_steps=options.accumulation,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    architecture = dict(model.architecture)
    model.zero_grad()  # an interrupted run may have left half a step's gradients
    own = getattr(model, "parameter_groups", None)
    groups = own(options.weight_decay) if own else parameter_groups(model, options.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=options.betas, fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    files = RunFiles(Path(out_dir), architecture, options, accelerator.is_main_process)
    first = files.restore(accelerator.unwrap_model(model), optimizer)
    loader = accelerator.prepare(make_loader(first * options.accumulation))

    model.train()
    with fast_cpu_attention(accelerator.device, getattr(accelerator.unwrap_model(model), "sequence_length", 0)), files:
        losses = gradient_steps(accelerator, model, optimizer, loader, options, first)
        bar = progress(losses, "training", total=options.steps, initial=first)
        for record in bar:
            if not math.isfinite(record["loss"] + record["grad_norm"]):
                raise UserError(files.not_finite(record))
            files.log(record)
            bar.set_postfix(loss=f"{record['loss']:.4f}")
            done = int(record["step"]) + 1
            if done % options.save_every == 0 or done == options.steps:
                files.save(accelerator.unwrap_model(model), optimizer, done)
    accelerator.wait_for_everyone()
    return read_losses(out_dir)


def step_seed(seed: int, step: int, micro: int, process: int) -> int:
    """The seed of one micro-batch on one process. Hashed, because a CPU generator reads the low 32 bits only."""
    return int(np.random.SeedSequence([seed % 2**64, step, micro, process]).generate_state(1, np.uint64)[0])


def gradient_steps(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterable,
    options: TrainOptions,
    first: int = 0,
) -> Iterator[Record]:
    """Run the optimizer steps from `first` on and yield a record after each."""
    bf16 = choose_precision(options.precision) == "bf16"
    step, logged, norm, started = first, {}, 0.0, time.perf_counter()
    micro_batches = (options.steps - first) * options.accumulation
    for batch, number in zip(loader, range(micro_batches), strict=False):  # no further, if the loader goes on
        micro = number % options.accumulation
        torch.manual_seed(step_seed(options.seed, step, micro, accelerator.process_index))
        with accelerator.accumulate(model):
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
                loss, logs = model(batch)
            accelerator.backward(loss)
            values = accelerator.reduce(torch.stack([loss.detach(), *logs.values()]).float(), "mean").tolist()
            for name, value in zip(["total", *logs], values, strict=True):
                logged[name] = logged.get(name, 0.0) + value / options.accumulation
            if accelerator.sync_gradients:
                trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
                length = nn.utils.get_total_norm([parameter.grad for parameter in trained])
                if options.clip_norm is not None:
                    nn.utils.clip_grads_with_norm_(trained, options.clip_norm, length)
                norm = length.item()
                for group in optimizer.param_groups:
                    group["lr"] = options.learning_rate(step) * group.get("lr_scale", 1.0)
            if not math.isfinite(logged["total"] + norm):
                optimizer.zero_grad()
            optimizer.step()
            optimizer.zero_grad()
        if micro + 1 == options.accumulation or not math.isfinite(logged["total"]):
            record = {"step": step, "loss": logged.pop("total"), "lr": options.learning_rate(step), "grad_norm": norm}
            logged.pop("loss", None)  # the total again
            yield {**record, "seconds": time.perf_counter() - started, **logged}
            step, logged, started = step + 1, {}, time.perf_counter()
    if step < options.steps:
        raise UserError(f"the loader ended after {step} of {options.steps} steps; give steps x accumulation batches")


@contextmanager
def fast_cpu_attention(device: torch.device, sequence_length: int) -> Iterator[None]:
    """On CPUs denormal floats are slow, and so is the fused attention where sequences are short: avoid both.

    sequence_length: the most tokens that attend to each other.
    """
    if device.type == "cpu":
        torch.set_flush_denormal(True)
    try:
        short = device.type == "cpu" and sequence_length < FUSED_FROM
        with sdpa_kernel(SDPBackend.MATH) if short else nullcontext():
            yield
    finally:
        torch.set_flush_denormal(False)
