"""A tiny SiamMAE and the parts of a slow, independent one: one sample, weights by name; for parity tests.

The parts take a model's weights (its position tables are among them) and nothing else from it.
"""

import torch
from slow_layers import cross_attention, layer_norm, linear, mlp, plain_block, self_attention

P, HEADS, DECODER_HEADS = 8, 4, 2
TINY = {"image_size": 32, "patch_size": P, "embed_dim": 32, "depth": 2, "num_heads": HEADS}
TINY_DECODER = {"decoder_embed_dim": 16, "decoder_depth": 2, "decoder_num_heads": DECODER_HEADS}


def frames(batch: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randint(256, (batch, 3, height, width), dtype=torch.uint8)


def floats(batch: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(batch, 3, height, width)


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: value.double() for name, value in model.state_dict().items()}


def cut(image):
    """The patches (3, P, P) of one image, row by row."""
    _, height, width = image.shape
    return [image[:, r : r + P, c : c + P] for r in range(0, height, P) for c in range(0, width, P)]


def patch_tokens(image, weights, keep):
    """One image's kept patches, embedded, with their positions: a list of (D,)."""
    kernel, bias = weights["encoder.patch_embed.proj.weight"].flatten(1), weights["encoder.patch_embed.proj.bias"]
    patches, positions = cut(image), weights["encoder.pos_embed"][0, 1:]
    return [kernel @ patches[patch].flatten() + bias + positions[patch] for patch in keep]


def encode_tokens(tokens, weights):
    """A class token and these through the encoder."""
    x = torch.stack([weights["encoder.cls_token"][0, 0] + weights["encoder.pos_embed"][0, 0], *tokens])
    for number in range(TINY["depth"]):
        x = plain_block(x, weights, f"encoder.blocks.{number}", HEADS)
    return layer_norm(x, weights, "encoder.norm")


def encode(image, weights, keep):
    """One image's class token and kept patches through the encoder."""
    return encode_tokens(patch_tokens(image, weights, keep), weights)


def fill(latent, weights, keep, patches, class_position=True):
    """Decoder tokens of one sample: the class token, then every patch's own or the mask token, with positions."""
    small = linear(latent, weights, "decoder.embed")
    positions = weights["decoder.pos_embed"][0]
    places = [weights["decoder.mask_token"][0, 0]] * patches
    for number, patch in enumerate(keep):
        places[patch] = small[1 + number]
    if class_position:
        return torch.stack([small[0], *places]) + positions
    return torch.cat([small[:1], torch.stack(places) + positions])


def cross_block(x, memory, weights, name, heads):
    memory = layer_norm(memory, weights, f"{name}norm_memory")
    x = x + cross_attention(layer_norm(x, weights, f"{name}norm1"), memory, weights, f"{name}cross_attn", heads)
    return x + mlp(layer_norm(x, weights, f"{name}norm2"), weights, f"{name}mlp")


def cross_self_block(x, memory, weights, name, heads):
    memory = layer_norm(memory, weights, f"{name}norm_memory")
    x = x + cross_attention(layer_norm(x, weights, f"{name}norm1"), memory, weights, f"{name}cross_attn", heads)
    x = x + self_attention(layer_norm(x, weights, f"{name}norm2"), weights, f"{name}attn", heads)
    return x + mlp(layer_norm(x, weights, f"{name}norm3"), weights, f"{name}mlp")


def head(x, weights):
    """The decoder's last norm and its pixels."""
    return linear(layer_norm(x, weights, "decoder.norm"), weights, "decoder.head")


def reference_loss(predictions, images, keeps, norm_pix):
    """Mean over the hidden patches of the whole batch of the mean squared error over each one's values."""
    errors = []
    for prediction, image, keep in zip(predictions, images.double(), keeps.tolist(), strict=True):
        for number, patch in enumerate(cut(image)):
            target = patch.permute(1, 2, 0).flatten()  # row, column, channel
            if norm_pix:
                deviations = target - target.mean()
                target = deviations / ((deviations**2).sum() / (len(target) - 1) + 1e-6).sqrt()
            if number not in keep:
                errors.append(((prediction[number] - target) ** 2).mean())
    return sum(errors) / len(errors)
