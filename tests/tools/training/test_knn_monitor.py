"""k-NN while training: by hand, and in the log of a run."""

import json

import pytest
import torch

import pretrain
from data_gen.protocols import Data
from feeder.dataset import ClipDataset
from tools.training import knn_monitor


@pytest.mark.parametrize(('known', 'wanted'), [(True, 50.0), (False, 100.0)])
def test_by_hand(random_dataset, tmp_path, monkeypatch, known, wanted):
    """Two performers with two clips each, which are nearest to each other; all directions are on a
    circle.
    """
    made = random_dataset([5] * 4)
    performers = ['P001', 'P001', 'P002', 'P002'] if known else ['x'] * 4
    names = [f'S001C001{performer}R001A001' if known else performer for performer in performers]
    dataset = ClipDataset(made.frames, made.num_frames, torch.tensor([0, 0, 0, 0]), names)
    if known:
        dataset.labels = torch.tensor([0, 1, 1, 0])  # the nearest are 2, 2, 1, 1
    angles = torch.tensor([0.0, 0.1, 0.3, 0.4])
    features = {('joint',): torch.stack((angles.cos(), angles.sin()), 1)}
    monkeypatch.setattr(knn_monitor, 'extract_subsets', lambda *_: features)
    scores = knn_monitor.KnnMonitor(dataset, Data(tmp_path, 'custom', 'own_split'), 0).accuracy(
        None, ('joint',), torch.device('cpu'), None
    )
    assert scores['knn'] == wanted
    assert scores['knn_seconds'] >= 0


def test_the_sample_is_fixed(random_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(knn_monitor, 'SAMPLE', 4)
    dataset = random_dataset([3, 4, 5, 6, 7, 8])
    one, again, other = (
        knn_monitor.KnnMonitor(dataset, Data(tmp_path, 'custom', 'own_split'), seed).sample
        for seed in (0, 0, 1)
    )
    assert one.names == again.names
    assert one.names != other.names
    for clip, name in enumerate(one.names):
        at = dataset.names.index(name)
        assert one.frames[one.start[clip] :][: one.num_frames[clip]].equal(
            dataset.frames[dataset.start[at] :][: dataset.num_frames[at]]
        )


def test_in_the_log_of_a_run_which_is_the_same_without(tmp_path, padded_arrays):
    padded_arrays(tmp_path / 'NTU-RGB-D-60-AGCN/xsub', train=12)
    logs = []
    for name, flags in (('with', ['--knn-every', '2']), ('without', [])):
        pretrain.main(
            [
                '--data-root',
                str(tmp_path),
                '--checkpoint-path',
                str(tmp_path / name),
                '--hidden-size',
                '8',
                '--epochs',
                '3',
                '--device',
                'cpu',
                *flags,
            ]
        )
        logs.append(
            [
                json.loads(line)
                for line in (tmp_path / name / 'log.jsonl').read_text().splitlines()[1:]
            ]
        )
    assert ['knn' in line for line in logs[0]] == [False, True, False]
    assert 0 <= logs[0][1]['knn'] <= 100
    assert not any('knn' in line for line in logs[1])
    assert [line['total'] for line in logs[0]] == [line['total'] for line in logs[1]]


def test_tensorboard_keeps_the_epochs_before_a_resume(tmp_path, padded_arrays):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    padded_arrays(tmp_path / 'NTU-RGB-D-60-AGCN/xsub', train=12)
    for flags in (['--epochs', '1'], ['--epochs', '2', '--resume', 'auto']):
        pretrain.main(
            [
                '--data-root',
                str(tmp_path),
                '--checkpoint-path',
                str(tmp_path / 'run'),
                '--hidden-size',
                '8',
                '--device',
                'cpu',
                *flags,
            ]
        )
    events = EventAccumulator(str(tmp_path / 'run' / 'tensorboard'))
    events.Reload()
    assert len(events.Scalars('total')) == 2
