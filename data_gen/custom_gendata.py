"""Prepare recordings of your own: files listed in a CSV -> the arrays of the data set `custom`.

    python -m data_gen.custom_gendata --recordings list.csv --joints coco17

list.csv has the columns path (relative to the list's folder, or absolute), label (the action, any
text), split (train or val) and, if known, performer. A path is one recording, in metres, best at 30
frames a second:
  .skeleton   the text format of NTU RGB+D (25 joints)
  .npy .npz   numbers (frames, joints, 3) or (frames, bodies, joints, 3), or with 2 for 3: then z is 0; of an .npz the
              array named `joints`, or the first
  .csv        a line per frame of bodies x joints x 3 numbers; the first line may be a header
A body that is not seen is all zeros; of more than two, the two that move most are taken. If the
third number is a score instead of z, --drop-score drops it. Skeletons other than that of NTU RGB+D
are mapped to its 25 joints, and --axes says which way x, y and z point (data_gen/joint_maps.py):
`kinect` (y up, x to the sensor's left, z away from it; for ntu25, kinect20 and msr20), `image` (y
down, x to the picture's right, z away; for all others but nuitrack), `zup` (x to the right, y away,
z up), `unity` (x to the right, y up, z away) or `mmpose3d`. Unusable files are skipped and listed
at the end.
"""

import csv
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

import tools.common.start  # noqa: E402, F401

import numpy as np  # noqa: E402

from data_gen import pipeline  # noqa: E402
from data_gen.joint_maps import AXES, SKELETONS, to_ntu  # noqa: E402
from data_gen.poses import BONE_RATIO, bone_ratio, read_poses  # noqa: E402
from data_gen.skeleton import read_xyz, two_liveliest  # noqa: E402
from data_gen.workers import Job  # noqa: E402
from tools.common import cli  # noqa: E402

COLUMNS = ('path', 'label', 'split')
SPLITS = {'train': 'train', 'val': 'val', 'test': 'val'}
ENDINGS = ('.skeleton', '.npy', '.npz', '.csv')


class Recording(NamedTuple):
    """A line of the list."""

    name: str  # the path as written there
    file: str
    label: str
    split: str
    performer: str


def main(argv=None):
    args = parse_args(argv)
    recordings = read_list(args.recordings, args.joints)
    class_names = sorted({recording.label for recording in recordings}, key=by_number)
    train, val = (
        [recording for recording in recordings if recording.split == split]
        for split in ('train', 'val')
    )
    print_summary(train, val)
    splits = {
        name: ([each.name for each in split], [class_names.index(each.label) for each in split])
        for name, split in (('train', train), ('val', val))
    }
    folder = (args.out_folder or ROOT / 'data' / 'custom') / 'split'
    details = {'class_names': class_names, 'joints': args.joints, 'axes': args.axes}
    details |= {'drop_score': True} if args.drop_score else {}  # older folders have no such entry
    if performers := {each.name: each.performer for each in recordings if each.performer}:
        details['performers'] = performers  # evaluation gives its intervals by performer
    if args.joints == 'ntu25':
        warn_of_bones(recordings, args.drop_score)
    jobs = [
        Job(
            partial(read_one, joints=args.joints, axes=args.axes, drop_score=args.drop_score),
            recording.file,
            (recording.name,),
        )
        for recording in recordings
    ]
    benchmark = pipeline.Benchmark('custom', 'split', folder, splits, details)
    return pipeline.run([benchmark], jobs, args.layout, args.overwrite, args.workers)


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument(
        '--recordings', type=Path, required=True, metavar='LIST.csv', help='the list of recordings'
    )
    parser.add_argument(
        '--joints', choices=SKELETONS, default='ntu25', help="the files' skeleton (default ntu25)"
    )
    parser.add_argument(
        '--axes', choices=AXES, help='which way x, y and z point (default: by skeleton, see above)'
    )
    parser.add_argument(
        '--drop-score', action='store_true', help='x, y, score in arrays: drop the score; z is 0'
    )
    pipeline.add_flags(parser, 'data/custom')
    args = parser.parse_args(argv)
    if not args.recordings.is_file():
        parser.error(f'--recordings {args.recordings}: no such file')
    args.axes = args.axes or SKELETONS[args.joints].axes
    if not args.axes:
        parser.error(f'--joints {args.joints}: say by --axes which way x, y and z point')
    return args


def read_list(path: Path, joints: str) -> list[Recording]:
    """The Recordings of a list, in its order; InputError, with the line, for a mistake in the list
    itself.
    """
    content = path.read_bytes()
    encoding = 'utf-16' if content.startswith((b'\xff\xfe', b'\xfe\xff')) else 'utf-8-sig'
    header = content.decode(encoding, 'replace').partition('\n')[0]
    with open(path, newline='', encoding=encoding) as file:
        reader = csv.DictReader(file, delimiter=max(',;\t', key=header.count))
        line_of, recordings = {}, []
        try:
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            if absent := [name for name in COLUMNS if name not in columns]:
                raise ValueError(
                    f'no column {absent[0]}; the first line must be {",".join(COLUMNS)}[,performer]'
                )
            reader.fieldnames = columns
            for row in reader:
                recording = read_row(row, path.parent, joints)
                first = line_of.setdefault(recording.file, reader.line_num)
                if first != reader.line_num:
                    raise ValueError(
                        f'{recording.name} is on line {first} already; list each recording once'
                    )
                recordings.append(recording)
            if not recordings:
                raise ValueError('no recordings; write a line for each')
        except UnicodeDecodeError as error:
            raise cli.InputError(f'{path}: not UTF-8 text; save the list as UTF-8') from error
        except (ValueError, csv.Error) as error:
            raise cli.InputError(f'{path}:{max(reader.line_num, 1)}: {error}') from error
    return recordings


def read_row(row: dict[str, str], folder: Path, joints: str) -> Recording:
    """One line {column: text} as a Recording; ValueError for a mistake in it."""
    if None in row or None in row.values():
        raise ValueError(
            'the number of fields is not that of columns; put a field that has a comma in quotes'
        )
    row = {column: text.strip() for column, text in row.items()}
    name, label, split = (row[column] for column in COLUMNS)
    file, ending = os.path.abspath(folder / name), os.path.splitext(name)[1].lower()
    if not label:
        raise ValueError('no label; write the name of the action')
    if split.lower() not in SPLITS:
        raise ValueError(f'the split is "{split}"; write train or val')
    if not os.path.isfile(file):
        raise ValueError(
            f'there is no file "{name}"; write its path relative to the folder of the list'
        )
    if ending not in ENDINGS:
        raise ValueError(f'{name} does not end in {" ".join(ENDINGS)}; convert it to one of them')
    if ending == '.skeleton' and joints != 'ntu25':
        raise ValueError(
            f'{name} has the joints ntu25, not {joints}; put such files in a list of their own'
        )
    return Recording(name, file, label, SPLITS[split.lower()], row.get('performer', ''))


def by_number(text: str) -> tuple:
    """A sort key: 2 comes before 10, and numbers before words."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def print_summary(train: list[Recording], val: list[Recording]) -> None:
    """Print what the list holds, and a note if that makes scores meaningless."""
    train_classes, val_classes = (
        {recording.label for recording in split} for split in (train, val)
    )
    classes = len(train_classes | val_classes)
    print(
        f'{len(train)} train + {len(val)} val recordings of {classes} class{"es" * (classes != 1)}'
    )
    if not val:
        print('warning: no line is val, so evaluation will have no test clips', file=sys.stderr)
    if unknown := sorted(val_classes - train_classes, key=by_number):
        print(
            f'note: these classes are in val but not in train: {", ".join(cli.shorten(unknown))}',
            file=sys.stderr,
        )
    performers = [{recording.performer for recording in split} - {''} for split in (train, val)]
    if shared := sorted(set.intersection(*performers), key=by_number):
        who = (
            f'performer {shared[0]} is'
            if len(shared) == 1
            else f'performers {", ".join(cli.shorten(shared))} are'
        )
        print(f'note: {who} in both train and val', file=sys.stderr)


def warn_of_bones(recordings: list[Recording], drop_score: bool) -> None:
    """Warn if most arrays, of the first 20, have bones that are not those of NTU RGB+D's joints."""
    ratios = []
    for recording in [each for each in recordings if not each.file.lower().endswith('.skeleton')][
        :20
    ]:
        with suppress(Exception):  # an unusable file is listed at the end
            ratios.append(bone_ratio(read_poses(recording.file, 'ntu25', drop_score)))
    if ratios and np.median(ratios) > BONE_RATIO:
        print(
            "warning: the bones of these 25 joints are not as long as NTU RGB+D's: are they in "
            'another order? '
            "OpenPose's needs --joints body25",
            file=sys.stderr,
        )


def read_one(path: str, joints: str, axes: str, drop_score: bool) -> list:
    """A job's read: the one recording of a file, (3, T, 25, 2): the two bodies that move most, the
    liveliest first.
    """
    if path.lower().endswith('.skeleton'):
        return [read_xyz(path)]
    return [
        two_liveliest(to_ntu(read_poses(path, joints, drop_score), joints, axes).swapaxes(0, 1))
    ]


if __name__ == '__main__':
    cli.run(main)
