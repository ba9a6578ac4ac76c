"""What can be wrong or odd with one clip of prepared data: the kinds of findings, the checks and
their thresholds.
"""

from collections.abc import Iterator

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
JUMP, ABOVE_MEDIAN = (
    0.5,
    10,
)  # metres a step, 15 m/s: faster than a fist; and times the body's own median step
SWAP, MUCH_BETTER = (
    0.5,
    3,
)  # metres a step, so the bodies are apart; and times the step with the bodies exchanged
CENTRE = 0.01  # metres: half-precision arrays stay below
TILT = 1  # degrees
SHORT = 10  # frames, a third of a second


def examine(frames: np.ndarray) -> Iterator[tuple[str, float, str]]:
    """Yield (kind, size, description) for each problem of a clip (T, M, V, C), in metres; the
    larger, the worse.
    """
    bad = ~np.isfinite(frames).all((1, 2, 3))
    if bad.any():
        yield 'not finite', bad.mean(), f'{bad.sum()} of {len(bad)} frames, first {bad.argmax()}'
        return
    present = frames.any((2, 3))  # (T, M)
    pose = frames - frames[:, :, SPINE : SPINE + 1]  # relative to the body's own spine
    seen = present & ~repeats(pose, present)
    tracked = seen & seen[:, :1]  # with body 0, whose spine is the origin
    tracked = tracked[1:] & tracked[:-1]  # (T - 1, M), before and after a step
    nobody = ~present.any(1)
    if nobody.mean() > MISSING:
        yield (
            'empty frames',
            nobody.mean(),
            f'{nobody.sum()} of {len(nobody)} frames, first {nobody.argmax()}',
        )
    missing = ~nobody[:, None] & ~seen & seen.any(0)
    body = missing.sum(0).argmax()
    if (share := missing[:, body].mean()) > MISSING:
        yield (
            'late or gone',
            share,
            f'body {body}, {missing[:, body].sum()} of {len(missing)} frames',
        )
    yield from frozen(pose, tracked)
    yield from large_steps(frames, pose, tracked)
    yield from placement(frames[:, 0])
    if len(frames) < SHORT:
        yield 'short', -len(frames), f'{len(frames)} frames'


def distance(one, other):
    return np.linalg.norm(one - other, axis=-1)


def repeats(pose, present):
    """Where a body (T, M) only repeats its first poses until the clip ends, which is how
    preparation fills gaps.
    """
    repeated = np.zeros_like(present)
    for body in np.flatnonzero(present[0]):
        like_first = distance(pose[:, body], pose[0, body]).max(1) < SAME
        for start in np.flatnonzero(like_first[1:] & ~like_first[:-1]) + 1:
            repeated[start:, body] |= (
                distance(pose[start:, body], pose[:-start, body]) < SAME
            ).all()
    return repeated


def frozen(pose, tracked):
    still = (distance(pose[1:], pose[:-1]) < SAME) & tracked[..., None]  # (T - 1, M, V)
    whole_body = still.all(2, keepdims=True)
    still &= ~whole_body
    still[:, :, SPINE] = False
    steps = np.arange(1, len(pose))[:, None, None]
    for kind, rest, whose in (
        ('frozen body', whole_body, 'body {}'),
        ('frozen joint', still, 'joint {1} of body {0}'),
    ):
        runs = steps - np.maximum.accumulate(np.where(rest, 0, steps), 0)
        if (longest := runs.max(initial=0)) >= STILL:
            last, body, joint = np.unravel_index(runs.argmax(), runs.shape)
            yield (
                kind,
                longest,
                f'{whose.format(body, joint)}, {longest} steps up to frame {last + 1}',
            )


def large_steps(frames, pose, tracked):
    # The vector between the bodies stands for their places: the origin lies in body 0, so it is
    # exchanged as well.
    pair, apart = (
        pose[:, :2],
        frames[:, :2, SPINE][:, -1] - frames[:, 0, SPINE],
    )  # a single body is never exchanged
    straight = distance(pair[1:], pair[:-1]).mean(2).sum(1) + distance(apart[1:], apart[:-1])
    exchanged = distance(pair[1:], pair[:-1, ::-1]).mean(2).sum(1) + distance(
        apart[1:], -apart[:-1]
    )
    swapped = (
        (straight > SWAP) & (straight > MUCH_BETTER * exchanged) & tracked[:, :2].all(1)
    )  # (T - 1,)
    steps = distance(frames[1:], frames[:-1]) * (tracked & ~swapped[:, None])[..., None]
    for body in np.flatnonzero(steps.max((0, 2), initial=0) > JUMP):
        step, joint = np.unravel_index(steps[:, body].argmax(), steps[:, body].shape)
        longest = steps[step, body, joint]
        if longest > ABOVE_MEDIAN * np.median(steps[tracked[:, body], body]):
            yield (
                'jump',
                longest,
                f'joint {joint} of body {body} moves {longest:.2f} m into frame {step + 1}',
            )
    if swapped.any():
        yield (
            'body swap',
            swapped.sum(),
            f'{swapped.sum()} times, first into frame {swapped.argmax() + 1}',
        )


def placement(body):
    """Where body 0 (T, V, C) is, and how it is turned in frame 0."""
    offset = np.linalg.norm(body[:, SPINE], axis=-1)
    if offset.max() > CENTRE:
        yield 'off centre', offset.max(), f'{offset.max():.2f} m away in frame {offset.argmax()}'
    x, y, z = body[0, RIGHT_SHOULDER] - body[0, LEFT_SHOULDER]
    if (angle := np.degrees(np.arctan2(np.hypot(y, z), abs(x)))) > TILT:
        yield 'off x', angle, f'{angle:.0f} degrees off'
    x, y, z = body[0, SPINE] - body[0, 0]
    if (angle := np.degrees(np.arctan2(np.hypot(x, y), z))) < ALONG_Z and z > 0:
        yield 'along z', -angle, f'{angle:.0f} degrees from z'
