"""What a toy world is made of: one frozen record, whose fields are also the command line's options."""

from dataclasses import dataclass

from lib.errors import UserError, unknown

# In this order a clip's number follows from its data set's: append only, or every world changes.
DATASETS = ("kinetics400", "davis2017", "jhmdb", "vip", "ucf101", "ssv2", "vspw", "uvo", "kitti", "studio", "cifar10")
LEAST = {
    "seed": 0, "objects": 1, "kinetics_train": 0, "kinetics_val": 0, "kinetics_frames": 60, "davis_train": 0,
    "davis_val": 1, "davis_frames": 30, "small_clips": 2, "small_frames": 25, "uvo_videos": 1,
    "uvo_frames": 6,  # the decay of a score needs four frames between the first and the last
    "studio_train": 1, "studio_val": 1, "batch_pictures": 10,
}  # fmt: skip


@dataclass(frozen=True)
class ToyWorldOptions:
    """Counts, sizes and difficulty of a toy world. Two worlds with equal options are equal, byte for byte of frames."""

    datasets: tuple[str, ...] = DATASETS
    seed: int = 0
    difficulty: float = 0.5  # 0 to 1: scales light change, colour likeness of objects, camera motion and speed
    height: int = 144
    width: int = 192
    objects: int = 4  # most puppets and props in a clip
    kinetics_train: int = 48  # ordinary ones; one broken, one too short and one at 25 fps are added to them
    kinetics_val: int = 8
    kinetics_frames: int = 75
    davis_train: int = 2
    davis_val: int = 12
    davis_frames: int = 40
    small_clips: int = 2  # for each of the two classes of JHMDB, UCF101 and SSv2, and videos of VIP
    small_frames: int = 32
    uvo_videos: int = 16  # video i shows 1 + i mod 8 puppets
    uvo_frames: int = 24
    studio_train: int = 180
    studio_val: int = 60
    batch_pictures: int = 400  # of each of the six files of pictures, five to train on and one to test

    def __post_init__(self) -> None:
        object.__setattr__(self, "datasets", tuple(self.datasets))
        for name in self.datasets:
            if name not in DATASETS:
                raise unknown("data set", name, DATASETS)
        if not 0 <= self.difficulty <= 1:
            raise UserError(f"difficulty {self.difficulty} is outside 0..1: choose a value between them")
        for name, value in (("height", self.height), ("width", self.width)):
            if value < 48 or value % 2:
                raise UserError(f"{name} {value}: H.264 needs an even size, the puppets at least 48 pixels")
        for name, value in LEAST.items():
            if getattr(self, name) < value:
                raise UserError(f"{name} {getattr(self, name)} is too small: use {value} or more")
