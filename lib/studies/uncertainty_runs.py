"""The models of the uncertainty study and the data they are trained and judged on.

The study itself, its rows and its command line are lib.studies.uncertainty's. Held-out clips are new ones of the toy
world, or real videos that no model was trained on.
"""

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from lib.checkpoints import Record, load_weights
from lib.data.clips import FramePairs, StepBatches, collate_pairs
from lib.data.futures import futures_of_videos
from lib.data.kinetics import Clip, list_kinetics, scan_videos, split_videos
from lib.errors import UserError
from lib.models.evidential import EvidentialSiamMAE
from lib.models.guided_masking import SmartSiamMAE
from lib.models.siammae import SiamMAE
from lib.models.variance_heads import GaussianSiamMAE
from lib.models.vit import vit_size
from lib.presets.frame_pairs import Preset
from lib.runtime import dataset_root
from lib.studies import uncertainty_measures as measures
from lib.toyworld.pairs import MovingPairs, toy_futures
from lib.training import TrainOptions, train

GAPS = tuple(range(4, 49, 4))
TEST_CLIPS, CALIBRATION_CLIPS = 48, 24  # of the toy world, rendered for this alone
REAL_DRAWS = 6  # pasts from each real clip, of which there are few
MEMBERS = 5


@dataclass(frozen=True)
class Setting:
    """A model of the study; `seeds` of them are trained. `arguments` are those that differ from the preset's.

    times: as many times the preset's epochs.
    """

    case: str
    model: type[SiamMAE] = GaussianSiamMAE
    arguments: dict = field(default_factory=dict)
    seeds: int = 1
    times: int = 1

    @property
    def oracle(self) -> bool:
        """Whether its batches must bring the true motion."""
        return self.arguments.get("score") == "batch"


DEFAULT = Setting("beta 0.5", arguments={"beta": 0.5}, seeds=MEMBERS)
PLAIN = Setting("plain SiamMAE", SiamMAE, seeds=3)
DROPOUT = Setting("dropout 0.1", arguments={"dropout": 0.1})
SETTINGS = (
    DEFAULT,
    PLAIN,
    Setting("beta 1, head detached", arguments={"beta": 1.0, "detach_input": True}),
    Setting("beta 0.5, gap unknown", arguments={"beta": 0.5, "knows_gap": False}),
    Setting("beta 0.5, 4 times as long", arguments={"beta": 0.5}, times=4),
    Setting("4 times, memory with positions", arguments={"beta": 0.5, "memory_positions": True}, times=4),
    Setting("10 times, memory with positions", arguments={"beta": 0.5, "memory_positions": True}, times=10),
    Setting("beta 0", arguments={"beta": 0.0}),
    Setting("beta 1", arguments={"beta": 1.0}),
    Setting("evidential", EvidentialSiamMAE),
    DROPOUT,
    Setting("easy-first", SmartSiamMAE, {"masking": "easy-first"}, seeds=3),
    Setting("hard-first", SmartSiamMAE, {"masking": "hard-first"}, seeds=3),
    Setting("curriculum", SmartSiamMAE, {"masking": "curriculum"}, seeds=3),
    Setting("true motion shown", SmartSiamMAE, {"masking": "easy-first", "score": "batch"}, seeds=3),
    Setting("AdaMAE's sampler", arguments={"masking": "ours"}, seeds=3),
)


@dataclass(frozen=True)
class Study:
    """The data of a study and its scale."""

    preset: Preset
    root: Path
    out: Path
    clips: list[Clip]
    """To train on."""
    test: measures.Split
    calibration: measures.Split
    frames: Path
    """Where decoded frames are kept, if the preset wants that; other runs at the same frame size may share it."""

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
    preset: Preset,
    out: str | Path,
    test: int = TEST_CLIPS,
    gaps: tuple[int, ...] = GAPS,
    frames: str | Path | None = None,
) -> Study:
    """The clips to train on and the held-out ones, kept in `out`: of the toy world `test` new clips, and half as many
    for calibration; of real videos those of a `val` split, or a part of all when there is none.

    frames: the folder of decoded frames; None: one in `out`.
    Raises UserError for data that cannot be read, and too few clips.
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
    depends = (
        str(root.resolve()),
        test,
        gaps,
        preset.image_size,
        preset.patch_size,
        preset.crop_scale,
        preset.frame_size,
    )
    key, splits = hashlib.sha256(repr(depends).encode()).hexdigest()[:12], []
    for name, maker in zip(("test", "calibration"), makers, strict=True):
        kept = out / f"{name}-{key}.pt"
        if not kept.is_file():
            measures.save_futures(kept, maker())
        splits.append(measures.masked(measures.load_futures(kept), preset.patch_size, preset.mask_ratio, seed=0))
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


def build_model(study: Study, setting: Setting, seed: int) -> SiamMAE:
    """An untrained model of the preset's size."""
    torch.manual_seed(seed)
    arguments = study.preset.model_arguments(vit_size(study.preset.encoder)) | {"mask_ratio": study.preset.mask_ratio}
    if setting.arguments.get("masking") == "curriculum":
        arguments["curriculum_steps"] = study.steps * study.preset.accumulation
    return setting.model(**arguments, **setting.arguments)


def train_model(study: Study, setting: Setting, seed: int, folder: str | Path) -> tuple[SiamMAE, list[Record]]:
    """Train on the preset's schedule as notebooks/03_pretrain does, or resume, or load; the model and its curve."""
    preset = replace(study.preset, epochs=study.preset.epochs * setting.times)
    steps = preset.steps(len(study.clips))
    pairs: Dataset = FramePairs(
        study.clips, preset.image_size, preset.gap, preset.crop_scale, repeated_sampling=preset.repeated_sampling,
        seed=seed, frame_size=preset.frame_size, frame_cache=study.frames if preset.cache_frames else None,
    )  # fmt: skip
    if setting.oracle:
        pairs = MovingPairs(pairs, study.root.parent, preset.patch_size)
    micro = preset.batch_size // preset.accumulation // preset.repeated_sampling
    options = TrainOptions(
        steps=steps, batch_size=preset.batch_size, base_lr=preset.base_lr, seed=seed,
        warmup_steps=preset.warmup_steps(len(study.clips)), weight_decay=preset.weight_decay,
        accumulation=preset.accumulation, save_every=preset.save_every,
    )  # fmt: skip

    def make_loader(first: int) -> DataLoader:
        batches = StepBatches(len(study.clips), micro, steps * preset.accumulation, seed, first)
        return DataLoader(pairs, batch_sampler=batches, collate_fn=collate_pairs, num_workers=preset.workers)

    model = build_model(study, setting, seed)
    losses = train(model, make_loader, options, folder)
    load_weights(model, Path(folder) / "last.pt")
    return model.eval(), losses


def run_folder(study: Study, setting: Setting, seed: int) -> Path:
    """Where a run lives."""
    return study.out / f"{setting.case}-seed{seed}".replace(" ", "_").replace(",", "").replace("'", "")


def trained(study: Study, setting: Setting, seed: int) -> SiamMAE:
    """A model of a finished run. Raises UserError where it has not been trained."""
    model = build_model(study, setting, seed)
    return load_weights(model, run_folder(study, setting, seed) / "last.pt").eval()
