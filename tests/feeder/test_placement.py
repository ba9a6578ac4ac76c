"""Where the clips lie does not change what a step sees."""
import pytest
import torch

from feeder import placement
from feeder.feeders import PretrainFeeder
from feeder.placement import Resident, Staged

LENGTHS = [5, 64, 70, 300, 1, 90, 128, 20, 100, 65, 64]
CPU = torch.device('cpu')


def tensors(batches):
    return [stream for batch in batches for half in batch for pair in half.values() for stream in pair]


@pytest.mark.parametrize('batch_size', [1, 3, 11])
def test_clips_copied_batch_by_batch_give_the_same_streams(made_store, batch_size):
    feeder = PretrainFeeder(made_store(LENGTHS), batch_size, seed=3)
    resident = tensors(feeder.epoch(2))
    feeder.source = Staged(made_store(LENGTHS), CPU)
    staged = tensors(feeder.epoch(2))
    assert len(staged) == len(resident) > 0
    assert all(map(torch.equal, staged, resident))


def test_only_the_clips_of_a_batch_are_copied(made_store):
    store = made_store(LENGTHS)
    batches = [torch.tensor([3, 0]), torch.tensor([10, 4, 4])]
    for clips, (frames, start) in zip(batches, Staged(store, CPU).batches(batches), strict=True):
        assert len(frames) == sum(LENGTHS[clip] for clip in clips)
        for clip, first in zip(clips, start, strict=True):
            whole = store.frames[store.start[clip]:store.start[clip] + store.length[clip]]
            assert frames[first:first + len(whole)].equal(whole)


def test_the_next_batch_is_on_its_way_while_one_is_worked_on(made_store, monkeypatch):
    source, begun = Staged(made_store(LENGTHS), CPU), []
    monkeypatch.setattr(source, 'copy', lambda clips: begun.append(int(clips)) or (None, None, None))
    monkeypatch.setattr(source, 'arrived', lambda *copy: None)
    seen = [list(begun) for _ in source.batches(torch.arange(4))]
    assert seen == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize(('free', 'expected'), [(99, False), (700_000, True), (640_000, False)])
def test_the_split_moves_to_the_gpu_if_it_fits_with_room_to_spare(made_store, monkeypatch, free, expected):
    store = made_store([1000])  # 600,000 bytes
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (free, 1_000_000))
    assert placement.fits(store, torch.device('cuda')) is expected


@pytest.mark.parametrize(('dtype', 'apart'), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_clips_kept_in_half_precision_give_float32_views(made_store, dtype, apart):
    store = made_store(LENGTHS)
    exact, half = (PretrainFeeder(clips, 11, seed=0) for clips in (store, store.in_precision(dtype)))
    assert half.source.frames.nbytes * 2 == store.frames.nbytes
    assert isinstance(half.source, Resident)
    for a, b in zip(tensors(exact.epoch(0)), tensors(half.epoch(0)), strict=True):
        assert b.dtype == torch.float32
        assert 0 < float((a - b).norm() / a.norm()) < apart
