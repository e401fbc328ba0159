"""Presets of the video systems: the paper's values, whole schedules, and settings that cannot work."""

import pytest

import make
from lib.errors import UserError
from lib.models.adamae import AdaMAE
from lib.presets.frame_pairs import get_preset
from lib.presets.video import VIDEO_PRESETS, compare_video_presets, get_video_preset


def test_the_paper_preset_is_tables_4_and_5():
    paper = get_video_preset("paper")
    assert (paper.num_frames, paper.tubelet_size, paper.patch_size, paper.image_size) == (16, 2, 16, 224)
    assert (paper.embed_dim, paper.depth, paper.decoder_embed_dim, paper.decoder_depth) == (768, 12, 384, 4)
    assert (paper.base_lr, paper.weight_decay, paper.warmup_epochs, paper.epochs) == (1.5e-4, 0.05, 40, 800)
    assert (paper.mask_ratio, paper.sampling_weight, paper.norm_pix, paper.batch_size) == (0.95, 1e-4, True, 256)
    assert paper.steps(168_913) == round(800 * 168_913 / 256)
    assert paper.warmup_steps(168_913) == round(paper.steps(168_913) / 20)


@pytest.mark.parametrize("name", ["toy", "laptop"])
def test_small_presets_build_a_model_and_short_runs_have_short_warm_ups(name):
    preset = get_video_preset(name)
    model = AdaMAE(**preset.architecture())
    assert model.num_cubes == 8 * (preset.image_size // 8) ** 2
    short = get_video_preset(name, epochs=1)
    assert short.steps(1) == 1 and short.warmup_steps(160) <= short.steps(160) / 10 + 1


def test_overrides_and_what_cannot_work():
    assert get_video_preset("toy", epochs=3, base_lr=None, crop_area=[0.3, 1]).crop_area == (0.3, 1)
    with pytest.raises(UserError, match="toy"):
        get_video_preset("toi")
    with pytest.raises(UserError, match="mask_ratio"):
        get_video_preset("toy", mask_ration=0.9)
    with pytest.raises(UserError, match="batch_size is 0: it must be above 0"):
        get_video_preset("toy", batch_size=0)
    rows = compare_video_presets(*VIDEO_PRESETS)
    assert {"setting": "stride", "toy": 2, "laptop": 4, "colab": 4, "light": 4, "paper": 4} in rows


@pytest.mark.parametrize("name", ["toy", "laptop", "colab", "paper"])
def test_every_preset_of_the_demo_exists_for_frames_and_for_videos(name):
    assert name in make.OPTIONS["preset"][1]
    assert get_preset(name).epochs > 0
    assert AdaMAE(**get_video_preset(name).architecture(), **get_video_preset(name).sampler()).num_cubes > 0
    given = [make.parameters(path)["preset"] for path in make.notebooks()]
    assert given == ["toy"] * len(given)  # each notebook takes one, of its own default
