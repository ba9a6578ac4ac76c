"""The feeders: which clips a step visits, what its views are, and the clips as the downstream tasks
see them.
"""

import pytest
import torch
from torch.nn.functional import interpolate

from feeder import feeders
from feeder.dataset import ClipDataset
from feeder.feeders import PretrainFeeder, downstream_batches, generator_at
from feeder.modalities import MODALITIES, streams
from feeder.prefetch import Prefetcher, Resident

LENGTHS = [1, 30, 64, 65, 300, 90, 20, 100, 70, 150, 64]


def visits(dataset, epoch, first_step=0, **arguments):
    """The clip indices of each step of an epoch, in place of the streams."""
    feeder = PretrainFeeder(dataset, **arguments)
    feeder.source.batches = lambda batches: ((None, clips) for clips in batches)
    feeder.batch = lambda frames, clips, num_frames, generator: clips.tolist()
    steps = list(feeder.epoch(epoch, first_step))
    assert len(steps) == len(feeder) - first_step
    return steps


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
    dataset = ClipDataset(torch.zeros(40091, 1, 1, 1), lengths, lengths, [])
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
    return all(
        a[modality][stream].equal(b[modality][stream]) for modality in a for stream in (0, 1)
    )


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
def test_processes_share_the_draws_of_one(random_dataset, monkeypatch, world_size):
    """Crops and maps of 12 clips in two batches: those of all processes together are exactly those
    of one.
    """
    made = []
    monkeypatch.setattr(
        feeders, 'temporal_crop_resize', lambda frames, *crop: made.append(torch.stack(crop[:2]))
    )
    monkeypatch.setattr(feeders, 'apply_map', lambda x, maps: made.append(maps) or maps)
    dataset = random_dataset([*LENGTHS, 77])

    def draws(rank, world_size):
        made.clear()
        feeder = PretrainFeeder(dataset, 8 // world_size, 5, rank, world_size)
        feeder.batch = feeder.views
        list(feeder.epoch(2))
        return [
            draw.unflatten(clips, (4, -1)).movedim(clips + 1, 0)
            for pair in zip(made[::2], made[1::2], strict=True)
            for draw, clips in zip(pair, (1, 0), strict=True)
        ]

    one, ranks = draws(0, 1), [draws(rank, world_size) for rank in range(world_size)]
    assert [len(draw) for draw in one] == [8, 8, 4, 4]
    for draw, *shares in zip(one, *ranks, strict=True):
        assert torch.cat(shares).equal(draw)


def test_one_view_for_each_modality_and_one_for_all(random_dataset, random_clips, monkeypatch):
    feeder = PretrainFeeder(random_dataset(LENGTHS), 3, seed=0)
    views = [random_clips(3, seed) for seed in range(4)]
    monkeypatch.setattr(feeder, 'views', lambda *clips: views)
    uni, fused = feeder.batch(None, None, None, generator_at(0, 0, 1))
    assert tuple(uni) == tuple(fused) == tuple(MODALITIES)
    assert equal(fused, streams(views[3]))
    for view, modality in zip(views[:3], MODALITIES, strict=True):
        assert equal({modality: uni[modality]}, streams(view, (modality,)))


@pytest.mark.parametrize('same', ['draw_crops', 'draw_maps'])
def test_views_differ_in_their_crops_and_in_their_maps(random_dataset, monkeypatch, same):
    """With one kind of draw made constant, the other still tells the four views, and the clips,
    apart.
    """
    constant = {
        'draw_crops': lambda num_frame, generator, *law: (0 * num_frame, 0 * num_frame + 99),
        'draw_maps': lambda n, joints, generator, *law: torch.eye(3).expand(n, joints, 3, 3),
    }
    monkeypatch.setattr(feeders, same, constant[same])
    feeder, generator = PretrainFeeder(random_dataset([300] * 3), 3, seed=0), generator_at(0, 0, 1)
    frames, start = next(feeder.source.batches([torch.tensor([1, 1, 1])]))
    views = torch.cat(feeder.views(frames, start, torch.tensor([300] * 3), generator))
    assert len(views.flatten(1).unique(dim=0)) == 12


def test_a_view_is_of_its_own_clip(monkeypatch):
    """Clips of one constant each, unmapped: a crop that strays into a neighbour would mix two
    constants.
    """
    lengths = torch.tensor(LENGTHS)
    frames = (
        torch.arange(len(lengths))
        .repeat_interleave(lengths)[:, None, None, None]
        .expand(-1, 2, 25, 3)
        .float()
    )
    feeder = PretrainFeeder(ClipDataset(frames.contiguous(), lengths, lengths, LENGTHS), 11, seed=0)
    monkeypatch.setattr(feeders, 'apply_map', lambda x, maps: x)
    clips = torch.tensor([3, 9, 0, 10, 4, 1])
    for step in range(50):
        loaded = next(feeder.source.batches([clips]))
        for view in feeder.views(*loaded, lengths[clips], generator_at(0, 0, step)):
            assert view.shape == (6, 64, 2, 25, 3)
            torch.testing.assert_close(
                view, clips[:, None, None, None, None].expand(view.shape).float()
            )


@pytest.mark.parametrize('batch_size', [1, 4, 11, 100])
def test_downstream_batches_are_all_clips_whole_and_in_order(random_dataset, batch_size):
    dataset = random_dataset(LENGTHS)
    batches = list(downstream_batches(dataset, batch_size, ('joint',)))
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
        torch.cat([batch['joint'][0] for batch in batches]),
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
    first = next(downstream_batches(dataset, 11))
    assert torch.get_rng_state().equal(state)
    assert tuple(first) == tuple(MODALITIES)
    assert equal(first, next(downstream_batches(dataset, 11)))


def test_recorded_downstream_streams(recorded_dataset, recorded):
    made = next(downstream_batches(recorded_dataset, 16))
    for modality in MODALITIES:
        for stream, name in zip(made[modality], ('temporal', 'spatial'), strict=True):
            expected = torch.from_numpy(recorded('downstream')[f'{modality}_{name}'])
            assert len(expected)
            torch.testing.assert_close(stream[: len(expected)], expected, rtol=0, atol=1e-6)
