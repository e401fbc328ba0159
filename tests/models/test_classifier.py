"""Fine-tuning: the paper's settings, learning rates by hand, mixing and erasing of videos, one RandAugment a clip."""

import random
from dataclasses import replace

import numpy as np
import pytest
import small_training
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from timm.layers import DropPath
from timm.models.vision_transformer import Block
from torch import nn

from lib import training
from lib.errors import UserError
from lib.libraries import seeded_draws
from lib.models.adamae import AdaMAE
from lib.models.classifier import Classifier
from lib.models.mae import MAE
from lib.models.video_mae import VideoMAE
from lib.models.wavelet_mae import WaveletMAE
from lib.presets import FINE_TUNING
from lib.presets.finetuning import FineTuning
from lib.tokens.cubes import normalize_videos
from lib.tokens.patches import IMAGENET_MEAN, IMAGENET_STD, normalize_images
from lib.training import TrainOptions, fit, make_loader

WIDTH, CLASSES = 8, 3
REGULAR = ("layer_decay", "label_smoothing", "mixup", "cutmix", "drop_path", "erasing")
PLAIN = FineTuning(
    base_lr=0.5, epochs=1, batch_size=4, warmup_epochs=0, mixup=0.0, cutmix=0.0, label_smoothing=0.0, drop_path=0.0,
    workers=0,
)  # fmt: skip


class Encoder(nn.Module):
    """Three blocks over the mean colours of 2 x 4 x 4 cubes."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Linear(3, WIDTH)
        self.pos_embed = nn.Parameter(torch.zeros(1, 8, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, 2, 2.0, qkv_bias=True) for _ in range(3))
        self.norm = nn.LayerNorm(WIDTH)


class Backbone(nn.Module):
    """What fine-tuning asks of a pre-trained model, with a decoder that it must leave alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.architecture = {"depth": 3}
        self.encoder, self.decoder = Encoder(), nn.Linear(WIDTH, 5)

    def features(self, videos):
        colours = F.avg_pool3d(videos, (2, 4, 4)).flatten(2).transpose(1, 2)  # (B, 8, 3) of (B, 3, 4, 8, 8)
        tokens = self.encoder.patch_embed(colours) + self.encoder.pos_embed
        for block in self.encoder.blocks:
            tokens = block(tokens)
        return self.encoder.norm(tokens)


def regular(settings: FineTuning) -> dict:
    """The classifier's part of the settings."""
    return {name: getattr(settings, name) for name in REGULAR}


def build(settings: FineTuning = PLAIN, classes: int = CLASSES) -> Classifier:
    backbone = Backbone()
    torch.manual_seed(2)
    return Classifier(backbone, WIDTH, classes, **regular(settings))


def batch_of(size: int = 4, classes: int = CLASSES, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    videos = torch.randint(256, (size, 3, 4, 8, 8), dtype=torch.uint8, generator=generator)
    return {"video": videos, "label": torch.arange(size) % classes}


# --- learning rates -----------------------------------------------------------------------------------------


def test_learning_rates_by_hand():
    model = build(replace(PLAIN, layer_decay=0.5))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = model.parameter_groups(0.3)
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    expected = {"backbone.encoder.patch_embed": 1 / 16, "backbone.encoder.pos_embed": 1 / 16, "norm": 1, "head": 1}
    expected |= {"backbone.encoder.norm": 1}
    expected |= {f"backbone.encoder.blocks.{i}": rate for i, rate in enumerate((1 / 8, 1 / 4, 1 / 2))}
    for name, found in scale.items():
        part = next(part for part in sorted(expected, key=len, reverse=True) if name.startswith(part))
        assert found == expected[part], name
    assert set(scale) == {name for name in names.values() if "decoder" not in name}
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith("pos_embed")}
    assert all(decay == (0.3 if name in matrices else 0) for name, decay in decays.items())


def test_rates_of_vit_base_are_the_published_ones():
    model = build(FINE_TUNING["ssv2"])
    model.backbone.encoder.blocks = nn.ModuleList(Block(WIDTH, 2, 2.0) for _ in range(12))
    scales = sorted({group["lr_scale"] for group in model.parameter_groups(0.05)})
    assert scales == pytest.approx([0.75**power for power in range(13, -1, -1)])


def test_a_checkpoint_tells_the_settings_of_training():
    found = build(replace(PLAIN, cutmix=1.0)).architecture
    assert found == {
        "depth": 3, "width": WIDTH, "num_classes": CLASSES, "layer_decay": 0.75, "label_smoothing": 0.0, "mixup": 0.0,
        "cutmix": 1.0, "drop_path": 0.0, "erasing": 0.0,
    }  # fmt: skip


def test_everything_but_the_encoder_is_frozen():
    model = build()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"backbone.decoder.weight", "backbone.decoder.bias"}
    loss, _ = model(batch_of())
    loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is None} == frozen


# --- the classifier -----------------------------------------------------------------------------------------


def test_evaluation_is_the_plain_cross_entropy_of_averaged_tokens():
    model, batch = build(replace(FINE_TUNING["paper"], erasing=1.0)).eval(), batch_of()
    nn.init.normal_(model.head.weight)
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    tokens = model.backbone.features((batch["video"] / 255 - mean) / std)
    pooled = torch.stack([sum(token for token in tokens[i]) / 8 for i in range(4)])
    logits = F.layer_norm(pooled, (WIDTH,), eps=1e-6) @ model.head.weight.T
    expected = -sum(logits[i].log_softmax(-1)[label] for i, label in enumerate(batch["label"])) / 4
    loss, logs = model(batch)
    torch.testing.assert_close(loss, expected)
    assert logs["loss"] == loss and not logs["loss"].requires_grad


def test_at_first_all_classes_are_nearly_equally_likely():
    likely = build(classes=5).eval().logits(normalize_videos(batch_of(4, 5)["video"])).softmax(dim=-1)
    torch.testing.assert_close(likely, torch.full((4, 5), 0.2), rtol=0, atol=1e-3)


def test_smoothed_labels_without_mixing():
    model, batch = build(replace(PLAIN, label_smoothing=0.3)), batch_of()
    nn.init.normal_(model.head.weight)
    videos = normalize_videos(batch["video"])
    expected = F.cross_entropy(model.logits(videos), batch["label"], label_smoothing=0.3)
    torch.testing.assert_close(model(batch)[0], expected)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 1, 2, -1]])
def test_labels_outside_the_classes_are_refused(labels):
    with pytest.raises(UserError, match=r"are not all in 0..2"):
        build()({**batch_of(), "label": torch.tensor(labels)})


def test_an_odd_batch_cannot_be_mixed():
    with pytest.raises(UserError, match="a batch of 3 inputs is odd"):
        build(replace(PLAIN, mixup=0.8))(batch_of(3))


def test_drop_path_grows_to_its_rate():
    model = build(replace(PLAIN, drop_path=0.2))
    rates = [[getattr(block, name) for name in ("drop_path1", "drop_path2")] for block in model.backbone.encoder.blocks]
    assert all(isinstance(path, nn.Identity) for path in rates[0])
    assert [path.drop_prob for pair in rates[1:] for path in pair] == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert not any(isinstance(module, DropPath) for module in build().modules())


@pytest.mark.parametrize("kind", [VideoMAE, AdaMAE])
def test_the_projects_video_models_are_trained_but_for_what_classification_does_not_use(kind):
    shape = {"num_frames": 4, "image_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    backbone = kind(**shape, mask_ratio=0.75, decoder_embed_dim=24, decoder_depth=1, decoder_num_heads=2)
    model = Classifier(backbone, 24, CLASSES, **regular(FINE_TUNING["ssv2"]))
    nn.init.normal_(model.head.weight)
    videos = torch.randint(256, (4, 3, 4, 32, 32), dtype=torch.uint8)
    loss, _ = model({"video": videos, "label": torch.arange(4) % CLASSES})
    loss.backward()
    trained = {name.split(".")[0] for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert trained == {"encoder"}
    assert {group["lr_scale"] for group in model.parameter_groups(0.05)} == {1, 0.75, 0.75**2, 0.75**3}
    assert all(parameter.grad is not None for parameter in model.backbone.encoder.parameters())
    video = normalize_videos(videos)
    expected = model.eval().head(model.norm(backbone.features(video).mean(dim=1)))
    torch.testing.assert_close(model.logits(video), expected)


# --- mixing and erasing -------------------------------------------------------------------------------------


def draws_of(settings: FineTuning, seed: int, size: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Videos before and after mixing, and the targets."""
    model = build(settings)
    videos = torch.rand(size, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with seeded_draws(seed):
        mixed, targets = model._mix(videos.clone(), torch.arange(size) % CLASSES)
    return videos, mixed, targets


@pytest.mark.parametrize("seed", range(4))
def test_mixup_mixes_videos_and_smoothed_labels_alike(seed):
    videos, mixed, targets = draws_of(replace(PLAIN, mixup=0.8, label_smoothing=0.3), seed)
    with seeded_draws(seed):
        np.random.rand()
        share = np.random.beta(0.8, 0.8)
    torch.testing.assert_close(mixed, share * videos + (1 - share) * videos.flip(0))
    smooth = F.one_hot(torch.tensor([0, 1, 2, 0]), 3) * 0.7 + 0.1
    torch.testing.assert_close(targets, (share * smooth + (1 - share) * smooth.flip(0)).float())
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))


def test_cutmix_cuts_one_box_of_rows_and_columns_from_every_frame():
    cuts = 0
    for seed in range(12):
        videos, mixed, targets = draws_of(replace(PLAIN, cutmix=1.0), seed)
        changed = (mixed != videos).all(dim=1)  # (B, T, H, W)
        assert (changed == changed[:1, :1]).all()  # the same in every frame of every video
        box = changed[0, 0]
        rows, columns = box.any(1).nonzero(), box.any(0).nonzero()
        area = len(rows) * len(columns)
        assert box.sum() == area  # a full rectangle
        assert torch.equal(mixed[..., box], videos.flip(0)[..., box])
        assert torch.equal(mixed[..., ~box], videos[..., ~box])
        expected = (1 - area / 64) * F.one_hot(torch.tensor([0, 1, 2, 0]), 3)
        expected = expected + area / 64 * F.one_hot(torch.tensor([0, 2, 1, 0]), 3)
        torch.testing.assert_close(targets, expected.float())
        cuts += 0 < area < 64
    assert cuts >= 6


def test_the_published_way_would_cut_other_parts_than_the_labels_say():
    """The trap the module tells of: timm's CutMix, given (B, 3, T, H, W), cuts along time and rows."""
    videos = torch.rand(2, 3, 4, 8, 8)
    wrong = []
    for seed in range(8):
        with seeded_draws(seed):
            mixed, targets = Mixup(0, 1.0, num_classes=2, label_smoothing=0)(videos.clone(), torch.tensor([0, 1]))
        replaced = (mixed != videos).float().mean().item()
        wrong.append(abs(replaced - targets[0, 1].item()) > 0.01)
    assert sum(wrong) >= 4


def test_with_both_on_a_batch_gets_one_of_them():
    kinds = set()
    for seed in range(16):
        videos, mixed, _ = draws_of(replace(PLAIN, mixup=0.8, cutmix=1.0), seed)
        same = (mixed == videos).float().mean()
        kinds.add("mixup" if same < 0.01 else "cutmix")
    assert kinds == {"mixup", "cutmix"}


def test_erasing_puts_noise_in_one_box_of_all_frames():
    model = build(replace(PLAIN, erasing=1.0))
    with seeded_draws(0):
        videos = model._erase(torch.zeros(6, 3, 4, 16, 16))
    boxes = videos != 0
    assert (boxes == boxes[:, :1, :1]).all()
    areas = boxes[:, 0, 0].flatten(1).sum(dim=1)
    assert ((areas > 0) & (areas <= 256 / 3 + 16)).all()
    assert len({tuple(box.flatten().tolist()) for box in boxes[:, 0, 0]}) > 3  # each video its own
    noise = videos[boxes]
    assert abs(noise.mean()) < 0.15 and abs(noise.std() - 1) < 0.1
    with seeded_draws(0):
        assert (build()._erase(torch.zeros(6, 3, 4, 16, 16)) == 0).all()


def test_the_erased_share_is_the_rate():
    model = build(replace(PLAIN, erasing=0.25))
    with seeded_draws(1):
        videos = model._erase(torch.zeros(400, 3, 1, 8, 8))
    assert 0.19 < (videos != 0).flatten(1).any(dim=1).float().mean() < 0.31


def test_a_training_step_is_a_function_of_pytorchs_seed():
    model = build(replace(FINE_TUNING["ssv2"], drop_path=0.0))  # without drop path and erasing, mixing alone is random
    nn.init.normal_(model.head.weight)
    losses = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        losses.append(model(batch_of())[0].item())
        random.random(), np.random.rand()  # the global generators of others change nothing
    assert losses[0] == losses[1] != losses[2]


def test_drawing_leaves_the_global_generators_as_they_were():
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    build(FINE_TUNING["ssv2"])(batch_of())
    assert (random.random(), np.random.rand()) == expected


# --- learning -----------------------------------------------------------------------------------------------


def test_it_learns_classes_that_differ():
    model = build(replace(PLAIN, label_smoothing=0.1, drop_path=0.1))
    optimizer = torch.optim.AdamW([{**g, "lr": 0.02 * g["lr_scale"]} for g in model.parameter_groups(0.05)])
    labels = torch.arange(12) % 3
    videos = torch.randint(40, (12, 3, 4, 8, 8), dtype=torch.uint8)
    videos[torch.arange(12), labels] += 150
    for _ in range(40):
        optimizer.zero_grad()
        loss, _ = model({"video": videos, "label": labels})
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert (model.eval().logits(normalize_videos(videos)).argmax(dim=1) == labels).all()


class Clips(torch.utils.data.Dataset):
    """Eight videos, each a function of its number alone; at number `until` it is interrupted."""

    def __init__(self, until: int | None = None):
        self.until = until

    def __len__(self):
        return 8

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        if number == self.until:
            raise KeyboardInterrupt
        return {name: values[0] for name, values in batch_of(1, seed=number % 8).items()}


ALL_ON = replace(
    FINE_TUNING["ssv2"], base_lr=0.3, batch_size=4, epochs=3, warmup_epochs=1, erasing=0.5, drop_path=0.3, workers=0,
    save_every=2,
)  # fmt: skip


def test_the_loop_gives_each_layer_its_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "choose_precision", lambda _: "no")
    settings = replace(PLAIN, base_lr=0.3, epochs=3, warmup_epochs=1, layer_decay=0.5)
    model, plain = build(settings), build(settings)
    records = fit(model, Clips(), settings, tmp_path)
    options = TrainOptions(steps=6, batch_size=4, base_lr=0.3, warmup_steps=2)
    optimizer = torch.optim.AdamW(plain.parameter_groups(0.05), betas=(0.9, 0.999))
    for step, batch in enumerate(make_loader(Clips(), settings, 0, None)):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate(step) * group["lr_scale"]
        optimizer.zero_grad()
        loss, _ = plain(batch)
        loss.backward()
        optimizer.step()
        assert records[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert [record["lr"] for record in records] == [options.learning_rate(step) for step in range(6)]  # the top layer's
    # Adam makes a whole step of a gradient that is 0 but for rounding: 1 % of the rate, not rounding itself
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0.01 * options.learning_rate(2))


def test_an_interrupted_run_resumes_exactly_with_everything_random_on(tmp_path):
    whole, broken, resumed = build(ALL_ON), build(ALL_ON), build(ALL_ON)
    expected = fit(whole, Clips(), ALL_ON, tmp_path / "whole")
    stopped = list(make_loader(Clips(), ALL_ON, 0, None).batch_sampler)[3][0]
    with pytest.raises(KeyboardInterrupt):
        fit(broken, Clips(until=stopped), ALL_ON, tmp_path / "broken")
    random.random(), np.random.rand(), torch.rand(3)
    found = fit(resumed, Clips(), ALL_ON, tmp_path / "broken")
    columns = ("step", "loss", "lr", "grad_norm")
    assert [[r[c] for c in columns] for r in found] == [[r[c] for c in columns] for r in expected]
    assert len(found) == 6
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_other_settings_are_refused_on_resume(tmp_path):
    fit(build(ALL_ON), Clips(), ALL_ON, tmp_path)
    other = replace(ALL_ON, layer_decay=0.9)
    with pytest.raises(UserError, match=r"holds another architecture \(layer_decay 0.75 instead of 0.9\)"):
        fit(build(other), Clips(), other, tmp_path)


# --- pictures -----------------------------------------------------------------------------------------------


def pictures_of(size: int = 4, side: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    pictures = torch.randint(256, (size, 3, side, side), dtype=torch.uint8, generator=generator)
    return {"image": pictures, "label": torch.arange(size) % CLASSES}


@pytest.mark.parametrize("kind", [MAE, WaveletMAE])
def test_picture_models_are_classified_by_their_mean_token(kind):
    torch.manual_seed(0)
    backbone = kind(**small_training.SHAPE, **small_training.DECODER)
    model = Classifier(backbone, small_training.SHAPE["embed_dim"], CLASSES, **regular(PLAIN)).eval()
    batch = pictures_of()
    tokens = backbone.encoder(normalize_images(batch["image"]))[:, 1:].mean(dim=1)
    logits = F.linear(F.layer_norm(tokens, tokens.shape[1:], eps=1e-6), model.head.weight, model.head.bias)
    loss, _ = model(batch)
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch["label"]))
    loss.backward()
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    assert all(name.startswith(("backbone.encoder", "norm", "head")) for name in trained)
    scales = {group["lr_scale"] for group in model.parameter_groups(0.1)}
    assert len(scales) == small_training.SHAPE["depth"] + 2


@pytest.mark.parametrize("changes", [{"mixup": 0.8}, {"cutmix": 1.0}, {"erasing": 1.0}])
def test_pictures_are_mixed_and_erased_as_videos_of_one_frame(changes):
    model, batch = build(replace(PLAIN, **changes)), pictures_of()
    drawn = []
    for inputs in (normalize_images(batch["image"]), normalize_videos(batch["image"].unsqueeze(2)).contiguous()):
        torch.manual_seed(0)
        with seeded_draws(5):
            drawn.append(model._mix(model._erase(inputs), batch["label"]))
    torch.testing.assert_close(drawn[0][0], drawn[1][0].squeeze(2))
    torch.testing.assert_close(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], normalize_images(batch["image"]))
