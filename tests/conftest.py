"""What every test shares: one thread a process, no progress bars, repeatable examples, real data."""

import os
from pathlib import Path

os.environ["SIAMMAE_PROGRESS"] = "0"
os.environ["MPLBACKEND"] = "Agg"  # figures without a display
os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts its threads: the tests share the cores already

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

import make  # noqa: E402

torch.set_num_threads(1)
# Timing on a shared machine is no property of the code, and a red test must be red again on the next run.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with small pieces of the real data sets; tests that need it are skipped where it is absent."""
    default = make.ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("SIAMMAE_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real data here: set SIAMMAE_REAL_DATA to its folder")
    return folder
