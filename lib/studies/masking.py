"""AdaMAE's Table 1 at small scale: pre-train with a masking, then measure what the encoder knows and where it looked.

`python -m lib.studies.masking --data data/toy/studio --out runs/masking --csv runs/masking/04_masking_study.csv` trains
every row of SETTINGS; finished runs are kept in `--out`, so it can be stopped and started again. The notebook uses the
same steps for its one run.

What stands for the paper's fine-tuned accuracy is a linear probe: `probe` on the mean of all tokens, `motion_probe` on
how much the token of a place varies over time, averaged over places. The second is blind to the colour of the wall.

Shapes: `B` clips, `N` cubes on the grid (s, h, w), `D` encoder width, `R` regions.
"""

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lib.checkpoints import Record, load_weights
from lib.data.action_clips import ClipReader, TestingViews, TrainingClips
from lib.data.actions import ActionList
from lib.data.clips import StepBatches
from lib.errors import cli
from lib.evaluation.focus import rank_agreement, times_chance
from lib.evaluation.recognition import average_views, knn, linear_probe, topk_accuracy, wilson_interval
from lib.models.action_classifier import ActionClassifier, FineTuning, class_probabilities
from lib.models.adamae import AdaMAE
from lib.models.video_mae import VideoMAE
from lib.presets.video import VideoPreset, get_video_preset
from lib.runtime import atomic_path, progress, share, write_json
from lib.tokens.cubes import cubify, normalize_videos
from lib.toyworld.layers import LAYERS, LayerViews, list_studio
from lib.training import TrainOptions, train

DRAWS = 16  # masks a clip, where means over masks are measured
VIEWS_AT_ONCE = 12


@dataclass(frozen=True)
class Setting:
    """A row of a table: `table` and `case` as figures/paper/adamae.csv has them.

    masking: "adaptive" or a name in lib.tokens.masking.MASKINGS. model: arguments that differ from the preset's.
    share: of the preset's epochs; 0: untrained.
    """

    table: str
    case: str
    masking: str = "adaptive"
    mask_ratio: float = 0.95
    model: dict = field(default_factory=dict)
    share: float = 1.0


# Widths and numbers of blocks are those of the small model; `case` says the paper's row that they stand for. The rows
# named after the sampler have the paper's blocks, with an MLP; all others have the preset's lighter sampler.
BLOCK = {"sampler_dim": 128, "sampler_mlp": True}
SETTINGS = (
    Setting("1a", "adaptive"),
    Setting("1a", "random", "random"),
    Setting("1a", "tube", "tube", 0.944),  # two whole columns of 36: 16 cubes, where 0.95 leaves 14
    Setting("1f", "MLP", model={"sampler_depth": 0}),
    Setting("reference", "untrained", share=0),
    Setting("1a", "random", "random", 0.75),
    Setting("1a", "random", "random", 0.90),
    Setting("1a", "tube", "tube", 0.75),
    Setting("1a", "tube", "tube", 0.90),
    Setting("1a", "frame", "frame", 0.875),
    Setting("1b", "adaptive", mask_ratio=0.98),
    Setting("1b", "adaptive", mask_ratio=0.90),
    Setting("1b", "adaptive", mask_ratio=0.85),
    Setting("1b", "adaptive", mask_ratio=0.80),
    Setting("1c", "1 decoder block", model={"decoder_depth": 1}),
    Setting("1c", "4 decoder blocks", model={"decoder_depth": 4}),
    Setting("1c", "8 decoder blocks", model={"decoder_depth": 8}),
    Setting("1d", "MSE loss, normalised", model={"norm_pix": True}),
    Setting("1d", "L1 loss, not normalised", model={"loss": "l1"}),
    Setting("1d", "L1 loss, normalised", model={"loss": "l1", "norm_pix": True}),
    Setting("1e", "200 epochs", share=1 / 4),
    Setting("1e", "500 epochs", share=5 / 8),
    Setting("1e", "600 epochs", share=3 / 4),
    Setting("1f", "MHA, depth 1, width 768", model=BLOCK),
    Setting("1f", "MHA, depth 1, width 384", model=BLOCK | {"sampler_dim": 64}),
    Setting("1f", "MHA, depth 2, width 384", model=BLOCK | {"sampler_depth": 2, "sampler_dim": 64}),
    Setting("variants", "paper", model=BLOCK | {"variant": "paper"}),
    Setting("variants", "released_code", model=BLOCK | {"variant": "released_code"}),
    Setting("variants", "reinforce", model={"variant": "reinforce"}),
)
SEEDED = 5  # the first of them are run with every seed, the others with the first
# Rows of the paper's table that are its default, which is the first setting.
SAME_AS_DEFAULT = (
    ("1b", "adaptive", 0.95),
    ("1c", "2 decoder blocks", 0.95),
    ("1d", "MSE loss, not normalised", 0.95),
    ("1e", "800 epochs", 0.95),
)


def build_model(preset: VideoPreset, setting: Setting, seed: int) -> VideoMAE:
    """An untrained model of the preset's size with the setting's masking."""
    torch.manual_seed(seed)
    arguments = preset.architecture() | {"mask_ratio": setting.mask_ratio} | setting.model
    if setting.masking == "adaptive":
        return AdaMAE(**preset.sampler() | arguments)
    return VideoMAE(masking=setting.masking, **arguments)


def pretrain(
    model: VideoMAE, preset: VideoPreset, clips: TrainingClips, out_dir: str | Path, share: float = 1.0
) -> list[Record]:
    """Train `model` on the preset's schedule, shortened to `share` of its epochs, or resume; returns the loss curve.

    The model holds the trained weights afterwards.
    """
    steps = max(1, round(share * preset.steps(len(clips))))
    options = TrainOptions(
        steps=steps,
        batch_size=preset.batch_size,
        base_lr=preset.base_lr,
        warmup_steps=round(share * preset.warmup_steps(len(clips))),
        weight_decay=preset.weight_decay,
        save_every=preset.save_every,
        seed=clips.seed,
    )

    def make_loader(first: int) -> DataLoader:
        batches = StepBatches(len(clips), preset.batch_size, steps, clips.seed, first)
        return DataLoader(clips, batch_sampler=batches, num_workers=preset.workers)

    losses = train(model, make_loader, options, out_dir)
    load_weights(model, Path(out_dir) / "last.pt")
    return losses


# --- measuring ----------------------------------------------------------------------------------------------


def region_shares(layers: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """Share of each cube that each layer covers: (B, R, T, H, W) -> (B, N, R)."""
    planes = (plane.unsqueeze(1).expand(-1, 3, -1, -1, -1) for plane in layers.unbind(1))  # cubify takes three channels
    return torch.stack([cubify(plane, tubelet_size, patch_size).mean(dim=-1) for plane in planes], dim=-1)


@torch.inference_mode()
def mean_errors(model: VideoMAE, videos: Tensor, draws: int = DRAWS) -> tuple[Tensor, Tensor]:
    """Over `draws` masks of each video (B, 3, T, H, W): a cube's mean error while hidden (NaN if it never was), and
    the share of draws in which it was visible, both (B, N).
    """
    total, hidden = 0.0, 0.0
    for _ in range(draws):
        errors, mask = model.errors(videos)
        total, hidden = total + errors * mask.hidden, hidden + mask.hidden
    return total / hidden, 1 - hidden / draws


def focus(model: VideoMAE, views: LayerViews, draws: int = DRAWS, seed: int = 0) -> dict[str, float]:
    """Where the model's visible cubes lie, and whether they lie where the error is, as means over all videos.

    `wall`, `puppet`, `poster`: how often visible cubes meet each layer, times chance. `puppet_error`, `poster_error`:
    mean error there, times the clip's mean error. `agreement`: Spearman correlation of a cube's mean error and its
    probability (of being visible, where no sampler gives one). `error`: mean error of hidden cubes.
    """
    torch.manual_seed(seed)
    rows, device = [], next(model.parameters()).device
    for batch in progress(DataLoader(views, VIEWS_AT_ONCE), "where it looks"):
        videos = batch["video"].to(device)
        shares = region_shares(batch["layers"], model.tubelet_size, model.patch_size)
        errors, seen = (values.float().cpu() for values in mean_errors(model, videos, draws))
        known = ~errors.isnan()
        met, hard = times_chance(seen, shares), times_chance(errors.nan_to_num(), shares * known.unsqueeze(-1))
        likely = model.probabilities(normalize_videos(videos)).flatten(1).cpu() if isinstance(model, AdaMAE) else seen
        agreement = rank_agreement(errors, likely, known)
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
        tokens = model.features(normalize_videos(batch["video"].to(device))).float().cpu()
        means.append(tokens.mean(dim=1))
        motions.append(tokens.unflatten(1, (model.grid[0], -1)).std(dim=1).mean(dim=1))
        labels.append(batch["label"])
    return torch.cat(means), torch.cat(motions), torch.cat(labels)


def recognition(model: VideoMAE, train_set: ActionList, test_set: ActionList, reader: ClipReader) -> dict[str, float]:
    """Top-1 accuracies (0 to 1) on frozen features: `knn` and `probe` on the mean token, `motion_probe` (see above)."""
    means, motions, labels = clip_features(model, train_set, reader)
    test_means, test_motions, truth = clip_features(model, test_set, reader)
    scores = {
        "knn": knn(means, labels, test_means, k=min(20, len(labels))),
        "probe": linear_probe(means, labels, test_means).log_probabilities,
        "motion_probe": linear_probe(motions, labels, test_motions).log_probabilities,
    }
    return {name: topk_accuracy(score, truth, ks=(1,))[1] for name, score in scores.items()}


def finetune(
    model: VideoMAE, settings: FineTuning, clips: TrainingClips, views: TestingViews, out_dir: str | Path
) -> dict[str, float]:
    """Fine-tune the encoder with labels (appendix A.6), or resume, and test it on several views of each video.

    Returns `top1` and `top5`, 0 to 1, and `low` and `high`, top-1's 95 % interval over videos. `model` is changed.
    """
    classifier = ActionClassifier(model, model.architecture["embed_dim"], len(clips.actions.classes), settings)
    options = settings.train_options(len(clips), seed=clips.seed)

    def make_loader(first: int) -> DataLoader:
        return DataLoader(
            clips, batch_sampler=StepBatches(len(clips), options.batch_size, options.steps, clips.seed, first)
        )

    train(classifier, make_loader, options, out_dir)
    load_weights(classifier, Path(out_dir) / "last.pt")
    device = next(classifier.parameters()).device
    scores, truth = class_probabilities(classifier, DataLoader(views, VIEWS_AT_ONCE), device)
    scores, truth = average_views(scores, views.views), truth[:: views.views]
    accuracy = topk_accuracy(scores, truth, ks=(1, 5))
    low, high = wilson_interval(accuracy[1], len(truth))
    return {"top1": accuracy[1], "top5": accuracy[5], "low": low, "high": high}


# --- the table ----------------------------------------------------------------------------------------------


def run_name(setting: Setting, seed: int) -> str:
    """The folder of a run."""
    name = f"{setting.table}-{setting.case}-{setting.mask_ratio:g}-seed{seed}"
    return name.replace(" ", "_").replace(",", "")


def run(setting: Setting, seed: int, preset: VideoPreset, data: Path, out: Path) -> dict:
    """One row: pre-train, then measure on the val split. The row is kept in the run's folder and read from there."""
    folder = out / run_name(setting, seed)
    kept = folder / "row.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    train_set, test_set = list_studio(data, "train"), list_studio(data, "val")
    reader = ClipReader(preset.num_frames, preset.stride, preset.frame_size, out / "frames")
    clips = TrainingClips(train_set, reader, preset.image_size, preset.crop_area, seed=seed)
    model = build_model(preset, setting, seed)
    losses = pretrain(model, preset, clips, folder, setting.share) if setting.share else []
    model.eval()
    row = {"table": setting.table, "case": setting.case, "ratio": setting.mask_ratio, "seed": seed}
    row |= {"steps": len(losses), **recognition(model, train_set, test_set, reader)}
    row |= focus(model, LayerViews(test_set, reader, preset.image_size))
    row["entropy_share"] = losses[-1].get("entropy_share", 1.0) if losses else 1.0  # random masks, and at the start
    row["seconds"] = sum(record["seconds"] for record in losses)
    write_json(kept, row)
    return row


def planned(seeds: int) -> list[tuple[Setting, int]]:
    """Every setting with its seeds."""
    first = [(setting, seed) for seed in range(seeds) for setting in SETTINGS[:SEEDED]]
    return [*first, *((setting, 0) for setting in SETTINGS[SEEDED:])]


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`."""
    about = "AdaMAE's Table 1 at small scale."
    parser = argparse.ArgumentParser(prog="python -m lib.studies.masking", description=about)
    parser.add_argument("--data", type=Path, required=True, help="the toy world's studio")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs; those finished there are kept")
    parser.add_argument("--csv", type=Path, required=True, help="the table, written when all rows are there")
    parser.add_argument("--seeds", type=int, default=3, help="of the settings that are compared (default: 3)")
    parser.add_argument("--epochs", type=int, help="instead of the toy preset's")
    parser.add_argument("--part", default="0/1", help="run only a share of the rows, as 0/2 and 1/2 in two processes")
    args = parser.parse_args(arguments)
    rows = []
    for setting, seed in share(planned(args.seeds), args.part):
        row = run(setting, seed, get_video_preset("toy", epochs=args.epochs), args.data, args.out)
        found = f"puppet {row['puppet']:.2f}, motion probe {row['motion_probe']:.2f}"
        print(f"{setting.case} {setting.mask_ratio}, seed {seed}: {found}", flush=True)
        rows.append(row)
    if args.part == "0/1":
        default = [row for row in rows if (row["table"], row["case"], row["ratio"]) == ("1a", "adaptive", 0.95)]
        for table, case, ratio in SAME_AS_DEFAULT:
            rows += [row | {"table": table, "case": case, "ratio": ratio} for row in default]
        with atomic_path(args.csv) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.5g")


if __name__ == "__main__":
    sys.exit(main())
