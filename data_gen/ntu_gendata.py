"""Prepare NTU RGB+D: raw `.skeleton` files -> the arrays of each protocol.

As published:   cd data_gen && python ntu_gendata.py
From the root:  python -m data_gen.ntu_gendata --dataset ntu60 --data_path /disk/nturgb+d_skeletons

Each recording is read once, for all its protocols, by one process per core. Unusable files are
skipped and listed at the end. If a run is stopped (Ctrl-C, a kill, a full disk), the same command
resumes it.
"""

import sys
from collections.abc import Set
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the published command runs inside data_gen/

import tools.common.start  # noqa: E402, F401

from data_gen import pipeline  # noqa: E402
from data_gen.protocols import DATASETS, Name  # noqa: E402
from data_gen.skeleton import read_xyz  # noqa: E402
from data_gen.workers import Job  # noqa: E402
from tools.common import cli  # noqa: E402

DEFAULT_FOLDERS = [
    ROOT / 'data' / raw / 'nturgb+d_skeletons' for raw in ('nturgbd_raw', 'nturgbd_raw_120')
]
NTU = 'ntu60', 'ntu120'
# The official lists begin with NTU_RGBD_ or NTU_RGBD120_.
MISSING = 'samples_with_missing_skeletons.txt'
ARCHIVES = '.zip', '.7z', '.rar', '.gz', '.tar'


def main(argv=None):
    args = parse_args(argv)
    recordings, stray = find_recordings(args.data_path)
    if not recordings:
        raise cli.InputError(where_to_look(args.data_path))
    ignored = read_ignored(args.ignored_sample_path, args.data_path, recordings.keys())
    names = sorted(recordings.keys() - ignored)
    found = {'ntu60' if DATASETS['ntu60'].holds(name) else 'ntu120' for name in names}
    present = [args.dataset] if args.dataset else sorted(found, reverse=True)
    benchmarks = []
    for dataset in present:
        known = DATASETS[dataset]
        folder = args.out_folder or ROOT / 'data' / known.folder
        for benchmark in dict.fromkeys(args.benchmark or known.counts):
            if benchmark in known.preparable:
                benchmarks.append(plan(dataset, benchmark, names, folder))
    if names and not benchmarks:
        raise cli.InputError(
            f'--benchmark {" ".join(args.benchmark)}: not a protocol of {" and ".join(present)}'
        )
    jobs = [Job(read_one, recordings[name], (f'{name}.skeleton',)) for name in names]
    if not names:
        raise cli.InputError(
            f'all {len(ignored)} recordings are listed as having missing skeletons'
        )
    if ignored:
        print(
            f'{cli.plural(len(ignored), "recording")} left out: listed as having missing skeletons'
        )
    if others := [
        name for name in names if not any(DATASETS[dataset].holds(name) for dataset in present)
    ]:
        print(f'{cli.plural(len(others), "recording")} left out: of another data set')
    pipeline.print_stray(stray, 'SsssCcccPpppRrrrAaaa.skeleton')
    return pipeline.run(benchmarks, jobs, args)


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('--dataset', choices=NTU, help='default: each one that has recordings there')
    flag(
        '--data_path',
        '--data-path',
        type=Path,
        nargs='+',
        metavar='FOLDER',
        help='default: data/nturgbd_raw[_120], if there',
    )
    flag(
        '--ignored_sample_path',
        '--ignored-sample-path',
        type=Path,
        metavar='FILE',
        help=f'default: *{MISSING} beside or in each data folder',
    )
    flag('--benchmark', nargs='+', metavar='NAME', help='default: all published for the data set')
    pipeline.add_flags(parser, 'data/NTU-RGB-D-60-AGCN or -120-')
    args = parser.parse_args(argv)
    if args.out_folder and not args.dataset:
        parser.error('--out_folder is the folder of one data set: add --dataset')
    datasets = [args.dataset] if args.dataset else NTU
    known = dict.fromkeys(
        benchmark for dataset in datasets for benchmark in DATASETS[dataset].preparable
    )
    for benchmark in args.benchmark or ():
        if benchmark not in known:
            parser.error(
                f'--benchmark {benchmark}: {args.dataset or "NTU RGB+D"} has {", ".join(known)}'
            )
    args.data_path = args.data_path or [folder for folder in DEFAULT_FOLDERS if folder.is_dir()]
    if not args.data_path:
        parser.error(
            f'no raw recordings: unpack them to {DEFAULT_FOLDERS[0]}, or give their folder with '
            '--data_path'
        )
    for folder in args.data_path:
        if not folder.is_dir():
            is_archive = folder.suffix.lower() in ARCHIVES
            parser.error(
                f'--data_path {folder}: {"unpack it first" if is_archive else "no such folder"}'
            )
    return args


def find_recordings(folders: list[Path]) -> tuple[dict[Name, str], list[str]]:
    """({name: path}, paths of other files); a recording that is in several folders is taken from
    the first.
    """
    recordings, stray = {}, []
    for path in (path for folder in folders for path in sorted(folder.iterdir())):
        name = Name.parse(path.stem)
        if name and path.suffix == '.skeleton':
            recordings.setdefault(name, str(path))
        elif not path.name.endswith(MISSING):
            stray.append(str(path))
    return recordings, stray


def where_to_look(folders: list[Path]) -> str:
    """What to say of folders without recordings: whether archives are to be unpacked, or where
    recordings are.
    """
    here = [path for folder in folders for path in sorted(folder.iterdir())]
    below = next((path for path in here if path.is_dir() and any(path.glob('S*.skeleton'))), None)
    archive = next((path for path in here if path.suffix.lower() in ARCHIVES), None)
    advice = 'nothing was written'
    if archive:
        advice = f'unpack {archive} first'
    if below:
        advice = f'use --data_path {below}'
    return f'no SsssCcccPpppRrrrAaaa.skeleton file in {", ".join(map(str, folders))}: {advice}'


def read_ignored(given: Path | None, folders: list[Path], present: Set[Name]) -> set[Name]:
    """The recordings, of those `present`, that lists say have missing skeletons.

    A list is any text, in any case, in UTF-8 or UTF-16; it is `given`, or has an official name
    beside or in a folder.
    """
    if given and not given.is_file():
        raise cli.InputError(f'--ignored_sample_path {given}: no such file')
    paths = [given] if given else find_lists(folders)
    ignored = set()
    for path in paths:
        names = {*Name.find_all(path.read_bytes())}
        if not names:
            print(
                f'warning: {path} names no recording (SsssCcccPpppRrrrAaaa), so none is left out',
                file=sys.stderr,
            )
        elif not names & present:
            print(
                f'note: {path} names {cli.plural(len(names), "recording")}, but none that is here, '
                'so none is left out',
                file=sys.stderr,
            )
        ignored |= names & present
    return ignored


def find_lists(folders: list[Path]) -> list[Path]:
    """The official lists beside or in the folders; prints a warning for a folder without any."""
    found = []
    for folder in map(Path.absolute, folders):
        lists = [*folder.parent.glob(f'*{MISSING}'), *folder.glob(f'*{MISSING}')]
        lists = [path for path in lists if path.is_file()]
        if not lists:
            print(
                f'warning: {folder.with_name(MISSING)} not found, so no recording is left out. The '
                'official lists come with the data set (NTU-60: 302 names, NTU-120: 535)',
                file=sys.stderr,
            )
        found += sorted(lists)
    return found


def plan(dataset: str, benchmark: str, names: list[Name], out_folder: Path) -> pipeline.Benchmark:
    """One benchmark, with the recordings of its splits in sorted order."""
    known = DATASETS[dataset]
    splits = pipeline.split_up(
        (known.split(name, benchmark), f'{name}.skeleton', name.action - 1)
        for name in names
        if known.holds(name)
    )
    return pipeline.Benchmark(dataset, benchmark, out_folder / benchmark, splits)


def read_one(path: str) -> list:
    """A job's read: the one recording of a file."""
    return [read_xyz(path)]


if __name__ == '__main__':
    cli.run(main)
