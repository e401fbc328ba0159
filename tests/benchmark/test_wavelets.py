"""The benchmark of wavelet attention: every model trains in both stages, ratios are to MAE, the command line."""

import argparse
import json

import pytest
import torch

from lib import presets
from lib.benchmark import __main__ as command
from lib.benchmark import wavelets as benchmark
from lib.errors import UserError
from lib.studies.wavelets import ROWS


@pytest.fixture
def small(monkeypatch):
    sizes = {"image_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}
    monkeypatch.setitem(benchmark.CIFAR, "laptop", presets.get(benchmark.CIFAR, "laptop", **sizes))


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    return parser.parse_args(["--precision", "no", "--batch", "2", "--rounds", "2", *words])


@pytest.mark.parametrize("stage", benchmark.STAGES)
@pytest.mark.parametrize("name", benchmark.MODELS)
def test_a_step_of_each_model_changes_its_weights(small, name, stage):
    step = benchmark.training_step(name, stage, arguments())
    before = {key: value.clone() for key, value in step.model.named_parameters()}
    step()
    assert any(not torch.equal(before[key], value) for key, value in step.model.named_parameters())
    assert all(value.grad is None for value in step.model.parameters())


def test_models_are_those_of_the_study():
    rows = {row.name: row for row in ROWS}
    for name, (kind, changes) in benchmark.MODELS.items():
        assert (rows[name].model or benchmark.MAE) is kind and rows[name].changes == changes


def test_ratios_are_those_of_the_times(small, monkeypatch):
    seconds = {name: 2.0 + place for place, name in enumerate(benchmark.MODELS)}
    monkeypatch.setattr(benchmark, "best_times", lambda steps, rounds: {name: seconds[name] for name in steps})
    rows = benchmark.run(arguments())["rows"]
    assert [row["time_ratio"] for row in rows] == 2 * [value / 2 for value in seconds.values()]
    assert [row["stage"] for row in rows] == [stage for stage in benchmark.STAGES for _ in benchmark.MODELS]


def test_the_command_writes_what_it_prints(small, tmp_path, capsys):
    words = ["wavelets", "--precision", "no", "--batch", "2", "--rounds", "1", "--json", str(tmp_path / "a.json")]
    command.main(words)
    said, kept = capsys.readouterr().out, json.loads((tmp_path / "a.json").read_text())
    assert len(kept["rows"]) == 2 * len(benchmark.MODELS) and all(row["model"] in said for row in kept["rows"])


@pytest.mark.parametrize("words", [("--batch", "0"), ("--device", "abacus"), ("--rounds", "0")])
def test_impossible_arguments_are_refused(small, words):
    with pytest.raises(UserError):
        benchmark.run(arguments(*words))
