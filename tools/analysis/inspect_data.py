"""Look for trouble in the prepared arrays of one benchmark, in either layout, from this project or
another.

    python -m tools.analysis.inspect_data data/NTU-RGB-D-60-AGCN/xsub

Prints what the arrays are, then what is wrong or odd in which recordings, the worst first; real
data have findings. All numbers count from 0. The exit code is 2 if the arrays are missing, damaged,
or not those that their manifest describes.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_gen import manifest
from data_gen.arrays import layout_of
from data_gen.protocols import DATASETS, num_classes, number_ranges
from data_gen.reader import SplitReader
from tools.analysis import clip_checks
from tools.common import cli

IMBALANCE = 3  # times as many clips; the published data sets stay below
KINDS = {
    'LEAK': 'exactly the same frames in train and in val',
    'duplicate': 'exactly the same frames twice in a split',
    **clip_checks.KINDS,
    'no clips': 'classes without clips',
    'imbalance': 'a class has many more than another',
}
Finding = tuple[str, float, str]  # a key of KINDS, a size (the larger, the worse), a line of text


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument(
        'folder',
        type=Path,
        metavar='FOLDER',
        help='the folder of a benchmark, with train_* and val_*',
    )
    parser.add_argument(
        '--worst', type=int, default=3, metavar='N', help='recordings to list per kind (default 3)'
    )
    args = parser.parse_args(argv)
    readers = [
        reader
        for split in ('train', 'val')
        if layout_of(args.folder, split) and len(reader := SplitReader(args.folder, split))
    ]
    if not readers:
        below = [
            path
            for path in sorted(args.folder.glob('*/'))
            if layout_of(path, 'train') or layout_of(path, 'val')
        ]
        hint = f'; did you mean {" or ".join(map(str, below))}?' if below else ''
        raise cli.InputError(f'{args.folder}: no prepared arrays there{hint}')
    empty = sorted({'train', 'val'} - {reader.split for reader in readers})
    for split in empty:
        manifest.check(args.folder, split, [], [], [], [])
    description, first_seen = manifest.read(args.folder) or {}, {}
    findings = [finding for reader in readers for finding in check_clips(reader, first_seen)]
    classes = num_classes(
        description.get('dataset'),
        description.get('class_names'),
        [label for reader in readers for label in reader.labels],
    )
    findings += [
        finding
        for reader in readers
        for finding in check_classes(reader.split, reader.labels, classes)
    ]
    findings += [('no clips', classes, f'{split}: the whole split is empty') for split in empty]
    print_report(args.folder, description, readers, findings, args.worst)


def check_clips(reader: SplitReader, first_seen: dict[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with single clips of a split. They are added to first_seen {digest:
    where}.
    """
    digests = []
    for index in cli.progress(
        range(len(reader)), f'reading {reader.split}', unit='clip', leave=False
    ):
        clip = reader.frames([index])
        where = f'{reader.split} {reader.names[index]}'
        for kind, size, text in clip_checks.examine(clip):
            yield kind, size, f'{where}: {text}'
        digests.append(manifest.clip_digest(clip))
        if twin := first_seen.get(digests[-1]):
            kind = 'duplicate' if twin.startswith(f'{reader.split} ') else 'LEAK'
            yield kind, len(clip), f'{where}: the {len(clip)} frames of {twin}'
        first_seen.setdefault(digests[-1], where)
    manifest.check(
        reader.folder, reader.split, reader.names, reader.labels, reader.num_frames, digests
    )


def check_classes(split: str, labels: list[int], classes: int) -> Iterator[Finding]:
    """Yield what is wrong with the number of clips per class."""
    count = Counter(labels)
    if missing := sorted(set(range(classes)) - count.keys()):
        yield (
            'no clips',
            len(missing),
            f'{split}: {len(missing)} of {classes}, labels {number_ranges(missing)}',
        )
    most, least = max(count, key=count.get), min(count, key=count.get)
    if (ratio := count[most] / count[least]) > IMBALANCE:
        yield (
            'imbalance',
            ratio,
            f'{split}: label {most} {count[most]} clips, label {least} {count[least]}',
        )


def print_report(
    folder: Path, description: dict, readers: list[SplitReader], findings: list[Finding], worst: int
) -> None:
    """What the arrays are, by their manifest `description` ({} if there is none), and the worst
    findings of a kind.
    """
    dataset, benchmark, version = map(description.get, ('dataset', 'benchmark', 'version'))
    print(
        f'{folder}: {dataset} {benchmark}, prepared by version {version}'
        if description
        else f'{folder}: no {manifest.NAME}, so nothing tells how these arrays were prepared'
    )
    for reader in readers:
        counts, frames = Counter(reader.labels).values(), reader.num_frames
        print(
            f'  {reader.split}: {cli.plural(len(reader), "clip")}, {reader.layout}; {len(counts)} '
            'classes of '
            f'{min(counts)} to {max(counts)}; {frames.min()} to {frames.max()} frames, median '
            f'{np.median(frames):g}'
        )
    if official := dataset in DATASETS and DATASETS[dataset].counts.get(benchmark):
        same = official == tuple(entry['clips'] for entry in description['parts'].values())
        print(
            '  the official counts'
            if same
            else f'  NOT the official counts, {official[0]} + {official[1]}'
        )
    if (skipped := description.get('skipped')) is not None:
        print(f'  skipped in preparation: {cli.plural(len(skipped), "recording")}')
        for name, reason in [*skipped.items()][:worst]:
            print(f'    {name}: {reason}')
    total, count = sum(map(len, readers)), Counter(kind for kind, _, _ in findings)
    print(f'\n{"":14} found   share   {cli.plural(total, "clip")} checked')
    for kind in filter(count.get, KINDS):
        share = f'{count[kind] / total:8.2%}' if kind not in ('no clips', 'imbalance') else ''
        print(f'{kind:14}{count[kind]:6}{share:8}   {KINDS[kind]}')
        for _, _, text in sorted(
            (each for each in findings if each[0] == kind), key=lambda each: -each[1]
        )[:worst]:
            print(f'{"":14}{text}')
    print('none of: ' + ', '.join(kind for kind in KINDS if not count[kind]))


if __name__ == '__main__':
    cli.run(main)
