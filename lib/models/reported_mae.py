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

HEAD_DIM = 64


def reported_mae(wavelets: bool = False, **given) -> MAE:
    """MAE, or with `wavelets` WaveletMAE, in the report's form; `given`: arguments of either.

    In the sizes of the preset `report` encoder and a head for 100 classes have 41,116,772 parameters, and 126,111,332
    with wavelets, which the report has 130,272 more of.
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
