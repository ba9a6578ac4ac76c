"""Ctrl-C, kills, full disks, or a second run in the same folder: a message says what to do, and
nothing is lost.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager

from data_gen.cli import InputError

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not noticed
    fcntl = None

RESUME = 'run the same command again to resume'


@contextmanager
def resumable():
    """Whatever stops the work inside, say how to resume it; writer.py keeps what is finished."""
    try:
        yield
    except KeyboardInterrupt:
        print(f'\nstopped; {RESUME}', file=sys.stderr)
        raise
    except BrokenProcessPool as error:
        raise InputError(
            f'a worker process was killed (out of memory?); {RESUME}, with fewer --workers'
        ) from error
    except OSError as error:
        raise InputError(f'{error}; nothing finished is lost: {RESUME}') from error


def start_worker() -> None:
    """In a new worker process: leave Ctrl-C to the main process, and exit when that one ends, even
    by kill -9.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
