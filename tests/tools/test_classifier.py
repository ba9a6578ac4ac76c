"""One fine-tuning run: its steps against written-out ones, its scores by hand."""
import copy
from argparse import Namespace

import pytest
import torch
from torch.nn import functional

from data_gen.cli import InputError, progress
from feeder.modalities import MODALITIES, streams
from model.umurl import UmURL
from tools.classifier import Classifier, Task, fit, late_fusion, logits, score, train
from tools.probe import linear_head

ALL = ('joint', 'bone', 'motion')


def settings(**changes):
    return Namespace(**{'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.01, 'batch_size': 2, 'epochs': 2, 'schedule': [1],
                        'cos': False, 'amp': 'off', 'seed': 0, 'extract_batch': 2, 'save_model': None} | changes)


@pytest.fixture
def task(made_store):
    torch.manual_seed(0)
    return Task(UmURL(150, 192, 8).backbone, made_store([70, 20, 64, 100, 5, 33]), made_store([80, 30, 64], seed=1), 6,
                None)


def whole_clips(store, subset):
    """The streams of every clip by itself, resized by torch."""
    made = []
    for first, length in zip(store.start.tolist(), store.length.tolist(), strict=True):
        flat = store.frames[first:first + length].flatten(1).T[None]
        resized = functional.interpolate(flat, size=64, mode='linear')[0].T.reshape(1, 64, 2, 25, 3)
        made.append(streams(resized, subset))
    return made


@pytest.mark.parametrize('subset', [('bone',), ('joint', 'motion'), ALL])
def test_two_epochs_of_sgd_written_out(task, subset):
    args, model = settings(), Classifier(task.backbone, linear_head(16, 6, 0))
    orders = [torch.tensor([4, 0, 3]), torch.tensor([3, 4, 0])]
    theirs = copy.deepcopy(model)
    values, clips, means = list(theirs.parameters()), whole_clips(task.train, subset), []
    speed = [0] * len(values)
    for lr, order in zip((0.1, 0.01), orders, strict=True):
        losses = []
        for batch in (order[:2], order[2:]):
            each = [functional.cross_entropy(theirs(clips[clip]), task.train.labels[clip, None]) for clip in batch]
            losses += each
            grads = torch.autograd.grad(torch.stack(each).mean(), values, allow_unused=True)
            for number, (value, grad) in enumerate(zip(values, grads, strict=True)):
                if grad is not None:  # a modality that is not used is left alone, by weight decay too
                    speed[number] = 0.9 * speed[number] + grad + 0.01 * value.detach()
                    value.data -= lr * speed[number]
        means.append(torch.stack(losses).mean().item())

    optimizer = torch.optim.SGD(model.parameters(), args.lr, args.momentum, weight_decay=args.weight_decay)
    assert list(fit(model, optimizer, task.train, subset, orders, args)) == pytest.approx(means, rel=1e-5)
    for value, their in zip(model.parameters(), values, strict=True):
        torch.testing.assert_close(value, their, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('subset', [('motion',), ALL])
def test_logits_are_of_every_clip_in_order(task, subset):
    model = Classifier(task.backbone, linear_head(16, 6, 0))
    made = logits(model, task.val, subset, settings())
    each = torch.cat([model(clip) for clip in whole_clips(task.val, subset)])
    torch.testing.assert_close(made, each.detach(), rtol=1e-4, atol=1e-6)
    assert not made.requires_grad


@pytest.mark.parametrize('amp', ['off', 'bf16', 'fp16'])
def test_training_lowers_the_loss(task, amp):
    args = settings(lr=0.03, epochs=15, schedule=[], amp=amp, weight_decay=0)
    model = Classifier(task.backbone, linear_head(16, 6, 0))
    optimizer = torch.optim.SGD(model.parameters(), args.lr, args.momentum)
    losses = list(fit(model, optimizer, task.train, ALL, [torch.arange(6)] * args.epochs, args))
    assert losses[-1] < 0.5 * losses[0]


def run(task, repeat=0, subset=ALL, drawn=(0, 1, 2, 3, 4), **changes):
    with progress(None, 'test', disable=True) as bar:
        return train(task, subset, torch.tensor(drawn), repeat, settings(**changes), bar)


def test_seed_and_repeat_decide(task):
    first, loss = run(task)
    again, _ = run(task)
    assert first[2].equal(again[2])
    for looks, other in (run(task, repeat=1), run(task, seed=1), run(task, drawn=(0, 1, 2, 3, 5))):
        assert not looks[2].equal(first[2])
        assert other != loss
    for changes in ({'lr': 0.05}, {'momentum': 0.5}, {'weight_decay': 0.5}):
        assert not run(task, **changes)[0][2].equal(first[2])


def test_a_repeat_has_a_head_and_an_order_of_its_own(task, monkeypatch):
    together = {'batch_size': 5, 'epochs': 1}  # all clips in one batch: their order changes rounding at most
    assert not run(task, repeat=1, **together)[0][1].allclose(run(task, **together)[0][1], rtol=1e-3)
    monkeypatch.setattr('tools.classifier.linear_head', lambda size, classes, seed: linear_head(size, classes, 0))
    assert run(task, repeat=1, **together)[0][1].allclose(run(task, **together)[0][1], rtol=1e-3, atol=1e-5)
    assert not run(task, repeat=1)[0][2].allclose(run(task)[0][2], rtol=1e-3, atol=1e-5)


def test_the_pre_trained_weights_stay_for_the_next_run(task):
    before = {name: value.clone() for name, value in task.backbone.state_dict().items()}
    run(task)
    assert all(value.equal(before[name]) for name, value in task.backbone.state_dict().items())


@pytest.mark.parametrize(('epochs', 'looks'), [(3, [3]), (10, [5, 10]), (12, [5, 10, 12])])
def test_the_test_part_is_looked_at_every_five_epochs_and_last(task, epochs, looks):
    assert list(run(task, epochs=epochs, subset=('joint',))[0]) == looks


@pytest.mark.parametrize('subset', [('bone',), ('joint', 'bone')])
def test_what_is_trained_and_kept(task, subset, tmp_path):
    looks, _ = run(task, subset=subset, save_model=tmp_path / 'fine.pth.tar')
    saved = torch.load(tmp_path / 'fine.pth.tar', weights_only=True)
    state = {name.removeprefix('module.'): value for name, value in saved['state_dict'].items()}
    assert saved['epoch'] == 2
    assert {name.split('.')[0] for name in state} == {'backbone', 'fc'}
    changed = {name.split('.')[1] for name, value in state.items()
               if name.startswith('backbone') and not value.equal(task.backbone.state_dict()[name[9:]])}
    embeddings = {f'{modality[0]}_emb' for modality in MODALITIES if modality in subset}
    assert changed == embeddings | {'ma_encoder'} | ({'mm_fusion'} if len(subset) > 1 else set())
    model = Classifier(task.backbone, torch.nn.Linear(16, 6))
    model.load_state_dict(state)
    assert logits(model, task.val, subset, settings()).equal(looks[2])


def test_a_loss_that_is_not_finite_stops(task):
    with pytest.raises(InputError, match='not finite in epoch 1; use a smaller --lr'):
        run(task, lr=1e30)


def test_scores_by_hand(task):
    task.val.labels[:] = torch.tensor([0, 1, 1])
    right, wrong = torch.eye(6)[0], torch.tensor([6., 0, 5, 4, 3, 2])  # class 1 is last
    fifth = torch.tensor([5., 1, 4, 3, 2, 0])
    made = score({5: torch.stack((right, torch.eye(6)[1], fifth)), 10: torch.stack((right, wrong, fifth))}, task,
                 settings())
    assert made['accuracy'] == pytest.approx(100 / 3)
    assert made['top5_accuracy'] == pytest.approx(200 / 3)
    assert made['mean_class_accuracy'] == pytest.approx(50)
    assert (made['best_accuracy'], made['best_epoch']) == (pytest.approx(200 / 3), 5)
    assert made['predictions'].tolist() == [0, 0, 0]


def test_late_fusion_is_the_mean_of_the_logits_at_each_look():
    one = {5: torch.tensor([[1., 0]]), 8: torch.tensor([[0., 2]])}
    made = late_fusion((one, {5: torch.tensor([[0., 4]]), 8: torch.ones(1, 2)}))
    assert {epoch: values.tolist() for epoch, values in made.items()} == {5: [[0.5, 2]], 8: [[0.5, 1.5]]}
