"""Prepare IntelliRehabDS: its text files in `Simplified` -> the arrays of cross-subject evaluation.

    python -m data_gen.irds_gendata --data_path /disk/IntelliRehabDS/Simplified

IntelliRehabDS (Miron et al., Data 2021, 6(5), 46, CC BY 4.0) has nine rehabilitation gestures,
recorded by Kinect v2. A file has a line per frame: x, y and z in metres of 25 joints, in the order
of NTU RGB+D. Its name is SUBJECT_DATE_GESTURE_REPETITION_CORRECTNESS_POSITION.txt. Recordings of
correctness 3 ("poor") are left out.

The others get names of NTU RGB+D. The performer, 1 to 30, is the subject's place in the sorted ids,
the action is gesture + 1, and the replication counts a subject's recordings of a gesture in the
order of their file names. The training performers of NTU-60 train. Of a recording above 300
frames, 300 evenly spread ones are kept. Unusable files are skipped and listed at the end.
"""

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

import tools.common.start  # noqa: E402, F401

import numpy as np  # noqa: E402

from data_gen import pipeline  # noqa: E402
from data_gen.ntu_gendata import plan  # noqa: E402
from data_gen.preprocess import MAX_FRAME  # noqa: E402
from data_gen.protocols import DATASETS, Name  # noqa: E402
from data_gen.skeleton import (  # noqa: E402
    BODIES,
    FARTHEST,
    JOINTS,
    SkeletonError,
    parse_numbers,
    read_text,
)
from data_gen.workers import Job  # noqa: E402
from tools.common import cli  # noqa: E402

# The article counts 29 people; the published files have these 30 ids.
SUBJECTS = [*range(101, 108), *range(201, 208), *range(209, 218), *range(301, 308)]
FILE_NAME = re.compile(r'(\d{3})_\d+_([0-8])_\d+_([123])_.+\.txt')
POOR = '3'
COLUMNS = JOINTS * 3


def main(argv=None):
    args = parse_args(argv)
    recordings, num_poor, stray = find_recordings(args.data_path)
    if not any(map(is_simplified, recordings.values())):
        raise cli.InputError(
            f'{args.data_path}: no recording has {COLUMNS} numbers a line; --data_path is the '
            'folder Simplified, not RawData beside it'
        )
    out_folder = args.out_folder or ROOT / 'data' / DATASETS['irds'].folder
    benchmark = plan('irds', 'xsub', sorted(recordings), out_folder)
    jobs = [
        Job(read_one, str(recordings[name]), (f'{name}.skeleton',)) for name in sorted(recordings)
    ]
    print(f'{cli.plural(num_poor, "recording")} left out: poor, by the label of its authors')
    pipeline.print_stray(stray)
    return pipeline.run([benchmark], jobs, args)


def parse_args(argv):
    parser = cli.Parser(__doc__)
    pipeline.add_flags(parser, 'data/IntelliRehabDS', ROOT / 'data/irds_raw/Simplified')
    args = parser.parse_args(argv)
    if not args.data_path.is_dir():
        parser.error(f'--data_path {args.data_path}: no such folder')
    return args


def find_recordings(folder: Path) -> tuple[dict[Name, Path], int, list[Path]]:
    """({name: path} of the usable recordings, the number of poor ones, other files)."""
    recordings, num_poor, stray, replications = {}, 0, [], Counter()
    for path in sorted(folder.iterdir()):
        match = FILE_NAME.fullmatch(path.name)
        if match is None or int(match[1]) not in SUBJECTS:
            stray.append(path)
        elif match[3] == POOR:
            num_poor += 1
        else:
            performer = SUBJECTS.index(int(match[1])) + 1
            action = int(match[2]) + 1
            replications[performer, action] += 1
            recordings[Name(1, 1, performer, replications[performer, action], action)] = path
    return recordings, num_poor, stray


def is_simplified(path: Path) -> bool:
    """Whether a file begins with a line of coordinates. Those of RawData, which have the same
    names, do not.
    """
    with open(path, errors='replace') as file:
        return file.readline().count(',') == COLUMNS - 1


def read_one(path: str) -> list:
    """A job's read: the one recording of a file, (3, T, 25, 2), T at most 300; SkeletonError names
    the line that is not 75 finite numbers.
    """
    lines = read_text(path).replace(',', ' ').rstrip().split('\n')
    frames, bad = parse_numbers(lines, COLUMNS, limit=FARTHEST)
    if frames is None:
        raise SkeletonError(f'line {bad + 1}: not {COLUMNS} finite numbers within {FARTHEST} m')
    if not frames.any():
        raise SkeletonError('all coordinates are zero')
    kept = np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAME)).round().astype(int)
    bodies = np.zeros((BODIES, len(kept), JOINTS, 3))
    bodies[0] = frames[kept].reshape(-1, JOINTS, 3)
    return [bodies.transpose(3, 1, 2, 0)]


if __name__ == '__main__':
    cli.run(main)
