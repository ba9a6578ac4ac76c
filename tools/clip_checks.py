"""What can be wrong or odd with one clip of prepared data: a check each, with its threshold."""
import numpy as np

from data_gen.preprocess import LEFT_SHOULDER, RIGHT_SHOULDER, SPINE

SAME = 1e-5  # metres: above the rounding of float32, far below the noise of a sensor
LACKING = 0.1  # of a clip's frames: good recordings too lose a body for a moment
STILL = 15  # steps, half a second: in 2,577 real recordings (IntelliRehabDS) no joint rests longer than 10
JUMP, ABOVE_MEDIAN = 0.5, 10  # metres a step, 15 m/s: faster than a fist; and times the body's own median step
SWAP, MUCH_BETTER = 0.5, 3  # metres a step, so that the bodies are apart; and times the way with the bodies exchanged
CENTRE = 0.01  # metres: half-precision arrays stay below
TILT = 1  # degrees
ALONG_Z = 15  # degrees: 2s-AGCN leaves 99 % of IntelliRehabDS within 10 of z, this project all of it beyond 50
SHORT = 10  # frames, a third of a second


def examine(frames):
    """Yield (kind, size, what) for each trouble of a clip (T, M, V, C)."""
    bad = ~np.isfinite(frames).all((1, 2, 3))
    if bad.any():
        yield 'not finite', bad.mean(), f'{bad.sum()} of {len(bad)} frames, first {bad.argmax()}'
        return
    clip = Clip(frames)
    for kind, check in CHECKS.items():
        for size, what in check(clip):
            yield kind, size, what


class Clip:
    """A clip's frames (T, M, V, C), metres, and what several checks need of them.

    there (T, M): the body is there; seen (T, M): and not only as a repetition of its first frames, which fills gaps;
    pose (T, M, V, C): about the body's own spine; twice (T - 1, M): seen before and after a step, with body 0, whose
    spine is the origin of all; swapped (T - 1,): the first two bodies exchange their places in the arrays.
    """

    def __init__(self, frames):
        self.frames = frames
        self.there = frames.any((2, 3))
        self.pose = frames - frames[:, :, SPINE:SPINE + 1]
        ends = [unrepeated(self.pose[:, body]) if first else len(frames) for body, first in enumerate(self.there[0])]
        self.seen = self.there & (np.arange(len(frames))[:, None] < ends)
        seen = self.seen & self.seen[:, :1]
        self.twice = seen[1:] & seen[:-1]
        self.swapped = exchanges(self.pose, frames[:, :, SPINE]) & self.twice[:, :2].all(1)


def distance(one, other):
    return np.linalg.norm(one - other, axis=-1)


def unrepeated(pose):
    """After how many of its poses (T, V, C) a body begins anew, until the clip's end; T if it does not."""
    like_first = distance(pose, pose[0]).max(1) < SAME
    for start in np.flatnonzero(like_first[1:] & ~like_first[:-1]) + 1:
        if (distance(pose[start:], pose[:-start]) < SAME).all():
            return start
    return len(pose)


def exchanges(pose, place):
    """The steps (T - 1,) that are much shorter with the bodies exchanged: pose (T, M, V, C), place (T, M, C).

    The way between the bodies stands for their places: the origin of the arrays lies in body 0 and is exchanged too.
    """
    if pose.shape[1] < 2:
        return np.zeros(len(pose) - 1, bool)
    pose, apart = pose[:, :2], place[:, 1] - place[:, 0]
    straight = distance(pose[1:], pose[:-1]).mean(2).sum(1) + distance(apart[1:], apart[:-1])
    exchanged = distance(pose[1:], pose[:-1, ::-1]).mean(2).sum(1) + distance(apart[1:], -apart[:-1])
    return (straight > SWAP) & (straight > MUCH_BETTER * exchanged)


def empty(clip):
    """nobody is there in many frames, or in all"""
    nobody = ~clip.there.any(1)
    if nobody.mean() > LACKING:
        yield nobody.mean(), f'{nobody.sum()} of {len(nobody)} frames, first {nobody.argmax()}'


def partly(clip):
    """one of the bodies is not there in many frames, or repeats its first ones to fill them"""
    lacking = clip.there.any(1)[:, None] & ~clip.seen & clip.seen.any(0)
    body = lacking.sum(0).argmax()
    if lacking[:, body].mean() > LACKING:
        yield lacking[:, body].mean(), f'body {body}, {lacking[:, body].sum()} of {len(lacking)} frames'


def frozen_body(clip):
    """a body rests in one pose without the least motion"""
    yield from long_rest(resting(clip).all(2), 'body {}')


def frozen_joint(clip):
    """a joint does not move about the spine at all, while others do"""
    rest = resting(clip)
    rest &= ~rest.all(2, keepdims=True)
    rest[:, :, SPINE] = False
    yield from long_rest(rest, 'joint {1} of body {0}')


def resting(clip):
    """Which joints do not move in a step: (T - 1, M, V)."""
    return (distance(clip.pose[1:], clip.pose[:-1]) < SAME) & clip.twice[..., None]


def long_rest(rest, whose):
    """The longest run of True along the first axis, where it is long enough."""
    steps = np.arange(1, len(rest) + 1).reshape(-1, *(1,) * (rest.ndim - 1))
    runs = steps - np.maximum.accumulate(np.where(rest, 0, steps), 0)
    if runs.max(initial=0) >= STILL:
        last, *who = np.unravel_index(runs.argmax(), runs.shape)
        yield runs.max(), f'{whose.format(*who)}, {runs.max()} steps up to frame {last + 1}'


def jump(clip):
    """a joint goes further in one step than it can, and than is usual in the clip"""
    ways = distance(clip.frames[1:], clip.frames[:-1]) * (clip.twice & ~clip.swapped[:, None])[..., None]
    for body in np.flatnonzero(ways.max((0, 2), initial=0) > JUMP):
        step, joint = np.unravel_index(ways[:, body].argmax(), ways[:, body].shape)
        way = ways[step, body, joint]
        if way > ABOVE_MEDIAN * np.median(ways[clip.twice[:, body], body]):
            yield way, f'joint {joint} of body {body} goes {way:.2f} m into frame {step + 1}'


def swap(clip):
    """the two bodies exchange their places in the arrays"""
    if clip.swapped.any():
        yield clip.swapped.sum(), f'{clip.swapped.sum()} times, first into frame {clip.swapped.argmax() + 1}'


def off_centre(clip):
    """the spine (joint 1) of body 0 is not the origin of every frame: not centred as here"""
    way = np.linalg.norm(clip.frames[:, 0, SPINE], axis=-1)
    if way.max() > CENTRE:
        yield way.max(), f'{way.max():.2f} m away in frame {way.argmax()}'


def off_axis(clip):
    """the shoulders of body 0 are not along x in frame 0: not turned as here"""
    x, y, z = clip.frames[0, 0, RIGHT_SHOULDER] - clip.frames[0, 0, LEFT_SHOULDER]
    angle = np.degrees(np.arctan2(np.hypot(y, z), abs(x)))
    if angle > TILT:
        yield angle, f'{angle:.0f} degrees off'


def along_z(clip):
    """the spine of body 0 is along z in frame 0: turned as older scripts (2s-AGCN) do, not as here"""
    spine = clip.frames[0, 0, SPINE] - clip.frames[0, 0, 0]
    length = np.linalg.norm(spine)
    if spine[2] > np.cos(np.radians(ALONG_Z)) * length:
        angle = np.degrees(np.arccos(min(1, spine[2] / length)))
        yield -angle, f'{angle:.0f} degrees from z'


def short(clip):
    """very few frames"""
    if len(clip.frames) < SHORT:
        yield -len(clip.frames), f'{len(clip.frames)} frames'


CHECKS = {'empty frames': empty, 'late or gone': partly, 'frozen body': frozen_body, 'frozen joint': frozen_joint,
          'jump': jump, 'body swap': swap, 'off centre': off_centre, 'off x': off_axis, 'along z': along_z,
          'short': short}
