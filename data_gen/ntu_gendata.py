"""Prepare NTU RGB+D: raw `.skeleton` files -> the arrays of each protocol.

As published:   cd data_gen && python ntu_gendata.py
From the root:  python data_gen/ntu_gendata.py --dataset ntu60 --data_path /disk/nturgb+d_skeletons

Every recording is read once, for all the protocols it belongs to, by one process per core; memory does not grow with
the number of recordings. Unusable files are skipped and listed at the end.
"""
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the published command runs inside data_gen/

from data_gen import cli  # noqa: E402
from data_gen.arrays import PartWriter, write_row  # noqa: E402
from data_gen.preprocess import MAX_FRAME, normalize  # noqa: E402
from data_gen.protocols import DATASETS, Name  # noqa: E402
from data_gen.skeleton import SkeletonError, read_xyz  # noqa: E402

DEFAULT_FOLDERS = [ROOT / 'data' / raw / 'nturgb+d_skeletons' for raw in ('nturgbd_raw', 'nturgbd_raw_120')]
MISSING = 'samples_with_missing_skeletons.txt'


def main(argv=None):
    args = parse(argv)
    recordings, skipped = find_recordings(args.data_path)
    ignored = read_ignored(args.ignored_sample_path, args.data_path) & recordings.keys()
    usable = sorted(recordings.keys() - ignored)
    writers = plan(args, usable)
    for writer in writers:
        writer.allocate()

    slots = {name: [] for name in usable}
    for writer in writers:
        for index, name in enumerate(writer.names):
            slots[name].append(writer.slot(index))
    jobs = {name: (recordings[name], slots[name]) for name in usable if slots[name]}
    frames, failed = prepare_all(jobs, args.workers)
    for writer in writers:
        if frames:
            rows = writer.finish(frames)
            print(f'{writer.files[0]}: {rows} recordings' + ('' if rows else ' (this protocol has none in this part)'))
        else:
            writer.discard()

    if ignored:
        print(f'{len(ignored)} recordings left out: named in {MISSING}')
    elsewhere = len(usable) - len(jobs)
    if elsewhere:
        print(f'{elsewhere} recordings left out: they belong to another data set')
    report(skipped + failed)
    if not frames:
        print('error: no usable recording was left, nothing was written', file=sys.stderr)
    return 0 if frames else 1


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--dataset', choices=DATASETS, help='default: each whose recordings are there')
    parser.add_argument('--data_path', type=Path, nargs='+', metavar='FOLDER',
                        help='where the .skeleton files lie (default: those of data/nturgbd_raw[_120] that exist)')
    parser.add_argument('--ignored_sample_path', type=Path, metavar='FILE',
                        help=f'recordings to leave out (default: {MISSING} beside each data folder)')
    parser.add_argument('--out_folder', type=Path, metavar='FOLDER',
                        help="the data set's own folder (default: data/NTU-RGB-D-60-AGCN or -120-)")
    parser.add_argument('--benchmark', nargs='+', metavar='NAME', help='default: all published for the data set')
    parser.add_argument('-j', '--workers', type=int, default=len(os.sched_getaffinity(0))
                        if hasattr(os, 'sched_getaffinity') else os.cpu_count(), help='processes (default: one a core)')
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error('--workers must be at least 1')
    if args.out_folder and not args.dataset:
        parser.error('--out_folder is one data set\'s folder: say which with --dataset')
    for benchmark in args.benchmark or ():
        for key in [args.dataset] if args.dataset else DATASETS:
            if benchmark in DATASETS[key].preparable:
                break
        else:
            parser.error(f'--benchmark {benchmark}: {key} has {", ".join(DATASETS[key].benchmarks)}')
    args.data_path = args.data_path or [folder for folder in DEFAULT_FOLDERS if folder.is_dir()]
    if not args.data_path:
        parser.error(f'no raw recordings: unpack them to {DEFAULT_FOLDERS[0]}, or say where with --data_path')
    for folder in args.data_path:
        if not folder.is_dir():
            parser.error(f'--data_path {folder}: no such folder')
    return args


def find_recordings(folders):
    """(name -> path, [(path, reason) of what is not a recording]); a recording found twice is taken from the first."""
    recordings, skipped = {}, []
    for folder in folders:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            stem, ending = os.path.splitext(entry.name)
            name = Name.parse(stem)
            if ending != '.skeleton' or name is None:
                skipped.append((entry.path, 'not named SsssCcccPpppRrrrAaaa.skeleton'))
            else:
                recordings.setdefault(name, entry.path)
    return recordings, skipped


def read_ignored(given, folders):
    """The names listed as having missing skeletons: header lines, endings and trailing spaces do no harm."""
    paths = [given] if given else [folder.absolute().parent / MISSING for folder in folders]
    found = [path for path in paths if path.is_file()]
    if not found:
        print(f'warning: {paths[0]} is not there, so no recording is left out for missing skeletons; the official list '
              'comes with the data set (NTU-60: 302 names, NTU-120: 535)', file=sys.stderr)
    lines = [line for path in found for line in path.read_text(encoding='latin-1').splitlines()]
    return {Name.parse(line.strip().removesuffix('.skeleton')) for line in lines} - {None}


def plan(args, names):
    """The parts to write: a PartWriter per data set, benchmark and part, its recordings in sorted order."""
    if args.dataset:
        datasets = [args.dataset]
    else:
        beyond_ntu60 = any(not DATASETS['ntu60'].holds(name) for name in names)
        datasets = [key for key in DATASETS if key == 'ntu60' or beyond_ntu60]
    writers = []
    for key in datasets:
        dataset = DATASETS[key]
        for benchmark in dict.fromkeys(args.benchmark or dataset.benchmarks):
            if benchmark not in dataset.preparable:  # another data set's; parse() knows it
                continue
            folder = (args.out_folder or ROOT / 'data' / dataset.folder) / benchmark
            members = [name for name in names if dataset.holds(name)]
            for part in ('train', 'val'):
                chosen = [name for name in members if dataset.trains(name, benchmark) == (part == 'train')]
                writers.append(PartWriter(folder, part, chosen))
    return writers


def prepare_all(jobs, workers):
    """Prepare every job; ({name: frames}, [(path, reason) of those that could not be])."""
    frames, failed = {}, []
    with ProcessPoolExecutor(workers) as pool:
        results = pool.map(prepare, *zip(*jobs.values(), strict=True), chunksize=8) if jobs else ()
        for name, (count, reason) in zip(jobs, cli.progress(results, 'preparing', len(jobs), 'rec'), strict=True):
            if reason:
                failed.append((jobs[name][0], reason))
            else:
                frames[name] = count
    return frames, failed


def prepare(path, slots):
    """Read and normalise one recording and write it wherever it belongs: (frames kept, None) or (0, reason)."""
    try:
        xyz = read_xyz(path)
    except SkeletonError as error:
        return 0, str(error)
    clip = normalize(xyz)
    for slot in slots:
        write_row(slot, clip)
    return min(xyz.shape[1], MAX_FRAME), None


def report(skipped):
    """List what was skipped, and why."""
    if skipped:
        print(f'{len(skipped)} files skipped:')
    for path, reason in skipped:
        print(f'  {path}: {reason}')


if __name__ == '__main__':
    cli.run(main)
