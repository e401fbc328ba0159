"""What other libraries do behind one's back, in the open: draws from global generators, downloads."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from lib.errors import UserError

Result = TypeVar("Result")


def with_download(make: Callable[[], Result], what: str) -> Result:
    """`make()`, which reads torchvision's weights from torch's cache or downloads them; UserError where it cannot."""
    try:
        return make()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        place = "connect, or put the file into torch's cache (TORCH_HOME, hub/checkpoints)"
        raise UserError(f"{what}: its weights cannot be fetched ({type(error).__name__}: {reason}); {place}") from error


@contextmanager
def seeded_draws(seed: int) -> Iterator[None]:
    """Python's and NumPy's global generators, from which other libraries draw, seeded; their states come back after."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
