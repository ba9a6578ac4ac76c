"""The whole job on the embedded demo recordings, each stage by the command a user would type, then one table.

    python -m tools.demo [--folder demo]

Raw recordings -> arrays -> pre-training of a narrow model -> linear probe and retrieval, for the pre-trained encoder
and, as a yardstick, for one of the same shape that was not trained.
"""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from data_gen import cli
from model.umurl import UmURL
from tools import checkpoint
from tools.options import ROOT

HIDDEN_SIZE = 64
RAW, ARRAYS, TRAINED, UNTRAINED = 'raw', 'data/NTU-RGB-D-60-AGCN', 'checkpoints', 'untrained.pth.tar'
PREPARE = ['data_gen/ntu_gendata.py', '--dataset', 'ntu60', '--benchmark', 'xsub']
PRETRAIN = ['pretrain.py', '--hidden-size', HIDDEN_SIZE, '--batch-size', 64, '--epochs', 50, '--lr', 0.005,
            '--schedule', 40]
PROBE = ['action_recognition.py', '--lr', 0.03, '--batch-size', 128, '--epochs', 100, '--schedule', 80, 95]
RETRIEVAL = ['action_retrieval.py', '--knn-neighbours', 1]


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument('--folder', type=Path, default=ROOT / 'demo', help='where everything goes (default demo/)')
    parser.add_argument('--performers', type=int, default=20, help='of the demo recordings (default 20)')
    args = parser.parse_args(argv)
    folder = args.folder.absolute()
    for made in (RAW, 'data', TRAINED):
        shutil.rmtree(folder / made, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)

    seconds = {
        'demo recordings (synthetic)': stage('data_gen/demo_recordings.py', '--out', folder / RAW,
                                             '--performers', args.performers),
        'preparation': stage(*PREPARE, '--data_path', folder / RAW, '--out_folder', folder / ARRAYS),
        'pre-training': stage(*PRETRAIN, '--data-root', folder / 'data', '--checkpoint-path', folder / TRAINED)}
    save_untrained(folder / UNTRAINED)
    encoders = {'pre-trained': checkpoint.newest(folder / TRAINED), 'not trained': folder / UNTRAINED}
    scores = {}
    for task, command in (('linear probe', PROBE), ('retrieval', RETRIEVAL)):
        began = time.perf_counter()
        for encoder, path in encoders.items():
            results = folder / f'{task} {encoder}.json'.replace(' ', '_')
            stage(*command, '--data-root', folder / 'data', '--pretrained', path, '--results', results)
            scores[encoder, task] = json.loads(results.read_text())['accuracy']
        seconds[f'{task}, both encoders'] = time.perf_counter() - began
    report(seconds, scores, encoders)


def stage(*command):
    """Run one of the project's scripts; the seconds it took. A failure ends the demo with its exit code."""
    command = [str(word) for word in command]
    print(f'\n$ python {" ".join(command)}', flush=True)
    began = time.perf_counter()
    code = subprocess.run([sys.executable, *command], cwd=ROOT, env=os.environ | {'PYTHONPATH': str(ROOT)}).returncode
    if code:
        sys.exit(code)
    return time.perf_counter() - began


def save_untrained(path):
    """An encoder as it is before training, in a file plainly so named."""
    torch.manual_seed(0)
    model = UmURL(150, 192, HIDDEN_SIZE)
    checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 0)


def report(seconds, scores, encoders):
    print('\nAccuracy on the test part, % (synthetic data: it says that the job runs, not how good UmURL is)')
    print(f'{"encoder":16}{"linear probe":>14}{"retrieval":>12}')
    for encoder in encoders:
        print(f'{encoder:16}{scores[encoder, "linear probe"]:14.1f}{scores[encoder, "retrieval"]:12.1f}')
    print('\nTime (s)')
    for name, taken in seconds.items():
        print(f'{name:30}{taken:8.1f}')
    print(f'{"together":30}{sum(seconds.values()):8.1f}')


if __name__ == '__main__':
    cli.run(main)
