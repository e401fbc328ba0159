"""A training run of seconds, for tests that need it in a process of its own: python small_training.py OUT_DIR [...]."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lib.checkpoints import Record
from lib.models.siammae import SiamMAE
from lib.presets import Schedule
from lib.tokens.masking import Grid, Mask, Masking, mask_from_noise
from lib.training import StepBatches, TrainOptions, train

OPTIONS = TrainOptions(
    steps=20, batch_size=4, base_lr=0.1, warmup_steps=3, accumulation=2, save_every=4, precision="no", seed=7
)
SHAPE = {"image_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "mask_ratio": 0.75}
DECODER = {"decoder_embed_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2}


class SameMasking(Masking):
    """Hides the same patches of every sample: nothing in it depends on the process."""

    def __call__(self, tokens: Tensor, grid: Grid) -> Mask:
        batch, number, _ = tokens.shape
        noise = torch.arange(number, device=tokens.device).mul(5).remainder(number).float()
        return mask_from_noise(noise.repeat(batch, 1), number // 4)


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
    return SiamMAE(**SHAPE, **DECODER, masking=SameMasking(0.75) if same_mask else None)


def run(out_dir: str | Path, same_mask: bool = False, delay: float = 0.0) -> list[Record]:
    """Train the small model as OPTIONS say, or resume."""
    return train(build(same_mask), make_loader(OPTIONS, delay), OPTIONS, out_dir)


SETTINGS = Schedule(epochs=3, warmup_epochs=1, batch_size=4, base_lr=0.5, save_every=2, workers=0)


class Points(Dataset):
    """Eight points, drawn anew in each epoch; `stop` raises where an interrupt would."""

    def __init__(self, identity: str = "points", stop: int | None = None):
        self.identity, self.stop, self.read = identity, stop, []

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == self.stop:
            raise KeyboardInterrupt
        self.read.append(index)
        return torch.randn(5, generator=torch.Generator().manual_seed(index)).split([3, 2])


class Line(nn.Module):
    """Least squares: nothing random, everything checkable. `trouble` is added to the loss of a batch that holds 99."""

    def __init__(self, trouble=None, architecture=None):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(3, 2)
        self.architecture = architecture or {"inputs": 3, "outputs": 2}
        self.trouble = trouble

    def forward(self, batch):
        x, y = batch
        loss = (self.layer(x.clamp(max=9)) - y).square().mean()
        if self.trouble and (x == 99).any():
            loss = loss + self.trouble(self.layer.weight)
        return loss, {"loss": loss.detach()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out_dir")
    parser.add_argument("--same-mask", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    torch.set_num_threads(1)
    run(**vars(parser.parse_args()))
