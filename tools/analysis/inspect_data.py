"""Look for trouble in the prepared arrays of one benchmark, in either layout, from this project or
another.

    python -m tools.analysis.inspect_data data/NTU-RGB-D-60-AGCN/xsub

Prints what the arrays are, then what is wrong or odd in which recordings, the worst first; real
data have findings. Frames, bodies and joints count from 0, actions from 1, as in names of NTU
RGB+D. The exit code is 2 if the arrays are missing, damaged, or not those that their manifest
describes.
"""

import tools.common.start  # noqa: F401

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_gen import manifest
from data_gen.arrays import layout_of
from data_gen.protocols import DATASETS, num_classes, number_ranges
from data_gen.reader import SplitReader
from tools.analysis import clip_checks
from tools.analysis.clip_checks import Finding
from tools.common import cli

SPLITS = ('train', 'val')
IMBALANCE = 3  # times as many clips; the published data sets stay below
OF_CLASSES = {
    'no clips': 'classes without clips',
    'imbalance': 'a class has many more than another',
}
KINDS = {
    'LEAK': 'exactly the same frames in train and in val',
    'duplicate': 'exactly the same frames twice in a split',
    **clip_checks.KINDS,
    **OF_CLASSES,
}


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
    readers = [SplitReader(args.folder, split) for split in SPLITS if layout_of(args.folder, split)]
    readers = [reader for reader in readers if len(reader)]
    if not readers:
        raise cli.InputError(f'{args.folder}: no prepared arrays there{hint(args.folder)}')
    description = manifest.read(args.folder) or {}
    findings, first_seen = [], {}
    for reader in readers:
        findings += check_clips(reader, first_seen)
    labels = [label for reader in readers for label in reader.labels]
    classes = num_classes(description.get('dataset'), description.get('class_names'), labels)
    for reader in readers:
        findings += check_classes(reader.split, reader.labels, classes)
    for split in sorted({*SPLITS} - {reader.split for reader in readers}):
        manifest.check(args.folder, split, [], [], [], [])
        findings.append(Finding('no clips', classes, f'{split}: the whole split is empty'))
    print_arrays(args.folder, description, readers, args.worst)
    print_findings(findings, sum(map(len, readers)), args.worst)


def hint(folder: Path) -> str:
    """For a folder without arrays: the folders in it that have some."""
    below = sorted(folder.glob('*/'))
    below = [str(path) for path in below if any(layout_of(path, split) for split in SPLITS)]
    return f'; did you mean {" or ".join(below)}?' if below else ''


def check_clips(reader: SplitReader, first_seen: dict[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with single clips of a split. They are added to first_seen {digest:
    where}.
    """
    split, digests = reader.split, []
    for index in cli.progress(range(len(reader)), f'reading {split}', unit='clip', leave=False):
        clip = reader.frames([index])
        where = f'{split} {reader.names[index]}'
        for finding in clip_checks.examine(clip):
            yield finding._replace(text=f'{where}: {finding.text}')
        digest = manifest.clip_digest(clip)
        digests.append(digest)
        if twin := first_seen.get(digest):
            kind = 'duplicate' if twin.startswith(f'{split} ') else 'LEAK'
            yield Finding(kind, len(clip), f'{where}: the {len(clip)} frames of {twin}')
        first_seen.setdefault(digest, where)
    manifest.check(reader.folder, split, reader.names, reader.labels, reader.num_frames, digests)


def check_classes(split: str, labels: list[int], classes: int) -> Iterator[Finding]:
    """Yield what is wrong with the number of clips per class."""
    count = Counter(labels)
    if missing := [label + 1 for label in range(classes) if label not in count]:
        text = f'{split}: {len(missing)} of {classes}, actions {number_ranges(missing)}'
        yield Finding('no clips', len(missing), text)
    most, least = max(count, key=count.get), min(count, key=count.get)
    ratio = count[most] / count[least]
    if ratio > IMBALANCE:
        text = f'{split}: action {most + 1} {count[most]} clips, action {least + 1} {count[least]}'
        yield Finding('imbalance', ratio, text)


def print_arrays(folder: Path, description: dict, readers: list[SplitReader], worst: int) -> None:
    """What the arrays are, by their manifest `description`, {} if there is none. `worst` of the
    skipped recordings are listed.
    """
    dataset, benchmark = description.get('dataset'), description.get('benchmark')
    if description:
        print(f'{folder}: {dataset} {benchmark}, prepared by version {description.get("version")}')
    else:
        print(f'{folder}: no {manifest.NAME}, so nothing tells how these arrays were prepared')
    for reader in readers:
        counts, frames = Counter(reader.labels).values(), reader.num_frames
        print(
            f'  {reader.split}: {cli.plural(len(reader), "clip")}, {reader.layout}; '
            f'{len(counts)} classes of {min(counts)} to {max(counts)}; '
            f'{frames.min()} to {frames.max()} frames, median {np.median(frames):g}'
        )
    official = DATASETS[dataset].counts.get(benchmark) if dataset in DATASETS else None
    if official:
        found = tuple(entry['clips'] for entry in description['parts'].values())
        train, val = official
        print(
            '  the official counts'
            if found == official
            else f'  not the official counts, {train} + {val}'
        )
    if 'skipped' in description:
        skipped = description['skipped']
        print(f'  skipped in preparation: {cli.plural(len(skipped), "recording")}')
        for name in list(skipped)[:worst]:
            print(f'    {name}: {skipped[name]}')


def print_findings(findings: list[Finding], num_clips: int, worst: int) -> None:
    """A table of the kinds of findings, each with its worst."""
    print(f'\n{"":14} found   share   {cli.plural(num_clips, "clip")} checked')
    absent = []
    for kind, meaning in KINDS.items():
        found = [finding for finding in findings if finding.kind == kind]
        if not found:
            absent.append(kind)
            continue
        share = '' if kind in OF_CLASSES else f'{len(found) / num_clips:8.2%}'
        print(f'{kind:14}{len(found):6}{share:8}   {meaning}')
        found.sort(key=lambda finding: -finding.size)
        for finding in found[:worst]:
            print(f'{"":14}{finding.text}')
    print(f'none of: {", ".join(absent)}')


if __name__ == '__main__':
    cli.run(main)
