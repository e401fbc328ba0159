"""Make the toy world: the puppet theatre in the layouts of the real data sets, or its contact sheet.

python data_scripts/make_toy_world.py --root data/toy
python data_scripts/make_toy_world.py --figure figures/toy_world.png
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.errors import UserError, cli
from lib.toyworld import DATASETS, ToyWorldOptions, ensure_toy_world


def parser() -> argparse.ArgumentParser:
    """The command line: every field of ToyWorldOptions is an option of the same name."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--root", type=Path, help="folder of the toy world; made when absent")
    result.add_argument("--figure", type=Path, help="write the contact sheet, a .png, there")
    result.add_argument("--workers", type=int, help="processes (default: one for each CPU core)")
    for field in fields(ToyWorldOptions):
        if field.name == "datasets":
            names = ", ".join(DATASETS)
            result.add_argument("--datasets", nargs="+", default=field.default, metavar="NAME", help=names)
        else:
            result.add_argument(f"--{field.name}", type=type(field.default), default=field.default,
                                help=f"default {field.default}")  # fmt: skip
    return result


@cli
def main(arguments: list[str] | None = None) -> None:
    """Make what the command line says and print where it is."""
    args = parser().parse_args(arguments)
    options = ToyWorldOptions(**{field.name: getattr(args, field.name) for field in fields(ToyWorldOptions)})
    if not args.root and not args.figure:
        raise UserError("nothing to do: give --root FOLDER, --figure FILE or both")
    if args.root:
        print(ensure_toy_world(args.root, options, args.workers))
    if args.figure:
        from lib.toyworld.figure import write_figure

        print(write_figure(args.figure, options))


if __name__ == "__main__":
    sys.exit(main())
