"""`python -m lib.studies NAME --data FOLDER --out FOLDER`: make a study's grid, on the toy world, and write its table.

The same command in several processes divides the work among them; started again it goes on with what is missing.
"""

import argparse
import sys
from pathlib import Path

from lib.errors import cli
from lib.studies import (
    ablations,
    choices,
    futures,
    ladder,
    masking,
    real,
    real_actions,
    seeds,
    sensitivity,
    uncertainty,
    wavelets,
)
from lib.studies.grid import choose
from lib.studies.table import write_table

STUDIES = {
    "masking": (masking, "AdaMAE's Table 1 at small scale; data: the toy world's studio"),
    "uncertainty": (uncertainty, "SiamMAE's uncertainty: heads, estimators, maskings, weighted tracking"),
    "seeds": (seeds, "MAE and SiamMAE pre-trained with several seeds, scored on three tasks"),
    "ablations": (ablations, "SiamMAE's designs, maskings, gaps and augmentations, one change at a time"),
    "choices": (choices, "what suits MAE and SiamMAE on real clips, one change at a time; Kinetics and JHMDB"),
    "real": (real, "MAE and SiamMAE on real clips that no training saw; Kinetics, JHMDB and DAVIS-2016"),
    "actions": (real_actions, "AdaMAE's maskings on real clips of actions, tested clip by clip; JHMDB"),
    "futures": (futures, "SiamMAE from several past frames to several future ones: errors by horizon, and features"),
    "wavelets": (wavelets, "MAE with wavelet attention on CIFAR-10, one change at a time"),
    "ladder": (ladder, "the video ladder's predictions of frames, and what its states know of actions"),
    "sensitivity": (sensitivity, "how much SiamMAE's J&F hangs on the protocol of label propagation"),
}


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`. Exits with 1 where cells are missing and so no table is written."""
    parser = argparse.ArgumentParser(prog="python -m lib.studies", description=__doc__)
    subcommands = parser.add_subparsers(dest="study", required=True)
    for name, (module, text) in STUDIES.items():
        add = subcommands.add_parser(name, help=text, description=f"{text}.").add_argument
        rows = "; ".join(row.name for row in module.ROWS)
        add("--data", type=Path, required=True, help="the toy world, or what its --preset is for")
        add("--out", type=Path, required=True, help="folder for runs and cells; what is done there stays")
        add("--csv", type=Path, help=f"the table, written when all cells are there (default: OUT/{name}.csv)")
        add("--seeds", type=int, default=3, help="of the rows that are compared (default: 3)")
        add("--rows", nargs="+", metavar="ROW", help=f"of: {rows} (default: all that download nothing)")
        add("--epochs", type=float, help="instead of the preset's")
        add("--minutes", type=float, help="begin no new cell after so many")
        add("--partial", action="store_true", help="write the table of what is there, even if cells are missing")
        add("--dry-run", action="store_true", help="make nothing: say how many cells there are, and how long they take")
        if hasattr(module, "SCALES"):
            add(
                "--preset",
                choices=module.SCALES,
                default="toy",
                help="scale of the study (default: toy, for the toy world)",
            )
    args = parser.parse_args(arguments)
    module = STUDIES[args.study][0]
    out, rows = args.out.absolute(), choose(module.ROWS, args.rows or getattr(module, "OFFLINE", None))
    given = {"minutes": args.minutes, "dry_run": args.dry_run, "partial": args.partial}
    given |= {"preset": args.preset} if hasattr(module, "SCALES") else {}
    table = module.run(args.data.absolute(), out, args.epochs, rows=rows, seeds=args.seeds, **given)
    if args.dry_run:
        return
    if table is None:
        raise SystemExit(1)
    path = args.csv or out / f"{args.study}.csv"
    write_table(path, table)
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
