"""The loop: schedule, steps, exact resume, checkpoints that survive and are trusted with nothing, processes."""

import copy
import csv
import errno
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import small_training
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_training import SETTINGS, Line, Points
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import make
from lib import checkpoints, training
from lib.checkpoints import load_checkpoint, load_weights, read_losses
from lib.errors import UserError
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.training import StepBatches, TrainOptions, choose_precision, fit, make_loader, parameter_groups, train

ROOT = make.ROOT
OPTIONS = TrainOptions(steps=4, batch_size=8, base_lr=0.5, warmup_steps=2, save_every=2, precision="no")
CURVE = ("step", "loss", "lr", "grad_norm")


def not_a_number(weight):
    return weight.sum() * math.nan


def steep(weight):
    """Zero with an infinite slope: the loss is finite, its gradient is not."""
    return (weight * 0).abs().sqrt().sum()


def loader_of(options: TrainOptions, bad_micro_batch: int | None = None, extra: int = 0):
    """make_loader over fixed random numbers; a bad micro-batch holds a 99."""
    size = options.batch_size // options.accumulation
    count = options.steps * options.batch_size + extra * size
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(count, 5, generator=generator).split([3, 2], dim=1)
    if bad_micro_batch is not None:
        x[bad_micro_batch * size] = 99
    data = TensorDataset(x, y)
    return lambda first: DataLoader(Subset(data, range(first * size, count)), batch_size=size)


def curve(records) -> list[tuple]:
    """The loss curve without its times."""
    return [tuple(record[name] for name in CURVE) for record in records]


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def stop_after(options: TrainOptions, step: int):
    """A loader that raises, as an interrupt would, when the micro-batch after `step` steps is asked for."""

    def make(first: int):
        class Interrupted(torch.utils.data.Dataset):
            whole = loader_of(options)(0).dataset.dataset

            def __getitem__(self, number):
                if number >= step * options.batch_size:
                    raise KeyboardInterrupt
                return self.whole[number]

        size = options.batch_size // options.accumulation
        return DataLoader(Subset(Interrupted(), range(first * size, options.steps * options.batch_size)), size)

    return make


# --- schedule and groups ------------------------------------------------------------------------------------


def test_learning_rate_by_hand():
    options = TrainOptions(steps=14, batch_size=2048, base_lr=1.5e-4, warmup_steps=4)
    peak = 1.2e-3  # 1.5e-4 * 2048 / 256
    rates = [options.learning_rate(step) for step in range(15)]
    assert rates[:5] == pytest.approx([peak / 4, peak / 2, 3 * peak / 4, peak, peak])
    assert rates[9] == pytest.approx(peak / 2)  # half of the ten steps after the warm-up
    assert rates[5] == pytest.approx(peak * (1 + math.cos(math.pi / 10)) / 2)
    assert rates[14] == pytest.approx(0) and rates[13] > 0
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_learning_rate_grows_with_the_batch_and_needs_no_warmup():
    assert TrainOptions(steps=10, batch_size=256, base_lr=0.3).learning_rate(0) == 0.3
    assert TrainOptions(steps=10, batch_size=64, base_lr=0.4).learning_rate(0) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [MAE, SiamMAE])
def test_only_matrices_decay(kind):
    model = kind(**small_training.SHAPE, **small_training.DECODER)
    decay, plain = parameter_groups(model, 0.05)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in (decay, plain))
    assert decay["weight_decay"] == 0.05 and plain["weight_decay"] == 0
    assert decayed | kept == set(names.values()) and not decayed & kept
    assert {"encoder.cls_token", "decoder.mask_token", "encoder.blocks.0.norm1.weight"} <= kept
    assert all(name.endswith(".weight") and "norm" not in name for name in decayed)
    assert {"encoder.patch_embed.proj.weight", "encoder.blocks.0.attn.qkv.weight", "decoder.head.weight"} <= decayed
    assert all(name.endswith((".bias", "_token")) or "norm" in name for name in kept)


def test_frozen_parameters_are_in_no_group():
    model = Line()
    model.layer.bias.requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(model, 0.1)] == [1, 0]


# --- the steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_loop_equals_a_plain_one(tmp_path, clip_norm):
    options = replace(OPTIONS, weight_decay=0.3, clip_norm=clip_norm)
    model, plain = Line(), Line()
    records = train(model, loader_of(options), options, tmp_path)

    groups = [{"params": [plain.layer.weight], "weight_decay": 0.3}, {"params": [plain.layer.bias], "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for step, batch in enumerate(loader_of(options)(0)):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate(step)
        optimizer.zero_grad()
        loss, _ = plain(batch)
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in plain.parameters()))
        for parameter in plain.parameters():
            parameter.grad *= min(1, (clip_norm or math.inf) / norm)
        optimizer.step()
        assert records[step]["step"] == step and records[step]["lr"] == options.learning_rate(step)
        assert records[step]["loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert records[step]["grad_norm"] == pytest.approx(norm, rel=1e-6)
    assert len(records) == 4
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_two_micro_batches_of_half_are_one_batch(tmp_path, clip_norm):
    once = replace(OPTIONS, clip_norm=clip_norm)
    halves = replace(once, accumulation=2)
    first, second = Line(), Line()
    whole = train(first, loader_of(once), once, tmp_path / "whole")
    split = train(second, loader_of(halves), halves, tmp_path / "halves")
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=1e-6)
    for one, two in zip(curve(whole), curve(split), strict=True):
        assert two == pytest.approx(one, rel=1e-5)


def test_a_loader_that_goes_on_is_left_at_the_last_step(tmp_path):
    whole, longer = Line(), Line()
    train(whole, loader_of(OPTIONS), OPTIONS, tmp_path / "whole")
    assert len(train(longer, loader_of(OPTIONS, extra=3), OPTIONS, tmp_path / "longer")) == 4
    assert same_weights(whole, longer)


@pytest.mark.parametrize("missing", [-1, -2])  # within a step, and between steps
def test_a_loader_that_ends_early_is_an_error(tmp_path, missing):
    options = replace(OPTIONS, accumulation=2)
    with pytest.raises(UserError, match=f"ended after {4 + missing // 2} of 4 steps"):
        train(Line(), loader_of(options, extra=missing), options, tmp_path)


def test_step_seeds_repeat_only_with_their_step():
    draws = set()
    combinations = [
        (0, step, micro, process) for step in (0, 1, 2**14, 2**20) for micro in (0, 1) for process in (0, 1)
    ]
    for combination in [*combinations, (1, 0, 0, 0), (2**31, 0, 0, 0), (-1, 0, 0, 0)]:
        torch.manual_seed(training.step_seed(*combination))
        draws.add(tuple(torch.rand(4).tolist()))
        torch.manual_seed(training.step_seed(*combination))
        assert tuple(torch.rand(4).tolist()) in draws
    assert len(draws) == len(combinations) + 3


@pytest.mark.parametrize("seed", [2**40, -1])
def test_any_integer_is_a_seed(tmp_path, seed):
    options = replace(small_training.OPTIONS, steps=1, seed=abs(seed))
    other = replace(options, seed=seed)  # the loader's numbers stay those of the positive seed
    assert train(small_training.build(), small_training.make_loader(options), other, tmp_path)


# --- resume -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_and_two_steps_are_four(tmp_path, accumulation):
    options = replace(small_training.OPTIONS, steps=4, save_every=2, accumulation=accumulation)
    unbroken, stopped, resumed = (small_training.build() for _ in range(3))
    whole = train(unbroken, small_training.make_loader(options), options, tmp_path / "whole")
    calls = 0

    def forward(batch, original=stopped.forward):
        nonlocal calls
        calls += 1
        if calls > 3 * accumulation:  # after the checkpoint of step 2 and one step more
            raise KeyboardInterrupt
        return original(batch)

    stopped.forward = forward
    with pytest.raises(KeyboardInterrupt):
        train(stopped, small_training.make_loader(options), options, tmp_path / "broken")
    assert len(read_losses(tmp_path / "broken")) == 3
    torch.rand(17)  # resuming must not lean on the state in which the generator happens to be
    parts = train(resumed, small_training.make_loader(options), options, tmp_path / "broken")
    assert curve(parts) == curve(whole)
    assert same_weights(resumed, unbroken)


def test_a_finished_run_is_left_as_it_is(tmp_path):
    model, again = Line(), Line()
    records = train(model, loader_of(OPTIONS), OPTIONS, tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    assert train(again, loader_of(OPTIONS), OPTIONS, tmp_path) == records
    assert same_weights(model, again) and (tmp_path / "last.pt").read_bytes() == before


def test_the_curve_is_on_disk_while_a_resumed_run_does_its_first_step(tmp_path):
    train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path)
    files = checkpoints.RunFiles(tmp_path, {"inputs": 3, "outputs": 2}, OPTIONS, is_main=True)
    model = Line()
    files.restore(model, torch.optim.AdamW(parameter_groups(model, 0.05)))
    with files:
        assert len(read_losses(tmp_path)) == 4


def test_a_torn_last_line_is_no_record(tmp_path):
    rows = "step,loss,lr,grad_norm,seconds\r\n0,0.5,0.1,2.0,1.25\r\n1,0.25,0.1,1.0,5.5e-05\r\n"
    path = tmp_path / "losses.csv"
    whole = {"step": 1, "loss": 0.25, "lr": 0.1, "grad_norm": 1.0, "seconds": 5.5e-05}
    for length in range(len(rows) + 1):
        path.write_bytes(rows[:length].encode())
        lines = rows[:length].count("\r") - 1
        assert len(read_losses(tmp_path)) == max(0, lines), rows[:length]
    assert read_losses(tmp_path)[1] == whole
    assert read_losses(tmp_path / "nowhere") == []


def test_resuming_after_a_torn_line_gives_the_whole_curve(tmp_path):
    whole = train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(Line(), stop_after(OPTIONS, 3), OPTIONS, tmp_path / "torn")
    with (tmp_path / "torn" / "losses.csv").open("a") as file:
        file.write("3,0.7,1e-")
    assert curve(train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path / "torn")) == curve(whole)


def finished_in_process(out_dir: Path, **arguments) -> tuple[list, dict]:
    """The rows of the written curve without times, and the weights, of an unbroken run here."""
    small_training.run(out_dir, **arguments)
    return written(out_dir)


def written(out_dir: Path) -> tuple[list, dict]:
    with (out_dir / "losses.csv").open(newline="") as file:
        rows = [[row[name] for name in CURVE] for row in csv.DictReader(file)]
    return rows, load_checkpoint(out_dir / "last.pt")["model"]


def start(out_dir: Path, *arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [sys.executable, *launcher, str(ROOT / "tests" / "small_training.py"), str(out_dir), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_end(tmp_path):
    rows, weights = finished_in_process(tmp_path / "whole")
    broken = tmp_path / "broken"
    process = start(broken, "--delay", "0.05")
    deadline = time.monotonic() + 60
    while len(read_losses(broken)) < 10:  # past the checkpoints of steps 4 and 8
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 8 <= load_checkpoint(broken / "last.pt")["step"] < 20

    process = start(broken)
    _, problem = process.communicate(timeout=120)
    assert process.returncode == 0, problem
    again, state = written(broken)
    assert again == rows and len(rows) == 20
    assert state.keys() == weights.keys() and all(torch.equal(state[name], weights[name]) for name in weights)


# --- several processes, precision ---------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    rows, weights = finished_in_process(tmp_path / "one", same_mask=True)
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
    launcher += ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")
    process = start(tmp_path / "two", "--same-mask", launcher=launcher)
    _, problem = process.communicate(timeout=120)
    assert process.returncode == 0, problem
    again, state = written(tmp_path / "two")
    assert len(again) == len(rows) == 20  # one process writes
    for one, two in zip(rows, again, strict=True):
        assert [float(value) for value in two] == pytest.approx([float(value) for value in one], rel=1e-4)
    torch.testing.assert_close(state, weights, rtol=1e-4, atol=1e-4)


def test_precision_is_chosen_or_checked(monkeypatch):
    for name in ("no", "bf16"):
        monkeypatch.setenv("SIAMMAE_PRECISION", name)
        assert choose_precision() == name and choose_precision("bf16") == "bf16"
    monkeypatch.delenv("SIAMMAE_PRECISION")
    assert choose_precision("bf16") == "bf16" and choose_precision("no") == "no"
    assert choose_precision() in {"bf16", "no"}
    with pytest.raises(UserError, match="^precision 'fp8' is unknown: choose auto, bf16 or no$"):
        choose_precision("fp8")


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "no"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_precision_follows_the_gpu(monkeypatch, capability, precision):
    monkeypatch.delenv("SIAMMAE_PRECISION", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert choose_precision("auto") == precision


def test_bf16_is_close_to_fp32_in_one_process_with_it_and_leaves_the_model_alone(tmp_path):
    losses = {}
    for precision in ("no", "bf16", "no"):
        options = replace(small_training.OPTIONS, steps=1, precision=precision)
        model = small_training.build()
        forward = model.forward
        (record,) = train(model, small_training.make_loader(options), options, tmp_path / precision)
        losses[precision] = record["loss"]
        assert model.forward == forward and same_weights(copy.deepcopy(model), model)
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert losses["bf16"] != losses["no"]  # it was bf16
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.02)


# --- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [not_a_number, steep])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(tmp_path, trouble):
    model = Line(trouble)
    with pytest.raises(UserError, match=r"^(loss|grad_norm) is nan at step 3: .*last\.pt \(after step 2\)$"):
        train(model, loader_of(OPTIONS, bad_micro_batch=3), OPTIONS, tmp_path)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert [record["step"] for record in read_losses(tmp_path)] == [0, 1, 2]
    good = load_weights(Line(), tmp_path / "last.pt")
    assert all(parameter.isfinite().all() for parameter in good.parameters())
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 2
    # With the cause removed it goes on from there.
    train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path / "whole")
    train(model, loader_of(OPTIONS), OPTIONS, tmp_path)
    assert same_weights(model, load_weights(Line(), tmp_path / "whole" / "last.pt"))


def test_a_bad_gradient_is_never_saved(tmp_path):
    options = replace(OPTIONS, save_every=1)
    with pytest.raises(UserError, match="at step 1: .*after step 1"):
        train(Line(steep), loader_of(options, bad_micro_batch=1), options, tmp_path)
    assert load_weights(Line(), tmp_path / "last.pt").layer.weight.isfinite().all()


@pytest.mark.parametrize("micro_batch", [0, 1])
def test_the_very_first_step_may_be_the_bad_one(tmp_path, micro_batch):
    options = replace(OPTIONS, accumulation=2)
    model = Line(not_a_number)
    with pytest.raises(UserError, match="at step 0: .*last good checkpoint: none was saved"):
        train(model, loader_of(options, bad_micro_batch=micro_batch), options, tmp_path)
    assert same_weights(model, Line()) and not (tmp_path / "last.pt").exists()
    other = Line()
    train(other, loader_of(options), options, tmp_path / "whole")
    train(model, loader_of(options), options, tmp_path)  # nothing of the bad step is left in the model
    assert same_weights(model, other)


def test_small_numbers_are_kept_again_after_a_run_that_failed(tmp_path):
    with pytest.raises(UserError):
        train(Line(not_a_number), loader_of(OPTIONS, bad_micro_batch=0), OPTIONS, tmp_path)
    assert (torch.tensor(1e-40) * 1).item() > 0


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


BAD_FILES = {
    "empty": lambda path, good: path.write_bytes(b""),
    "garbage": lambda path, good: path.write_bytes(os.urandom(2000)),
    "cut": lambda path, good: path.write_bytes(good[: len(good) // 2]),
    "code": lambda path, good: path.write_bytes(pickle.dumps(Evil(path.parent / "ran"), protocol=2)),
    "code inside": lambda path, good: torch.save({"model": {}, "step": Evil(path.parent / "ran")}, path),
    "a list": lambda path, good: torch.save([1, 2], path),
    "weights alone": lambda path, good: torch.save(Line().state_dict(), path),
    "no dict": lambda path, good: torch.save({"model": 1, "architecture": 2, "step": 3}, path),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(tmp_path, fault):
    train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path)
    path = tmp_path / "last.pt"
    BAD_FILES[fault](path, path.read_bytes())
    bad = path.read_bytes()
    for attempt in (lambda: train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path), lambda: load_weights(Line(), path)):
        with pytest.raises(UserError, match=r"last\.pt is no [^\n]+$"):
            attempt()
    assert path.read_bytes() == bad and not (tmp_path / "ran").exists()
    assert len(read_losses(tmp_path)) == 4


def test_evil_is_evil(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_a_published_checkpoint_without_optimizer_loads_but_does_not_resume(tmp_path):
    model = Line()
    train(model, loader_of(OPTIONS), OPTIONS, tmp_path)
    path = tmp_path / "last.pt"
    state = load_checkpoint(path)
    torch.save({name: state[name] for name in ("model", "architecture", "step")}, path)
    assert same_weights(load_weights(Line(), path), model)
    with pytest.raises(UserError, match="last.pt holds weights alone"):
        train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path)


def test_another_architecture_is_refused_with_what_differs(tmp_path):
    train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path)
    other = Line(architecture={"inputs": 3, "outputs": 5, "depth": 1})
    message = r"last\.pt holds another architecture \(depth None instead of 1, outputs 2 instead of 5\)"
    with pytest.raises(UserError, match=message):
        load_weights(other, tmp_path / "last.pt")
    with pytest.raises(UserError, match=message):
        train(other, loader_of(OPTIONS), OPTIONS, tmp_path)


def test_another_model_of_the_same_numbers_is_refused_too(tmp_path):
    options = replace(small_training.OPTIONS, steps=1)
    train(small_training.build(), small_training.make_loader(options), options, tmp_path)
    other = MAE(**small_training.SHAPE, **small_training.DECODER)
    other.architecture = dict(small_training.build().architecture)
    with pytest.raises(UserError, match=r"last\.pt holds another architecture \(.*decoder\.blocks\.0\.[^\n]+$"):
        load_weights(other, tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("steps", 8, "steps=4, not 8"), ("base_lr", 0.1, "base_lr=0.5, not 0.1"), ("seed", 1, "seed=0, not 1"),
     ("betas", (0.9, 0.99), r"betas=\[0.9, 0.95\], not \[0.9, 0.99\]"), ("batch_size", 4, "batch_size=8, not 4")],
)  # fmt: skip
def test_other_options_are_refused(tmp_path, name, value, words):
    train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path)
    other = replace(OPTIONS, **{name: value})
    with pytest.raises(UserError, match=rf"last\.pt was trained with {words}: use another out_dir, or delete it"):
        train(Line(), loader_of(other), other, tmp_path)
    train(Line(), loader_of(OPTIONS), replace(OPTIONS, save_every=3), tmp_path)  # how often it is saved is free


def test_a_missing_checkpoint_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="nothing.pt does not exist"):
        load_weights(Line(), tmp_path / "nothing.pt")


def test_a_full_disk_costs_no_checkpoint(tmp_path, monkeypatch):
    unbroken = Line()
    train(unbroken, loader_of(OPTIONS), OPTIONS, tmp_path / "whole")
    broken, save, calls = tmp_path / "broken", torch.save, []

    def full(state, path):
        calls.append(path)
        save(state, path)
        if len(calls) == 2:
            with open(path, "r+b") as file:
                file.truncate(path.stat().st_size // 2)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="no space left"):
        train(Line(), loader_of(OPTIONS), OPTIONS, broken)
    assert sorted(path.name for path in broken.iterdir()) == ["last.pt", "losses.csv", "tensorboard"]
    assert load_checkpoint(broken / "last.pt")["step"] == 2
    resumed = Line()
    train(resumed, loader_of(OPTIONS), OPTIONS, broken)
    assert same_weights(resumed, unbroken)


def test_tensorboard_gets_the_curve(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = train(Line(), loader_of(OPTIONS), OPTIONS, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([r["loss"] for r in records])


class Talker(Line):
    """A line that logs two numbers of its own."""

    def forward(self, batch):
        loss, logs = super().forward(batch)
        return loss, logs | {"entropy": batch[0].mean().detach(), "weight": self.layer.weight.mean().detach()}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_what_a_model_logs_has_columns_of_its_own_and_survives_a_kill(tmp_path, accumulation):
    options = replace(OPTIONS, accumulation=accumulation)
    loader = loader_of(options)
    whole = train(Talker(), loader, options, tmp_path / "whole")
    for record, x in zip(whole, loader_of(OPTIONS)(0), strict=True):  # means over the micro-batches of a step
        assert record["entropy"] == pytest.approx(x[0].mean().item(), abs=1e-6)
    assert list(whole[0]) == [*CURVE, "seconds", "entropy", "weight"]

    broken = loader_of(options, bad_micro_batch=3 * accumulation)
    with pytest.raises(UserError, match="step 3"):
        train(Talker(trouble=not_a_number), broken, options, tmp_path / "part")
    resumed = train(Talker(), loader, options, tmp_path / "part")
    names = [*CURVE, "entropy", "weight"]
    assert [[r[n] for n in names] for r in resumed] == [[r[n] for n in names] for r in whole]


# --- fit: load, resume or train -----------------------------------------------------------------------------


def stopping_at(step: int) -> Points:
    """Points whose loader is interrupted in this step."""
    (batch,) = list(StepBatches(8, 4, step + 1))[step:]
    return Points(stop=batch[0])


def test_fit_trains_resumes_and_loads(tmp_path):
    whole, model = Points(), Line()
    curve_of_one = fit(model, whole, SETTINGS, tmp_path / "one")
    assert len(curve_of_one) == SETTINGS.steps(8) == 6 and not model.training
    with pytest.raises(KeyboardInterrupt):
        fit(Line(), stopping_at(5), SETTINGS, tmp_path / "two")
    resumed, rest = Line(), Points()
    assert curve(fit(resumed, rest, SETTINGS, tmp_path / "two")) == curve(curve_of_one)
    assert same_weights(resumed, model) and rest.read == whole.read[16:]  # from the last checkpoint on
    loaded, untouched = Line(), Points()
    assert fit(loaded, untouched, SETTINGS, tmp_path / "two") == read_losses(tmp_path / "two")
    assert same_weights(loaded, model) and not untouched.read


def test_fit_does_what_train_does(tmp_path):
    options = TrainOptions(6, 4, 0.5, warmup_steps=2, save_every=2, data="points")
    loader = lambda first: make_loader(Points(), SETTINGS, 0, None, first)  # noqa: E731
    expected, model, other = curve(train(Line(), loader, options, tmp_path / "train")), Line(), Line()
    assert curve(fit(model, Points(), SETTINGS, tmp_path / "fit")) == expected
    assert same_weights(model, load_weights(other, tmp_path / "train" / "last.pt"))


@pytest.mark.parametrize(
    ("data", "settings", "seed", "words"),
    [
        (Points("others"), SETTINGS, 0, "data=points, not others"),
        (Points(), replace(SETTINGS, base_lr=0.1), 0, "base_lr=0.5, not 0.1"),
        (Points(), SETTINGS, 1, "seed=0, not 1"),
    ],
)
def test_fit_mixes_no_two_runs(tmp_path, data, settings, seed, words):
    fit(Line(), Points(), SETTINGS, tmp_path)
    with pytest.raises(UserError, match=words):
        fit(Line(), data, settings, tmp_path, seed=seed)


# --- the order of a run's samples ---------------------------------------------------------------------------


@given(num_clips=st.integers(1, 30), batch=st.integers(1, 40), start=st.integers(0, 20), seed=st.integers(0, 9))
def test_batches_are_a_function_of_the_step(num_clips, batch, start, seed):
    whole = list(StepBatches(num_clips, batch, steps=20, seed=seed))
    resumed = StepBatches(num_clips, batch, steps=20, seed=seed, start_step=start)
    assert list(resumed) == whole[start:] and len(resumed) == 20 - start
    indices = [index for step in whole for index in step]
    assert all(len(step) == batch for step in whole) and len(set(indices)) == len(indices)
    for epoch in range(len(indices) // num_clips):
        seen = indices[epoch * num_clips : (epoch + 1) * num_clips]
        assert sorted(seen) == list(range(epoch * num_clips, (epoch + 1) * num_clips))


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = (list(StepBatches(50, 50, steps=2, seed=seed)) for seed in (0, 1))
    orders = [tuple(index % 50 for index in step) for step in first + second]
    assert len(set(orders)) == 4 and tuple(range(50)) not in orders


def test_accelerate_can_split_the_batches_among_processes():
    from accelerate.data_loader import BatchSamplerShard

    whole = list(StepBatches(10, 4, steps=6))
    parts = [list(BatchSamplerShard(StepBatches(10, 4, steps=6), 2, rank)) for rank in (0, 1)]
    assert [batch for both in zip(*parts, strict=True) for batch in both] == whole
