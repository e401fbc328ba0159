"""What commands share: errors that a user can cause and repair, told in one line; parts of the work."""

import argparse
import difflib
import functools
import io
import re
import sys
from collections.abc import Callable, Iterable


def one_line(text: str) -> str:
    """The text as any terminal, file or notebook takes it: names of files may hold line ends, or bytes of no letter."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class UserError(ValueError):
    """A wrong path, value or file. The message is one line that names it and says what to do."""

    def __init__(self, message: str):
        super().__init__(one_line(str(message)))

    def _render_traceback_(self) -> list[str]:  # what a notebook shows instead of a traceback
        return [f"{type(self).__name__}: {self}"]


def unknown(kind: str, value: object, choices: Iterable[str]) -> UserError:
    """The error, for the caller to raise, for a name that is not among `choices`, with the near misses first."""
    choices = sorted(choices)
    near = difflib.get_close_matches(str(value), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return UserError(f"unknown {kind} {value!r}: {hint}choose one of {', '.join(choices)}")


def cli(main: Callable[..., None]) -> Callable[..., int]:
    """Turn a `main` into a command's entry point: what a user can repair is one line on stderr and exit status 2.

    That is a UserError, or a file or folder that the system refuses. Ctrl-C ends it with status 130, without more.
    """

    @functools.wraps(main)
    def run(*args, **kwargs) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except OSError as error:
            if error.filename is None:  # of no file: a fault of the program, or a closed pipe
                raise
            print(f"error: {one_line(f'{error.filename}: {error.strerror}')}", file=sys.stderr)
            return 2
        return 0

    return run


def shard_of(text: str) -> tuple[int, int]:
    """A command line's "i/n": the i-th of n parts of the work, which one of n machines does."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}: give i/n, such as 1/8 to 8/8")
    return int(match[1]), int(match[2])
