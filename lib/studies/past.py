"""Does SiamMAE look at the past? Its loss on held-out pairs with the true past, with others, and without a model."""

import pandas as pd
import torch

from lib.data.clips import FramePairs, collate_pairs
from lib.models.siammae import SiamMAE
from lib.tokens.painting import model_free_predictions
from lib.tokens.patches import normalize_images, target_patches


def losses_by_past(model: SiamMAE, pairs: FramePairs, draws: int, seed: int) -> pd.DataFrame:
    """Loss on hidden patches of each clip, a mean over `draws` pairs, from each past and each guess that needs none.

    All see the same future frames under the same masks. Columns `prediction from`, `clip`, `loss`.
    """
    device, clips = next(model.parameters()).device, len(pairs)
    batch = collate_pairs([pairs[index] for index in range(draws * clips)])  # a draw's clips in a row
    past, future = (normalize_images(batch[name]).to(device) for name in ("past", "future"))
    black = normalize_images(batch["past"] * 0).to(device)
    pasts = {"true past": past, "another clip's past": past.roll(1, 0), "black past": black}
    torch.manual_seed(seed)
    with torch.inference_mode():
        mask = model.predict(past, future)[1]
        predictions = {name: model.predict(given, future, mask)[0] for name, given in pasts.items()}
    predictions |= model_free_predictions(past, future, model.patch_size, model.norm_pix)
    target, rows = target_patches(future, model.patch_size, model.norm_pix), []
    for name, prediction in predictions.items():
        errors = (prediction.float() - target).square().mean(2) * mask.hidden
        by_clip = (errors.sum(1) / mask.hidden.sum(1)).view(draws, clips).mean(0)
        rows += [{"prediction from": name, "clip": k, "loss": loss} for k, loss in enumerate(by_clip.tolist())]
    return pd.DataFrame(rows)
