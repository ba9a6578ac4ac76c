"""From planned benchmarks to finished folders: what the preparing commands do once they know their
recordings.
"""

import os
import re
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_gen import __version__, manifest, raw_files
from data_gen.arrays import LAYOUTS, ROW_BYTES, layout_of
from data_gen.interrupts import resumable
from data_gen.preprocess import MAX_FRAME
from data_gen.protocols import DATASETS, PROTOCOLS, Name
from data_gen.workers import Job, in_order
from data_gen.writer import SplitWriter
from tools.common import cli
from tools.common.locks import folder_lock

ROOT = Path(__file__).resolve().parent.parent
FEW = 5  # files with the same reason, each of which is named
DECIMAL = re.compile(r'\d+\.\d+(?:e[-+]\d+)?')


class Benchmark(NamedTuple):
    """What one folder is to hold: splits {'train': (names, labels), 'val': …}, the names in the
    order of the jobs.
    """

    dataset: str
    name: str
    folder: Path
    splits: dict
    details: dict = {}  # more for the manifest

    def writers(self, layout: str, overwrite: bool = False) -> dict[str, SplitWriter]:
        return {
            split: SplitWriter(self.folder, split, *recordings, layout, self.details, overwrite)
            for split, recordings in self.splits.items()
        }


def add_flags(parser: cli.Parser, default_folder: str, raw: Path | None = None) -> None:
    """The flags that every preparing command has: --out_folder, --layout, --overwrite, --workers;
    and --data_path, if `raw` is its default.
    """
    flag = parser.add_argument
    if raw:
        flag(
            '--data_path',
            '--data-path',
            type=Path,
            default=raw,
            metavar='FOLDER',
            help='the folder of recordings, as published (default: %(default)s)',
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    flag(
        '--out_folder',
        '--out-folder',
        type=Path,
        metavar='FOLDER',
        help=f"the data set's own folder (default: {default_folder})",
    )
    flag(
        '--layout',
        choices=LAYOUTS,
        default='padded',
        help='padded: as published; trimmed: valid frames only, a quarter of the disk (default padded)',
    )
    flag('--overwrite', action='store_true', help='prepare again what is finished')
    flag(
        '-j',
        '--workers',
        type=cli.positive_int,
        default=cores,
        help='processes (default: one per core)',
    )


def split_up(recordings: Iterable[tuple[str, str, int]]) -> dict:
    """The splits of a Benchmark, from (split, name, label) of each recording."""
    splits = {'train': ([], []), 'val': ([], [])}
    for split, name, label in recordings:
        names, labels = splits[split]
        names.append(name)
        labels.append(label)
    return splits


def run(benchmarks: list[Benchmark], jobs: list[Job], args: Namespace) -> int:
    """Prepare `benchmarks` from the files of `jobs`, or resume an earlier run; returns the exit
    code. args: of `add_flags`.
    """
    layout = args.layout
    path_of = {name: job.path for job in jobs for name in job.names}
    with folder_lock({benchmark.folder for benchmark in benchmarks}):
        pending = [
            benchmark
            for benchmark in benchmarks
            if args.overwrite or not is_finished(benchmark, layout, path_of)
        ]
        if not pending:
            say_next(benchmarks[0])
            return 0
        writers = [benchmark.writers(layout, args.overwrite) for benchmark in pending]
        all_writers = [writer for splits in writers for writer in splits.values()]
        for writer in all_writers:
            writer.open()
        prepare(all_writers, jobs, layout, args.workers)
        usable = any(writer.num_frames for writer in all_writers)
        if usable:
            for benchmark, splits in zip(pending, writers, strict=True):
                finish(benchmark, splits, layout)
        else:
            print('error: no usable recording was left, nothing was written', file=sys.stderr)
        for writer in all_writers:
            writer.clean_up()

    skipped = {}
    for writer in all_writers:
        skipped |= writer.skipped
    if skipped:
        print(f'{cli.plural(len(skipped), "recording")} skipped:')
    print_reasons(sorted((path_of[name], reason) for name, reason in skipped.items()))
    if not usable:
        return 1
    say_next(benchmarks[0])
    return 0


def say_next(benchmark: Benchmark) -> None:
    """Print the command that pre-trains on a folder, if pretrain.py has its protocol, and before
    that the name that its parent needs.
    """
    known, folder = DATASETS[benchmark.dataset], benchmark.folder.parent.absolute()
    if benchmark.name not in known.counts:
        return
    if folder.name != known.folder:
        print(f'to pre-train, rename {folder} to {known.folder}')
    protocol = next(name for name, short in PROTOCOLS.items() if short == benchmark.name)
    command = ['./script_pretrain.sh', benchmark.dataset, protocol]
    if folder.parent != ROOT / 'data':
        command += ['--data-root', str(folder.parent)]
    print(f'next: {shlex.join(command)}')


def print_reasons(reasons: Iterable[tuple[str | Path, str]], noun: str = 'recording') -> None:
    """Print why files are skipped, from the (path, reason) of each.

    If more than a few give reasons that differ in numbers alone, that is one line, unless the
    reasons name lines of the files.
    """
    kinds = {}  # a reason without its numbers, and all that give it
    for path, reason in reasons:
        kind = re.sub(r'\d+', '#', DECIMAL.sub('#.#', reason))
        kinds.setdefault(kind, []).append((path, reason))
    for kind, found in kinds.items():
        lines = [*dict.fromkeys(f'{path}: {reason}' for path, reason in found)]
        if len(found) > FEW and 'line #' not in kind:
            paths, texts = zip(*found, strict=True)
            count = cli.plural(len(found), noun)
            lines = [f'{count}, such as {paths[0]}: {with_ranges(texts)}']
        for line in cli.shorten(lines, ' of this kind'):
            print(f'  {line}')


def with_ranges(texts: Sequence[str]) -> str:
    """The first of texts that differ in numbers alone, with the range of each decimal number."""
    ranges = []
    for numbers in zip(*map(DECIMAL.findall, texts), strict=True):
        ends = min(numbers, key=float), max(numbers, key=float)
        ranges.append(' to '.join(dict.fromkeys(ends)))
    return DECIMAL.sub(lambda _: ranges.pop(0), texts[0])


def print_stray(paths: list[Path], form: str = 'as published') -> None:
    """Print which files are skipped because they are not named in this form."""
    print_reasons([(path, f'skipped, not named {form}') for path in paths], 'file')


def prepare(writers: list[SplitWriter], jobs: list[Job], layout: str, workers: int) -> None:
    """Read the files that are still needed, and give each recording to the writers that want it."""
    wanted = [set(writer.names[len(writer.records) :]) for writer in writers]
    unread = set().union(*wanted)
    remaining = [job for job in jobs if unread & {*job.names}]
    if any(writer.records for writer in writers):
        print(f'resuming an earlier run: {len(remaining)} files are left to read')
    # Better to fail now than after an hour; the size of trimmed arrays is known only at the end.
    needed = sum(map(len, wanted)) * ROW_BYTES[layout] if layout == 'padded' else 0
    free = shutil.disk_usage(writers[0].folder).free
    if needed > free:
        raise cli.InputError(
            f'{writers[0].folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free '
            '(--layout trimmed needs about a quarter)'
        )
    described = {}  # a file can have many recordings
    with resumable():
        results = in_order(remaining, layout, workers)
        for job, prepared in cli.progress(results, 'preparing', len(remaining), 'file'):
            if job.path not in described:
                described[job.path] = raw_files.describe(job.path)
            for name, (record, data) in zip(job.names, prepared, strict=True):
                for writer, names in zip(writers, wanted, strict=True):
                    if name in names:
                        writer.append(record | {'file': described[job.path]}, data)


def finish(benchmark: Benchmark, writers: dict[str, SplitWriter], layout: str) -> None:
    """Complete a folder's files, write its manifest, and print the numbers of clips."""
    entries = {split: writer.finish() for split, writer in writers.items()}
    records, notes, skipped, files = [], {}, {}, {}
    for writer in writers.values():
        records += writer.records
        skipped |= writer.skipped
        for name, record in zip(writer.names, writer.records, strict=True):
            if 'file' in record:  # not in the journal of a run that an earlier version began
                files[name] = record['file']
    for record in records:
        for what, counts in record.get('notes', {}).items():
            notes[what] = np.add(counts, notes.get(what, 0)).tolist()
    more = {'notes': notes} if notes else {}
    manifest.write(
        benchmark.folder,
        dataset=benchmark.dataset,
        benchmark=benchmark.name,
        layout=layout,
        parts=entries,
        skipped=skipped,
        version=__version__,
        **benchmark.details,
        **more,
    )
    raw_files.write(benchmark.folder, files)
    counts = tuple(entry['clips'] for entry in entries.values())
    print(f'{benchmark.folder}: {counts[0]} train + {counts[1]} val recordings')
    for what, (count, total) in notes.items():
        if count:
            print(f'  {count:,} of {total:,} {what}')
    if cut := sum(record.get('cut', False) for record in records):
        print(
            f'  of {cli.plural(cut, "recording")} above {MAX_FRAME} frames, only the first '
            f'{MAX_FRAME} are used'
        )
    dataset = DATASETS[benchmark.dataset]
    official = dataset.counts.get(benchmark.name)
    if official == counts:
        print('  the official counts')
    elif official:
        names = [
            Name.parse(name.removesuffix('.skeleton'))
            for writer in writers.values()
            for name in writer.names
        ]
        # archives can lack names
        missing = '' if None in names else f'; {dataset.describe_missing(names)}'
        print(f'  not the official counts: {official[0]} + {official[1]}{missing}')


def is_finished(benchmark: Benchmark, layout: str, path_of: dict[str, str]) -> bool:
    """Whether a folder holds just what this run would prepare; InputError if it holds other arrays,
    or the files of its recordings have changed. path_of: {name: path}.
    """
    folder = benchmark.folder
    if not any(layout_of(folder, split) for split in benchmark.splits):
        return False
    found, writers = manifest.read(folder), benchmark.writers(layout)
    if found is None and any(writer.journal_path.is_file() for writer in writers.values()):
        return False  # an earlier run was stopped just before it wrote the manifest
    if found is None or any(
        found['parts'].get(split, {}).get('plan') != writer.plan
        for split, writer in writers.items()
    ):
        raise cli.InputError(f'{folder}: other arrays are there already; --overwrite replaces them')
    # an earlier run may have been stopped before it could, or while preparing again
    for writer in writers.values():
        writer.clean_up()
    known = raw_files.check(folder, path_of)
    advice = '--overwrite prepares it again' if known else 'if recordings have changed, --overwrite'
    print(f'{folder}: finished already, {found["layout"]} ({advice})')
    return True
