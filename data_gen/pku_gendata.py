"""Prepare PKU-MMD: skeletons and labels of whole videos -> the arrays of each protocol, one
recording per action.

Phase 2:  python -m data_gen.pku_gendata --data_path /disk/pku_mmd_2
Phase 1:  python -m data_gen.pku_gendata --data_path /disk/pku_mmd_1 --dataset pku1

The folder is as published: skeleton/NAME.txt (a line of 2 bodies x 25 joints x 3 coordinates per
frame), label/NAME.txt (a line `class,start,end,confidence` per action), and a file per protocol
whose line 2 lists the training videos. Line i of a label file, from 0, becomes the recording
NAME.txt_i. Actions may overlap: all are kept, as in CMD, HaLP and MAMP. Unusable actions are
skipped and listed at the end.
"""

import re
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

import tools.common.start  # noqa: E402, F401

import numpy as np  # noqa: E402

from data_gen import pipeline  # noqa: E402
from data_gen.ntu_gendata import ARCHIVES  # noqa: E402
from data_gen.preprocess import MAX_FRAME  # noqa: E402
from data_gen.protocols import DATASETS  # noqa: E402
from data_gen.skeleton import BODIES, JOINTS, SkeletonError, parse_numbers, read_text  # noqa: E402
from data_gen.workers import Job  # noqa: E402
from tools.common import cli  # noqa: E402

DEFAULT_FOLDERS = {'pku1': ROOT / 'data' / 'pku_mmd_1', 'pku2': ROOT / 'data' / 'pku_mmd_2'}
SPLIT_FILES = {'xsub': ('cross_subject', 'cross-subject'), 'xview': ('cross_view', 'cross-view')}
# Where a download has its text files, besides skeleton/, label/ and beside them:
# Data/PKU_Skeleton_Renew/, Split/ …
PLACES = {'skeleton': ('*', '[Dd]ata/*', '[Ss]keleton*/*'), 'label': ('*', '[Ll]abel*/*')}
PHASES = {'pku1': ('',), 'pku2': ('_v2', '-v2', '')}
CLASSES = DATASETS['pku2'].classes
OFFICIAL_ACTIONS = {
    'pku1': 21545
}  # Liu et al., arXiv 1703.07475; nobody gives the number of phase 2
COLUMNS = BODIES * JOINTS * 3


class Action(NamedTuple):
    """A line (from 1) of a label file: label from 0, of frames[start:end]; why it is unusable; what
    it overlaps.
    """

    line: int
    label: int = -1
    start: int = 0
    end: int = 0
    flaw: str = ''
    overlap: str = ''


def main(argv=None):
    args = parse_args(argv)
    skeletons, labels = (
        {path.stem: path for path in find_folder(args.data_path, word).glob('*.txt')}
        for word in PLACES
    )
    videos = {
        video: read_actions(labels[video], args.skip_overlapping) if video in labels else {}
        for video in sorted(skeletons)
    }
    out_folder = args.out_folder or ROOT / 'data' / DATASETS[args.dataset].folder
    benchmarks = [
        plan(args, name, out_folder / name, videos) for name in dict.fromkeys(args.benchmark)
    ]
    jobs = [
        Job(partial(read_video, list(actions.values())), str(skeletons[video]), tuple(actions))
        for video, actions in videos.items()
        if actions
    ]
    code = pipeline.run(benchmarks, jobs, args)

    for benchmark in benchmarks:
        print_list(
            f'training videos of {benchmark.name} are missing', benchmark.details['missing_videos']
        )
    print_list(
        'videos left out, without a label file or an action in it',
        [video for video, actions in videos.items() if not actions],
    )
    print_list('videos left out, without a skeleton', sorted(labels.keys() - skeletons.keys()))
    found = [action for actions in videos.values() for action in actions.values()]
    overlapping = [action for action in found if action.overlap]
    print_count(args.dataset, len(found), len(overlapping))
    return code


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('--dataset', choices=DEFAULT_FOLDERS, default='pku2', help='phase 1 or 2 (default pku2)')
    flag(
        '--data_path',
        '--data-path',
        type=Path,
        metavar='FOLDER',
        help='with skeleton/, label/ … (default: data/pku_mmd_2 or _1)',
    )
    flag(
        '--benchmark',
        nargs='+',
        choices=SPLIT_FILES,
        default=tuple(SPLIT_FILES),
        help='default: both',
    )
    flag(
        '--skip-overlapping',
        action='store_true',
        help='skip actions that overlap an earlier one, and list them',
    )
    pipeline.add_flags(parser, 'data/PKU-MMD-2 or -1')
    args = parser.parse_args(argv)
    args.data_path = args.data_path or DEFAULT_FOLDERS[args.dataset]
    return args


def find_folder(data_path: Path, word: str) -> Path:
    """The folder `word`, or the one of text files whose name has that word; InputError if there is
    none, or several.
    """
    if any((data_path / word).glob('*.txt')):
        return data_path / word
    found = {
        place
        for pattern in PLACES[word]
        for place in data_path.glob(pattern)
        if word in place.name.lower() and any(place.glob('*.txt'))
    }
    if len(found) == 1:
        return found.pop()
    if found:
        raise cli.InputError(
            f'{data_path} has several folders of {word} files, remove all but one: '
            + ', '.join(sorted(place.relative_to(data_path).as_posix() for place in found))
        )
    below = next(
        (
            place.parent
            for place in sorted(data_path.glob('*/*'))
            if word in place.name.lower() and place.is_dir()
        ),
        None,
    )
    files = [data_path, *sorted(data_path.glob('*')), *sorted(data_path.glob('*/*'))]
    archive = next((path for path in files if path.suffix.lower() in ARCHIVES), None)
    advice = '--data_path holds skeleton/ and label/'
    if below:
        advice = f'use --data_path {below}'
    if archive:
        advice = f'unpack {archive} first'
    raise cli.InputError(f'{data_path / word}: no such folder, or no .txt file in it; {advice}')


def plan(
    args: Namespace, name: str, folder: Path, videos: dict[str, dict[str, Action]]
) -> pipeline.Benchmark:
    """One benchmark, by its split file; videos {video: {recording: Action}}."""
    path, training = read_split(args.data_path, args.dataset, name)
    if not any(videos.get(video) for video in training):
        raise cli.InputError(
            f'{path}: none of its {len(training)} training videos has a skeleton and a label file'
        )
    # The label of a flawed line is -1, so --skip-overlapping changes the plan, and cannot resume a
    # run without it.
    splits = pipeline.split_up(
        ('train' if video in training else 'val', recording, -1 if action.flaw else action.label)
        for video, actions in videos.items()
        for recording, action in actions.items()
    )
    details = {
        'split': path.name,
        'missing_videos': [video for video in training if video not in videos],
        'overlapping': 'skipped' if args.skip_overlapping else 'kept',
    }
    return pipeline.Benchmark(args.dataset, name, folder, splits, details)


def read_split(folder: Path, dataset: str, benchmark: str) -> tuple[Path, list[str]]:
    """A protocol's split file, and the training videos of its line 2, each once; there with or
    without `.txt`.
    """
    names = [f'{stem}{phase}.txt' for phase in PHASES[dataset] for stem in SPLIT_FILES[benchmark]]
    paths = [
        place / name for name in names for place in (folder, *sorted(folder.glob('[Ss]plit*')))
    ]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise cli.InputError(
            f'{folder}: no split file for {benchmark}, looked for {", ".join(names)}'
        )
    lines = read_text(path).splitlines()
    training = [
        name.removesuffix('.txt') for name in re.split(r'[,\s]+', ''.join(lines[1:2])) if name
    ]
    if not training:
        raise cli.InputError(f'{path}: line 2 lists no training videos')
    return path, list(dict.fromkeys(training))


def read_actions(path: Path, skip_overlapping: bool) -> dict[str, Action]:
    """A label file's {recording: Action}; empty lines are no actions, but count in the names."""
    actions, used = {}, []
    for line, text in enumerate(read_text(path).split('\n'), 1):
        if not text.strip():
            continue
        action = read_action(line, text)
        if not action.flaw:
            action = action._replace(overlap=find_overlap(action, used))
        if action.overlap and skip_overlapping:
            action = action._replace(flaw=action.overlap)
        if not action.flaw:
            used.append(action)
        actions[f'{path.name}_{line - 1}'] = action
    return actions


def find_overlap(action: Action, others: list[Action]) -> str:
    """What the first of the others that overlaps an action is; '' if none does."""
    for other in others:
        if action.start < other.end and other.start < action.end:
            times = f'{action.start},{action.end} overlaps {other.start},{other.end}'
            return f'{times} of line {other.line}'
    return ''


def read_action(line: int, text: str) -> Action:
    """One line of a label file, regardless of the others."""
    try:
        number, start, end, _ = text.split(',')
        action = Action(line, int(number) - 1, int(start), int(end))
    except ValueError:
        return Action(line, flaw='not class,start,end,confidence')
    if not 0 <= action.label < CLASSES:
        return action._replace(flaw=f'class {action.label + 1} is not in 1 to {CLASSES}')
    if not 0 <= action.start < action.end:
        return action._replace(flaw=f'{action.start},{action.end} is not an interval')
    return action


def read_video(actions: list[Action], path: str) -> list:
    """A job's read: the actions of one video, each as (3, T, 25, 2) or a SkeletonError."""
    frames = read_frames(path)
    return [cut(frames, action) for action in actions]


def cut(frames: np.ndarray, action: Action) -> np.ndarray | SkeletonError:
    """An action (3, T, 25, 2) of a video's frames (F, 2, 25, 3), or a SkeletonError.

    The bodies keep the order of the file, unless the first is never there: normalisation centres on
    the first.
    """
    clip = frames[action.start : action.end]
    first, second = clip[:MAX_FRAME].any((0, 2, 3))  # later frames are not used
    flaw = action.flaw
    if not flaw and action.start >= len(frames):
        flaw = f'{action.start},{action.end} begins after the {len(frames)} frames of the video'
    elif not flaw and not (first or second):
        flaw = 'all coordinates are zero'
    if flaw:
        return SkeletonError(f'label line {action.line}: {flaw}')
    return (clip if first else clip[:, ::-1]).transpose(3, 0, 2, 1)


def read_frames(path) -> np.ndarray:
    """The frames of a video (F, 2, 25, 3) float32; SkeletonError if a line is not 150 finite
    numbers.
    """
    lines = read_text(path).rstrip().split('\n')
    frames, bad = parse_numbers(lines, COLUMNS, np.float32)
    if frames is None:
        raise SkeletonError(f'line {bad + 1}: not {COLUMNS} finite numbers')
    return frames.reshape(-1, BODIES, JOINTS, 3)


def print_count(dataset: str, num_actions: int, num_overlapping: int) -> None:
    """Print how many lines the label files have, compared with the official number where one is
    published.
    """
    print(
        f'{num_actions} actions in the label files, {num_overlapping} of them overlap an earlier '
        'one'
    )
    official = OFFICIAL_ACTIONS.get(dataset, num_actions)
    if official != num_actions:
        print(f'  not the official number: {official}')


def print_list(title, names):
    if names:
        print(f'{len(names)} {title}:', *cli.shorten(names), sep='\n  ')


if __name__ == '__main__':
    cli.run(main)
