"""The reproduce script: tables out of made results files, what runs and what does not, and all of it once for real."""
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_gen.cli import InputError
from data_gen.protocols import DATASETS, PROTOCOLS
from tools import checkpoint, demo, features, options, reproduce, stages
from tools.results import data_digest, digest
from tools.stages import ALL_ROWS, FUSED, NAMES

ROOT = Path(__file__).resolve().parents[2]
BEST = {'joint': 80, FUSED: 82, '3s': 83}  # made accuracies of the probe, with seed 0


class Machine:
    """In place of running a command: remembers it, and writes what the script would write, with made numbers."""

    def __init__(self):
        self.ran, self.fails_at = [], None

    def stage(self, *command):
        *launch, script = command[:next(i for i, word in enumerate(command) if word.endswith('.py')) + 1]
        command = list(command[len(launch):])
        args = stages.parse(command)
        if script == 'pretrain.py':
            name = args.checkpoint_path.name
        else:
            name = f'{args.results.parent.parent.name}/{args.results.stem}'
        if name == self.fails_at:
            sys.exit(7)
        self.ran.append((name, launch, command))
        self.pretrain(args) if script == 'pretrain.py' else self.evaluate(args, command)
        return 1.5

    def names(self):
        """What ran since it was last asked for."""
        names, self.ran = [name for name, _, _ in self.ran], []
        return names

    def pretrain(self, args):
        args.checkpoint_path.mkdir(parents=True, exist_ok=True)
        checkpoint.path_of(args.checkpoint_path, args.epochs - 1).write_text(str(vars(args)))
        log = {'args': {key: str(value) for key, value in vars(args).items()}}
        (args.checkpoint_path / 'log.jsonl').write_text(json.dumps(log) + '\n{"epoch": 0}\n')

    def evaluate(self, args, command):
        seed = args.seed
        if args.results.stem == 'probe':
            best = {name: BEST.get(name, 50) for name in ALL_ROWS}
            table = [{'modalities': name, 'accuracy': best[name] - 1, 'best_accuracy': best[name] + seed}
                     for name in ALL_ROWS]
            numbers = table[6] | {'table': table}
        elif args.results.stem == 'retrieval':
            table = [{'modalities': name, 'accuracy': 70 + seed} for name in ALL_ROWS]
            numbers = table[6] | {'table': table}
        elif args.finetune:
            runs = [{'modalities': name, 'data_ratio': ratio, 'accuracy': 100 * ratio + repeat,
                     'best_accuracy': 100 * ratio + repeat + seed} for name in features.rows(args)
                    for ratio in args.data_ratio or [.6] for repeat in range(args.repeats)]
            numbers = {'accuracy': 1, 'runs': runs, 'table': []}
        else:
            numbers = {'modalities': FUSED, 'accuracy': 40, 'best_accuracy': 41}
        record = {'command': command, 'checkpoint_sha256': digest(args.pretrained),
                  'data_sha256': data_digest(options.data_folder(args))}
        args.results.write_text(json.dumps(numbers | record))


@pytest.fixture
def machine(monkeypatch):
    made = Machine()
    monkeypatch.setattr(demo, 'stage', made.stage)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    return made


@pytest.fixture
def reproduction(tmp_path, machine):
    """reproduction(*words): the script in a folder of its own, where NTU-60 x-sub and PKU-MMD II x-sub are prepared."""
    for name in ('ntu60_xsub', 'pku2_xsub'):
        prepare(tmp_path, name)

    def run(*words):
        folders = {'--data-root': 'data', '--checkpoints': 'checkpoints', '--out': 'out'}
        flags = [word for flag, folder in folders.items() for word in (flag, str(tmp_path / folder))]
        reproduce.main([*words, *flags])
        return machine.names()
    return run


def prepare(folder, name):
    dataset, protocol = NAMES[name]
    arrays = folder / 'data' / DATASETS[dataset].folder / PROTOCOLS[protocol]
    arrays.mkdir(parents=True)
    for part in ('train', 'val'):
        (arrays / f'{part}_data_joint.npy').touch()


def cells(text, *beginning):
    """The cells of the table's only line that begins so, without the cells of the beginning."""
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]
    line, = (line for line in lines if line[:len(beginning)] == list(beginning))
    return line[len(beginning):]


def test_the_tables_hold_mean_deviation_and_difference(reproduction, tmp_path):
    """By hand: probe best 82 and 83, of seeds 0 and 1; published 84.2; and so on."""
    reproduction('ntu60_xsub', '--seeds', '0', '1', '--semi-flags', '--data-ratio 0.1 0.2 --repeats 2',
                 '--finetune-flags=--all-modalities')
    text = (tmp_path / 'out/TABLES.md').read_text()
    ntu60, pku2 = text.split('## ')[1:]
    assert cells(ntu60, 'linear probe', FUSED) == ['84.2', '82.50 ± 0.71', '-1.7', '81.00 ± 0.00']
    assert cells(ntu60, 'linear probe', 'joint') == ['82.3', '80.50 ± 0.71', '-1.8', '79.00 ± 0.00']
    assert cells(ntu60, 'linear probe', '3s') == ['84.4', '83.50 ± 0.71', '-0.9', '82.00 ± 0.00']
    assert cells(ntu60, 'linear probe', 'bone+motion') == ['–', '50.50 ± 0.71', '–', '49.00 ± 0.00']
    assert cells(ntu60, 'k-NN retrieval', FUSED) == ['72.0', '70.50 ± 0.71', '-1.5', '–']
    # 20, 21 and, of seed 1, 21, 22: their deviations from 21 are 1, 0, 0, 1, so the variance is 2 / 3
    assert cells(ntu60, 'semi-supervised', '20 % of the labels') == ['–', '21.00 ± 0.82', '–', '20.50 ± 0.58']
    assert cells(ntu60, 'fine-tuning', FUSED) == ['–', '60.50 ± 0.71', '–', '60.00 ± 0.00']
    assert cells(ntu60, 'objective, linear probe', 'umurl') == ['–', '82.50 ± 0.71', '–', '81.00 ± 0.00']
    assert cells(ntu60, 'objective, linear probe', 'no-intra') == ['–', '–', '–', '–']
    assert cells(pku2, 'transfer, fine-tuning', 'from ntu60_xsub') == ['59.7', '60.50 ± 0.71', '+0.8', '60.00 ± 0.00']

    with open(tmp_path / 'out/tables.csv', newline='') as file:
        lines = list(csv.DictReader(file))
    fused, = (line for line in lines if (line['evaluation'], line['of']) == ('linear probe', FUSED))
    assert float(fused['difference']) == pytest.approx(-1.7)
    assert float(fused['ours_std']) == pytest.approx(.5 ** .5)
    assert (fused['data_set'], fused['last_epoch_mean'], fused['runs']) == ('ntu60_xsub', '81.0', '2')


def test_each_part_has_the_published_values(reproduction, tmp_path):
    reproduction('ntu60_xsub', 'pku2_xsub', '--stages')
    ntu60, pku2 = (tmp_path / 'out/TABLES.md').read_text().split('## ')[1:]
    assert cells(ntu60, 'linear probe', FUSED) == ['84.2', '–', '–', '–']
    assert cells(pku2, 'linear probe', FUSED) == ['52.6', '–', '–', '–']
    assert cells(pku2, 'k-NN retrieval', FUSED) == ['–', '–', '–', '–']
    assert cells(pku2, 'transfer, fine-tuning', 'from ntu60_xsub') == ['59.7', '–', '–', '–']
    assert (tmp_path / 'out/tables.csv').read_text().count('ntu60_xsub,linear probe') == 8


def test_the_commands_have_the_published_settings(reproduction, machine, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    prepare(tmp_path, 'ntu60_xview')
    monkeypatch.setattr(machine, 'names', lambda: machine.ran)
    ran = {name: (launch, stages.parse(command))
           for name, launch, command in reproduction('ntu60_xsub', 'ntu60_xview', '--stages', *reproduce.STAGES)}
    launch, xsub = ran['ntu60_xsub']
    assert launch == ['-m', 'torch.distributed.run', '--nproc_per_node=4']
    assert (xsub.batch_size, xsub.epochs, xsub.schedule, xsub.lr, xsub.resume) == (512, 451, [351], 5e-4, 'auto')
    assert ran['ntu60_xview'][1].batch_size == 1024
    assert ran['ntu60_xview_no-inter'][1].objective == 'no-inter'
    launch, semi = ran['ntu60_xsub/semi']
    assert launch == []
    assert (semi.data_ratio, semi.repeats, semi.epochs, semi.batch_size) == ([.01, .05, .1, .2], 5, 80, 64)
    assert ran['pku2_xsub/transfer_from_ntu60_xsub'][1].pretrained == ran['ntu60_xsub/semi'][1].pretrained
    assert 'pku2_xsub/transfer_from_ntu60_xview' not in ran


def test_what_is_not_prepared_is_left_out(reproduction, capsys, mistake, tmp_path):
    assert reproduction('--stages', 'pretrain') == ['ntu60_xsub', 'pku2_xsub']
    said = capsys.readouterr().out
    assert [line.split()[1] for line in said.splitlines() if line.startswith('skipped: ')] == [
        'ntu60_xview', 'ntu120_xsub', 'ntu120_xsetup']
    assert 'Not prepared here: ntu60_xview, ntu120_xsub, ntu120_xsetup.' in (tmp_path / 'out/TABLES.md').read_text()
    assert 'no data set is left' in mistake(reproduce.main, ['--data-root', tmp_path])


USUAL = ['ntu60_xsub', 'ntu60_xsub/probe', 'ntu60_xsub/retrieval', 'ntu60_xsub/semi', 'ntu60_xsub/finetune',
         'pku2_xsub/transfer_from_ntu60_xsub']


def test_nothing_is_done_twice(reproduction, tmp_path, capsys):
    assert reproduction('ntu60_xsub') == USUAL
    table = (tmp_path / 'out/TABLES.md').read_text()
    capsys.readouterr()
    assert reproduction('ntu60_xsub') == []
    assert capsys.readouterr().out.count('done before: ') == len(USUAL)
    assert (tmp_path / 'out/TABLES.md').read_text() == table
    assert reproduction('ntu60_xsub', '--seeds', '0', '1')[0] == 'ntu60_xsub_seed1'
    (tmp_path / 'out/ntu60_xsub/seed0/retrieval.json').unlink()
    assert reproduction('ntu60_xsub', '--seeds', '0', '1') == ['ntu60_xsub/retrieval']


def test_what_changed_is_done_again(reproduction, tmp_path, capsys):
    reproduction('ntu60_xsub')
    assert reproduction('ntu60_xsub', '--probe-flags', '--epochs 10') == ['ntu60_xsub/probe']

    results = tmp_path / 'out/ntu60_xsub/seed0/finetune.json'
    record = json.loads(results.read_text())
    results.write_text(json.dumps({name: record[name] for name in record if name != 'accuracy'}))  # stopped half-way
    assert reproduction('ntu60_xsub', '--probe-flags', '--epochs 10') == ['ntu60_xsub/finetune']
    results.write_text('{')
    assert reproduction('ntu60_xsub', '--probe-flags', '--epochs 10') == ['ntu60_xsub/finetune']

    arrays = tmp_path / 'data/PKU-MMD-2/xsub/manifest.json'
    arrays.write_text('other arrays')
    assert reproduction('ntu60_xsub', '--probe-flags', '--epochs 10') == USUAL[-1:]

    (tmp_path / 'checkpoints/ntu60_xsub/checkpoint_0450.pth.tar').write_text('another encoder')
    assert reproduction('ntu60_xsub') == USUAL[1:]
    capsys.readouterr()
    assert reproduction('ntu60_xsub', '--pretrain-flags', '--lr 0.001') == USUAL
    assert 'was made with another lr' in capsys.readouterr().err


def test_pretraining_goes_on_or_starts_anew(reproduction, machine, monkeypatch, tmp_path):
    """--resume auto, unless the folder has a run with other arguments: of that pretrain.py must not go on."""
    monkeypatch.setattr(machine, 'names', lambda: machine.ran.pop()[2])
    folder = tmp_path / 'checkpoints/ntu60_xsub'
    assert reproduction('ntu60_xsub', '--stages', 'pretrain')[-2:] == ['--resume', 'auto']
    (folder / 'checkpoint_0450.pth.tar').rename(folder / 'checkpoint_0400.pth.tar')
    assert reproduction('ntu60_xsub', '--stages', 'pretrain')[-2:] == ['--resume', 'auto']
    command = reproduction('ntu60_xsub', '--stages', 'pretrain', '--pretrain-flags', '--hidden-size 8 --batch-size 4')
    assert '--resume' not in command
    assert command.count('--batch-size') == 1
    log = folder / 'log.jsonl'
    for root, resumes in ((tmp_path, False), (tmp_path / 'gone', True)):  # of other data; before the project was moved
        log.write_text(log.read_text().replace(str(tmp_path / 'data'), str(root)))
        (folder / 'checkpoint_0450.pth.tar').unlink()
        command = reproduction('ntu60_xsub', '--stages', 'pretrain', '--pretrain-flags', '--hidden-size 8 -b 4')
        assert ('--resume' in command) == resumes


def test_a_run_gone_on_with_by_hand_otherwise_is_not_the_published_one(reproduction, tmp_path):
    reproduction('ntu60_xsub', '--stages', 'pretrain')
    assert not reproduction('ntu60_xsub', '--stages', 'pretrain')
    log = tmp_path / 'checkpoints/ntu60_xsub/log.jsonl'
    start = json.loads(log.read_text().splitlines()[0])
    log.write_text(log.read_text() + json.dumps({'args': start['args'] | {'lr': '0.1'}}) + '\n')
    assert reproduction('ntu60_xsub', '--stages', 'pretrain')


@pytest.mark.parametrize('flags', ['--modalities joint', '--ensemble'])
def test_flags_that_leave_a_row_empty_are_a_mistake(reproduction, flags):
    with pytest.raises(InputError, match='the tables have joint'):
        reproduction('ntu60_xsub', f'--finetune-flags={flags}')


def test_a_released_checkpoint_is_used(reproduction, tmp_path):
    folder = tmp_path / 'checkpoints/ntu60_xsub'
    folder.mkdir(parents=True)
    (folder / 'checkpoint_0450.pth.tar').write_text('weights')
    assert reproduction('ntu60_xsub') == USUAL[1:]


def test_a_stage_that_fails_stops_all_and_what_is_done_stays(reproduction, machine, tmp_path):
    machine.fails_at = 'ntu60_xsub/semi'
    with pytest.raises(SystemExit) as stop:
        reproduction('ntu60_xsub')
    assert stop.value.code == 7
    assert machine.names() == USUAL[:3]
    assert not (tmp_path / 'out/TABLES.md').exists()
    machine.fails_at = None
    assert reproduction('ntu60_xsub') == USUAL[3:]


def test_a_stage_ends_the_script_with_its_own_exit_code(capfd):
    with pytest.raises(SystemExit) as stop:
        demo.stage('-c', 'import sys; sys.exit("error: its own line")')
    assert stop.value.code == 1
    assert capfd.readouterr().err == 'error: its own line\n'


@pytest.mark.parametrize(('words', 'told'), [
    ('ntu60_xsub --stages probe', 'add pretrain to --stages'),
    ('ntu60', 'ntu60 is no data set here'),
    ('ntu60_xsub --stages tables', 'invalid choice'),
    ('ntu60_xsub --pretrain-flags=--nonsense', 'pretrain.py: unrecognized arguments: --nonsense'),
    ('ntu60_xsub --semi-flags=--save-features=f.npz', 'action_recognition.py: --finetune trains the encoder'),
    ('ntu60_xsub --demo', '--demo makes its own data')])
def test_a_mistake_is_one_line_before_anything_runs(reproduction, machine, mistake, words, told):
    assert told in mistake(lambda argv: reproduction(*argv), words.split())
    assert machine.names() == []


def test_the_demo_fills_every_row_from_nothing(tmp_path, machine):
    """As a user types it, then once more in this process, where nothing is left to run."""
    environment = os.environ | {'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}', 'VIRTUAL_ENV': 'this',
                                'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': ''}
    flags = ['--demo', '--out', str(tmp_path), '--pretrain-flags', '--hidden-size 16 --epochs 6 --schedule 5',
             '--probe-flags', '--epochs 20', '--semi-flags', '--epochs 5', '--finetune-flags', '--epochs 3',
             '--transfer-flags', '--epochs 5']
    done = subprocess.run([ROOT / 'script_reproduce.sh', *flags], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / 'TABLES.md').read_text()
    assert text in done.stdout
    assert 'synthetic' in text

    with open(tmp_path / 'tables.csv', newline='') as file:
        lines = list(csv.DictReader(file))
    assert [line['evaluation'] for line in lines] == [
        *['linear probe'] * 8, *['k-NN retrieval'] * 8, 'semi-supervised', 'fine-tuning',
        *['objective, linear probe'] * 4, 'transfer, fine-tuning']
    assert all(0 < float(line['ours_mean']) < 100 and not line['published'] for line in lines)
    best = max(float(line['ours_mean']) for line in lines[:8])
    assert best > 25, 'of twelve classes: chance is 8.3'
    results = json.loads((tmp_path / 'ntu60_xsub/seed0/retrieval.json').read_text())
    assert float(lines[14]['ours_mean']) == results['accuracy']

    reproduce.main(flags)
    assert machine.names() == []
    assert (tmp_path / 'TABLES.md').read_text() == text
