"""Forks: a modality, a loss term, an augmentation and an encoder of one's own, each trained, saved,
resumed and evaluated. Registered in this process, and (-m slow) as edits of a copy of the tree.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import action_retrieval
import pretrain
from feeder import feeders
from feeder.augmentations import Augmentation, Draws, augment, sample, uniform
from feeder.modalities import MODALITIES, motion
from model.objective import umurl_objective
from model.umurl import UmURL
from tools import checkpoint
from tools.training import monitor, recipes, run_config
from tools.training.stopping import StopSignals

ROOT = Path(__file__).resolve().parents[1]
NARROW = ['--hidden-size', '8', '--batch-size', '4', '--device', 'cpu']


class MoreWeights(NamedTuple):
    intra: float = 5
    inter: float = 5
    variance: float = 5
    covariance: float = 1
    length: float = 0


MoreLosses = namedtuple('MoreLosses', 'intra inter reg length total')


def longer_objective(projections, weights):
    """The objective, and a term that keeps projections short."""
    losses = umurl_objective(projections, weights)
    length = torch.stack(tuple(projections)).float().square().mean()
    return MoreLosses(*losses[:3], length, losses.total + weights.length * length)


class MoreAugmentation(NamedTuple):
    crop: tuple = (0.1, 1.0)
    crop_frames: int = 64
    shear: float = 1.0
    reversal: float = 0.0


class MoreDraws(NamedTuple):
    start: torch.Tensor
    length: torch.Tensor
    joint_matrices: torch.Tensor
    is_reversed: torch.Tensor  # (N,)


def sample_more(num_frames, num_joints, generator_of, augmentation):
    chances = uniform(len(num_frames), generator=generator_of('is_reversed'))
    draws = sample(num_frames, num_joints, generator_of, augmentation)
    return MoreDraws(*draws, chances < augmentation.reversal)


def augment_more(frames, first_row, draws, size, bodies=None):
    x = augment(frames, first_row, draws, size, bodies)
    return torch.where(draws.is_reversed[:, None, None, None, None], x.flip(1), x)


@pytest.fixture
def fork(monkeypatch):
    """fork(what): as if a fork had added it."""

    def add(what):
        extended = {}  # fields of the recipes
        if what == 'modality':
            monkeypatch.setitem(MODALITIES, 'acceleration', lambda x: motion(motion(x)))
        elif what == 'loss term':
            extended['weights'] = MoreWeights
            monkeypatch.setattr(pretrain, 'Weights', MoreWeights)
            monkeypatch.setattr(pretrain, 'umurl_objective', longer_objective)
            monkeypatch.setattr(monitor, 'Losses', MoreLosses)
        elif what == 'augmentation':
            extended['augmentation'] = MoreAugmentation
            for module in (pretrain, run_config):
                monkeypatch.setattr(module, 'Augmentation', MoreAugmentation)
            monkeypatch.setattr(feeders, 'PUBLISHED', MoreAugmentation())
            monkeypatch.setattr(feeders, 'Draws', MoreDraws)
            monkeypatch.setattr(feeders, 'sample', sample_more)
            monkeypatch.setattr(feeders, 'augment', augment_more)
        elif what == 'heads':
            monkeypatch.setattr(pretrain, 'UmURL', partial(UmURL, num_head=2))
        for name, recipe in recipes.RECIPES.items():
            values = {field: more(*getattr(recipe, field)) for field, more in extended.items()}
            monkeypatch.setitem(recipes.RECIPES, name, recipe._replace(**values))

    return add


@pytest.fixture
def data(tmp_path, padded_arrays):
    """The root of a tiny NTU-60 x-sub: two steps an epoch."""
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=8, val=6)
    return ['--data-root', str(tmp_path / 'data')]


@pytest.fixture
def train(tmp_path, data):
    """train(folder, epochs, *flags): pre-train, resuming where the folder has a run; the checkpoint."""

    def run(folder, epochs, *flags):
        to = ['--checkpoint-path', str(tmp_path / folder), '--epochs', str(epochs)]
        pretrain.main([*data, *NARROW, *to, '--resume', 'auto', *map(str, flags)])
        return checkpoint.read(checkpoint.path_of(tmp_path / folder, epochs - 1))

    return run


@pytest.fixture
def evaluate(tmp_path, data):
    """evaluate(path, *flags): k-NN retrieval as a user runs it; the results."""

    def run(path, *flags):
        to = ['--device', 'cpu', '--results', str(tmp_path / 'r.json')]
        action_retrieval.main([*data, '--pretrained', str(path), *to, *flags])
        return json.loads((tmp_path / 'r.json').read_text())

    return run


def same_weights(one, other):
    pairs = zip(one['state_dict'].items(), other['state_dict'].items(), strict=True)
    return all(a == b and x.equal(y) for (a, x), (b, y) in pairs)


FORKS = {
    'modality': [],
    'loss term': ['--length-weight', 0.5],
    'augmentation': ['--reversal', 0.5],
    'heads': [],
}


@pytest.mark.parametrize('what', FORKS)
def test_a_fork_trains_saves_resumes_and_is_evaluated(what, tmp_path, fork, train, evaluate):
    plain = train('plain', 1)
    fork(what)
    flags = FORKS[what]
    train('halves', 1, *flags)
    halves = train('halves', 2, *flags)
    whole = train('whole', 2, *flags)
    assert same_weights(halves, whole)
    changed = checkpoint.read(checkpoint.path_of(tmp_path / 'halves', 0))
    key = 'backbone.ma_encoder.t_tr.layers.0.linear1.weight'
    assert not changed['state_dict'][key].equal(plain['state_dict'][key])
    made = evaluate(tmp_path / 'halves')
    assert made['modalities'] == '+'.join(MODALITIES)
    assert made['pretrained_on']['modalities'] == list(MODALITIES)


def test_the_table_of_four_modalities(tmp_path, fork, train, evaluate):
    fork('modality')
    saved = train('run', 1)
    assert saved['config']['modalities'] == ['joint', 'bone', 'motion', 'acceleration']
    assert 'backbone.acceleration_emb.t_embedding.0.weight' in saved['state_dict']
    made = evaluate(tmp_path / 'run', '--all-modalities')
    assert made['modalities'] == 'joint+bone+motion+acceleration'
    rows = {row['modalities']: row for row in made['table']}
    assert len(rows) == 16
    assert 'joint+acceleration' in rows
    assert '4s' in rows
    assert '3s' not in rows
    assert rows['joint+bone+motion']['note'] == 'combination not trained on'
    assert not rows['joint+bone+motion+acceleration']['note']
    assert evaluate(tmp_path / 'run', '--ensemble')['modalities'] == '4s'


def test_an_official_checkpoint_in_a_fork_of_four_modalities(
    tmp_path, fork, train, evaluate, reference, width, mistake, data
):
    path = reference / 'checkpoint_0000.pth.tar'
    before = evaluate(path, '--all-modalities')
    fork('modality')
    after = evaluate(path, '--all-modalities')
    assert after['table'] == before['table']
    assert after['config'] == before['config']
    flags = [*data, '--pretrained', str(path), '--modalities', 'acceleration']
    assert 'has no acceleration: choose from --modalities joint bone motion' in mistake(
        action_retrieval.main, flags
    )
    resumed = train('resumed', 2, '--resume', path, '--hidden-size', width)
    assert resumed['config']['modalities'] == ['joint', 'bone', 'motion']
    assert len(resumed['state_dict']) == 111
    flags = [*data, '--resume', str(path), '--hidden-size', str(width), '--epochs', '9']
    line = mistake(pretrain.main, [*flags, '--modalities', 'acceleration', 'joint'])
    assert 'has no acceleration: choose from --modalities joint bone motion' in line


def test_a_modality_of_another_fork_is_a_mistake(tmp_path, fork, train, mistake, data, monkeypatch):
    fork('modality')
    train('run', 1)
    monkeypatch.delitem(MODALITIES, 'acceleration')
    path = checkpoint.path_of(tmp_path / 'run', 0)
    expected = f'{path} holds acceleration, which feeder/modalities.py does not have'
    assert expected in mistake(action_retrieval.main, [*data, '--pretrained', path])
    assert expected in mistake(pretrain.main, [*data, *NARROW, '--resume', path, '--epochs', 2])


@pytest.mark.parametrize('what', ['modality', 'loss term', 'augmentation'])
def test_an_earlier_run_resumes_as_if_nothing_had_been_added(
    what, tmp_path, fork, train, monkeypatch
):
    expected = train('plain', 2)
    stop_after_a_step(tmp_path, monkeypatch, train)
    fork(what)
    resumed = train('run', 2)
    assert same_weights(resumed, expected)
    assert resumed['config']['modalities'] == expected['config']['modalities']


def stop_after_a_step(tmp_path, monkeypatch, train):
    """Train `run` for one step, as if a signal came after it."""

    def agreed(stop, now=False):
        stop.reason = signal.SIGTERM
        return stop.reason

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(StopSignals, 'agreed', agreed)
        train('run', 2)
    assert checkpoint.read(tmp_path / 'run' / checkpoint.LAST)['step'] == 1


def test_an_earlier_run_of_other_heads_is_not_resumed(tmp_path, fork, train, mistake, data):
    train('run', 1)
    fork('heads')
    to = ['--checkpoint-path', tmp_path / 'run', '--epochs', 2, '--resume', 'auto']
    line = mistake(pretrain.main, [*data, *NARROW, *to])
    assert 'does not fit the model: attention heads 1, not 2' in line


def test_two_heads_are_evaluated_as_two(tmp_path, fork, train):
    fork('heads')
    train('run', 1)
    model, _ = checkpoint.load_model(checkpoint.path_of(tmp_path / 'run', 0))
    assert model.backbone.num_head == 2


def test_a_new_augmentation_changes_no_other_draw(random_dataset, fork):
    def fields(augmentation):
        feeder = feeders.PretrainFeeder(random_dataset([300] * 9), 9, 3, augmentation=augmentation)
        generator_of = partial(feeders.generator_at, 3, 5, 7, 2)
        return feeder.draw(feeder.num_frames, generator_of)

    before = fields(Augmentation())
    fork('augmentation')
    after = fields(MoreAugmentation(reversal=0.5))
    assert 0 < after.is_reversed.sum() < 9
    for name in Draws._fields:
        assert getattr(after, name).equal(getattr(before, name))


# The same as edits of files: (file, text, the text in its place).
EDITS = {
    'modality': [
        (
            'feeder/modalities.py',
            "'motion': motion}",
            "'motion': motion, 'acceleration': lambda x: motion(motion(x))}",
        )
    ],
    'loss term': [
        (
            'model/objective.py',
            '    covariance: float = 1\n',
            '    covariance: float = 1\n    length: float = 0\n',
        ),
        (
            'model/objective.py',
            '    reg = variance_covariance(z, weights).sum()\n',
            '    reg = variance_covariance(z, weights).sum() + weights.length * z.square().mean()\n',
        ),
    ],
    'augmentation': [
        (
            'feeder/augmentations.py',
            '    shear: float = 1.0\n',
            '    shear: float = 1.0\n    reversal: float = 0.0\n',
        ),
        (
            'feeder/augmentations.py',
            'joint_matrices: torch.Tensor  # (N, V, 3, 3)\n',
            'joint_matrices: torch.Tensor  # (N, V, 3, 3)\n    is_reversed: torch.Tensor  # (N,)\n',
        ),
        (
            'feeder/augmentations.py',
            '    return transform_joints(x, draws.joint_matrices)\n',
            '    x = torch.where(draws.is_reversed[:, None, None, None, None], x.flip(1), x)\n'
            '    return transform_joints(x, draws.joint_matrices)\n',
        ),
        (
            'feeder/augmentations.py',
            '    return Draws(start, length, joint_matrices)\n',
            "    chances = uniform(len(num_frames), generator=generator_of('is_reversed'))\n"
            '    return Draws(start, length, joint_matrices, chances < augmentation.reversal)\n',
        ),
    ],
    'heads': [('model/umurl.py', '        num_head=1,\n', '        num_head=2,\n')],
}


def edited_copy(folder, edits):
    """A copy of what a user runs, with these edits."""
    for name in ('data_gen', 'feeder', 'model', 'tools'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    for path in ROOT.glob('*.py'):
        shutil.copy(path, folder)
    for name, text, other in edits:
        before = (folder / name).read_text()
        assert before.count(text) == 1, (name, text)
        (folder / name).write_text(before.replace(text, other))


@pytest.mark.slow
@pytest.mark.parametrize('what', EDITS)
def test_a_copy_of_the_tree(what, tmp_path, data, train, reference):
    edited_copy(tmp_path / 'copy', EDITS[what])

    def command(script, *flags):
        words = [sys.executable, script, *data, *map(str, flags), '--device', 'cpu']
        return subprocess.run(words, cwd=tmp_path / 'copy', capture_output=True, text=True)

    def fork_run(folder, epochs, *flags):
        to = ['--checkpoint-path', tmp_path / folder, '--epochs', epochs, '--resume', 'auto']
        return command('pretrain.py', *NARROW, *to, *flags)

    def retrieval(path, *flags):
        to = ['--pretrained', path, '--all-modalities', '--results', tmp_path / 'r.json']
        done = command('action_retrieval.py', *to, *flags)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / 'r.json').read_text())

    for epochs in (1, 2):
        done = fork_run('run', epochs, *FORKS[what])
        assert done.returncode == 0, done.stderr
    assert retrieval(tmp_path / 'run')['modalities'].startswith('joint+bone+motion')
    official = retrieval(reference / 'checkpoint_0000.pth.tar')
    assert [row['modalities'] for row in official['table']][-2:] == ['joint+bone+motion', '3s']

    train('earlier', 1)
    done = fork_run('earlier', 2)
    if what == 'heads':
        assert done.returncode == 2
        assert 'attention heads 1, not 2' in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        resumed = checkpoint.read(checkpoint.path_of(tmp_path / 'earlier', 1))
        assert same_weights(resumed, train('plain', 2))
