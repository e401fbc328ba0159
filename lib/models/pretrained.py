"""Encoders with other people's weights, and with this project's own, behind one interface.

An encoder has `features(images, block=-1)`, float (B, 3, H, W) ImageNet-normalised -> (B, D, h, w), and `patch_size`,
`blocks` and `has_cls`, which attention maps need. Shapes: `B` batch, `H W` pixels, `h w` patch grid, `D` width.
"""

import difflib
import math
import re
from pathlib import Path

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lib.errors import UserError
from lib.models.checkpoint_formats import read_encoder
from lib.models.vit import ViTEncoder, block_number
from lib.tokens.patches import IMAGENET_MEAN, IMAGENET_STD, grid_of

SUFFIXES = {".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar"}
HEAD_WIDTH = 64  # of the field's ViTs, whatever their width ...
USUAL_HEADS = {1280: 16}  # ... but for ViT-H
# Width, patch side, grid and MLP are read off these; the number is that of their dimensions.
TELLING = {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2}


class TimmEncoder(nn.Module):
    """timm's own ViT behind the interface of `ViTEncoder`: registers, layer scale, rotary positions and all.

    `model` must be a VisionTransformer or Eva with dynamic image size. Frames are given ImageNet-normalised and
    brought to the model's own mean and deviation here. Positions are resized as timm does it.
    """

    def __init__(self, model: VisionTransformer | Eva):
        super().__init__()
        self.model, self.blocks = model, model.blocks
        self.patch_size = model.patch_embed.patch_size[0]
        self.has_cls = model.cls_token is not None
        # Models that pool the patches have their final norm behind the pooling; here it is given each token.
        self.norm = model.fc_norm if isinstance(model.norm, nn.Identity) else model.norm
        mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
        self.register_buffer("scale", torch.tensor(IMAGENET_STD).view(3, 1, 1) / std, persistent=False)
        self.register_buffer("shift", (torch.tensor(IMAGENET_MEAN).view(3, 1, 1) - mean) / std, persistent=False)

    def features(self, images: Tensor, block: int = -1) -> Tensor:
        """As `ViTEncoder.features`."""
        last = block_number(block, len(self.blocks))
        grid_of(*images.shape[-2:], self.patch_size)
        (features,) = self.model.forward_intermediates(
            images * self.scale + self.shift, indices=[last - 1], stop_early=True, intermediates_only=True
        )
        return self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def load_encoder(path_or_name: str | Path) -> ViTEncoder | TimmEncoder:
    """An encoder with trained weights, in evaluation mode on the CPU.

    path_or_name: a file (.pth, .pt, .safetensors) with a plain ViT in one of the formats of `checkpoint_formats.py`, or
    the name of a timm ViT, whose weights come from the Hugging Face cache or are downloaded into it. Frames of another
    size get positions as the format's own evaluation resizes them; they are given ImageNet-normalised.
    """
    path = Path(path_or_name).expanduser()
    named = isinstance(path_or_name, str) and not re.search(r"[/\\]", path_or_name) and path.suffix not in SUFFIXES
    return (_timm_vit(path_or_name) if named and not path.is_file() else _plain_vit(path)).eval()


def _plain_vit(path: Path) -> ViTEncoder:
    format, tensors, stated = read_encoder(path)
    if lacking := [name for name, ndim in TELLING.items() if name not in tensors or tensors[name].ndim != ndim]:
        raise _misfit(path, format.name, {"missing or misshapen": lacking})
    kernel, positions, hidden = (tensors[name] for name in TELLING)
    width, side = len(kernel), math.isqrt(max(0, positions.shape[1] - 1))
    if side < 1 or side**2 + 1 != positions.shape[1]:
        raise UserError(f"{path}: {positions.shape[1]} positions are no class token and a square grid: not a plain ViT")
    with torch.device("meta"):  # the file's tensors are put in place of what would be initialised
        encoder = ViTEncoder(
            image_size=side * kernel.shape[-1],
            patch_size=kernel.shape[-1],
            embed_dim=width,
            depth=len({name.split(".")[1] for name in tensors if re.match(r"blocks\.\d+\.", name)}),
            num_heads=_heads(path, width, stated.get("num_heads")),
            mlp_ratio=(len(hidden) + 0.5) / width,  # the half: int(width * ratio) must not fall short
            resize=format.resize,
        )
    wanted = encoder.state_dict()
    problems = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "misshapen": [name for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape],
    }
    if any(problems.values()):
        raise _misfit(path, format.name, problems)
    encoder.load_state_dict(tensors, assign=True)
    return encoder


def _heads(path: Path, width: int, stated: int | None) -> int:
    """No tensor tells it: what the file says of its model, else as the field's ViTs have them."""
    heads = USUAL_HEADS.get(width, width // HEAD_WIDTH) if stated is None else stated
    if not isinstance(heads, int) or heads < 1 or width % heads or (stated is None and width % HEAD_WIDTH):
        raise UserError(f"{path}: an encoder {width} wide does not have {heads} heads; the file must state num_heads")
    return heads


def _misfit(path: Path, format: str, problems: dict[str, list[str]]) -> UserError:
    words = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in problems.items()
        if names
    ]
    return UserError(
        f"{path}, read as {format}, is no plain ViT: tensors {', '.join(words)}; if timm has the model, give its name"
    )


def _timm_vit(name: str) -> TimmEncoder:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, {*timm.list_models(), *timm.list_models(pretrained=True)}, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise UserError(f"unknown timm model {name!r}: {hint}give a file of weights or a ViT of timm.list_models()")
    try:  # with as many classes as the weights have, timm insists on every tensor
        model = timm.create_model(name, pretrained=True, dynamic_img_size=True)
    except TypeError:  # other models do not know that option
        model = None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"no weights for timm's {name} ({type(error).__name__}: {reason})") from error
    if not isinstance(model, VisionTransformer | Eva):
        raise UserError(f"timm's {name} is no ViT on one grid of patches: choose another")
    model.reset_classifier(0)
    return TimmEncoder(model)
