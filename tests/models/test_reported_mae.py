"""The report's models: to the parameter, and they run."""

import pytest
import torch
from small_training import DECODER, SHAPE

from lib.models.reported_mae import reported_mae
from lib.presets.pictures import CIFAR
from lib.studies.report_decoding import REPORTED_CLASSES, classifier_parameters


@pytest.mark.parametrize(("wavelets", "count"), [(False, 41_116_772), (True, 126_111_332)])
def test_the_parameters_are_the_reported_ones(wavelets, count):
    """Exactly without wavelets, 130,272 fewer than reported with them."""
    with torch.device("meta"):
        model = reported_mae(wavelets, **CIFAR["report"].model_arguments())
    assert classifier_parameters(model, REPORTED_CLASSES) == count


@pytest.mark.parametrize("wavelets", [False, True])
def test_they_train(wavelets):
    torch.manual_seed(0)
    model = reported_mae(wavelets, **SHAPE, **DECODER)
    loss, _ = model({"image": torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)})
    loss.backward()
    assert loss.isfinite() and model.encoder.pos_embed.grad.any()
    assert all(block.attn.qkv.bias is None and block.attn.head_dim == 64 for block in model.encoder.blocks)
