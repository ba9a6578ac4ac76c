"""Prepare NTU RGB+D: raw `.skeleton` files -> the arrays of each protocol.

As published:   cd data_gen && python ntu_gendata.py
From the root:  python data_gen/ntu_gendata.py --dataset ntu60 --data_path /disk/nturgb+d_skeletons

Every recording is read once, for all the protocols it belongs to, by one process per core; memory does not grow with
the number of recordings. Unusable files are skipped and listed at the end.
"""
import os
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the published command runs inside data_gen/

from data_gen import cli, pipeline  # noqa: E402
from data_gen.protocols import DATASETS, Name  # noqa: E402
from data_gen.skeleton import SkeletonError, read_xyz  # noqa: E402
from data_gen.workers import Job  # noqa: E402

DEFAULT_FOLDERS = [ROOT / 'data' / raw / 'nturgb+d_skeletons' for raw in ('nturgbd_raw', 'nturgbd_raw_120')]
NTU = 'ntu60', 'ntu120'
MISSING = 'samples_with_missing_skeletons.txt'


def main(argv=None):
    args = parse(argv)
    recordings, stray = find_recordings(args.data_path)
    ignored = read_ignored(args.ignored_sample_path, args.data_path) & recordings.keys()
    names = sorted(recordings.keys() - ignored)
    jobs = [Job(read_one, recordings[name], (file_name(name),)) for name in names]
    benchmarks = plan(args, names)
    code = pipeline.run(benchmarks, jobs, args) if names else 1

    if ignored:
        print(f'{len(ignored)} recordings left out: named in {MISSING}')
    elsewhere = len(set(names) - {name for benchmark in benchmarks for name in members(benchmark.dataset, names)})
    if elsewhere:
        print(f'{elsewhere} recordings left out: they belong to another data set')
    for path in stray:
        print(f'  {path}: skipped, not named SsssCcccPpppRrrrAaaa.skeleton')
    if not names:
        folders = ', '.join(map(str, args.data_path))
        print(f'error: no SsssCcccPpppRrrrAaaa.skeleton file in {folders}: nothing was written', file=sys.stderr)
    return code


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--dataset', choices=NTU, help='default: each whose recordings are there')
    parser.add_argument('--data_path', type=Path, nargs='+', metavar='FOLDER',
                        help='where the .skeleton files lie (default: those of data/nturgbd_raw[_120] that exist)')
    parser.add_argument('--ignored_sample_path', type=Path, metavar='FILE',
                        help=f'recordings to leave out (default: {MISSING} beside each data folder)')
    parser.add_argument('--out_folder', type=Path, metavar='FOLDER',
                        help="the data set's own folder (default: data/NTU-RGB-D-60-AGCN or -120-)")
    parser.add_argument('--benchmark', nargs='+', metavar='NAME', help='default: all published for the data set')
    pipeline.add_flags(parser)
    args = parser.parse_args(argv)
    if args.out_folder and not args.dataset:
        parser.error('--out_folder is one data set\'s folder: say which with --dataset')
    datasets = [args.dataset] if args.dataset else NTU
    known = dict.fromkeys(benchmark for key in datasets for benchmark in DATASETS[key].preparable)
    for benchmark in args.benchmark or ():
        if benchmark not in known:
            parser.error(f'--benchmark {benchmark}: {args.dataset or "NTU RGB+D"} has {", ".join(known)}')
    args.data_path = args.data_path or [folder for folder in DEFAULT_FOLDERS if folder.is_dir()]
    if not args.data_path:
        parser.error(f'no raw recordings: unpack them to {DEFAULT_FOLDERS[0]}, or say where with --data_path')
    for folder in args.data_path:
        if not folder.is_dir():
            parser.error(f'--data_path {folder}: no such folder')
    return args


def find_recordings(folders):
    """(name -> path, [paths of other files]); a recording found twice is taken from the first folder."""
    recordings, stray = {}, []
    for folder in folders:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            stem, ending = os.path.splitext(entry.name)
            name = Name.parse(stem)
            if ending != '.skeleton' or name is None:
                stray.append(entry.path)
            else:
                recordings.setdefault(name, entry.path)
    return recordings, stray


def read_ignored(given, folders):
    """The names listed as having missing skeletons: header lines, endings and trailing spaces do no harm."""
    paths = [given] if given else [folder.absolute().parent / MISSING for folder in folders]
    found = [path for path in paths if path.is_file()]
    absent = [str(path) for path in paths if path not in found]
    if absent:
        print(f'warning: {" and ".join(absent)} not there, so no recording is left out by it; the official lists of '
              'missing skeletons come with the data set (NTU-60: 302 names, NTU-120: 535)', file=sys.stderr)
    lines = [line for path in found for line in path.read_text(encoding='latin-1').splitlines()]
    return {Name.parse(line.strip().removesuffix('.skeleton')) for line in lines} - {None}


def plan(args, names):
    """The benchmarks to prepare, each with the recordings of its parts in sorted order."""
    sixty = len(members('ntu60', names))
    datasets = [args.dataset] if args.dataset else ['ntu60'] * (sixty > 0) + ['ntu120'] * (sixty < len(names))
    benchmarks = []
    for key in datasets:
        dataset = DATASETS[key]
        for benchmark in dict.fromkeys(args.benchmark or dataset.benchmarks):
            if benchmark not in dataset.preparable:  # another data set's; parse() knows it
                continue
            parts = {}
            for part in ('train', 'val'):
                chosen = [name for name in members(key, names) if dataset.trains(name, benchmark) == (part == 'train')]
                parts[part] = [file_name(name) for name in chosen], [name.label for name in chosen]
            folder = (args.out_folder or ROOT / 'data' / dataset.folder) / benchmark
            benchmarks.append(pipeline.Benchmark(key, benchmark, folder, parts, dataset.counts.get(benchmark),
                                                 partial(missing, dataset)))
    if names and not benchmarks:
        raise cli.InputError(f'--benchmark {" ".join(args.benchmark)}: the recordings are of {" and ".join(datasets)}, '
                             'without such a protocol')
    return benchmarks


def members(key, names):
    return [name for name in names if DATASETS[key].holds(name)]


def file_name(name):
    return f'{name}.skeleton'


def read_one(path, names):
    """A job's read: the one recording of a file."""
    try:
        return [read_xyz(path)]
    except SkeletonError as error:
        return [error]


def missing(dataset, files):
    """What a set of recordings lacks of NTU RGB+D, in words: whole setups, and the actions with the fewest."""
    names = [Name.parse(file.removesuffix('.skeleton')) for file in files]
    setups = sorted(set(range(1, dataset.setups + 1)) - {name.setup for name in names})
    actions = sorted(set(range(1, dataset.classes + 1)) - {name.action for name in names})
    lacking = [f'no {what} {ranges(numbers)}' for what, numbers in (('setup', setups), ('action', actions)) if numbers]
    return ', '.join(lacking) or 'every setup and action has some'


def ranges(numbers):
    """[1, 2, 3, 7] -> '1-3 7'."""
    text, start = [], None
    for number in numbers:
        start = number if start is None else start
        if number + 1 not in numbers:
            text.append(str(number) if number == start else f'{start}-{number}')
            start = None
    return ' '.join(text)


if __name__ == '__main__':
    cli.run(main)
