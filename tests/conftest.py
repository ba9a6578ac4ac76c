"""Fixtures of more than one room. Those whose docstring begins with a call return a function."""

import tools.common.start  # noqa: F401

import os
import pickle
import signal
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from feeder.dataset import ClipDataset
from feeder.feeders import VIEW_FRAMES
from feeder.modalities import MODALITIES, streams
from model.umurl import UmURL
from tools import checkpoint
from tools.common import cli

HERE = Path(__file__).resolve().parent / 'reference'
LARGER = Path(__file__).resolve().parents[2] / 'shared' / 'reference'
ROOT = Path(__file__).resolve().parents[1]
CACHES = ('__pycache__', '.pytest_cache', 'pytest-cache-files-')  # how their names begin
# A job in the background ignores Ctrl-C, and programs that it starts inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
writes = []  # files of the repository that this process opened for writing


def note_writes(event, args):
    """An audit hook, see sys.addaudithook."""
    if event != 'open' or isinstance(args[0], int) or not args[2] & (os.O_WRONLY | os.O_RDWR):
        return
    place = Path(os.path.abspath(os.fsdecode(args[0])))
    is_cache = any(part.startswith(CACHES) for part in place.parts)
    if place.is_relative_to(ROOT) and not is_cache:
        writes.append(str(place))


sys.addaudithook(note_writes)


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Every test runs in a folder of its own, and must not write in the repository: it may be in
    use. Processes that a test starts are not watched.
    """
    monkeypatch.chdir(tmp_path)
    yield
    found = writes.copy()
    writes.clear()
    assert not found


@pytest.fixture
def repository_writes():
    """The files of the repository that this process opened for writing during the test."""
    return writes


@pytest.fixture(
    scope='session', params=[HERE, *[LARGER] * LARGER.is_dir()], ids=lambda path: path.parent.name
)
def reference(request):
    """The folder of the numbers recorded from the official code; the larger set is used too where
    it is at hand.
    """
    return request.param


@pytest.fixture(scope='session')
def recorded(reference):
    """recorded(name): the arrays of reference/NAME.npz as a dict, read once."""
    return cache(lambda name: dict(np.load(reference / f'{name}.npz')))


@pytest.fixture(scope='session')
def recorded_checkpoint(reference):
    """recorded_checkpoint(name): reference/NAME.pth.tar as saved, its state dict's keys without
    `module.`.
    """

    def read(name):
        saved = torch.load(reference / f'{name}.pth.tar', weights_only=True)
        saved['state_dict'] = {
            key.removeprefix('module.'): value for key, value in saved['state_dict'].items()
        }
        return saved

    return read


@pytest.fixture(scope='session')
def width(recorded_checkpoint):
    """The hidden size of the recorded model."""
    return recorded_checkpoint('initial')['state_dict']['backbone.ma_encoder.pe.pe'].shape[2]


@pytest.fixture(scope='session')
def recorded_model(recorded_checkpoint, width):
    """recorded_model(name): a new UmURL with the weights of reference/NAME.pth.tar."""

    def build(name):
        model = UmURL(150, 192, width)
        model.load_state_dict(recorded_checkpoint(name)['state_dict'])
        return model

    return build


@pytest.fixture(scope='session')
def recorded_batch(recorded, ours):
    """recorded_batch(step): the recorded (uni, fused) of one training step: every view rolled by
    `step` clips.
    """

    def batch(step=0):
        views = [
            ours(recorded('pretrain')[f'view_{number}']).roll(step, 0) for number in (1, 2, 3, 4)
        ]
        uni = {}
        for view, modality in zip(views[:3], MODALITIES, strict=True):
            uni |= streams(view, (modality,))
        return uni, streams(views[3])

    return batch


@pytest.fixture(scope='session')
def recorded_dataset(recorded, ours):
    """The 16 recorded recordings, normalised, as a ClipDataset."""
    data = recorded('data_gen')
    length = torch.from_numpy(data['num_frame'])
    clips = [ours(clip)[:frames] for clip, frames in zip(data['normalized'], length, strict=True)]
    labels = [int(name[17:20]) - 1 for name in data['files']]
    return ClipDataset(torch.cat(clips), length, torch.tensor(labels), data['files'].tolist())


@pytest.fixture(scope='session')
def ours():
    """ours(clips): clips as they lie on disk, ([N,] C, T, V, M), as a tensor ([N,] T, M, V, C)."""
    return lambda clips: torch.from_numpy(clips).movedim(-4, -1).transpose(-3, -2).contiguous()


@pytest.fixture(scope='session')
def write_skeleton():
    """write_skeleton(path, frames, seed=0): a raw recording, in full syntax; returns its frames as
    lists of arrays.

    `frames` holds for each frame its bodies: a list of (25, 3) arrays, or how many random ones.
    """

    def write(path, frames, seed=0):
        rng = np.random.default_rng(seed)
        frames = [
            list(rng.normal(1, 1, (frame, 25, 3))) if isinstance(frame, int) else frame
            for frame in frames
        ]
        lines = [len(frames)]
        for frame in frames:
            lines.append(len(frame))
            for body_id, body in enumerate(frame, 72057594037931101):
                lines += [f'{body_id} 0 1 1 1 1 0 0.02764709 -0.2337577 2', len(body)]
                lines += [
                    ' '.join(map(repr, joint)) + ' 277.4 191.1 1036.2 519.1 -0.21 0.03 0.97 -0.01 2'
                    for joint in body.tolist()
                ]
        path.write_text('\n'.join(map(str, lines)) + '\n')
        return frames

    return write


@pytest.fixture(scope='session')
def padded_arrays():
    """padded_arrays(folder, seed=0, train=8, val=4): made arrays in the published layout, parts of
    so many clips.

    Three classes, each with a pose of its own, so that something can be learnt; 10 to 100 of 100
    frames are valid, and nonsense lies behind them. Returns {part: (data, num_frame, names,
    labels)}.
    """

    def write(folder, seed=0, **parts):
        rng = np.random.default_rng(seed)
        folder.mkdir(parents=True, exist_ok=True)
        poses, made = rng.normal(0, 1, (3, 3, 1, 25, 2)), {}
        for part, clips in ({'train': 8, 'val': 4} | parts).items():
            labels = [clip % 3 for clip in range(clips)]
            names = [
                f'S001C001P{clip + 1:03d}R001A{label + 1:03d}.skeleton'
                for clip, label in enumerate(labels)
            ]
            num_frame = rng.integers(10, 101, clips)
            data = (poses[labels] + rng.normal(0, 0.3, (clips, 3, 100, 25, 2))).astype(np.float32)
            data.swapaxes(1, 2)[np.arange(100) >= num_frame[:, None]] = 77
            np.save(folder / f'{part}_data_joint.npy', data)
            np.save(folder / f'{part}_num_frame.npy', num_frame)
            (folder / f'{part}_label.pkl').write_bytes(pickle.dumps((names, labels)))
            made[part] = data, num_frame, names, labels
        return made

    return write


@pytest.fixture(scope='session')
def save_untrained():
    """save_untrained(path, seed=0, **more): write a checkpoint of width 8 that was not trained, with
    more entries; its path.
    """

    def save(path, seed=0, **more):
        torch.manual_seed(seed)
        model = UmURL(150, 192, 8)
        checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 1, **more)
        return path

    return save


@pytest.fixture
def xsub(tmp_path, padded_arrays):
    """The folder of a tiny NTU-60 x-sub."""
    folder = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub'
    padded_arrays(folder, train=30, val=12)
    return folder


@pytest.fixture
def setting(tmp_path, xsub, save_untrained):
    """Flags for the data of `xsub`, and a checkpoint of width 8 that was not trained."""
    path = save_untrained(tmp_path / 'checkpoint.pth.tar')
    return ['--data-root', str(tmp_path / 'data'), '--pretrained', str(path), '--device', 'cpu']


@pytest.fixture(scope='session')
def random_dataset():
    """random_dataset(lengths, seed=0): a ClipDataset of random clips of so many frames."""

    def make(lengths, seed=0):
        generator = torch.Generator().manual_seed(seed)
        frames = torch.randn(sum(lengths), 2, 25, 3, generator=generator)
        names = [f'clip {index}' for index in range(len(lengths))]
        return ClipDataset(frames, torch.tensor(lengths), torch.arange(len(lengths)) % 3, names)

    return make


@pytest.fixture(scope='session')
def random_clips():
    """random_clips(n, seed=0): random clips (n, 64, 2, 25, 3)."""
    return lambda n, seed=0: torch.randn(
        n, VIEW_FRAMES, 2, 25, 3, generator=torch.Generator().manual_seed(seed)
    )


@pytest.fixture
def mistake(capsys):
    """mistake(main, argv): run a command that must end with code 2 and one line on stderr; the
    line.
    """

    def run(main, argv):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.run(lambda: main(list(map(str, argv))))
        assert stop.value.code == 2
        lines = [
            line
            for line in capsys.readouterr().err.splitlines()
            if not line.startswith(('note: ', 'warning: '))
        ]
        assert len(lines) == 1, lines
        return lines[0]

    return run
