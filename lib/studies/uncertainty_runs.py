"""The models of the uncertainty study and the data on which they are trained and evaluated.

The study itself is lib.studies.uncertainty's. Held-out clips are new ones of the toy world, or real videos that no
model was trained on.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lib.checkpoints import Record, load_weights
from lib.data.clips import collate_pairs
from lib.data.futures import Futures, futures_of_videos
from lib.data.kinetics import Clip, list_kinetics, scan_videos, split_videos
from lib.errors import UserError
from lib.models.adaptive_sampler import AdaptiveMasking
from lib.models.evidential import EvidentialSiamMAE
from lib.models.guided_masking import GuidedSiamMAE
from lib.models.siammae import SiamMAE
from lib.models.variance_heads import GaussianSiamMAE
from lib.presets.frame_pairs import FramePairs
from lib.runtime import atomic_path, dataset_root, digest
from lib.studies import uncertainty_measures as measures
from lib.studies.frame_pairs import training_pairs
from lib.studies.grid import Row, run_folder
from lib.toyworld.pairs import MovingPairs, toy_futures
from lib.training import fit

GAPS = tuple(range(4, 49, 4))
TEST_CLIPS, CALIBRATION_CLIPS = 48, 24  # of the toy world, rendered for this alone
REAL_DRAWS = 6  # pasts from each real clip, of which there are few
MEMBERS = 5  # of the ensemble

# Rows of other classes name them; changes are arguments of the model. `variant` is that of AdaMAE's sampler.
POSITIONS = {"beta": 0.5, "memory_positions": True}
DEFAULT = Row("beta 0.5", {"beta": 0.5}, seeds=MEMBERS)
PLAIN = Row("plain SiamMAE", model=SiamMAE)
DROPOUT = Row("dropout 0.1", {"dropout": 0.1}, seeds=1)
ROWS = (
    DEFAULT,
    PLAIN,
    Row("beta 1, head detached", {"beta": 1.0, "detach_input": True}, seeds=1),
    Row("beta 0.5, gap unknown", {"beta": 0.5, "knows_gap": False}, seeds=1),
    Row("beta 0.5, 4 times as long", {"beta": 0.5}, length=4, seeds=1),
    Row("4 times, memory with positions", POSITIONS, length=4, seeds=1),
    Row("10 times, memory with positions", POSITIONS, length=10, seeds=1),
    Row("beta 0", {"beta": 0.0}, seeds=1),
    Row("beta 1", {"beta": 1.0}, seeds=1),
    Row("evidential", model=EvidentialSiamMAE, seeds=1),
    DROPOUT,
    Row("easy-first", {"order": "easy-first"}, GuidedSiamMAE),
    Row("hard-first", {"order": "hard-first"}, GuidedSiamMAE),
    Row("curriculum", {"order": "curriculum"}, GuidedSiamMAE),
    Row("true motion shown", {"order": "easy-first", "score": "batch"}, GuidedSiamMAE),
    Row("AdaMAE's sampler", {"variant": "ours"}),
)


# --- data ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """The data of a study and its scale."""

    preset: FramePairs
    root: Path
    out: Path
    clips: list[Clip]
    """To train on."""
    test: measures.Split
    calibration: measures.Split
    frames: Path
    """Where decoded frames are stored, if the preset wants that; other runs at the same frame size may use it, too."""

    @property
    def gaps(self) -> list[int]:
        """Numbers of the gaps that training draws from; all measures but the growth with the gap are for these."""
        return self.test.upto(self.preset.gap[1])

    @property
    def steps(self) -> int:
        """Optimizer steps of a run on the preset's schedule."""
        return self.preset.steps(len(self.clips))


def prepare(
    data: str | Path,
    preset: FramePairs,
    out: str | Path,
    test: int = TEST_CLIPS,
    gaps: tuple[int, ...] = GAPS,
    frames: str | Path | None = None,
) -> Study:
    """The clips to train on and the held-out ones, cached in `out`: of the toy world `test` new clips, and half as many
    for calibration; of real videos those of a `val` split, or a part of all when there is none.

    frames: the folder of decoded frames; None: one in `out`.
    """
    root, out = dataset_root(data, ["kinetics400"]), Path(out)
    shape = {"gaps": gaps, "image_size": preset.image_size, "crop_scale": preset.crop_scale}
    if (root.parent / "manifest.json").is_file():
        clips = scan_videos(list_kinetics(root, "train")).clips
        make = partial(toy_futures, **shape, patch_size=preset.patch_size)
        makers = [partial(make, test, seed=1), partial(make, max(2, test // 2), seed=2)]
    else:
        clips, *parts = held_out_videos(root)
        make = partial(futures_of_videos, **shape, frame_size=preset.frame_size, draws=REAL_DRAWS)
        makers = [partial(make, part, seed=seed) for seed, part in enumerate(parts, start=1)]
    sizes = preset.image_size, preset.patch_size, preset.crop_scale, preset.frame_size
    key, splits = digest(str(root.resolve()), test, gaps, *sizes), []
    for name, maker in zip(("test", "calibration"), makers, strict=True):
        cached = out / f"{name}-{key}.pt"
        if not cached.is_file():
            with atomic_path(cached) as temporary:
                torch.save(maker()._asdict(), temporary)
        futures = Futures(**torch.load(cached, weights_only=True))
        splits.append(measures.masked(futures, preset.patch_size, preset.mask_ratio, seed=0))
    return Study(preset, root, out, clips, *splits, Path(frames or out / "frames"))


def held_out_videos(root: Path) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """Clips to train on, to test on, to calibrate on: the val split's first ones, or a quarter of all for each."""
    train, held = split_videos(root)
    if (root / "val").is_dir():
        parts = train, held[0::2][:TEST_CLIPS], held[1::2][:CALIBRATION_CLIPS]
    else:
        parts = [video for k, video in enumerate(train) if k % 3 != 2], held, train[2::3]
    train, *held = (scan_videos(part).clips if part else [] for part in parts)
    if min(map(len, held)) < 2:
        raise UserError(f"{root}: fewer than 2 usable videos to test or calibrate on; give 4 in val/, or 8 in all")
    return train, *held


# --- training -----------------------------------------------------------------------------------------------


def build_model(study: Study, row: Row, seed: int) -> SiamMAE:
    """An untrained model of the preset's size."""
    settings, arguments = row.settings(study.preset)
    if variant := arguments.pop("variant", None):
        arguments["masking"] = AdaptiveMasking(settings.mask_ratio, variant)
    if arguments.get("order") == "curriculum":
        arguments["curriculum_steps"] = settings.steps(len(study.clips)) * settings.accumulation
    torch.manual_seed(seed)
    kind = row.model or GaussianSiamMAE
    return kind(**settings.model_arguments(), **arguments)


def train_model(study: Study, row: Row, seed: int, folder: str | Path) -> tuple[SiamMAE, list[Record]]:
    """Train as notebooks/03_pretrain does, or go on, or load; the model and its loss curve."""
    settings, arguments = row.settings(study.preset)
    pairs = training_pairs(settings, study.clips, seed, study.frames)
    if arguments.get("score") == "batch":  # an oracle: batches must bring the true motion
        pairs = MovingPairs(pairs, study.root.parent, settings.patch_size)
    model = build_model(study, row, seed)
    return model, fit(model, pairs, settings, folder, seed, collate_pairs)


def trained(study: Study, row: Row, seed: int) -> SiamMAE:
    """The model of a finished run."""
    model = build_model(study, row, seed)
    return load_weights(model, run_folder(study.out, row.name, seed) / "last.pt").eval()
