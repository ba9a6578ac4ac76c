"""Write the demo's raw recordings: synthetic `.skeleton` files, for those without NTU RGB+D.

    python -m data_gen.demo_recordings --out demo/raw

Nobody was recorded: a kinematic skeleton plays twelve actions, seen with the noise measured on
IntelliRehabDS. Scores show that the pipeline works and that pre-training helps; they cannot be
compared with published numbers. Syntax and names are those of NTU RGB+D and serve every protocol of
NTU-60 and NTU-120. The same seed writes the same files.
"""

import sys
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

import tools.common.start  # noqa: E402, F401

import numpy as np  # noqa: E402

from data_gen.protocols import Name  # noqa: E402
from data_gen.skeleton import JOINTS, PARENTS  # noqa: E402
from tools.common import cli  # noqa: E402

# A pose has three angles for each joint, in degrees; they turn the bones beyond it. y is up, x is
# the actor's right, and the actor faces -z. Positive pitch (about x) swings an arm or leg forward
# and leans the trunk back, positive yaw (about y) turns left, positive roll (about z) lifts a right
# arm sideways.
PITCH, YAW, ROLL = range(3)
# Offsets of joints from their parents at rest, in metres. Arms and legs hang down; the left side
# mirrors the right.
BONES = {
    1: (0, -0.23, 0),
    0: (0, -0.28, 0),
    2: (0, 0.07, 0),
    3: (0, 0.13, -0.03),
    8: (0.17, -0.03, 0),
    9: (0, -0.27, 0),
    10: (0, -0.24, 0),
    11: (0, -0.08, 0),
    24: (0, -0.03, -0.04),
    23: (0, -0.06, 0.04),
    16: (0.08, -0.05, 0),
    17: (0, -0.4, 0),
    18: (0, -0.4, 0),
    19: (0, -0.06, -0.11),
}
RIGHT = [8, 9, 10, 11, 24, 23, 16, 17, 18, 19]
LEFT = [4, 5, 6, 7, 22, 21, 12, 13, 14, 15]
TRUNK = [20, 1, 0, 2, 3]
ARMS = RIGHT[:6] + LEFT[:6]
LEGS = RIGHT[6:] + LEFT[6:]
# What a move turns: a joint, of a pair the right one, or both.
BACK = (20,)
NECK = (2,)
PELVIS = (0,)
SHOULDER = (8,)
ELBOW = (9,)
HIP = (16,)
KNEE = (17,)
SHOULDERS = (4, 8)
ELBOWS = (5, 9)
HIPS = (12, 16)
KNEES = (13, 17)
ANKLES = (14, 18)
FOOT = 15
FPS = 30
CAMERA_YAW = {1: 0, 2: 45, 3: -45}  # degrees; as in NTU RGB+D, three cameras see each performance
# Degrees: everybody faces the first camera within MAX_YAW, and turns a little while acting.
MAX_YAW = 60
MAX_TURN = 20
# The sensor's noise in metres: second differences of people at rest in IntelliRehabDS (Miron et
# al., Data 2021, 6(5), 46). Legs are given that of arms. The files are rounded to millimetres,
# which adds 0.0003.
NOISE = np.full((JOINTS, 1), 0.00013)
NOISE[[*ELBOWS, *KNEES]] = 0.00025
NOISE[[6, 10, *ANKLES]] = 0.0004
NOISE[[7, 11, 15, 19]] = 0.0009  # hands and feet
NOISE[[21, 22, 23, 24]] = 0.002  # finger tips
BODY_ID = 72057594037944738
# One body as text. Fields that nothing reads are 0: clipping, lean, and each joint's pixels and
# orientation.
BODY = f'%d 0 1 1 1 1 0 0 0 2\n{JOINTS}\n' + '%.3f %.3f %.3f 0 0 0 0 0 0 0 0 2\n' * JOINTS

# An action: its number in NTU RGB+D, its rate in Hz, the moves of the actor and, if two people act,
# of the partner. A move (joints, axis, hold, swing, lag) adds hold + swing * sin(2 pi (rate * t +
# lag)) degrees to an angle at time t; left joints mirror right ones. Every third action is for two
# people, so that the first few classes have both kinds.
Action = namedtuple('Action', 'number rate moves partner', defaults=[()])
SHAKE = (SHOULDER, PITCH, 50, 8, 0), (ELBOW, PITCH, 40, 22, 0)
HUG = (
    (SHOULDERS, PITCH, 70, 10, 0),
    (SHOULDERS, YAW, 5, 20, 0),
    (BACK, PITCH, -12, -6, 0),
    (HIPS, PITCH, 12, 6, 0),
)
ACTIONS = (
    Action(
        1, 0.5, ((SHOULDER, PITCH, 45, 8, 0), (ELBOW, PITCH, 100, 25, 0), (NECK, PITCH, 15, 10, 0))
    ),  # drink
    Action(24, 0.9, ((HIP, PITCH, 25, 38, 0), (KNEE, PITCH, -30, 28, 0.25))),  # kick
    Action(58, 1.6, SHAKE, SHAKE),  # shake hands
    Action(
        10, 1.6, ((SHOULDERS, PITCH, 45, 0, 0), (ELBOWS, PITCH, 55, 0, 0), (ELBOWS, YAW, 10, 22, 0))
    ),  # clap
    Action(8, 0.4, ((HIPS, PITCH, 75, 15, 0), (KNEES, PITCH, -80, -15, 0))),  # sit down
    Action(
        52,
        1.2,
        ((SHOULDERS, PITCH, 60, 20, 0), (ELBOWS, PITCH, 45, 35, 0.5)),
        ((BACK, PITCH, 12, -10, 0), (HIPS, PITCH, -12, 10, 0)),
    ),  # push
    Action(23, 1.6, ((SHOULDER, ROLL, 85, 5, 0), (ELBOW, ROLL, 75, 28, 0))),  # wave
    Action(35, 0.6, ((BACK, PITCH, -30, -18, 0), (HIPS, PITCH, 30, 18, 0))),  # bow
    Action(55, 0.5, HUG, HUG),  # hug
    Action(
        7,
        0.9,
        (
            (SHOULDER, PITCH, 95, 50, 0),
            (ELBOW, PITCH, 55, 40, -0.2),
            (BACK, YAW, 0, 20, 0),
            (PELVIS, YAW, 0, -20, 0),
        ),
    ),  # throw
    Action(22, 1.2, ((SHOULDERS, ROLL, 125, 25, 0), (ELBOWS, ROLL, 25, 15, 0))),  # cheer up
    Action(
        51,
        0.9,
        ((HIP, PITCH, 30, 35, 0), (KNEE, PITCH, -30, 28, 0.25)),
        ((BACK, PITCH, 10, -6, 0), (HIPS, PITCH, -10, 6, 0)),
    ),  # kick the other person
)


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FOLDER',
        help='a new or empty folder for the files',
    )
    parser.add_argument(
        '--seed', type=cli.non_negative_int, default=0, metavar='N', help='default 0'
    )
    parser.add_argument(
        '--performers', type=int, default=20, metavar='N', help='3 to 40 (default 20)'
    )
    parser.add_argument(
        '--classes', type=int, default=12, metavar='N', help='only the first N actions (default 12)'
    )
    parser.add_argument(
        '--replications', type=int, default=1, metavar='N', help='of each action (default 1)'
    )
    args = parser.parse_args(argv)
    for flag, low, high in (
        ('performers', 3, 40),
        ('classes', 1, len(ACTIONS)),
        ('replications', 1, 99),
    ):
        if not low <= getattr(args, flag) <= high:
            parser.error(f'--{flag} must be {low} to {high}')
    count = write_recordings(args.out, args.seed, args.performers, args.classes, args.replications)
    print(
        f'{args.out}: {count} recordings. They are synthetic: a kinematic actor moved, nobody was '
        'recorded'
    )


def write_recordings(
    folder: Path,
    seed: int = 0,
    performers: int = 20,
    classes: int | None = None,
    replications: int = 1,
    frames: tuple[int, int] = (60, 110),
) -> int:
    """Write performers x classes x replications performances, each seen by three cameras; returns
    the number of files.

    classes: only the first N actions; frames: the shortest and the longest recording. InputError if
    the folder is not empty: the names are NTU RGB+D's, and these files must not be mistaken for real ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise cli.InputError(f'{folder} is not empty: give a new or empty folder')
    plan = [
        (person, action, replication)
        for person in range(1, performers + 1)
        for action in ACTIONS[:classes]
        for replication in range(1, replications + 1)
    ]
    acts = cli.progress(plan, 'acting', unit='performance', leave=False)
    for person, action, replication in acts:
        rng = np.random.default_rng((seed, person, action.number, replication))
        bones = [draw_bones(np.random.default_rng((seed, which))) for which in (person, person + 1)]
        bodies = perform(action, bones, rng.integers(*frames, endpoint=True), rng)
        setup = 1 + (person - 1) % 4
        for camera, yaw in CAMERA_YAW.items():
            text = film(bodies, yaw, np.random.default_rng((seed, setup, camera)), rng)
            name = Name(setup, camera, person, replication, action.number)
            (folder / f'{name}.skeleton').write_text(text)
    return len(plan) * len(CAMERA_YAW)


def draw_bones(rng):
    """One performer's bones (25, 3) in metres, with random height and proportions of trunk, arms
    and legs.
    """
    bones = np.zeros((JOINTS, 3))
    bones[list(BONES)] = list(BONES.values())
    bones[LEFT] = bones[RIGHT] * (-1, 1, 1)
    for part in (TRUNK, ARMS, LEGS):
        bones[part] *= rng.uniform(0.95, 1.05)
    return bones * rng.uniform(0.92, 1.08)


def perform(action, bones, num_frames, rng):
    """The bodies (1 or 2, T, 25, 3) of one performance in the room, in metres. The floor is y = 0."""
    seconds = np.arange(num_frames) / FPS
    begin = rng.uniform(0, 0.15) * seconds[-1]
    end = rng.uniform(0.85, 1.1) * seconds[-1]
    # 0 at rest, 1 during the action
    fade = ease((seconds - begin) / 0.4) * ease((end - seconds) / 0.4)
    cycles = rng.random() + action.rate * rng.uniform(0.5, 2) * seconds
    bodies = act(action.moves, cycles, fade, bones[0], rng)[None]
    if action.partner:
        partner = act(action.partner, cycles - rng.uniform(0, 0.15), fade, bones[1], rng)
        to_left, to_right = rotations([(0, 90, 0), (0, -90, 0)])
        apart = (rng.uniform(0.35, 0.5), 0, 0)
        bodies = np.stack([bodies[0] @ to_left.T + apart, partner @ to_right.T - apart])
    yaw = rng.uniform(-MAX_YAW, MAX_YAW)
    yaw = yaw + rng.uniform(-MAX_TURN, MAX_TURN) * ease(seconds / seconds[-1])
    place = (rng.uniform(-0.3, 0.3), 0, rng.uniform(-0.3, 0.3))
    return bodies @ rotations(np.outer(yaw, (0, 1, 0))).swapaxes(1, 2) + place


def act(moves, cycles, fade, bones, rng):
    """One body that makes the moves, in random posture and strength: joints (T, 25, 3) in metres.
    cycles, fade (T,).
    """
    sway_size = np.full((JOINTS, 1), 12.0)
    sway_size[TRUNK] = 5
    sway_size[LEGS] = 6
    rate = rng.uniform(0.1, 1.5, (JOINTS, 3))
    phase = rng.random((JOINTS, 3))
    sway = np.sin(2 * np.pi * (rate * np.arange(len(cycles))[:, None, None] / FPS + phase))
    angles = sway_size * (rng.standard_normal((JOINTS, 3)) + sway * rng.random((JOINTS, 3)))
    posture = rng.uniform(0.6, 1.4)  # of what is held
    strength = rng.uniform(0.2, 1.2)  # of the swing
    for joints, axis, hold, swing, lag in moves:
        turn = fade * (posture * hold + strength * swing * np.sin(2 * np.pi * (cycles + lag)))
        for joint in joints:
            angles[:, joint, axis] += -turn if joint in LEFT and axis != PITCH else turn
    joints = forward_kinematics(bones, angles)
    rest = forward_kinematics(bones, np.zeros((1, JOINTS, 3)))
    # Stand on the floor: the lower foot carries the weight and stays where it is at rest
    height = joints[:, ANKLES, 1:2]
    weight = np.exp((height.min(1, keepdims=True) - height) / 0.03)
    step = ((joints - rest)[:, ANKLES] * weight).sum(1) / weight.sum(1)
    return joints - step[:, None] - (0, rest[0, FOOT, 1], 0)


def forward_kinematics(bones, angles):
    """Bones (25, 3) in metres and angles (T, 25, 3) in degrees -> joints (T, 25, 3), with joint 20
    at the origin.
    """
    turns = rotations(angles)
    joints = np.zeros(angles.shape)
    for joint in [*BONES, *LEFT]:  # each after its parent
        joints[:, joint] = joints[:, PARENTS[joint]] + turns[:, PARENTS[joint]] @ bones[joint]
        turns[:, joint] = turns[:, PARENTS[joint]] @ turns[:, joint]
    return joints


def rotations(angles):
    """Angles (..., 3) in degrees -> matrices (..., 3, 3) for column vectors: pitch first, then
    roll, then yaw.
    """
    (sp, sy, sr), (cp, cy, cr) = (
        np.moveaxis(f(np.radians(angles)), -1, 0) for f in (np.sin, np.cos)
    )
    return np.stack(
        [
            cy * cr,
            -cy * sr * cp + sy * sp,
            cy * sr * sp + sy * cp,
            sr,
            cr * cp,
            -cr * sp,
            -sy * cr,
            sy * sr * cp + cy * sp,
            -sy * sr * sp + cy * cp,
        ],
        -1,
    ).reshape(*np.shape(angles), 3)


def ease(x):
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def film(bodies, yaw, rig, rng):
    """The text that one camera records of bodies (M, T, 25, 3). rig draws how the camera stands,
    rng all the rest.
    """
    pitch = rig.uniform(-8, 8)
    distance = rig.uniform(2.6, 3.8)
    height = rig.uniform(0.8, 1.2)
    turned = (bodies - (0, height, 0)) @ rotations((0, yaw + rig.uniform(-5, 5), 0)).T
    # metres; y is up, z points away from the camera
    bodies = turned @ rotations((pitch, 0, 0)).T + (0, 0, distance)
    bodies = bodies + NOISE * rng.standard_normal(bodies.shape)
    # Sometimes nobody is seen for three frames, or the second body comes late.
    seen = np.ones(bodies.shape[:2], bool)
    if rng.random() < 0.05:
        first = rng.integers(max(1, seen.shape[1] - 3))
        seen[:, first : first + 3] = False
    if len(bodies) == 2 and rng.random() < 0.2:
        seen[1, : rng.integers(2, 12)] = False
    text = f'{seen.shape[1]}\n'
    for frame, visible in enumerate(seen.T):
        text += f'{visible.sum()}\n'
        text += ''.join(
            BODY % (BODY_ID + slot, *body.flat) for slot, body in enumerate(bodies[visible, frame])
        )
    return text


if __name__ == '__main__':
    cli.run(main)
