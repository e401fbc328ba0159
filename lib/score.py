"""Score predicted files against a benchmark: `python -m lib.score davis --truth ROOT --predictions DIR`.

Whatever wrote the predictions, this project or another, they are read from the benchmark's own results
layout. Nothing is written into the data folders. One subcommand a benchmark.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lib.errors import UserError, cli
from lib.runtime import write_json
from lib.scoring.davis import print_davis, score_davis
from lib.scoring.vip import print_vip, score_vip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.score", description="Score predicted files.")
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)

    davis = _benchmark(benchmarks, "davis", score_davis, print_davis, "object masks: region J and boundary F")
    davis.add_argument("--truth", required=True, type=Path, help="DAVIS root: JPEGImages, Annotations, ImageSets")
    davis.add_argument("--predictions", required=True, type=Path, help="folder of {sequence}/00000.png")
    davis.add_argument("--split", default="val", help="list in ImageSets/{year}/ (default: val)")
    davis.add_argument("--year", type=int, help="2017 or 2016 (default: what ImageSets/ holds)")
    davis.add_argument("--max-frames", type=int, help="score only the first n frames of each sequence")
    davis.add_argument(
        "--resized-truth", type=int, nargs=2, metavar=("H", "W"),
        help="another measure: bring truth and predictions to this size first (CropMAE, RSP: 480 880)",
    )  # fmt: skip
    davis.add_argument("--workers", type=int, help="sequences at once (default: one a core)")

    vip = _benchmark(benchmarks, "vip", score_vip, print_vip, "body and clothing parts: mIoU")
    vip.add_argument("--truth", required=True, type=Path, help="VIP root: VIP_Fine, or Images, Annotations, lists")
    vip.add_argument("--predictions", required=True, type=Path, help="folder of {video}/{stem}.png, class ids")
    vip.add_argument("--split", default="val", help="list in lists/{split}_videos.txt (default: val)")
    vip.add_argument("--max-frames", type=int, help="score only the first n annotated frames of each video")
    vip.add_argument(
        "--without-first", dest="include_first", action="store_false", help="leave out frame 0, whose parts are given"
    )
    vip.add_argument("--workers", type=int, help="videos at once (default: one a core)")
    return parser


def _benchmark(benchmarks, name: str, score: Callable[..., dict], show: Callable, help: str) -> argparse.ArgumentParser:
    """A subcommand. Every other argument that it gets is one of the function `score`'s, by name."""
    parser = benchmarks.add_parser(name, help=help)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.set_defaults(score=score, show=show)
    return parser


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
