"""The actor of the demo: a kinematic skeleton that plays simple actions. SYNTHETIC, a stand-in for NTU RGB+D people.

A pose is three angles a joint, in degrees: pitch about x, yaw about y, roll about z; y is up, x the actor's right, and
he faces -z. Positive pitch swings a limb forward; positive roll lifts a right limb sideways, and a left one inward.
"""
from dataclasses import dataclass

import numpy as np

from data_gen.skeleton import JOINTS, PARENTS

ROOT = 20
PITCH, YAW, ROLL = range(3)
FPS = 30
# Where each joint lies from its parent, in metres, arms and legs hanging down: the right side and the middle, which
# `rest_pose` mirrors. (Joint 23 hangs from 24, as the bone table has it: the tip of the hand from the thumb.)
BONES = {0: (0, -.28, 0), 1: (0, -.23, 0), 2: (0, .07, 0), 3: (0, .13, -.03), 8: (.17, -.03, 0), 9: (0, -.27, 0),
         10: (0, -.24, 0), 11: (0, -.08, 0), 24: (0, -.03, -.04), 23: (0, -.06, .04), 16: (.08, -.05, 0),
         17: (0, -.4, 0), 18: (0, -.4, 0), 19: (0, -.06, -.11)}
RIGHT, LEFT = [8, 9, 10, 11, 16, 17, 18, 19, 23, 24], [4, 5, 6, 7, 12, 13, 14, 15, 21, 22]
TRUNK, ARMS, LEGS = [0, 1, 2, 3, 20], [4, 5, 6, 7, 8, 9, 10, 11, 21, 22, 23, 24], list(range(12, 20))
ANKLES = [14, 18]
SHOULDER, ELBOW, HIP, KNEE = (4, 8), (5, 9), (12, 16), (13, 17)  # left, right


@dataclass(frozen=True)
class Action:
    """`number` and `name` as in NTU RGB+D; `moves` of the actor and, where two people act, of the partner.

    A move is (joint, axis, hold, swing, lag): while the action lasts, the joint's angle is
    hold + swing * sin(2 pi (rate * t + lag)).
    """
    number: int
    name: str
    rate: float
    moves: tuple
    partner: tuple = ()


def right(joints, axis, hold, swing=0, lag=0.):
    """A move of the right one of two joints."""
    return (joints[1], axis, hold, swing, lag),


def both(joints, axis, hold, swing=0, lag=0., between=0.):
    """A move of two joints, mirrored; the left one goes `between` cycles behind the right one."""
    side = 1 if axis == PITCH else -1
    return (joints[1], axis, hold, swing, lag), (joints[0], axis, side * hold, side * swing, lag - between)


def bend(hold, swing=0):
    """Lean the trunk forward; the legs stay where they are."""
    return (ROOT, PITCH, -hold, -swing, 0.), *both(HIP, PITCH, hold, swing)


REACH = right(SHOULDER, PITCH, 55, 8) + right(ELBOW, PITCH, 30, 12)  # what the four two-person actions share
ACTIONS = (
    Action(1, 'drink', .5, right(SHOULDER, PITCH, 45, 8) + right(ELBOW, PITCH, 110, 20)),
    Action(7, 'throw', .9, right(SHOULDER, PITCH, 95, 55) + right(ELBOW, PITCH, 55, 45, -.2)),
    Action(8, 'sit down', .3, both(HIP, PITCH, 80, 8) + both(KNEE, PITCH, -85, 8)),
    Action(10, 'clap', 1.6, both(SHOULDER, PITCH, 45) + both(ELBOW, PITCH, 55) + both(ELBOW, YAW, 10, 22)),
    Action(22, 'cheer up', 1.2, both(SHOULDER, ROLL, 125, 25) + both(ELBOW, ROLL, 25, 15)),
    Action(23, 'wave', 1.5, right(SHOULDER, ROLL, 85, 5) + right(ELBOW, ROLL, 75, 28)),
    Action(24, 'kick', .8, right(HIP, PITCH, 25, 38) + right(KNEE, PITCH, -30, 28, .25)),
    Action(35, 'bow', .6, bend(35, 18)),
    Action(50, 'punch', 1.3, REACH + right(SHOULDER, PITCH, 15, 30) + right(ELBOW, PITCH, 25, 45, .5), bend(-8, 6)),
    Action(52, 'push', .7, both(SHOULDER, PITCH, 60, 20) + both(ELBOW, PITCH, 45, 35, .5), bend(-10, 8)),
    Action(56, 'give', .5, REACH, REACH),
    Action(58, 'shake hands', 1.6, REACH + right(ELBOW, PITCH, 15, 18), REACH + right(ELBOW, PITCH, 15, 18)),
)


def rest_pose(rng):
    """A performer's bones (25, 3) in metres: his size, and the proportions of trunk, arms and legs, are random."""
    bones = np.zeros((JOINTS, 3))
    for joint, bone in BONES.items():
        bones[joint] = bone
    bones[LEFT] = bones[RIGHT] * (-1, 1, 1)
    for part in (TRUNK, ARMS, LEGS):
        bones[part] *= rng.uniform(.93, 1.07)
    return bones * rng.uniform(.9, 1.1)


def forward_kinematics(bones, angles):
    """Bones (25, 3) in metres and angles (T, 25, 3) in degrees -> joints (T, 25, 3), joint 20 at the origin."""
    turns = rotations(angles)
    joints = np.zeros(angles.shape)
    done = [ROOT]
    for parent in done:
        for joint in range(JOINTS):
            if PARENTS[joint] == parent and joint != ROOT:
                joints[:, joint] = joints[:, parent] + turns[:, parent] @ bones[joint]
                turns[:, joint] = turns[:, parent] @ turns[:, joint]
                done.append(joint)
    return joints


def rotations(angles):
    """Angles (..., 3) in degrees -> matrices (..., 3, 3): pitch first, then roll, then yaw."""
    (sp, sy, sr), (cp, cy, cr) = (np.moveaxis(f(np.radians(angles)), -1, 0) for f in (np.sin, np.cos))
    return np.stack([cy * cr, -cy * sr * cp + sy * sp, cy * sr * sp + sy * cp,
                     sr, cr * cp, -cr * sp,
                     -sy * cr, sy * sr * cp + cy * sp, -sy * sr * sp + cy * cp], -1).reshape(*angles.shape, 3)


def stand(joints, bones):
    """Put joints (T, 25, 3) on the floor, y = 0: the lower foot carries, and stays where it is at rest."""
    rest = forward_kinematics(bones, np.zeros((1, JOINTS, 3)))
    height = joints[:, ANKLES, 1:2]
    weight = np.exp((height.min(1, keepdims=True) - height) / .03)
    step = ((joints - rest)[:, ANKLES] * weight).sum(1) / weight.sum(1)
    return joints - step[:, None] - (rest[0, 0] * (1, 0, 1) + (0, rest[0, 15, 1], 0))


def timing(rate, frames, rng):
    """When an action happens: (cycles of its swing, how far it is under way from 0 to 1), each (frames,)."""
    seconds = np.arange(frames) / FPS
    begin, end = rng.uniform(0, .35) * seconds[-1], rng.uniform(.75, 1.1) * seconds[-1]
    going = ease((seconds - begin) / .4) * ease((end - seconds) / .4)
    return rng.random() + rate * rng.uniform(.7, 1.4) * seconds, going


def act(moves, cycles, going, bones, rng):
    """Play moves at a timing (T,), in a random manner: joints (T, 25, 3) in metres, the feet around the origin."""
    angles = posture(len(cycles), rng)
    strength = rng.uniform(.8, 1.2)
    for joint, axis, hold, swing, lag in moves:
        angles[:, joint, axis] += strength * going * (hold + swing * np.sin(2 * np.pi * (cycles + lag)))
    return stand(forward_kinematics(bones, angles), bones)


def ease(x):
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def posture(frames, rng):
    """Angles (frames, 25, 3) of a body that does nothing: where its joints rest, and a slow sway of each."""
    size = np.full((JOINTS, 1), 12.)
    size[TRUNK], size[LEGS] = 4, 6
    rate, phase = rng.uniform(.1, .5, (2, JOINTS, 3))
    sway = np.sin(2 * np.pi * (rate * np.arange(frames)[:, None, None] / FPS + 10 * phase))
    return size * (rng.standard_normal((JOINTS, 3)) + sway * rng.random((JOINTS, 3)))
