"""VIP, from where it is published to DATA/vip, in the layout that the notebooks read.

    python data_scripts/get_vip.py --root /data --dry-run
    python data_scripts/get_vip.py --root /data

Stopped or killed at any moment, it goes on when it is started again; `--help` says the rest.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `lib` is found from any folder

from lib.fetch.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main("vip"))
