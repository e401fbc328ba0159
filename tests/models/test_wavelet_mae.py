"""MAE with wavelet attention: layouts share weights and meet where they should, blocks do what their parts say."""

import pytest
import torch
from slow_layers import shake
from small_models import give
from small_training import DECODER, SHAPE

from lib.errors import UserError
from lib.models.mae import MAE
from lib.models.wavelet_mae import LAYOUTS, WaveletMAE, square
from lib.tokens.masking import mask_from_noise, random_mask
from lib.tokens.patches import normalize_images

PATCHES = 16  # of SHAPE, 4 x 4


def build(**arguments) -> WaveletMAE:
    torch.manual_seed(0)
    return shake(WaveletMAE(**SHAPE, **DECODER, **arguments)).eval()


def images(batch: int = 3) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(256, (batch, 3, 16, 16), dtype=torch.uint8)


def test_all_layouts_have_the_same_weights():
    models = {layout: build(token_layout=layout) for layout in LAYOUTS}
    for model in models.values():
        model.load_state_dict(models["scatter"].state_dict())
        whole = model.features(normalize_images(images()))  # unmasked, all see the same map
        torch.testing.assert_close(whole, models["scatter"].features(normalize_images(images())))
    guards = [model.architecture for model in models.values()]
    assert all(one != two for i, one in enumerate(guards) for two in guards[:i])


@pytest.mark.parametrize("order", ["natural", "random"])
def test_scatter_and_pseudo_grid_meet_where_nothing_is_masked_in_natural_order(order):
    scatter, pseudo = build(), build(token_layout="pseudo_grid")
    pseudo.load_state_dict(scatter.state_dict())
    pictures = normalize_images(images())
    places = torch.arange(PATCHES).expand(3, -1)
    if order == "random":
        places = torch.stack([torch.randperm(PATCHES) for _ in range(3)])
    one, other = (model.encoder(pictures, places) for model in (scatter, pseudo))
    assert torch.allclose(one, other, atol=1e-5) == (order == "natural")
    torch.testing.assert_close(scatter.encoder(pictures)[:, 0], one[:, 0])  # the class token knows no order


def test_the_pseudo_grid_is_a_square_of_the_visible_in_their_order():
    """Four visible of 16 stand on 2 x 2; from another order the same tokens come out changed."""
    model, pictures = build(token_layout="pseudo_grid"), normalize_images(images(1))
    keep = torch.tensor([[5, 0, 15, 10]])
    latent, turned = model.encoder(pictures, keep), model.encoder(pictures, keep.flip(1))
    assert not torch.allclose(latent[:, 1:], turned[:, 1:].flip(1), atol=1e-4)
    scatter = build()
    scatter.load_state_dict(model.state_dict())
    latent, turned = scatter.encoder(pictures, keep), scatter.encoder(pictures, keep.flip(1))
    torch.testing.assert_close(latent[:, 1:], turned[:, 1:].flip(1))


def test_what_is_hidden_does_not_matter():
    for layout in LAYOUTS:
        model = build(token_layout=layout)
        mask = random_mask(3, PATCHES, 0.75)
        pictures = images()
        changed = pictures.clone()
        for sample, hidden in enumerate(mask.hidden):
            for place in hidden.nonzero().flatten().tolist():
                row, column = 4 * (place // 4), 4 * (place % 4)
                changed[sample, :, row : row + 4, column : column + 4] = 0
        one, other = (model.predict(normalize_images(one), mask)[0] for one in (pictures, changed))
        torch.testing.assert_close(one, other)


def test_cells_are_masked_as_a_whole():
    model = build(token_layout="cell")
    hidden = model.predict(normalize_images(images(64)))[1].hidden.view(64, 2, 2, 2, 2)
    cells = hidden.float().mean(dim=(2, 4))
    assert set(cells.unique().tolist()) == {0.0, 1.0} and (cells.sum(dim=(1, 2)) == 3).all()
    assert (cells.mean(dim=0) < 1).all(), "each cell is visible somewhere"


def test_a_block_adds_its_parts():
    """Beside: x + attention + wavelets, from one norm, then the MLP; else without attention."""
    for beside in (False, True):
        block = build(beside=beside).encoder.blocks[0]
        torch.manual_seed(2)
        tokens, places, grid = torch.randn(2, 5, SHAPE["embed_dim"]), torch.tensor([[0, 3, 9, 12]] * 2), (4, 4)
        normed = block.norm1(tokens)
        expected = tokens + block.wavelets(normed, places, grid) + (block.attn(normed) if beside else 0)
        torch.testing.assert_close(block(tokens, places, grid), expected + block.mlp(block.norm2(expected)))


def test_it_learns_and_all_its_parts_do():
    for arguments in ({}, {"beside": True, "norm": "batch"}, {"transform": "regroup"}):
        torch.manual_seed(0)
        model = WaveletMAE(**SHAPE, **DECODER, **arguments)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        give(model, mask_from_noise(torch.rand(3, PATCHES), 4))
        losses = []
        for _ in range(60):
            loss, _ = model({"image": images()})
            loss.backward()
            if not losses:
                assert all(part.grad is not None for part in model.encoder.parameters())
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]


def test_it_has_more_parameters_than_mae_by_its_attention_alone():
    def count(model) -> int:
        return sum(part.numel() for part in model.encoder.parameters())

    plain, beside, instead = MAE(**SHAPE, **DECODER), build(beside=True), build()
    wavelets = sum(part.numel() for block in instead.encoder.blocks for part in block.wavelets.parameters())
    attention = sum(part.numel() for block in plain.encoder.blocks for part in block.attn.parameters())
    assert count(beside) == count(plain) + wavelets and count(instead) == count(beside) - attention


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"token_layout": "spiral"}, "token_layout"),
        ({"token_layout": "pseudo_grid", "mask_ratio": 0.5}, "8 visible tokens make no square"),
        ({"token_layout": "pseudo_grid", "mask_ratio": 0.9}, "1 visible tokens make no square of even sides"),
        ({"image_size": 12}, "3x3 is no multiple of the patch size 2"),
        ({"token_layout": "cell", "mask_ratio": 0.9}, "hides all 4 cells"),
    ],
)
def test_impossible_settings_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        WaveletMAE(**{**SHAPE, **DECODER, **arguments})


def test_squares():
    assert square(16) == (4, 4) and square(4) == (2, 2)
