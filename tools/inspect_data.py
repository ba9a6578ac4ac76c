"""Look for trouble in the arrays of one benchmark, in either layout, made by this project or by another.

    python tools/inspect_data.py data/NTU-RGB-D-60-AGCN/xsub

Says what the arrays are, then names the recordings in which something is wrong or odd, the worst first; frames, bodies,
joints and labels count from 0, as in the arrays. Real data have findings, and they are no errors: exit code 2 is for a
folder without arrays, with damaged ones, or with others than its manifest says.
"""
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script

from data_gen import arrays, cli, manifest  # noqa: E402
from data_gen.ntu_gendata import ranges  # noqa: E402
from data_gen.protocols import DATASETS  # noqa: E402
from data_gen.reader import PartReader  # noqa: E402
from tools.clip_checks import CHECKS, examine  # noqa: E402

CLIPS_AT_ONCE = 64  # read at a time: 12 MB
IMBALANCE = 3  # times; the published data sets lie below


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument('folder', type=Path, metavar='FOLDER', help='of a benchmark, with train_* and val_*')
    parser.add_argument('--worst', type=int, default=3, metavar='N', help='recordings to name of each kind (default 3)')
    args = parser.parse_args(argv)
    parts = [PartReader(args.folder, part) for part in ('train', 'val') if arrays.layout_of(args.folder, part)]
    readers = [reader for reader in parts if len(reader)]
    if not readers:
        raise cli.InputError(f'{args.folder}: no prepared arrays there')
    made = manifest.read(args.folder)

    findings = defaultdict(list)
    digests = [look_through(reader, findings) for reader in readers]
    if made:
        hold_against(made, readers, digests)
    find_twins(readers, digests, findings)
    classes = class_count(made or {}, readers)
    for reader in readers:
        find_imbalance(reader, classes, findings)
    summarise(args.folder, made, readers, args.worst)
    report(findings, sum(map(len, readers)), args.worst)


def look_through(reader, findings):
    """Examine each clip of a part; returns their digests. findings {kind: [(size, what, where)]} grows."""
    digests = []
    with cli.progress(None, f'reading {reader.part}', len(reader), 'clip', leave=False) as bar:
        for first in range(0, len(reader), CLIPS_AT_ONCE):
            counts = reader.num_frame[first:first + CLIPS_AT_ONCE]
            frames = np.ascontiguousarray(reader.frames(first, first + CLIPS_AT_ONCE), np.float32)
            digests += manifest.clip_digests(frames, counts)
            for index, clip in enumerate(np.split(frames, counts.cumsum()[:-1]), first):
                for kind, size, what in examine(clip):
                    findings[kind].append((size, what, f'{reader.part} {reader.names[index]}'))
            bar.update(len(counts))
    return digests


KINDS = {'LEAK': 'the very same frames in train and in val', 'duplicate': 'the very same frames twice in one part',
         'not finite': 'NaN or infinite coordinates; nothing else was looked for in these',
         **{kind: check.__doc__ for kind, check in CHECKS.items()},
         'no clips': 'classes that a part has no clip of', 'imbalance': 'a class has many more clips than another'}


def hold_against(made, readers, digests):
    """InputError where the arrays are not those of their manifest."""
    found = {reader.part: manifest.part_hash(reader.names, reader.labels, reader.num_frame, clips)
             for reader, clips in zip(readers, digests, strict=True)}
    for part in ('train', 'val'):
        entry = made['parts'].get(part, {'clips': 0})
        if found.get(part) != (entry['hash'] if entry['clips'] else None):
            raise cli.InputError(f'{readers[0].folder}: {manifest.NAME} is of another {part} part: prepare the data '
                                 f'again, or delete {manifest.NAME} if you changed the arrays on purpose')


def find_twins(readers, digests, findings):
    """Clips with the very frames of an earlier one."""
    first = {}
    for reader, clips in zip(readers, digests, strict=True):
        for name, frames, digest in zip(reader.names, reader.num_frame, clips, strict=True):
            if digest in first:
                part, twin = first[digest]
                findings['duplicate' if part == reader.part else 'LEAK'].append(
                    (frames, f'the {frames} frames of {part} {twin}', f'{reader.part} {name}'))
            first.setdefault(digest, (reader.part, name))


def class_count(made, readers):
    """How many classes there are: as the data set or the manifest says, or else the labels."""
    known = DATASETS[made['dataset']].classes if made.get('dataset') in DATASETS else 0
    return known or len(made.get('class_names', ())) or 1 + max(max(reader.labels) for reader in readers)


def find_imbalance(reader, classes, findings):
    """Classes that a part has no clip of, or few."""
    count = Counter(reader.labels)
    if lacking := sorted(set(range(classes)) - count.keys()):
        what = f'{len(lacking)} of {classes}, labels {ranges(lacking)}'
        findings['no clips'].append((len(lacking), what, reader.part))
    most, least = max(count, key=count.get), min(count, key=count.get)
    if count[most] > IMBALANCE * count[least]:
        findings['imbalance'].append((count[most] / count[least], f'label {most} {count[most]} clips, label {least} '
                                      f'{count[least]}', reader.part))


def summarise(folder, made, readers, worst):
    """Say what the arrays are, by their manifest and by themselves."""
    if made is None:
        print(f'{folder}: no {manifest.NAME}, so nothing says how these arrays were made')
    else:
        print(f'{folder}: {made.get("dataset")} {made.get("benchmark")}, made by version {made.get("version")}')
    for reader in readers:
        counts, frames = Counter(reader.labels).values(), reader.num_frame
        print(f'  {reader.part}: {len(reader)} clips, {reader.layout}; {len(counts)} classes of {min(counts)} to '
              f'{max(counts)}; {frames.min()} to {frames.max()} frames, median {np.median(frames):g}')
    if made is None:
        return
    dataset = DATASETS.get(made.get('dataset'))
    if official := dataset and dataset.counts.get(made.get('benchmark')):
        same = official == tuple(entry['clips'] for entry in made['parts'].values())
        print('  the official counts' if same else f'  NOT the official counts, {official[0]} + {official[1]}')
    skipped = made.get('skipped', {})
    print(f'  {len(skipped)} recordings were skipped when it was made' + (':' if skipped and worst else ''))
    for name, reason in [*skipped.items()][:worst]:
        print(f'    {name}: {reason}')


def report(findings, clips, worst):
    """The table of what was found; share: of all clips."""
    print(f'\n{"":14} found   share   {clips} clips looked at')
    for kind in filter(findings.get, KINDS):
        found = sorted(findings[kind], key=lambda finding: -finding[0])
        share = f'{len(found) / clips:8.2%}' if kind not in ('no clips', 'imbalance') else ''
        print(f'{kind:14}{len(found):6}{share:8}   {KINDS[kind]}')
        for _, what, where in found[:worst]:
            print(f'{"":14}{where}: {what}')
    print('nothing of: ' + ', '.join(kind for kind in KINDS if kind not in findings))


if __name__ == '__main__':
    cli.run(main)
