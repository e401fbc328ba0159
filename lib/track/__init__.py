"""A mask or points of your own, carried through a video of your own: `python -m lib.track VIDEO MASK --out DIR`."""
