"""Real clips for MAE and SiamMAE: what they train on, what settings are chosen on, and what is reported.

Settings are chosen on JHMDB's training clips, of which some are held out from training for this, and reported on its
test clips and on DAVIS-2016: no clip is both. (Some films are: the official split, and ours, are within an action.)
Both are scored as objects, J and F.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lib.data.davis import DavisDataset
from lib.data.decoding import PAPER_FPS, Clip
from lib.data.jhmdb_outlines import OutlineDataset, source_of
from lib.data.kinetics import list_kinetics, scan_videos
from lib.data.sequences import MaskSequence, SequenceDataset
from lib.errors import UserError
from lib.evaluation.protocols import Protocol, get_protocol
from lib.presets.frame_pairs import FramePairs
from lib.runtime import dataset_root

MIX = (6, 1)  # so often stands a clip of Kinetics, of ten seconds, in an epoch, and one of JHMDB's, of one second
EVERY = 3  # so many-th frames of held-out clips: there are many choices, and whole clips to follow
HELD_OUT = 2  # clips of each action, or all of one more source


class Test(NamedTuple):
    """Annotated videos, how they are propagated, and how many of their frames."""

    __test__ = False  # no test, though pytest would think so by its name

    sequences: SequenceDataset
    protocol: Protocol
    max_frames: int | None = None


class RealData(NamedTuple):
    """Clips to train on, of Kinetics and of JHMDB; tests by the name of their data set; all in words."""

    kinetics: list[Clip]
    people: list[Clip]
    tests: dict[str, Test]
    about: str

    def clips(self, mix: tuple[int, int] = MIX) -> list[Clip]:
        """An epoch's clips: so often those of Kinetics, and of JHMDB."""
        return mix[0] * self.kinetics + mix[1] * self.people


def open_real(data: Path, settings: FramePairs, choosing: bool) -> RealData:
    """The Kinetics and JHMDB clips below `data`, and the tests: held-out training clips of JHMDB, or what is reported.

    Propagation is the protocol that the settings name, JHMDB's in its own size and with the queue for its short clips.
    """
    root = dataset_root(data, ["jhmdb_actions", "jhmdb"])
    train = OutlineDataset(root, "train")
    held_out = hold_out(train.sequences) if choosing else set()
    seconds = settings.gap[1] / PAPER_FPS
    kinetics = scan_videos(list_kinetics(dataset_root(data, ["kinetics400"])), seconds)
    people = scan_videos([_video(root, person) for person in train if person.name not in held_out], seconds)
    queue = get_protocol(settings.protocol, "jhmdb").queue
    jhmdb = get_protocol(settings.protocol, queue=queue)
    if choosing:
        tests = {"JHMDB, held out": Test(OutlineDataset(root, "train", names=held_out, every=EVERY), jhmdb)}
    else:
        davis = DavisDataset(dataset_root(data, ["davis2016", "davis2017"]))
        size = {"input_size": settings.eval_size} if settings.eval_size else {}
        tests = {"JHMDB": Test(OutlineDataset(root), jhmdb)}
        tests |= {davis.title: Test(davis, get_protocol(settings.protocol, **size), settings.eval_frames)}
    told = ", ".join(f"{name}: {len(test.sequences)}" for name, test in tests.items())
    about = f"trained on {len(kinetics.clips)} clips of Kinetics-400 and {len(people.clips)} of JHMDB; tested on {told}"
    return RealData(kinetics.clips, people.clips, tests, about)


def _video(root: Path, person: MaskSequence) -> Path:
    path = root / "ReCompress_Videos" / _action(person) / f"{person.name}.avi"
    if not path.is_file():
        raise UserError(f"{path}: no such file; training reads videos: unpack ReCompress_Videos, too")
    return path


def _action(person: MaskSequence) -> str:
    """What the person does: the class, whether its frames lie as images or in a video."""
    return person.frame_paths[0].parent.parent.name


def hold_out(people: Sequence[MaskSequence]) -> set[str]:
    """Names of HELD_OUT clips or more of each action, with all others of the same source: films of one camera."""
    by_source: dict[str, dict[str, list[str]]] = {}
    for person in people:
        by_source.setdefault(_action(person), {}).setdefault(source_of(person.name), []).append(person.name)
    names = set()
    for sources in by_source.values():
        chosen = []
        for source in sorted(sources, key=lambda source: (len(sources[source]), source)):
            chosen += sources[source] if len(chosen) < HELD_OUT else []
        names.update(chosen)
    return names
