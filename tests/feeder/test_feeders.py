"""The feeders: which clips a step visits, what its views are, and the clips as the downstream tasks
see them.
"""

from functools import partial

import pytest
import torch
from torch.nn.functional import interpolate, pad

from feeder import feeders
from feeder.augmentations import Augmentation, augment, sample
from feeder.dataset import ClipDataset, warn
from feeder.feeders import PretrainFeeder, downstream_batches, generator_at, views_of
from feeder.modalities import MODALITIES, streams
from feeder.prefetch import Prefetcher, Resident

LENGTHS = [1, 30, 64, 65, 300, 90, 20, 100, 70, 150, 64]


class Recording(Resident):
    """Records the clips of each batch."""

    def __init__(self, dataset):
        super().__init__(dataset, torch.device('cpu'))
        self.visited = []

    def batches(self, batches):
        batches = list(batches)
        self.visited += [clips.tolist() for clips in batches]
        return super().batches(batches)


def visits(dataset, epoch, first_step=0, **arguments):
    """The clip indices of each step of an epoch."""
    feeder = PretrainFeeder(dataset, source=Recording(dataset), views=[('joint',)], **arguments)
    assert len(list(feeder.epoch(epoch, first_step))) == len(feeder) - first_step
    return feeder.source.visited


@pytest.mark.parametrize(
    ('batch_size', 'sizes'), [(1, [1] * 11), (4, [4, 4, 3]), (5, [5, 5]), (11, [11]), (12, [11])]
)
def test_an_epoch_visits_every_clip_once_except_in_a_batch_of_its_own(
    random_dataset, batch_size, sizes
):
    visited = visits(random_dataset(LENGTHS), 0, batch_size=batch_size, seed=0)
    assert [len(clips) for clips in visited] == sizes
    clips = sum(visited, [])
    assert len(set(clips)) == len(clips)
    assert set(clips) <= set(range(11))


@pytest.mark.parametrize('world_size', [1, 2, 4])
def test_an_epoch_of_ntu60_has_the_official_number_of_steps(world_size):
    lengths = torch.ones(40091, dtype=torch.long)
    dataset = ClipDataset(torch.zeros(40091, 1, 1, 3), lengths, lengths, [])
    steps = visits(dataset, 0, 77, batch_size=512 // world_size, seed=0, world_size=world_size)
    assert [len(clips) for clips in steps] == [512 // world_size, -(-155 // world_size)]


def test_another_epoch_or_seed_another_order(random_dataset):
    dataset = random_dataset(LENGTHS)
    runs = ((0, 0), (1, 0), (0, 1))
    first, again = (
        [sum(visits(dataset, epoch, batch_size=5, seed=seed), []) for epoch, seed in runs]
        for _ in range(2)
    )
    assert first == again
    assert len(set(map(tuple, first))) == 3
    assert len({frozenset(order) for order in first}) > 1  # the clip left out changes too


@pytest.mark.parametrize('world_size', [2, 4])
def test_ranks_share_each_global_batch(random_dataset, world_size):
    """Of 11 clips the first comes again, so that the last batch can be shared."""
    dataset = random_dataset(LENGTHS)
    together = visits(dataset, 3, batch_size=4, seed=7)
    together[-1].append(together[0][0])
    ranks = [
        visits(dataset, 3, batch_size=4 // world_size, seed=7, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert [sum(shares, []) for shares in zip(*ranks, strict=True)] == together


@pytest.mark.parametrize('lengths', [LENGTHS[:5], LENGTHS[:9]])
def test_a_last_batch_of_one_clip_is_left_out_whatever_the_number_of_processes(
    random_dataset, lengths
):
    for world_size in (1, 2, 4):
        visited = visits(
            random_dataset(lengths), 0, batch_size=4 // world_size, seed=0, world_size=world_size
        )
        assert [len(clips) for clips in visited] == [4 // world_size] * (len(lengths) // 4)


def equal(a, b):
    same = (a[name][stream].equal(b[name][stream]) for name in a for stream in (0, 1))
    return a.keys() == b.keys() and all(same)


def test_the_same_step_is_the_same_batch(random_dataset):
    dataset = random_dataset([100] * 8)
    dataset.frames = dataset.frames[:100].repeat(
        8, 1, 1, 1
    )  # clips all alike: the draws alone tell batches apart

    def batches(seed=0, epoch=0, rank=0):
        return list(PretrainFeeder(dataset, 2, seed, rank, 2).epoch(epoch))

    for (uni, fused), (uni_again, fused_again) in zip(batches(), batches(), strict=True):
        assert equal(uni, uni_again)
        assert equal(fused, fused_again)
    for other in (batches(seed=1), batches(epoch=1), batches(rank=1), batches()[::-1]):
        assert not any(
            equal(fused, changed) for (_, fused), (_, changed) in zip(batches(), other, strict=True)
        )


@pytest.mark.parametrize('source', [Resident, Prefetcher])
@pytest.mark.parametrize('first_step', range(4))
def test_an_epoch_can_begin_at_any_step(random_dataset, first_step, source):
    dataset = random_dataset(LENGTHS)
    feeder = PretrainFeeder(dataset, 4, seed=0, source=source(dataset, torch.device('cpu')))
    rest = list(feeder.epoch(1, first_step))
    for (_, fused), (_, again) in zip(list(feeder.epoch(1))[first_step:], rest, strict=True):
        assert equal(fused, again)


@pytest.mark.parametrize('world_size', [2, 4])
def test_processes_share_the_batches_of_one(random_dataset, world_size):
    """12 clips in two batches: the streams of all processes together are exactly those of one."""
    dataset = random_dataset([*LENGTHS, 77])

    def batches(rank, world_size):
        return PretrainFeeder(dataset, 8 // world_size, 5, rank, world_size).epoch(2)

    ranks = [batches(rank, world_size) for rank in range(world_size)]
    for one, *shares in zip(batches(0, 1), *ranks, strict=True):
        for whole, *parts in zip(tensors(one), *map(tensors, shares), strict=True):
            assert torch.cat(parts).equal(whole)


def tensors(batch):
    return [stream for half in batch for pair in half.values() for stream in pair]


def first_batch(dataset, clips, **arguments):
    """(uni, fused) of the draws of step 1 of epoch 0, and the draws of its views."""
    feeder = PretrainFeeder(dataset, len(clips), seed=0, **arguments)
    (loaded,) = feeder.source.batches([clips])
    num_frames = dataset.num_frames[clips]
    generator_of = partial(generator_at, 0, 0, 1)
    batch = feeder.batch(loaded, num_frames, generator_of)
    draws = [
        sample(num_frames, 25, partial(generator_of, view), feeder.augmentation)
        for view in range(len(feeder.views))
    ]
    views = [augment(loaded.frames, loaded.first_row, each, 64) for each in draws]
    return batch, views, draws


def test_one_view_for_each_modality_and_one_for_all(random_dataset):
    (uni, fused), views, _ = first_batch(random_dataset(LENGTHS), torch.tensor([4, 9, 0]))
    assert tuple(uni) == tuple(fused) == tuple(MODALITIES)
    assert equal(fused, streams(views[3]))
    for view, modality in zip(views[:3], MODALITIES, strict=True):
        assert equal({modality: uni[modality]}, streams(view, (modality,)))


def test_two_views_for_all_modalities(random_dataset):
    views = views_of(('joint', 'bone'), fused_only=True)
    (first, second), made, _ = first_batch(random_dataset(LENGTHS), torch.tensor([5]), views=views)
    assert equal(first, streams(made[0], ('joint', 'bone')))
    assert equal(second, streams(made[1], ('joint', 'bone')))
    assert not equal(first, second)


def test_views_and_clips_differ_in_every_draw(random_dataset):
    _, _, draws = first_batch(random_dataset([300] * 3), torch.tensor([1, 1, 1]))
    crops = {
        (int(start), int(length))
        for draw in draws
        for start, length in zip(draw.start, draw.length, strict=True)
    }
    assert len(crops) == 12
    assert len(torch.cat([draw.joint_matrices for draw in draws]).unique(dim=0)) > 9  # some blank


def test_a_view_is_of_its_own_clip():
    """Clips of one constant each: a crop that strays into a neighbour would mix two constants."""
    lengths = torch.tensor(LENGTHS)
    constants = torch.arange(1, len(lengths) + 1).repeat_interleave(lengths)
    frames = constants[:, None, None, None].expand(-1, 2, 25, 3).float()
    dataset = ClipDataset(frames.contiguous(), lengths, lengths, LENGTHS)
    source = Recording(dataset)
    still = Augmentation(shear=0)  # only the corrupted joints change, 15 of the 25
    feeder = PretrainFeeder(dataset, 11, seed=0, source=source, augmentation=still)
    for epoch in range(50):
        ((uni, fused),) = feeder.epoch(epoch)
        clips = torch.tensor(source.visited[-1]) + 1
        for temporal, _ in (uni['joint'], fused['joint']):
            assert temporal.shape == (11, 64, 150)
            kept = (temporal - clips[:, None, None]).abs() < 1e-5
            assert (kept.sum(2) >= 10 * 2 * 3).all()


@pytest.mark.parametrize('batch_size', [1, 4, 11, 100])
def test_downstream_batches_are_all_clips_whole_and_in_order(random_dataset, batch_size):
    dataset = random_dataset(LENGTHS)
    batches = [streams for _, (streams,) in downstream_batches(dataset, batch_size, ('joint',))]
    assert [len(batch['joint'][0]) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    temporal = torch.cat([batch['joint'][0] for batch in batches])
    assert len(temporal) == len(LENGTHS)
    for clip, start, length in zip(temporal, dataset.start, dataset.num_frames, strict=True):
        rows = dataset.frames[start : start + length].flatten(1).T[None]
        torch.testing.assert_close(
            clip, interpolate(rows, 64, mode='linear')[0].T, rtol=0, atol=4e-6
        )


def test_downstream_batches_of_crops(random_dataset):
    dataset = random_dataset(LENGTHS)
    start, length = dataset.num_frames // 3, dataset.num_frames - dataset.num_frames // 3
    batches = downstream_batches(dataset, 4, ('joint',), (start, length))
    for clip, first, end in zip(
        torch.cat([batch['joint'][0] for _, (batch,) in batches]),
        dataset.start + start,
        dataset.start + dataset.num_frames,
        strict=True,
    ):
        rows = dataset.frames[first:end].flatten(1).T[None]
        torch.testing.assert_close(
            clip, interpolate(rows, 64, mode='linear')[0].T, rtol=0, atol=4e-6
        )


def test_downstream_batches_are_not_random(random_dataset):
    dataset = random_dataset(LENGTHS)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    _, (first,) = next(downstream_batches(dataset, 11))
    assert torch.get_rng_state().equal(state)
    assert tuple(first) == tuple(MODALITIES)
    assert equal(first, next(downstream_batches(dataset, 11))[1][0])


def both_bodies(parts):
    """The streams of all clips, of one body and of two, with the absent body's zeros."""
    full = [
        {
            name: (
                pad(temporal, (0, 150 - temporal.shape[2])),
                pad(spatial, (0, 0, 0, 50 - spatial.shape[1])),
            )
            for name, (temporal, spatial) in part.items()
        }
        for part in parts
    ]
    return {
        name: tuple(map(torch.cat, zip(*(part[name] for part in full), strict=True)))
        for name in full[0]
    }


def test_recorded_downstream_streams(recorded_dataset, recorded):
    clips, parts = next(downstream_batches(recorded_dataset, 16))
    made = both_bodies(parts)
    for modality in MODALITIES:
        for stream, name in zip(made[modality], ('temporal', 'spatial'), strict=True):
            expected = torch.from_numpy(recorded('downstream')[f'{modality}_{name}'])
            assert len(expected)
            in_order = stream[clips.argsort()]
            torch.testing.assert_close(in_order[: len(expected)], expected, rtol=0, atol=1e-6)


@pytest.fixture
def mixed_dataset(random_dataset):
    """Clips of one body and of two. The second body of clip 3 is one number."""
    dataset = random_dataset(LENGTHS)
    for clip in (0, 3, 4, 8, 9):
        dataset.frames[dataset.start[clip] :][: LENGTHS[clip], 1] = 0
    dataset.frames[dataset.start[3] + 64, 1, 7, 2] = 1e-30
    return ClipDataset(dataset.frames, dataset.num_frames, dataset.labels, dataset.names)


def in_full(views):
    """The streams of a batch in one part or two: its uni-modal views, and its fused view."""
    return [both_bodies(views[half::2]) for half in (0, 1)]


@pytest.mark.parametrize('source', [Resident, Prefetcher])
@pytest.mark.parametrize('fused_only', [False, True])
def test_views_of_one_body_are_those_of_two_without_the_zeros(
    mixed_dataset, source, fused_only, monkeypatch
):
    def epochs():
        views = views_of(MODALITIES, fused_only)
        source_of_batches = source(mixed_dataset, torch.device('cpu'))
        return list(PretrainFeeder(mixed_dataset, 4, 1, 0, 1, views, source_of_batches).epoch(2))

    short = epochs()
    monkeypatch.setattr(feeders, 'one_body_is_enough', lambda *_: False)
    bodies = [part['joint'][0].shape[2] // 75 for views in short for part in views]
    assert set(bodies) == {1, 2}
    for views, full in zip(short, epochs(), strict=True):
        for made, expected in zip(in_full(views), full, strict=True):
            assert equal(made, expected)


def test_processes_share_mixed_batches(mixed_dataset):
    """Clips and draws are those of one process, in another order."""

    def clips_of(rank, world_size):
        feeder = PretrainFeeder(mixed_dataset, 4 // world_size, 5, rank, world_size)
        return [in_full(views)[1]['motion'][0].flatten(1).tolist() for views in feeder.epoch(2)][:2]

    for one, *shares in zip(clips_of(0, 1), clips_of(0, 2), clips_of(1, 2), strict=True):
        assert sorted(sum(shares, [])) == sorted(one)


def test_downstream_batches_have_one_kind_of_clips_except_where_they_meet(mixed_dataset):
    batches = list(downstream_batches(mixed_dataset, 2))
    assert sorted(torch.cat([clips for clips, _ in batches]).tolist()) == list(range(11))
    assert [len(parts) for _, parts in batches] == [1] * 6
    assert batches[0][1][0]['joint'][0].shape == (2, 64, 75)


@pytest.mark.parametrize(
    'fork',
    [
        lambda x: x + 1,
        lambda x: x + torch.randn_like(x),
        lambda x: x - x.flip(2),
        lambda x: x - x.mean((2, 3), keepdim=True),
        lambda x: x * x.abs().mean((1, 2, 3, 4), keepdim=True),
    ],
    ids=['shift', 'noise', 'relative to the other body', 'centred', 'scaled by both bodies'],
)
@pytest.mark.parametrize('place', ['augmentation', 'modality'])
def test_a_fork_that_uses_the_absent_body_takes_the_full_way(
    mixed_dataset, fork, place, monkeypatch, capsys
):
    warn.cache_clear()
    if place == 'modality':
        monkeypatch.setitem(MODALITIES, 'motion', fork)
    else:
        plain = augment
        monkeypatch.setattr(feeders, 'augment', lambda *clips: fork(plain(*clips)))
    for views in PretrainFeeder(mixed_dataset, 4, 0).epoch(0):
        assert len(views) == 2
        assert views[0]['joint'][0].shape[2] == 150
    assert 'clips of one body take as long as those of two' in capsys.readouterr().err
    (_, (streams_of_all,)), *_ = downstream_batches(mixed_dataset, 11)
    assert len(streams_of_all['motion'][0]) == 11
