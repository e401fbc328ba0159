"""SiamMAE and MAE at once: what is seen of the past predicts the rest of the past, and the future.

One pass of the encoder over the past's visible patches serves both, so that MAE's loss costs a decoder alone. RSP (Jang
et al. 2024, arXiv 2406.07398) adds MAE's loss to a prediction of the future, too, with a pass of its own.
"""

import math

from torch import Tensor

from lib.models.decoder import Decoder
from lib.models.siammae import SiamMAE
from lib.tokens.masking import Mask, masked_mean, random_mask
from lib.tokens.patches import check_size, normalize_images, sincos_positions, target_patches


class JointMAE(SiamMAE):
    """`model({"past", "future": uint8 (B, 3, H, W)})`: the mean of both losses; logs `siam` and `alone`.

    Args:
        past_mask_ratio: fraction of the past's patches that are hidden, from the future's decoder, too.
        alone_depth: blocks of the past's decoder, which is as wide as the future's.
        Others: SiamMAE's.
    """

    def __init__(self, past_mask_ratio: float = 0.5, alone_depth: int = 1, **siammae):
        super().__init__(**siammae)
        self.architecture |= {"past_mask_ratio": past_mask_ratio, "alone_depth": alone_depth}
        shape = self.architecture
        width, values = shape["decoder_embed_dim"], self.patch_size**2 * 3
        positions = sincos_positions(width, self.encoder.grid)
        heads, mlp_ratio = shape["decoder_num_heads"], shape["mlp_ratio"]
        self.alone = Decoder(positions, shape["embed_dim"], values, alone_depth, heads, mlp_ratio, cls_tokens=1)
        self.past_mask_ratio = past_mask_ratio

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"past", "future": uint8 (B, 3, H, W)} -> (loss, logs)."""
        past, future = normalize_images(batch["past"]), normalize_images(batch["future"])
        for images in (past, future):
            check_size(images, self.patch_size, self.encoder.grid)
        seen = random_mask(len(past), math.prod(self.grid), self.past_mask_ratio, past.device)
        memory = self.encoder(past, seen.keep)  # (B, 1 + M, D)
        patches = self.encoder.patch_embed(future)
        mask = self.masking(patches, self.grid)
        latent = self.encoder(future, mask.keep, patches=patches)  # (B, 1 + K, D)
        predictions = self.decoder(latent, mask.restore, memory), self.alone(memory, seen.restore)
        siam, errors = self._loss(predictions[0], future, mask)
        alone, _ = self._loss(predictions[1], past, seen)
        siam, logs = self.masking.objective(siam, errors, mask)
        loss = (siam + alone) / 2
        return loss, {**logs, "loss": loss.detach(), "siam": siam.detach(), "alone": alone.detach()}

    def _loss(self, prediction: Tensor, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """The mean error of the hidden patches, and all errors (B, N)."""
        errors = (prediction.float() - target_patches(images, self.patch_size, self.norm_pix)).square().mean(dim=-1)
        return masked_mean(errors, mask.hidden), errors
