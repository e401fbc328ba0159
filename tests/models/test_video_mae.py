"""The video MAE against a slow reference written here, and against what the paper says it must do.

The reference takes a model's weights (its position tables are among them) and nothing else from it: loops over samples,
cubes, heads and queries, in float64.
"""

import pytest
import torch
from slow_layers import layer_norm, linear, plain_block, shake
from small_models import give

from lib.errors import UserError
from lib.models.video_mae import VideoMAE
from lib.tokens.cubes import normalize_videos, position_table, target_cubes
from lib.tokens.masking import random_mask
from lib.tokens.maskings import MASKINGS, get_masking

T, P, HEADS, DECODER_HEADS = 2, 8, 4, 2
TINY = {
    "num_frames": 4, "image_size": 16, "tubelet_size": T, "patch_size": P, "embed_dim": 32, "depth": 2,
    "num_heads": HEADS, "decoder_embed_dim": 16, "decoder_depth": 2, "decoder_num_heads": DECODER_HEADS,
    "mask_ratio": 0.5,
}  # fmt: skip
GRID = (2, 2, 2)


def tiny(**arguments) -> VideoMAE:
    return shake(VideoMAE(**{**TINY, **arguments}))


def clips(batch: int = 3, frames: int = 4, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.randint(256, (batch, 3, frames, height, width), dtype=torch.uint8)


def cut(video: torch.Tensor) -> list[torch.Tensor]:
    """The cubes (3, T, P, P) of one video, frame by frame, row by row; views of it."""
    _, frames, height, width = video.shape
    return [
        video[:, f : f + T, r : r + P, c : c + P]
        for f in range(0, frames, T)
        for r in range(0, height, P)
        for c in range(0, width, P)
    ]


def vector(cube: torch.Tensor) -> torch.Tensor:
    """(3, T, P, P) -> frame, row, column, channel."""
    return cube.permute(1, 2, 3, 0).flatten()


def normal(videos: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return (videos / 255 - mean) / std


# --- slow references ----------------------------------------------------------------------------------------


def encode(video, weights, keep, depth=2):
    """One video's kept cubes: each embedded and given its own place's position before anything is dropped."""
    tokens = []
    for number, cube in enumerate(cut(video)):
        token = linear(vector(cube), weights, "encoder.patch_embed.proj")
        tokens.append(token + weights["encoder.pos_embed"][0, number])
    x = torch.stack([tokens[number] for number in keep])
    for number in range(depth):
        x = plain_block(x, weights, f"encoder.blocks.{number}", HEADS)
    return layer_norm(x, weights, "encoder.norm")


def reference(model, videos, keeps):
    """Predictions (B, N, T*P*P*3), sample by sample."""
    weights = {name: value.double() for name, value in model.state_dict().items()}
    predictions = []
    for video, keep in zip(videos.double(), keeps.tolist(), strict=True):
        small = linear(encode(video, weights, keep), weights, "decoder.embed")
        places = [weights["decoder.mask_token"][0, 0]] * len(cut(video))
        for number, cube in enumerate(keep):
            places[cube] = small[number]
        x = torch.stack(places) + weights["decoder.pos_embed"][0]
        for number in range(TINY["decoder_depth"]):
            x = plain_block(x, weights, f"decoder.blocks.{number}", DECODER_HEADS)
        predictions.append(linear(layer_norm(x, weights, "decoder.norm"), weights, "decoder.head"))
    return torch.stack(predictions)


def reference_errors(predictions, videos, norm_pix):
    """Error of each cube (B, N): mean squares against its values, channel by channel its own mean and deviation."""
    rows = []
    for prediction, video in zip(predictions, videos.double() / 255, strict=True):
        row = []
        for number, cube in enumerate(cut(video)):
            target = cube.clone()
            if norm_pix:
                for channel in target:
                    values = channel - channel.mean()
                    channel[:] = values / (((values**2).sum() / (values.numel() - 1)).sqrt() + 1e-6)
            row.append(((prediction[number] - vector(target)) ** 2).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("options", [{}, {"norm_pix": False}, {"positions": "flattened"}])
def test_the_whole_forward_equals_a_slow_reference(options):
    model, videos = tiny(**options), clips()
    mask = random_mask(3, 8, 0.5)
    expected = reference(model, normal(videos), mask.keep)
    prediction, used = model.predict(normal(videos), mask)
    assert used is mask
    torch.testing.assert_close(prediction.double(), expected, rtol=1e-5, atol=1e-5)

    wanted = reference_errors(expected, videos, options.get("norm_pix", True))
    errors, _ = model.errors(videos, mask)
    torch.testing.assert_close(errors.double(), wanted, rtol=1e-5, atol=1e-5)

    give(model, mask)
    loss, logs = model({"video": videos})
    hidden = [[number not in keep for number in range(8)] for keep in mask.keep.tolist()]
    torch.testing.assert_close(loss.double(), wanted[torch.tensor(hidden)].mean(), rtol=1e-5, atol=1e-5)
    assert logs == {"loss": loss} and loss.requires_grad and not logs["loss"].requires_grad


def test_features_equal_the_slow_reference_of_the_whole_video():
    model, videos = tiny(), normal(clips())
    weights = {name: value.double() for name, value in model.state_dict().items()}
    for block, depth in ((-1, 2), (1, 1)):
        expected = torch.stack([encode(video, weights, range(8), depth) for video in videos.double()])
        tokens = model.features(videos, block)
        torch.testing.assert_close(tokens.double(), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="^block 3 does not exist: choose 1 to 2, or -1 for the last$"):
        model.features(videos, 3)


# --- what it must do ----------------------------------------------------------------------------------------


def test_hidden_pixels_never_reach_the_model():
    model, videos = tiny(), normal(clips()).requires_grad_()
    prediction, mask = model.predict(videos)
    prediction.square().sum().backward()
    seen = torch.tensor([[bool(cube.any()) for cube in cut(video)] for video in videos.grad])
    assert torch.equal(seen, ~mask.hidden)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_the_loss_ignores_visible_cubes_and_a_perfect_prediction_costs_nothing(norm_pix):
    model, videos, mask = tiny(norm_pix=norm_pix), clips(2), random_mask(2, 8, 0.5)
    prediction = target_cubes(videos / 255, T, P, norm_pix)
    model.predict = lambda *_: (prediction, mask)
    assert model({"video": videos})[0] < 1e-10
    for number in range(8):
        changed = videos.clone()
        cut(changed[0])[number].random_(256)
        assert bool(model({"video": changed})[0] > 1e-3) == bool(mask.hidden[0, number])


def test_bytes_and_floats_of_the_same_video_give_the_same_errors():
    model, videos = tiny(), clips()
    mask = random_mask(3, 8, 0.5)
    torch.testing.assert_close(model.errors(videos, mask)[0], model.errors(videos / 255, mask)[0])


def test_the_order_of_visible_tokens_does_not_matter():
    model, videos = tiny(), normal(clips())
    mask = random_mask(3, 8, 0.5)
    turned = mask._replace(
        keep=mask.keep.flip(1), restore=torch.where(mask.hidden, mask.restore, mask.keep.shape[1] - 1 - mask.restore)
    )
    predictions = [model.predict(videos, each)[0] for each in (mask, turned)]
    torch.testing.assert_close(*predictions, rtol=1e-4, atol=1e-4)


def test_masks_differ_between_samples_and_between_calls():
    model, videos = tiny().train(), normal(clips(8))
    rows = [tuple(row) for _ in range(2) for row in model.predict(videos)[1].hidden.tolist()]
    assert len(set(rows)) > 8


def test_bf16_autocast_keeps_the_loss_in_float32():
    model, videos = tiny(), clips()
    mask = random_mask(3, 8, 0.5)
    full = model.errors(videos, mask)[0]
    with torch.autocast("cpu", torch.bfloat16):
        half = model.errors(videos, mask)[0]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("masking", MASKINGS)
def test_four_clips_are_told_apart_by_their_visible_cubes_and_learned(masking):
    torch.manual_seed(0)
    size = {"embed_dim": 64, "depth": 1, "decoder_embed_dim": 64, "decoder_depth": 1, "decoder_num_heads": 4}
    model = VideoMAE(**{**TINY, **size, "image_size": 32, "masking": get_masking(masking, 0.5)})
    times, rows, columns = torch.meshgrid(torch.arange(4), torch.arange(32), torch.arange(32), indexing="ij")
    ramps = torch.stack([rows * 8, columns * 8, (rows + columns + 8 * times) * 3 % 256]).byte()
    videos = torch.stack([ramps, ramps.flip(3), ramps.flip(2), 255 - ramps])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    losses = []
    for _ in range(60):  # grouped masks hide the most, and learn the slowest
        loss, _ = model({"video": videos})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.9 and sum(losses[-5:]) / 5 < 0.1


def test_a_micro_model_runs_on_a_small_clip():
    model = VideoMAE(num_frames=16, image_size=64, patch_size=8, mask_ratio=0.9, embed_dim=128, depth=4, num_heads=4)
    assert model.grid == (8, 8, 8)
    loss, _ = model({"video": clips(2, 16, 64, 64)})
    loss.backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    assert model.features(normal(clips(2, 16, 64, 64))).shape == (2, 512, 128)


# --- sizes and arguments ------------------------------------------------------------------------------------


def test_positions_are_fixed_tables():
    for positions in ("separable", "flattened"):
        model = VideoMAE(**TINY, positions=positions)
        for part, dim in ((model.encoder, 32), (model.decoder, 16)):
            assert not part.pos_embed.requires_grad
            assert torch.equal(part.pos_embed[0], position_table(positions, dim, GRID))


def test_the_architecture_builds_the_model_again_and_tells_maskings_apart():
    model = VideoMAE(**TINY)
    again = VideoMAE(**{**model.architecture, "masking": model.masking})
    again.load_state_dict(model.state_dict())
    assert again.architecture == model.architecture
    assert VideoMAE(**TINY, masking=get_masking("tube", 0.5)).architecture != model.architecture


@pytest.mark.parametrize("shape", [(4, 24, 24), (2, 16, 16), (4, 8, 32)])  # the third has as many cubes
def test_videos_of_another_size_are_refused(shape):
    sizes = "x".join(map(str, shape))
    with pytest.raises(UserError, match=f"^videos are {sizes}, but this model was built for 4x16x16: [^\n]+$"):
        tiny()({"video": clips(1, *shape)})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mask_ratio": 0.9}, "mask_ratio 0.9 hides all 8 patches"),
        ({"masking": get_masking("tube", 0.8)}, "mask_ratio 0.8 hides all 4 places"),
        ({"masking": get_masking("frame", 0.6)}, "mask_ratio 0.6 hides all 2 times"),
        ({"loss": "l2"}, "unknown loss 'l2': did you mean 'l1'"),
        ({"positions": "flat"}, "unknown positions 'flat': did you mean 'flattened'"),
        ({"num_frames": 5}, "frames 5 must be a multiple of 2"),
        ({"image_size": 20}, "height 20 must be a multiple of 8"),
        ({"num_heads": 5}, "a width of 32 is no multiple of its 5 heads"),
        ({"decoder_num_heads": 5}, "a width of 16 is no multiple of its 5 heads"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        VideoMAE(**{**TINY, **arguments})


def test_part_of_a_cube_is_refused():
    with pytest.raises(UserError, match="frames 3 must be a multiple of 2"):
        tiny().features(normalize_videos(clips(1, 3)))


@pytest.mark.parametrize("name", MASKINGS)
def test_a_model_draws_with_the_strategy_that_it_is_given(name):
    masking, videos = get_masking(name, 0.5), normal(clips())
    model = VideoMAE(**TINY, masking=masking)
    torch.manual_seed(0)
    expected = masking(torch.empty(3, 8, 0), GRID)
    torch.manual_seed(0)
    assert torch.equal(model.predict(videos)[1].hidden, expected.hidden)
