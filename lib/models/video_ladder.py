"""The video ladder L-VLN: frames in one by one, the next frame out, with a memory at every scale.

After a course report on video prediction, which extends Video Ladder Networks (Cricri et al. 2016, arXiv 1612.01756).
An encoder's maps go up a decoder; at four scales a lateral block of recurrent units joins in.
Shapes: `B` clips, `T` frames, `P` predicted ones, `H W` pixels, multiples of 32; `C` channels, `h w` of a map.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.errors import UserError, unknown
from lib.models.conv_gru import ConvGRU
from lib.models.frame_loss import Weights, check_weights, frame_loss
from lib.models.ladder_encoders import CHANNELS, ResNetTaps, TokenTaps
from lib.models.location_conv import LocationConv2d
from lib.tokens.patches import normalize_images

KERNELS = (3, 5, 7)
HEADS = ("shuffle", "nearest", "bilinear")
State = list[list[Tensor | None]]  # of each lateral block the states of its recurrent units, None before the first


class VideoLadder(nn.Module):
    """`model({"video": uint8 (B, 3, T, H, W)})` -> (loss, logs): the first `given` frames are seen, the rest predicted.

    Args:
        size: (H, W); locations are learned, so it is fixed.
        given: 3 of 6 frames in the report, 5 of 6 in its one-frame variant.
        channels: of a recurrent unit; 64 in the report; the decoder is 16 times as wide.
        full_resolution: the lateral blocks begin one scale higher, with fewer channels, and nothing is enlarged behind.
        head: how else the picture of half size is enlarged; "shuffle" in the report.
        per_channel: see LocationConv2d.
        scratch: as the released code runs: what follows the last given frame is fed back, but is no prediction.
        frozen: the encoder's body stays as it is, its BatchNorms' statistics, too.
        loss_weights: of 1 - SSIM, L1 and L2. clipped: see lib.models.frame_loss.
        encoder: None: ResNet-18 with random weights.
    """

    def __init__(
        self, size: tuple[int, int] = (128, 160), given: int = 3, channels: int = 64, full_resolution: bool = False,
        head: str = "shuffle", per_channel: bool = False, scratch: bool = False, frozen: bool = True,
        loss_weights: Weights = (0.9, 0.05, 0.05), clipped: bool = True, encoder: ResNetTaps | TokenTaps | None = None,
    ):  # fmt: skip
        super().__init__()
        self.architecture = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        if any(side % 32 for side in size):
            raise UserError(f"frames of {size[0]}x{size[1]} do not divide into the encoder's 32 pixels: resize them")
        if channels % 4:
            raise UserError(f"channels {channels}: must be a multiple of 4")
        if head not in HEADS:
            raise unknown("head", head, HEADS)
        self.encoder = encoder or ResNetTaps()
        self.architecture["encoder"] = self.encoder.architecture
        self.given, self.scratch, self.frozen, self.head_kind = given, scratch, frozen, head
        self.loss_weights, self.clipped = check_weights(tuple(loss_weights)), clipped
        self.full_resolution = full_resolution
        quarter, wide = channels // 4, 16 * channels
        widths = (quarter, 2 * quarter, channels, channels) if full_resolution else (channels,) * 4
        inputs = (CHANNELS[0], *CHANNELS[:3]) if full_resolution else CHANNELS[:4]
        finest = 1 if full_resolution else 2  # what the first lateral block's map is smaller by
        sizes = [(size[0] // (finest * 2**level), size[1] // (finest * 2**level)) for level in range(4)]
        self.stem = nn.Conv2d(3, CHANNELS[0], 7, padding=3) if full_resolution else None
        self.laterals = nn.ModuleList(
            Lateral(*shape, per_channel) for shape in zip(inputs, widths, (None, None, *sizes[2:]), strict=True)
        )
        ups = [Up(4 * width + channels, wide, channels) for width in widths[1:]]
        top = Up(CHANNELS[4], wide, channels, 4 if full_resolution else 2, norm=False)
        self.ups = nn.ModuleList([*ups, top])
        joined = 4 * widths[0] + channels
        self.head = nn.Conv2d(joined // (1 if full_resolution or head != "shuffle" else 4), 3, 1)
        if frozen:
            self.encoder.body.requires_grad_(False)

    def train(self, mode: bool = True) -> "VideoLadder":
        """As usual, but a frozen body stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.body.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        frames = batch["video"].transpose(1, 2).float() / 255
        given, truth = frames[:, : self.given], frames[:, self.given :]
        if not given.shape[1] or not truth.shape[1]:
            raise UserError(f"a clip has {frames.shape[1]} frames, {self.given} are given: there is nothing to predict")
        return frame_loss(self.predict(given, truth.shape[1]), truth, self.loss_weights, self.clipped)

    def predict(self, frames: Tensor, number: int) -> Tensor:
        """The next `number` frames (B, P, 3, H, W) after frames (B, T, 3, H, W), float, 0..1 or little beyond."""
        state, taps = self.remember(frames)
        predicted, output = [], self.decode(taps, state)
        if self.scratch:
            output, state = self.step(output, state)
        for _ in range(number - 1):
            predicted.append(output)
            output, state = self.step(output, state)
        return torch.stack([*predicted, output], dim=1)

    def remember(self, frames: Tensor) -> tuple[State, list[Tensor]]:
        """The memory after frames (B, T, 3, H, W), of each lateral block three (B, C, h, w); the last one's maps."""
        *_, last = self.memories(frames)
        return last

    def memories(self, frames: Tensor) -> Iterator[tuple[State, list[Tensor]]]:
        """`remember` after each frame."""
        maps = [part.unflatten(0, frames.shape[:2]) for part in self.taps(frames.flatten(0, 1))]  # (B, T, C, h, w)
        state: State = [[None] * len(KERNELS) for _ in self.laterals]
        for now in range(frames.shape[1]):
            taps = [part[:, now] for part in maps]
            state = self.advance(taps, state)
            yield state, taps

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frame after one (B, 3, H, W), and the memory then."""
        taps = self.taps(frame)
        state = self.advance(taps, state)
        return self.decode(taps, state), state

    def taps(self, frames: Tensor) -> list[Tensor]:
        """Of frames (B, 3, H, W) the maps of the four lateral blocks, and what the decoder begins with."""
        frames = normalize_images(frames)
        maps = self.encoder(frames)
        return [self.stem(frames), *maps[:3], maps[4]] if self.full_resolution else maps

    def advance(self, taps: list[Tensor], state: State) -> State:
        """The memory one frame later."""
        return [lateral.advance(*pair) for lateral, *pair in zip(self.laterals, taps[:-1], state, strict=True)]

    def decode(self, taps: list[Tensor], state: State) -> Tensor:
        """The frame that follows, (B, 3, H, W)."""
        above = self.ups[-1](taps[-1])
        for level in reversed(range(len(self.laterals))):
            above = torch.cat([self.laterals[level](taps[level], state[level]), above], dim=1)
            if level:
                above = self.ups[level - 1](above)
        if self.full_resolution:
            return self.head(above)
        if self.head_kind == "shuffle":
            return self.head(F.pixel_shuffle(above, 2))
        return self.head(F.interpolate(above, scale_factor=2, mode=self.head_kind))


class Lateral(nn.Module):
    """A 1x1 convolution beside three recurrent units of different reach. size: of its maps, if it learns places."""

    def __init__(self, in_channels: int, channels: int, size: tuple[int, int] | None, per_channel: bool):
        super().__init__()
        if size is None:
            self.skip = nn.Conv2d(in_channels, channels, 1)
        else:
            self.skip = LocationConv2d(in_channels, channels, 1, size, per_channel)
        self.units = nn.ModuleList(ConvGRU(in_channels, channels, kernel) for kernel in KERNELS)

    def advance(self, maps: Tensor, states: list[Tensor | None]) -> list[Tensor]:
        """The units' next states."""
        return [unit(maps, state) for unit, state in zip(self.units, states, strict=True)]

    def forward(self, maps: Tensor, states: list[Tensor]) -> Tensor:
        """(B, C, h, w) and the states after it -> (B, 4 * channels, h, w)."""
        return torch.cat([self.skip(maps), *states], dim=1)


class Up(nn.Module):
    """[BatchNorm,] ReLU, a convolution to many channels, pixel shuffle, and a convolution to few."""

    def __init__(self, in_channels: int, wide: int, channels: int, scale: int = 2, norm: bool = True):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels) if norm else nn.Identity()
        self.widen = nn.Conv2d(in_channels, wide, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        self.narrow = nn.Conv2d(wide // scale**2, channels, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, channels, scale * h, scale * w)."""
        return self.narrow(self.shuffle(self.widen(self.norm(maps).relu())))
