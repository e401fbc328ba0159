"""Masked autoencoder for video and its objective (VideoMAE, Tong et al. 2022, arXiv 2203.12602).

Cut a clip into space-time cubes, encode the visible ones, fill the hidden places with a mask token, decode all, and
compare the hidden cubes' pixels, each cube normalised by its own mean and deviation. AdaMAE builds on it.

Unlike the released VideoMAE and AdaMAE: attention has a bias on the keys (softmax cancels it), the projection to the
decoder has a bias, all matrices start as MAE's, and visible tokens go back to their places before decoding, which a
transformer cannot tell from the release's order.

Shapes: `B` batch, `T` frames, `H W` pixels, `t` frames a cube, `P` patch side, grid (s, h, w) = (T/t, H/P, W/P),
`N` = s*h*w cubes, `K` visible cubes, `D` encoder width, `E` decoder width.
"""

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lib.errors import UserError, unknown
from lib.models.vit import LayerNorm, block_number, initialize
from lib.tokens.cubes import Grid, cube_grid, cubify, normalize_cubes, normalize_videos, position_table
from lib.tokens.masking import Mask, get_masking, masked_mean, restore_order, take

LOSSES = {"mse": Tensor.square, "l1": Tensor.abs}  # of a difference; AdaMAE's Table 1d compares them


def cube_errors(
    prediction: Tensor, videos: Tensor, tubelet_size: int, patch_size: int, norm_pix: bool, loss: str = "mse"
) -> Tensor:
    """Mean error of each cube: (B, N, t*P*P*3) against float RGB in 0..1 (B, 3, T, H, W) -> (B, N), float32.

    With `norm_pix` each target cube is normalised by its own mean and deviation, channel by channel. `loss` is a name
    in LOSSES.
    """
    target = cubify(videos, tubelet_size, patch_size)
    if norm_pix:
        target = normalize_cubes(target)
    return LOSSES[loss](prediction.float() - target).mean(dim=-1)


class VideoMAE(nn.Module):
    """Video MAE with a fixed masking strategy.

    `model(batch)` takes {"video": uint8 (B, 3, T, H, W)} and returns the loss and a dict of logs.

    Args:
        num_frames, image_size: T and the side in pixels of the clips it is built for; others are refused.
        tubelet_size, patch_size: t and P.
        embed_dim, depth, num_heads, mlp_ratio: the encoder.
        decoder_embed_dim, decoder_depth, decoder_num_heads: the decoder.
        masking: "random", "tube" or "frame" (lib.tokens.masking.MASKINGS).
        mask_ratio: share of hidden cubes; tubes at 0.9 in VideoMAE.
        norm_pix: per-cube normalised target, as in both papers.
        loss: "mse" or "l1".
        positions: "separable" in time, row and column, or the releases' "flattened" (lib.tokens.cubes.POSITIONS).

    Raises UserError for sizes that are not whole cubes, an unknown strategy or loss, and a ratio that leaves nothing
    visible.
    """

    def __init__(
        self,
        num_frames: int = 16,
        image_size: int = 224,
        tubelet_size: int = 2,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        decoder_embed_dim: int = 384,
        decoder_depth: int = 4,
        decoder_num_heads: int = 6,
        masking: str = "tube",
        mask_ratio: float = 0.9,
        norm_pix: bool = True,
        loss: str = "mse",
        positions: str = "separable",
    ):
        super().__init__()
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        self.architecture = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        self.tubelet_size, self.patch_size, self.norm_pix = tubelet_size, patch_size, norm_pix
        self.mask_ratio, self.loss = mask_ratio, loss
        grid = cube_grid(num_frames, image_size, image_size, tubelet_size, patch_size)
        cube_values = tubelet_size * patch_size**2 * 3
        self.encoder = VideoEncoder(grid, cube_values, embed_dim, depth, num_heads, mlp_ratio, positions)
        self.decoder = VideoDecoder(
            grid, cube_values, embed_dim, decoder_embed_dim, decoder_depth, decoder_num_heads, mlp_ratio, positions
        )
        self.masking = get_masking(masking, mask_ratio)
        self.masking(torch.empty(1, self.num_cubes, 0), grid)  # an impossible ratio fails here

    @property
    def grid(self) -> Grid:
        """The grid (s, h, w) of cubes."""
        return self.encoder.grid

    @property
    def num_cubes(self) -> int:
        """N."""
        s, h, w = self.grid
        return s * h * w

    @property
    def sequence_length(self) -> int:
        """The most tokens that attend to each other, N: tells the training loop which attention is fast."""
        return self.num_cubes

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"video": uint8 (B, 3, T, H, W)} -> (loss, {"loss": ...})."""
        errors, mask = self.errors(batch["video"])
        loss = masked_mean(errors, mask.hidden)
        return loss, {"loss": loss.detach()}

    def errors(self, videos: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """Error of every cube (B, N) of videos uint8 or float in 0..1 (B, 3, T, H, W), and the mask used."""
        prediction, mask = self.predict(normalize_videos(videos), mask)
        pixels = videos if videos.is_floating_point() else videos.float() / 255
        return cube_errors(prediction, pixels, self.tubelet_size, self.patch_size, self.norm_pix, self.loss), mask

    def predict(self, videos: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """Predicted cubes (B, N, t*P*P*3) in the loss's target space, and the mask used (drawn when None).

        videos: float (B, 3, T, H, W), normalised. UserError when they are not of the size the model was built for.
        """
        patches = self.patches(videos)
        mask = mask or self.draw_mask(patches)
        latent = self.encoder(take(patches + self.encoder.pos_embed, mask.keep))
        return self.decoder(latent, mask.restore), mask

    def draw_mask(self, patches: Tensor) -> Mask:
        """A mask for videos whose cubes are embedded, without positions, as `patches` (B, N, D)."""
        return self.masking(patches, self.grid)

    def patches(self, videos: Tensor) -> Tensor:
        """Embedded cubes without positions: normalised float (B, 3, T, H, W) -> (B, N, D). UserError for the size."""
        grid = cube_grid(*videos.shape[-3:], self.tubelet_size, self.patch_size)
        if grid != self.grid:
            (s, h, w), t, p = self.grid, self.tubelet_size, self.patch_size
            sizes = ["x".join(map(str, size)) for size in (videos.shape[-3:], (s * t, h * p, w * p))]
            raise UserError(f"videos are {sizes[0]}, but this model was built for {sizes[1]}: sample and crop them so")
        return self.encoder.patch_embed(cubify(videos, self.tubelet_size, self.patch_size))

    def features(self, videos: Tensor, block: int = -1) -> Tensor:
        """Tokens of unmasked videos: normalised float (B, 3, T, H, W) -> (B, N, D), numbered as the cubes.

        `block` counts from 1; -1 is the last. The final LayerNorm is applied. UserError when there is no such block.
        """
        return self.encoder(self.patches(videos) + self.encoder.pos_embed, block)

    def pooled_features(self, videos: Tensor, block: int = -1) -> Tensor:
        """The mean over all tokens of `features`: normalised float (B, 3, T, H, W) -> (B, D)."""
        return self.features(videos, block).mean(dim=1)


class VideoEncoder(nn.Module):
    """A plain pre-norm ViT over cubes, without class token; positions are fixed.

    `patch_embed` is the matrix of the papers' three-dimensional convolution, whose stride is its kernel.
    """

    def __init__(
        self,
        grid: Grid,
        cube_values: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        positions: str,
    ):
        super().__init__()
        if embed_dim % num_heads:
            raise UserError(f"embed_dim {embed_dim} is no multiple of num_heads {num_heads}")
        self.grid = grid
        self.patch_embed = nn.Linear(cube_values, embed_dim)
        self.register_buffer("pos_embed", position_table(positions, embed_dim, grid).unsqueeze(0))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)
        )
        self.norm = LayerNorm(embed_dim)
        initialize(self)

    def forward(self, tokens: Tensor, block: int = -1) -> Tensor:
        """Tokens with positions (B, K, D), any subset of the cubes, through the blocks up to `block` and the norm."""
        for layer in self.blocks[: block_number(block, len(self.blocks))]:
            tokens = layer(tokens)
        return self.norm(tokens)


class VideoDecoder(nn.Module):
    """Plain transformer over all places: latent (B, K, D), restore int64 (B, N) -> pixels (B, N, t*P*P*3)."""

    def __init__(
        self,
        grid: Grid,
        cube_values: int,
        encoder_dim: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        positions: str,
    ):
        super().__init__()
        if embed_dim % num_heads:
            raise UserError(f"decoder_embed_dim {embed_dim} is no multiple of decoder_num_heads {num_heads}")
        self.embed = nn.Linear(encoder_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.register_buffer("pos_embed", position_table(positions, embed_dim, grid).unsqueeze(0))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)
        )
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, cube_values)
        initialize(self)

    def forward(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Fill the hidden places, add positions, decode."""
        tokens = restore_order(self.embed(latent), self.mask_token, restore) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens))
