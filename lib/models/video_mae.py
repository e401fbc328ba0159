"""Masked autoencoder for video and its objective (VideoMAE, Tong et al. 2022, arXiv 2203.12602).

Unlike the released VideoMAE and AdaMAE: attention has a bias on the keys (softmax cancels it), the projection to the
decoder has a bias, all matrices start as MAE's, and visible tokens go back to their places before decoding, which a
transformer cannot tell from the release's order. Shapes: `B` batch, `T` frames, `H W` pixels, `t` frames a cube, `P`
patch side, grid (s, h, w) = (T/t, H/P, W/P), `N` = s*h*w cubes, `K` visible ones, `D` encoder width.
"""

import math

from torch import Tensor, nn

from lib.errors import UserError, unknown
from lib.models.decoder import Decoder
from lib.models.vit import LayerNorm, block_number, initialize, plain_blocks
from lib.tokens.cubes import Grid, cube_grid, cubify, normalize_videos, position_table, target_cubes
from lib.tokens.masking import Mask, Masking, RandomMasking, masked_mean, take

LOSSES = {"mse": Tensor.square, "l1": Tensor.abs}  # of a difference; AdaMAE's Table 1d compares them


class VideoMAE(nn.Module):
    """A video MAE: `model({"video": uint8 (B, 3, T, H, W)})`.

    Args:
        num_frames, image_size: T and the side in pixels of the clips it is built for; others are refused.
        tubelet_size, patch_size: t and P.
        norm_pix: per-cube normalised target, as in both papers.
        loss: "mse" or "l1".
        positions: "separable" in time, row and column, or the releases' "flattened" (lib.tokens.cubes.POSITIONS).
        masking: another strategy than random, with its own ratio; VideoMAE's is TubeMasking(0.9).
        Others: as in lib.models.mae.MAE.
    """

    def __init__(
        self, num_frames: int = 16, image_size: int = 224, tubelet_size: int = 2, patch_size: int = 16,
        embed_dim: int = 768, depth: int = 12, num_heads: int = 12, mlp_ratio: float = 4.0,
        decoder_embed_dim: int = 384, decoder_depth: int = 4, decoder_num_heads: int = 6,
        mask_ratio: float = 0.9, norm_pix: bool = True, loss: str = "mse", positions: str = "separable",
        masking: Masking | None = None,
    ):  # fmt: skip
        super().__init__()
        self.architecture = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        masking = masking or RandomMasking(mask_ratio)
        self.architecture |= {"mask_ratio": masking.mask_ratio, "masking": masking.architecture}
        self.tubelet_size, self.patch_size, self.mask_ratio = tubelet_size, patch_size, masking.mask_ratio
        self.norm_pix, self.loss = norm_pix, loss
        self.grid = cube_grid(num_frames, image_size, image_size, tubelet_size, patch_size)
        self.num_cubes = math.prod(self.grid)
        patch_embed = CubeEmbed(self.grid, tubelet_size, patch_size, embed_dim)
        table = position_table(positions, embed_dim, self.grid)
        self.encoder = VideoEncoder(patch_embed, table, depth, num_heads, mlp_ratio)
        table, values = position_table(positions, decoder_embed_dim, self.grid), tubelet_size * patch_size**2 * 3
        self.decoder = Decoder(table, embed_dim, values, decoder_depth, decoder_num_heads, mlp_ratio)
        self.masking = masking.prepare(self.encoder.pos_embed[0], self.grid)

    @property
    def sequence_length(self) -> int:
        """The most tokens that attend to each other, N: tells the training loop which attention is fast."""
        return self.num_cubes

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"video": uint8 (B, 3, T, H, W)} -> (loss, logs)."""
        errors, mask = self.errors(batch["video"])
        return self.masking.objective(masked_mean(errors, mask.hidden), errors, mask)

    def errors(self, videos: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """Error of every cube, float32 (B, N), of videos uint8 or float in 0..1 (B, 3, T, H, W), and the mask used."""
        prediction, mask = self.predict(normalize_videos(videos), mask)
        pixels = videos if videos.is_floating_point() else videos.float() / 255
        target = target_cubes(pixels, self.tubelet_size, self.patch_size, self.norm_pix)
        return LOSSES[self.loss](prediction.float() - target).mean(dim=-1), mask

    def predict(self, videos: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """Predicted cubes (B, N, t*P*P*3) in the loss's target space, and the mask used (drawn when None).

        videos: normalised, float (B, 3, T, H, W), of the size that the model was built for.
        """
        cubes = self.encoder.patch_embed(videos)  # (B, N, D): for mask and encoder, as this costs a part of encoding
        mask = mask or self.masking(cubes, self.grid)
        latent = self.encoder(cubes, mask.keep)  # (B, K, D)
        return self.decoder(latent, mask.restore), mask

    def features(self, videos: Tensor, block: int = -1) -> Tensor:
        """Tokens of unmasked videos: normalised float (B, 3, T, H, W) -> (B, N, D); `block` as in ViTEncoder."""
        return self.encoder(self.encoder.patch_embed(videos), block=block)


class CubeEmbed(nn.Module):
    """Embedded cubes without positions: normalised float (B, 3, T, H, W) -> (B, N, D).

    `proj` is the matrix of the papers' three-dimensional convolution, whose stride is its kernel.
    """

    def __init__(self, grid: Grid, tubelet_size: int, patch_size: int, embed_dim: int):
        super().__init__()
        self.grid, self.tubelet_size, self.patch_size = grid, tubelet_size, patch_size
        self.proj = nn.Linear(tubelet_size * patch_size**2 * 3, embed_dim)

    def forward(self, videos: Tensor) -> Tensor:
        """Videos must be of the grid, whose positions are fixed."""
        if cube_grid(*videos.shape[-3:], self.tubelet_size, self.patch_size) != self.grid:
            (s, h, w), t, p = self.grid, self.tubelet_size, self.patch_size
            sizes = ["x".join(map(str, size)) for size in (videos.shape[-3:], (s * t, h * p, w * p))]
            raise UserError(f"videos are {sizes[0]}, but this model was built for {sizes[1]}: sample and crop them so")
        return self.proj(cubify(videos, self.tubelet_size, self.patch_size))


class VideoEncoder(nn.Module):
    """A plain pre-norm ViT over cubes, without class token; positions, a table (N, D), are fixed."""

    def __init__(self, patch_embed: CubeEmbed, positions: Tensor, depth: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.patch_embed = patch_embed
        self.register_buffer("pos_embed", positions.unsqueeze(0))
        self.blocks = plain_blocks(positions.shape[1], depth, num_heads, mlp_ratio)
        self.norm = LayerNorm(positions.shape[1])
        initialize(self)

    def forward(self, cubes: Tensor, keep: Tensor | None = None, block: int = -1) -> Tensor:
        """Encode those of the embedded cubes (B, N, D) in `keep` (int64 (B, K); all when None) -> (B, K, D)."""
        tokens = cubes + self.pos_embed
        if keep is not None:
            tokens = take(tokens, keep)
        for layer in self.blocks[: block_number(block, len(self.blocks))]:
            tokens = layer(tokens)
        return self.norm(tokens)
