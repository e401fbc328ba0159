"""SiamMAE from several past frames to several future ones at once.

The proposal's third extension, and its mirror image. Each future frame is masked and encoded apart; its tokens carry
its distance in time, and all futures are decoded together. Pasts are joined as one long memory (Concatenated MAE, arXiv
2311.00961, keeps earlier frames so) or by a recurrent core (RVM, arXiv 2512.13684). Shapes: `B` samples, `P` past, `F`
future frames, `H W` pixels, `N` patches, `K` visible ones, `D` encoder, `E` decoder width. Times: frames at 30 fps.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from lib.errors import UserError, unknown
from lib.models.siammae import CrossSelfBlock, SiamMAE
from lib.models.vit import initialize
from lib.tokens.masking import Mask, masked_mean
from lib.tokens.patches import check_size, normalize_images, target_patches

JOINS = ("memory", "recurrent")
SLOWEST = 64.0  # frames in which a TimeEmbedding's slowest wave turns by one radian; its fastest needs 1


class SeveralFrames(SiamMAE):
    """`model({"pasts": uint8 (B, P, 3, H, W), "age": (B, P), "futures": (B, F, 3, H, W), "gap": (B, F)})`.

    age: how long before the last past frame, 0 for that; pasts in the order of time. gap: how long after it. Any P and
    F will do, at each call. One past, one future and `knows_time` False are SiamMAE. Other arguments are SiamMAE's;
    UserError for an unknown `join`, and for `memory_positions`.

    Args:
        join: "memory": the decoder looks at the tokens of all pasts; "recurrent": at the last state of RecurrentCore.
        knows_time: tokens of pasts and futures carry their times.
    """

    def __init__(self, join: str = "memory", knows_time: bool = True, **siammae):
        super().__init__(**siammae)
        if join not in JOINS:
            raise unknown("join", join, JOINS)
        if self.decoder.memory_positions:
            raise UserError("memory_positions is for one past frame: leave it False")
        self.architecture |= {"join": join, "knows_time": knows_time}
        width, heads, ratio = (self.architecture[name] for name in ("embed_dim", "num_heads", "mlp_ratio"))
        self.core = RecurrentCore(width, heads, ratio) if join == "recurrent" else None
        self.age_embed = TimeEmbedding(width) if knows_time else None
        self.gap_embed = TimeEmbedding(self.architecture["decoder_embed_dim"]) if knows_time else None

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch above -> (loss, logs); the loss is the mean over the hidden patches of all futures."""
        pasts, futures = normalize_images(batch["pasts"]), normalize_images(batch["futures"])
        prediction, mask = self.predict(pasts, batch["age"], futures, batch["gap"])
        target = target_patches(futures.flatten(0, 1), self.patch_size, self.norm_pix)
        errors = (prediction.flatten(0, 1).float() - target).square().mean(dim=-1)  # (B * F, N)
        return self.masking.objective(masked_mean(errors, mask.hidden), errors, mask)

    def predict(
        self, pasts: Tensor, age: Tensor, futures: Tensor, gap: Tensor, mask: Mask | None = None
    ) -> tuple[Tensor, Mask]:
        """Patches (B, F, N, P*P*3) in the loss's target space, and the mask of the B * F futures (drawn when None).

        Frames are normalised, float, times as above.
        """
        frames = futures.flatten(0, 1)
        for images in (pasts[:, 0], frames):
            check_size(images, self.patch_size, self.encoder.grid)
        patches = self.encoder.patch_embed(frames)  # (B * F, N, D)
        mask = mask or self.masking(patches, self.grid)
        memory = self.decoder.embed(self.remember(pasts, age))
        tokens = self.decoder.queries(self.encoder(frames, mask.keep, patches=patches), mask.restore)
        if self.gap_embed:
            tokens = tokens + self.gap_embed(gap.flatten()).unsqueeze(1)
        tokens = rearrange(tokens, "(b f) n e -> b (f n) e", b=len(futures))
        for block in self.decoder.blocks:
            tokens = block(tokens, memory)
        tokens = rearrange(tokens, "b (f n) e -> b f n e", f=futures.shape[1])[:, :, 1:]  # without the class tokens
        return self.decoder.head(self.decoder.norm(tokens)), mask

    def remember(self, pasts: Tensor, age: Tensor) -> Tensor:
        """What is known of the pasts: (B, P * (1 + N), D) of all frames, or (B, 1 + N, D), the core's state."""
        number = pasts.shape[1]
        tokens = rearrange(self.encoder(pasts.flatten(0, 1)), "(b p) n d -> b p n d", p=number)
        if self.age_embed:
            tokens = tokens + self.age_embed(age.flatten()).view(*age.shape, 1, -1)
        if self.core is None:
            return tokens.flatten(1, 2)
        state = tokens[:, 0]
        for frame in range(1, number):
            state = self.core(tokens[:, frame], state)
        return state


class RecurrentCore(nn.Module):
    """A gated recurrent unit over frames whose candidate is a transformer block: our reading of RVM's core, of which
    only descriptions were at hand.

    Tokens and state are (B, M, D). The first frame's tokens are the first state, so that one frame is plain SiamMAE.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.gates = nn.Linear(2 * dim, 2 * dim)
        self.block = CrossSelfBlock(dim, num_heads, mlp_ratio)
        initialize(self)

    def forward(self, tokens: Tensor, state: Tensor) -> Tensor:
        """One more frame -> the new state."""
        update, reset = self.gates(torch.cat([tokens, state], dim=-1)).sigmoid().chunk(2, dim=-1)
        candidate = self.block(tokens, reset * state)
        return (1 - update) * state + update * candidate


class TimeEmbedding(nn.Module):
    """Times (n,) as sines and cosines of geometric wavelengths, and a learned Linear of these -> (n, dim)."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        for parameter in self.parameters():  # training begins with SiamMAE, which knows no time
            nn.init.zeros_(parameter)

    def forward(self, times: Tensor) -> Tensor:
        """Times in frames at 30 fps."""
        half = self.linear.in_features // 2
        waves = torch.exp(-math.log(SLOWEST) * torch.arange(half, device=times.device) / (half - 1))
        angles = times.float().unsqueeze(-1) * waves
        return self.linear(torch.cat([angles.sin(), angles.cos()], dim=-1))
