"""Damaged, hostile and swapped files through the scripts: one line each, nothing runs, nothing
false is scored.
"""

import json
import os
import pickle
import random
import shutil
import zipfile

import numpy as np
import pytest
import torch

import action_retrieval
from data_gen import custom_gendata, manifest
from tools.common.cli import InputError

SIZES_ARE_COMPARED = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 13),
    reason='torch 2.4, at least, does not compare the sizes of records',
)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def flip_bits(path, rng, first=0, end=None):
    """Flip 1 to 8 neighbouring bits."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(first, end or len(content))] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def cut(path, rng):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def overwrite(path, rng):
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    content[start : start + 64] = rng.randbytes(64)
    path.write_bytes(content)


def flip_in_tensor(path, rng):
    """Flip bits inside a tensor's bytes, as a bad disk does: the zip's directory stays right."""
    with zipfile.ZipFile(path) as records:
        record = rng.choice(
            [
                info
                for info in records.infolist()
                if '/data/' in info.filename and info.file_size > 64
            ]
        )
    start = record.header_offset + 30 + len(record.filename)
    content = path.read_bytes()
    start += int.from_bytes(
        content[record.header_offset + 28 : record.header_offset + 30], 'little'
    )
    flip_bits(path, rng, start, start + record.file_size)


def hostile(path, rng):
    """Replace one value by something else, with right checksums."""
    saved = torch.load(path, weights_only=True)
    key = rng.choice(
        [key for key in saved['state_dict'] if saved['state_dict'][key].is_floating_point()]
    )
    tensor = saved['state_dict'][key]
    saved['state_dict'][key] = rng.choice(
        [
            Harmful(path.with_name('harm')),
            'text',
            None,
            1.5,
            tensor.tolist(),
            tensor.long(),
            tensor.bool(),
            tensor.to_sparse(),
            tensor * float('nan'),
            tensor.index_fill(0, torch.tensor(0), float('inf')),
            tensor[None],
            tensor[..., :-1],
            torch.zeros(1).expand(10**6, 10**6),
            tensor.to(torch.complex64),
        ]
    )
    torch.save(saved, path)


def swap_records(path, rng):
    """Exchange the contents of two tensors' records of different sizes."""
    with zipfile.ZipFile(path) as records:
        contents = {info.filename: records.read(info) for info in records.infolist()}
    sizes = {name: len(content) for name, content in contents.items() if '/data/' in name}
    one = rng.choice([*sizes])
    other = rng.choice([name for name in sizes if sizes[name] != sizes[one]])
    contents[one], contents[other] = contents[other], contents[one]
    with zipfile.ZipFile(path, 'w') as records:
        for name, content in contents.items():
            records.writestr(name, content)


def same_weights(path, original):
    """Whether a file that was accepted holds what was written."""
    one, other = (torch.load(file, weights_only=True)['state_dict'] for file in (path, original))
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def refused(main, argv):
    """Whether a command refuses its input: one line, exit code 2. Any other error fails the test."""
    try:
        main([*map(str, argv)])
    except (InputError, OSError) as error:  # cli.run prints these in one line
        assert '\n' not in str(error).strip()
        return True
    return False


def repetitions(short, long):
    """Few in the suite; more with -m slow."""
    return pytest.mark.parametrize('count', [short, pytest.param(long, marks=pytest.mark.slow)])


@pytest.fixture
def setting(tmp_path, padded_arrays, save_untrained):
    """A tiny NTU-60 x-sub and a checkpoint; the folder of both."""
    folder = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub'
    made = padded_arrays(folder, train=12, val=6)
    parts = {
        split: {
            'clips': len(names),
            'classes': {},
            'hash': manifest.split_hash(
                names,
                labels,
                num_frame,
                [
                    manifest.clip_digest(clip[:, :frames].transpose(1, 3, 2, 0))
                    for clip, frames in zip(data, num_frame.tolist(), strict=True)
                ],
            ),
        }
        for split, (data, num_frame, names, labels) in made.items()
    }
    manifest.write(folder, parts=parts)
    save_untrained(tmp_path / 'original.pth.tar')
    return tmp_path


def evaluate(folder, *flags):
    return refused(
        action_retrieval.main, ['--data-root', folder / 'data', '--device', 'cpu', *flags]
    )


@repetitions(12, 100)
@pytest.mark.parametrize(
    'damage',
    [
        flip_in_tensor,
        flip_bits,
        cut,
        overwrite,
        hostile,
        pytest.param(swap_records, marks=SIZES_ARE_COMPARED),
    ],
)
def test_checkpoints(setting, damage, count):
    rng, path = random.Random(0), setting / 'checkpoint_0000.pth.tar'
    flags = ['--pretrained', path]
    shutil.copy(setting / 'original.pth.tar', path)
    assert not evaluate(setting, *flags)
    for _ in range(count):
        shutil.copy(setting / 'original.pth.tar', path)
        damage(path, rng)
        assert evaluate(setting, *flags) or same_weights(path, setting / 'original.pth.tar')
        assert not (setting / 'harm').exists()


@repetitions(12, 60)
@pytest.mark.parametrize('damage', [flip_bits, cut, overwrite])
def test_features(setting, damage, count):
    rng, original, path = random.Random(1), setting / 'original.npz', setting / 'features.npz'
    assert not evaluate(
        setting, '--pretrained', setting / 'original.pth.tar', '--save-features', original
    )
    for _ in range(count):
        shutil.copy(original, path)
        damage(path, rng)
        if not evaluate(setting, '--load-features', path):
            with np.load(original) as one, np.load(path) as other:
                assert all(np.array_equal(one[name], other[name]) for name in one)


@repetitions(12, 60)
@pytest.mark.parametrize('damage', [flip_bits, cut, overwrite, 'pickle'])
def test_labels(setting, damage, count):
    rng, path = random.Random(2), setting / 'data/NTU-RGB-D-60-AGCN/xsub/val_label.pkl'
    original = path.read_bytes()
    for _ in range(count):
        path.write_bytes(original)
        if damage == 'pickle':
            names, labels = pickle.loads(original)
            changed = rng.choice(
                [
                    Harmful(setting / 'harm'),
                    None,
                    names[1:],
                    labels,
                    'text',
                    [Harmful(setting / 'harm')] * 6,
                ]
            )
            path.write_bytes(
                pickle.dumps(rng.choice([(changed, labels), (names, changed), changed]))
            )
        else:
            damage(path, rng)
        if not evaluate(setting, '--pretrained', setting / 'original.pth.tar'):
            assert tuple(map(list, pickle.loads(path.read_bytes()))) == tuple(
                map(list, pickle.loads(original))
            )
        assert not (setting / 'harm').exists()


@repetitions(12, 50)
@pytest.mark.parametrize('damage', [flip_bits, cut, overwrite])
def test_manifests(setting, damage, count):
    rng, path = random.Random(3), setting / 'data/NTU-RGB-D-60-AGCN/xsub/manifest.json'
    original = path.read_bytes()
    for _ in range(count):
        path.write_bytes(original)
        damage(path, rng)
        if not evaluate(setting, '--pretrained', setting / 'original.pth.tar'):
            before, after = (json.loads(text)['parts'] for text in (original, path.read_bytes()))
            assert all(before[split]['hash'] == after[split]['hash'] for split in before)


@repetitions(12, 50)
@pytest.mark.parametrize('damage', [flip_bits, cut, overwrite])
def test_lists(tmp_path, damage, count):
    """A damaged list may still be a right one of other clips; it never ends in a traceback."""
    rng, path = random.Random(4), tmp_path / 'list.csv'
    names = [f'r{number}.npy' for number in range(6)]
    for number, name in enumerate(names):
        np.save(
            tmp_path / name,
            np.random.default_rng(number).normal(0, 1, (20, 25, 3)).astype(np.float32),
        )
    original = 'path,label,split\n' + ''.join(
        f'{name},{number % 2},{"train" if number < 4 else "val"}\n'
        for number, name in enumerate(names)
    )
    path.write_text(original)
    assert not refused(
        custom_gendata.main, ['--recordings', path, '--out_folder', tmp_path / 'out', '-j', 1]
    )
    for number in range(count):
        path.write_text(original)
        damage(path, rng)
        refused(
            custom_gendata.main,
            ['--recordings', path, '--out_folder', tmp_path / f'out{number}', '-j', 1],
        )
