"""Ctrl-C, kills, full disks, or a second run in the same folder: a message says what to do, and
nothing is lost.
"""

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from tools.common.cli import InputError

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
    except BrokenPipeError:
        raise
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
