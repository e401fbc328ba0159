"""A synthetic puppet theatre with dense truth, written in the layouts of the real data sets.

Options that cannot be met, and files that are no toy world's or of another one, are a UserError that names them.
"""

from lib.toyworld.generate import ensure_toy_world, toy_world_name
from lib.toyworld.options import DATASETS, ToyWorldOptions
from lib.toyworld.render import RenderedClip, render_clip

__all__ = ["DATASETS", "RenderedClip", "ToyWorldOptions", "ensure_toy_world", "render_clip", "toy_world_name"]
