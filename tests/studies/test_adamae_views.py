"""AdaMAE on single clips: masks at any ratio, and snapshots of the sampler that leave the training as it is."""

import numpy as np
import pytest
import torch

from lib.models.adamae import AdaMAE
from lib.studies import adamae_views
from lib.studies.adamae_views import EVERY, four_masks, meetings, read_watched, view, watch
from lib.toyworld.layers import LAYERS

TINY = {
    "num_frames": 4, "image_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 2,
    "decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2, "mask_ratio": 0.75,
}  # fmt: skip


def tiny(norm_pix: bool = False) -> tuple[AdaMAE, torch.Tensor]:
    """An untrained model and a clip, of 2 x 4 x 4 cubes."""
    torch.manual_seed(0)
    return AdaMAE(**TINY, norm_pix=norm_pix), torch.randint(256, (3, 4, 16, 16), dtype=torch.uint8)


def test_a_view_is_of_the_models_ratio_or_another():
    model, video = tiny()
    for ratio, visible in ((None, 8), (0.5, 16)):
        found = view(model.eval(), video, ratio)
        assert (~found["hidden"]).sum() == visible and found["hidden"].shape == (2, 4, 4)
        assert torch.equal(found["errors"].isnan(), ~found["hidden"])
        assert found["probabilities"].sum().item() == pytest.approx(1)
        seen = (~found["hidden"]).repeat_interleave(2, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)
        torch.testing.assert_close(found["prediction"][:, seen], video[:, seen] / 255)


def test_each_masking_hides_its_share():
    masks = four_masks(*tiny(), 0.5)
    assert list(masks) == ["random", "tube", "frame", "adaptive"]
    assert {int(mask.sum()) for mask in masks.values()} == {16}
    assert torch.equal(masks["tube"][0], masks["tube"][1])
    assert masks["frame"].flatten(1).float().mean(1).sort().values.tolist() == [0, 1]


def steps(model: AdaMAE, video: torch.Tensor, first: int, last: int) -> list[float]:
    """Losses of training steps, as the training loop seeds them."""
    losses = []
    for step in range(first, last):
        torch.manual_seed(step)
        loss, _ = model({"video": video[None]})
        losses.append(loss.item())
    return losses


def test_watching_changes_nothing_and_goes_on_after_a_stop(tmp_path, monkeypatch):
    model, video = tiny()
    unwatched = steps(model.train(), video, 0, EVERY + 1)
    handle = watch(model, video, tmp_path)
    assert steps(model, video, 0, EVERY + 1) == unwatched
    handle.remove()
    model.eval()({"video": video[None]})
    found = read_watched(tmp_path / "watched.npz")
    assert list(found) == [0, EVERY] and found[0].shape == (2, 4, 4)
    assert found[0].sum() == pytest.approx(1)
    (tmp_path / "last.pt").touch()  # the last checkpoint is of a step before the second snapshot
    monkeypatch.setattr(adamae_views, "load_checkpoint", lambda _: {"step": 10})
    handle = watch(model.train(), video, tmp_path)
    steps(model, video, 10, 2 * EVERY + 1)
    handle.remove()
    assert list(read_watched(tmp_path / "watched.npz")) == [0, EVERY, 2 * EVERY]
    assert read_watched(tmp_path / "none.npz") == {}


def test_meetings_are_times_chance_where_the_region_is_there():
    cover = torch.zeros(32, len(LAYERS))
    cover[:, LAYERS.index("wall")] = 1
    cover[:8] = torch.nn.functional.one_hot(torch.tensor(LAYERS.index("puppet")), len(LAYERS)).float()
    probabilities = np.full((2, 4, 4), 0.5 / 24, np.float32)
    probabilities.flat[:8] = 0.5 / 8  # half of all draws meet a quarter of the clip
    rows = meetings({30: probabilities}, cover).to_dict("records")
    assert {row["region"] for row in rows} == {"moving objects", "plain backdrop"}  # there is no poster
    (puppet,) = [row for row in rows if row["region"] == "moving objects"]
    assert puppet["step"] == 30 and puppet["times_chance"] == pytest.approx(2)
