"""Other people's checkpoint files: read safely, recognised by their tensors' names, reduced to the encoder's tensors.

Only files are dealt with here; `pretrained.py` builds the encoder. Names follow the public code that writes the files:
facebookresearch/mae (He et al. 2022), facebookresearch/dino (Caron et al. 2021), timm, CropMAE (Eymaël et al. 2024,
whose SiamMAE goes by the same names), RSP (Jang et al. 2024), eleander/SiamMAE, and this project's own.

Where a position table is brought to another grid, each format keeps to its own evaluation: DINO's and CropMAE's add
0.1 to the new size, timm's antialiases, MAE's does neither. RSP's evaluation needs a file that its release lacks and
calls as DINO's: 0.1 is taken there, too.
"""

import argparse
import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from lib.errors import UserError
from lib.tokens.patches import resize_positions

NUDGED = partial(resize_positions, nudge=0.1)
ANTIALIASED = partial(resize_positions, antialias=True)
DECODER = r"decoder_|mask_token$"
NOTHING = r"(?!)"


@dataclass(frozen=True)
class Format:
    """How the checkpoints of one project look.

    name: for messages. marker: a regular expression that matches `container:tensor name` of some tensor; the container
    is the entry of the file that holds the tensors, "" when they are the file, "safetensors" for such files.
    prefix: what the names of the encoder's tensors begin with. ignore: how the names of what is no encoder begin.
    rename: (pattern, replacement) once the prefix is off. resize: see `ViTEncoder`.
    """

    name: str
    marker: str
    prefix: str = ""
    ignore: str = NOTHING
    rename: tuple[str, str] = (NOTHING, "")
    resize: Callable = resize_positions


# The first whose marker matches counts, so the particular come before the general. A bare state dict without a head
# could be many a project's: it is taken as DINO publishes its backbones.
FORMATS = (
    Format("this project's", r"^model:encoder\.patch_embed\.", "encoder.", r"(?!encoder\.)"),
    Format("DINO", r":backbone\.patch_embed\.", "backbone.", r"head\.", resize=NUDGED),
    Format("RSP", r":decoder_embed_deter\.", ignore=rf"{DECODER}|to_(prior|posterior)\.", resize=NUDGED),
    Format("CropMAE", r":decoder_blocks\.\d+\.multihead_attn\.", ignore=DECODER, resize=NUDGED),
    Format("eleander/SiamMAE", r":mae\.patch_embed\.", "mae.", r"mae\.(decoder_|mask_token$)|cross_decoder\."),
    Format("MAE with decoder", r":decoder_blocks\.\d+\.attn\.", ignore=DECODER),
    # Fine-tuned with average pooling: the final norm stands behind the pooling; here it is given each token.
    Format("MAE fine-tuned", r"^model:fc_norm\.", ignore=r"head\.", rename=(r"^fc_norm\.", "norm.")),
    Format("MAE", r"^model:patch_embed\.", ignore=r"head\.|mask_token$"),
    Format("timm", r":fc_norm\.", ignore=r"head\.", rename=(r"^fc_norm\.", "norm."), resize=ANTIALIASED),
    Format("timm", r"^(safetensors|state_dict):patch_embed\.|:head\.", ignore=r"head\.", resize=ANTIALIASED),
    Format("DINO backbone", r"^:patch_embed\.", resize=NUDGED),
)
CONTAINERS = ("teacher", "model", "state_dict")  # DINO's published numbers are the teacher's


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file. settings: what the file says of its model, by name; empty when it says nothing."""

    container: str
    tensors: dict[str, Tensor]
    settings: dict


def read_tensors(path: Path) -> Checkpoint:
    """Read a .pth, .pt or .safetensors file: tensors and plain values, never code (argparse.Namespace is a plain one).

    The wrappers' prefixes "module." and "_orig_mod." are taken off the names.
    """
    content = _load(path)
    container = "safetensors" if path.suffix == ".safetensors" else ""
    entries = content if isinstance(content, dict) else {}
    for name in CONTAINERS:
        if isinstance(entries.get(name), dict):
            container, entries = name, entries[name]
            break
    tensors = {
        re.sub(r"^(module\.|_orig_mod\.)+", "", name): value
        for name, value in entries.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise UserError(f"{path} holds no model's tensors: give a checkpoint or a state dict")
    stated = (content.get(name) for name in ("architecture", "args")) if container else ()
    settings = [vars(value) if isinstance(value, argparse.Namespace) else value for value in stated]
    return Checkpoint(container, tensors, next((value for value in settings if isinstance(value, dict)), {}))


def encoder_tensors(path: Path, checkpoint: Checkpoint) -> tuple[Format, dict[str, Tensor]]:
    """The format of a checkpoint and its encoder's tensors, float32, as `ViTEncoder` names them.

    What belongs to a decoder, head or projector is left out; a name that fits nothing stays, for the caller to refuse.
    """
    names = [f"{checkpoint.container}:{name}" for name in checkpoint.tensors]
    if any(name.endswith(".attn.q_bias") for name in names):
        raise UserError(f"{path} keeps biases of queries and values apart (BEiT, VideoMAE): such ViTs are not read")
    format = next((known for known in FORMATS if any(re.search(known.marker, name) for name in names)), None)
    if format is None:
        known = ", ".join(dict.fromkeys(known.name for known in FORMATS))
        some = ", ".join(list(checkpoint.tensors)[:3])
        raise UserError(f"{path} has tensors of no known format ({some}, ...): known are {known}")
    tensors = {}
    for name, tensor in checkpoint.tensors.items():
        if not re.match(format.ignore, name):
            ours = re.sub(*format.rename, name.removeprefix(format.prefix))
            tensors[f"{name} beside {ours}" if ours in tensors else ours] = tensor.float()
    return format, tensors


def _load(path: Path):
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
        if start.startswith(b"<"):
            raise UserError(f"{path} is a web page, not weights: download the file itself")
        if start.startswith(b"version https://git-lfs"):
            raise UserError(f"{path} only points to weights (Git LFS): fetch the file itself, for example git lfs pull")
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: correct the path, or give the name of a timm model") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: give the file of weights in it") from error
    except Exception as error:
        code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code:
            raise UserError(
                f"{path} holds pickled code ({code.group(1)}), which is not run: save its state_dict() alone"
            ) from error
        raise UserError(
            f"{path} is damaged or no checkpoint ({type(error).__name__}): download or copy it again"
        ) from error
