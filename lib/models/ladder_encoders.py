"""What a video ladder sees a frame through: five maps, at 1/2, 1/4, 1/8, 1/16 and 1/32 of it.

`body` is what may come pre-trained and be frozen; what lies beside it is always trained. Shapes: `B` frames, `H W`
pixels, multiples of 32.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18

from lib.errors import unknown
from lib.libraries import with_download
from lib.models.vit import ViTEncoder

CHANNELS = (64, 64, 128, 256, 512)  # ResNet-18's


class ResNetTaps(nn.Module):
    """ResNet-18 without its classifier (He et al. 2015): the raw convolution at its foot, and its four stages.

    weights: of torchvision, such as "IMAGENET1K_V1", which are downloaded; None: random.
    """

    def __init__(self, weights: str | None = None):
        super().__init__()
        self.architecture = {"encoder": "resnet18", "weights": weights}
        if weights and weights not in ResNet18_Weights.__members__:
            raise unknown("weights of ResNet-18", weights, ResNet18_Weights.__members__)
        net = with_download(lambda: resnet18(weights=weights, progress=False), f"ResNet-18, {weights}")
        foot = nn.Sequential(net.bn1, net.relu, net.maxpool, net.layer1)
        self.body = nn.ModuleList([net.conv1, foot, net.layer2, net.layer3, net.layer4])

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Normalised frames (B, 3, H, W) -> five maps."""
        maps = []
        for stage in self.body:
            frames = stage(frames)
            maps.append(frames)
        return maps


class TokenTaps(nn.Module):
    """A ViT such as SiamMAE's: its tokens, resized and projected, are the three coarse maps.

    Tokens have no detail finer than a patch, so two convolutions beside it make the fine maps from pixels.
    """

    def __init__(self, encoder: ViTEncoder):
        super().__init__()
        self.architecture = {"encoder": "tokens", "depth": len(encoder.blocks)}
        self.body = encoder
        self.stem = nn.Conv2d(3, CHANNELS[0], 7, stride=2, padding=3)
        self.second = nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, stride=2, padding=1)
        width = encoder.norm.normalized_shape[0]
        self.project = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in CHANNELS[2:])

    def forward(self, frames: Tensor) -> list[Tensor]:
        """As ResNetTaps."""
        first = self.stem(frames)
        maps, tokens = [first, self.second(first.relu())], self.body.features(frames)
        for number, project in enumerate(self.project, start=3):
            size = [side // 2**number for side in frames.shape[-2:]]
            maps.append(project(F.interpolate(tokens, size=size, mode="bilinear", antialias=True)))
        return maps
