"""Other people's checkpoint files: read safely, recognised by their tensors' names, reduced to the encoder's tensors.

Names follow the public code that writes the files: facebookresearch/mae (He et al. 2022), facebookresearch/dino (Caron
et al. 2021), timm, CropMAE (Eymaël et al. 2024, whose SiamMAE goes by the same names), RSP (Jang et al. 2024),
eleander/SiamMAE, and this project's own.
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

# Each format resizes positions as its own evaluation. RSP's needs a file that its release lacks and calls as DINO's.
NUDGED = partial(resize_positions, nudge=0.1)
ANTIALIASED = partial(resize_positions, antialias=True)
DECODER = r"decoder_|mask_token$"
NOTHING = r"(?!)"


@dataclass(frozen=True)
class Format:
    """How the checkpoints of one project look.

    marker: a regular expression that matches `container:tensor name` of some tensor; the container is the entry of the
    file that holds the tensors, "" when they are the file, "safetensors" for such files.
    """

    name: str  # for messages
    marker: str
    prefix: str = ""  # what the names of the encoder's tensors begin with
    ignore: str = NOTHING  # how the names of what is no encoder begin
    rename: tuple[str, str] = (NOTHING, "")  # pattern and replacement, once the prefix is off
    resize: Callable = resize_positions  # see ViTEncoder


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
# DINO's published numbers are the teacher's. A container may lie in another.
CONTAINERS = {"teacher": "teacher", "model": "model", "state_dict": "state_dict"}
CONTAINERS |= dict.fromkeys(("model_state_dict", "module", "net"), "model")  # other trainers' words for it
STATED = ("architecture", "args", "hyper_parameters", "config")  # where a file says of what shape its model is
INNER = r"(?:(?<=\.)|^)(?:module|_orig_mod)\."  # what DDP and torch.compile put into names, before or within
OUTER = r"(?:(?:model|net|network)\.)+"  # what a trainer that holds the model puts before them


class _Unread:
    """Stands for a value beside the tensors that says nothing of the model: NumPy's own would take any pointer."""

    def __init__(self, *_) -> None:
        pass

    def __setstate__(self, _) -> None:
        pass


def _unread(*_) -> _Unread:
    return _Unread()


NUMPY = ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
PLAIN = [
    argparse.Namespace, (_Unread, "numpy.ndarray"), (_Unread, "numpy.dtype"), (_unread, "_codecs.encode"),
    *((_unread, f"numpy.{core}.{name}") for core in ("core", "_core") for name in NUMPY),
    *((_Unread, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in PATHS),
    *((_Unread, f"datetime.{name}") for name in ("datetime", "date", "time", "timedelta", "timezone")),
]  # fmt: skip


def read_encoder(path: Path) -> tuple[Format, dict[str, Tensor], dict]:
    """Of a .pth, .pt or .safetensors file its format, its encoder's tensors, and what it says of its model by name.

    The tensors are float32, named as ViTEncoder's; a name that fits nothing stays, for the caller to refuse.
    """
    content = _load(path)
    container, entries = "safetensors" if path.suffix == ".safetensors" else "", content
    while inner := next((name for name in CONTAINERS if isinstance(entries.get(name), dict)), None):
        container, entries = CONTAINERS[inner], entries[inner]
    tensors = _unwrapped(entries)
    if not tensors:
        raise UserError(f"{path} holds no model's tensors: give a checkpoint or a state dict")
    format = _format(path, container, tensors)
    kept = {}
    for name, tensor in tensors.items():
        if not re.match(format.ignore, name):
            ours = re.sub(*format.rename, name.removeprefix(format.prefix))
            kept[f"{name} beside {ours}" if ours in kept else ours] = tensor.float()
    stated = (content.get(name) for name in STATED) if container else ()
    settings = [vars(value) if isinstance(value, argparse.Namespace) else value for value in stated]
    return format, kept, next((value for value in settings if isinstance(value, dict)), {})


def _unwrapped(entries: dict) -> dict[str, Tensor]:
    """The tensors by the names that they have in the model itself, whatever it was wrapped in, in whatever order."""
    named = {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)}
    named = {re.sub(INNER, "", name): value for name, value in named.items()}
    outer = next((match[0] for match in map(re.compile(rf"{OUTER}(?=.*patch_embed\.)").match, named) if match), "")
    return {name.removeprefix(outer): value for name, value in named.items() if name.startswith(outer)}


def _format(path: Path, container: str, tensors: dict[str, Tensor]) -> Format:
    if any(name.endswith(".attn.q_bias") for name in tensors):
        raise UserError(f"{path} keeps biases of queries and values apart (BEiT, VideoMAE): such ViTs are not read")
    for format in FORMATS:
        if any(re.search(format.marker, f"{container}:{name}") for name in tensors):
            return format
    known = ", ".join(dict.fromkeys(format.name for format in FORMATS))
    some = ", ".join(list(tensors)[:3])
    raise UserError(f"{path} has tensors of no known format ({some}, ...): known are {known}")


def _load(path: Path) -> dict:
    """Tensors and plain values, never code; {} where a file holds no dictionary."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
        if start.startswith(b"<"):
            raise UserError(f"{path} is a web page, not weights: download the file itself")
        if start.startswith(b"version https://git-lfs"):
            raise UserError(f"{path} only points to weights (Git LFS): fetch the file itself, for example git lfs pull")
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(PLAIN), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return content if isinstance(content, dict) else {}
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: correct the path, or give the name of a timm model") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: give the file of weights in it") from error
    except Exception as error:
        code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        problem = f"is damaged or no checkpoint ({type(error).__name__}): download or copy it again"
        if code:
            problem = f"holds pickled code ({code.group(1)}), which is not run: save its state_dict() alone"
        raise UserError(f"{path} {problem}") from error
