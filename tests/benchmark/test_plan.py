"""The planner: sums that a hand can check, and what it was told beside what it measured."""

import argparse
import json

import pytest
from make_jhmdb import refused

from lib import presets
from lib.benchmark import plan
from lib.benchmark.data import STORE, USUAL


@pytest.fixture
def speeds(tmp_path):
    rows = [
        {"source": USUAL, "pairs_per_cpu_second": 5.0, "disk_ratio": 1.0},
        {"source": STORE, "pairs_per_cpu_second": 200.0, "disk_ratio": 1.5},
    ]
    (tmp_path / "speeds.json").write_text(json.dumps({"rows": rows}))
    return tmp_path / "speeds.json"


def planned(speeds, *words: str) -> dict:
    parser = argparse.ArgumentParser()
    plan.add_arguments(parser)
    return plan.run(parser.parse_args(["--speeds", str(speeds), "--preset", "toy", *words]))


def test_hours_disk_and_cost_are_what_the_numbers_give(speeds):
    found = planned(speeds, "--clips", "26023", "--epochs", "3", "--gpu", "T4", "--price", "2", "--megabits", "80")
    settings = presets.get(presets.SIAMMAE, "toy", epochs=3.0)
    assert found["pairs"] == settings.steps(26023) * settings.batch_size
    rate = 0.3 * 8.1e12 / found["operations_a_pair"]
    assert found["gpu_pairs_a_second"] == pytest.approx(rate)
    assert found["gpu_hours"] == pytest.approx(found["pairs"] / rate / 3600)
    assert found["cost_usd"] == pytest.approx(2 * found["gpu_hours"]) and "assumed" not in found["price"]
    assert found["store_gb"] == pytest.approx(1.5 * found["videos_gb"])
    assert found["fetch_gb"] == pytest.approx(45, rel=1e-3)  # a tenth of both splits
    assert found["fetch_hours"] == pytest.approx(found["fetch_gb"] * 1000 / 10 / 3600)  # 80 megabits are 10 megabytes
    ratio = found["cores_to_feed_it_as_re-implementations_do"] / found["cores_to_feed_it_from_the_store"]
    assert ratio == pytest.approx(200 / 5)
    assert found["cpu_hours"] == pytest.approx(found["pairs"] / found["cpu_pairs_a_second"] / 3600)


def test_operations_are_counted_forward_and_backward_with_attention():
    """2 a weight and token forward, twice that backward; and attention's two products of all tokens with all."""
    sizes = {"encoder": "base", "image_size": 224, "patch_size": 8, "decoder_embed_dim": 32, "decoder_depth": 1}
    settings = presets.get(presets.SIAMMAE, "toy", **sizes)
    patches = (settings.image_size // settings.patch_size) ** 2
    past, seen = 1 + patches, 1 + round(patches * (1 - settings.mask_ratio))
    weights, attention = 12 * 12 * 768**2 * (past + seen), 12 * 2 * 768 * (past**2 + seen**2)
    assert attention > 0.15 * weights
    assert plan.operations_of(settings, pairs=1) == pytest.approx(6 * (weights + attention), rel=0.03)


def test_what_is_asked_wrongly_is_told(speeds, tmp_path):
    refused(lambda: planned(speeds, "--utilization", "0"), "--utilization must be above 0")
    refused(lambda: planned(speeds, "--clips", "0"), "--clips must be 1 or more")
    refused(lambda: planned(tmp_path / "no.json"), "no such table of speeds")
