"""What the two evaluation scripts share, and retrieval: recorded numbers, and the scripts as a user runs them."""
import csv
import hashlib
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

import action_recognition
import action_retrieval
from data_gen import manifest
from feeder import store
from model.umurl import UmURL
from tools import checkpoint
from tools.feature_files import Features
from tools.results import data_digest

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


@pytest.mark.parametrize('k', [1, 5, 9, 20])
def test_retrieval_as_recorded(recorded, k):
    made = {name: torch.from_numpy(value) for name, value in recorded('evaluation').items()}
    predictions = action_retrieval.knn(made['train'], made['train_labels'], made['test'], k, 12)
    assert predictions.equal(made[f'knn_{k}'])


@pytest.mark.parametrize('k', [1, 4, 7])
def test_retrieval_is_that_of_scikit_learn(k):
    rng = np.random.default_rng(0)
    labels, train, queries = rng.integers(0, 5, 100), rng.normal(size=(100, 6)), rng.normal(size=(31, 6))
    theirs = KNeighborsClassifier(k, metric='cosine', algorithm='brute').fit(train, labels).predict(queries)
    mine = action_retrieval.knn(*map(torch.from_numpy, (train, labels, queries)), k, 5, block=7)
    assert (mine.numpy() == theirs).all()


def test_equal_votes_go_to_the_smallest_label():
    train = torch.tensor([[1., 0], [1, .1], [1, .2]])
    assert action_retrieval.knn(train, torch.tensor([2, 0, 1]), torch.tensor([[1., 0]]), 3, 3).tolist() == [0]


def test_retrieval_scores_by_hand():
    """Clips on a quarter circle, all queries at its beginning: the n-th clip is the n-th neighbour of each."""
    angles = torch.arange(12) / 8
    train_labels = torch.tensor([4, 0, 1, 1, 1, 2, 1, 1, 1, 1, 3, 1])
    labels = torch.tensor([0, 2, 3, 4, 9])  # found at ranks 2, 6, 11, 1, and nowhere
    parts = Features(torch.stack((angles.cos(), angles.sin()), 1), train_labels,
                     torch.tensor([1., 0]).repeat(5, 1), labels)
    made = action_retrieval.evaluate([parts], Namespace(knn_neighbours=1, block=2, seed=0), 10)
    assert made['predictions'].tolist() == [4] * 5
    assert made['accuracy'] == pytest.approx(20)
    assert [made[f'recall_at_{first}'] for first in (1, 5, 10)] == [25, 50, 75]
    assert made['mean_average_precision'] == pytest.approx(25 * (1 / 2 + 1 / 6 + 1 / 11 + 1), rel=1e-5)
    assert made['without_training_clip'] == 1
    assert made['class_accuracy'] == [0, None, 0, 0, 100, None, None, None, None, 0]


def test_no_class_in_common(tmp_path, capsys):
    np.savez(tmp_path / 'f.npz', train=np.eye(3), train_labels=[0, 1, 2], val=np.eye(3)[:2], val_labels=[3, 4])
    made = results(action_retrieval, [], tmp_path, '--load-features', tmp_path / 'f.npz')
    assert (made['accuracy'], made['mean_average_precision'], made['recall_at_10']) == (0, None, None)
    assert '2 test clips, of classes without a training clip' in capsys.readouterr().out


def test_retrieval_end_to_end(setting, tmp_path, capsys):
    made = results(action_retrieval, setting, tmp_path, '--knn-neighbours', 3, '--lr', 0.03, '--seed', 5)
    assert made['accuracy'] > 60
    assert made['accuracy'] == pytest.approx(100 * np.mean(np.equal(made['predictions'], made['labels'])))
    assert made['mean_average_precision'] > 60
    assert made['accuracy_interval'][0] < made['accuracy'] < made['accuracy_interval'][1] or made['accuracy'] == 100
    assert (made['seed'], len(made['data_sha256']), made['pretrained_on'], 'table' in made) == (5, 64, None, False)
    assert made['args']['extract_batch'] == 64
    out = capsys.readouterr().out
    assert f'\naccuracy: {made["accuracy"]:.2f} % (95 % interval {made["accuracy_interval"][0]:.2f} to ' in out
    assert f'mAP: {made["mean_average_precision"]:.2f} %  recall@1: {made["recall_at_1"]:.2f} %' in out


def test_every_subset_from_one_pass(setting, tmp_path, capsys):
    made = results(action_retrieval, setting, tmp_path, '--all-modalities')
    table = {row['modalities']: row for row in made['table']}
    assert list(table) == ['joint', 'bone', 'motion', 'joint+bone', 'joint+motion', 'bone+motion', 'joint+bone+motion',
                           '3s']
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[-8:]}
    for name, row in table.items():
        assert lines[name][1] == f'{row["accuracy"]:.2f}'
        assert lines[name][-4] == f'{row["mean_average_precision"]:.2f}'
        if name != '3s':
            alone = results(action_retrieval, setting, tmp_path, '--modalities', *name.split('+'))
            assert all(alone[key] == value for key, value in row.items())
    assert made['mean_average_precision'] == table['joint+bone+motion']['mean_average_precision']


def test_the_ensemble_adds_cosines(setting, tmp_path):
    """The same as one search among features that were scaled to length 1 and put side by side."""
    made = results(action_retrieval, setting, tmp_path, '--ensemble', '--save-features', tmp_path / 'f.npz')
    kept = [np.load(tmp_path / f'f_{modality}.npz') for modality in ('joint', 'bone', 'motion')]
    train, val = (torch.cat([normalize(torch.from_numpy(file[part])) for file in kept], 1) for part in ('train', 'val'))
    labels = torch.from_numpy(kept[0]['train_labels'])
    assert made['predictions'] == action_retrieval.knn(train, labels, val, 1, 60).tolist()
    assert [row['modalities'] for row in made['table']] == ['joint', 'bone', 'motion', '3s']
    assert made['mean_average_precision'] == made['table'][3]['mean_average_precision']
    again = results(action_retrieval, [], tmp_path, '--ensemble', '--load-features', tmp_path / 'f.npz')
    assert again['table'] == made['table']
    assert again['checkpoint_sha256'] == made['checkpoint_sha256']


def test_the_batch_is_the_encoders(setting, tmp_path):
    made = [results(action_retrieval, setting, tmp_path, *flags) for flags in ([], ['-b', 7], ['--block', 1])]
    assert [run['args']['extract_batch'] for run in made] == [64, 7, 64]
    assert made[0]['predictions'] == made[1]['predictions'] == made[2]['predictions']


def test_per_class_file_in_a_new_folder(setting, tmp_path):
    made = results(action_retrieval, setting, tmp_path, '--per-class', tmp_path / 'new/classes.csv')
    with open(tmp_path / 'new/classes.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['clips'] for row in rows] == ['4'] * 3 + ['0'] * 57
    shown = [f'{accuracy:.2f}' for accuracy in made['class_accuracy'][:3]]
    assert [row['accuracy'] for row in rows[:3]] == shown


def summary_of(clips):
    length = clips.length.tolist()
    digests = manifest.clip_digests(clips.frames.numpy(), length)
    return manifest.part_summary(clips.names, clips.labels.tolist(), length, digests)


@SCRIPTS
def test_results_know_their_data_and_what_was_pretrained(script, setting, tmp_path, capsys):
    folder, path = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', tmp_path / 'checkpoint.pth.tar'
    manifest.write(folder, parts={part: summary_of(store.load(folder, part)) for part in ('train', 'val')})
    about = {'objective': 'umurl', 'modalities': ['joint', 'bone'], 'dataset': 'ntu60', 'protocol': 'cross_subject'}
    torch.save(torch.load(path) | {'about': about}, path)
    made = results(script, setting, tmp_path)
    assert made['pretrained_on'] == about
    assert made['data_sha256'] == hashlib.sha256((folder / 'manifest.json').read_bytes()).hexdigest()
    assert f'note: {path} was pre-trained on joint bone alone: its embedding of motion' in capsys.readouterr().err
    results(script, setting, tmp_path, '--modalities', 'bone')
    shown = capsys.readouterr()
    assert 'pre-trained on joint bone alone' not in shown.err
    assert 'pre-trained on ntu60 cross_subject, joint+bone, objective umurl' in shown.out


def test_arrays_without_a_manifest_are_known_by_their_labels_and_frame_counts(setting, tmp_path):
    folder = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub'
    first, again = (data_digest(folder) for _ in range(2))
    counts = np.load(folder / 'val_num_frame.npy')
    counts[3] -= 1
    np.save(folder / 'val_num_frame.npy', counts)
    assert first == again != data_digest(folder)


@pytest.mark.parametrize(('flags', 'message'), [
    (['--modalities', 'joint'], "is of modalities ['bone'], not of ['joint']"),
    (['--protocol', 'cross_view'], 'is of protocol cross_subject, not of cross_view'),
    (['--finetune-dataset', 'ntu120'], 'is of dataset ntu60, not of ntu120')])
def test_features_of_something_else_are_a_mistake(setting, tmp_path, mistake, flags, message):
    file = tmp_path / 'f.npz'
    action_retrieval.main([*setting, '--modalities', 'bone', '--save-features', str(file)])
    assert message in mistake(action_retrieval.main, ['--load-features', file, *flags])


def test_features_of_several_subsets_are_pointed_out(setting, tmp_path, mistake):
    action_retrieval.main([*setting, '--ensemble', '--save-features', str(tmp_path / 'f.npz')])
    line = mistake(action_retrieval.main, ['--load-features', tmp_path / 'f.npz'])
    assert 'f.npz: no such file; f_bone.npz and others are there, for --ensemble' in line


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
    (['--load-features', '/no/such.npz', '--ensemble'], '/no/such_joint.npz'),
    (['--ensemble', '--modalities', 'bone'], '--ensemble takes two or three modalities, not bone alone'),
    (['--all-modalities', '--modalities', 'bone', 'joint'], 'leave out --modalities'),
    (['--all-modalities', '--ensemble'], 'not allowed with argument'),
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
