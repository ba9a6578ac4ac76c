"""The whole job on the embedded demo recordings, each stage by the command a user would type, then
one table.

    python -m tools.demo [--folder demo]

Raw recordings -> arrays -> pre-training of a narrow model -> linear probe and retrieval, with the
pre-trained encoder and, for comparison, with an untrained one of the same shape. Last comes a page
to explore the encoder in a browser.
"""

import tools.common.start  # noqa: F401

import importlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from model.umurl import UmURL
from tools import checkpoint
from tools.common import cli
from tools.options import ROOT

HIDDEN_SIZE = 64
MARK = '.umurl_demo'  # the demo only deletes files in a folder that has this file
RECORD = ['-m', 'data_gen.demo_recordings']
PREPARE = shlex.split('data_gen/ntu_gendata.py --dataset ntu60 --benchmark xsub')
PRETRAIN = shlex.split(
    'pretrain.py --recipe small-data --batch-size 64 --epochs 50 --schedule 40 '
    f'--hidden-size {HIDDEN_SIZE}'
)
PROBE = shlex.split(
    'action_recognition.py --lr 0.03 --batch-size 128 --epochs 100 --schedule 80 95'
)
RETRIEVAL = ['action_retrieval.py', '--knn-neighbours', 1]
EXPLORER = ['-m', 'tools.analysis.explorer']


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument(
        '--folder', type=Path, default=ROOT / 'demo', help='folder for everything (default demo/)'
    )
    parser.add_argument(
        '--performers',
        type=cli.positive_int,
        default=20,
        help='performers in the recordings (default 20)',
    )
    args = parser.parse_args(argv)
    folder = args.folder.absolute()
    raw, data, checkpoints = folder / 'raw', folder / 'data', folder / 'checkpoints'
    untrained = folder / 'untrained.pth.tar'
    start_afresh(folder, raw, data, checkpoints)

    record = [*RECORD, '--out', raw, '--performers', args.performers]
    prepare = [*PREPARE, '--data_path', raw, '--out_folder', data / 'NTU-RGB-D-60-AGCN']
    use_data = ['--data-root', data]
    seconds = {
        'demo recordings (synthetic)': run_command(*record),
        'preparation': run_command(*prepare),
        'pre-training': run_here(*PRETRAIN, *use_data, '--checkpoint-path', checkpoints),
    }
    torch.manual_seed(0)
    model = UmURL(150, 192, HIDDEN_SIZE)
    checkpoint.save(untrained, model, torch.optim.Adam(model.parameters()), 0)
    encoders = {'pre-trained': checkpoint.newest(checkpoints), 'not trained': untrained}
    accuracy = {}
    for task, command in (('linear probe', PROBE), ('retrieval', RETRIEVAL)):
        started = time.perf_counter()
        for encoder, path in encoders.items():
            results = folder / f'{task} {encoder}.json'.replace(' ', '_')
            run_here(*command, *use_data, '--pretrained', path, '--results', results)
            accuracy[encoder, task] = json.loads(results.read_text())['accuracy']
        seconds[f'{task}, both encoders'] = time.perf_counter() - started
    page = folder / 'explorer.html'
    seconds['explorer'] = run_here(*EXPLORER, encoders['pre-trained'], *use_data, '--out', page)
    seconds['total'] = sum(seconds.values())
    print_tables(accuracy, seconds)
    print(
        f'\nIn {folder}:\n'
        '  raw/ and data/           the recordings, and the arrays made of them\n'
        f'  checkpoints/             the encoder: {encoders["pre-trained"].name}\n'
        '  linear_probe_*.json      the results, as retrieval_*.json\n'
        f'  {page.name}            the clips and what the encoder makes of them, for a browser\n'
        'Next, your own recordings (data_gen/recordings.md):\n'
        '  source .venv/bin/activate    unless another environment is active\n'
        '  python -m data_gen.custom_gendata --recordings list.csv --joints coco17\n'
        'For arrays in pixels, add --pixels.'
    )


def print_tables(accuracy: dict[tuple[str, str], float], seconds: dict[str, float]) -> None:
    """The accuracy by (encoder, task), and the seconds of each stage."""
    print(
        '\nAccuracy on the test split, % (synthetic data: this shows that everything runs, not how '
        'good UmURL is)'
    )
    print(f'{"encoder":16}{"linear probe":>14}{"retrieval":>12}')
    for encoder in ('pre-trained', 'not trained'):
        probe, retrieval = accuracy[encoder, 'linear probe'], accuracy[encoder, 'retrieval']
        print(f'{encoder:16}{probe:14.1f}{retrieval:12.1f}')
    print('\nTime (s)')
    for name, taken in seconds.items():
        print(f'{name:30}{taken:8.1f}')


def start_afresh(folder: Path, *earlier: Path) -> None:
    """Create the demo's folder, or delete an earlier demo's files in it; InputError if they are
    someone else's.
    """
    own = folder == ROOT / 'demo' or (folder / MARK).is_file()
    if not own and any(path.exists() for path in earlier):
        raise cli.InputError(
            f'--folder {folder}: not a folder of the demo, and it has files that the demo would '
            'replace; name a new folder'
        )
    for path in earlier:
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text('The demo may delete raw/, data/ and checkpoints/ in this folder.\n')


def run_command(*command) -> float:
    """Run `python` with these words in the project's root; returns the seconds it took. If it
    fails, so do we. Ctrl-C and SIGTERM end us once it has ended, which may have work to save.
    """
    words = announced(command)
    started = time.perf_counter()
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        child = subprocess.Popen([sys.executable, *words], cwd=ROOT)
        code = child.wait()
    except KeyboardInterrupt:  # the terminal sends it to the child, too
        with suppress(KeyboardInterrupt):
            child.wait()
        child.terminate()  # after a second one
        raise
    except SystemExit:
        child.terminate()
        child.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        sys.exit(code)
    return time.perf_counter() - started


def run_here(*command) -> float:
    """As `run_command`, in this process, which has imported torch already: it takes seconds."""
    script, *flags = (word for word in announced(command) if word != '-m')
    started = time.perf_counter()
    module = importlib.import_module(script.removesuffix('.py'))
    sys.argv = [script, *flags]  # as results and logs record it
    module.main(flags)
    return time.perf_counter() - started


def announced(command: Iterable) -> list[str]:
    """The words of a command, which is printed."""
    words = [str(word) for word in command]
    print(f'\n$ python {" ".join(words)}', flush=True)
    return words


if __name__ == '__main__':
    cli.run(main)
