"""A training run of seconds, for tests that need it in a process of its own: python small_training.py OUT_DIR [...]."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lib.checkpoints import Record
from lib.data.clips import StepBatches
from lib.models.siammae import SiamMAE
from lib.tokens.masking import Mask, mask_from_noise
from lib.training import TrainOptions, train

OPTIONS = TrainOptions(
    steps=20, batch_size=4, base_lr=0.1, warmup_steps=3, accumulation=2, save_every=4, precision="no", seed=7
)
SHAPE = {"image_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "mask_ratio": 0.75}
DECODER = {"decoder_embed_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2}


class SameMask(SiamMAE):
    """SiamMAE that hides the same patches of every sample: nothing in it depends on the process."""

    def draw_mask(self, batch: int, num_patches: int, device: torch.device | str) -> Mask:
        noise = torch.arange(num_patches, device=device).mul(5).remainder(num_patches).float()
        return mask_from_noise(noise.repeat(batch, 1), num_patches // 4)


class Pairs(Dataset):
    """Random pairs of frames, each a function of its number alone; `delay` seconds each."""

    def __init__(self, delay: float = 0.0):
        self.delay = delay

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        time.sleep(self.delay)
        generator = torch.Generator().manual_seed(number)
        frames = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=generator)
        return {"past": frames[0], "future": frames[1]}


def make_loader(options: TrainOptions, delay: float = 0.0) -> Callable[[int], DataLoader]:
    """The loader of micro-batches from number `first` on."""
    micro_batches = options.steps * options.accumulation
    size = options.batch_size // options.accumulation

    def loader(first: int) -> DataLoader:
        batches = StepBatches(10, size, micro_batches, seed=options.seed, start_step=first)
        return DataLoader(Pairs(delay), batch_sampler=batches)

    return loader


def build(same_mask: bool = False) -> SiamMAE:
    """The small model, with the same weights at each call."""
    torch.manual_seed(0)
    return (SameMask if same_mask else SiamMAE)(**SHAPE, **DECODER)


def run(out_dir: str | Path, same_mask: bool = False, delay: float = 0.0) -> list[Record]:
    """Train the small model as OPTIONS say, or resume."""
    return train(build(same_mask), make_loader(OPTIONS, delay), OPTIONS, out_dir)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out_dir")
    parser.add_argument("--same-mask", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    torch.set_num_threads(1)
    run(**vars(parser.parse_args()))
