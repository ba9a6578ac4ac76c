"""The first import of every entry point: what must be settled before numpy and torch are imported."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def report(kind, error, traceback):
    """One line for a package that is missing (exit code 2), and for Ctrl-C while packages are imported
    (130); any other error is shown as always.
    """
    if issubclass(kind, KeyboardInterrupt) and not hasattr(sys, 'ps1'):  # not at a prompt
        print('interrupted', file=sys.stderr)
        sys.exit(130)
    package = (getattr(error, 'name', None) or '').partition('.')[0]
    if issubclass(kind, ModuleNotFoundError) and not (ROOT / package).exists():
        advice = 'source .venv/bin/activate, or see Install in README.md'
        print(f'error: {package} is not installed: {advice}', file=sys.stderr)
        sys.exit(2)
    sys.__excepthook__(kind, error, traceback)


sys.excepthook = report
# Threads that wait should sleep: while they spin, another program on the machine makes a CPU run
# many times slower.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
