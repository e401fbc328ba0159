"""A toy world and a preset of the size of a thumb."""

import pytest

from lib import presets
from lib.toyworld import ToyWorldOptions, ensure_toy_world

WORLD = ToyWorldOptions(
    datasets=("kinetics400", "davis2017", "vip", "jhmdb"), kinetics_train=3, kinetics_val=2, kinetics_frames=60,
    height=96, width=128, davis_train=0, davis_val=2, davis_frames=30, small_frames=25,
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory):
    """Data of SiamMAE: to train on, and of all three tasks."""
    return ensure_toy_world(tmp_path_factory.mktemp("tiny") / "world", WORLD, workers=2)


@pytest.fixture
def tiny_preset(monkeypatch) -> presets.Schedule:
    """SiamMAE's toy preset, made tiny."""
    tiny = presets.get(
        presets.SIAMMAE, "toy", image_size=32, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2,
        batch_size=4, epochs=1, warmup_epochs=0, frame_size=96, eval_size=[32, 64], part_size=[32, 48], gap=[4, 8],
        mask_ratio=0.8,
    )  # fmt: skip
    monkeypatch.setitem(presets.SIAMMAE, "toy", tiny)
    return tiny
