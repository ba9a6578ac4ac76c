"""What all commands share: argument types, progress bars, and one line and exit code 2 for a user's
mistake.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm


class InputError(Exception):
    """The user's input cannot be used. The message says what is wrong, where, and what to do."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line instead of the whole usage, and knows
    `~` in paths: a shell leaves it in --out=~/run.
    """

    def __init__(self, doc: str):
        super().__init__(
            prog=typed_name(),
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.register('type', Path, lambda text: Path(os.path.expanduser(text)))

    def error(self, message: str):
        raise InputError(f'{message} (all flags: {self.prog} --help)')


def typed_name() -> str:
    """The running command as it is typed: `python -m tools.demo`, or the name of the script."""
    spec = getattr(sys.modules['__main__'], '__spec__', None)  # a debugger's has none
    if spec and spec.origin == sys.argv[0]:  # tools.demo runs scripts, with an argv of their own
        return f'python -m {spec.name.removesuffix(".__main__")}'
    return os.path.basename(sys.argv[0])


def non_negative_int(text: str, least: int = 0) -> int:
    """An argparse type: a whole number, at least 0."""
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise argparse.ArgumentTypeError(f'{text} is not a whole number from {least} up')
    return int(text)


def positive_int(text: str) -> int:
    """An argparse type: a whole number, at least 1."""
    return non_negative_int(text, 1)


def even_int(text: str) -> int:
    """An argparse type: an even number, at least 2 (a model's width is shared by sines and
    cosines).
    """
    if positive_int(text) % 2:
        raise argparse.ArgumentTypeError(f'{text} is odd')
    return int(text)


def non_negative_float(text: str) -> float:
    """An argparse type: a finite number, at least 0."""
    number = float(text)
    if not 0 <= number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a number from 0 up')
    return number


def plural(count: int, noun: str) -> str:
    return f'{count:,} {noun}' + 's' * (count != 1)


def shorten(lines: list[str], kind: str = '') -> list[str]:
    """The first 20 lines and how many `more{kind}` there are."""
    return lines[:20] + [f'… and {len(lines) - 20} more{kind}'] * (len(lines) > 20)


def position(name: str, names: Sequence[str], what: str) -> int:
    """Where `name` is among `names`; InputError, with those most like it, if it is not there."""
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, 3, 0.4) or names[:3]
    raise InputError(f'there is no {what} {name}; some that are there: {", ".join(near) or "none"}')


def progress(
    iterable, description: str, total: int | None = None, unit: str = 'it', **more
) -> tqdm:
    """A tqdm bar on stderr. In a log file: a line every half minute, and none for short jobs
    (leave=False).
    """
    terminal = sys.stderr.isatty()
    more['disable'] = more.get('disable', False) or not (terminal or more.get('leave', True))
    return tqdm(
        iterable, description, total, unit=unit, mininterval=0.1 if terminal else 30, **more
    )


def run(main) -> None:
    """Run a command's `main` and exit: with its code, or after one line on stderr for what went
    wrong.
    """
    try:
        sys.exit(main())
    except (
        BrokenPipeError
    ):  # the reader of our output (head, less) has left: there is nobody to flush to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (InputError, OSError) as error:  # OSError: no permission, a full disk, …
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
