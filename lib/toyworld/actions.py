"""How a puppet is built and how it acts: a skeleton of 15 joints in JHMDB's order, and a pose for each named action.

Lengths are in puppet units (the whole figure is about 110 units tall); the origin of a puppet is its pelvis, x to the
right and y down; right (R) is the puppet's own right, at smaller x. Angles are radians; a limb at angle 0 hangs down
and turns outward with positive angles. `T` frames.
"""

import numpy as np

JOINTS = (
    "neck", "belly", "face", "R shoulder", "L shoulder", "R hip", "L hip", "R elbow", "L elbow",
    "R knee", "L knee", "R wrist", "L wrist", "R ankle", "L ankle",
)  # fmt: skip
# Names as in Kinetics, among them a quote and a pair of parentheses, which folders leave out.
ACTIONS = (
    "waving hand", "jumping jacks", "walking (on stage)", "kicking someone's ball", "bowing", "cartwheeling",
)  # fmt: skip
TORSO, SHOULDER, HIP, ARM, FOREARM, THIGH, SHIN, HEAD = 33.0, 12.5, 7.0, 15.5, 15.0, 17.0, 17.0, 16.0

# Arrays (T,): root position x, y in puppet units, whole-body turn, torso lean, head tilt, two angles a limb.
Pose = dict[str, np.ndarray]


def _idle(t: np.ndarray, rng: np.random.Generator) -> Pose:
    """Standing with small, never quite equal swings."""

    def sway(mean: float, amplitude: float) -> np.ndarray:
        return mean + amplitude * np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * t + rng.uniform(0, 6.28))

    return dict(
        x=sway(0, 5), y=sway(0, 1), turn=sway(0, 0.04), lean=sway(0, 0.07), tilt=sway(0, 0.14),
        arm_r=sway(0.35, 0.16), arm_l=sway(0.35, 0.16), elbow_r=sway(0.25, 0.2), elbow_l=sway(0.25, 0.2),
        leg_r=sway(0.12, 0.05), leg_l=sway(0.12, 0.05), knee_r=sway(-0.06, 0.05), knee_l=sway(-0.06, 0.05),
    )  # fmt: skip


def act(action: str, seconds: np.ndarray, rng: np.random.Generator, speed: float = 1.0) -> Pose:
    """The pose at `seconds` (T,) of one performance of `action`, one of ACTIONS; phase, rate and extent are drawn."""
    t = seconds * speed * rng.uniform(0.85, 1.15) + rng.uniform(0, 2)
    pose, s = _idle(t, rng), 2 * np.pi * t
    if action == "waving hand":
        return dict(pose, arm_r=2.2 + 0.2 * np.sin(s * 0.5), elbow_r=0.35 + 0.75 * np.sin(s * 1.1))
    if action == "jumping jacks":
        phase = (t * 0.9) % 1
        height = 4 * phase * (1 - phase)
        return dict(
            pose, y=-15 * height + 3, arm_r=0.3 + 2.0 * height, arm_l=0.3 + 2.0 * height,
            leg_r=0.1 + 0.5 * height, leg_l=0.1 + 0.5 * height, elbow_r=0.2 + 0 * t, elbow_l=0.2 + 0 * t,
        )  # fmt: skip
    if action == "walking (on stage)":
        way, stride = rng.choice([-1, 1]), np.sin(s * 0.95)
        forward = np.maximum(np.cos(s * 0.95), 0), np.maximum(-np.cos(s * 0.95), 0)
        return dict(
            pose, x=way * 34 * (t - t.mean()), y=-2.5 * np.abs(np.cos(s * 0.95)), lean=pose["lean"] + 0.08 * way,
            leg_r=0.5 * stride, leg_l=0.5 * stride,
            knee_r=way * 0.8 * forward[0], knee_l=-way * 0.8 * forward[1],
            arm_r=-0.55 * stride, arm_l=-0.55 * stride, elbow_r=0.3 + 0 * t, elbow_l=0.3 + 0 * t,
        )  # fmt: skip
    if action == "kicking someone's ball":
        swing = np.maximum(np.sin(s * 0.7), -0.4)
        return dict(
            pose, lean=0.22 * swing, leg_r=0.15 + 1.15 * swing, knee_r=-0.5 + 0.75 * np.maximum(swing, 0),
            arm_l=0.7 + 0.7 * swing, arm_r=0.9 - 0.5 * swing,
        )  # fmt: skip
    if action == "bowing":
        way, bend = rng.choice([-1, 1]), 0.5 - 0.5 * np.cos(s * 0.5)
        return dict(
            pose, lean=way * 1.15 * bend, tilt=way * 0.4 * bend, x=-way * 8 * bend,
            arm_r=0.3 + 0.9 * bend, elbow_r=0.2 - 1.5 * bend, arm_l=0.3 + 1.1 * bend,
        )  # fmt: skip
    way = rng.choice([-1, 1])
    return dict(
        pose, x=way * 26 * (t - t.mean()), y=-4 + 0 * t, turn=s * 0.34 * way,
        arm_r=2.45 + 0.1 * np.sin(s), arm_l=2.45 - 0.1 * np.sin(s), elbow_r=0.1 + 0 * t, elbow_l=0.1 + 0 * t,
        leg_r=0.5 + 0.2 * np.sin(s * 0.7), leg_l=0.5 - 0.2 * np.sin(s * 0.7),
    )  # fmt: skip


def affine(x: np.ndarray, y: np.ndarray, angle: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """(T,2,3) maps: turn by `angle`, multiply by `scale`, then move to (x, y)."""
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    x, y = x + 0 * c, y + 0 * c
    return np.stack([np.stack([c, -s, x], -1), np.stack([s, c, y], -1)], -2)


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The map `outer` after `inner`, both (..., 2, 3)."""
    linear, shift = outer[..., :2] @ inner[..., :2], outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return np.concatenate([linear, shift], -1)


def apply(maps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points (..., 2) by maps (..., 2, 3)."""
    return np.einsum("...ij,...j->...i", maps[..., :2], points) + maps[..., 2]


def skeleton(pose: Pose) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Where the parts of a posed puppet are: (frames, joints).

    `frames` maps part name ("torso", "head", "R upper arm", ...) to (T,2,3) maps from the part's own coordinates (its
    joint at the origin, the limb along +y) to puppet units. `joints` is (T,15,2), the centre or end of the part named.
    """
    still = np.zeros_like(pose["x"])
    root = affine(pose["x"], pose["y"], pose["turn"])
    torso = compose(root, affine(still, still, pose["lean"]))
    neck = compose(torso, affine(still, still - TORSO, pose["tilt"]))
    frames = {"torso": torso, "head": neck}
    belly, face = apply(torso, np.array([0, -9.0])), apply(neck, np.array([0, -HEAD]))
    joints = {"neck": neck[..., 2], "belly": belly, "face": face}
    for side, sign in (("R", -1), ("L", 1)):
        arm, elbow, leg, knee = (pose[f"{name}_{side.lower()}"] for name in ("arm", "elbow", "leg", "knee"))
        upper = compose(torso, affine(still + sign * SHOULDER, still - TORSO + 5, -sign * arm))
        lower = compose(upper, affine(still, still + ARM, -sign * elbow))
        thigh = compose(root, affine(still + sign * HIP, still + 1, -sign * leg))
        shin = compose(thigh, affine(still, still + THIGH, -sign * knee))
        frames |= {f"{side} upper arm": upper, f"{side} forearm": lower, f"{side} thigh": thigh, f"{side} shin": shin}
        ends = {"shoulder": upper, "elbow": lower, "hip": thigh, "knee": shin}
        joints |= {f"{side} {name}": frame[..., 2] for name, frame in ends.items()}
        joints[f"{side} wrist"] = apply(lower, np.array([0, FOREARM]))
        joints[f"{side} ankle"] = apply(shin, np.array([0, SHIN]))
    return frames, np.stack([joints[name] for name in JOINTS], 1)
