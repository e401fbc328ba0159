"""`python -m lib.benchmark NAME --json FILE`: print the ratios of one run, and write them; names: BENCHMARKS."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from lib.benchmark import data, masking, metrics, plan, propagation, uncertainty, wavelets
from lib.errors import cli
from lib.runtime import write_json

BENCHMARKS = {
    "propagation": (propagation, "label propagation against the usual code"),
    "metrics": (metrics, "J and F of sequences against the usual loop"),
    "data": (data, "random pairs of frames from videos, and from stores made of them in several formats"),
    "plan": (plan, "what a pre-training takes: disk, download, decoding, GPU hours, cost; here and on a GPU"),
    "masking": (masking, "a training step by masking, ratio, decoder and sampler"),
    "uncertainty": (uncertainty, "a training step of SiamMAE with each head that states an uncertainty"),
    "wavelets": (wavelets, "training steps of MAE with wavelet attention"),
}


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`. Exits with 2 and one line on stderr for an error of the user's."""
    parser = argparse.ArgumentParser(prog="python -m lib.benchmark", description="Ratios of one run.")
    subcommands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (module, text) in BENCHMARKS.items():
        subcommand = subcommands.add_parser(name, help=text)
        module.add_arguments(subcommand)
        subcommand.add_argument("--json", type=Path, help="also write the result to this file")
    args = parser.parse_args(arguments)
    result = BENCHMARKS[args.benchmark][0].run(args)
    show(result)
    if args.json:
        write_json(args.json, result)


def show(result: dict) -> None:
    """Print a result: values line by line, rows and comparisons as tables."""
    for name, value in result.items():
        if name == "comparisons":
            value = [{name: pair, **ratios} for pair, ratios in value.items()]
        if isinstance(value, list) and isinstance(value[0], dict):
            print(pd.DataFrame(value).to_string(index=False, na_rep="-", float_format="{:.3f}".format))
        else:
            print(f"{name:30} {value:.6g}" if isinstance(value, float) else f"{name:30} {value}")


if __name__ == "__main__":
    sys.exit(main())
