"""Where the clips lie does not change what a step sees."""

import queue
import threading

import pytest
import torch

from feeder.feeders import PretrainFeeder
from feeder.prefetch import Prefetcher, Resident, frames_source

LENGTHS = [5, 64, 70, 300, 1, 90, 128, 20, 100, 65, 64]
CPU, CUDA = torch.device('cpu'), torch.device('cuda')


def tensors(batches):
    return [
        stream for batch in batches for half in batch for pair in half.values() for stream in pair
    ]


@pytest.mark.parametrize('batch_size', [1, 3, 11])
def test_clips_copied_batch_by_batch_give_the_same_streams(random_dataset, batch_size):
    dataset = random_dataset(LENGTHS)
    resident = tensors(PretrainFeeder(dataset, batch_size, seed=3).epoch(2))
    copied = tensors(
        PretrainFeeder(dataset, batch_size, seed=3, source=Prefetcher(dataset, CPU)).epoch(2)
    )
    assert len(copied) == len(resident) > 0
    assert all(map(torch.equal, copied, resident))


def test_only_the_clips_of_a_batch_are_copied(random_dataset):
    dataset = random_dataset(LENGTHS)
    batches = [torch.tensor([3, 0]), torch.tensor([10, 4, 4])]
    for clips, (frames, start, order, num_single) in zip(
        batches, Prefetcher(dataset, CPU).batches(batches), strict=True
    ):
        assert order.tolist() == list(range(len(clips)))
        assert num_single == 0
        assert len(frames) == sum(LENGTHS[clip] for clip in clips)
        for clip, first in zip(clips, start, strict=True):
            whole = dataset.frames[
                dataset.start[clip] : dataset.start[clip] + dataset.num_frames[clip]
            ]
            assert frames[first : first + len(whole)].equal(whole)


def test_the_next_batch_is_on_its_way_while_one_is_worked_on(random_dataset, monkeypatch):
    source, begun = Prefetcher(random_dataset(LENGTHS), CPU), queue.Queue()
    monkeypatch.setattr(
        source, 'start_copy', lambda clips: begun.put(int(clips)) or (None, None, None, 0, None)
    )
    batches = source.batches(torch.arange(4))
    for current in range(4):
        next(batches)
        seen = [begun.get(timeout=60) for _ in range((current == 0) + (current < 3))]
        assert seen == ([0, 1] if current == 0 else [current + 1] * (current < 3))
        assert begun.empty()


@pytest.mark.parametrize('steps', [0, 1, 2])
def test_no_thread_stays_behind_an_epoch_that_is_broken_off(random_dataset, steps):
    before = threading.active_count()
    dataset = random_dataset(LENGTHS)
    epoch = PretrainFeeder(dataset, 2, seed=0, source=Prefetcher(dataset, CPU)).epoch(0)
    for _ in range(steps):
        next(epoch)
        assert threading.active_count() == before + 1
    del epoch
    assert threading.active_count() == before


def test_an_error_in_the_thread_ends_the_epoch(random_dataset, monkeypatch):
    before, source = threading.active_count(), Prefetcher(random_dataset(LENGTHS), CPU)
    select = source.dataset.select
    monkeypatch.setattr(
        source.dataset, 'select', lambda clips: select(clips if 3 not in clips else clips + 100)
    )
    batches = source.batches(torch.arange(8).split(2))
    next(batches)
    with pytest.raises(IndexError, match='out of bounds'):
        next(batches)
    assert threading.active_count() == before


@pytest.mark.parametrize(('free', 'source'), [(2_399_999, Prefetcher), (2_400_000, Resident)])
def test_a_split_stays_on_the_gpu_if_it_takes_at_most_a_quarter_of_it(
    random_dataset, monkeypatch, free, source
):
    dataset = random_dataset([1000])  # 600,000 bytes
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (free, 10_000_000))
    made = []
    for kind in (Prefetcher, Resident):
        monkeypatch.setattr(
            f'feeder.prefetch.{kind.__name__}', lambda *_, kind=kind: made.append(kind)
        )
    for data_device in ('auto', 'cuda', 'cpu'):
        frames_source(dataset, CUDA, data_device)
        frames_source(dataset, CPU, data_device)
    assert made[::2] == [source, Resident, Prefetcher]
    assert made[1::2] == [Resident] * 3
