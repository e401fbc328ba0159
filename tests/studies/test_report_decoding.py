"""The report's numbers decoded: counts by real models, schedules by MAE's rule batch by batch."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from lib.models.reported_mae import reported_mae
from lib.models.wavelet_attention import WaveletAttention
from lib.presets.pictures import CIFAR
from lib.studies import report_decoding as decoding
from lib.studies.report_decoding import CosineSchedule, Shape

REPORT = pd.read_csv("figures/paper/wavelet_report.csv")
DECODED = Shape(256, 32, 1024, 6, 8, 2048, 100, 64, False, False)


def logged(table: str, model: str, quantity: str = "train_lr") -> dict[int, float]:
    rows = REPORT[(REPORT["table"] == table) & (REPORT["model"] == model) & (REPORT["quantity"] == quantity)]
    return {int(epoch): float(value) for epoch, value in zip(rows["epoch"], rows["value"], strict=True)}


@pytest.mark.parametrize("biases", [False, True])
def test_a_count_is_that_of_a_built_model(biases):
    """timm's, whose heads share the width, with biases or without."""
    shape = Shape(64, 8, 96, 3, 6, 192, 10, 16, biases, False)
    built = VisionTransformer(
        img_size=64, patch_size=8, embed_dim=96, depth=3, num_heads=6, mlp_ratio=2, num_classes=10, qkv_bias=biases
    )
    assert decoding.parameters(shape) == sum(part.numel() for part in built.parameters())


def test_the_decoded_shape_is_the_model_of_the_study():
    with torch.device("meta"):
        model = reported_mae(**CIFAR["report"].model_arguments())
    count = decoding.classifier_parameters(model, decoding.REPORTED_CLASSES)
    assert decoding.parameters(DECODED) == count == 41_116_772
    assert set(logged("fine-tuning", "MAE", "n_parameters").values()) == {count}


def test_searching_finds_it_and_only_exact_counts():
    found, tried = decoding.find(41_116_772)
    assert DECODED in found and tried > 1_000_000
    assert all(decoding.parameters(shape) == 41_116_772 for shape in found)
    assert {(shape.dim, shape.classes) for shape in found} == {(1024, 100)}


def test_the_parts_of_wavelet_attention_are_those_of_the_module():
    parts = decoding.wavelet_parts(64, 128)
    layer = WaveletAttention(64, 2, norm="batch")
    convolution = torch.nn.Conv2d(128, 128, 3, padding=1, groups=128)
    assert parts.pop("depth-wise convolution in the MLP") == sum(part.numel() for part in convolution.parameters())
    assert sum(parts.values()) == sum(part.numel() for part in layer.parameters())


def test_no_combination_of_the_parts_makes_the_reported_count():
    parts = decoding.wavelet_parts(1024, 2048)
    missing = 126_241_604 - 41_116_772
    assert decoding.common_divisor(parts) == 256 and missing % 256 == 224
    assert decoding.common_divisor({"a": 12, "b": 20}) == 4


def test_rates_are_means_over_batches():
    """Batch by batch, with a warm-up of 2 of 6 epochs of 10 batches."""
    schedule = CosineSchedule(6, 2, 16, 1e-3, 1e-6)
    peak, slow = 1e-3 * 16 / 256, []
    for epoch in range(6):
        rates = []
        for batch in range(10):
            done = epoch + batch / 10
            turn = 0.5 * (1 + math.cos(math.pi * (done - 2) / 4))
            rates.append(peak * done / 2 if done < 2 else 1e-6 + (peak - 1e-6) * turn)
        slow.append(sum(rates) / 10)
    assert decoding.logged_rate(schedule, np.arange(6), pictures=160) == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize(
    ("table", "model", "expected"),
    [
        ("pre-training", "not said", CosineSchedule(100, 40, 16, 1e-3, 0.0)),
        ("fine-tuning", "MAE", CosineSchedule(50, 5, 16, 1e-3, 1e-6)),
        ("fine-tuning", "wavelet attention", CosineSchedule(50, 5, 16, 1e-3, 1e-6)),
    ],
)
def test_the_logs_fit_one_schedule_to_the_last_digit(table, model, expected):
    (near, best), (far, _), *_ = decoding.find_schedule(logged(table, model))
    assert best == expected and near < 1e-13 and far > 1e-7
