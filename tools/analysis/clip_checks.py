"""What can be wrong or odd with one clip of prepared data: the kinds of findings, the checks and
their thresholds.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_gen.preprocess import ALONG_Z, LEFT_SHOULDER, RIGHT_SHOULDER, SPINE

KINDS = {
    'not finite': 'NaN or infinite coordinates; nothing else is checked in these clips',
    'empty frames': 'many frames, or all, have nobody in them',
    'late or gone': 'one of the bodies is missing in many frames, or repeats its first ones there',
    'frozen body': 'a body rests in one pose without the least motion',
    'frozen joint': 'a joint does not move relative to the spine at all, while others do',
    'jump': 'a joint moves further in one step than is possible, and than is usual in the clip',
    'body swap': 'the two bodies exchange their places in the arrays',
    'off centre': 'the spine (joint 1) of body 0 is not the origin in every frame: centred differently',
    'off x': 'the shoulders of body 0 are not along x in frame 0: rotated differently',
    'along z': 'the spine of body 0 is along z in frame 0: rotated as older scripts (2s-AGCN) do',
    'short': 'very few frames',
}

SAME = 1e-5  # metres: above float32 rounding, far below sensor noise
MISSING = 0.1  # of a clip's frames: good recordings lose a body for a moment, too
# steps, half a second: in 2,577 real recordings (IntelliRehabDS) no joint rests for more than 10
STILL = 15
JUMP = 0.5  # metres a step, 15 m/s: faster than a fist
ABOVE_MEDIAN = 10  # times the median step of the body that jumps
SWAP = 0.5  # metres a step, so the bodies are apart
MUCH_BETTER = 3  # times the step with the bodies exchanged
CENTRE = 0.01  # metres: half-precision arrays stay below
TILT = 1  # degrees
SHORT = 10  # frames, a third of a second


class Finding(NamedTuple):
    kind: str
    size: float  # the larger, the worse
    text: str


def examine(frames: np.ndarray) -> Iterator[Finding]:
    """Yield each problem of a clip (T, M, V, C), in metres."""
    bad = ~np.isfinite(frames).all((1, 2, 3))
    if bad.any():
        text = f'{bad.sum()} of {len(bad)} frames, first {bad.argmax()}'
        yield Finding('not finite', bad.mean(), text)
        return
    present = frames.any((2, 3))  # (T, M)
    pose = frames - frames[:, :, SPINE : SPINE + 1]  # relative to the body's own spine
    seen = present & ~repeats(pose, present)
    tracked = seen & seen[:, :1]  # with body 0, whose spine is the origin
    tracked = tracked[1:] & tracked[:-1]  # (T - 1, M), before and after a step
    yield from absent(present, seen)
    yield from frozen(pose, tracked)
    yield from large_steps(frames, pose, tracked)
    yield from placement(frames[:, 0])
    if len(frames) < SHORT:
        yield Finding('short', -len(frames), f'{len(frames)} frames')


def distance(one, other):
    return np.linalg.norm(one - other, axis=-1)


def repeats(pose, present):
    """Where a body (T, M) only repeats its first poses until the clip ends, which is how
    preparation fills gaps.
    """
    repeated = np.zeros_like(present)
    for body in np.flatnonzero(present[0]):
        own = pose[:, body]
        like_first = distance(own, own[0]).max(1) < SAME
        for start in np.flatnonzero(like_first[1:] & ~like_first[:-1]) + 1:
            if (distance(own[start:], own[:-start]) < SAME).all():
                repeated[start:, body] = True
    return repeated


def absent(present, seen):
    """Frames without anybody, and without one of the bodies."""
    frames = len(present)
    nobody = ~present.any(1)  # (T,)
    if nobody.mean() > MISSING:
        text = f'{nobody.sum()} of {frames} frames, first {nobody.argmax()}'
        yield Finding('empty frames', nobody.mean(), text)
    missing = ~nobody[:, None] & ~seen & seen.any(0)  # (T, M)
    count = missing.sum(0)
    body = count.argmax()
    if count[body] / frames > MISSING:
        text = f'body {body}, {count[body]} of {frames} frames'
        yield Finding('late or gone', count[body] / frames, text)


def frozen(pose, tracked):
    """Bodies, or joints of bodies that move, that stay in one pose."""
    still = (distance(pose[1:], pose[:-1]) < SAME) & tracked[..., None]  # (T - 1, M, V)
    whole_body = still.all(2, keepdims=True)
    length, end, (body, _) = longest_run(whole_body)
    if length >= STILL:
        yield Finding('frozen body', length, f'body {body}, {length} steps up to frame {end}')
    still &= ~whole_body
    still[:, :, SPINE] = False
    length, end, (body, joint) = longest_run(still)
    if length >= STILL:
        text = f'joint {joint} of body {body}, {length} steps up to frame {end}'
        yield Finding('frozen joint', length, text)


def longest_run(rest):
    """The longest run of true values along the steps of rest (T - 1, M, V): how many, the frame it
    ends in, and its (body, joint).
    """
    if not rest.any():
        return 0, 0, (0, 0)
    steps = np.arange(1, len(rest) + 1)[:, None, None]
    runs = steps - np.maximum.accumulate(np.where(rest, 0, steps), 0)
    last, *where = np.unravel_index(runs.argmax(), runs.shape)
    return runs.max(), last + 1, where


def large_steps(frames, pose, tracked):
    """Joints that move too far in a step, and bodies that exchange their places."""
    swapped = exchanges(frames, pose) & tracked[:, :2].all(1)  # (T - 1,)
    counted = tracked & ~swapped[:, None]
    steps = distance(frames[1:], frames[:-1]) * counted[..., None]  # (T - 1, M, V)
    for body in np.flatnonzero(steps.max((0, 2), initial=0) > JUMP):
        own = steps[:, body]
        step, joint = np.unravel_index(own.argmax(), own.shape)
        longest = own[step, joint]
        if longest > ABOVE_MEDIAN * np.median(own[tracked[:, body]]):
            text = f'joint {joint} of body {body} moves {longest:.2f} m into frame {step + 1}'
            yield Finding('jump', longest, text)
    if swapped.any():
        text = f'{swapped.sum()} times, first into frame {swapped.argmax() + 1}'
        yield Finding('body swap', swapped.sum(), text)


def exchanges(frames, pose):
    """The steps (T - 1,) that are much shorter if the first two bodies are exchanged."""
    # The vector between the bodies stands for their places: the origin lies in body 0, so it is
    # exchanged as well. A single body is never exchanged.
    pair = pose[:, :2]
    apart = frames[:, :2, SPINE][:, -1] - frames[:, 0, SPINE]
    straight = distance(pair[1:], pair[:-1]).mean(2).sum(1) + distance(apart[1:], apart[:-1])
    crossed = distance(pair[1:], pair[:-1, ::-1]).mean(2).sum(1) + distance(apart[1:], -apart[:-1])
    return (straight > SWAP) & (straight > MUCH_BETTER * crossed)


def placement(body):
    """Where body 0 (T, V, C) is, and how it is turned in frame 0."""
    offset = np.linalg.norm(body[:, SPINE], axis=-1)
    if offset.max() > CENTRE:
        text = f'{offset.max():.2f} m away in frame {offset.argmax()}'
        yield Finding('off centre', offset.max(), text)
    x, y, z = body[0, RIGHT_SHOULDER] - body[0, LEFT_SHOULDER]
    angle = np.degrees(np.arctan2(np.hypot(y, z), abs(x)))
    if angle > TILT:
        yield Finding('off x', angle, f'{angle:.0f} degrees off')
    x, y, z = body[0, SPINE] - body[0, 0]
    angle = np.degrees(np.arctan2(np.hypot(x, y), z))
    if angle < ALONG_Z and z > 0:
        yield Finding('along z', -angle, f'{angle:.0f} degrees from z')
