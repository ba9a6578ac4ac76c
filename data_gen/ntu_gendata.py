"""Prepare NTU RGB+D: raw `.skeleton` files -> the arrays of each protocol.

As published:   cd data_gen && python ntu_gendata.py
From the root:  python -m data_gen.ntu_gendata --dataset ntu60 --data_path /disk/nturgb+d_skeletons

Each recording is read once, for all its protocols, by one process per core. Unusable files are skipped and listed at
the end. If a run is stopped (Ctrl-C, a kill, a full disk), the same command resumes it.
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the published command runs inside data_gen/

from data_gen import cli, pipeline  # noqa: E402
from data_gen.protocols import DATASETS, Name  # noqa: E402
from data_gen.skeleton import read_xyz  # noqa: E402
from data_gen.workers import Job  # noqa: E402

DEFAULT_FOLDERS = [ROOT / 'data' / raw / 'nturgb+d_skeletons' for raw in ('nturgbd_raw', 'nturgbd_raw_120')]
NTU = 'ntu60', 'ntu120'
MISSING = 'samples_with_missing_skeletons.txt'


def main(argv=None):
    args = parse_args(argv)
    recordings, stray = find_recordings(args.data_path)
    listed = read_ignored(args.ignored_sample_path, args.data_path)
    ignored = listed & recordings.keys()
    if listed and not ignored:
        print(f'note: none of the {len(listed)} recordings listed in {MISSING} is here', file=sys.stderr)
    names = sorted(recordings.keys() - ignored)
    in_sixty = {DATASETS['ntu60'].holds(name) for name in names}
    present = [args.dataset] if args.dataset else ['ntu60'] * (True in in_sixty) + ['ntu120'] * (False in in_sixty)
    benchmarks = [plan(dataset, benchmark, names, (args.out_folder or ROOT / 'data' / DATASETS[dataset].folder))
                  for dataset in present for benchmark in dict.fromkeys(args.benchmark or DATASETS[dataset].counts)
                  if benchmark in DATASETS[dataset].preparable]
    if names and not benchmarks:
        raise cli.InputError(f'--benchmark {" ".join(args.benchmark)}: not a protocol of {" and ".join(present)}')
    jobs = [Job(read_one, recordings[name], (f'{name}.skeleton',)) for name in names]
    code = pipeline.run(benchmarks, jobs, args.layout, args.overwrite, args.workers) if names else 1

    if ignored:
        print(f'{len(ignored)} recordings left out: listed in {MISSING}')
    if others := [name for name in names if not any(DATASETS[dataset].holds(name) for dataset in present)]:
        print(f'{len(others)} recordings left out: they belong to another data set')
    for path in stray[:20]:
        print(f'  {path}: skipped, not named SsssCcccPpppRrrrAaaa.skeleton')
    if len(stray) > 20:
        print(f'  … and {len(stray) - 20} more')
    if not names:
        folders = ', '.join(map(str, args.data_path))
        print(f'error: no SsssCcccPpppRrrrAaaa.skeleton file in {folders}: nothing was written', file=sys.stderr)
    return code


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('--dataset', choices=NTU, help='default: each one that has recordings there')
    flag('--data_path', type=Path, nargs='+', metavar='FOLDER', help='default: data/nturgbd_raw[_120], if there')
    flag('--ignored_sample_path', type=Path, metavar='FILE', help=f'default: {MISSING} beside each data folder')
    flag('--benchmark', nargs='+', metavar='NAME', help='default: all published for the data set')
    pipeline.add_flags(parser, 'data/NTU-RGB-D-60-AGCN or -120-')
    args = parser.parse_args(argv)
    if args.out_folder and not args.dataset:
        parser.error('--out_folder is the folder of one data set: add --dataset')
    datasets = [args.dataset] if args.dataset else NTU
    known = dict.fromkeys(benchmark for dataset in datasets for benchmark in DATASETS[dataset].preparable)
    for benchmark in args.benchmark or ():
        if benchmark not in known:
            parser.error(f'--benchmark {benchmark}: {args.dataset or "NTU RGB+D"} has {", ".join(known)}')
    args.data_path = args.data_path or [folder for folder in DEFAULT_FOLDERS if folder.is_dir()]
    if not args.data_path:
        parser.error(f'no raw recordings: unpack them to {DEFAULT_FOLDERS[0]}, or give their folder with --data_path')
    for folder in args.data_path:
        if not folder.is_dir():
            parser.error(f'--data_path {folder}: no such folder')
    return args


def find_recordings(folders: list[Path]) -> tuple[dict[Name, str], list[str]]:
    """({name: path}, paths of other files); a recording that is in several folders is taken from the first."""
    recordings, stray = {}, []
    for path in (path for folder in folders for path in sorted(folder.iterdir())):
        name = Name.parse(path.stem)
        if name and path.suffix == '.skeleton':
            recordings.setdefault(name, str(path))
        elif path.name != MISSING:
            stray.append(str(path))
    return recordings, stray


def read_ignored(given: Path | None, folders: list[Path]) -> set[Name]:
    """The recordings listed as having missing skeletons: all names in the text, in any case, in UTF-8 or UTF-16."""
    if given and not given.is_file():
        raise cli.InputError(f'--ignored_sample_path {given}: no such file')
    ignored = set()
    for folder in [None] if given else folders:
        places = [given] if given else [place / MISSING for place in (folder.absolute().parent, folder)]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            print(f'warning: {places[0]} not found, so it leaves no recording out. The official lists come with the '
                  'data set (NTU-60: 302 names, NTU-120: 535)', file=sys.stderr)
            continue
        content = path.read_bytes()
        text = content.decode('utf-16' if content[:2] in (b'\xff\xfe', b'\xfe\xff') else 'latin-1').upper()
        names = {Name.parse(match[0]) for match in Name.PATTERN.finditer(text)}
        if not names and text.strip():
            print(f'warning: {path} names no recording (SsssCcccPpppRrrrAaaa), so it leaves none out', file=sys.stderr)
        ignored |= names
    return ignored


def plan(dataset: str, benchmark: str, names: list[Name], out_folder: Path) -> pipeline.Benchmark:
    """One benchmark, with the recordings of its splits in sorted order."""
    known, splits = DATASETS[dataset], {}
    for split in ('train', 'val'):
        inside = [name for name in names if known.holds(name) and known.trains(name, benchmark) == (split == 'train')]
        splits[split] = [f'{name}.skeleton' for name in inside], [name.action - 1 for name in inside]
    return pipeline.Benchmark(dataset, benchmark, out_folder / benchmark, splits)


def read_one(path: str) -> list:
    """A job's read: the one recording of a file."""
    return [read_xyz(path)]


if __name__ == '__main__':
    cli.run(main)
