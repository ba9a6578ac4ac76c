"""Reading and normalising recordings on every core, the results in order."""
import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from data_gen import cli
from data_gen.preprocess import MAX_FRAME, normalize
from data_gen.skeleton import SkeletonError
from data_gen.writer import encode

JOBS_AT_ONCE = 4  # files a process gets at a time
AHEAD = 3  # such lots under way for each process: bounds what waits in memory for its turn


class Job(NamedTuple):
    """One file, and the recordings it holds: read(path, names) gives for each, in order, xyz or a SkeletonError."""
    read: object
    path: str
    names: tuple


def cores():
    """How many processes this machine runs at once for us."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def in_order(jobs, layout, workers):
    """Yield (job, a list of what `prepare` returns for each of its recordings) in the order of `jobs`."""
    lots = [jobs[first:first + JOBS_AT_ONCE] for first in range(0, len(jobs), JOBS_AT_ONCE)]
    pool = ProcessPoolExecutor(max(1, min(workers, len(lots))), initializer=start)
    under_way, lots = deque(), iter(lots)
    try:
        while True:
            while len(under_way) < workers * AHEAD and (lot := next(lots, None)):
                under_way.append((lot, pool.submit(prepare_lot, lot, layout)))
            if not under_way:
                return
            lot, future = under_way.popleft()
            yield from zip(lot, future.result(), strict=True)
    except BrokenProcessPool as error:
        raise cli.InputError('a worker process was killed (out of memory?): the same command goes on where this run '
                             'stopped, perhaps with fewer --workers') from error
    finally:
        pool.shutdown(cancel_futures=True)


def start():
    """In a new worker: leave Ctrl-C to the main process, and end when it does, even by kill -9."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def prepare_lot(jobs, layout):
    return [[prepare(xyz, layout) for xyz in read(job)] for job in jobs]


def read(job):
    """What a job's file holds; one that no reader foresaw must not end the work on all the others."""
    try:
        return job.read(job.path, job.names)
    except Exception as error:
        return [SkeletonError(f'cannot be read: {type(error).__name__}: {error}')] * len(job.names)


def prepare(xyz, layout):
    """One recording (3, T, 25, 2): (its record for the journal, its bytes in the layout, or None if unusable)."""
    if isinstance(xyz, SkeletonError):
        return {'reason': str(xyz)}, None
    return encode(normalize(xyz), min(xyz.shape[1], MAX_FRAME), layout)
