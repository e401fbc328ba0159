"""The published label propagation protocols, as data: one record for each evaluation code and task.

Sources: videowalk (`crw`, Jabri et al. 2020), CropMAE (Eymael et al. 2024), SiamMAE's Table 4b (Gupta et al. 2023),
DINO (Caron et al. 2021), RSP (Jang et al. 2024). Every number that is reported must carry its protocol, its input size
and its temperature.
"""

from dataclasses import dataclass, replace

from lib.errors import UserError, unknown

TASKS = ("davis", "vip", "jhmdb")  # object masks, part masks, keypoints
RESIZES = ("bilinear", "nearest", "area")


@dataclass(frozen=True)
class Fit:
    """The "short" or the "long" side becomes `length` pixels, the other in proportion, floored to a multiple of 64."""

    side: str
    length: int

    def __call__(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (H, W) that frames of `size` become."""
        given = min(size) if self.side == "short" else max(size)
        return tuple(self.length if side == given else self.length * side // given // 64 * 64 for side in size)


@dataclass(frozen=True)
class Protocol:
    """The choices in which published propagations differ most.

    `label_resize`: the first mask goes to cells as one-hot maps, "bilinear" without antialiasing, averaged over each
    cell ("area"), or by the "nearest" id. `input_size`: (H, W) exactly; a `Fit`; or None: the native size, each side
    rounded to the nearest multiple of the patch.
    """

    top_k: int
    queue: int
    radius: int  # feature cells, whatever the patch size
    shape: str  # a cell sees those at Euclidean distance < radius ("disc") or at |dx|, |dy| <= radius ("square")
    temperature: float
    label_resize: str
    input_size: tuple[int, int] | Fit | None
    joint_cells: int = 5  # a joint lies at the mean place of this many strongest cells
    mask_first_frame: bool = False  # the neighbourhood holds for frame 0, too
    padded_start: bool = False  # the queue starts full of copies of frame 0; else empty, and never holds frame 0
    channel_min_max: bool = False  # stretch each upsampled channel to 0..1 before the arg max

    def __post_init__(self):
        if self.shape not in ("disc", "square"):
            raise unknown("neighbourhood shape", self.shape, ("disc", "square"))
        if self.label_resize not in RESIZES:
            raise unknown("label_resize", self.label_resize, RESIZES)
        if self.top_k < 1 or self.queue < 0 or self.radius < 1 or not self.temperature > 0 or self.joint_cells < 1:
            raise UserError("a protocol needs top_k, radius and joint_cells >= 1, queue >= 0, temperature > 0")


_CRW = Protocol(
    top_k=10, queue=20, radius=12, shape="disc", temperature=0.05, label_resize="bilinear", input_size=None,
    joint_cells=3, padded_start=True,
)  # fmt: skip
_CROPMAE = replace(_CRW, top_k=7, radius=20, temperature=0.7, input_size=(480, 880), joint_cells=5)
_DINO = Protocol(
    top_k=5, queue=7, radius=12, shape="square", temperature=0.1, label_resize="nearest", input_size=Fit("short", 480),
    mask_first_frame=True, channel_min_max=True,
)  # fmt: skip
_KEYPOINTS = {"input_size": (320, 320)}

# crw: queue of VIP and JHMDB from a thread of its repository; on VIP its code resizes the first mask to the input size
# as if ids were brightness, which makes new ids between two others; that is not done here. dino and rsp: DAVIS only.
PROTOCOLS: dict[str, dict[str, Protocol]] = {
    "crw": {
        "davis": _CRW,
        "vip": replace(_CRW, queue=4, input_size=(560, 560)),
        "jhmdb": replace(_CRW, queue=7, **_KEYPOINTS),
    },
    "cropmae": {
        "davis": _CROPMAE,
        "vip": replace(_CROPMAE, top_k=10, input_size=Fit("long", 880)),
        "jhmdb": replace(_CROPMAE, **_KEYPOINTS),
    },
    "siammae-4b": {
        "davis": _CROPMAE,
        "vip": replace(_CROPMAE, top_k=10, radius=8, input_size=Fit("long", 880)),
        "jhmdb": replace(_CROPMAE, **_KEYPOINTS),
    },
    "dino": {"davis": _DINO},
    "rsp": {"davis": replace(_DINO, top_k=7, queue=30, radius=30)},
}

# SiamMAE's Table 4b states these alone; all else in siammae-4b is CropMAE's, an assumption.
STATED = {"siammae-4b": ("top_k", "queue", "radius")}


def assumed(name: str, field: str) -> bool:
    """Whether `field` of protocol `name` is not stated by its source but taken from another's code."""
    return name in STATED and field not in STATED[name]


def get_protocol(name: str, task: str = "davis", **overrides) -> Protocol:
    """The preset `name` for a task, some fields replaced: `get_protocol("dino", input_size=(240, 432))`."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    if task not in PROTOCOLS[name]:
        others = ", ".join(known for known in PROTOCOLS if task in PROTOCOLS[known])
        raise UserError(f"protocol {name} defines no settings for {task}: choose one of {others}")
    for field in overrides:
        if field not in Protocol.__dataclass_fields__:
            raise unknown("protocol field", field, Protocol.__dataclass_fields__)
    return replace(PROTOCOLS[name][task], **overrides)


def input_size(size: tuple[int, int], patch_size: int, protocol: Protocol) -> tuple[int, int]:
    """The (H, W) at which frames of `size` are encoded: a whole number of patches."""
    wanted = protocol.input_size
    if wanted is None:
        return tuple(max(1, round(side / patch_size)) * patch_size for side in size)
    scaled = wanted(size) if isinstance(wanted, Fit) else tuple(wanted)
    if any(side <= 0 or side % patch_size for side in scaled):
        shown = "x".join(map(str, scaled))
        raise UserError(f"input size {shown} is no whole number of patches of {patch_size}: give another")
    return scaled
