"""Prepare NW-UCLA: the JSON recordings that CTR-GCN passes on -> the arrays of its cross-view
protocol.

    python -m data_gen.nwucla_gendata --data_path data/NW-UCLA/all_sqe

The folder holds aAA_sSS_eEE_vVV.json: action, performer, episode and view. Their `skeletons`
(T, 20, 3) are the joints of Kinect v1, in metres and in the axes of NTU RGB+D. Views 1 and 2 train,
view 3 tests. Unusable files are skipped and listed at the end.
"""

import json
import re
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

import tools.common.start  # noqa: E402, F401

import numpy as np  # noqa: E402

from data_gen import pipeline  # noqa: E402
from data_gen.class_names import NW_UCLA_ACTIONS  # noqa: E402
from data_gen.custom_gendata import read_one, warn_of_flaws  # noqa: E402
from data_gen.joint_maps import AXES  # noqa: E402
from data_gen.poses import check_poses  # noqa: E402
from data_gen.protocols import DATASETS  # noqa: E402
from data_gen.tracks import Poses  # noqa: E402
from data_gen.workers import Job  # noqa: E402
from tools.common import cli  # noqa: E402

TRAINING_VIEWS = ('01', '02')
NAME = re.compile(r'a(?P<action>\d\d)_s(?P<performer>\d\d)_e\d\d_v(?P<view>\d\d)')


def main(argv=None):
    args = parse_args(argv)
    read = partial(read_file, axes=args.axes)
    labels = {f'{action:02d}': label for label, action in enumerate(NW_UCLA_ACTIONS)}
    recordings, jobs, performers, stray = [], [], {}, []
    for path in sorted(args.data_path.glob('*.json')):
        name = NAME.fullmatch(path.stem)
        if not name or name['action'] not in labels:
            stray.append(path)
            continue
        split = 'train' if name['view'] in TRAINING_VIEWS else 'val'
        recordings.append((split, path.stem, labels[name['action']]))
        performers[path.stem] = name['performer']
        jobs.append(Job(partial(read_one, read), str(path), (path.stem,)))
    if not jobs:
        raise cli.InputError(f'{args.data_path}: no a01_s01_e00_v01.json …; use --data_path')
    warn_of_flaws(read, [job.path for job in jobs])
    details = {'performers': performers, 'axes': args.axes}
    folder = args.out_folder or ROOT / 'data' / DATASETS['nwucla'].folder
    splits = pipeline.split_up(recordings)
    benchmark = pipeline.Benchmark('nwucla', 'xview', folder / 'xview', splits, details)
    pipeline.print_stray(stray)
    return pipeline.run([benchmark], jobs, args)


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--axes', choices=AXES, default='kinect', help='default kinect')
    pipeline.add_flags(parser, 'data/NW-UCLA', ROOT / 'data/NW-UCLA/all_sqe')
    return parser.parse_args(argv)


def read_file(path: str, axes: str) -> Poses:
    skeletons = json.loads(Path(path).read_text())['skeletons']
    return Poses(check_poses(np.array(skeletons), 'kinect20'), 'kinect20', axes)


if __name__ == '__main__':
    cli.run(main)
