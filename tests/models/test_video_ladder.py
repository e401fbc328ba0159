"""The video ladder: its counts, its three forms, and that it never sees what it predicts."""

from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F

from lib.errors import UserError
from lib.models.ladder_encoders import CHANNELS, ResNetTaps, TokenTaps
from lib.models.video_ladder import HEADS, VideoLadder
from lib.models.vit import ViTEncoder

SMALL = {"size": (32, 64), "channels": 4}
FORMS = [{"head": head} for head in HEADS] + [{"full_resolution": True}, {"per_channel": True}]


def ladder(**changes) -> VideoLadder:
    torch.manual_seed(0)
    return VideoLadder(**SMALL | changes)


def clips(frames: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"video": torch.randint(256, (2, 3, frames, 32, 64), generator=generator, dtype=torch.uint8)}


def own(model: VideoLadder) -> int:
    return sum(part.numel() for name, part in model.named_parameters() if not name.startswith("encoder."))


def test_parameters_are_the_reported_ones():
    with torch.device("meta"):
        full, sharp = VideoLadder(), VideoLadder((64, 96), full_resolution=True)
    assert own(full) == 26_437_667
    assert sum(part.numel() for part in full.parameters()) == 37_614_179
    assert own(sharp) == 19_083_139
    unused = 512 * 1000 + 1000 + 512 * 10 + 10  # the ResNet's own classifier and one of ten classes
    assert own(sharp) + sum(part.numel() for part in full.encoder.parameters()) + unused == 30_777_781


def slow_predictions(model: VideoLadder, frames: torch.Tensor, number: int) -> list[torch.Tensor]:
    """The report's routine, every frame on its own through all of the network: each output is the next frame."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    states = [[None] * 3 for _ in range(4)]

    def frame_after(frame):
        frame = (frame - mean[:, None, None]) / std[:, None, None]
        maps = model.encoder(frame)
        taps = [model.stem(frame), *maps[:3]] if model.full_resolution else maps[:4]
        columns = []
        for level, tap in enumerate(taps):
            lateral = model.laterals[level]
            states[level] = [unit(tap, before) for unit, before in zip(lateral.units, states[level], strict=True)]
            columns.append(torch.cat([lateral.skip(tap), *states[level]], dim=1))
        above = model.ups[3](maps[4])
        for level in (3, 2, 1):
            above = model.ups[level - 1](torch.cat([columns[level], above], dim=1))
        above = torch.cat([columns[0], above], dim=1)
        if not model.full_resolution:
            above = {
                "shuffle": lambda: F.pixel_shuffle(above, 2),
                "nearest": lambda: above.repeat_interleave(2, -1).repeat_interleave(2, -2),
                "bilinear": lambda: F.interpolate(above, scale_factor=2, mode="bilinear", align_corners=False),
            }[model.head_kind]()
        return model.head(above)

    for frame in frames.unbind(1):
        output = frame_after(frame)
    outputs = [output]
    while len(outputs) < number:
        outputs.append(frame_after(outputs[-1]))
    return outputs


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_predicts_as_a_slow_reading_does(form):
    model = ladder(**form).eval()
    frames = torch.rand(2, 3, 3, 32, 64)
    with torch.no_grad():
        found = model.predict(frames, 3)
        expected = torch.stack(slow_predictions(model, frames, 3), dim=1)
    assert found.shape == (2, 3, 3, 32, 64)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_extra_step_leaves_the_first_output_out():
    plain, extra = ladder().eval(), ladder(scratch=True).eval()
    frames = torch.rand(2, 3, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(extra.predict(frames, 2), plain.predict(frames, 3)[:, 1:])


@pytest.mark.parametrize("given", [3, 5])
def test_the_loss_is_of_the_frames_that_follow_and_these_are_never_seen(given):
    model, batch = ladder(given=given).eval(), clips()
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss, logs = model(batch)
    inputs = torch.cat(seen)
    truth = (batch["video"].transpose(1, 2)[:, given:].float() / 255).flatten(0, 1)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    truth = (truth - mean) / std
    assert not any(torch.allclose(frame, future, atol=1e-3) for frame in inputs for future in truth)
    predicted = model.predict(batch["video"].transpose(1, 2)[:, :given].float() / 255, 6 - given)
    expected = (predicted - batch["video"].transpose(1, 2)[:, given:].float() / 255).abs().mean()
    assert logs["l1"].item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(loss, 0.9 * logs["dssim"] + 0.05 * logs["l1"] + 0.05 * logs["l2"])


def test_a_longer_seed_changes_what_follows_and_states_have_every_scale():
    model, frames = ladder().eval(), torch.rand(1, 5, 3, 32, 64)
    with torch.no_grad():
        assert not torch.allclose(model.predict(frames, 1), model.predict(frames[:, 2:], 1))
        state, taps = model.remember(frames)
    assert [[tuple(part.shape) for part in states] for states in state] == [
        [(1, 4, 16 // 2**level, 32 // 2**level)] * 3 for level in range(4)
    ]
    assert [part.shape[1] for part in taps] == list(CHANNELS)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_body_stays_as_it_is(frozen):
    model = ladder(frozen=frozen).train()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    optimizer = torch.optim.SGD([part for part in model.parameters() if part.requires_grad], lr=0.1)
    loss, _ = model(clips())
    loss.backward()
    optimizer.step()
    after = model.encoder.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert bool(changed) is not frozen
    for name, part in model.named_parameters():
        assert name.startswith("encoder.") or part.grad is not None, name


def test_through_a_vit_only_what_lies_beside_it_is_trained():
    vit = ViTEncoder(64, 8, 32, 2, 2)
    model = ladder(encoder=TokenTaps(vit)).train()
    maps = model.encoder(torch.rand(2, 3, 32, 64))
    assert [(part.shape[1], part.shape[3]) for part in maps] == list(zip(CHANNELS, (32, 16, 8, 4, 2), strict=True))
    model(clips())[0].backward()
    assert all(part.grad is None for part in vit.parameters())
    assert all(part.grad is not None for part in model.encoder.project.parameters())


def test_weights_by_name_are_torchvisions(tmp_path, monkeypatch):
    """The file is read from torch's own cache, where a download would have put it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(3)
    from torchvision.models import ResNet18_Weights, resnet18

    weights = resnet18()
    target = tmp_path / "hub" / "checkpoints" / ResNet18_Weights.IMAGENET1K_V1.url.split("/")[-1]
    target.parent.mkdir(parents=True)
    torch.save(weights.state_dict(), target)
    taps = ResNetTaps("IMAGENET1K_V1").eval()
    frames = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        pooled = taps(frames)[-1].mean(dim=(2, 3))
        torch.testing.assert_close(weights.eval().fc(pooled), weights(frames))


def test_weights_that_cannot_be_had_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="weights of ResNet-18 'IMAGENET1K_V9'"):
        ResNetTaps("IMAGENET1K_V9")

    def refuse(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(
        UserError, match=r"ResNet-18, IMAGENET1K_V1: its weights cannot be fetched .*no route.*TORCH_HOME"
    ):
        ResNetTaps("IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": (48, 64)}, "frames of 48x64 do not divide"),
        ({"head": "cubic"}, "head 'cubic'"),
        ({"channels": 6}, "channels 6"),
        ({"loss_weights": (1.0, 0.1, 0.3)}, "must sum to 1"),
    ],
)
def test_what_cannot_work_is_told(changes, words):
    with pytest.raises(UserError, match=words):
        ladder(**changes)


def test_a_clip_without_a_future_is_refused():
    with pytest.raises(UserError, match="a clip has 3 frames, 3 are given"):
        ladder()(clips(3))
