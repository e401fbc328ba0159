"""Presets of pictures: every one makes its model and its classifier, and what cannot work is refused."""

import pytest
import torch

from lib.errors import UserError
from lib.models.classifier import Classifier
from lib.models.mae import MAE
from lib.models.wavelet_mae import WaveletMAE
from lib.presets import get
from lib.presets.pictures import CIFAR, CIFAR_FINE_TUNING


def test_every_scale_has_both_stages():
    assert list(CIFAR) == list(CIFAR_FINE_TUNING)


@pytest.mark.parametrize("name", CIFAR)
def test_each_preset_makes_its_models(name):
    settings, tuning = get(CIFAR, name), get(CIFAR_FINE_TUNING, name)
    with torch.device("meta"):
        for kind in (MAE, WaveletMAE):
            model = kind(**settings.model_arguments())
            assert model.architecture["embed_dim"] == settings.embed_dim
            assert model.grid == (1, 8, 8) and model.mask_ratio == 0.75 and not model.norm_pix
            Classifier(model, settings.embed_dim, 10, **tuning.classifier_arguments())


def test_fine_tuning_is_the_reports():
    tuning = CIFAR_FINE_TUNING["report"]
    assert (tuning.epochs, tuning.warmup_epochs, tuning.batch_size, tuning.base_lr) == (50, 5, 16, 1e-3)
    assert tuning.mixup == tuning.cutmix == 0
    for name in ("laptop", "colab", "wide"):
        assert (CIFAR_FINE_TUNING[name].epochs, CIFAR_FINE_TUNING[name].warmup_epochs) == (50, 5)
    report = CIFAR["report"]
    assert (report.epochs, report.warmup_epochs, report.batch_size, report.base_lr) == (100, 40, 16, 1e-3)


@pytest.mark.parametrize(("changes", "words"), [({"drop_path": 2.0}, "drop_path"), ({"mixup": -1.0}, "mixup")])
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        get(CIFAR_FINE_TUNING, "toy", **changes)
