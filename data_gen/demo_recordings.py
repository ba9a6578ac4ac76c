"""Write the demo's raw recordings: SYNTHETIC `.skeleton` files, for those who have no NTU RGB+D at hand.

    python data_gen/demo_recordings.py --out /tmp/demo/raw
    python data_gen/ntu_gendata.py --dataset ntu60 --data_path /tmp/demo/raw --out_folder /tmp/demo/data/NTU-RGB-D-60-AGCN

No person was recorded: a kinematic actor (demo_actor.py) plays twelve actions that bear the numbers of NTU RGB+D's, so
the scores say whether the job runs, and nothing about the method. The files have the syntax and the names of NTU RGB+D
and fit every protocol of NTU-60 and NTU-120. The same seed writes the same files.
"""
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script

from data_gen import cli  # noqa: E402
from data_gen.demo_actor import ACTIONS, FPS, YAW, act, ease, rest_pose, rotations, timing  # noqa: E402
from data_gen.protocols import Name  # noqa: E402
from data_gen.skeleton import JOINTS  # noqa: E402

CAMERA_YAW = {1: 0, 2: 45, 3: -45}  # degrees; as in NTU RGB+D, three cameras see each performance
SETUPS = 4
TURN = 60  # degrees
NOISE = .012  # metres; hands and feet are seen worse, and so is the side that is turned away
FAR_ENDS = [6, 7, 10, 11, 14, 15, 18, 19, 21, 22, 23, 24]
BODY_ID = 72057594037944738
# What nothing reads is left 0: the body line's states, and each joint's pixel coordinates and orientation.
BODY = f'%d 0 1 1 1 1 0 0 0 2\n{JOINTS}\n' + '%.3f %.3f %.3f 0 0 0 0 0 0 0 0 2\n' * JOINTS


def main(argv=None):
    args = parse(argv)
    count = write_recordings(args.out, args.seed, args.performers, args.classes, args.replications)
    print(f'{args.out}: {count} recordings. They are SYNTHETIC: a kinematic actor, not NTU RGB+D, and no person')


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER', help='where the .skeleton files go')
    parser.add_argument('--seed', type=int, default=0, help='another seed, other recordings (default 0)')
    parser.add_argument('--performers', type=int, default=20, help='2 to 40; half of them train (default 20)')
    parser.add_argument('--classes', type=int, default=len(ACTIONS), help='1 to 12 actions (default all)')
    parser.add_argument('--replications', type=int, default=1, help='performances of an action (default 1)')
    return parser.parse_args(argv)


def write_recordings(folder, seed=0, performers=20, classes=len(ACTIONS), replications=1, frames=(40, 90)):
    """Write performers x classes x replications performances, each from three cameras; returns the number of files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plan = [(performer, action, replication) for performer in range(1, performers + 1) for action in ACTIONS[:classes]
            for replication in range(1, replications + 1)]
    for performer, action, replication in cli.progress(plan, 'acting', unit='performance', leave=False):
        for name, views in performance(seed, performer, action, replication, frames):
            (folder / f'{name}.skeleton').write_text(text(views))
    return len(plan) * len(CAMERA_YAW)


def performance(seed, performer, action, replication, frames):
    """Yield (name, bodies in each frame) for each camera: every frame a list of (25, 3) joints, metres."""
    rng = np.random.default_rng((seed, performer, action.number, replication))
    setup = 1 + (performer - 1) % SETUPS
    count = int(rng.integers(frames[0], frames[1], endpoint=True))
    bodies = stage(action, [bones_of(seed, performer), bones_of(seed, performer + 1)], count, rng)
    for camera, yaw in CAMERA_YAW.items():
        seen = sensor(view(bodies, yaw, np.random.default_rng((seed, setup, camera))), rng)
        yield Name(setup, camera, performer, replication, action.number), trouble(seen, rng)


def bones_of(seed, performer):
    return rest_pose(np.random.default_rng((seed, performer)))


def stage(action, bones, frames, rng):
    """The bodies (1 or 2, T, 25, 3) of a performance, metres, in the room: y up, y = 0 the floor, the audience at -z."""
    cycles, going = timing(action.rate, frames, rng)
    bodies = act(action.moves, cycles, going, bones[0], rng)[None]
    if action.partner:
        partner = act(action.partner, cycles - rng.uniform(0, .15), going, bones[1], rng)
        left, right = rotations(np.array([[0, 90., 0], [0, -90., 0]]))
        apart = np.array([rng.uniform(.35, .5), 0, 0])
        bodies = np.stack([bodies[0] @ left.T + apart, partner @ right.T - apart])
    return bodies @ rotations(turning(frames, rng)).mT + (rng.uniform(-.3, .3), 0, rng.uniform(-.3, .3))


def turning(frames, rng):
    """Angles (frames, 3) by which the actors turn, all together: anywhere at first, then towards somewhere else."""
    turn = np.zeros((frames, 3))
    start, end = rng.uniform(-TURN, TURN, 2)
    turn[:, YAW] = start + (end - start) * ease(np.arange(frames) / FPS / rng.uniform(.3, 1.5))
    return turn


def view(bodies, yaw, rig):
    """Bodies in the room -> as a camera at a yaw (degrees) sees them: its x, y up, z its distance; metres."""
    pitch, distance, height = rig.uniform(-8, 8), rig.uniform(2.6, 3.8), rig.uniform(.8, 1.2)
    turned = (bodies - (0, height, 0)) @ rotations(np.array([0, yaw + rig.uniform(-5, 5), 0])).T
    return turned @ rotations(np.array([pitch, 0, 0])).T + (0, 0, distance)


def sensor(bodies, rng):
    """What a depth camera makes of bodies (M, T, 25, 3): noise, worse at the ends of the limbs; metres."""
    size = np.full((JOINTS, 1), NOISE)
    size[FAR_ENDS] *= 2
    return bodies + size * rng.standard_normal(bodies.shape)


def trouble(bodies, rng):
    """Bodies (M, T, 25, 3) -> for each frame the list of those found; now and then one is lost, as in NTU RGB+D."""
    found = np.ones(bodies.shape[:2], bool)
    if rng.random() < .05:
        first = rng.integers(found.shape[1] - 3)
        found[:, first:first + 3] = False
    if len(found) == 2 and rng.random() < .2:
        found[1, :rng.integers(2, 12)] = False
    return [list(bodies[found[:, frame], frame]) for frame in range(found.shape[1])]


def text(views):
    """A recording as `.skeleton` text: views has each frame's list of bodies (25, 3)."""
    lines = [f'{len(views)}\n']
    for bodies in views:
        lines.append(f'{len(bodies)}\n')
        lines += [BODY % (BODY_ID + slot, *body.flat) for slot, body in enumerate(bodies)]
    return ''.join(lines)


if __name__ == '__main__':
    cli.run(main)
