"""A synthetic puppet theatre with dense truth, written in the layouts of the real data sets."""

from lib.toyworld.generate import ensure_toy_world, toy_world_name
from lib.toyworld.options import DATASETS, ToyWorldOptions
from lib.toyworld.render import Clip, render_clip

__all__ = ["DATASETS", "Clip", "ToyWorldOptions", "ensure_toy_world", "render_clip", "toy_world_name"]
