"""Presets of the video systems: the paper's values, and models that can be built."""

import pytest

from lib.models.adamae import AdaMAE
from lib.presets import ADAMAE, FINE_TUNING


def test_the_paper_preset_is_tables_4_and_5():
    paper = ADAMAE["paper"]
    assert (paper.num_frames, paper.tubelet_size, paper.patch_size, paper.image_size) == (16, 2, 16, 224)
    assert (paper.embed_dim, paper.depth, paper.decoder_embed_dim, paper.decoder_depth) == (768, 12, 384, 4)
    assert (paper.base_lr, paper.weight_decay, paper.warmup_epochs, paper.epochs) == (1.5e-4, 0.05, 40, 800)
    assert (paper.mask_ratio, paper.sampling_weight, paper.norm_pix, paper.batch_size) == (0.95, 1e-4, True, 256)


def test_the_fine_tuning_presets_are_table_6():
    for name, rate, epochs in (("ssv2", 1.5e-4, 50), ("paper", 1e-3, 100)):
        preset = FINE_TUNING[name]
        assert (preset.base_lr, preset.epochs, preset.warmup_epochs, preset.batch_size) == (rate, epochs, 40, 256)
        table = {"layer_decay": 0.75, "label_smoothing": 0.1, "mixup": 0.8, "cutmix": 1.0, "drop_path": 0.1}
        assert {key: getattr(preset, key) for key in table} == table and preset.betas == (0.9, 0.999)


@pytest.mark.parametrize("name", ["toy", "laptop", "colab"])  # the others have a hundred million parameters
def test_the_small_presets_build_a_model(name):
    preset = ADAMAE[name]
    model = AdaMAE(**preset.architecture(), **preset.sampler())
    assert model.num_cubes == preset.num_frames // 2 * (preset.image_size // preset.patch_size) ** 2
