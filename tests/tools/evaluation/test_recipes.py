"""The recipes: their published values, what overrides them, and the crops, clip by clip against the
peers' formula.
"""

import json

import numpy as np
import pytest
import torch

import action_recognition
from tools.evaluation.recipes import RECIPES, training_crops

LENGTHS = torch.tensor([1, 5, 63, 64, 65, 100, 150, 299, 300] * 50)


def test_the_values_of_the_recipes():
    """Each as README.md traces it; the probe's are the official code's."""
    assert {name: tuple(recipe) for name, recipe in RECIPES.items()} == {
        'probe': ([0.03], 512, 150, [120, 140], 0.9, 0, [1, 1], 1, False),
        'cmd': ([0.01], 64, 80, [50, 70], 0.9, 0, [0.5, 1], 0.95, False),
        'plain': ([0.01], 64, 80, [50, 70], 0.9, 0, [1, 1], 1, False),
    }


@pytest.mark.parametrize(('low', 'high'), [(0.5, 1.0), (0.3, 0.6)])
def test_random_crops_are_those_of_the_peers(low, high):
    """From the same u: floor(u x frames), at least 64, at most all; anywhere in the clip."""
    start, length = training_crops(LENGTHS, [low, high], seed=1, epoch=2, repeat=3)
    for frames, first, cropped in zip(
        LENGTHS.tolist(), start.tolist(), length.tolist(), strict=True
    ):
        assert (
            min(frames, max(64, int(low * frames)))
            <= cropped
            <= max(min(frames, 64), int(high * frames))
        )
        assert 0 <= first <= frames - cropped
    assert (length < LENGTHS).any()
    again = training_crops(LENGTHS, [low, high], seed=1, epoch=2, repeat=3)
    assert again[0].equal(start)
    assert again[1].equal(length)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not training_crops(LENGTHS, [low, high], *other)[1].equal(length)


def test_crops_of_the_whole_are_whole_clips():
    start, length = training_crops(LENGTHS, [1, 1], seed=0, epoch=0)
    assert not start.any()
    assert length.equal(LENGTHS)


def results(folder, *argv):
    action_recognition.main([*map(str, argv), '--results', str(folder / 'r.json')])
    return json.loads((folder / 'r.json').read_text())


@pytest.mark.parametrize(
    ('flags', 'recipe', 'overrides'),
    [
        ([], 'cmd', {}),
        (['--recipe', 'plain'], 'plain', {}),
        (
            ['--recipe', 'plain', '--train-crop', 0.5, 1, '--batch-size', 64],
            'plain',
            {'train_crop': [0.5, 1]},
        ),
        (
            ['--lr', 0.02, '--test-crop', 1, '--schedule'],
            'cmd',
            {'lr': [0.02], 'schedule': [], 'test_crop': 1},
        ),
        (
            ['--epochs', 3, '--momentum', 0.8, '--wd', 0.1, '--batch-size', 9],
            'cmd',
            {'batch_size': 9, 'epochs': 3, 'momentum': 0.8, 'weight_decay': 0.1},
        ),
    ],
)
def test_results_name_the_recipe_and_what_overrides_it(flags, recipe, overrides):
    args = action_recognition.parse_args(['--finetune', '--pretrained', 'c', *map(str, flags)])
    assert (args.recipe, args.overrides) == (recipe, overrides)
    assert action_recognition.recipe_of(args) == RECIPES[recipe]._replace(**overrides)


def test_the_cosine_schedule_overrides_a_recipe():
    args = action_recognition.parse_args(['--cos', '--epochs', '4'])
    assert args.overrides == {'cos': True, 'epochs': 4}
    factors = action_recognition.recipe_of(args).factors()
    assert factors == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4])


def test_the_recipe_is_in_results_and_report(setting, tmp_path, capsys):
    made = results(tmp_path, *setting, '--finetune', '--epochs', 2)
    assert (made['config']['recipe'], made['config']['overrides']) == ('cmd', {'epochs': 2})
    assert (made['config']['train_crop'], made['config']['test_crop']) == ([0.5, 1], 0.95)
    assert 'recipe cmd with epochs overridden, 30 training clips' in capsys.readouterr().out


def test_a_probe_on_crops_draws_its_features_again(setting, tmp_path, monkeypatch):
    whole = results(tmp_path, *setting, '--epochs', 4, '--lr', 0.3)
    seen = []
    monkeypatch.setattr(
        'tools.evaluation.probe.train_one_epoch',
        lambda head, optimizer, batches: (
            seen.append(torch.cat([values for values, _ in batches]).sort(0).values.numpy()),
            torch.zeros(()),
        )[1],
    )
    results(tmp_path, *setting, '--epochs', 4, '--train-crop', 0.5, 1)
    assert len({values.tobytes() for values in seen}) == 4
    monkeypatch.undo()
    tested = results(tmp_path, *setting, '--epochs', 4, '--lr', 0.3, '--test-crop', 0.5)
    assert tested['training_loss'] == whole['training_loss']
    assert not np.isclose(tested['nll'], whole['nll'])


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--recipe', 'cmd'], '--recipe: needs --finetune'),
        (['--finetune', '--recipe', 'probe'], '--recipe'),
        (
            ['--train-crop', 1, 0.5],
            '--train-crop 1 0.5: give two shares above 0 and at most 1, the smaller one first',
        ),
        (['--train-crop', 0, 1], '--train-crop 0 1'),
        (['--train-crop', 0.5, 1.5], '--train-crop 0.5 1.5'),
        (['--test-crop', 0], '--test-crop 0: give a share'),
        (['--test-crop', 95], '--test-crop 95'),
        (
            ['--train-crop', 0.5, 1, '--load-features', 'F.npz'],
            'need --pretrained CHECKPOINT, and no features files',
        ),
        (
            ['--test-crop', 0.9, '--save-features', 'f.npz'],
            'need --pretrained CHECKPOINT, and no features files',
        ),
        (
            ['--finetune', '--data-ratio', 0.1, 20],
            '--data-ratio 20: give shares above 0 and at most 1, such as 0.1 for',
        ),
    ],
)
def test_a_mistake_is_one_line(setting, mistake, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    np.savez('F.npz', train=np.eye(2), train_labels=[0, 1], val=np.eye(2), val_labels=[0, 1])
    assert message in mistake(action_recognition.main, [*setting, *flags])
