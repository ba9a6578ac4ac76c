"""Prepare PKU-MMD: skeletons and labels of whole videos -> the arrays of each protocol, a recording per action.

Phase 2:  python data_gen/pku_gendata.py --data_path /disk/pku_mmd_2
Phase 1:  python data_gen/pku_gendata.py --data_path /disk/pku_mmd_1 --dataset pku1

The folder, as published: skeleton/NAME.txt, a line of 2 bodies x 25 joints x 3 coordinates per frame; label/NAME.txt, a
line `class,start,end,confidence` per action; cross_subject_v2.txt and cross_view_v2.txt (phase 1: cross-subject.txt …),
whose line 2 lists the training videos; all others are `val`. Line i of a label file, counted from 0, is the recording
NAME.txt_i: frames[start:end], at most 300 of them, the bodies in the order of the file. Each video is read once.
Skipped and listed: an interval that is empty, begins behind the video's end or overlaps that of an earlier line that is
kept, a class that is not 1 to 51, an action whose coordinates are all zero, and every action of a video that is no such
text.
"""
import re
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

from data_gen import cli, pipeline  # noqa: E402
from data_gen.pku import read_actions, read_video  # noqa: E402
from data_gen.protocols import DATASETS  # noqa: E402
from data_gen.workers import Job  # noqa: E402

DEFAULT_FOLDERS = {'pku1': ROOT / 'data' / 'pku_mmd_1', 'pku2': ROOT / 'data' / 'pku_mmd_2'}
SPLITS = {'xsub': ('cross_subject', 'cross-subject'), 'xview': ('cross_view', 'cross-view')}
PHASES = {'pku1': ('',), 'pku2': ('_v2', '-v2', '')}


def main(argv=None):
    args = parse(argv)
    skeletons, labels = ({path.stem: path for path in (args.data_path / room).glob('*.txt')}
                         for room in ('skeleton', 'label'))
    videos = {video: read_actions(labels[video], args.keep_overlapping) if video in labels else {}
              for video in sorted(skeletons)}
    benchmarks = [plan(args, name, videos) for name in dict.fromkeys(args.benchmark)]
    jobs = [Job(partial(read_video, actions), str(skeletons[video]), tuple(actions))
            for video, actions in videos.items() if actions]
    code = pipeline.run(benchmarks, jobs, args)

    for benchmark in benchmarks:
        tell(f'training videos of {benchmark.name} are not there', benchmark.about['missing_videos'])
    tell('videos left out, without a label file or an action in it',
         [video for video, actions in videos.items() if not actions])
    tell('videos left out, without a skeleton', sorted(labels.keys() - skeletons.keys()))
    tell('recordings kept, but they overlap another one',
         [f'{name}: {action.overlap}' for actions in videos.values() for name, action in actions.items()
          if action.overlap and not action.flaw])
    return code


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--dataset', choices=DEFAULT_FOLDERS, default='pku2', help='the phase (default pku2)')
    parser.add_argument('--data_path', type=Path, metavar='FOLDER',
                        help='where skeleton/, label/ and the split files lie (default: data/pku_mmd_2 or _1)')
    parser.add_argument('--out_folder', type=Path, metavar='FOLDER',
                        help="the data set's own folder (default: data/PKU-MMD-2 or -1)")
    parser.add_argument('--benchmark', nargs='+', choices=SPLITS, default=tuple(SPLITS), help='default: both')
    parser.add_argument('--keep-overlapping', action='store_true',
                        help='keep an action that overlaps an earlier one; they are listed all the same')
    pipeline.add_flags(parser)
    args = parser.parse_args(argv)
    args.data_path = args.data_path or DEFAULT_FOLDERS[args.dataset]
    for room in ('skeleton', 'label'):
        if not (args.data_path / room).is_dir():
            parser.error(f'{args.data_path / room}: no such folder (--data_path says where skeleton/ and label/ lie)')
    return args


def plan(args, name, videos):
    """The benchmark of this name; videos {video: {recording: Action}} are dealt out by its split file."""
    path, training = read_split(args.data_path, args.dataset, name)
    if not any(videos.get(video) for video in training):
        raise cli.InputError(f'{path}: none of its {len(training)} training videos has a skeleton and a label file')
    # A recording that its label line rules out has the label -1, so that --keep-overlapping is another plan: one folder
    # cannot come about half with it and half without.
    parts = {}
    for part in ('train', 'val'):
        chosen = {recording: -1 if action.flaw else action.label for video, actions in videos.items()
                  if (video in training) == (part == 'train') for recording, action in actions.items()}
        parts[part] = list(chosen), list(chosen.values())
    dataset = DATASETS[args.dataset]
    about = {'split': path.name, 'missing_videos': [video for video in training if video not in videos],
             'overlapping': 'kept' if args.keep_overlapping else 'skipped'}
    folder = (args.out_folder or ROOT / 'data' / dataset.folder) / name
    return pipeline.Benchmark(args.dataset, name, folder, parts, dataset.counts.get(name), about=about)


def read_split(folder, dataset, benchmark):
    """A protocol's split file, and the training videos {video: None} of its line 2, there with or without `.txt`."""
    names = [f'{stem}{phase}.txt' for phase in PHASES[dataset] for stem in SPLITS[benchmark]]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise cli.InputError(f'{folder}: no split file for {benchmark}, looked for {", ".join(names)}')
    lines = path.read_text(encoding='latin-1').splitlines()
    listed = [name.removesuffix('.txt') for name in re.split(r'[,\s]+', ''.join(lines[1:2])) if name]
    if not listed:
        raise cli.InputError(f'{path}: line 2 lists no training videos')
    return path, dict.fromkeys(listed)


def tell(what, names):
    if names:
        print(f'{len(names)} {what}:', *names, sep='\n  ')


if __name__ == '__main__':
    cli.run(main)
