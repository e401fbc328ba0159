"""Committed weights: they stand for just their run, and what is damaged or foreign is refused."""

from dataclasses import replace

import pytest
import torch
from small_training import DECODER, OPTIONS, SETTINGS, SHAPE, Line, Points, make_loader
from torch import nn

from lib.checkpoints import load_checkpoint, read_losses
from lib.errors import UserError
from lib.models.pretrained import load_encoder
from lib.models.siammae import SiamMAE
from lib.studies import shipped
from lib.studies.shipped import load_or_fit, load_shipped, ship
from lib.training import TrainOptions, fit, train


def test_shipped_weights_stand_for_just_their_run(tmp_path):
    model, path = Line(), tmp_path / "line.safetensors"
    losses = fit(model, Points(), SETTINGS, tmp_path / "run")
    assert shipped.main([str(tmp_path / "run"), str(path), "--command", "some command"]) == 0
    loaded, untouched = Line(), Points()
    assert load_or_fit(path, loaded, untouched, SETTINGS, tmp_path / "new") == losses
    assert not untouched.read and not loaded.training and not (tmp_path / "new").exists()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].half().float())
    others = {
        "seed": {"seed": 1},
        "data": {"data": Points("others")},
        "settings": {"settings": replace(SETTINGS, epochs=1)},
        "architecture": {"model": Line(architecture={"inputs": 4})},
    }
    for name, change in others.items():
        given = {"model": Line(), "data": Points(), "settings": SETTINGS, "seed": 0} | change
        again = load_or_fit(path, given["model"], given["data"], given["settings"], tmp_path / name, given["seed"])
        assert (tmp_path / name / "last.pt").is_file() and len(again) == given["settings"].steps(8)
    own = tmp_path / "own"
    fit(Line(), Points(), SETTINGS, own)
    assert load_or_fit(path, loaded, Points(), SETTINGS, own)[0]["seconds"] == read_losses(own)[0]["seconds"]


def test_damaged_or_foreign_shipped_weights_are_refused(tmp_path):
    fit(Line(), Points(), SETTINGS, tmp_path / "run")
    path, options = tmp_path / "line.safetensors", load_checkpoint(tmp_path / "run" / "last.pt")["options"]
    ship(tmp_path / "run", path, "some command")
    wanted = TrainOptions(**{**options, "betas": tuple(options["betas"])})
    assert load_shipped(Line(), path, wanted) and not load_shipped(Line(), tmp_path / "none", wanted)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="line.safetensors is damaged"):
        load_shipped(Line(), path, wanted)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="line.safetensors is damaged"):
        load_shipped(Line(), path, wanted)
    path.write_bytes(content)
    wide = Line()
    wide.extra = nn.Linear(1, 1)
    with pytest.raises(UserError, match="line.safetensors does not fit"):
        load_shipped(wide, path, wanted)


def test_the_first_blocks_of_an_encoder_are_shipped_as_weights_that_load_anywhere(tmp_path):
    model = SiamMAE(**SHAPE | {"depth": 3}, **DECODER)
    train(model, make_loader(OPTIONS), OPTIONS, tmp_path / "run")
    path = tmp_path / "encoder.pt"
    assert shipped.main([str(tmp_path / "run"), str(path), "--command", "some command", "--blocks", "2"]) == 0
    encoder, images = load_encoder(path), torch.randn(1, 3, 20, 16)
    assert len(encoder.blocks) == 2 and torch.load(path, weights_only=True)["command"] == "some command"
    ours = model.encoder.eval().features(images, block=2)
    torch.testing.assert_close(encoder.features(images), ours, rtol=0, atol=0.02)
    assert path.stat().st_size < (tmp_path / "run" / "last.pt").stat().st_size / 4
    for blocks in ("0", "4"):
        assert shipped.main([str(tmp_path / "run"), str(path), "--command", "words", "--blocks", blocks]) == 2
