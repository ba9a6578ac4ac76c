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


def natural(text, least=0):
    """An argparse type: a whole number from `least`."""
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise argparse.ArgumentTypeError(f'{text} is not a whole number from {least}')
    return int(text)


def positive(text):
    """An argparse type: a whole number from 1."""
    return natural(text, 1)


def even(text):
    """An argparse type: an even number from 2; sines and cosines share a model's width."""
    if positive(text) % 2:
        raise argparse.ArgumentTypeError(f'{text} is odd')
    return int(text)


def fraction(text):
    """An argparse type: a finite number from 0."""
    number = float(text)
    if not 0 <= number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a number from 0')
    return number


def progress(iterable, what, total=None, unit='it', **more):
    """A tqdm bar on stderr; in a log file a line every half minute, and none for what is soon over (leave=False)."""
    terminal = sys.stderr.isatty()
    more['disable'] = more.get('disable', False) or not (terminal or more.get('leave', True))
    return tqdm(iterable, what, total, unit=unit, mininterval=0.1 if terminal else 30, **more)


def run(main):
    """Run a command's `main`: what goes wrong on the user's side is one line on stderr and exit code 2."""
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(fail(error))
    except BrokenPipeError:  # the reader of our output (head, less) has gone; nothing is left to flush to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # no permission, a full disk, …
        sys.exit(fail(error))
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)


def fail(error):
    print(f'error: {error}', file=sys.stderr)
    return 2
