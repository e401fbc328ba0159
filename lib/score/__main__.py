"""Score predicted files against a benchmark: `python -m lib.score davis --truth ROOT --predictions DIR`.

Whatever wrote the predictions, this project or another. One subcommand a benchmark.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lib.errors import UserError, cli
from lib.runtime import write_json
from lib.score.davis import print_davis, score_davis
from lib.score.jhmdb import GRID, print_jhmdb, score_jhmdb, split_argument
from lib.score.vip import print_vip, score_vip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.score", description="Score predicted files.")
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)

    davis = benchmarks.add_parser("davis", help="object masks: region J and boundary F")
    _add_common(davis, score_davis, print_davis, "JPEGImages, Annotations, ImageSets", "{sequence}/00000.png, ids")
    davis.add_argument("--split", default="val", help="list in ImageSets/{year}/ (default: val)")
    davis.add_argument("--year", type=int, help="2017 or 2016 (default: what ImageSets/ holds)")
    resized = "another measure: bring truth and predictions to this size first (CropMAE and RSP: 480 880)"
    davis.add_argument("--resized-truth", type=int, nargs=2, metavar=("H", "W"), help=resized)
    davis.add_argument("--workers", type=int, help="sequences at once (default: one a core)")

    jhmdb = benchmarks.add_parser("jhmdb", help="joints: PCK")
    files = "0.dat, 1.dat, ... in the split's order"
    _add_common(jhmdb, score_jhmdb, print_jhmdb, "Rename_Images, joint_positions, splits", files)
    jhmdb.add_argument("--split", default=1, type=split_argument, help="1, 2, 3, all, or a file list (default: 1)")
    jhmdb.add_argument("--grid", type=int, default=GRID, help=f"cells a side that the files count in (default: {GRID})")

    vip = benchmarks.add_parser("vip", help="body and clothing parts: mIoU")
    _add_common(vip, score_vip, print_vip, "VIP_Fine, or its Images, Annotations, lists", "{video}/{stem}.png, ids")
    vip.add_argument("--split", default="val", help="list lists/{split}_videos.txt (default: val)")
    without = "leave out frame 0, whose parts are given (published numbers include it)"
    vip.add_argument("--without-first", dest="include_first", action="store_false", help=without)
    vip.add_argument("--workers", type=int, help="videos at once (default: one a core)")
    return parser


def _add_common(parser: argparse.ArgumentParser, score: Callable[..., dict], show: Callable, root: str, files: str):
    """What every benchmark has. The arguments are those of the function `score`, by name, and --json."""
    parser.set_defaults(score=score, show=show)
    parser.add_argument("--truth", required=True, type=Path, metavar="ROOT", help=f"folder that holds {root}")
    parser.add_argument("--predictions", required=True, type=Path, metavar="DIR", help=f"folder of {files}")
    parser.add_argument("--max-frames", type=int, metavar="N", help="score only the first N frames of each video")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`. Exits with 2 and one line on stderr for an error of the user's."""
    args = vars(_parser().parse_args(arguments))
    score, show, json, _ = (args.pop(name) for name in ("score", "show", "json", "benchmark"))
    if json and json.is_dir():
        raise UserError(f"--json {json}: a folder; name a file")
    result = score(**args)
    show(result)
    if json:
        write_json(json, result)


if __name__ == "__main__":
    sys.exit(main())
