"""What every command of the project shares: one line for a user's mistake, and exit code 2."""
import argparse
import os
import sys

from tqdm import tqdm


class InputError(Exception):
    """Something the user gave cannot be used; the message says what, where, and what to do."""


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a mistake with one line in place of the whole usage."""

    def __init__(self, doc):
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        raise InputError(f'{message} (all flags: {self.prog} --help)')


def progress(iterable, what, total=None, unit='it', **more):
    """A tqdm bar on stderr; seldom redrawn where stderr is not a terminal, so that logs stay short."""
    return tqdm(iterable, what, total, unit=unit, mininterval=0.1 if sys.stderr.isatty() else 30, **more)


def run(main):
    """Run a command's `main`; an InputError becomes one line on stderr and exit code 2, Ctrl-C becomes 130."""
    try:
        sys.exit(main())
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        code = 2
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        code = 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 130
    if code == 1:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
