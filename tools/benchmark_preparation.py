"""How preparation grows with the number of recordings: time, and the peak memory of all its processes together.

    python -m tools.benchmark_preparation [--sizes 500 5000 20000] [--recordings FOLDER] [--layout trimmed]

The recordings are hard links, under other names, to a few hundred files: those of --recordings, or demo recordings.
Linux only (memory is read from /proc).
"""
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_gen import cli
from data_gen.arrays import LAYOUTS
from data_gen.demo_recordings import write_recordings
from data_gen.protocols import Name
from tools.options import ROOT

NTU120_FILES = 114_480


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument('--sizes', type=int, nargs='+', default=[500, 5000, 20000], help='default 500 5000 20000')
    parser.add_argument('--recordings', type=Path, metavar='FOLDER', help='.skeleton files (default: demo recordings)')
    parser.add_argument('--layout', choices=LAYOUTS, default='padded', help='default padded')
    parser.add_argument('--folder', type=Path, help='where to work (default: a temporary folder)')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        made = Path(made)
        if args.recordings is None:
            write_recordings(made / 'demo', performers=10, classes=10)
        sources = sorted((args.recordings or made / 'demo').glob('*.skeleton'))
        if not sources:
            raise cli.InputError(f'--recordings {args.recordings}: no .skeleton files there')
        size = sum(source.stat().st_size for source in sources) / len(sources)
        print(f'{len(sources)} files, {size / 1e3:.0f} kB each on average; two protocols; {args.layout}')
        for count in args.sizes:
            folder = made / str(count)
            link(sources, folder / 'raw', count)
            seconds, peak = measure(folder, args.layout)
            print(f'{count:7} recordings: {seconds:7.1f} s, {1e3 * seconds / count:.2f} ms each, peak {peak / 1e6:.0f} '
                  f'MB; NTU-120 at this pace: {seconds / count * NTU120_FILES / 60:.1f} min', flush=True)
            subprocess.run(['rm', '-r', folder], check=True)


def link(sources, folder, count):
    """`count` recordings of NTU-60's names, linked in turn to the sources."""
    folder.mkdir(parents=True)
    names = itertools.product(range(1, 18), range(1, 4), range(1, 41), range(1, 3), range(1, 61))
    for source, name in zip(itertools.cycle(sources), itertools.islice(names, count)):  # noqa: B905, one is endless
        os.link(source.resolve(), folder / f'{Name(*name)}.skeleton')


def measure(folder, layout):
    """Seconds and peak bytes of preparing folder/raw."""
    began, peak = time.perf_counter(), 0
    run = subprocess.Popen([sys.executable, ROOT / 'data_gen/ntu_gendata.py', '--dataset', 'ntu60', '--layout', layout,
                            '--data_path', folder / 'raw', '--out_folder', folder / 'out'],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None:
        peak = max(peak, sum(map(memory, family(run.pid))))
        time.sleep(0.05)
    if run.returncode:
        raise cli.InputError(f'preparing {folder} ended with code {run.returncode}')
    return time.perf_counter() - began, peak


def family(pid):
    """A process and all its descendants."""
    try:
        children = [int(child) for task in Path(f'/proc/{pid}/task').iterdir()
                    for child in (task / 'children').read_text().split()]
    except OSError:  # gone meanwhile
        return []
    return [pid, *(member for child in children for member in family(child))]


def memory(pid):
    """A process's proportional share of memory in bytes: what it shares with its children counts once."""
    try:
        lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith('Pss:'))


if __name__ == '__main__':
    cli.run(main)
