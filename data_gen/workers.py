"""Reads and normalises recordings on every core; the results come in order."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from data_gen.interrupts import start_worker
from data_gen.manifest import clip_digest
from data_gen.preprocess import MAX_FRAME, normalize
from data_gen.skeleton import SkeletonError

CHUNK = 4  # files that a process gets at a time
# Chunks in progress for each process: bounds the memory of results that wait for their turn.
AHEAD = 3


class Job(NamedTuple):
    """One file and the names of its recordings; read(path) returns for each an xyz (3, T, 25, 2),
    (xyz, notes {what was done: (how often, of how many)}), or a SkeletonError.
    """

    read: Callable
    path: str
    names: tuple


def in_order(jobs: list[Job], layout: str, workers: int) -> Iterator[tuple[Job, list]]:
    """Yield (job, a list of what `prepare` returns for each of its recordings) in the order of
    `jobs`.
    """
    chunks = [jobs[first : first + CHUNK] for first in range(0, len(jobs), CHUNK)]
    pool = ProcessPoolExecutor(max(1, min(workers, len(chunks))), initializer=start_worker)
    submitted, chunks = deque(), iter(chunks)
    try:
        while True:
            while len(submitted) < workers * AHEAD and (chunk := next(chunks, None)):
                submitted.append((chunk, pool.submit(prepare_chunk, chunk, layout)))
            if not submitted:
                return
            chunk, future = submitted.popleft()
            yield from zip(chunk, future.result(), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def prepare_chunk(jobs, layout):
    return [[prepare(xyz, layout) for xyz in read(job)] for job in jobs]


def read(job):
    try:
        return job.read(job.path)
    except SkeletonError as error:
        return [error] * len(job.names)
    # a damaged file can raise almost anything, and must not end the work on the others
    except Exception as error:
        reason = getattr(error, 'strerror', None) or f'{type(error).__name__}: {error}'
        return [SkeletonError(f'cannot be read: {reason}')] * len(job.names)


def prepare(xyz, layout: str) -> tuple[dict, bytes | None]:
    """One recording, as a job reads it, as its record for the journal and its bytes in the layout; none
    if it is unusable.
    """
    if isinstance(xyz, SkeletonError):
        return {'reason': str(xyz)}, None
    xyz, notes = xyz if isinstance(xyz, tuple) else (xyz, {})
    clip, num_frames = normalize(xyz), min(xyz.shape[1], MAX_FRAME)
    frames = np.ascontiguousarray(clip.transpose(1, 3, 2, 0)[:num_frames])
    record = {
        'num_frames': num_frames,
        'digest': clip_digest(frames),
        'cut': xyz.shape[1] > MAX_FRAME,
    }
    if notes:
        record['notes'] = notes
    return record, (clip if layout == 'padded' else frames).tobytes()
