"""The linear probe: the recorded numbers, torch's own training loop, late fusion, several learning
rates.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from data_gen.protocols import Data
from feeder.feeders import generator_at
from tools.common.cli import InputError
from tools.evaluation import probe
from tools.evaluation.feature_files import Features
from tools.evaluation.features import FrozenFeatures
from tools.evaluation.late_fusion import FusionRow
from tools.evaluation.recipes import Recipe
from tools.results import Origin
from tools.schedule import lr_factors

JOINT, BONE = ('joint',), ('bone',)
JOINT_ROW = (FusionRow('joint', [JOINT]),)


@pytest.fixture
def features():
    """Features of four classes that overlap, so no probe is right everywhere."""
    return random_features(0)


def random_features(seed):
    rng = np.random.default_rng(seed)
    labels = [np.random.default_rng(1).integers(0, 4, 50), np.arange(50) % 4]
    centres = rng.normal(size=(4, 6))
    train, val = (
        torch.from_numpy(centres[split] + rng.normal(size=(50, 6))).float() for split in labels
    )
    return Features(train, torch.from_numpy(labels[0]), val, torch.from_numpy(labels[1]))


def batches_of(features, order, batch_size):
    return (
        (features.train[batch], features.train_labels[batch]) for batch in order.split(batch_size)
    )


def train_probe(features, rows=JOINT_ROW, lrs=(0.1,), **changes):
    recipe = Recipe(list(lrs), 16, 6, [3, 5])._replace(**changes)
    features = features if isinstance(features, dict) else {JOINT: features}
    data = Data(Path(), 'custom', 'own_split')  # has as many classes as there are labels
    return probe.train_probe(FrozenFeatures(data, features, Origin()), list(rows), recipe, 0)


def train_by_hand(features, changes):
    """The same with one head and learning rate 0.1, written out. Returns (head, mean loss of the
    last epoch).
    """
    settings = {'momentum': 0.9, 'weight_decay': 0.0, 'cos': False} | changes
    head = probe.linear_head(6, 4, generator_at(0, 'head'))
    velocity = [0, 0]
    for epoch, factor in enumerate(lr_factors(6, [3, 5], settings['cos'])):
        total = 0
        order = torch.randperm(50, generator=generator_at(0, epoch, 'order'))
        for batch in order.split(16):  # the last one has two clips
            loss = functional.cross_entropy(
                head(features.train[batch]), features.train_labels[batch]
            )
            total += loss.item() * len(batch)
            for number, (value, grad) in enumerate(
                zip(head.parameters(), torch.autograd.grad(loss, head.parameters()), strict=True)
            ):
                step = grad + settings['weight_decay'] * value.detach()
                velocity[number] = settings['momentum'] * velocity[number] + step
                value.data -= 0.1 * factor * velocity[number]
    return head, total / 50


def test_one_epoch_after_another_as_recorded(recorded):
    arrays = {name: torch.from_numpy(value) for name, value in recorded('evaluation').items()}
    features = Features(
        arrays['train'], arrays['train_labels'], arrays['test'], arrays['test_labels']
    )
    head = torch.nn.Linear(arrays['train'].shape[1], len(arrays['weight0']))
    head.load_state_dict({'weight': arrays['weight0'], 'bias': torch.zeros(len(arrays['weight0']))})
    optimizer = torch.optim.SGD(head.parameters(), 0.03, 0.9)
    accuracies = []
    for epoch, order in enumerate(arrays['order']):
        optimizer.param_groups[0]['lr'] = 0.03 * 0.1 ** ((epoch >= 12) + (epoch >= 16))
        probe.train_one_epoch(head, optimizer, batches_of(features, order, 64))
        accuracies.append(
            100 * (head(features.val).argmax(1) == features.val_labels).float().mean().item()
        )
    assert accuracies == pytest.approx(arrays['accuracy'].tolist(), abs=1e-3)
    assert float((head.weight.detach() - arrays['weight']).norm() / arrays['weight'].norm()) < 1e-4
    assert float((head.bias.detach() - arrays['bias']).norm() / arrays['bias'].norm()) < 1e-4


@pytest.mark.parametrize('changes', [{}, {'momentum': 0.0}, {'weight_decay': 0.1}, {'cos': True}])
def test_training_written_out(features, changes):
    (result,) = train_probe(features, **changes)
    head, loss = train_by_hand(features, changes)
    assert result['training_loss'] == pytest.approx(loss, rel=1e-5)
    assert result['predictions'].equal(head(features.val).argmax(1))


def test_nothing_waits_for_the_device_within_an_epoch(features):
    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            operations.append(function.name())
            return function(*arguments, **keywords or {})

    head = probe.linear_head(6, 4, torch.Generator())
    optimizer = torch.optim.SGD(head.parameters(), 0.1, 0.9)
    counts = []
    for batch_size in (5, 50):  # ten batches an epoch, or one
        operations = []
        with Operations():
            probe.train_one_epoch(
                head, optimizer, batches_of(features, torch.arange(50), batch_size)
            )
        assert 'aten::addmm' in operations
        counts.append(
            sum(
                name in ('aten::_local_scalar_dense', 'aten::_to_copy', 'aten::nonzero')
                for name in operations
            )
        )
    assert counts[0] == counts[1]


def test_each_of_several_learning_rates_is_the_run_with_it_alone(features):
    lrs = [0.3, 0.01, 1.0]
    together = train_probe(features, lrs=lrs)
    assert [result['lr'] for result in together] == lrs
    assert len({result['training_loss'] for result in together}) == 3
    for lr, result in zip(lrs, together, strict=True):
        (alone,) = train_probe(features, lrs=[lr])
        assert alone['training_loss'] == result['training_loss']
        assert alone['predictions'].equal(result['predictions'])


def test_late_fusion_adds_the_logits_of_the_heads(features):
    other = random_features(1)
    rows = [*JOINT_ROW, FusionRow('bone', [BONE]), FusionRow('2s', [JOINT, BONE])]
    results = train_probe({JOINT: features, BONE: other}, rows)
    logits = [train_by_hand(split, {})[0](split.val) for split in (features, other)]
    assert [result['modalities'] for result in results] == ['joint', 'bone', '2s']
    assert results[2]['predictions'].equal(sum(logits).argmax(1))
    assert not results[2]['predictions'].equal(results[0]['predictions'])
    assert results[2]['training_loss'] is None


def test_best_seen_is_the_best_evaluation_every_five_epochs(features):
    (result,) = train_probe(features, epochs=12, schedule=[])
    shorter = [
        train_probe(features, epochs=epochs, schedule=[])[0]['accuracy'] for epochs in (5, 10, 12)
    ]
    assert result['best_accuracy'] == max(shorter)
    assert result['best_epoch'] == (5, 10, 12)[shorter.index(max(shorter))]


def test_heads_start_as_in_the_official_code():
    head = probe.linear_head(2000, 100, torch.Generator())
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not head.bias.any()


def test_a_learning_rate_that_diverges_is_a_mistake(features):
    with pytest.raises(InputError, match=r'--lr 3e\+38: the loss is not finite after epoch 5'):
        train_probe(features, lrs=[0.1, 3e38], epochs=12, schedule=[])
