import argparse
import json

import pytest
import torch
from slow_propagation import random_video, slow_propagate

from lib.benchmark import __main__ as command
from lib.benchmark import propagation as benchmark
from lib.evaluation.protocols import PROTOCOLS, get_protocol

SMALL = ["--height", "6", "--width", "9", "--channels", "8", "--queue", "3", "--radius", "3", "--top-k", "4"]


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    return parser.parse_args([*SMALL, "--rounds", "2", *words])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_usual_code_is_what_the_slow_reading_says(name, chunk):
    protocol = get_protocol(name, queue=3, radius=2, top_k=4)
    features, labels = random_video(6, (4, 5))
    slow = slow_propagate(features, labels, protocol)
    context = [0, *range(max(0 if protocol.padded_start else 1, 5 - protocol.queue), 5)]
    keys = torch.stack([benchmark._cells(features[i]) for i in context])
    values = torch.stack([slow[i].float().flatten(1).T for i in context])
    found = benchmark.usual_code(benchmark._cells(features[5]), keys, values, (4, 5), protocol, chunk)
    torch.testing.assert_close(found.T.reshape(-1, 4, 5).double(), slow[5], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_both_give_the_same_labels_and_the_ratio_is_of_their_times(name):
    result = benchmark.run(arguments("--protocol", name))
    assert result["largest_difference"] < 1e-5 and result["share_of_equal_labels"] == 1
    assert result["ratio"] == pytest.approx(result["usual_seconds_per_frame"] / result["seconds_per_frame"])
    assert result["context_frames"] == 4 and result["seconds_per_frame"] > 0


def test_a_difference_would_be_seen(monkeypatch):
    usual = benchmark.usual_code
    wider = get_protocol("crw", queue=3, radius=9, top_k=4)
    monkeypatch.setattr(benchmark, "usual_code", lambda q, k, v, grid, _, chunk: usual(q, k, v, grid, wider, chunk))
    result = benchmark.run(arguments("--protocol", "crw"))
    assert result["largest_difference"] > 0.05 and result["share_of_equal_labels"] < 1


def test_the_command_prints_and_writes_the_same_numbers(tmp_path, capsys):
    path = tmp_path / "result.json"
    assert command.main(["propagation", *SMALL, "--rounds", "1", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert f"{result['ratio']:.6g}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--chunk", "0"], ["--protocol", "crv"], ["--radius", "0"]])
def test_wrong_values_are_told_in_one_line(words, tmp_path, capsys):
    assert command.main(["propagation", *SMALL, *words, "--json", str(tmp_path / "r.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not any(tmp_path.iterdir())
