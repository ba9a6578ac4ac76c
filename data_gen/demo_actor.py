"""The actor of the demo: a kinematic skeleton that plays simple actions. SYNTHETIC, a stand-in for recorded people.

A pose is three angles a joint, in degrees, of the bones beyond it: pitch about x, yaw about y, roll about z. y is up, x
the actor's right, and he faces -z: positive pitch swings an arm or a leg forward and leans the trunk back, positive yaw
turns to the left, positive roll lifts a right arm sideways.
"""
from dataclasses import dataclass

import numpy as np

from data_gen.skeleton import JOINTS, PARENTS

FPS = 30
PITCH, YAW, ROLL = range(3)
ROOT, NECK, PELVIS, FOOT, ANKLES = 20, 2, 0, 15, (14, 18)
SHOULDER, ELBOW, HIP, KNEE = (4, 8), (5, 9), (12, 16), (13, 17)  # left, right
TRUNK, ARMS, LEGS = [0, 1, 2, 3, 20], [4, 5, 6, 7, 8, 9, 10, 11, 21, 22, 23, 24], list(range(12, 20))
RIGHT, LEFT = [8, 9, 10, 11, 16, 17, 18, 19, 23, 24], [4, 5, 6, 7, 12, 13, 14, 15, 21, 22]
# Where joints lie from their parents at rest, in metres, the limbs hanging down; the left side mirrors the right one.
BONES = {0: (0, -.28, 0), 1: (0, -.23, 0), 2: (0, .07, 0), 3: (0, .13, -.03), 8: (.17, -.03, 0), 9: (0, -.27, 0),
         10: (0, -.24, 0), 11: (0, -.08, 0), 24: (0, -.03, -.04), 23: (0, -.06, .04), 16: (.08, -.05, 0),
         17: (0, -.4, 0), 18: (0, -.4, 0), 19: (0, -.06, -.11)}


@dataclass(frozen=True)
class Action:
    """`number` and `name` as in NTU RGB+D; `moves` of the actor and, where two people act, of the partner.

    A move is (joint, axis, hold, swing, lag): while the action lasts, the joint is at the angle
    hold + swing * sin(2 pi (rate * t + lag)), in degrees, t in seconds.
    """
    number: int
    name: str
    rate: float
    moves: tuple
    partner: tuple = ()


def right(joints, axis, hold, swing=0, lag=0.):
    """A move of the right one of two joints."""
    return (joints[1], axis, hold, swing, lag),


def both(joints, axis, hold, swing=0, lag=0.):
    """The same move of two joints, mirrored."""
    side = 1 if axis == PITCH else -1
    return (joints[0], axis, side * hold, side * swing, lag), (joints[1], axis, hold, swing, lag)


def bend(hold, swing):
    """Lean the trunk forward; the legs stay where they are."""
    return (ROOT, PITCH, -hold, -swing, 0.), *both(HIP, PITCH, hold, swing)


def twist(swing):
    """Turn the trunk to and fro; the legs stay where they are."""
    return (ROOT, YAW, 0, swing, 0.), (PELVIS, YAW, 0, -swing, 0.)


# Every third is for two, so that a few of them hold both kinds.
ACTIONS = (
    Action(1, 'drink', .5, (*right(SHOULDER, PITCH, 45, 8), *right(ELBOW, PITCH, 100, 25), (NECK, PITCH, 15, 10, 0.))),
    Action(24, 'kick', .9, right(HIP, PITCH, 25, 38) + right(KNEE, PITCH, -30, 28, .25)),
    Action(58, 'shake hands', 1.6, *2 * (right(SHOULDER, PITCH, 50, 8) + right(ELBOW, PITCH, 40, 22),)),
    Action(10, 'clap', 1.6, both(SHOULDER, PITCH, 45) + both(ELBOW, PITCH, 55) + both(ELBOW, YAW, 10, 22)),
    Action(8, 'sit down', .4, both(HIP, PITCH, 75, 15) + both(KNEE, PITCH, -80, -15)),
    Action(52, 'push', 1.2, both(SHOULDER, PITCH, 60, 20) + both(ELBOW, PITCH, 45, 35, .5), bend(-12, 10)),
    Action(23, 'wave', 1.6, right(SHOULDER, ROLL, 85, 5) + right(ELBOW, ROLL, 75, 28)),
    Action(35, 'bow', .6, bend(30, 18)),
    Action(55, 'hug', .5, *2 * (both(SHOULDER, PITCH, 70, 10) + both(SHOULDER, YAW, 5, 20) + bend(12, 6),)),
    Action(7, 'throw', .9, right(SHOULDER, PITCH, 95, 50) + right(ELBOW, PITCH, 55, 40, -.2) + twist(20)),
    Action(22, 'cheer up', 1.2, both(SHOULDER, ROLL, 125, 25) + both(ELBOW, ROLL, 25, 15)),
    Action(51, 'kick the other', .9, right(HIP, PITCH, 30, 35) + right(KNEE, PITCH, -30, 28, .25), bend(-10, 6)),
)


def performer(rng):
    """A performer's bones (25, 3) in metres: his size, and the proportions of trunk, arms and legs, are random."""
    bones = np.zeros((JOINTS, 3))
    bones[list(BONES)] = list(BONES.values())
    bones[LEFT] = bones[RIGHT] * (-1, 1, 1)
    for part in (TRUNK, ARMS, LEGS):
        bones[part] *= rng.uniform(.95, 1.05)
    return bones * rng.uniform(.92, 1.08)


def timing(rate, frames, rng):
    """When an action happens: (cycles of its swing, how far it is under way from 0 to 1), each (frames,)."""
    seconds = np.arange(frames) / FPS
    begin, end = rng.uniform(0, .15) * seconds[-1], rng.uniform(.85, 1.1) * seconds[-1]
    under_way = ease((seconds - begin) / .4) * ease((end - seconds) / .4)
    return rng.random() + rate * rng.uniform(.8, 1.25) * seconds, under_way


def act(moves, cycles, under_way, bones, rng):
    """Play moves at a timing (T,): joints (T, 25, 3) in metres, on the floor y = 0. Posture and strength are random."""
    angles = posture(len(cycles), rng)
    strength = rng.uniform(.8, 1.2)
    for joint, axis, hold, swing, lag in moves:
        angles[:, joint, axis] += strength * under_way * (hold + swing * np.sin(2 * np.pi * (cycles + lag)))
    return stand(forward_kinematics(bones, angles), bones)


def posture(frames, rng):
    """Angles (frames, 25, 3) of a body that does nothing: where its joints rest, and a slow sway of each."""
    size = np.full((JOINTS, 1), 4.)
    size[TRUNK], size[LEGS] = 1.5, 2
    rate, phase = rng.uniform(.1, .5, (JOINTS, 3)), rng.random((JOINTS, 3))
    sway = np.sin(2 * np.pi * (rate * np.arange(frames)[:, None, None] / FPS + phase))
    return size * (rng.standard_normal((JOINTS, 3)) + sway * rng.random((JOINTS, 3)))


def forward_kinematics(bones, angles):
    """Bones (25, 3) in metres and angles (T, 25, 3) in degrees -> joints (T, 25, 3), joint 20 at the origin."""
    turns = rotations(angles)
    joints = np.zeros(angles.shape)
    for joint in outwards():
        joints[:, joint] = joints[:, PARENTS[joint]] + turns[:, PARENTS[joint]] @ bones[joint]
        turns[:, joint] = turns[:, PARENTS[joint]] @ turns[:, joint]
    return joints


def outwards():
    """All joints but the root, each after its parent."""
    order = [ROOT]
    for parent in order:  # it grows as it is walked
        order += [joint for joint in range(JOINTS) if PARENTS[joint] == parent and joint != ROOT]
    return order[1:]


def stand(joints, bones):
    """Put joints (T, 25, 3) on the floor, y = 0: the lower foot carries, and stays where it is at rest."""
    rest = forward_kinematics(bones, np.zeros((1, JOINTS, 3)))
    height = joints[:, ANKLES, 1:2]
    weight = np.exp((height.min(1, keepdims=True) - height) / .03)
    step = ((joints - rest)[:, ANKLES] * weight).sum(1) / weight.sum(1)
    return joints - step[:, None] - (0, rest[0, FOOT, 1], 0)


def rotations(angles):
    """Angles (..., 3) in degrees -> matrices (..., 3, 3) for column vectors: pitch first, then roll, then yaw."""
    (sp, sy, sr), (cp, cy, cr) = (np.moveaxis(f(np.radians(angles)), -1, 0) for f in (np.sin, np.cos))
    return np.stack([cy * cr, -cy * sr * cp + sy * sp, cy * sr * sp + sy * cp,
                     sr, cr * cp, -cr * sp,
                     -sy * cr, sy * sr * cp + cy * sp, -sy * sr * sp + cy * cp], -1).reshape(*np.shape(angles), 3)


def ease(x):
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
