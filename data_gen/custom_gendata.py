"""Prepare recordings of your own: files listed in a CSV -> the arrays of the data set `custom`.

    python -m data_gen.custom_gendata --recordings list.csv --joints coco17

list.csv has the columns path (relative to the list's folder, or absolute), label (the action, any
text), split (train or val) and, if known, performer. A path is one recording, in metres, best at 30
frames a second:
  .skeleton   the text format of NTU RGB+D (25 joints)
  .npy .npz   numbers (frames, joints, 3) or (frames, bodies, joints, 3), or with 2 for 3: then z
              is 0; of an .npz the array named `joints`, or the only one that fits
  .csv        a line per frame of bodies x joints x 3 numbers; the first line may be a header
  a folder    of OpenPose-like JSON, a file per frame; .json of Azure Kinect; .trc; .c3d: see
              data_gen/recordings.md, which says what to do with the output of twenty tools
A body that is not seen is all zeros; of more than two, the two that move most are taken. If the
third number is a score instead of z, --drop-score drops it. Skeletons other than that of NTU RGB+D
are mapped to its 25 joints, and --axes says which way x, y and z point (data_gen/joint_maps.py):
`kinect` (y up, x to the sensor's left, z away from it; for ntu25, kinect20 and msr20), `image` (y
down, x to the picture's right, z away; for all others but nuitrack), `zup` (x to the right, y away,
z up), `unity` (x to the right, y up, z away) or `mmpose3d`. Unusable files are skipped and listed
at the end.
"""

import argparse
import csv
import os
import sys
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

import tools.common.start  # noqa: E402, F401

import numpy as np  # noqa: E402

from data_gen import pipeline  # noqa: E402
from data_gen.joint_maps import AXES, SKELETONS  # noqa: E402
from data_gen.meaning import CLIPS, find_flaws  # noqa: E402
from data_gen.poses import read_poses  # noqa: E402
from data_gen.skeleton import read_xyz  # noqa: E402
from data_gen.tool_files import READERS  # noqa: E402
from data_gen.tracks import FPS, Poses, to_clip  # noqa: E402
from data_gen.workers import Job  # noqa: E402
from tools.common import cli  # noqa: E402

COLUMNS = ('path', 'label', 'split')
SPLITS = {'train': 'train', 'val': 'val', 'test': 'val'}
ENDINGS = ('.skeleton', '.npy', '.npz', '.csv', *READERS)  # a folder has none
POSE_FORMAT = """convert it by
import numpy as np; from pose_format import Pose
pose = Pose.read(open('{0}', 'rb').read()).get_components(['POSE_WORLD_LANDMARKS'])
size = pose.header.dimensions
np.save('{0}.npy', pose.body.data.filled(np.nan) / (size.width, size.height, 1))
and list that with --joints mediapipe33, and with --fps if it is not 30"""


class Recording(NamedTuple):
    """A line of the list."""

    name: str  # the path as written there
    file: str
    label: str
    split: str
    performer: str


class Options(NamedTuple):
    """How recordings are read: the flags of the same names."""

    joints: str
    axes: str | None  # None: as is usual
    drop_score: bool
    turn: bool | None  # None: where there may have been no sensor to face
    fps: int
    pixels: bool


def main(argv=None):
    args = parse_args(argv)
    recordings = read_list(args.recordings, args.joints)
    class_names = sorted({recording.label for recording in recordings}, key=by_number)
    print_summary(recordings)
    splits = pipeline.split_up(
        (each.split, each.name, class_names.index(each.label)) for each in recordings
    )
    folder = (args.out_folder or ROOT / 'data' / 'custom') / 'split'
    options = Options(args.joints, args.axes, args.drop_score, args.turn, args.fps, args.pixels)
    # checks: arrays of before them are prepared again
    details = {'class_names': class_names, **options._asdict(), 'checks': 2}
    if not args.pixels:
        del details['pixels']  # folders prepared before there was this flag have none
    details['axes'] = args.axes or SKELETONS[args.joints].axes
    if performers := {each.name: each.performer for each in recordings if each.performer}:
        details['performers'] = performers  # evaluation gives its intervals by performer
    read = partial(read_file, options=options)
    files = [recording.file for recording in recordings]
    warn_of_flaws(read, [file for file in files if not file.lower().endswith('.skeleton')])
    read = partial(read_one, read)
    jobs = [Job(read, recording.file, (recording.name,)) for recording in recordings]
    benchmark = pipeline.Benchmark('custom', 'split', folder, splits, details)
    return pipeline.run([benchmark], jobs, args)


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
    parser.add_argument(
        '--pixels',
        action='store_true',
        help='x and y of arrays are pixels: scale each recording to people of 1.5 m, as a folder of '
        'JSON; z is 0',
    )
    parser.add_argument(
        '--turn',
        action=argparse.BooleanOptionalAction,
        help='turn people about y, to face the sensor (default: of zup, unity, .trc and .c3d)',
    )
    parser.add_argument(
        '--fps', type=cli.positive_int, default=FPS, metavar='N', help='of arrays (default 30)'
    )
    pipeline.add_flags(parser, 'data/custom')
    args = parser.parse_args(argv)
    if not args.recordings.is_file():
        parser.error(f'--recordings {args.recordings}: no such file')
    if not (args.axes or SKELETONS[args.joints].axes):
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
            if unknown := [name for name in columns if name not in (*COLUMNS, 'performer')]:
                print(
                    f'warning: {path}: unknown column {", ".join(map(repr, unknown))}; known are '
                    f'{", ".join(COLUMNS)}, performer',
                    file=sys.stderr,
                )
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
    file = os.path.abspath(folder / name)
    ending = ending_of(file)
    if not label:
        raise ValueError('no label; write the name of the action')
    if split.lower() not in SPLITS:
        raise ValueError(f'the split is "{split}"; write train or val')
    if not os.path.exists(file) or not name:
        raise ValueError(
            f'there is no file "{name}"; write its path relative to the folder of the list'
        )
    if ending == '.pose':
        raise ValueError(f'{name}: {POSE_FORMAT.format(name)}')
    if ending == '.c3d' and not find_spec('ezc3d'):
        raise ValueError(f'{name} needs another package: pip install ezc3d')
    if ending not in ENDINGS:
        raise ValueError(f'{name} does not end in {" ".join(ENDINGS)}; convert it to one of them')
    if ending == '.skeleton' and joints != 'ntu25':
        raise ValueError(
            f'{name} has the joints ntu25, not {joints}; put such files in a list of their own'
        )
    return Recording(name, file, label, SPLITS[split.lower()], row.get('performer', ''))


def ending_of(path: str) -> str:
    """The ending of a file's name, in lower case; '' of a folder."""
    return '' if os.path.isdir(path) else os.path.splitext(path)[1].lower()


def by_number(text: str) -> tuple:
    """A sort key: 2 comes before 10, and numbers before words."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def print_summary(recordings: list[Recording]) -> None:
    """Print what the list holds, and a note if that makes scores meaningless."""
    train, val = (
        [recording for recording in recordings if recording.split == split]
        for split in ('train', 'val')
    )
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
    if len({name.casefold() for name in train_classes | val_classes}) < classes:
        print('note: some classes differ in upper and lower case only', file=sys.stderr)
    performers = [{recording.performer for recording in split} - {''} for split in (train, val)]
    if shared := sorted(set.intersection(*performers), key=by_number):
        who = (
            f'performer {shared[0]} is'
            if len(shared) == 1
            else f'performers {", ".join(cli.shorten(shared))} are'
        )
        print(f'note: {who} in both train and val', file=sys.stderr)


def warn_of_flaws(read, paths: list[str]) -> None:
    """Print what is probably wrong with the first files, as read(path) makes Poses of them."""
    clips = {}
    for path in paths[:CLIPS]:
        with suppress(Exception):  # an unusable file is listed at the end
            poses = read(path)
            clips.setdefault((poses.joints, poses.axes, poses.turn), []).append(poses)
    for alike in clips.values():
        for flaw in find_flaws(alike):
            print(f'warning: {flaw}', file=sys.stderr)


def read_file(path: str, options: Options) -> Poses:
    """The content of a file of another format than NTU RGB+D's, or of a folder."""
    joints, axes, drop_score, turn, fps, pixels = options
    ending = ending_of(path)
    if ending in READERS:
        poses = READERS[ending](path, joints, axes)
    else:
        bodies = read_poses(path, joints, drop_score, pixels)
        poses = Poses(bodies, joints, axes or SKELETONS[joints].axes)
    if poses.seconds is None and fps != FPS:
        poses = poses._replace(seconds=np.arange(len(poses.bodies)) / fps)
    if turn is None:
        turn = poses.axes in ('zup', 'unity') or ending in ('.trc', '.c3d')
    return poses._replace(turn=turn)


def read_one(read, path: str) -> list:
    """A job's read: the one recording of a file, (3, T, 25, 2), with notes if it is read(path)."""
    if path.lower().endswith('.skeleton'):
        return [read_xyz(path)]
    return [to_clip(read(path))]


if __name__ == '__main__':
    cli.run(main)
