"""What each token looks at: the attention probabilities of an encoder's last block (paper section 4, Figure 5).

Shapes: `B` batch, `H W` pixels, `h w` patch grid, `N` = h*w patches.
"""

import torch
from torch import Tensor, nn

from lib.errors import UserError


@torch.no_grad()
def attention_maps(encoder: nn.Module, images: Tensor) -> Tensor:
    """Attention of every token to every token: (B, heads, 1 + N, 1 + N), float32, of images float (B, 3, H, W).

    `encoder` is a ViTEncoder or TimmEncoder. Entry (query, key); token 0 is the class token, left out by encoders that
    have none. Rows sum to 1, or to less where registers are left out. Memory grows with N squared: 480 x 880 pixels in
    patches of 8 make 175 MB a head.
    """
    attention, formed = encoder.blocks[-1].attn, []
    # The fused kernel never forms the probabilities; the plain one hands them to this dropout.
    hook = attention.attn_drop.register_forward_pre_hook(lambda _, inputs: formed.append(inputs[0]))
    fused, attention.fused_attn = attention.fused_attn, False
    try:
        features = encoder.features(images)
    finally:
        attention.fused_attn = fused
        hook.remove()
    (probabilities,) = formed
    num_patches = features.shape[2] * features.shape[3]
    first_patch = probabilities.shape[-1] - num_patches
    tokens = [*range(int(encoder.has_cls)), *range(first_patch, first_patch + num_patches)]
    if len(tokens) < probabilities.shape[-1]:  # registers are left out
        probabilities = probabilities[:, :, tokens][..., tokens]
    return probabilities.float()


def query_map(attention: Tensor, grid: tuple[int, int], query: str | tuple[int, int] = "cls") -> Tensor:
    """Where one query looks among the patches: (B, heads, tokens, tokens) of `attention_maps` -> (B, heads, h, w).

    `query` is "cls" or a patch (row, column). What goes to the class token is left out: a map may sum to less than 1.
    """
    h, w = grid
    first_patch = attention.shape[-1] - h * w
    if first_patch not in (0, 1):
        raise UserError(f"attention among {attention.shape[-1]} tokens is not of a {h}x{w} grid: give the frames' grid")
    if query == "cls":
        if first_patch == 0:
            raise UserError("this encoder has no class token: choose a patch (row, column) as the query")
        index = 0
    else:
        if isinstance(query, str) or len(query) != 2 or not (0 <= query[0] < h and 0 <= query[1] < w):
            raise UserError(f"query {query!r} is no patch of a {h}x{w} grid: choose (row, column) from 0, or 'cls'")
        index = first_patch + query[0] * w + query[1]
    return attention[:, :, index, first_patch:].unflatten(-1, (h, w))
