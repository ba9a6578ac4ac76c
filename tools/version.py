"""Which code made a file."""

import subprocess
from functools import cache
from pathlib import Path

from data_gen import __version__

FOLDER = Path(__file__).resolve().parent.parent


@cache
def code_version() -> dict:
    """The version and, if this folder is the top level of a git repository, its commit and whether
    tracked files differ from it (None: unknown).
    """
    top, commit = git('rev-parse', '--show-toplevel'), git('rev-parse', 'HEAD')
    if not top or not commit or Path(top).resolve() != FOLDER:
        return {'version': __version__, 'commit': None, 'files_differ': None}
    changes = git('--no-optional-locks', 'status', '--porcelain', '--untracked-files=no')
    differ = None if changes is None else changes != ''
    return {'version': __version__, 'commit': commit, 'files_differ': differ}


def git(*words: str) -> str | None:
    """What git prints, or None if it fails or is not installed."""
    try:
        run = subprocess.run(['git', *words], cwd=FOLDER, capture_output=True, text=True, timeout=9)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None
