"""What changes when a run is resumed, and forks that add a loss term or an augmentation."""

import argparse
from typing import NamedTuple

import pytest

import pretrain
from feeder.augmentations import Augmentation
from model.objective import Weights
from tools import checkpoint, options
from tools.training import recipes, run_config
from tools.training.run_config import NEVER, NOTED, SILENTLY, UNFINISHED, RunConfig, changed


@pytest.fixture
def config():
    values = dict.fromkeys(RunConfig.__dataclass_fields__, 1)
    return RunConfig(**values | {'weights': Weights(), 'augmentation': Augmentation()})


@pytest.mark.parametrize(
    ('earlier', 'expected'),
    [
        ({}, []),
        ({'seed': 2}, [('seed', 2, 1, NEVER)]),
        ({'data': None}, []),
        ({'lr': 0.5}, [('lr', 0.5, 1, UNFINISHED)]),
        ({'processes': 4}, [('processes', 4, 1, NOTED)]),
        ({'draws_version': 2}, [('draws_version', 2, 1, NOTED)]),
        ({'epochs': 4}, [('epochs', 4, 1, SILENTLY)]),
        ({'shear': 0.5}, [('shear', 0.5, 1.0, NEVER)]),
        ({'crop': [0.1, 1]}, []),
        ({'products': 'torch'}, []),
    ],
)
def test_what_differs_from_an_earlier_run(config, earlier, expected):
    assert changed(config.entries() | earlier, config) == expected


@pytest.mark.parametrize(
    ('weights', 'same'),
    [
        ({'intra': 5, 'inter': 5, 'variance': 5, 'covariance': 1}, True),
        ({'intra': 5, 'inter': 5, 'variance': 5, 'covariance': 1, 'other': 0}, True),
        ({'intra': 5, 'inter': 5, 'variance': 5, 'covariance': 1, 'other': 1}, False),
        ({'intra': 5, 'inter': 5, 'variance': 5}, False),
        ('text', False),
    ],
)
def test_a_loss_term_that_is_missing_has_weight_0(config, weights, same):
    assert (changed(config.entries() | {'weights': weights}, config) == []) is same


def test_an_augmentation_that_was_not_recorded_had_its_default(config):
    earlier = config.entries()
    del earlier['shear']
    assert changed(earlier, config) == []
    earlier['crop'] = [0.5, 1.0]
    assert [name for name, *_ in changed(earlier, config)] == ['crop']


@pytest.mark.parametrize(
    ('default', 'words', 'value'),
    [
        (1, ['3'], 3),
        (1.0, ['3'], 3.0),
        ((1.0, 2.0), ['3', '4'], (3.0, 4.0)),
        (False, [], True),
        ('linear', ['cubic'], 'cubic'),
    ],
)
def test_a_flag_has_the_type_of_its_default(default, words, value):
    parser = argparse.ArgumentParser()
    options.add_typed_flag(parser, 'some_name', default, help='')
    assert parser.parse_args([]) == argparse.Namespace()
    made = parser.parse_args(['--some-name', *words]).some_name
    assert (made, type(made)) == (value, type(value))


class MoreWeights(NamedTuple):
    intra: float = 5
    inter: float = 5
    variance: float = 5
    covariance: float = 1
    extra_term: float = 0


class MoreLaws(NamedTuple):
    crop: tuple = (0.1, 1.0)
    crop_frames: int = 64
    shear: float = 1.0
    reversed_share: float = 0.0


@pytest.fixture
def fork(monkeypatch):
    """fork(): as if a fork had added a loss term and an augmentation, both neutral by default."""

    def make():
        for module in (pretrain, run_config):
            monkeypatch.setattr(module, 'Weights', MoreWeights)
            monkeypatch.setattr(module, 'Augmentation', MoreLaws)
        recipe = recipes.Recipe(weights=MoreWeights(), augmentation=MoreLaws())
        monkeypatch.setitem(recipes.RECIPES, 'published', recipe)
        monkeypatch.setitem(recipes.RECIPES, 'small-data', recipe)

    return make


def test_a_fork_continues_earlier_runs(tmp_path, padded_arrays, fork, mistake, capsys):
    padded_arrays(tmp_path / 'NTU-RGB-D-60-AGCN/xsub')
    flags = ['--data-root', str(tmp_path), '--checkpoint-path', str(tmp_path / 'run')]
    flags += ['--hidden-size', '8', '--device', 'cpu', '--resume', 'auto']
    pretrain.main([*flags, '--epochs', '1'])
    fork()
    longer = [*flags, '--epochs', '2']
    line = mistake(pretrain.main, [*longer, '--extra-term-weight', 1])
    assert 'was trained with --extra-term-weight 0, not 1: --resume none' in line
    line = mistake(pretrain.main, [*longer, '--reversed-share', 0.5])
    assert 'was trained with --reversed-share 0.0, not 0.5' in line
    pretrain.main(longer)
    recorded = checkpoint.read(checkpoint.path_of(tmp_path / 'run', 1))['config']
    assert (recorded['weights']['extra_term'], recorded['reversed_share']) == (0, 0.0)
    with pytest.raises(SystemExit):
        pretrain.main(['--help'])
    text = capsys.readouterr().out
    assert '--extra-term-weight W' in text
    assert '--reversed-share X' in text
