"""The benchmark of heads: every model trains, ratios are to plain SiamMAE, the command line."""

import argparse
import json

import pytest
import torch

from lib import presets
from lib.benchmark import __main__ as command
from lib.benchmark import uncertainty as benchmark
from lib.errors import UserError
from lib.presets import frame_pairs


@pytest.fixture
def small(monkeypatch):
    sizes = {"image_size": 16, "patch_size": 8, "decoder_embed_dim": 16, "decoder_depth": 1, "mask_ratio": 0.5}
    monkeypatch.setitem(presets.SIAMMAE, "toy", presets.get(presets.SIAMMAE, "toy", **sizes))
    monkeypatch.setitem(frame_pairs.VIT_SIZES, "micro", {"embed_dim": 16, "depth": 1, "num_heads": 2})


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    return parser.parse_args(["--precision", "no", "--batch", "2", "--rounds", "2", *words])


@pytest.mark.parametrize("name", benchmark.MODELS)
def test_a_step_of_each_model_changes_its_weights(small, name):
    step = benchmark.training_step(name, arguments())
    before = {key: value.clone() for key, value in step.model.named_parameters()}
    step()
    assert type(step.model) is benchmark.MODELS[name][0]
    assert any(not torch.equal(before[key], value) for key, value in step.model.named_parameters())
    assert all(value.grad is None for value in step.model.parameters())


def test_ratios_are_those_of_the_times(small, monkeypatch):
    seconds = {name: 2.0 + place for place, name in enumerate(benchmark.MODELS)}
    monkeypatch.setattr(benchmark, "best_times", lambda steps, rounds: {name: seconds[name] for name in steps})
    result = benchmark.run(arguments())
    assert [row["time_ratio"] for row in result["rows"]] == [value / 2 for value in seconds.values()]
    assert result["rows"][0]["model"] == benchmark.PLAIN and result["batch"] == 2 and result["torch_threads"] == 1


def test_the_command_writes_what_it_prints(small, tmp_path, capsys):
    words = ["uncertainty", "--precision", "no", "--batch", "2", "--rounds", "1", "--json", str(tmp_path / "a.json")]
    command.main(words)
    said, kept = capsys.readouterr().out, json.loads((tmp_path / "a.json").read_text())
    assert len(kept["rows"]) == len(benchmark.MODELS) and all(row["model"] in said for row in kept["rows"])


@pytest.mark.parametrize("words", [("--batch", "0"), ("--device", "abacus"), ("--rounds", "0")])
def test_impossible_arguments_are_refused(small, words):
    with pytest.raises(UserError):
        benchmark.run(arguments(*words))
