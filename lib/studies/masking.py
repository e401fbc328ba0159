"""AdaMAE's Table 1 at small scale: pre-train with a masking, then measure what the encoder knows and where it looked.

What stands for the paper's fine-tuned accuracy is a linear probe: `probe` on the mean of all tokens, `motion_probe` on
how much the token of a place varies over time, averaged over places. The second is blind to the colour of the wall.
Shapes: `B` clips, `N` cubes on the grid (s, h, w), `D` encoder width, `R` regions.
"""

from functools import partial
from pathlib import Path

import pandas as pd
import torch
from einops import reduce
from torch import Tensor
from torch.utils.data import DataLoader

from lib import presets
from lib.data.action_clips import ClipReader, TestingViews, TrainingClips
from lib.data.actions import ActionList
from lib.evaluation.focus import rank_agreement, times_chance
from lib.evaluation.recognition import knn, linear_probe, topk_accuracy
from lib.models.adamae import AdaMAE
from lib.models.video_mae import VideoMAE
from lib.presets.video import Video
from lib.runtime import progress
from lib.studies.grid import Row, run_grid
from lib.studies.table import read_table, records, wide
from lib.tokens.cubes import normalize_videos
from lib.tokens.maskings import get_masking
from lib.toyworld.layers import LAYERS, LayerViews, list_studio
from lib.training import fit

DRAWS = 16  # masks a clip, where means over masks are measured
VIEWS_AT_ONCE = 12


def table_row(table: str, case: str, ratio: float = 0.95, length: float = 1.0, seeds: int | None = 1, **changes) -> Row:
    """A row named as figures/paper/adamae.csv has it: its table, its case, its ratio."""
    return Row(f"{table} {case} {ratio:g}", {"mask_ratio": ratio, **changes}, length=length, seeds=seeds)


# Widths and numbers of blocks are those of the small model; `case` says the paper's row that they stand for. The rows
# named after the sampler have the paper's blocks, with an MLP; all others have the preset's lighter sampler.
BLOCK = {"sampler_dim": 128, "sampler_mlp": True}
ROWS = (
    table_row("1a", "adaptive", seeds=None),
    table_row("1a", "random", seeds=None, masking="random"),
    table_row("1a", "tube", 0.944, seeds=None, masking="tube"),  # two whole columns of 36: 16 cubes; 0.95 leaves 14
    table_row("1f", "MLP", seeds=None, sampler_depth=0),
    table_row("reference", "untrained", length=0, seeds=None),
    table_row("1a", "random", 0.75, masking="random"),
    table_row("1a", "random", 0.90, masking="random"),
    table_row("1a", "tube", 0.75, masking="tube"),
    table_row("1a", "tube", 0.90, masking="tube"),
    table_row("1a", "frame", 0.875, masking="frame"),
    table_row("1b", "adaptive", 0.98),
    table_row("1b", "adaptive", 0.90),
    table_row("1b", "adaptive", 0.85),
    table_row("1b", "adaptive", 0.80),
    table_row("1c", "1 decoder block", decoder_depth=1),
    table_row("1c", "4 decoder blocks", decoder_depth=4),
    table_row("1c", "8 decoder blocks", decoder_depth=8),
    table_row("1d", "MSE loss, normalised", norm_pix=True),
    table_row("1d", "L1 loss, not normalised", loss="l1"),
    table_row("1d", "L1 loss, normalised", loss="l1", norm_pix=True),
    table_row("1e", "200 epochs", length=1 / 4),
    table_row("1e", "500 epochs", length=5 / 8),
    table_row("1e", "600 epochs", length=3 / 4),
    table_row("1f", "MHA, depth 1, width 768", **BLOCK),
    table_row("1f", "MHA, depth 1, width 384", **BLOCK | {"sampler_dim": 64}),
    table_row("1f", "MHA, depth 2, width 384", **BLOCK | {"sampler_dim": 64}, sampler_depth=2),
    table_row("variants", "paper", **BLOCK, variant="paper"),
    table_row("variants", "released_code", **BLOCK, variant="released_code"),
    table_row("variants", "reinforce", variant="reinforce"),
)
# Rows of the paper's table that are its default, which is the first row.
SAME_AS_DEFAULT = (
    "1b adaptive 0.95", "1c 2 decoder blocks 0.95", "1d MSE loss, not normalised 0.95", "1e 800 epochs 0.95",
)  # fmt: skip


def read_rows(path: str | Path) -> pd.DataFrame:
    """The study's table at `path` in wide form, with `table`, `case` and `ratio` as the paper has them; the default
    stands in each of the paper's tables that has it.
    """
    lines = wide(read_table(path))
    default = lines[lines["row"] == ROWS[0].name]
    lines = pd.concat([lines, *(default.assign(row=name) for name in SAME_AS_DEFAULT)], ignore_index=True)
    names = lines["row"].str.extract(r"(?P<table>\S+) (?P<case>.+) (?P<ratio>\S+)").astype({"ratio": float})
    return pd.concat([names, lines.drop(columns="row")], axis=1)


def run(data: Path, out: Path, epochs: float | None, **grid) -> pd.DataFrame | None:
    """The study on the toy world's studio at `data`; `grid`: rows, seeds and minutes of run_grid."""
    base = presets.get(presets.ADAMAE, "toy", epochs=epochs)
    sets = list_studio(data, "train"), list_studio(data, "val")
    measure = partial(measure_row, base, sets, out / "frames")
    return run_grid(measure=measure, out=out, about=f"{data.name} {base}", **grid)


def measure_row(
    base: Video, sets: tuple[ActionList, ActionList], frames: Path, row: Row, seed: int, folder: Path
) -> list[dict]:
    """Pre-train a row, then measure on the second of the studio's `sets`; decoded videos are stored in `frames`."""
    (settings, arguments), (train_set, test_set) = row.settings(base), sets
    reader = ClipReader(settings.num_frames, settings.stride, settings.frame_size, frames)
    clips = TrainingClips(train_set, reader, settings.image_size, settings.crop_area, seed=seed)
    model = build_model(settings, seed, **arguments)
    losses = fit(model, clips, settings, folder, seed) if row.length else []
    model.eval()
    metrics = recognition(model, train_set, test_set, reader)
    metrics |= focus(model, LayerViews(test_set, reader, settings.image_size))
    metrics["entropy_share"] = losses[-1].get("entropy_share", 1.0) if losses else 1.0  # random masks, and at the start
    return records(metrics, step=len(losses), seconds=sum(record["seconds"] for record in losses))


def build_model(settings: Video, seed: int, masking: str = "adaptive", **arguments) -> VideoMAE:
    """An untrained model of these settings; masking: "adaptive" (AdaMAE), or a name of lib.tokens.maskings."""
    torch.manual_seed(seed)
    if masking == "adaptive":
        return AdaMAE(**settings.sampler() | settings.architecture() | arguments)
    return VideoMAE(**settings.architecture() | arguments, masking=get_masking(masking, settings.mask_ratio))


def region_cover(layers: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """The fraction of each cube that each layer covers: (B, R, T, H, W) -> (B, N, R)."""
    pattern = "b r (s t) (h p) (w q) -> b (s h w) r"
    return reduce(layers, pattern, "mean", t=tubelet_size, p=patch_size, q=patch_size)


@torch.inference_mode()
def mean_errors(model: VideoMAE, videos: Tensor) -> tuple[Tensor, Tensor]:
    """Over DRAWS masks of each video (B, 3, T, H, W): a cube's mean error while hidden (NaN if it never was), and the
    part of the draws in which it was visible, both (B, N).
    """
    total, hidden = 0.0, 0.0
    for _ in range(DRAWS):
        errors, mask = model.errors(videos)
        total, hidden = total + errors * mask.hidden, hidden + mask.hidden
    return total / hidden, 1 - hidden / DRAWS


def focus(model: VideoMAE, views: LayerViews) -> dict[str, float]:
    """Where the model's visible cubes lie, and whether they lie where the error is, as means over all videos.

    `wall`, `puppet`, `poster`: how often visible cubes meet each layer, times chance. `puppet_error`, `poster_error`:
    mean error there, times the clip's mean error. `agreement`: Spearman correlation of a cube's mean error and its
    probability (of being visible, where no sampler gives one). `error`: mean error of hidden cubes.
    """
    torch.manual_seed(0)
    rows, device = [], next(model.parameters()).device
    for batch in progress(DataLoader(views, VIEWS_AT_ONCE), "where it looks"):
        videos = batch["video"].to(device)
        cover = region_cover(batch["layers"], model.tubelet_size, model.patch_size)
        errors, seen = (values.float().cpu() for values in mean_errors(model, videos))  # (B, N) each
        known = ~errors.isnan()
        met, hard = times_chance(seen, cover), times_chance(errors.nan_to_num(), cover * known[..., None])  # (B, R)
        likely = model.probabilities(normalize_videos(videos)).flatten(1).cpu() if isinstance(model, AdaMAE) else seen
        agreement = rank_agreement(errors, likely, known)  # (B,)
        rows.append(torch.cat([met, hard[:, 1:], agreement[:, None], errors.nanmean(1, keepdim=True)], dim=1))
    names = (*LAYERS, *(f"{layer}_error" for layer in LAYERS[1:]), "agreement", "error")
    return dict(zip(names, torch.cat(rows).nanmean(dim=0).tolist(), strict=True))


@torch.inference_mode()
def clip_features(model: VideoMAE, actions: ActionList, reader: ClipReader) -> tuple[Tensor, Tensor, Tensor]:
    """Of the middle view of each video: the mean token, and the mean over places of the tokens' deviation over time,
    both (n, D), and labels (n,).
    """
    side, device = model.architecture["image_size"], next(model.parameters()).device
    means, motions, labels = [], [], []
    for batch in progress(DataLoader(TestingViews(actions, reader, side, 1, 1), VIEWS_AT_ONCE), "features"):
        tokens = model.features(normalize_videos(batch["video"].to(device))).float().cpu()  # (B, N, D)
        means.append(tokens.mean(dim=1))
        motions.append(tokens.unflatten(1, (model.grid[0], -1)).std(dim=1).mean(dim=1))  # (B, s, h*w, D) -> (B, D)
        labels.append(batch["label"])
    return torch.cat(means), torch.cat(motions), torch.cat(labels)


def recognition(model: VideoMAE, train_set: ActionList, test_set: ActionList, reader: ClipReader) -> dict[str, float]:
    """Top-1 accuracies (0 to 1) of `class_scores`."""
    scores, truth = class_scores(model, train_set, test_set, reader)
    return {name: topk_accuracy(score, truth, ks=(1,))[1] for name, score in scores.items()}


def class_scores(
    model: VideoMAE, train_set: ActionList, test_set: ActionList, reader: ClipReader
) -> tuple[dict[str, Tensor], Tensor]:
    """Scores (n, classes) of the test videos on frozen features, and their labels (n,).

    `knn` and `probe` are on the mean token, `motion_probe` as above.
    """
    means, motions, labels = clip_features(model, train_set, reader)
    test_means, test_motions, truth = clip_features(model, test_set, reader)
    scores = {
        "knn": knn(means, labels, test_means, k=min(20, len(labels))),
        "probe": linear_probe(means, labels, test_means),
        "motion_probe": linear_probe(motions, labels, test_motions),
    }
    return scores, truth
