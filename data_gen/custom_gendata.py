"""Prepare recordings of your own: files listed in a CSV -> the arrays of the data set `custom`.

    python -m data_gen.custom_gendata --recordings list.csv --joints coco17

list.csv has the columns path (relative to the list's folder, or absolute), label (the action, any text), split (train
or val) and, if known, performer. A path is one recording, in metres, best at 30 frames a second:
  .skeleton   the text format of NTU RGB+D (25 joints)
  .npy .npz   numbers (frames, joints, 3) or (frames, bodies, joints, 3), or with 2 for 3: then z is 0; of an .npz the
              array named `joints`, or the first
  .csv        a line per frame of bodies x joints x 3 numbers; the first line may be a header
A body that is not seen is all zeros; of more than two, the two that move most are taken. If the third number is a score
instead of z, --drop-score drops it. Skeletons other than that of NTU RGB+D are mapped to its 25 joints
(data_gen/joint_maps.py). The axes are `kinect` (y up, x to the sensor's left, z away from it) for ntu25 and kinect20,
and `image` (y down, x to the picture's right, z away from the camera) for coco17, body25 and mediapipe33, unless --axes
says otherwise. Unusable files are skipped and listed at the end.
"""
import csv
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

from data_gen import cli, pipeline  # noqa: E402
from data_gen.joint_maps import AXES, SKELETONS, to_ntu  # noqa: E402
from data_gen.skeleton import BODIES, PARENTS, SkeletonError, energy, read_xyz  # noqa: E402
from data_gen.workers import Job  # noqa: E402

COLUMNS = ('path', 'label', 'split')
SPLITS = {'train': 'train', 'val': 'val', 'test': 'val'}
ENDINGS = ('.skeleton', '.npy', '.npz', '.csv')
FARTHEST, LARGEST = 100, 20  # metres, from the origin and of a body: anything larger is in another unit
OUTSIDE = 0.1  # of a picture, by keypoints whose x and y are scaled to 0..1
BONE_RATIO, SAMPLE = 0.6, 20  # see `warn_of_bones`
SHORT_BONES = [2, 7, 11, 15, 19, 21, 22, 23, 24]  # by their outer joints: neck, hands, feet
LONG_BONES = [5, 6, 9, 10, 13, 14, 17, 18]  # arms and legs


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
    train, val = ([recording for recording in recordings if recording.split == split] for split in ('train', 'val'))
    print_summary(train, val)
    splits = {name: ([each.name for each in split], [class_names.index(each.label) for each in split])
              for name, split in (('train', train), ('val', val))}
    folder = (args.out_folder or ROOT / 'data' / 'custom') / 'split'
    details = {'class_names': class_names, 'joints': args.joints, 'axes': args.axes}
    details |= {'drop_score': True} if args.drop_score else {}  # older folders have no such entry
    if args.joints == 'ntu25':
        warn_of_bones(recordings, args.drop_score)
    jobs = [Job(partial(read_one, joints=args.joints, axes=args.axes, drop_score=args.drop_score), recording.file,
                (recording.name,)) for recording in recordings]
    benchmark = pipeline.Benchmark('custom', 'split', folder, splits, details)
    return pipeline.run([benchmark], jobs, args.layout, args.overwrite, args.workers)


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--recordings', type=Path, required=True, metavar='LIST.csv', help='the list of recordings')
    parser.add_argument('--joints', choices=SKELETONS, default='ntu25', help="the files' skeleton (default ntu25)")
    parser.add_argument('--axes', choices=AXES, help='which way x, y and z point (default: by skeleton, see above)')
    parser.add_argument('--drop-score', action='store_true', help='x, y, score in arrays: drop the score; z is 0')
    pipeline.add_flags(parser, 'data/custom')
    args = parser.parse_args(argv)
    if not args.recordings.is_file():
        parser.error(f'--recordings {args.recordings}: no such file')
    args.axes = args.axes or SKELETONS[args.joints].axes
    return args


def read_list(path: Path, joints: str) -> list[Recording]:
    """The Recordings of a list, in its order; InputError, with the line, for a mistake in the list itself."""
    content = path.read_bytes()
    encoding = 'utf-16' if content.startswith((b'\xff\xfe', b'\xfe\xff')) else 'utf-8-sig'
    header = content.decode(encoding, 'replace').partition('\n')[0]
    with open(path, newline='', encoding=encoding) as file:
        reader = csv.DictReader(file, delimiter=max(',;\t', key=header.count))
        line_of, recordings = {}, []
        try:
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            if 'split' not in columns:  # its name until version 1.0
                columns = ['split' if name == 'part' else name for name in columns]
            if absent := [name for name in COLUMNS if name not in columns]:
                raise ValueError(f'no column {absent[0]}; the first line must be {",".join(COLUMNS)}[,performer]')
            reader.fieldnames = columns
            for row in reader:
                recording = read_row(row, path.parent, joints)
                first = line_of.setdefault(recording.file, reader.line_num)
                if first != reader.line_num:
                    raise ValueError(f'{recording.name} is on line {first} already; list each recording once')
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
        raise ValueError('the number of fields is not that of columns; put a field that has a comma in quotes')
    row = {column: text.strip() for column, text in row.items()}
    name, label, split = (row[column] for column in COLUMNS)
    file, ending = os.path.abspath(folder / name), os.path.splitext(name)[1].lower()
    if not label:
        raise ValueError('no label; write the name of the action')
    if split.lower() not in SPLITS:
        raise ValueError(f'the split is "{split}"; write train or val')
    if not os.path.isfile(file):
        raise ValueError(f'there is no file "{name}"; write its path relative to the folder of the list')
    if ending not in ENDINGS:
        raise ValueError(f'{name} does not end in {" ".join(ENDINGS)}; convert it to one of them')
    if ending == '.skeleton' and joints != 'ntu25':
        raise ValueError(f'{name} has the joints ntu25, not {joints}; put such files in a list of their own')
    return Recording(name, file, label, SPLITS[split.lower()], row.get('performer', ''))


def by_number(text: str) -> tuple:
    """A sort key: 2 comes before 10, and numbers before words."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def print_summary(train: list[Recording], val: list[Recording]) -> None:
    """Print what the list holds, and a note if that makes scores meaningless."""
    train_classes, val_classes = ({recording.label for recording in split} for split in (train, val))
    classes = len(train_classes | val_classes)
    print(f'{len(train)} train + {len(val)} val recordings of {classes} class{"es" * (classes != 1)}')
    if not val:
        print('warning: no line is val, so evaluation will have no test clips', file=sys.stderr)
    if unknown := sorted(val_classes - train_classes, key=by_number):
        print(f'note: these classes are in val but not in train: {", ".join(cli.shorten(unknown))}', file=sys.stderr)
    performers = [{recording.performer for recording in split} - {''} for split in (train, val)]
    if shared := sorted(set.intersection(*performers), key=by_number):
        who = f'performer {shared[0]} is' if len(shared) == 1 else f'performers {", ".join(cli.shorten(shared))} are'
        print(f'note: {who} in both train and val', file=sys.stderr)


def warn_of_bones(recordings: list[Recording], drop_score: bool) -> None:
    """Warn if most arrays, of the first SAMPLE, have bones that are not those of NTU RGB+D's joints.

    Its hands, feet and neck are short beside its arms and legs: the ratio of their mean lengths is 0.16 to 0.39 in the
    2,577 recordings of IntelliRehabDS (0.12 to 0.41 without z). It is 2.3 for BODY_25, and about 1 for joints in any
    order, as in the made recordings of tests/reference (0.7 to 1.3), whose coordinates are random.
    """
    ratios = []
    for recording in [each for each in recordings if not each.file.lower().endswith('.skeleton')][:SAMPLE]:
        with suppress(Exception):  # an unusable file is listed at the end
            poses = read_poses(recording.file, 'ntu25', drop_score)
            seen = poses[poses.any((2, 3))]
            length = np.median(np.linalg.norm(seen - seen[:, list(PARENTS)], axis=-1), 0)
            ratios.append(length[SHORT_BONES].mean() / length[LONG_BONES].mean())
    if ratios and np.median(ratios) > BONE_RATIO:
        print("warning: the bones of these 25 joints are not as long as NTU RGB+D's: are they in another order? "
              "OpenPose's needs --joints body25", file=sys.stderr)


def read_one(path: str, joints: str, axes: str, drop_score: bool) -> list:
    """A job's read: the one recording of a file, (3, T, 25, 2): the two bodies that move most, the liveliest first."""
    if path.lower().endswith('.skeleton'):
        return [read_xyz(path)]
    bodies = to_ntu(read_poses(path, joints, drop_score), joints, axes).swapaxes(0, 1)
    bodies = np.pad(bodies, ((0, max(0, BODIES - len(bodies))), (0, 0), (0, 0), (0, 0)))
    liveliest = np.argsort([energy(body) for body in bodies])[::-1][:BODIES]
    return [bodies[liveliest].transpose(3, 1, 2, 0)]


def read_poses(path: str, skeleton: str, drop_score: bool = False) -> np.ndarray:
    """The poses (T, M, J, 3) in an .npy, .npz or .csv of SKELETONS[skeleton]; SkeletonError for any other content."""
    joints = len(SKELETONS[skeleton].names)
    poses = read_numbers(path, joints) if path.lower().endswith('.csv') else read_array(path)
    if poses.dtype.kind not in 'iuf' or poses.ndim not in (3, 4) or poses.shape[-2:] not in ((joints, 3), (joints, 2)):
        raise SkeletonError(f'{poses.dtype} {poses.shape}, not numbers (frames, {joints}, 3 or 2) or '
                            f'(frames, bodies, {joints}, 3 or 2){suggest(poses.shape)}')
    if poses.ndim == 4 and (poses.shape[1] > 10 or 0 < len(poses) < poses.shape[1]):
        axes = (1, 3, 2, 0) if len(poses) == 3 and poses.shape[3] <= 2 else (1, 0, 2, 3)
        raise SkeletonError(f'{poses.shape} would be {poses.shape[1]} bodies in {len(poses)} frames; '
                            f'array.transpose{axes} puts it in the order (frames, bodies, joints, 3)')
    if not poses.any():
        raise SkeletonError('no body in any frame')
    poses = poses.astype(np.float64).reshape(len(poses), -1, *poses.shape[-2:])
    finite = np.isfinite(poses).all((1, 2, 3))
    if not finite.all():
        raise SkeletonError(f'frame {finite.argmin()} (from 0) is not finite; a body that is not seen is all zeros')
    if drop_score:
        poses = poses[..., :2]
    check_numbers(poses)
    return np.pad(poses, ((0, 0), (0, 0), (0, 0), (0, 3 - poses.shape[-1])))


def suggest(shape: tuple) -> str:
    """Which --joints an array of another number of joints may have."""
    fitting = [name for name, skeleton in SKELETONS.items() if len(shape) > 2 and len(skeleton.names) == shape[-2]]
    return f'; {shape[-2]} joints need --joints {" or ".join(fitting)}' if fitting else ''


def check_numbers(poses: np.ndarray) -> None:
    """SkeletonError if poses (T, M, J, 3 or 2) have scores for z, or another unit than metres."""
    bodies = poses[poses.any((2, 3))]
    size, farthest = np.median(np.ptp(bodies, 1).max(1)), np.abs(poses).max()
    xy, third = poses[..., :2], poses[..., 2:]
    scaled = xy.min() >= -OUTSIDE and xy.max() <= 1 + OUTSIDE
    if third.any() and third.min() >= 0 and third.max() <= 1 and (scaled or size > LARGEST):
        raise SkeletonError('the third number is always in 0 to 1, like a score, not a z in metres; --drop-score reads '
                            'x and y only')
    if size > LARGEST or farthest > FARTHEST:
        raise SkeletonError(f'a body measures {size:.1f} and coordinates go up to {farthest:.1f}: they must be metres. '
                            'Divide millimetres by 1000, and pixels so that people are about 1.7 tall')


def read_array(path: str) -> np.ndarray:
    """The array of an .npy; of an .npz the one named `joints`, or the first."""
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return loaded['joints' if 'joints' in loaded.files else loaded.files[0]]


def read_numbers(path: str, joints: int) -> np.ndarray:
    """The lines of a .csv (T, M, J, 3); the first may be a header."""
    rows = []
    for line, text in enumerate(Path(path).read_text('utf-8-sig', 'replace').rstrip().split('\n'), 1):
        try:
            rows.append([float(cell) for cell in text.split(',')])
        except ValueError:
            if line > 1 or text.startswith(tuple('+-.0123456789')):
                raise SkeletonError(f'line {line}: not numbers separated by commas') from None
    columns = {len(row) for row in rows}
    if len(columns) != 1 or max(columns) % (3 * joints):
        raise SkeletonError(f'{" or ".join(map(str, sorted(columns))) or "no"} columns, not {3 * joints} for each body')
    return np.array(rows).reshape(len(rows), -1, joints, 3)


if __name__ == '__main__':
    cli.run(main)
