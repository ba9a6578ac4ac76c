"""Prepare the archives of other projects: NTU RGB+D and PKU-MMD as CTR-GCN, MAMP, pyskl and
mmaction2 pass them on.

    python -m data_gen.archive_gendata NTU60_CS.npz --names skes_available_name.txt
    python -m data_gen.archive_gendata ntu60_3danno.pkl

.npz  x_train, x_test (N, T, 150), one-hot y_train, y_test: NTU60_CS, NTU60_CV, NTU120_CSub,
      NTU120_CSet (or _XSub, _XView, _XSet), PKUv1_XSub, PKUv2_XSub …; read clip by clip, of any size
.pkl  ntu60_3danno, ntu120_3danno: names, labels and every protocol are inside; read whole

The data set and the protocol are recognised, or given. An .npz has no names of clips: they are in
--names, or numbers.
"""

import re
import sys
import zipfile
import zlib
from argparse import Namespace
from functools import partial
from operator import attrgetter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script, inside data_gen/ too

import tools.common.start  # noqa: E402, F401

import numpy as np  # noqa: E402

from data_gen import archives, pipeline  # noqa: E402
from data_gen.protocols import DATASETS, Name  # noqa: E402
from data_gen.workers import Job  # noqa: E402
from tools.common import cli  # noqa: E402

NOTE = (
    'another project chose and denoised the bodies. Clips of one body are the official ones to '
    'rounding (.pkl: to a few mm); about one two-body clip in seven differs. Published UmURL '
    'numbers are of the official arrays.'
)
UNKNOWN_WRITER = (
    'no published code says how the PKU-MMD pickles of USDRL and FoundSkelModel were written; '
    "prepare MAMP's PKUv1_*.npz or PKUv2_*.npz, or the raw data with data_gen.pku_gendata"
)
PROTOCOL_WORDS = {
    'cs': 'xsub',
    'csub': 'xsub',
    'xsub': 'xsub',
    'cv': 'xview',
    'xview': 'xview',
    'cset': 'xsetup',
    'xset': 'xsetup',
    'xsetup': 'xsetup',
}
SORTED_BY = {
    'xsub': 'performer',
    'xview': 'camera',
    'xsetup': 'setup',
}  # the rows of an .npz of NTU RGB+D


def main(argv=None):
    args = parse_args(argv)
    from_npz = zipfile.is_zipfile(args.archive)
    reading = 'read clip by clip' if from_npz else 'read whole into memory'
    print(f'{args.archive}: {args.archive.stat().st_size / 1e6:,.1f} MB, {reading}', flush=True)
    plan = plan_npz if from_npz else plan_pickle
    benchmarks, jobs = plan(args)
    print(f'note: {NOTE}')
    code = pipeline.run(benchmarks, jobs, args)
    for unpacked in benchmarks[0].folder.glob(archives.UNPACKED.format('*')):
        unpacked.unlink()
    return code


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('archive', type=Path, metavar='ARCHIVE', help='an .npz or .pkl file')
    flag(
        '--names',
        type=Path,
        metavar='LIST',
        help="CTR-GCN's skes_available_name.txt; for an .npz of NTU RGB+D",
    )
    flag(
        '--dataset',
        choices=('ntu60', 'ntu120', 'pku1', 'pku2'),
        help='default: by the name and the content',
    )
    flag('--benchmark', choices=SORTED_BY, help='default: by the name; of a .pkl: all that it has')
    pipeline.add_flags(parser, 'data/NTU-RGB-D-60-AGCN, data/PKU-MMD-2 …')
    args = parser.parse_args(argv)
    if absent := [path for path in (args.archive, args.names) if path and not path.is_file()]:
        parser.error(f'{absent[0]}: no such file')
    name = args.archive.name.lower()
    if found := re.search(r'ntu(?:rgbd?)?[ _-]?(60|120)|pku\D*([12])', name):
        args.dataset = args.dataset or (f'ntu{found[1]}' if found[1] else f'pku{found[2]}')
    if zipfile.is_zipfile(args.archive):
        words = [word for word in re.split(r'[^a-z0-9]', name) if word in PROTOCOL_WORDS]
        args.benchmark = args.benchmark or (PROTOCOL_WORDS[words[0]] if words else None)
        if not args.benchmark:
            parser.error(
                f'{args.archive}: its name has no protocol (_CS, _XView, _CSet …): add --benchmark'
            )
    elif args.archive.open('rb').read(1) != b'\x80':
        parser.error(
            f'{args.archive}: neither a complete .npz nor a .pkl; download or copy it again'
        )
    elif 'pku' in name or (args.dataset or '').startswith('pku'):
        parser.error(f'{args.archive}: {UNKNOWN_WRITER}')
    elif args.names:
        parser.error('--names: the names of a .pkl are inside')
    return args


def plan_npz(args: Namespace):
    """(one Benchmark, its jobs) of CTR-GCN's and MAMP's files; named clips are sorted by name."""
    path = args.archive
    with zipfile.ZipFile(path) as archive:
        crc = {info.filename.removesuffix('.npy'): info.CRC for info in archive.infolist()}
        if absent := {'x_train', 'y_train', 'x_test', 'y_test'} - crc.keys():
            raise cli.InputError(
                f'{path}: no array {min(absent)}; there are {", ".join(sorted(crc)) or "none"}'
            )
        try:
            one_hot = [archives.read_one_hot(archive, name) for name in ('y_train', 'y_test')]
            classes = one_hot[0].shape[1]
            dataset = args.dataset or {60: 'ntu60', 120: 'ntu120'}.get(classes)
            folder = find_folder(args, dataset, args.benchmark)
            expected = DATASETS[dataset].classes
            if {each.shape[1] for each in one_hot} != {expected}:
                raise cli.InputError(
                    f'{path}: labels of {classes} classes; {dataset} has {expected}'
                )
            labels = [each.argmax(1).tolist() for each in one_hot]
            clips = [
                find_names(args, dataset, split, numbers)
                for split, numbers in zip(('train', 'val'), labels, strict=True)
            ]
            members = [
                archives.find_member(archive, name, folder) for name in ('x_train', 'x_test')
            ]
        except (zipfile.BadZipFile, ValueError, zlib.error, EOFError, AttributeError) as error:
            raise cli.InputError(
                f'{path} is damaged ({error}); download or copy it again'
            ) from error
    recordings, jobs = [], []
    for split, member, numbers, names in zip(('train', 'val'), members, labels, clips, strict=True):
        if member.shape[0] != len(numbers):
            raise cli.InputError(
                f'{path}: {member.shape[0]} clips but {len(numbers)} labels in the {split} split'
            )
        for name, row in sorted(zip(names, range(len(names)), strict=True)):
            read = partial(archives.read_row, member, row, dataset.startswith('pku'))
            recordings.append((split, name, numbers[row]))
            jobs.append(Job(read, str(path), (name,)))
    splits = pipeline.split_up(recordings)
    details = {'archive': path.name, 'checksums': crc, 'note': NOTE}
    return [pipeline.Benchmark(dataset, args.benchmark, folder, splits, details)], jobs


def plan_pickle(args: Namespace):
    """(the Benchmarks, the jobs) of pyskl's and mmaction2's files."""
    path = args.archive
    found, splits = archives.read_annotations(path)
    listed = {}
    for key, names in splits.items():
        protocol, _, split = key.partition('_')
        if protocol not in PROTOCOL_WORDS or split not in ('train', 'val'):
            raise cli.InputError(
                f'{path}: its split {key} is none of NTU RGB+D (xsub_train, xview_val, xset_train '
                '…)'
            )
        listed.setdefault(PROTOCOL_WORDS[protocol], {})[split] = sorted(names)
    if args.benchmark and args.benchmark not in listed:
        raise cli.InputError(f'{path}: no protocol {args.benchmark}; there is {", ".join(listed)}')
    dataset = args.dataset or ('ntu120' if 'xsetup' in listed else 'ntu60')
    known = DATASETS[dataset]
    for name, (_, label) in found.items():
        parsed = Name.parse(name)
        if not parsed or not known.holds(parsed) or parsed.action != label + 1:
            raise cli.InputError(
                f'{path}: {name} with label {label} (from 0) is not a name and label of {dataset}'
            )
    checksums = {path.name: zlib.crc32(np.memmap(path, np.uint8, 'r'))}
    details = {'archive': path.name, 'checksums': checksums, 'note': NOTE}
    benchmarks = []
    for protocol in [args.benchmark] if args.benchmark else listed:
        folder = find_folder(args, dataset, protocol)
        recordings = []
        for split, names in listed[protocol].items():
            for name in names:
                what = f'{name} of {protocol}_{split}'
                if name not in found:
                    raise cli.InputError(f'{path}: {what} has no annotation')
                if known.split(Name.parse(name), protocol) != split:
                    raise cli.InputError(f'{path}: {what} belongs to the other split')
                recordings.append((split, f'{name}.skeleton', found[name][1]))
        splits = pipeline.split_up(recordings)
        benchmarks.append(pipeline.Benchmark(dataset, protocol, folder, splits, details))
    return benchmarks, [
        Job(partial(archives.read_keypoint, found[name][0], name), str(path), (f'{name}.skeleton',))
        for name in sorted(found)
    ]


def find_folder(args: Namespace, dataset: str | None, benchmark: str) -> Path:
    """The folder of one benchmark; InputError for a data set that is not known or has no such
    protocol.
    """
    if not dataset:
        raise cli.InputError(
            f'{args.archive}: its name and content do not say which data set it is: add --dataset'
        )
    known = DATASETS[dataset]
    if benchmark not in (*known.counts, *known.preparable):
        raise cli.InputError(f'{args.archive}: {dataset} has no protocol {benchmark}')
    return (args.out_folder or ROOT / 'data' / known.folder) / benchmark


def find_names(args: Namespace, dataset: str, split: str, labels: list[int]) -> list[str]:
    """The names of an .npz's clips with these labels: from the list --names, sorted by performer,
    camera or setup; without a list, numbers.
    """
    if not args.names:
        return [f'{split}_{row:06d}' for row in range(len(labels))]
    known = DATASETS[dataset]
    if not known.preparable:
        raise cli.InputError(f'--names: only for NTU RGB+D, not for {dataset}')
    listed = Name.find_all(args.names.read_bytes())
    names = [
        name for name in listed if known.holds(name) and known.split(name, args.benchmark) == split
    ]
    names.sort(key=attrgetter(SORTED_BY[args.benchmark]))
    wrong = []
    if len(names) != len(labels):
        wrong.append(f'{len(names)} names for {len(labels)} clips')
    for name, label in zip(names, labels, strict=False):
        if name.action != label + 1:
            wrong.append(f'{name} for a clip with label {label} (from 0)')
    if wrong:
        raise cli.InputError(
            f'{args.names}: not the list of this archive: {wrong[0]} in the {split} split; use the '
            'list it was made with, or leave --names out'
        )
    return [f'{name}.skeleton' for name in names]


if __name__ == '__main__':
    cli.run(main)
