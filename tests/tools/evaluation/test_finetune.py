"""One fine-tuning run: its steps against written-out ones, its predictions clip by clip."""

import copy

import pytest
import torch
from torch.nn import functional

from data_gen.protocols import Data
from feeder.feeders import downstream_batches
from feeder.modalities import MODALITIES, streams
from model.umurl import UmURL
from tools.common.cli import InputError
from tools.evaluation.features import Extraction, Inputs
from tools.evaluation.finetune import Classifier, finetune, predict
from tools.evaluation.probe import linear_head, train_one_epoch
from tools.evaluation.recipes import Recipe, training_crops
from tools.results import Origin


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return UmURL(150, 192, 8).backbone


@pytest.fixture
def train(random_dataset):
    return random_dataset([70, 20, 64, 100, 5, 33])


@pytest.fixture
def val(random_dataset):
    return random_dataset([80, 30, 64], seed=1)


@pytest.fixture
def run(backbone, train, val, tmp_path):
    """run(**changes): fine-tune a small classifier of six classes for two epochs, unless the
    changes say otherwise.
    """

    data = Data(tmp_path, 'custom', 'own_split')  # has as many classes as there are labels
    val.labels[-1] = 5
    inputs = Inputs(data, backbone, train, val, Origin())

    def fine_tune(clips=(0, 1, 2, 3, 4), lr=0.1, dtype=None, seed=0, **changes):
        recipe = Recipe([lr], 2, 2, [1], weight_decay=0.01)
        of_recipe = {name: changes.pop(name) for name in recipe._fields if name in changes}
        settings = {'modalities': tuple(MODALITIES), 'repeat': 0} | changes
        return finetune(
            inputs,
            recipe._replace(**of_recipe),
            Extraction(torch.device('cpu'), dtype, 2),
            seed,
            clips=torch.tensor(clips),
            **settings,
        )

    return fine_tune


def single_clips(dataset, modalities):
    """The streams of every clip by itself, resized by torch."""
    clips = []
    for start, num_frames in zip(dataset.start.tolist(), dataset.num_frames.tolist(), strict=True):
        flat = dataset.frames[start : start + num_frames].flatten(1).T[None]
        resized = functional.interpolate(flat, size=64, mode='linear')[0].T.reshape(1, 64, 2, 25, 3)
        clips.append(streams(resized, modalities))
    return clips


@pytest.mark.parametrize('modalities', [('bone',), ('joint', 'motion'), MODALITIES])
def test_two_epochs_of_sgd_written_out(backbone, train, modalities):
    model = Classifier(backbone, linear_head(16, 6, torch.Generator()))
    expected = copy.deepcopy(model)
    values, clips = list(expected.parameters()), single_clips(train, modalities)
    velocity = [0] * len(values)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=0.01)
    for lr, order in ((0.1, torch.tensor([4, 0, 3])), (0.01, torch.tensor([3, 4, 0]))):
        losses = []
        for batch in (order[:2], order[2:]):
            of_batch = [
                functional.cross_entropy(expected([clips[clip]]), train.labels[clip, None])
                for clip in batch
            ]
            losses += of_batch
            grads = torch.autograd.grad(torch.stack(of_batch).mean(), values, allow_unused=True)
            for number, (value, grad) in enumerate(zip(values, grads, strict=True)):
                if grad is not None:  # an unused modality does not change, not even by weight decay
                    velocity[number] = 0.9 * velocity[number] + grad + 0.01 * value.detach()
                    value.data -= lr * velocity[number]
        optimizer.param_groups[0]['lr'] = lr
        batches = [
            (parts, train.labels[found])
            for found, parts in downstream_batches(train, 2, modalities, clips=order)
        ]
        loss = train_one_epoch(model, optimizer, batches).item()
        assert loss == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    for value, their in zip(model.parameters(), values, strict=True):
        torch.testing.assert_close(value, their, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('modalities', [('motion',), MODALITIES])
def test_predictions_are_of_every_clip_in_order(backbone, val, modalities):
    model = Classifier(backbone, linear_head(16, 6, torch.Generator()))
    logits = predict(model, val, modalities, 2, None)
    one_by_one = torch.cat([model([clip]) for clip in single_clips(val, modalities)])
    torch.testing.assert_close(logits, one_by_one.detach(), rtol=1e-4, atol=1e-6)
    assert not logits.requires_grad


@pytest.mark.parametrize('dtype', [None, torch.bfloat16, torch.float16])
def test_training_lowers_the_loss(run, dtype):
    settings = {'lr': 0.03, 'batch_size': 5, 'weight_decay': 0, 'dtype': dtype}
    assert (
        run(epochs=25, schedule=[], **settings).training_loss
        < 0.5 * run(epochs=1, **settings).training_loss
    )


def test_crops_are_drawn_again_each_epoch_and_the_centre_is_tested(run, train, val, monkeypatch):
    """What the encoder reads: in training the crops of this seed, epoch and repeat; in the test
    centre crops.
    """
    used, everyone = [], torch.arange(len(val))
    monkeypatch.setattr(
        'tools.evaluation.finetune.downstream_batches',
        lambda _, size, modalities, crops, clips=everyone: (
            used.append(crops),
            [(clips, [streams(torch.zeros(len(clips), 64, 2, 25, 3), modalities)])],
        )[1],
    )
    run(train_crop=[0.5, 0.9], test_crop=0.5, batch_size=5, repeat=3, seed=2)
    first, second, tested = used
    for crops, epoch in ((first, 0), (second, 1)):
        assert all(
            one.equal(two)
            for one, two in zip(
                crops, training_crops(train.num_frames, [0.5, 0.9], 2, epoch, 3), strict=True
            )
        )
    assert not first[0].equal(second[0])
    assert [values.tolist() for values in tested] == [[20, 7, 16], [40, 16, 32]]


def test_the_learning_rate_is_lr_times_the_factor_of_each_epoch(run):
    plain = run(lr=0.1, schedule=[1]).eval_history[2]
    assert run(lr=1.0, schedule=[0, 1]).eval_history[2].allclose(plain, atol=1e-6)
    assert not run(lr=0.1, schedule=[]).eval_history[2].allclose(plain, atol=1e-6)


def test_seed_and_repeat_determine_a_run(run):
    first = run()
    assert run().eval_history[2].equal(first.eval_history[2])
    for other in (run(repeat=1), run(seed=1), run(clips=(0, 1, 2, 3, 5))):
        assert not other.eval_history[2].equal(first.eval_history[2])
        assert other.training_loss != first.training_loss
    for changes in ({'momentum': 0.5}, {'weight_decay': 0.5}):
        assert not run(**changes).eval_history[2].equal(first.eval_history[2])


def test_each_repeat_has_its_own_head_and_order(run, monkeypatch):
    one_step = {
        'batch_size': 5,
        'epochs': 1,
    }  # all clips in one batch: their order only affects rounding
    assert (
        not run(repeat=1, **one_step)
        .eval_history[1]
        .allclose(run(**one_step).eval_history[1], rtol=1e-3)
    )
    monkeypatch.setattr(
        'tools.evaluation.finetune.linear_head',
        lambda *sizes_and_generator: linear_head(*sizes_and_generator[:2], torch.Generator()),
    )
    assert (
        run(repeat=1, **one_step)
        .eval_history[1]
        .allclose(run(**one_step).eval_history[1], rtol=1e-3, atol=1e-5)
    )
    assert not run(repeat=1).eval_history[2].allclose(run().eval_history[2], rtol=1e-3, atol=1e-5)


def test_the_pre_trained_weights_stay_for_the_next_run(run, backbone):
    before = copy.deepcopy(backbone.state_dict())
    run()
    assert all(value.equal(before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(('epochs', 'evaluated'), [(3, [3]), (10, [5, 10]), (12, [5, 10, 12])])
def test_evaluates_every_five_epochs_and_after_the_last(run, epochs, evaluated):
    assert list(run(epochs=epochs, modalities=('joint',)).eval_history) == evaluated


@pytest.mark.parametrize('modalities', [('bone',), ('joint', 'bone')])
def test_what_is_trained_and_saved(run, backbone, val, modalities, tmp_path):
    logits = run(modalities=modalities, save_model=tmp_path / 'fine.pth.tar').eval_history[2]
    saved = torch.load(tmp_path / 'fine.pth.tar', weights_only=True)
    state = {name.removeprefix('module.'): value for name, value in saved['state_dict'].items()}
    assert saved['epoch'] == 2
    assert {name.split('.')[0] for name in state} == {'backbone', 'fc'}
    changed = {
        name.split('.')[1]
        for name, value in state.items()
        if name.startswith('backbone') and not value.equal(backbone.state_dict()[name[9:]])
    }
    embeddings = {f'{modality[0]}_emb' for modality in modalities}
    assert changed == embeddings | {'ma_encoder'} | (
        {'mm_fusion'} if len(modalities) > 1 else set()
    )
    model = Classifier(backbone, torch.nn.Linear(16, 6))
    model.load_state_dict(state)
    assert predict(model, val, modalities, 2, None).equal(logits)


def test_a_loss_that_is_not_finite_stops(run):
    with pytest.raises(InputError, match='not finite in epoch 1; use a smaller --lr'):
        run(lr=1e30)
