"""Where the clips lie does not change what a step sees."""
import pytest
import torch

from feeder.feeders import PretrainFeeder
from feeder.prefetch import Prefetcher, fits_on

LENGTHS = [5, 64, 70, 300, 1, 90, 128, 20, 100, 65, 64]
CPU = torch.device('cpu')


def tensors(batches):
    return [stream for batch in batches for half in batch for pair in half.values() for stream in pair]


@pytest.mark.parametrize('batch_size', [1, 3, 11])
def test_clips_copied_batch_by_batch_give_the_same_streams(random_dataset, batch_size):
    dataset = random_dataset(LENGTHS)
    resident = tensors(PretrainFeeder(dataset, batch_size, seed=3).epoch(2))
    copied = tensors(PretrainFeeder(dataset, batch_size, seed=3, source=Prefetcher(dataset, CPU)).epoch(2))
    assert len(copied) == len(resident) > 0
    assert all(map(torch.equal, copied, resident))


def test_only_the_clips_of_a_batch_are_copied(random_dataset):
    dataset = random_dataset(LENGTHS)
    batches = [torch.tensor([3, 0]), torch.tensor([10, 4, 4])]
    for clips, (frames, start) in zip(batches, Prefetcher(dataset, CPU).batches(batches), strict=True):
        assert len(frames) == sum(LENGTHS[clip] for clip in clips)
        for clip, first in zip(clips, start, strict=True):
            whole = dataset.frames[dataset.start[clip]:dataset.start[clip] + dataset.num_frames[clip]]
            assert frames[first:first + len(whole)].equal(whole)


def test_the_next_batch_is_on_its_way_while_one_is_worked_on(random_dataset, monkeypatch):
    source, begun = Prefetcher(random_dataset(LENGTHS), CPU), []
    monkeypatch.setattr(source, 'start_copy', lambda clips: begun.append(int(clips)) or (None, None, None))
    monkeypatch.setattr(source, 'finish_copy', lambda *copy: None)
    seen = [list(begun) for _ in source.batches(torch.arange(4))]
    assert seen == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize(('free', 'expected'), [(2_399_999, False), (2_400_000, True)])
def test_a_split_stays_on_the_gpu_if_it_takes_at_most_a_quarter_of_it(random_dataset, monkeypatch, free, expected):
    dataset = random_dataset([1000])  # 600,000 bytes
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (free, 10_000_000))
    assert fits_on(dataset, torch.device('cuda')) is expected
