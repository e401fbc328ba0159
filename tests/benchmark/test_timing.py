"""What is timed is what is trained, in turns; memory and conditions are this machine's."""

import time
from itertools import repeat

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from lib.benchmark import timing
from lib.benchmark.timing import LEARNING_RATE, MANY, TrainingStep
from lib.training import TrainOptions, gradient_steps, parameter_groups


class Line(nn.Module):
    """A loss that draws, so that seeds of the steps count."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)

    def forward(self, batch):
        noise = torch.rand(3)
        loss = (self.linear(batch["x"]) - noise).square().mean()
        return loss, {"loss": loss.detach()}


def test_steps_are_those_of_the_training_loop():
    batch = {"x": torch.ones(4, 3)}
    step = TrainingStep(Line(), batch, "cpu", "no")
    for _ in range(3):
        step()
    model = Line()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), betas=(0.9, 0.95))
    options = TrainOptions(MANY, 4, LEARNING_RATE * 256 / 4, precision="no")
    records = [
        record
        for record, _ in zip(
            gradient_steps(Accelerator(cpu=True), model, optimizer, repeat(batch), options), range(3), strict=False
        )
    ]
    assert [record["lr"] for record in records] == [LEARNING_RATE] * 3
    for ours, theirs in zip(step.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.equal(step.model.linear.weight, Line().linear.weight)


def test_no_gradient_is_left_and_the_state_counts_the_steps():
    step = TrainingStep(Line(), {"x": torch.ones(4, 3)}, "cpu", "no")
    for _ in range(2):
        step()
    assert all(parameter.grad is None for parameter in step.model.parameters())
    assert {int(state["step"]) for state in step.optimizer.state.values()} == {2}


def test_alternatives_take_turns_and_the_best_counts():
    order = []
    naps = {"a": iter([0.03, 0.001]), "b": iter([0.01, 0.02])}

    def alternative(name):
        def run():
            order.append(name)
            time.sleep(next(naps[name]))

        return run

    times = timing.best_times({name: alternative(name) for name in naps}, rounds=2)
    assert order == ["a", "b", "a", "b"]
    assert 0.001 <= times["a"] < 0.03 and times["b"] >= 0.01


def test_peak_memory_grows_with_what_is_held():
    before = timing.peak_memory_mb()
    held = np.ones(2**20 * 100, np.uint8)  # touched, so it is really there
    after = timing.peak_memory_mb()
    assert held[-1] == 1 and after >= before
    assert 100 <= after < 100_000  # a wrong unit is a factor of 1024


def test_conditions_name_the_machine():
    found = timing.conditions()
    assert found["hardware"] and found["torch_threads"] == 1
