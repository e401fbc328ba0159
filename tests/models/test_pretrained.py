"""Other people's checkpoints: small files under the names that the public code gives its tensors.

Features are compared with timm's VisionTransformer holding the same weights; at another frame size its positions come
from a slow bicubic interpolation written here, or from timm's own for timm's files.
"""

import argparse
import datetime
import hashlib
import math
import pathlib
import pickle
import threading
import zipfile
from collections import OrderedDict
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from lib.checkpoints import RunFiles
from lib.errors import UserError
from lib.models.adaptive_sampler import AdaptiveMasking
from lib.models.checkpoint_formats import read_encoder
from lib.models.mae import MAE
from lib.models.pretrained import TimmEncoder, load_encoder
from lib.models.siammae import SiamMAE
from lib.models.variance_heads import GaussianSiamMAE
from lib.models.vit import ViTEncoder
from lib.tokens.patches import sincos_positions
from lib.training import TrainOptions

P, D, DEPTH, SIDE, E = 8, 192, 2, 4, 32  # patch, width, blocks, grid side, decoder width
HEADS = 3  # as the field has them at this width
VIT = {"img_size": SIDE * P, "patch_size": P, "embed_dim": D, "depth": DEPTH, "num_heads": HEADS}
OTHER_SIZE = (48, 56)


def shake(model: nn.Module) -> nn.Module:
    """Move every weight, so that no zero bias, unit gain or small token hides a mistake."""
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def vit_state(seed: int = 1, **options) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return shake(VisionTransformer(**{**VIT, "num_classes": 0, **options})).state_dict()


def some(*names: str, shape=(3, 5)) -> dict[str, torch.Tensor]:
    """Tensors that are no encoder's; their values must not matter."""
    return {name: torch.randn(shape) for name in names}


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


# --- files as the public code writes them -------------------------------------------------------------------

MAE_DECODER = [
    "mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_embed.bias", "decoder_norm.weight",
    "decoder_norm.bias", "decoder_pred.weight", "decoder_pred.bias",
]  # fmt: skip
PLAIN_BLOCK = ["norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
               "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight",
               "mlp.fc2.bias"]  # fmt: skip
CROPMAE_BLOCK = ["self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight",
                 "multihead_attn.in_proj_weight", "multihead_attn.in_proj_bias", "multihead_attn.out_proj.weight",
                 "linear1.weight", "linear2.weight", "norm1.weight", "norm2.weight", "norm3.weight"]  # fmt: skip
RSP_BLOCK = ["norm1.weight", "norm_kv1.weight", "cattn.q.weight", "cattn.kv.weight", "cattn.proj.weight",
             "norm3.weight", "attn.qkv.weight", "norm4.weight", "mlp2.fc1.weight", "mlp2.fc2.weight"]  # fmt: skip
DINO_HEAD = ["head.mlp.0.weight", "head.mlp.0.bias", "head.mlp.4.bias", "head.last_layer.weight_g",
             "head.last_layer.weight_v"]  # fmt: skip


def blocks(names: list[str]) -> list[str]:
    return [f"decoder_blocks.{number}.{name}" for number in range(2) for name in names]


def mae_training(state, extra) -> dict:
    """What MAE's training loop saves, and CropMAE's and RSP's after it."""
    optimizer = {
        "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.95)}],
    }
    return {
        "model": {**state, **some(*extra)}, "optimizer": optimizer, "epoch": 3, "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(model="mae_vit_base_patch16", norm_pix_loss=True, lr=None, betas=[0.9, 0.95]),
    }  # fmt: skip


def pooled(state) -> dict:
    """A classifier that averages the patches: its norm stands behind the pooling."""
    renamed = {name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: v for name, v in state.items()}
    return {**renamed, **some("head.weight", "head.bias")}


def dino_full(state) -> dict:
    student = prefixed("module.", {**prefixed("backbone.", vit_state(7)), **some(*DINO_HEAD)})
    return {
        "student": student, "teacher": {**prefixed("backbone.", state), **some(*DINO_HEAD)}, "epoch": 100,
        "optimizer": {"state": {}, "param_groups": []}, "args": argparse.Namespace(arch="vit_small", patch_size=8),
        "dino_loss": {"center": torch.zeros(1, 8)}, "fp16_scaler": {"scale": 1.0, "_growth_tracker": 5},
    }  # fmt: skip


RSP_EXTRA = [*(name for name in MAE_DECODER if "decoder_embed" not in name), *blocks(RSP_BLOCK), "to_prior.0.weight",
             "to_posterior.2.bias", "decoder_embed_mae.weight", "decoder_embed_deter.weight",
             "decoder_embed_stoch.bias"]  # fmt: skip

# name: (what the file holds, its format, how its evaluation resizes positions)
FILES = {
    "mae_visualize.pth": (lambda s: mae_training(s, [*MAE_DECODER, *blocks(PLAIN_BLOCK)]), "MAE with decoder", "plain"),
    "mae_pretrain.pth": (lambda s: {"model": s}, "MAE", "plain"),
    "mae_finetuned.pth": (lambda s: {"model": pooled(s)}, "MAE fine-tuned", "plain"),
    "mae_cls.pth": (lambda s: mae_training(s, ["head.weight", "head.bias"]), "MAE", "plain"),
    "dino_pretrain.pth": (OrderedDict, "DINO backbone", "nudged"),
    "dino_full.pth": (dino_full, "DINO", "nudged"),
    "dino_wrapped.pth": (lambda s: {"teacher": prefixed("module.backbone.", s)}, "DINO", "nudged"),
    "cropmae.pt": (lambda s: mae_training(s, [*MAE_DECODER, *blocks(CROPMAE_BLOCK)]), "CropMAE", "nudged"),
    "rsp.pth": (lambda s: mae_training(s, RSP_EXTRA), "RSP", "nudged"),
    "siammae.pt": (
        lambda s: {**prefixed("mae.", {**s, **some(*MAE_DECODER, *blocks(PLAIN_BLOCK))}),
                   **some("cross_decoder.multihead_attn.in_proj_weight")}, "eleander/SiamMAE", "plain"),
    "timm.pth": (lambda s: {**s, **some("head.weight", "head.bias")}, "timm", "timm"),
    "timm.safetensors": (lambda s: s, "timm", "timm"),
    "timm_pooled.safetensors": (pooled, "timm", "timm"),
    "timm_training.pth.tar": (lambda s: {"epoch": 1, "state_dict": prefixed("module.", s)}, "timm", "timm"),
}  # fmt: skip


def write(path: pathlib.Path, content) -> pathlib.Path:
    if path.suffix == ".safetensors":
        save_file(dict(content), path)
    else:
        torch.save(content, path)
    return path


# --- references ---------------------------------------------------------------------------------------------


def cubic_weights(new: int, old: int, scale: float) -> np.ndarray:
    """(new, old): row i interpolates place i of `new` from the old ones: Keys' kernel, a = -0.75, edges repeated."""
    weights = np.zeros((new, old))
    for place in range(new):
        centre = (place + 0.5) / scale - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            x, a = abs(centre - tap), -0.75
            near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
            weights[place, min(max(tap, 0), old - 1)] += near if x <= 1 else far
    return weights


def slow_resize(table: torch.Tensor, grid: tuple[int, int], nudge: float) -> torch.Tensor:
    rows, columns = (cubic_weights(side, SIDE, (side + nudge) / SIDE) for side in grid)
    old = table.double().numpy().reshape(SIDE, SIDE, -1)
    new = np.einsum("rR,cC,RCd->rcd", rows, columns, old)
    return torch.from_numpy(new.reshape(grid[0] * grid[1], -1)).float()


def reference(state: dict, images: torch.Tensor, way: str, heads: int = HEADS, **options) -> torch.Tensor:
    """timm's features (B, D, h, w) of the last block, normed."""
    height, width = images.shape[-2:]
    grid, options = (height // P, width // P), {**VIT, "num_heads": heads, "num_classes": 0, **options}
    if way == "timm":
        model = VisionTransformer(**options, dynamic_img_size=True)
    else:
        model, table = VisionTransformer(**{**options, "img_size": (height, width)}), state["pos_embed"]
        if grid != (SIDE, SIDE):
            new = slow_resize(table[0, 1:], grid, 0.1 if way == "nudged" else 0.0)
            state = {**state, "pos_embed": torch.cat([table[:, :1], new.unsqueeze(0)], dim=1)}
    model.load_state_dict(state, strict=True)
    tokens = model.eval().forward_features(images)[:, 1:]
    return tokens.transpose(1, 2).unflatten(2, grid)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=5e-5)


@pytest.fixture(scope="module")
def state() -> dict:
    return vit_state()


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_features_equal_timms_at_the_files_size_and_at_another(name, state, tmp_path):
    content, format, way = FILES[name]
    encoder = load_encoder(write(tmp_path / name, content(state)))
    assert isinstance(encoder, ViTEncoder) and not encoder.training
    assert (encoder.patch_size, encoder.grid, len(encoder.blocks)) == (P, (SIDE, SIDE), DEPTH)
    assert all(value.dtype == torch.float32 and value.device.type == "cpu" for value in encoder.state_dict().values())
    for size in ((SIDE * P, SIDE * P), OTHER_SIZE, (SIDE * P // 2, SIDE * P * 2)):  # the last has as many patches
        images = torch.randn(2, 3, *size)
        close(encoder.features(images), reference(state, images, way))
    assert read_encoder(tmp_path / name)[0].name == format


def test_the_three_ways_of_resizing_differ(state, tmp_path):
    """Otherwise the comparison above could not tell them apart."""
    images = torch.randn(1, 3, *OTHER_SIZE)
    plain, nudged, theirs = (reference(state, images, way) for way in ("plain", "nudged", "timm"))
    for one, other in ((plain, nudged), (plain, theirs), (nudged, theirs)):
        assert (one - other).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("block", [1, 2])
def test_earlier_blocks_are_timms(state, tmp_path, block):
    encoder = load_encoder(write(tmp_path / "mae.pth", {"model": state}))
    model = VisionTransformer(**VIT, num_classes=0).eval()
    model.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    (expected,) = model.get_intermediate_layers(images, n=[block - 1], reshape=True, norm=True)
    close(encoder.features(images, block), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", [MAE, SiamMAE, GaussianSiamMAE, partial(SiamMAE, masking=AdaptiveMasking(0.75))])
def test_this_projects_checkpoints(kind, tmp_path):
    torch.manual_seed(0)
    shape = {"image_size": 32, "patch_size": P, "embed_dim": 96, "depth": 2, "num_heads": 3, "mask_ratio": 0.75}
    model = shake(kind(**shape, decoder_embed_dim=E, decoder_depth=1, decoder_num_heads=2))
    files = RunFiles(tmp_path, model.architecture, TrainOptions(steps=1, batch_size=1), is_main=True)
    files.save(model, torch.optim.AdamW(model.parameters()), 1)
    encoder = load_encoder(tmp_path / "last.pt")  # three heads of 32 channels: the file tells
    for size in ((32, 32), OTHER_SIZE):
        images = torch.randn(2, 3, *size)
        assert torch.equal(encoder.features(images), model.features(images))


@torch.no_grad()
def test_half_precision_weights_are_widened(state, tmp_path):
    halves = {name: value.half() for name, value in state.items()}
    encoder = load_encoder(write(tmp_path / "mae.pth", {"model": halves}))
    images = torch.randn(1, 3, 32, 32)
    close(encoder.features(images), reference({name: value.float() for name, value in halves.items()}, images, "plain"))


@torch.no_grad()
def test_heads_and_an_odd_mlp(tmp_path):
    images = torch.randn(1, 3, 32, 32)
    state = vit_state(mlp_ratio=100.5 / D)  # 100 hidden channels
    for heads in (1, 4):
        told = write(tmp_path / "told.pth", {"model": state, "args": argparse.Namespace(num_heads=heads)})
        expected = reference(state, images, "plain", heads, mlp_ratio=100.5 / D)
        close(load_encoder(told).features(images), expected)
    odd = vit_state(embed_dim=448, num_heads=7, mlp_ratio=453.5 / 448)  # int(448 * (453 / 448)) is 452
    encoder = load_encoder(write(tmp_path / "odd.pth", {"model": odd}), num_heads=7)
    assert encoder.blocks[0].mlp.fc1.out_features == 453 and encoder.blocks[0].attn.num_heads == 7
    huge = vit_state(embed_dim=1280, num_heads=16, depth=1)
    assert load_encoder(write(tmp_path / "huge.pth", {"model": huge})).blocks[0].attn.num_heads == 16


# --- refusals -----------------------------------------------------------------------------------------------


def refused(path_or_name, match: str) -> str:
    with pytest.raises(UserError, match=match) as error:
        load_encoder(path_or_name)
    assert "\n" not in str(error.value)
    return str(error.value)


def altered(state, **changes) -> dict:
    """The state dict with tensors replaced, added, or (None) left out; `__` stands for the dot."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in {**state, **named}.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"norm__bias": None, "blocks__1__mlp__fc2__bias": None}, r"2 missing \(blocks.1.mlp.fc2.bias, norm.bias\)"),
        ({"dist_token": torch.zeros(1, 1, D)}, r"1 unexpected \(dist_token\)"),
        ({f"blocks__{n}__ls1__gamma": torch.ones(D) for n in range(DEPTH)}, r"2 unexpected .*give its name$"),
        ({f"stray{n}": torch.ones(1) for n in range(5)}, r"5 unexpected \(stray0, stray1, stray2, ...\)"),
        ({"blocks__0__attn__qkv__weight": torch.ones(D, D)}, r"1 misshapen \(blocks.0.attn.qkv.weight\)"),
        ({"patch_embed__proj__weight": torch.ones(D, 1, P, P)}, "misshapen .patch_embed.proj.weight"),
        ({"patch_embed__proj__weight": torch.ones(D, 3, 2, P, P)}, r"missing or misshapen \(patch_embed.proj.weight\)"),
        ({"pos_embed": None}, r"missing or misshapen \(pos_embed\)"),
        ({"pos_embed": torch.ones(1, 1 + 8, D)}, "8 positions beside a class token do not tell their grid"),
        ({"pos_embed": torch.ones(1, 1, D)}, "0 positions beside"),
        ({"pos_embed": torch.ones(1, 16, D)}, "15 positions beside"),
        ({"fc_norm__weight": torch.ones(D)}, r"1 unexpected \(fc_norm.weight beside norm.weight\)"),
        ({"blocks__0__attn__q_bias": torch.ones(D)}, "biases of queries and values apart"),
        ({"cls_token": None}, r"1 missing \(cls_token\)"),
        ({"blocks__7__norm1__weight": torch.ones(D)}, r"missing \(.*unexpected \(blocks.7.norm1.weight"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_one_error(state, changes, match, tmp_path):
    path = write(tmp_path / "odd.pth", {"model": altered(state, **changes)})
    assert str(path) in refused(path, match)


def test_heads_that_cannot_be_are_refused(state, tmp_path):
    for heads in (0, -2, 5, "2"):
        told = write(tmp_path / "told.pth", {"model": state, "args": {"num_heads": heads}})
        refused(told, f"an encoder 192 wide does not have {heads} heads")
    refused(
        write(tmp_path / "narrow.pth", {"model": vit_state(embed_dim=96)}),
        "96 wide does not tell its heads: give num_heads",
    )


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "damaged or no checkpoint"),
        (b"\n <!DOCTYPE html><html>Quota exceeded</html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "only points to weights"),
        (b"junk" * 100, "damaged or no checkpoint"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_files_that_are_no_checkpoints(content, match, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert str(path) in refused(path, match)


@pytest.mark.parametrize("name", ["dino_full.pth", "timm.safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_truncated_files(name, share, state, tmp_path):
    path = write(tmp_path / name, FILES[name][0](state))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "is damaged or no checkpoint")


def test_missing_files_and_folders(tmp_path):
    refused(tmp_path / "none.pth", "does not exist")
    refused("none.pth", "none.pth does not exist")
    refused("nowhere/none", "nowhere/none does not exist")
    refused(tmp_path, "is a folder")


class Trap:
    """Unpickled freely, it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return pathlib.os.mkdir, (self.folder,)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_not_run(legacy, state, tmp_path):
    path, sprung = tmp_path / "trap.pth", tmp_path / "sprung"
    torch.save({"model": state, "args": Trap(sprung)}, path, _use_new_zipfile_serialization=not legacy)
    refused(path, r"holds pickled code \(\w+\.mkdir\), which is not run: save its state_dict")
    assert not sprung.exists()


def test_whole_models_and_bare_pickles_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path)
    refused(path, r"holds pickled code \(torch.nn.modules.linear.Linear\)")
    path.write_bytes(pickle.dumps({"model": np.ones(3)}))
    refused(path, "holds pickled code|no checkpoint")


@pytest.mark.parametrize(
    "content", [[1, 2], {"epoch": 3}, {"model": {"lr": 0.1}}, {}, torch.ones(3), {1: torch.ones(2)}]
)
def test_files_without_a_models_tensors(content, tmp_path):
    refused(write(tmp_path / "odd.pth", content), "holds no model's tensors")


def test_unknown_formats_name_the_known_ones(state, tmp_path):
    content = {"encoder.layers.0.Wq.weight": torch.ones(2), "embedding.weight": torch.ones(2)}
    message = refused(write(tmp_path / "odd.pth", content), r"no known format \(encoder.layers.0.Wq.weight, embedding")
    assert all(name in message for name in ("this project's", "MAE", "DINO", "CropMAE", "RSP", "timm"))
    bottleneck = {"conv1.weight": torch.ones(2), "layer1.0.conv1.weight": torch.ones(2)}
    refused(write(tmp_path / "resnet.pth", {"state_dict": bottleneck}), "no known format")


# --- timm's own models --------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face cache of our own and no network; returns a function that puts a model's weights there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def put(name: str, model: nn.Module) -> None:
        folder = tmp_path / "hub" / f"models--timm--{name}"
        for path, text in (("refs/main", "0" * 40), (f"snapshots/{'0' * 40}/model.safetensors", "")):
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_text(text)
        save_file(model.state_dict(), folder / "snapshots" / ("0" * 40) / "model.safetensors")

    return put


def timm_reference(model: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    """The features of timm's model, given frames as its own configuration wants them."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    own = [torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std")]
    tokens = model.forward_features((images * std + mean - own[0]) / own[1])
    tokens = model.fc_norm(tokens)[:, model.num_prefix_tokens :]  # the identity where the class token is pooled
    return tokens.transpose(1, 2).unflatten(2, [side // 16 for side in images.shape[-2:]])


def timm_model(name: str) -> VisionTransformer:
    torch.manual_seed(3)
    return shake(timm.create_model(name, dynamic_img_size=True))


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_vit", "test_vit2"])  # class token; register, layer scale, patches pooled
def test_a_timm_name_gives_timms_model(name, hub):
    model = timm_model(name)
    hub(f"{name}.r160_in1k", model)
    encoder = load_encoder(name)
    assert isinstance(encoder, TimmEncoder) and not encoder.training and encoder.patch_size == 16
    assert encoder.has_cls == (name == "test_vit") and len(encoder.blocks) == len(model.blocks)
    for size in ((160, 160), (64, 96)):
        images = torch.randn(2, 3, *size)
        close(encoder.features(images), timm_reference(model, images))
    (first,) = model.forward_intermediates(images * encoder.scale + encoder.shift, [0], intermediates_only=True)
    close(encoder.features(images, 1), encoder.norm(first.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    with pytest.raises(UserError, match="block 9 does not exist"):
        encoder.features(images, 9)
    with pytest.raises(UserError, match="use 64x96"):
        encoder.features(torch.randn(1, 3, 60, 96))
    assert encoder.scale.flatten().tolist() != [1, 1, 1]  # test_vit wants deviations of 0.5


@torch.no_grad()
def test_a_plain_vit_is_the_same_by_name_and_from_its_file(hub, tmp_path):
    model, images = timm_model("test_vit"), torch.randn(1, 3, 64, 96)
    hub("test_vit.r160_in1k", model)
    named = load_encoder("test_vit")
    filed = load_encoder(write(tmp_path / "test_vit.pth", {"state_dict": model.state_dict(), "args": {"num_heads": 2}}))
    close(filed.features(images * named.scale + named.shift), named.features(images))


def test_a_tensor_that_timms_own_weights_lack_is_an_error(hub):
    model = timm_model("test_vit2")
    del model.blocks[2].ls1.gamma
    hub("test_vit2.r160_in1k", model)
    refused("test_vit2", "no weights for timm's test_vit2 .*blocks.2.ls1.gamma")


def test_timm_names_that_cannot_be(hub):
    message = refused(
        "vit_smal_patch16_224", "unknown timm model 'vit_smal_patch16_224': did you mean 'vit_small_patch16"
    )
    assert len(message) < 300
    refused("zzzzqqqq", "unknown timm model 'zzzzqqqq': give a file")
    refused("test_vit", "no weights for timm's test_vit")  # neither cached nor to be had
    refused("test_vit.nonsense", "no weights for timm's test_vit.nonsense .*nonsense")
    refused("test_resnet", "test_resnet is no ViT on one grid of patches")


def test_a_timm_model_without_one_grid_is_refused(hub):
    swin = timm.create_model("swin_tiny_patch4_window7_224")
    hub("swin_tiny_patch4_window7_224.ms_in1k", swin)
    refused("swin_tiny_patch4_window7_224", "is no ViT on one grid of patches")


# --- what files do not tell, and what lies beside the tensors ---


@pytest.mark.parametrize("grid", [(3, 5), (4, 9), (5, 5)])
@pytest.mark.parametrize("learned", [False, True], ids=["waves", "learned"])
@torch.no_grad()
def test_the_grid_of_positions_is_told_shown_or_asked_for(tmp_path, grid, learned):
    """4 x 9 patches are as many as 6 x 6: only their positions, or whoever knows, can tell."""
    size = tuple(side * P for side in grid)
    torch.manual_seed(0)
    model = VisionTransformer(**{**VIT, "img_size": size, "num_classes": 0}).eval()
    if learned:  # as trained ones are: neighbours alike
        rows, columns = np.indices(grid).reshape(2, -1, 1) / 4
        waves = torch.from_numpy(np.sin(rows + np.arange(D)) + np.cos(columns - np.arange(D))).float()
    else:
        waves = sincos_positions(D, grid)
    model.pos_embed.data[0, 1:] = waves
    images = torch.randn(1, 3, *size)
    expected = model.forward_features(images)[:, 1:].transpose(1, 2).unflatten(2, grid)
    path = write(tmp_path / "odd.pth", {"model": model.state_dict()})
    if learned and grid != (5, 5):
        refused(path, r"positions beside a class token do not tell their grid: give it")
        close(load_encoder(path, grid=grid).features(images), expected)
        with pytest.raises(UserError, match="positions are no grid of 3 x 4"):
            load_encoder(path, grid=(3, 4))
        path = write(tmp_path / "told.pth", {"model": model.state_dict(), "args": {"img_size": list(size)}})
    close(load_encoder(path).features(images), expected)


WRAPPED = {
    "compiled in DDP": {"model": ("module._orig_mod.",)},
    "DDP in a compiled one": {"model": ("_orig_mod.module.",)},
    "compiled backbone": {"teacher": ("module.backbone._orig_mod.",)},
    "Lightning": {"state_dict": ("model.",)},
    "Lightning, compiled, in DDP": {"state_dict": ("module.model._orig_mod.",)},
    "a net within a model": {"state_dict": ("model.net.",)},
    "container in container": {"state_dict": {"model": ("",)}},
    "DeepSpeed": {"module": ("model.",)},
}


@pytest.mark.parametrize("name", WRAPPED)
@torch.no_grad()
def test_wrappers_in_any_order_are_seen_through(state, name, tmp_path):
    def filled(form: dict | tuple) -> dict:
        inside = isinstance(form, dict)
        return {key: filled(value) for key, value in form.items()} if inside else prefixed(form[0], state)

    images = torch.randn(1, 3, 32, 32)
    content = {**filled(WRAPPED[name]), "epoch": 3, "criterion.weight": torch.ones(3)}
    close(load_encoder(write(tmp_path / "c.pth", content)).features(images), reference(state, images, "plain"))


def test_a_trainer_may_hold_more_than_the_encoder(state, tmp_path):
    content = {
        "state_dict": {**prefixed("model.", state), "loss.weight": torch.ones(2), "model_ema.decay": torch.ones(1)}
    }
    assert len(load_encoder(write(tmp_path / "c.pth", content)).blocks) == DEPTH


def test_plain_values_beside_the_tensors_are_passed_over(state, tmp_path):
    values = {
        "best": np.float64(0.5), "step": np.int64(3), "flag": np.bool_(True), "curve": np.linspace(0, 1, 5),
        "fortran": np.asfortranarray(np.ones((2, 3), np.float32)), "names": np.array(["a", "b"]),
        "objects": np.array([{}, None], dtype=object), "when": datetime.datetime(2026, 1, 2), "out": Path("runs"),
        "args": argparse.Namespace(output_dir=Path("runs"), lr=np.float32(1e-3)),
    }  # fmt: skip
    path = tmp_path / "c.pth"
    torch.save({"model": state, **values}, path)
    assert len(load_encoder(path).blocks) == DEPTH


def test_values_as_newer_python_writes_them_are_passed_over(state, tmp_path):
    """Python 3.13 has its paths in another module."""
    path = tmp_path / "c.pth"
    torch.save({"model": state, "out": Path("runs")}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert b"cpathlib\nPosixPath" in content
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part.replace(b"cpathlib\nPosixPath", b"cpathlib._local\nPosixPath"))
    assert len(load_encoder(path).blocks) == DEPTH


class Harmful:
    """A value that runs code when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_beside_plain_values_is_neither_run_nor_passed_over(state, tmp_path):
    content = {"model": state, "best": np.float64(0.5), "x": Harmful(tmp_path / "touched")}
    refused(write(tmp_path / "c.pth", content), r"holds pickled code .*which is not run")
    assert not (tmp_path / "touched").exists()


# --- The Hugging Face hub -----------------------------------------------------------------------------------

ADDRESS = "owner/weights/resolve/main/runs/last.safetensors"


class Hub(BaseHTTPRequestHandler):
    """One file under the hub's own address, with its headers; the first answer breaks off in the middle."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):  # noqa: N802 - its name
        self.do_GET()

    def do_GET(self):  # noqa: N802 - its name
        content = self.server.content if self.path == f"/{ADDRESS}" else b""
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(404 if not content else 206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("X-Error-Code", "EntryNotFound") if not content else None
        self.end_headers()
        if self.command == "GET":
            self.server.starts.append(start)
            cut = len(content) // 2 if len(self.server.starts) == 1 else len(content)
            self.wfile.write(content[start:cut])
            self.close_connection = cut < len(content)


@pytest.fixture
def hub_server(monkeypatch, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.content, server.starts = b"", []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        url = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server
        server.shutdown()


def test_a_file_of_the_hub_is_fetched_once_though_the_connection_breaks(state, hub_server, tmp_path):
    file = write(tmp_path / "timm.safetensors", state)
    hub_server.content = file.read_bytes()
    address = "hf://owner/weights/runs/last.safetensors"
    images = torch.randn(1, 3, 32, 32)
    for _ in range(2):
        assert torch.equal(load_encoder(address).features(images), load_encoder(file).features(images))
    assert len(hub_server.starts) == 2  # the one that broke, and the next


def test_addresses_of_the_hub_that_cannot_be(hub_server):
    refused("hf://owner/weights", "write hf://owner/repository/file")
    refused("https://hub.org/owner/weights/last.pth", "write hf://owner/repository/file")
    refused("hf://owner/weights/none.pth", "none.pth: not to be had .*404")
