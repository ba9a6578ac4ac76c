"""Batch sizes: as published, by the number of clips, as before."""

from dataclasses import replace

import pytest

import pretrain
from tools.training.recipes import batch_size_for
from tools.training.run_config import RunConfig


@pytest.fixture
def config():
    """config(**changes): a configuration of which these fields matter here."""

    def make(dataset='custom', protocol='own_split', recipe='published', batch_size=None):
        unused = dict.fromkeys(RunConfig.__dataclass_fields__)
        given = {'dataset': dataset, 'protocol': protocol, 'recipe': recipe}
        return RunConfig(**unused | given | {'batch_size': batch_size})

    return make


@pytest.mark.parametrize(
    ('clips', 'size'),
    [
        (10, 32),
        (255, 32),
        (449, 64),
        (897, 128),
        (1018, 128),
        (1336, 128),
        (3585, 512),
        (9**9, 512),
    ],
)
def test_eight_steps_an_epoch(clips, size):
    assert batch_size_for(clips) == size
    if 32 < size < 512:
        assert -(-clips // size) >= 8 > -(-clips // (2 * size))


@pytest.mark.parametrize(
    ('dataset', 'protocol', 'size'),
    [
        ('ntu60', 'cross_subject', 512),
        ('ntu60', 'cross_view', 1024),
        ('ntu120', 'cross_subject', 1024),
        ('ntu120', 'cross_setup', 1024),
    ],
)
def test_the_published_batches(config, capsys, dataset, protocol, size):
    assert pretrain.with_batch_size(config(dataset, protocol), 1000).batch_size == size
    assert pretrain.with_batch_size(config(dataset, protocol, batch_size=8), 1000).batch_size == 8
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('dataset', 'protocol', 'recipe'),
    [
        ('pku2', 'cross_view', 'published'),
        ('custom', 'own_split', 'small-data'),
        ('ntu60', 'cross_subject', 'small-data'),
    ],
)
def test_other_batches_are_shown(config, capsys, dataset, protocol, recipe):
    settled = pretrain.with_batch_size(config(dataset, protocol, recipe), 1000)
    assert settled == replace(config(dataset, protocol, recipe), batch_size=128)
    assert capsys.readouterr().out == '--batch-size 128: 8 steps an epoch\n'


@pytest.mark.parametrize(
    ('recipe', 'batch_size', 'clips', 'note'),
    [
        ('small-data', None, 9, '9 training clips: fewer than 256 are too few to learn from'),
        ('published', 8, 255, '255 training clips: fewer than 256 are too few to learn from'),
        (
            'published',
            512,
            512,
            '1 step an epoch; --recipe small-data --batch-size 64 suits few clips',
        ),
        ('small-data', 512, 256, '1 step an epoch; --batch-size 32 suits few clips'),
        ('published', 512, 513, ''),
        ('small-data', None, 256, ''),
    ],
)
def test_advice_is_of_what_is_not_yet_so(config, capsys, recipe, batch_size, clips, note):
    pretrain.with_batch_size(config('custom', 'own_split', recipe, batch_size), clips)
    assert capsys.readouterr().err == (f'note: {note}\n' if note else '')
