"""Write the demo's raw recordings: SYNTHETIC `.skeleton` files, for those who have no NTU RGB+D at hand.

    python data_gen/demo_recordings.py --out demo/raw
    python data_gen/ntu_gendata.py --dataset ntu60 --data_path demo/raw --out_folder demo/data/NTU-RGB-D-60-AGCN

No person was recorded: a kinematic actor (demo_actor.py) plays twelve actions, which bear the numbers that NTU RGB+D
gives to theirs. Scores on them show that the whole job runs and that pre-training helps; they compare with nothing
published. Syntax and names are those of NTU RGB+D and serve every protocol of NTU-60 and NTU-120. The same seed writes
the same files.
"""
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # python data_gen/… puts data_gen/ there, not the root

from data_gen import cli  # noqa: E402
from data_gen.demo_actor import ACTIONS, ARMS, FPS, LEGS, YAW, act, ease, performer, rotations, timing  # noqa: E402
from data_gen.protocols import Name  # noqa: E402
from data_gen.skeleton import JOINTS  # noqa: E402

SETUPS = 4
CAMERA_YAW = {1: 0, 2: 45, 3: -45}  # degrees; as in NTU RGB+D, three cameras see each performance
TURN = 60  # degrees to either side that actors may face
# Metres: the sensor's noise, at the limbs twice that of the trunk. It is on the high side, and that and TURN are what
# makes the classes hard for an encoder that has learned nothing.
NOISE = np.full((JOINTS, 1), .03)
NOISE[[joint for joint in ARMS + LEGS if joint not in (4, 8, 12, 16)]] *= 2
BODY_ID = 72057594037944738
# A body as text. What nothing reads stays 0: clipping, lean, and each joint's pixels and orientation.
BODY = f'%d 0 1 1 1 1 0 0 0 2\n{JOINTS}\n' + '%.3f %.3f %.3f 0 0 0 0 0 0 0 0 2\n' * JOINTS


def main(argv=None):
    args = parse(argv)
    count = write_recordings(args.out, args.seed, args.performers, args.classes, args.replications)
    print(f'{args.out}: {count} recordings. They are SYNTHETIC: a kinematic actor moved, no person was recorded')


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER', help='a new or empty folder for the files')
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='another seed, other recordings (default 0)')
    parser.add_argument('--performers', type=int, default=20, metavar='N',
                        help='3 to 40; of 20, NTU-60 trains on 13 (default 20)')
    parser.add_argument('--classes', type=int, default=len(ACTIONS), metavar='N',
                        help='the first so many actions (default all, 12)')
    parser.add_argument('--replications', type=int, default=1, metavar='N',
                        help='how often each performs an action (default 1)')
    args = parser.parse_args(argv)
    for flag, low, high in (('seed', 0, 2 ** 32), ('performers', 3, 40), ('classes', 1, len(ACTIONS)),
                            ('replications', 1, 99)):
        if not low <= vars(args)[flag] <= high:
            parser.error(f'--{flag} must be {low} to {high}')
    return args


def write_recordings(folder, seed=0, performers=20, classes=None, replications=1, frames=(60, 110)):
    """Write performers x classes x replications performances, each seen by three cameras; returns how many files.

    classes: the first so many actions, all by default; frames: the fewest and the most of a recording. Raises
    InputError for a folder that holds something: the names are NTU RGB+D's, and must not be mistaken for real ones.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise cli.InputError(f'{folder} holds files already: give a new or empty folder')
    except OSError as error:
        raise cli.InputError(f'{folder} cannot be used: {error.strerror}') from error
    plan = [(person, action, replication) for person in range(1, performers + 1) for action in ACTIONS[:classes]
            for replication in range(1, replications + 1)]
    for person, action, replication in cli.progress(plan, 'acting', unit='performance', leave=False):
        for name, recording in performance(seed, person, action, replication, frames):
            (folder / f'{name}.skeleton').write_text(text(recording))
    return len(plan) * len(CAMERA_YAW)


def performance(seed, person, action, replication, frames):
    """One performance, as each camera records it: yields (name, for each frame the list of bodies (25, 3), metres)."""
    rng = np.random.default_rng((seed, person, action.number, replication))
    bones = [performer(np.random.default_rng((seed, which))) for which in (person, person + 1)]
    bodies = stage(action, bones, rng.integers(*frames, endpoint=True), rng)
    setup = 1 + (person - 1) % SETUPS
    for camera, yaw in CAMERA_YAW.items():
        seen = view(bodies, yaw, np.random.default_rng((seed, setup, camera)))
        seen = seen + NOISE * rng.standard_normal(seen.shape)
        yield Name(setup, camera, person, replication, action.number), tracked(seen, rng)


def stage(action, bones, frames, rng):
    """The bodies (1 or 2, T, 25, 3) of a performance in the room, metres: y = 0 the floor, the middle camera at -z."""
    cycles, under_way = timing(action.rate, frames, rng)
    bodies = act(action.moves, cycles, under_way, bones[0], rng)[None]
    if action.partner:
        partner = act(action.partner, cycles - rng.uniform(0, .15), under_way, bones[1], rng)
        to_left, to_right = rotations([(0, 90, 0), (0, -90, 0)])
        apart = (rng.uniform(.35, .5), 0, 0)
        bodies = np.stack([bodies[0] @ to_left.T + apart, partner @ to_right.T - apart])
    turned = bodies @ rotations(turning(frames, rng)).swapaxes(1, 2)
    return turned + (rng.uniform(-.3, .3), 0, rng.uniform(-.3, .3))


def turning(frames, rng):
    """Angles (frames, 3) by which the actors turn, both together: facing anywhere at first, soon anywhere else."""
    angles = np.zeros((frames, 3))
    first, then = rng.uniform(-TURN, TURN, 2)
    angles[:, YAW] = first + (then - first) * ease(np.arange(frames) / FPS / rng.uniform(.3, 1.5))
    return angles


def view(bodies, yaw, rig):
    """Bodies in the room -> in a camera's coordinates, metres: y up, z away from it. rig: draws how it was set up."""
    pitch, distance, height = rig.uniform(-8, 8), rig.uniform(2.6, 3.8), rig.uniform(.8, 1.2)
    turned = (bodies - (0, height, 0)) @ rotations((0, yaw + rig.uniform(-5, 5), 0)).T
    return turned @ rotations((pitch, 0, 0)).T + (0, 0, distance)


def tracked(bodies, rng):
    """Bodies (M, T, 25, 3) -> for each frame the list of those the sensor found: now and then none, or one late."""
    found = np.ones(bodies.shape[:2], bool)
    if rng.random() < .05:
        first = rng.integers(max(1, found.shape[1] - 3))
        found[:, first:first + 3] = False
    if len(found) == 2 and rng.random() < .2:
        found[1, :rng.integers(2, 12)] = False
    return [bodies[found[:, frame], frame] for frame in range(found.shape[1])]


def text(recording):
    """A recording, for each frame its bodies (25, 3), in the syntax of NTU RGB+D."""
    parts = [f'{len(recording)}\n']
    for bodies in recording:
        parts.append(f'{len(bodies)}\n')
        parts += [BODY % (BODY_ID + slot, *body.flat) for slot, body in enumerate(bodies)]
    return ''.join(parts)


if __name__ == '__main__':
    cli.run(main)
