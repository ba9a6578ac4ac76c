"""A split on disk is, to everybody who reads clips, the split in memory: bit for bit, in every
layout.
"""

import json
import os
import pickle

import numpy as np
import pytest
import torch

import action_recognition
import pretrain
from data_gen import manifest
from feeder import dataset
from feeder.dataset import load_split
from feeder.feeders import PretrainFeeder, downstream_batches
from feeder.prefetch import Prefetcher
from tools.analysis import explorer, robustness
from tools.common.cli import InputError

CLIPS = 14


def padded(folder, clips):
    """As it is."""


def fortran_float64(folder, clips):
    file = folder / 'train_data_joint.npy'
    np.save(file, np.asfortranarray(np.load(file), np.float64))


def trimmed_float16(folder, clips):
    np.save(folder / 'train_frame_joint.npy', np.concatenate(clips).astype(np.float16))


LAYOUTS = [padded, fortran_float64, trimmed_float16]


@pytest.fixture(params=LAYOUTS, ids=lambda write: write.__name__)
def folder(request, tmp_path, padded_arrays):
    data, counts, *_ = padded_arrays(tmp_path, train=CLIPS)['train']
    request.param(
        tmp_path,
        [clip.transpose(1, 3, 2, 0)[:count] for clip, count in zip(data, counts, strict=True)],
    )
    if request.param.__name__.startswith('trimmed'):
        (tmp_path / 'train_data_joint.npy').unlink()
    return tmp_path


@pytest.fixture
def both(folder):
    """The same split in memory and on disk."""
    return load_split(folder, 'train'), load_split(folder, 'train', data_device='disk')


def tensors(value):
    """All tensors in nested dicts, lists and tuples."""
    if torch.is_tensor(value):
        return [value]
    return [
        tensor
        for each in (value.values() if isinstance(value, dict) else value)
        for tensor in tensors(each)
    ]


def assert_same(one, other):
    one, other = tensors(one), tensors(other)
    assert len(one) == len(other) > 0
    assert all(map(torch.equal, one, other))


def assert_same_clips(one, other):
    assert_same(
        [one.frames, one.num_frames, one.start, one.labels],
        [other.frames, other.num_frames, other.start, other.labels],
    )
    assert one.names == other.names


def test_views_of_pre_training(both):
    resident, mapped = both
    assert isinstance(PretrainFeeder(mapped, 4, seed=1).source, Prefetcher)
    assert_same(
        *(
            list(PretrainFeeder(clips, 4, seed=1).epoch(3, first_step=1))
            for clips in (resident, mapped)
        )
    )


def test_downstream_streams(both):
    crops = both[0].num_frames // 4, both[0].num_frames // 2
    for more in ({}, {'crops': crops}, {'crops': crops, 'clips': torch.tensor([7, 2, 2, 0, 13])}):
        assert_same(
            *(list(downstream_batches(clips, 3, ('joint', 'motion'), **more)) for clips in both)
        )


def test_selected_clips_and_all_parts(both, monkeypatch):
    resident, mapped = both
    assert_same_clips(*(clips.select(torch.tensor([5, 0, 5, 12])) for clips in both))
    assert list(resident.parts()) == [resident]
    monkeypatch.setattr(dataset, 'CLIPS_PER_PART', 4)
    parts = list(mapped.to(torch.device('cpu')).parts())
    assert [len(part) for part in parts] == [4, 4, 4, 2]
    assert torch.cat([part.frames for part in parts]).equal(resident.frames)
    assert sum((part.names for part in parts), []) == resident.names


def test_clips_are_announced_before_they_are_read(folder, monkeypatch):
    """The announced parts of the file hold the clips; of Fortran order, where each clip is
    everywhere, anything.
    """
    clips, announced, mapped = [3, 0, 9], [], load_split(folder, 'train', data_device='disk')
    if not hasattr(os, 'posix_fadvise'):
        pytest.skip('this system reads clips when they are touched')
    monkeypatch.setattr(
        os, 'posix_fadvise', lambda file, start, size, advice: announced.append((start, size))
    )
    mapped.select(torch.tensor(clips))
    reader, content = mapped.frames, mapped.frames.file.read_bytes()
    assert len(announced) == 3
    assert all(0 < start < start + size <= len(content) for start, size in announced)
    for clip, (start, size) in zip(clips, announced, strict=True):
        values = np.frombuffer(content[start : start + size], reader.data.dtype).astype(np.float32)
        frames = reader.frames([clip])
        if reader.layout == 'padded':
            values = values.reshape(3, 100, 25, 2)[:, : len(frames)].transpose(1, 3, 2, 0)
        assert (
            np.array_equal(values.reshape(frames.shape), frames) or reader.data.flags.f_contiguous
        )


@pytest.mark.parametrize(
    ('share', 'data_device', 'mapped'),
    [
        (2, 'auto', False),
        (1.99, 'auto', True),
        (0, 'cpu', False),
        (0, 'cuda', False),
        (99, 'disk', True),
    ],
)
def test_half_of_the_free_memory_decides(
    tmp_path, padded_arrays, monkeypatch, capsys, share, data_device, mapped
):
    counts = padded_arrays(tmp_path)['train'][1]
    monkeypatch.setattr(dataset, 'free_memory', lambda: share * counts.sum() * 600)
    assert load_split(tmp_path, 'train', data_device=data_device).mapped is mapped
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith('note: ')]
    assert len(notes) == mapped
    assert all('train_data_joint.npy is read batch by batch' in line for line in notes)
    load_split(tmp_path, 'train', quiet=True, data_device=data_device)
    assert 'note: ' not in capsys.readouterr().err


def test_a_clip_that_is_not_finite_is_named_by_the_step_that_reads_it(folder):
    reader = load_split(folder, 'train', True, 'disk').frames
    data = np.load(reader.file)
    data[9 if reader.layout == 'padded' else reader.offset[9], 0, 0, 0] = np.nan
    np.save(reader.file, data)
    mapped = load_split(folder, 'train', True, 'disk')
    assert len(list(downstream_batches(mapped, 2, clips=torch.arange(9)))) == 5
    with pytest.raises(
        InputError,
        match=r'clip 9 \(S001C001P010R001A001.skeleton\) has coordinates that are not fin',
    ):
        list(PretrainFeeder(mapped, 4, seed=0).epoch(0))


@pytest.mark.parametrize('wrong', ['labels', 'counts', 'clips', None])
def test_what_the_manifest_says_besides_its_hash_is_checked(tmp_path, padded_arrays, wrong):
    _, counts, names, labels = padded_arrays(tmp_path)['train']
    manifest.write(
        tmp_path, parts={'train': manifest.split_summary(names, labels, counts, 'abcdefgh')}
    )
    if wrong == 'labels':
        (tmp_path / 'train_label.pkl').write_bytes(pickle.dumps((names, [*labels[1:], 2])))
    elif wrong == 'counts':
        np.save(tmp_path / 'train_num_frame.npy', counts - (counts == counts.max()))
    elif wrong == 'clips':
        manifest.write(
            tmp_path,
            parts={'train': manifest.split_summary(names[1:], labels[1:], counts[1:], 'abcdefg')},
        )
    if wrong is None:
        assert len(load_split(tmp_path, 'train', data_device='disk')) == 8
    else:
        with pytest.raises(InputError, match='manifest.json describes other arrays'):
            load_split(tmp_path, 'train', data_device='disk')


def test_commands_give_the_same(tmp_path, padded_arrays, monkeypatch, capsys):
    """Everything that reads a split, once with memory for it and once without."""
    padded_arrays(tmp_path / 'NTU-RGB-D-60-AGCN/xsub', train=12, val=5)
    data, found = ['--data-root', str(tmp_path), '--device', 'cpu'], []
    for free, notes in ((10**9, 0), (0, 2)):
        out = tmp_path / str(free)
        encoder, results = (
            str(out / 'checkpoint_0001.pth.tar'),
            [out / 'r.json', out / 'finetune.json'],
        )
        monkeypatch.setattr(dataset, 'free_memory', lambda free=free: free)
        pretrain.main(
            [
                *data,
                '--checkpoint-path',
                str(out),
                '--hidden-size',
                '8',
                '--batch-size',
                '4',
                '--epochs',
                '2',
                '--knn-every',
                '1',
            ]
        )
        capsys.readouterr()
        robustness.main([encoder, *data, '--results', str(results[0])])
        assert capsys.readouterr().err.count('is read batch by batch') == notes
        action_recognition.main(
            [
                *data,
                '--pretrained',
                encoder,
                '--results',
                str(results[1]),
                '--finetune',
                '--epochs',
                '1',
            ]
        )
        explorer.main([encoder, *data, '--out', str(out / 'page.html'), '--map', 'pca'])
        robust, finetuned = (json.loads(path.read_text()) for path in results)
        log = [json.loads(line) for line in (out / 'log.jsonl').read_text().splitlines()[1:]]
        found.append(
            {
                'log': [{key: line[key] for key in ('total', 'grad_norm', 'knn')} for line in log],
                'robustness': [*robust['accuracies'].values()],
                'finetuning': [finetuned['predictions'], finetuned['training_loss']],
                'page': (out / 'page.html').read_text(),
            }
        )
    assert found[0] == found[1]
