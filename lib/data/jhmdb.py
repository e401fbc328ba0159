"""JHMDB: video clips of people, with 15 joints annotated in every frame.

Layout (Jhuang et al. 2013): `Rename_Images/{class}/{clip}/00001.png`, `joint_positions/{class}/{clip}/
joint_positions.mat` (MATLAB 5; `pos_img` is 2 x 15 x T, x first, pixels counted from 1) and one list a class and
split, `{class}_test_split{1,2,3}.txt`, with lines `{clip}.avi 1` (train) or `2` (test): in `splits/` for the whole data
set, in `sub_splits/` for its part in which the whole body is seen (12 of 21 classes). Published keypoint propagation
uses the 268 test clips of split 1 of the whole set. `puppet_mask/{class}/{clip}/puppet_mask.mat` outlines the person.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from lib.data.folders import check_root, children, frames_in, read_lines, walk
from lib.data.sequences import FrameSequence, SequenceDataset, first_of
from lib.errors import UserError, unknown

JOINTS = (
    "neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow", "left elbow",
    "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle",
)  # fmt: skip
LISTS = ("splits", "sub_splits")
FOLDERS = ("Rename_Images", "joint_positions")


@dataclass(frozen=True)
class JointClip(FrameSequence):
    """The images of one clip, and the joints annotated in them."""

    class_name: str
    joints_path: Path

    def joints(self, max_frames: int | None = None) -> np.ndarray:
        """The joints of the first `max_frames` (None: all) annotated frames, (T, 15, 2) float64.

        x, y in pixels counted from 0; they may lie outside the frame. The last images may be without annotation.
        """
        positions = _read_positions(self.joints_path)
        if positions.shape[2] > len(self):
            images = f"{self.frame_paths[0].parent} holds {len(self)} images; unpack them again"
            raise UserError(f"{self.joints_path}: annotates {positions.shape[2]} frames, but {images}")
        return first_of(positions.transpose(2, 1, 0), max_frames) - 1


class JhmdbDataset(SequenceDataset):
    """Clips in a fixed order: classes alphabetically, within a class as its list has them.

    `split` 1, 2 or 3: the test clips, by the lists in `splits/` or, where there is no such folder, `sub_splits/`. None:
    every clip that has joints. A path: the clips of a file list as published evaluations use them, one a line, named by
    its folder of images or joints, in the list's order.
    """

    def __init__(self, root: str | Path, split: int | str | Path | None = 1):
        self.root = check_root(Path(root), "JHMDB", *FOLDERS)
        if split is None:
            files = [path for path in walk(self.root / FOLDERS[1]) if path.name == "joint_positions.mat"]
            names = sorted(path.parts[-3:-1] for path in files)
        elif isinstance(split, int):
            names = [clip for *clip, mark in split_lists(self.root, split) if mark == "2"]
        else:
            names = list(_from_file_list(Path(split)))
        if not names:
            raise UserError(f"{root}: split {split} holds no test clip; look into its lists and joint_positions")
        super().__init__([_find_clip(self.root, *name) for name in names], str(root))


def split_lists(root: Path, split: int) -> Iterator[tuple[str, str, str]]:
    """(class, clip, mark) of a split's lists: "1" to train on, "2" to test on, "0" neither, as in HMDB's."""
    folder = next((root / name for name in LISTS if (root / name).is_dir()), None)
    if folder is None:
        raise UserError(f"{root}: no folder {' or '.join(LISTS)} with split lists; use split=None for every clip")
    suffix = f"_test_split{split}.txt"
    lists = {path.name.removesuffix(suffix): path for path in children(folder) if path.name.endswith(suffix)}
    if not lists:
        names = [path.stem for path in children(folder) if "_test_split" in path.stem]
        splits = {name.partition("_test_split")[2] for name in names}
        raise unknown(f"split in {folder}", split, splits or ["(no list there)"])
    for class_name, path in sorted(lists.items()):
        for place, line in read_lines(path):
            clip, _, mark = line.rpartition(" ")
            if not clip or mark not in ("0", "1", "2"):
                raise UserError(f"{place}: is not 'clip.avi 1' or 'clip.avi 2': {line[:60]!r}")
            yield class_name, clip.strip().removesuffix(".avi"), mark


def _from_file_list(path: Path) -> Iterator[tuple[str, str]]:
    """(class, clip) of every line, whichever column comes first."""
    for place, line in read_lines(path):
        match = re.search(rf"(?:{'|'.join(FOLDERS)})/([^/\s]+)/([^/\s]+)", line)
        if not match:
            raise UserError(f"{place}: names no {FOLDERS[0]}/CLASS/CLIP: {line[:60]!r}")
        yield match.groups()


def _find_clip(root: Path, class_name: str, name: str) -> JointClip:
    images, joints = (root / folder / class_name / name for folder in FOLDERS)
    frames = frames_in(images)
    if not (joints / "joint_positions.mat").is_file():
        raise UserError(f"{joints / 'joint_positions.mat'}: no such file; unpack joint_positions again")
    return JointClip(name, tuple(frames), class_name, joints / "joint_positions.mat")


def read_outlines(path: Path) -> np.ndarray:
    """The person's pixels in every frame, bool (T, H, W), from a clip's `puppet_mask.mat`; coarse at hands and feet."""
    masks = _read_array(path, "part_mask")
    if masks.ndim != 3 or masks.dtype.kind not in "biuf":
        raise UserError(f"{path}: part_mask must be height x width x frames, not {masks.shape} of {masks.dtype}")
    return np.ascontiguousarray(masks.transpose(2, 0, 1) > 0)


def _read_positions(path: Path) -> np.ndarray:
    """`pos_img`, (2, 15, T) float64."""
    positions = _read_array(path, "pos_img")
    shape, kind = positions.shape, positions.dtype.kind
    if kind not in "fiu" or len(shape) != 3 or shape[:2] != (2, len(JOINTS)) or not shape[2]:
        raise UserError(f"{path}: pos_img must be 2 x {len(JOINTS)} x frames, not {shape} of kind {kind!r}")
    if not np.isfinite(positions).all():
        raise UserError(f"{path}: pos_img holds values that are not finite; fetch the file again")
    return positions.astype(np.float64)


def _read_array(path: Path, name: str) -> np.ndarray:
    """One array of a MATLAB 5 file. scipy's reader of these builds arrays only: it runs nothing it reads."""
    try:
        content = loadmat(path, appendmat=False, variable_names=[name])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; unpack it again") from None
    except NotImplementedError:
        raise UserError(f"{path}: a MATLAB 7.3 (HDF5) file; save it as version 5, as JHMDB has it") from None
    except Exception as error:  # what scipy raises depends on which byte is damaged
        raise UserError(f"{path}: not a readable MATLAB file ({type(error).__name__}); fetch it again") from None
    if name not in content:
        raise UserError(f"{path}: holds no {name}; it is another file, or fetch it again")
    return np.asarray(content[name])
