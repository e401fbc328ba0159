"""`python -m lib.benchmark NAME --json FILE`: print the ratios of one run, and write them; names: BENCHMARKS."""

import argparse
import sys
from pathlib import Path

from lib.benchmark import masking, metrics, propagation, uncertainty
from lib.errors import cli
from lib.runtime import write_json

BENCHMARKS = {
    "propagation": (propagation, "label propagation against the usual code"),
    "metrics": (metrics, "J and F of sequences against the usual loop"),
    "masking": (masking, "a training step by masking, ratio, decoder and sampler"),
    "uncertainty": (uncertainty, "a training step of SiamMAE with each head that states an uncertainty"),
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
    module = BENCHMARKS[args.benchmark][0]
    result = module.run(args)
    module.show(result)
    if args.json:
        write_json(args.json, result)


if __name__ == "__main__":
    sys.exit(main())
