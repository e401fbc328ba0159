"""How a prediction of the next frames is measured, and those that need no ladder.

Shapes: `I` test clips, `F` futures of each, `H W` pixels. Predictions are float (I, F, 3, H, W), values 0..1.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lib.checkpoints import Record
from lib.evaluation.extrapolation import extrapolate, optical_flow, raft_flow
from lib.evaluation.intervals import bootstrap
from lib.evaluation.predicted_frames import FrameMaps, false_detail, frame_maps, grid_peak, region_scores
from lib.models.several_frames import SeveralFrames
from lib.models.video_ladder import VideoLadder
from lib.studies.ladder_data import FUTURES, PATCH, Held
from lib.studies.table import records
from lib.tokens.painting import paint_prediction
from lib.tokens.patches import denormalize_images, normalize_images
from lib.toyworld.circle import Circles, centroids

CURVE_POINTS = 60


def prediction_scores(
    predicted: Tensor, held: Held, copied: Tensor, step: int | None = None, masked: bool = True
) -> list[dict]:  # fmt: skip
    """Records of the scores of each future, "ssim moving +1" and so on, of "grid +1" and "false detail +1", and of the
    "gain" in SSIM over a copy of the last frame, with its 95 % interval over clips (bootstrap). masked: leave out what
    SiamMAE sees.
    """
    truth, found = held.futures.float() / 255, []
    regions = held.regions() if masked else {"whole": torch.ones_like(held.moving)}
    for ahead in range(FUTURES):
        both = [frame_maps(frames[:, ahead], truth[:, ahead]) for frames in (predicted, copied)]
        for name, region in regions.items():
            shown = region[:, ahead].flatten(1).any(dim=1)  # where nothing moves, there is nothing to compare
            parts = [FrameMaps(*(values[shown] for values in maps)) for maps in both]
            ours, theirs = (region_scores(maps, region[shown, ahead]) for maps in parts)
            means = {measure: float(score.mean()) for measure, score in ours.items()}
            means["detail"] /= means.pop("true detail")  # of all clips: one without detail of its own counts little
            found += records({f"{measure} {name} +{ahead + 1}": value for measure, value in means.items()})
            found.append({"metric": f"gain {name} +{ahead + 1}", **mean_with_interval(ours["ssim"] - theirs["ssim"])})
        for name, measure in (("grid", grid_peak), ("false detail", false_detail)):
            found += records({f"{name} +{ahead + 1}": float(measure(predicted[:, ahead], truth[:, ahead]).mean())})
    return [record | {"step": step} for record in found]


def mean_with_interval(values: Tensor) -> dict[str, float]:
    """The mean over clips (n,) and its 95 % interval."""
    interval = bootstrap(lambda drawn: values[drawn].mean(), len(values))
    return {name: float(number) for name, number in interval._asdict().items()}


def baseline(name: str, held: Held) -> Tensor:
    """The futures without training: the last frame again, or moved on along a flow from the frame before it."""
    last, before = held.given[:, -1], held.given[:, -2]
    frames = last.float() / 255
    if name == "copy of the last frame":
        return frames.unsqueeze(1).expand(-1, FUTURES, -1, -1, -1)
    flow = raft_flow if name == "RAFT's flow" else optical_flow
    pairs = zip(frames, last, before, strict=True)
    steps = range(1, FUTURES + 1)
    return torch.stack([extrapolate(frame, flow(now, earlier), steps) for frame, now, earlier in pairs])


@torch.inference_mode()
def patch_predictions(model: SeveralFrames, held: Held, gap: float) -> Tensor:
    """SiamMAE's futures, each from the last frame and its own few visible patches, these painted as they are.

    gap: of the first future, in frames at 30 fps.
    """
    device = next(model.parameters()).device
    past, futures = (normalize_images(frames.to(device)) for frames in (held.given[:, -1:], held.futures))
    age = torch.zeros(len(past), 1, device=device)
    hidden = held.mask.hidden.unflatten(0, (-1, FUTURES)).to(device)
    painted = []
    for ahead in range(FUTURES):
        mask = type(held.mask)(*(part.unflatten(0, (-1, FUTURES))[:, ahead].to(device) for part in held.mask))
        gaps = torch.full_like(age, (ahead + 1) * gap)
        patches, _ = model.predict(past, age, futures[:, ahead : ahead + 1], gaps, mask)
        painted.append(
            paint_prediction(futures[:, ahead], patches[:, 0].float(), hidden[:, ahead], PATCH, model.norm_pix)
        )
    return denormalize_images(torch.stack(painted, dim=1)).cpu()


@torch.inference_mode()
def circle_errors(model: VideoLadder, circles: Circles) -> dict[str, float]:
    """Pixels between predicted and true middle of the disc, the largest of the five sequences: "error +1" and so on."""
    given = circles.videos[:, :, : model.given].transpose(1, 2).float() / 255
    predicted = model.predict(given.to(next(model.parameters()).device), FUTURES).float().cpu()
    errors = (centroids(predicted) - circles.centres[:, model.given :]).norm(dim=-1)  # (5, F)
    return {f"error +{ahead + 1}": float(errors[:, ahead].max()) for ahead in range(FUTURES)}


def loss_curve(losses: Sequence[Record]) -> list[dict]:
    """Records of "loss" along training, means of neighbouring steps."""
    if not losses:
        return []
    parts = np.array_split(np.array([record["loss"] for record in losses]), min(CURVE_POINTS, len(losses)))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    values = [float(part.mean()) for part in parts]
    return [{"metric": "loss", "value": value, "step": end} for value, end in zip(values, ends, strict=True)]
