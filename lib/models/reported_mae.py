"""The course report's two models, as far as their parameter counts tell: a public ViT, and Wave-ViT's attention beside
its own.

Against our MAE that ViT has heads of 64 whatever its width, queries, keys and values without biases, and positions that
are learned. What the counts cannot tell, the decoder above all, is our MAE's.
"""

import torch
from timm.layers import Attention
from torch import nn

from lib.models.mae import MAE
from lib.models.vit import initialize
from lib.models.wavelet_mae import WaveletMAE

HEAD_DIM, REPORTED_CLASSES = 64, 100
SHAPE = {"image_size": 256, "patch_size": 32, "embed_dim": 1024, "depth": 6, "num_heads": 8, "mlp_ratio": 2.0}


def reported_mae(wavelets: bool = False, **given) -> MAE:
    """MAE, or with `wavelets` WaveletMAE, in the report's form; `given`: arguments of either.

    Encoder and head have 41,116,772 parameters in the report's SHAPE with its 100 classes, and 126,111,332 with
    wavelets, which the report has 130,272 more of.
    """
    if wavelets:
        model = WaveletMAE(**{"token_layout": "pseudo_grid", "norm": "batch", "beside": True} | given)
    else:
        model = MAE(**given)
    encoder, width = model.encoder, model.architecture["embed_dim"]
    for block in encoder.blocks:
        block.attn = Attention(width, model.architecture["num_heads"], attn_head_dim=HEAD_DIM)
        initialize(block.attn)
    table = torch.empty_like(encoder.pos_embed)
    del encoder.pos_embed
    encoder.pos_embed = nn.Parameter(nn.init.normal_(table, std=0.02))
    model.architecture |= {"reported": True}
    return model


def classifier_parameters(model: nn.Module, num_classes: int) -> int:
    """Parameters of its encoder, whose last norm stands before a linear head, and of that head."""
    width = model.architecture["embed_dim"]
    return sum(part.numel() for part in model.encoder.parameters()) + (width + 1) * num_classes
