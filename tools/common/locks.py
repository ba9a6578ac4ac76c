"""Locks that keep two runs from writing into one folder."""

import time
from contextlib import ExitStack, contextmanager

from tools.common.cli import InputError

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not noticed
    fcntl = None


@contextmanager
def folder_lock(folders, purpose: str = 'preparing data'):
    """Lock folders for this process; InputError if another run has locked one of them."""
    with ExitStack() as files:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            if not lock(files.enter_context(open(folder / '.lock', 'w'))):
                raise InputError(
                    f'{folder}: another run is {purpose} there; wait for it, or stop it'
                )
        yield


def lock(file, attempts: int = 20) -> bool:
    """Lock an open file until it is closed or its process ends; False if another process has it
    locked.
    """
    for _ in range(attempts if fcntl else 0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:  # perhaps the workers of a killed run, which exit within a moment
            time.sleep(0.1)
        except OSError:  # a file system without locks
            return True
    return not fcntl
