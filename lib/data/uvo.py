"""UVO (dense): every object in videos of Kinetics-400's validation split (Wang et al. 2021), as sequences to follow.

Layout (UVO v1.0): `VideoDenseSet/UVO_video_{train,val}_dense.json` (or `..._dense_with_label.json`) in the style of
YouTube-VIS: `videos` (id, ytid, height, width, file_names) and `annotations`, one an object: video_id and
`segmentations`, one a frame, run-length encoded or null. Frames are `uvo_videos_dense_frames/{file_name}`, file names
`{ytid}/{n}.png` with n not padded: their order is that of the list, not the alphabet's. Not verified on the data
itself: whether masks overlap (here a later annotation covers an earlier one). Kinetics pretraining on the validation
split would have seen these videos.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data.folders import check_files, check_root, children, read_text
from lib.data.rle import decode_rle
from lib.data.sequences import MaskSequence, SequenceDataset, from_first_object
from lib.errors import UserError, unknown


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The masks of one frame, one an object of its video, still encoded; `where` names them in messages."""

    where: str
    size: tuple[int, int]
    rles: tuple[dict | None, ...]

    def __str__(self) -> str:
        return self.where


class UvoDataset(SequenceDataset):
    """The videos of one split, in the file's order, named by ytid; each from its first frame with an object on."""

    def __init__(self, root: str | Path, split: str = "val"):
        self.root, self.split = check_root(Path(root), "UVO", "VideoDenseSet", "uvo_videos_dense_frames"), split
        self.annotation_path = _find_annotations(self.root / "VideoDenseSet", split)
        try:
            content = json.loads(read_text(self.annotation_path))
            videos = {video["id"]: video for video in content["videos"]}
            objects = {number: [] for number in videos}
            for annotation in content["annotations"]:
                objects[annotation["video_id"]].append(annotation["segmentations"])
            sequences = {video["ytid"]: self._find_sequence(video, objects[number]) for number, video in videos.items()}
        except UserError:  # is a ValueError, but tells more
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"not an annotation in UVO's form ({type(error).__name__}: {error}); fetch it again"
            raise UserError(f"{self.annotation_path}: {message}") from None
        if len(sequences) < len(content["videos"]):
            raise UserError(f"{self.annotation_path}: names a video twice, by id or ytid; each must have its own")
        super().__init__(sequences.values(), str(self.annotation_path))

    def _find_sequence(self, video: dict, objects: list[list[dict | None]]) -> MaskSequence | None:
        where = f"{self.annotation_path}: video {video['ytid']}"
        frames = [self.root / "uvo_videos_dense_frames" / name for name in video["file_names"]]
        if any(len(segmentations) != len(frames) for segmentations in objects):
            raise UserError(f"{where}: an object has not one mask (or null) for each of {len(frames)} frames")
        check_files(frames, f"frame, but {self.annotation_path} names it")
        size = int(video["height"]), int(video["width"])
        sources = [
            FrameObjects(f"{where}, {name}", size, tuple(segmentations[t] for segmentations in objects))
            for t, name in enumerate(video["file_names"])
        ]
        return from_first_object(video["ytid"], frames, sources, read_objects)


def read_objects(source: FrameObjects) -> np.ndarray:
    """The objects of one frame, (H, W) uint16: 1 + their place among the video's annotations, 0 = none."""
    ids = np.zeros(source.size, np.uint16)
    for index, rle in enumerate(source.rles, start=1):
        if rle is not None:
            mask = decode_rle(rle, f"{source}, object {index}")
            if mask.shape != source.size:
                size, wanted = (f"{width}x{height}" for height, width in (mask.shape, source.size))
                raise UserError(f"{source}, object {index}: {size} pixels, but the video has {wanted}")
            ids[mask] = index
    return ids


def _find_annotations(folder: Path, split: str) -> Path:
    known = [path for path in children(folder) if path.match("UVO_video_*_dense*.json")]
    paths = [path for path in known if path.match(f"UVO_video_{split}_dense*.json")]
    if not paths:
        splits = {path.name.split("_")[2] for path in known}
        raise unknown(f"split in {folder}", split, splits or ["(no annotation)"])
    return paths[0]  # the one with labels is the second
