"""The stages of `tools.benchmark` before and after pre-training: what the project runs, on synthetic clips."""
import pickle
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from action_retrieval import knn
from data_gen.arrays import count_file, data_file, label_file
from data_gen.cli import InputError
from data_gen.demo_recordings import write_recordings
from data_gen.preprocess import MAX_FRAME, normalize
from data_gen.skeleton import BODIES, JOINTS, SkeletonError, read_xyz
from feeder import store
from feeder.feeders import generator_at
from feeder.modalities import MODALITIES
from model.umurl import UmURL
from tools import costs, features, yardsticks
from tools.device import DTYPES
from tools.probe import DEFAULTS, Heads, fit, linear_head, orders

RECORDINGS = 12  # at most
LOADED = 512  # clips at most: they are written to disk, 180 kB each
ENCODED = 32  # clips of the probe's yardstick


@dataclass
class Stage:
    """Work to be timed: the call of `work`, on `clips` clips, makes so many FLOPs and moves so many bytes at least.

    `calls`: a call makes so many rounds of that. `ready` comes before each call, untimed. `yardstick`: another form of
    the same work; it may do a part, and its seconds count `times` so much.
    """
    name: str
    work: Callable
    clips: int
    flops: float = 0
    bytes: float = 0
    dtype: str = 'float32'
    calls: int = 1
    ready: Callable | None = None
    against: str = ''
    yardstick: Callable | None = None
    times: float = 1


def made_clips(count, seed=0):
    """A ClipStore of random frames, of the lengths of NTU's clips: 20 to 300 frames, 84 on average."""
    rng = np.random.default_rng(seed)
    length = torch.from_numpy(np.clip(20 + rng.gamma(2, 32.2, count), 20, MAX_FRAME).astype(np.int64))
    frames = torch.randn(int(length.sum()), BODIES, JOINTS, 3, generator=generator_at(seed, 0))
    return store.ClipStore(frames, length, torch.zeros_like(length), [f'clip {clip}' for clip in range(count)])


def data_stages(folder, recordings):
    """Reading and normalising raw recordings, those of a folder or demo recordings, and loading arrays."""
    if recordings is None:
        write_recordings(folder, classes=4, performers=4)
    paths = sorted(Path(recordings or folder).glob('*.skeleton'))
    made = {}
    for path in paths[::max(1, len(paths) // RECORDINGS)]:
        try:
            made[path] = read_xyz(path)
        except SkeletonError:
            continue
    if not made:
        raise InputError(f'--recordings {recordings}: no .skeleton files to read there')
    texts, read = [path.read_text() for path in made], sum(xyz.nbytes for xyz in made.values())
    parse = {'against': 'numpy text parse', 'yardstick': lambda: yardsticks.parse_text(texts)}
    yield Stage('read', lambda: list(map(read_xyz, made)), len(made), bytes=sum(map(len, texts)) + read, **parse)
    yield Stage('normalise', lambda: list(map(normalize, made.values())), len(made), bytes=2 * read, **parse)


def load_stage(folder, clips):
    """Arrays on disk, in the published layout, to a ClipStore in memory."""
    count = min(len(clips), LOADED)
    padded = np.zeros((count, MAX_FRAME, *clips.frames.shape[1:]), np.float32)
    for row, start, length in zip(padded, clips.start.tolist(), clips.length.tolist(), strict=False):
        row[:length] = clips.frames[start:start + length]
    np.save(data_file(folder, 'train', 'padded'), padded.transpose(0, 4, 1, 3, 2))
    np.save(count_file(folder, 'train'), clips.length[:count].numpy())
    label_file(folder, 'train').write_bytes(pickle.dumps((clips.names[:count], clips.labels[:count].tolist())))
    return Stage('load', lambda: store.load(folder, 'train', quiet=True), count,
                 bytes=2 * padded[0, 0].nbytes * int(clips.length[:count].sum()))


def feature_stage(clips, args, dtype, device):
    """Features of all clips, three modalities fused."""
    extract = extraction(clips, args, dtype, device)
    return Stage('features', extract, len(clips), costs.encode_flops(args.hidden_size, len(MODALITIES)) * len(clips),
                 dtype=dtype)


def extraction(clips, args, dtype, device):
    model = UmURL(costs.STREAMS[0][1], costs.STREAMS[1][1], args.hidden_size).to(device).eval()
    clips, amp = clips.to(device), None if dtype == 'float32' else DTYPES[dtype]
    return lambda: features.extract(model.backbone, clips, MODALITIES, args.batch_size, amp)


def evaluation_stages(args, device):
    """An epoch of the linear probe, and retrieval, on features of the widths and counts that the flags give."""
    width, classes = 2 * args.hidden_size, args.classes
    train, val = (torch.randn(count, width, device=device, generator=torch.Generator(device).manual_seed(0))
                  for count in (args.train_clips, args.val_clips))
    labels = torch.arange(len(train), device=device) % classes
    settings = Namespace(**DEFAULTS | {'epochs': 1 << 30}, momentum=0.9, weight_decay=0., cos=False, seed=0)
    heads = Heads(linear_head(width, classes, seed=0).to(device), len(settings.lr))
    epochs = fit(heads, train, labels, orders(len(train), settings), settings)
    # one product forward, one for the weights' gradient; each batch's features are gathered: read and written
    yield Stage('probe', lambda: next(epochs), len(train), 2 * 2 * train.numel() * classes, 2 * train.nbytes,
                against='encoder run each epoch', yardstick=extraction(made_clips(ENCODED), args, 'float32', device),
                times=len(train) / ENCODED)
    yield Stage('knn', lambda: knn(train, labels, val, 1, classes), len(val), 2 * len(val) * train.numel())
