"""From a plan to finished folders: what every preparing command does once it knows its recordings."""
import shutil
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from data_gen import __version__, cli, manifest
from data_gen.arrays import LAYOUTS, layout_of
from data_gen.workers import cores, in_order
from data_gen.writer import ROW_BYTES, PartWriter


class Benchmark(NamedTuple):
    """What one folder is to hold: parts {'train': (names, labels), 'val': …}, in the order of the jobs."""
    dataset: str
    name: str
    folder: Path
    parts: dict
    official: tuple | None = None  # the published counts of train and val
    missing: object = None  # names -> what is not there, in words, where the counts are not the official ones
    about: dict = {}  # more for the manifest


def add_flags(parser):
    """The flags that every preparing command has."""
    parser.add_argument('--layout', choices=LAYOUTS, default='padded',
                        help='padded: as published; trimmed: valid frames only, a quarter of the disk (default padded)')
    parser.add_argument('--overwrite', action='store_true', help='prepare again what is finished')
    parser.add_argument('-j', '--workers', type=cli.positive, default=cores(), help='processes (default: one a core)')


def run(benchmarks, jobs, args):
    """Prepare `benchmarks` from the files of `jobs`, or go on with it; the exit code."""
    with alone({benchmark.folder for benchmark in benchmarks}):
        due = [benchmark for benchmark in benchmarks if args.overwrite or not finished(benchmark, args.layout)]
        if not due:
            return 0
        writers = {(benchmark.folder, part): PartWriter(benchmark.folder, part, *plan, args.layout, benchmark.about,
                                                        args.overwrite)
                   for benchmark in due for part, plan in benchmark.parts.items()}
        for writer in writers.values():
            writer.open()
        skipped = prepare(list(writers.values()), jobs, args)
        if not any(writer.kept() for writer in writers.values()):
            for writer in writers.values():
                writer.discard()
            report(skipped)
            print('error: no usable recording was left, nothing was written', file=sys.stderr)
            return 1
        for benchmark in due:
            finish(benchmark, {part: writers[benchmark.folder, part] for part in benchmark.parts}, skipped, args.layout)
        report(skipped)
    return 0


def prepare(writers, jobs, args):
    """Bring every writer to the end of its plan; {name: (path, reason)} of what could not be used."""
    wanted = [set(writer.names[writer.done:]) for writer in writers]
    left = [job for job in jobs if any(name in names for name in job.names for names in wanted)]
    if any(writer.done for writer in writers):
        print(f'going on with an earlier run: {len(left)} files are left to read')
    check_space(writers)
    try:
        for job, results in cli.progress(in_order(left, args.layout, args.workers), 'preparing', len(left), 'file'):
            for name, (record, data) in zip(job.names, results, strict=True):
                for writer, names in zip(writers, wanted, strict=True):
                    if name in names:
                        writer.append(record, data)
    except OSError as error:
        raise cli.InputError(f'{error}; nothing that is done is lost, the same command goes on from here') from error
    except KeyboardInterrupt:
        print('\nstopped; the same command goes on from here', file=sys.stderr)
        raise
    path_of = {name: job.path for job in jobs for name in job.names}
    return {name: (path_of[name], record['reason']) for writer in writers
            for name, record in zip(writer.names, writer.journal.records, strict=True) if 'reason' in record}


def finish(benchmark, writers, skipped, layout):
    """Name the files, write the manifest, say what there is."""
    parts = {part: writer.finish() for part, writer in writers.items()}
    members = {name for writer in writers.values() for name in writer.names}
    manifest.write(benchmark.folder, dataset=benchmark.dataset, benchmark=benchmark.name, layout=layout, parts=parts,
                   skipped={name: reason for name, (_, reason) in skipped.items() if name in members},
                   version=__version__, **benchmark.about)
    for writer in writers.values():
        writer.clear()
    counts = {part: entry['clips'] for part, entry in parts.items()}
    print(f'{benchmark.folder}: ' + ' + '.join(f'{count} {part}' for part, count in counts.items()) + ' recordings')
    if benchmark.official:
        same = tuple(counts.values()) == benchmark.official
        print('  the official counts' if same else f'  NOT the official counts: {benchmark.official[0]} + '
              f'{benchmark.official[1]}; {benchmark.missing(members)}')


def finished(benchmark, layout):
    """Whether a folder holds this preparation, finished: it is left alone, and said. InputError for another one."""
    folder = benchmark.folder
    if not any(layout_of(folder, part) for part in benchmark.parts):
        return False
    made = manifest.read(folder)
    writers = {part: PartWriter(folder, part, *plan, layout, benchmark.about) for part, plan in benchmark.parts.items()}
    if made is None and any(writer.journal_file.is_file() for writer in writers.values()):
        return False  # stopped on the last yards
    if made is None or any(made['parts'].get(part, {}).get('plan') != writer.plan for part, writer in writers.items()):
        raise cli.InputError(f'{folder}: other arrays are there already, made of other recordings or elsewhere; '
                             '--overwrite replaces them')
    for writer in writers.values():  # stopped behind the last yards, or while preparing again
        writer.forget()
    print(f'{folder}: finished already, {made["layout"]} (--overwrite prepares it again)')
    return True


def check_space(writers):
    """Better now than after an hour. Trimmed, the need shows only at the end; a full disk then loses nothing."""
    need = sum((len(writer.names) - writer.done) * ROW_BYTES for writer in writers if writer.layout == 'padded')
    free = shutil.disk_usage(writers[0].folder).free
    if need > free:
        raise cli.InputError(f'{writers[0].folder}: {need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free '
                             '(--layout trimmed needs about a quarter)')


def report(skipped):
    """List what was skipped, and why."""
    if skipped:
        print(f'{len(skipped)} recordings skipped:')
    for path, reason in sorted(set(skipped.values())):
        print(f'  {path}: {reason}')


@contextmanager
def alone(folders):
    """Hold folders to this process; InputError where another run is at work in one of them."""
    with ExitStack() as held:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(open(folder / '.lock', 'w'))
            if not lock(file):
                raise cli.InputError(f'{folder}: another run is preparing data there; wait for it, or stop it')
        yield


def lock(file, patience=2):
    """Lock an open file until it is closed or its process gone; False where another holds it for `patience` seconds.

    The workers of a killed run hold it too, for the moment until they notice.
    """
    try:
        import fcntl
    except ImportError:  # not on this system: two runs at once are the user's own care
        return True
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        except OSError:  # a file system without locks
            return True
