"""The linear probe and the retrieval script: the recorded numbers, and the scripts as a user runs them."""
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import action_recognition
import action_retrieval
from model.umurl import UmURL
from tools import checkpoint

SCRIPTS = pytest.mark.parametrize('script', [action_recognition, action_retrieval])


@pytest.fixture
def setting(tmp_path, padded_arrays):
    """Flags for a tiny NTU-60 x-sub and a checkpoint of width 8 that was not trained."""
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=30, val=12)
    torch.manual_seed(0)
    model = UmURL(150, 192, 8)
    checkpoint.save(tmp_path / 'checkpoint.pth.tar', model, torch.optim.Adam(model.parameters()), 1)
    return ['--data-root', str(tmp_path / 'data'), '--pretrained', str(tmp_path / 'checkpoint.pth.tar'),
            '--device', 'cpu']


def results(script, setting, tmp_path, *flags):
    script.main([*setting, '--results', str(tmp_path / 'results.json'), *map(str, flags)])
    return json.loads((tmp_path / 'results.json').read_text())


def test_probe_as_recorded(recorded):
    made = {name: torch.from_numpy(value) for name, value in recorded('evaluation').items()}
    head = torch.nn.Linear(64, 12)
    with torch.no_grad():
        head.weight.copy_(made['weight0'])
        head.bias.zero_()
    args = Namespace(lr=0.03, momentum=0.9, weight_decay=0, batch_size=64, schedule=[12, 16], cos=False)
    accuracy = [action_recognition.evaluate(head, made['test'], made['test_labels'])['accuracy']
                for _ in action_recognition.fit(head, made['train'], made['train_labels'], made['order'], args)]
    assert accuracy == pytest.approx(made['accuracy'].tolist(), abs=1e-3)
    assert float((head.weight.detach() - made['weight']).norm() / made['weight'].norm()) < 1e-4
    assert float((head.bias.detach() - made['bias']).norm() / made['bias'].norm()) < 1e-4


@pytest.mark.parametrize('k', [1, 5, 9, 20])
def test_retrieval_as_recorded(recorded, k):
    made = {name: torch.from_numpy(value) for name, value in recorded('evaluation').items()}
    predictions = action_retrieval.knn(made['train'], made['train_labels'], made['test'], k, 12)
    assert predictions.equal(made[f'knn_{k}'])


@pytest.mark.parametrize('k', [1, 4, 7])
def test_retrieval_is_that_of_scikit_learn(k, monkeypatch):
    monkeypatch.setattr(action_retrieval, 'SIMILARITIES_AT_ONCE', 700)  # several blocks
    rng = np.random.default_rng(0)
    labels, train, queries = rng.integers(0, 5, 100), rng.normal(size=(100, 6)), rng.normal(size=(31, 6))
    theirs = KNeighborsClassifier(k, metric='cosine', algorithm='brute').fit(train, labels).predict(queries)
    mine = action_retrieval.knn(*map(torch.from_numpy, (train, labels, queries)), k, 5)
    assert (mine.numpy() == theirs).all()


def test_equal_votes_go_to_the_smallest_label():
    train = torch.tensor([[1., 0], [1, .1], [1, .2]])
    assert action_retrieval.knn(train, torch.tensor([2, 0, 1]), torch.tensor([[1., 0]]), 3, 3).tolist() == [0]


def test_head_starts_as_in_the_release():
    head = action_recognition.linear_head(2000, 100, seed=0)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not head.bias.any()


def test_top5_counts_the_five_best():
    head = torch.nn.Linear(6, 6, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(6))
    scores = torch.tensor([[6., 5, 4, 3, 2, 1]]).repeat(4, 1)
    made = action_recognition.evaluate(head, scores, torch.tensor([0, 4, 5, 1]))
    assert (made['accuracy'], made['top5_accuracy']) == (25, 75)


def test_recognition_end_to_end(setting, tmp_path, capsys):
    made = results(action_recognition, setting, tmp_path, '--epochs', 40, '--batch-size', 8, '--lr', 0.3)
    out = capsys.readouterr().out
    assert f'last epoch:  {made["accuracy"]:.2f} %' in out
    assert f'best seen:   {made["best_accuracy"]:.2f} %' in out
    assert made['accuracy'] > 60  # three classes, each with a pose of its own
    assert made['best_accuracy'] >= made['accuracy']
    assert made['accuracy'] == pytest.approx(100 * np.mean(np.equal(made['predictions'], made['labels'])))
    assert made['args']['dataset'] == 'ntu60'
    assert len(made['checkpoint_sha256']) == 64


def test_retrieval_end_to_end(setting, tmp_path):
    made = results(action_retrieval, setting, tmp_path, '--knn-neighbours', 3, '--lr', 0.03)
    assert made['accuracy'] > 60
    assert made['accuracy'] == pytest.approx(100 * np.mean(np.equal(made['predictions'], made['labels'])))


@SCRIPTS
def test_kept_features_give_the_same_result(script, setting, tmp_path):
    first = results(script, setting, tmp_path, '--save-features', tmp_path / 'new/features.npz')
    kept = dict(np.load(tmp_path / 'new/features.npz'))
    about = json.loads(str(kept.pop('about')))
    assert about['dataset'] == 'ntu60'
    assert {name: (array.shape, str(array.dtype)) for name, array in kept.items()} == {
        'train': ((30, 16), 'float32'), 'train_labels': ((30,), 'int64'),
        'val': ((12, 16), 'float32'), 'val_labels': ((12,), 'int64')}
    again = results(script, ['--device', 'cpu'], tmp_path, '--load-features', tmp_path / 'new/features.npz')
    assert again['predictions'] == first['predictions']
    assert again['checkpoint_sha256'] == first['checkpoint_sha256'] is not None


def test_modalities_choose_the_path(setting, tmp_path):
    made = {}
    for modalities in (['joint'], ['bone'], ['joint', 'bone'], ['joint', 'bone', 'motion']):
        action_retrieval.main([*setting, '--modalities', *modalities, '--save-features', str(tmp_path / 'f.npz')])
        made['+'.join(modalities)] = np.load(tmp_path / 'f.npz')['val']
    assert len({array.tobytes() for array in made.values()}) == 4


def test_recorded_features(recorded, recorded_checkpoint, reference, ours, made_store):
    """The release's features of the recordings, by the reader and the extractor that the scripts use."""
    from feeder.store import ClipStore
    from tools.features import extract
    data = recorded('data_gen')
    counts = data['num_frame'].tolist()
    frames = torch.cat([ours(clip)[:count] for clip, count in zip(data['normalized'], counts, strict=True)])
    store = ClipStore(frames, torch.tensor(counts), torch.zeros(16, dtype=torch.long), data['files'].tolist())
    backbone = checkpoint.load_model(reference / 'checkpoint_0000.pth.tar').backbone
    for key, modalities in [('features', ('joint', 'bone', 'motion')), ('features_joint', ('joint',)),
                            ('features_bone', ('bone',)), ('features_motion', ('motion',))]:
        made, theirs = extract(backbone, store, modalities, 5), torch.from_numpy(recorded('downstream')[key])
        assert float((made - theirs).norm() / theirs.norm()) < 1e-4


@SCRIPTS
@pytest.mark.parametrize(('flags', 'message'), [
    (['--pretrained', '/no/such.pth.tar'], '/no/such.pth.tar: no such checkpoint'),
    (['--finetune-dataset', 'ntu120', '--protocol', 'cross_view'], 'ntu120 has no protocol cross_view'),
    (['--finetune-dataset', 'ntu120'], 'NTU-RGB-D-120-AGCN'),
    (['--modalities', 'depth'], '--modalities'),
    (['--load-features', '/no/such.npz'], '/no/such.npz'),
])
def test_a_mistake_is_one_line(script, setting, mistake, flags, message):
    assert message in mistake(script.main, [*setting, *flags])


@SCRIPTS
def test_no_checkpoint_is_a_mistake(script, mistake):
    assert '--pretrained' in mistake(script.main, [])


def test_more_neighbours_than_clips_is_a_mistake(setting, mistake):
    assert 'only 30 training clips' in mistake(action_retrieval.main, [*setting, '--knn-neighbours', 31])


@SCRIPTS
def test_a_label_beyond_the_data_set_is_a_mistake(script, tmp_path, mistake):
    np.savez(tmp_path / 'f.npz', train=np.ones((2, 4)), train_labels=[0, 60], val=np.ones((1, 4)), val_labels=[0])
    assert 'ntu60 has 60 classes' in mistake(script.main, ['--load-features', tmp_path / 'f.npz'])


@SCRIPTS
@pytest.mark.parametrize('damage', ['missing label file', 'one label less', 'not finite'])
def test_damaged_arrays_are_a_mistake(script, setting, tmp_path, mistake, damage):
    folder = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub'
    if damage == 'missing label file':
        (folder / 'val_label.pkl').unlink()
    elif damage == 'one label less':
        np.save(folder / 'val_num_frame.npy', np.load(folder / 'val_num_frame.npy')[:-1])
    else:
        data = np.load(folder / 'val_data_joint.npy')
        data[3, 0, 2, 7, 0] = np.nan
        np.save(folder / 'val_data_joint.npy', data)
    line = mistake(script.main, setting)
    assert {'missing label file': 'val_label.pkl', 'one label less': '11 frame counts',
            'not finite': 'clip 3 (S001C001P004'}[damage] in line


def test_kept_features_know_their_modalities(setting, tmp_path, capsys):
    action_retrieval.main([*setting, '--modalities', 'bone', '--save-features', str(tmp_path / 'f.npz')])
    made = results(action_retrieval, setting, tmp_path, '--load-features', tmp_path / 'f.npz')
    assert made['args']['modalities'] == ['bone']
    assert '--pretrained has no effect' in capsys.readouterr().err


@SCRIPTS
@pytest.mark.parametrize(('change', 'message'), [({'val': np.full((2, 4), np.nan)}, 'not finite'),
                                                 ({'val': np.ones((0, 4)), 'val_labels': []}, '0 test clips')])
def test_features_that_no_score_can_come_from(script, tmp_path, mistake, change, message):
    whole = {'train': np.ones((3, 4)), 'train_labels': [0, 1, 2], 'val': np.ones((2, 4)), 'val_labels': [0, 1]}
    np.savez(tmp_path / 'f.npz', **whole | change)
    assert message in mistake(script.main, ['--load-features', tmp_path / 'f.npz'])


def test_arrays_of_one_body_are_a_mistake(setting, tmp_path, mistake):
    file = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub/train_data_joint.npy'
    np.save(file, np.load(file)[..., :1])
    assert '75 numbers a frame' in mistake(action_retrieval.main, setting)
