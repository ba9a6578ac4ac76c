"""Prepare the archives of other projects: NTU RGB+D and PKU-MMD as CTR-GCN, MAMP, pyskl and
mmaction2 pass them on.

    python -m data_gen.archive_gendata NTU60_CS.npz --names skes_available_name.txt
    python -m data_gen.archive_gendata ntu60_3danno.pkl

.npz  x_train, x_test (N, T, 150), one-hot y_train, y_test: NTU60_CS, NTU60_CV, NTU120_CSub,
NTU120_CSet (or _XSub,
      _XView, _XSet), PKUv1_XSub, PKUv2_XSub …; read clip by clip, of any size
.pkl  ntu60_3danno, ntu120_3danno: names, labels and every protocol are inside; read whole Data set
and protocol are recognised, or given. An .npz has no names of clips: they are in --names, or
numbers.
"""

import re
import sys
import zipfile
import zlib
from functools import partial
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
    'rounding (.pkl: to '
    'a few mm); about one two-body clip in seven differs. Published UmURL numbers are of the '
    'official arrays.'
)
UNKNOWN_WRITER = (
    'no published code says how the PKU-MMD pickles of USDRL and FoundSkelModel were written; '
    'prepare '
    "MAMP's PKUv1_*.npz or PKUv2_*.npz, or the raw data with data_gen.pku_gendata"
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
    benchmarks, jobs = (
        plan_npz(args.archive, args.dataset, args.benchmark, args.names, args.out_folder)
        if from_npz
        else plan_pickle(args.archive, args.dataset, args.benchmark, args.out_folder)
    )
    print(f'note: {NOTE}')
    code = pipeline.run(benchmarks, jobs, args.layout, args.overwrite, args.workers)
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


def plan_npz(
    path: Path, dataset: str | None, benchmark: str, names: Path | None, out_folder: Path | None
):
    """(one Benchmark, its jobs) of CTR-GCN's and MAMP's files; named clips are sorted by name."""
    with zipfile.ZipFile(path) as archive:
        crc = {info.filename.removesuffix('.npy'): info.CRC for info in archive.infolist()}
        if absent := {'x_train', 'y_train', 'x_test', 'y_test'} - crc.keys():
            raise cli.InputError(
                f'{path}: no array {min(absent)}; there are {", ".join(sorted(crc)) or "none"}'
            )
        try:
            one_hot = [archives.read_one_hot(archive, name) for name in ('y_train', 'y_test')]
            classes = one_hot[0].shape[1]
            dataset = dataset or {60: 'ntu60', 120: 'ntu120'}.get(classes)
            folder = find_folder(path, dataset, benchmark, out_folder)
            if {each.shape[1] for each in one_hot} != {DATASETS[dataset].classes}:
                raise cli.InputError(
                    f'{path}: labels of {classes} classes; {dataset} has '
                    f'{DATASETS[dataset].classes}'
                )
            labels = [each.argmax(1) for each in one_hot]
            clips = [
                read_names(names, dataset, benchmark, split, numbers)
                if names
                else [f'{split}_{row:06d}' for row in range(len(numbers))]
                for split, numbers in zip(('train', 'val'), labels, strict=True)
            ]
            members = [
                archives.find_member(archive, name, folder) for name in ('x_train', 'x_test')
            ]
        except (zipfile.BadZipFile, ValueError, zlib.error, EOFError, AttributeError) as error:
            raise cli.InputError(
                f'{path} is damaged ({error}); download or copy it again'
            ) from error
    splits, jobs = {}, []
    for split, member, numbers, names in zip(('train', 'val'), members, labels, clips, strict=True):
        if member.shape[0] != len(numbers):
            raise cli.InputError(
                f'{path}: {member.shape[0]} clips but {len(numbers)} labels in the {split} split'
            )
        order = sorted(range(len(names)), key=names.__getitem__)
        splits[split] = [names[row] for row in order], numbers[order].tolist()
        jobs += [
            Job(
                partial(archives.read_row, member, row, dataset.startswith('pku')),
                str(path),
                (names[row],),
            )
            for row in order
        ]
    return [
        pipeline.Benchmark(
            dataset,
            benchmark,
            folder,
            splits,
            {'archive': path.name, 'checksums': crc, 'note': NOTE},
        )
    ], jobs


def plan_pickle(path: Path, dataset: str | None, benchmark: str | None, out_folder: Path | None):
    """(the Benchmarks, the jobs) of pyskl's and mmaction2's files."""
    found, splits = archives.read_annotations(path)
    listed = {}
    for key, names in splits.items():
        protocol, _, split = key.partition('_')
        if protocol not in PROTOCOL_WORDS or split not in ('train', 'val'):
            raise cli.InputError(
                f'{path}: its split {key} is none of NTU RGB+D (xsub_train, xview_val, xset_train '
                '…)'
            )
        listed.setdefault(PROTOCOL_WORDS[protocol], {})[split] = names
    if benchmark and benchmark not in listed:
        raise cli.InputError(f'{path}: no protocol {benchmark}; there is {", ".join(listed)}')
    dataset = dataset or ('ntu120' if 'xsetup' in listed else 'ntu60')
    for name, (_, label) in found.items():
        parsed = Name.parse(name)
        if not parsed or not DATASETS[dataset].holds(parsed) or parsed.action != label + 1:
            raise cli.InputError(
                f'{path}: {name} with label {label} (from 0) is not a name and label of {dataset}'
            )
    checksums = {path.name: zlib.crc32(np.memmap(path, np.uint8, 'r'))}
    details, benchmarks = {'archive': path.name, 'checksums': checksums, 'note': NOTE}, []
    for protocol in [benchmark] if benchmark else listed:
        folder, splits = find_folder(path, dataset, protocol, out_folder), {}
        for split in ('train', 'val'):
            names = sorted(listed[protocol].get(split, ()))
            for name in names:
                if name not in found or DATASETS[dataset].trains(Name.parse(name), protocol) != (
                    split == 'train'
                ):
                    what = 'belongs to the other split' if name in found else 'has no annotation'
                    raise cli.InputError(f'{path}: {name} of {protocol}_{split} {what}')
            splits[split] = (
                [f'{name}.skeleton' for name in names],
                [found[name][1] for name in names],
            )
        benchmarks.append(pipeline.Benchmark(dataset, protocol, folder, splits, details))
    return benchmarks, [
        Job(partial(archives.read_keypoint, found[name][0], name), str(path), (f'{name}.skeleton',))
        for name in sorted(found)
    ]


def find_folder(path: Path, dataset: str | None, benchmark: str, out_folder: Path | None) -> Path:
    """The folder of one benchmark; InputError for a data set that is not known or has no such
    protocol.
    """
    if not dataset:
        raise cli.InputError(
            f'{path}: its name and content do not say which data set it is: add --dataset'
        )
    if benchmark not in (*DATASETS[dataset].counts, *DATASETS[dataset].preparable):
        raise cli.InputError(f'{path}: {dataset} has no protocol {benchmark}')
    return (out_folder or ROOT / 'data' / DATASETS[dataset].folder) / benchmark


def read_names(
    path: Path, dataset: str, benchmark: str, split: str, labels: np.ndarray
) -> list[str]:
    """The names of an .npz's clips with these labels (N,), from a list: sorted by performer, camera
    or setup.
    """
    known = DATASETS[dataset]
    if not known.preparable:
        raise cli.InputError(f'--names: only for NTU RGB+D, not for {dataset}')
    found = Name.PATTERN.findall(
        path.read_bytes().replace(b'\0', b'').decode('latin-1')
    )  # UTF-8 or UTF-16
    names = [
        name
        for name in dict.fromkeys(Name(*map(int, numbers)) for numbers in found)
        if known.holds(name) and known.trains(name, benchmark) == (split == 'train')
    ]
    names.sort(key=lambda name: getattr(name, SORTED_BY[benchmark]))
    wrong = (
        f'{len(names)} names for {len(labels)} clips'
        if len(names) != len(labels)
        else next(
            (
                f'{name} for a clip with label {label} (from 0)'
                for name, label in zip(names, labels, strict=True)
                if name.action != label + 1
            ),
            None,
        )
    )
    if wrong:
        raise cli.InputError(
            f'{path}: not the list of this archive: {wrong} in the {split} split; use the list it '
            'was '
            'made with, or leave --names out'
        )
    return [f'{name}.skeleton' for name in names]


if __name__ == '__main__':
    cli.run(main)
