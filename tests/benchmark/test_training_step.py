"""What is timed is what is trained: the same weights after the same steps as the training loop leaves."""

from itertools import repeat

import torch
from accelerate import Accelerator
from torch import nn

from lib.benchmark.training_step import LEARNING_RATE, MANY, TrainingStep
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
