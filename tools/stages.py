"""The stages of a reproduction: what to type for each, whether it is done, and the numbers it gave.

A stage is done if what it makes is there, whole, and was made by the same arguments from the same checkpoint and data.
"""
import functools
import importlib
import json
import sys
from pathlib import Path

import torch

from data_gen.cli import InputError
from data_gen.protocols import DATASETS, PROTOCOLS
from feeder.modalities import MODALITIES
from tools import checkpoint, demo, features, options
from tools.results import data_digest, digest

# By the names of script_pretrain.sh's folders: (data set, protocol).
NAMES = {f'{dataset}_{PROTOCOLS[protocol]}'.removesuffix('_split'): (dataset, protocol)
         for dataset, about in DATASETS.items() for protocol in about.protocols}
FUSED = '+'.join(MODALITIES)
ALL_ROWS = ['+'.join(subset) for subset in features.SUBSETS] + ['3s']
ABLATIONS = ('baseline', 'no-intra', 'no-inter')
COMMANDS = {
    'probe': ['action_recognition.py', '--all-modalities'],
    'retrieval': ['action_retrieval.py', '--all-modalities'],
    'semi': ['action_recognition.py', '--finetune'],
    'finetune': ['action_recognition.py', '--finetune'],
    'transfer': ['action_recognition.py', '--finetune'],
    'ablation': ['action_recognition.py'],
}
# What an encoder follows from. Where a run has no record of one of these (a released one has none at all), it may pass.
RECIPE = ('objective', 'modalities', 'weights', 'dataset', 'protocol', 'hidden_size', 'seed', 'epochs', 'batch_size',
          'lr', 'schedule', 'cos', 'weight_decay')


class Pretraining:
    """One encoder: of data set `name`, an objective and a seed. `kind` is 'pretrain' or 'ablation'."""

    def __init__(self, kind, name, objective, seed, args):
        self.kind, self.name, self.seed = kind, name, seed
        dataset, protocol = NAMES[name]
        special = [objective] * (objective != 'umurl') + [f'seed{seed}'] * (seed != 0)
        self.folder = args.checkpoints / '_'.join([name, *special])
        flags = args.flags['pretrain']
        self.command = words(
            'pretrain.py', *unless(flags, '--batch-size', 512 if name == 'ntu60_xsub' else 1024), *flags,
            '--pre-dataset', dataset, '--protocol', protocol, '--data-root', args.data_root, '--objective', objective,
            '--seed', seed, '--checkpoint-path', self.folder)
        self.args = parse(self.command)
        self.checkpoint = checkpoint.path_of(self.folder, self.args.epochs - 1)

    def run(self):
        """Pre-train on all GPUs, or go on with it; a run with other arguments is moved aside. Returns the seconds."""
        gpus = torch.cuda.device_count()
        launch = ['-m', 'torch.distributed.run', f'--nproc_per_node={gpus}'] if gpus > 1 else []
        other = self.contradictions()
        if other:
            print(f'note: the run in {self.folder} was made with another {other[0]}', file=sys.stderr)
        return demo.stage(*launch, *self.command, *([] if other else ['--resume', 'auto']))

    def done(self):
        return self.checkpoint.is_file() and not self.contradictions()

    def contradictions(self):
        """Names of the arguments with which the run in the folder was made otherwise."""
        try:
            lines = map(json.loads, (self.folder / 'log.jsonl').read_text().splitlines())
            starts = [line['args'] for line in lines if 'args' in line]  # each time that the run was gone on with
        except (FileNotFoundError, ValueError):
            return []
        return list(dict.fromkeys(name for made in starts for name in self.otherwise(made)))

    def otherwise(self, made):
        """Names of the arguments that differ from those `made`, of a line of log.jsonl."""
        own = {name: str(getattr(self.args, name)) for name in RECIPE}
        root = Path(made.get('data_root', self.args.data_root))
        moved = not root.exists()  # with the whole project, or from another machine
        return [name for name in RECIPE if made.get(name, own[name]) != own[name]] + [
            'data_root'] * (not moved and not root.samefile(self.args.data_root))


class Evaluation:
    """One results file: an encoder evaluated on data set `name`, which fills `rows` of the tables.

    only: the single row of an ablation (the objective) or of a transfer (from where).
    """

    def __init__(self, kind, name, encoder, args, only=None):
        self.kind, self.name, self.encoder = kind, name, encoder
        dataset, protocol = NAMES[name]
        file = '_'.join([kind, *(only or '').split()])
        self.results = args.out / name / f'seed{encoder.seed}' / f'{file}.json'
        flags = args.flags['probe' if kind == 'ablation' else kind]
        ratios = unless(flags, '--data-ratio', .01, .05, .1, .2) if kind == 'semi' else []
        self.command = words(
            *COMMANDS[kind], *ratios, *flags, '--pretrained', encoder.checkpoint, '--finetune-dataset', dataset,
            '--protocol', protocol, '--data-root', args.data_root, '--seed', encoder.seed, '--results', self.results)
        self.args = parse(self.command)
        self.rows = [only or FUSED]
        if kind in ('probe', 'retrieval'):
            self.rows = ALL_ROWS
        elif FUSED not in features.rows(self.args):
            raise InputError(f'--{kind}-flags: the tables have {FUSED}; leave out --modalities and --ensemble')
        elif kind == 'semi':
            self.rows = [share(ratio) for ratio in self.args.data_ratio]

    def run(self):
        """Evaluate; returns the seconds. InputError where there is nothing to evaluate."""
        if not self.encoder.done():
            raise InputError(f'{self.encoder.folder} has no encoder pre-trained to the end with these arguments: '
                             f'add {self.encoder.kind} to --stages')
        return demo.stage(*self.command)

    def done(self):
        return self.record() is not None

    def record(self):
        """The results file as a dict, or None where it is missing, unfinished, or of something else."""
        try:
            record = json.loads(self.results.read_text())
        except (FileNotFoundError, ValueError):
            return None
        same = (self.encoder.done() and record['command'] == self.command
                and record['checkpoint_sha256'] == digest_now(self.encoder.checkpoint)
                and record['data_sha256'] == data_digest(options.data_folder(self.args)))
        return record if same and 'accuracy' in record else None  # which fine-tuning writes last

    def numbers(self):
        """[(row, accuracy as it is published, accuracy of the last epoch or None)]; empty if it is not done."""
        record = self.record()
        if record is None:
            return []
        entries = record.get('runs') or record.get('table') or [record]
        return [(self.row_of(entry), entry.get('best_accuracy', entry['accuracy']),
                 entry['accuracy'] if 'best_accuracy' in entry else None)
                for entry in entries if self.rows is ALL_ROWS or entry['modalities'] == FUSED]

    def row_of(self, entry):
        if self.kind == 'semi':
            return share(entry['data_ratio'])
        return entry['modalities'] if self.rows is ALL_ROWS else self.rows[0]


def words(*command):
    return [str(word) for word in command]


def unless(flags, flag, *values):
    """`flag` with its values, unless it is given in `flags`."""
    return [] if flag in flags else [flag, *values]


def share(ratio):
    return f'{100 * ratio:g} % of the labels'


def parse(command):
    """The arguments as the script of a command sees them; InputError for what it would refuse."""
    script, *flags = command
    try:
        return importlib.import_module(script.removesuffix('.py')).parse(flags)
    except InputError as error:
        raise InputError(f'{script}: {error}') from error


def digest_now(path):
    return digest_once(path, path.stat().st_mtime_ns)


@functools.cache
def digest_once(path, _changed):
    """A checkpoint is most of a gigabyte, and each of its evaluations asks."""
    return digest(path)
