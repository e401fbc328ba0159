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
from huggingface_hub import hf_hub_download
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lib.errors import UserError
from lib.models.checkpoint_formats import read_encoder
from lib.models.vit import ViTEncoder, block_number
from lib.tokens.patches import IMAGENET_MEAN, IMAGENET_STD, grid_of, sincos_positions

SUFFIXES = {".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar"}
USUAL_HEADS = {64: 1, 192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}  # width: of the field's
HUB = "hf://"
SIZES = ("img_size", "image_size", "input_size")  # how files state the size of the frames
SMOOTHER = 0.5  # a grid whose rows are as much more alike than a square's casts doubt on the square
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


def load_encoder(
    path_or_name: str | Path, num_heads: int | None = None, grid: tuple[int, int] | None = None
) -> ViTEncoder | TimmEncoder:
    """An encoder with trained weights, in evaluation mode on the CPU.

    path_or_name: a file (.pth, .pt, .safetensors) with a plain ViT in one of the formats of `checkpoint_formats.py`, or
    `hf://owner/repository/file` for such a file of the Hugging Face hub, or the name of a timm ViT; what is not in the
    hub's cache is downloaded into it. Frames of another size get positions as the format's own evaluation resizes them;
    they are given ImageNet-normalised.

    num_heads, and grid (h, w) of the patches it was trained on: for files that neither state nor show them, which are
    refused without.
    """
    if "://" in str(path_or_name):
        path_or_name = _from_hub(str(path_or_name))
    path = Path(path_or_name).expanduser()
    named = isinstance(path_or_name, str) and not re.search(r"[/\\]", path_or_name) and path.suffix not in SUFFIXES
    return (_timm_vit(path_or_name) if named and not path.is_file() else _plain_vit(path, num_heads, grid)).eval()


def _from_hub(address: str) -> Path:
    """The file in the hub's cache, downloaded if need be; huggingface_hub tries again where a connection breaks."""
    owner, _, rest = address.removeprefix(HUB).partition("/")
    repository, _, file = rest.partition("/")
    if not (address.startswith(HUB) and owner and repository and file):
        raise UserError(f"{address}: write {HUB}owner/repository/file.safetensors, or give a file that you fetched")
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", file))
    except Exception as error:  # of its own kinds, of HTTP, of the disk
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{address}: not to be had ({type(error).__name__}: {reason})") from error


def _plain_vit(path: Path, num_heads: int | None, grid: tuple[int, int] | None) -> ViTEncoder:
    format, tensors, stated = read_encoder(path)
    if lacking := [name for name, ndim in TELLING.items() if name not in tensors or tensors[name].ndim != ndim]:
        raise _misfit(path, format.name, {"missing or misshapen": lacking})
    kernel, positions, hidden = (tensors[name] for name in TELLING)
    width, side = len(kernel), kernel.shape[-1]
    grid = _grid(path, positions[0, 1:], side, grid, stated)
    with torch.device("meta"):  # the file's tensors are put in place of what would be initialised
        encoder = ViTEncoder(
            image_size=(grid[0] * side, grid[1] * side),
            patch_size=side,
            embed_dim=width,
            depth=len({name.split(".")[1] for name in tensors if re.match(r"blocks\.\d+\.", name)}),
            num_heads=_heads(path, width, stated.get("num_heads") if num_heads is None else num_heads),
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
    """No tensor tells it: what the caller or the file says, else what the field's ViTs of this width have."""
    heads = USUAL_HEADS.get(width) if stated is None else stated
    if heads is None:
        raise UserError(
            f"{path}: an encoder {width} wide does not tell its heads: give num_heads, or state it in the file"
        )
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise UserError(f"{path}: an encoder {width} wide does not have {heads} heads: correct num_heads")
    return heads


def _grid(path: Path, positions: Tensor, side: int, given: tuple[int, int] | None, stated: dict) -> tuple[int, int]:
    """Rows and columns of the grid that a position table (N, D) is of: as told, as its waves are, or square."""
    count, width = positions.shape
    size = next((stated[name] for name in SIZES if stated.get(name)), None)
    if given is None and size is not None:
        sides = list(size) if isinstance(size, list | tuple) else [size]
        given = tuple(int(pixels) // side for pixels in (sides * 2)[:2])
        given = given if math.prod(given) == count else None  # trained on another size than its table's
    if given is not None:
        if math.prod(given) != count:
            raise UserError(f"{path}: {count} positions are no grid of {' x '.join(map(str, given))}: correct the grid")
        return given
    grids = [(rows, count // rows) for rows in range(2, count) if count % rows == 0]
    for grid in grids if width % 4 == 0 else ():
        if torch.allclose(positions, sincos_positions(width, grid), atol=1e-3):
            return grid
    root = math.isqrt(count)
    if (
        count
        and root**2 == count
        and not any(_rows(positions, g) < SMOOTHER * _rows(positions, (root,) * 2) for g in grids)
    ):
        return root, root
    raise UserError(f"{path}: {count} positions beside a class token do not tell their grid: give it, rows and columns")


def _rows(positions: Tensor, grid: tuple[int, int]) -> float:
    """How far, squared, positions are from those in the row below."""
    return float((positions[grid[1] :] - positions[: -grid[1]]).square().mean()) if grid[0] > 1 else math.inf


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
