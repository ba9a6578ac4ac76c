"""Prepare recordings of your own: files listed in a CSV -> the arrays of the data set `custom`.

    python data_gen/custom_gendata.py --recordings list.csv --joints coco17

list.csv has the columns path (from the list's own folder, or absolute), label (the action, any text), part (train or
val) and, if known, performer. A path is one recording, in metres, best at 30 frames a second:
  .skeleton   the text format of NTU RGB+D (25 joints)
  .npy .npz   numbers (frames, joints, 3) or (frames, bodies, joints, 3), or with 2 for 3: then z is 0; of an .npz the
              array named `joints`, or the first
  .csv        a line per frame of bodies x joints x 3 numbers; the first line may be a header
A body that is not seen is all zeros; of more than two the two liveliest are taken. Other skeletons than that of NTU
RGB+D are mapped to its 25 joints (data_gen/joint_maps.py). The axes are `kinect` (y up, x to the sensor's left, z away
from it) for ntu25 and kinect20, and `image` (y down, x to the picture's right, z away from the camera) for coco17 and
mediapipe33, unless --axes says otherwise. Unusable files are skipped and listed at the end.
"""
import csv
import os
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

from data_gen import cli, pipeline  # noqa: E402
from data_gen.joint_maps import AXES, SKELETONS, to_ntu  # noqa: E402
from data_gen.poses import read_poses, two_bodies  # noqa: E402
from data_gen.protocols import DATASETS  # noqa: E402
from data_gen.skeleton import SkeletonError, read_xyz  # noqa: E402
from data_gen.workers import Job  # noqa: E402

COLUMNS = ('path', 'label', 'part')
PARTS = {'train': 'train', 'val': 'val', 'test': 'val'}
ENDINGS = ('.skeleton', '.npy', '.npz', '.csv')


class Recording(NamedTuple):
    """A line of the list; `name` is its path as written there."""
    name: str
    file: str
    label: str
    part: str
    performer: str


def main(argv=None):
    args = parse(argv)
    recordings = read_list(args.recordings, args.joints)
    class_names = sorted({recording.label for recording in recordings}, key=by_number)
    note(recordings)
    parts = {part: ([recording.name for recording in recordings if recording.part == part],
                    [class_names.index(recording.label) for recording in recordings if recording.part == part])
             for part in ('train', 'val')}
    dataset = DATASETS['custom']
    name, = dataset.benchmarks
    folder = (args.out_folder or ROOT / 'data' / dataset.folder) / name
    about = {'class_names': class_names, 'joints': args.joints, 'axes': args.axes}
    read = partial(read_one, joints=args.joints, axes=args.axes)
    jobs = [Job(read, recording.file, (recording.name,)) for recording in recordings]
    return pipeline.run([pipeline.Benchmark('custom', name, folder, parts, about=about)], jobs, args)


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--recordings', type=Path, required=True, metavar='LIST.csv', help='the list of recordings')
    parser.add_argument('--joints', choices=SKELETONS, default='ntu25', help='the files\' skeleton (default ntu25)')
    parser.add_argument('--axes', choices=AXES, help='which way x, y and z point (default: by skeleton, see above)')
    parser.add_argument('--out_folder', type=Path, metavar='FOLDER',
                        help="the data set's own folder (default: data/custom)")
    pipeline.add_flags(parser)
    args = parser.parse_args(argv)
    if not args.recordings.is_file():
        parser.error(f'--recordings {args.recordings}: no such file')
    args.axes = args.axes or SKELETONS[args.joints].axes
    return args


def read_list(path, joints):
    """The Recordings of a list, in its order; InputError, with the line, for a mistake in the list itself."""
    with open(path, newline='', encoding='utf-8-sig') as file:
        reader, line_of, recordings = csv.DictReader(file), {}, []
        try:
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            if absent := [name for name in COLUMNS if name not in reader.fieldnames]:
                raise ValueError(f'no column {absent[0]}; the first line must be {",".join(COLUMNS)}[,performer]')
            for row in reader:
                recording = read_row(row, path.parent, joints)
                first = line_of.setdefault(recording.file, reader.line_num)
                if first != reader.line_num:
                    raise ValueError(f'{recording.name} is on line {first} already; list each recording once')
                recordings.append(recording)
            if not recordings:
                raise ValueError('no recording follows; write a line for each')
        except UnicodeDecodeError as error:
            raise cli.InputError(f'{path}: not UTF-8 text; save the list as such') from error
        except (ValueError, csv.Error) as error:
            raise cli.InputError(f'{path}:{max(reader.line_num, 1)}: {error}') from error
    return recordings


def read_row(row, folder, joints):
    """One line {column: text} as a Recording; ValueError for a mistake in it."""
    if None in row or None in row.values():
        raise ValueError('not as many fields as columns; put a field with a comma in quotes')
    row = {column: text.strip() for column, text in row.items()}
    name, label, part = (row[column] for column in COLUMNS)
    file, ending = os.path.abspath(folder / name), os.path.splitext(name)[1].lower()
    if not label:
        raise ValueError('no label; write the name of the action')
    if part.lower() not in PARTS:
        raise ValueError(f'the part is "{part}"; write train or val')
    if not os.path.isfile(file):
        raise ValueError(f'there is no file "{name}"; write its path from the folder of the list')
    if ending not in ENDINGS:
        raise ValueError(f'{name} is none of {" ".join(ENDINGS)}; convert it to one of them')
    if ending == '.skeleton' and joints != 'ntu25':
        raise ValueError(f'{name} has the joints ntu25, not {joints}; list other files in a list of their own')
    return Recording(name, file, label, PARTS[part.lower()], row.get('performer', ''))


def by_number(text):
    """A sort key: 2 comes before 10, and numbers before words."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def note(recordings):
    """Say what the list holds, and what of it would make scores mean little."""
    train, val = ([recording for recording in recordings if recording.part == part] for part in ('train', 'val'))
    classes, others = ({recording.label for recording in part} for part in (train, val))
    print(f'{len(train)} train + {len(val)} val recordings of {len(classes | others)} classes')
    if unknown := sorted(others - classes, key=by_number):
        print(f'note: val has classes that train has not: {", ".join(unknown)}', file=sys.stderr)
    performers, others = ({recording.performer for recording in part} - {''} for part in (train, val))
    if shared := sorted(performers & others, key=by_number):
        print(f'note: performers both in train and in val: {", ".join(shared)}', file=sys.stderr)


def read_one(path, names, joints, axes):
    """A job's read: the one recording of a file."""
    try:
        if path.lower().endswith('.skeleton'):
            return [read_xyz(path)]
        return [two_bodies(to_ntu(read_poses(path, len(SKELETONS[joints].names)), joints, axes))]
    except SkeletonError as error:
        return [error]


if __name__ == '__main__':
    cli.run(main)
