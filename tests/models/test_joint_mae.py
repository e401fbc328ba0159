"""SiamMAE's loss and MAE's from one pass: both by hand from the model's parts, and who sees what."""

import pytest
import torch
from small_models import P, frames, give
from small_training import DECODER, SHAPE
from torch import Tensor

from lib.errors import UserError
from lib.models.joint_mae import JointMAE
from lib.tokens.masking import random_mask
from lib.tokens.patches import normalize_images, target_patches


def tiny(**arguments) -> JointMAE:
    torch.manual_seed(0)
    model = JointMAE(**{**SHAPE, **DECODER, **arguments})
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def run(model: JointMAE, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(1)  # of the past's mask
    return model(batch)


@pytest.fixture
def scene():
    torch.manual_seed(7)
    mask = random_mask(3, 16, 0.75)
    return {"past": frames(), "future": frames()}, mask


def test_the_loss_is_the_mean_of_both_by_hand(scene):
    (batch, mask), model = scene, tiny()
    give(model, mask)
    loss, logs = run(model, batch)
    past, future = normalize_images(batch["past"]), normalize_images(batch["future"])
    torch.manual_seed(1)
    seen = random_mask(3, 16, 0.5)
    memory = model.encoder(past, seen.keep)
    predicted = {
        "siam": (model.decoder(model.encoder(future, mask.keep), mask.restore, memory), future, mask.hidden),
        "alone": (model.alone(memory, seen.restore), past, seen.hidden),
    }
    for name, (values, images, hidden) in predicted.items():
        errors = (values - target_patches(images, P, norm_pix=True)).square().mean(dim=-1)
        torch.testing.assert_close(logs[name], errors[hidden].mean())
    torch.testing.assert_close(loss, (logs["siam"] + logs["alone"]) / 2)
    torch.testing.assert_close(logs["loss"], loss.detach())


def test_the_pasts_hidden_part_is_seen_by_neither_decoder(scene):
    (batch, mask), model = scene, tiny(norm_pix=False)
    give(model, mask)
    _, logs = run(model, batch)
    torch.manual_seed(1)
    hidden = random_mask(3, 16, 0.5).hidden.unflatten(1, (4, 4)).repeat_interleave(P, 1).repeat_interleave(P, 2)
    changed = torch.where(hidden[:, None], 255 - batch["past"], batch["past"])
    _, others = run(model, {**batch, "past": changed})
    torch.testing.assert_close(others["siam"], logs["siam"])  # the future's decoder
    assert not torch.isclose(others["alone"], logs["alone"])  # whose target it is


def test_every_weight_learns(scene):
    batch, _ = scene
    model = tiny()
    model(batch)[0].backward()
    assert all(parameter.grad.any() for parameter in model.parameters() if parameter.requires_grad)


def test_pictures_of_another_size_are_refused(scene):
    batch, _ = scene
    with pytest.raises(UserError, match="24x16|16x24|24"):
        tiny()({**batch, "past": torch.zeros(3, 3, 24, 16, dtype=torch.uint8)})
