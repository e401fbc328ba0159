"""One loop for every system: it knows gradients, schedules and files, and nothing of models or data.

A model is called as `model(batch)` and returns (loss, logs). Batches come from `make_loader(first)`, which starts at
any micro-batch. Everything random in a step is a function of (seed, step, process), so a run that was killed resumes
with exactly the losses it would have had. Hugging Face Accelerate carries devices, processes and precision: the same
call runs on a CPU, on one GPU, and on several under `accelerate launch` or `notebook_launcher`.

Recipe: MAE (arXiv 2111.06377, appendix A.1) as SiamMAE uses it (arXiv 2305.14344, Table 4a).
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from lib.checkpoints import Record, RunFiles, read_losses
from lib.errors import UserError
from lib.runtime import progress

FUSED_FROM = 256  # tokens: below, a CPU computes plain attention and its gradient faster than the fused one


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    steps: optimizer steps. batch_size: samples per optimizer step, over all processes and accumulated micro-batches.
    base_lr: per 256 samples. warmup_steps: linear from 0, then a half cosine to 0. accumulation: micro-batches per
    step. save_every: steps between checkpoints. precision: "auto" (bf16 where the hardware has it), "bf16" or "no".
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

    def learning_rate(self, step: int) -> float:
        """Learning rate of optimizer step `step` (from 0): warm-up, then half-cosine decay (MAE appendix A.1)."""
        peak = self.base_lr * self.batch_size / 256
        if step < self.warmup_steps:
            return peak * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return peak * 0.5 * (1 + math.cos(math.pi * done))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW groups: matrices decay; biases, norms, tokens and position tables (see MAE's release) do not."""
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim <= 1 or name.split(".")[-1] in {"cls_token", "mask_token", "pos_embed"}
            (no_decay if plain else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def choose_precision(precision: str = "auto") -> str:
    """ "bf16" or "no" for "auto", by what the device computes natively; otherwise the given value, checked."""
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

    Args:
        model: returns (loss, logs) for a batch; `model.architecture` (a plain dict) guards its checkpoints. If it has
            `parameter_groups(weight_decay)`, these are AdamW's; a group's `lr_scale` multiplies its learning rate. If
            it has `sequence_length`, the most tokens that attend to each other, a CPU uses the attention that is faster
            for so many (FUSED_FROM).
        make_loader: the loader of micro-batches from number `first` on (step * accumulation); each micro-batch holds
            batch_size / accumulation samples in all, which Accelerate splits among the processes.
        options: see TrainOptions.
        out_dir: gets `losses.csv`, `tensorboard/` and the checkpoint `last.pt`. What the model logs besides its loss
            has columns of its own there.

    Raises UserError when the checkpoint there is of another architecture or other options, when the loader ends early,
    and when the loss or its gradient is not finite: then it names the step and the last good checkpoint.
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
        losses = _gradient_steps(accelerator, model, optimizer, loader, options, first)
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


def _gradient_steps(accelerator, model, optimizer, loader: Iterable, options: TrainOptions, first: int):
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
                norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()
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
