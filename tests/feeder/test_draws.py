"""The random draws, by large seeded samples: a share or count may be off by five standard
deviations.
"""

from functools import partial

import pytest
import torch

from feeder.augmentations import (
    Augmentation,
    center_crops,
    sample,
    sample_corruption_matrices,
    sample_crops,
    sample_joint_matrices,
    sample_joints,
    sample_shear_matrices,
)
from feeder.feeders import DRAWS_VERSION, generator_at

CLIPS = 50_000


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def assert_share(hits, trials, share):
    """Each of `hits` successes among `trials` fits the probability `share`."""
    trials = torch.as_tensor(trials).double()
    deviation = (trials * share * (1 - share)).sqrt()
    assert ((torch.as_tensor(hits).double() - trials * share).abs() <= 5 * deviation).all()


def assert_uniform(sample, low, high, bins=20):
    assert sample.min() >= low
    assert sample.max() < high
    assert_share(torch.histc(sample.double(), bins, low, high), len(sample), 1 / bins)


def crop_lengths(num_frame):
    """The length for each of very many, evenly spread u of U(0.1, 1)."""
    u = 0.1 + 0.9 * (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    return (num_frame * u).floor().clamp(min=64).clamp(max=num_frame)


@pytest.mark.parametrize('num_frame', [1, 30, 63, 64])
def test_short_clips_are_taken_whole(generator, num_frame):
    start, length = sample_crops(torch.full((1000,), num_frame), generator)
    assert (start == 0).all()
    assert (length == num_frame).all()


@pytest.mark.parametrize('num_frame', [65, 100, 300, 1000])
def test_crop_lengths(generator, num_frame):
    _, length = sample_crops(torch.full((CLIPS,), num_frame), generator)
    expected = crop_lengths(num_frame)
    assert abs(length.double().mean() - expected.mean()) <= 5 * expected.std() / CLIPS**0.5
    assert length.min() == expected.min()
    assert num_frame - 2 <= length.max() <= num_frame
    assert_share((length == 64).sum(), CLIPS, (expected == 64).double().mean())
    assert_share(
        (length > 0.7 * num_frame).sum(), CLIPS, (expected > 0.7 * num_frame).double().mean()
    )


@pytest.mark.parametrize('num_frame', [30, 64, 100, 300])
def test_crop_lengths_are_the_recorded_ones(recorded, generator, num_frame):
    _, length = sample_crops(torch.full((CLIPS,), num_frame), generator)
    deviation = length.double().std() * (1 / 4000 + 1 / CLIPS) ** 0.5  # 4,000 draws were recorded
    mean = float(recorded('augmentation')[f'crop_length_mean_{num_frame}'])
    assert abs(length.double().mean() - mean) <= 4 * deviation


@pytest.mark.parametrize('ratio', [0.95, 0.5, 0.9, 1])
def test_centre_crops_are_those_of_the_peers(ratio):
    """crop_subsequence: clip[int((1 - ratio) * n / 2):n - int((1 - ratio) * n / 2)], in Python's
    floats.
    """
    num_frames = torch.arange(1, 301)
    start, length = center_crops(num_frames, ratio)
    for frames, first, cropped in zip(
        num_frames.tolist(), start.tolist(), length.tolist(), strict=True
    ):
        expected = list(range(frames))[
            int((1 - ratio) * frames / 2) : frames - int((1 - ratio) * frames / 2)
        ]
        assert list(range(first, first + cropped)) == expected


@pytest.mark.parametrize('num_frame', [65, 70, 100, 300])
def test_crops_start_anywhere_they_fit(generator, num_frame):
    start, length = sample_crops(torch.full((CLIPS,), num_frame), generator)
    assert start.min() == 0
    assert (start + length).max() == num_frame
    places = num_frame - 64 + 1
    counts = torch.bincount(start[length == 64], minlength=places)
    assert len(counts) == places
    assert_share(counts, counts.sum(), 1 / places)
    longer = (length > 64) & (length < num_frame)
    if longer.any():  # whatever the length, the start is as far along as it is spread
        along = start[longer] / (num_frame - length[longer])
        assert abs(along.mean() - 0.5) < 5 * along.std() / longer.sum() ** 0.5


def test_crops_of_clips_of_different_lengths(generator):
    num_frame = torch.arange(1, 301).repeat(50)
    start, length = sample_crops(num_frame, generator)
    assert (length >= num_frame.clamp(max=64)).all()
    assert (start >= 0).all()
    assert (start + length <= num_frame).all()


def test_fifteen_joints_each_equally_often(generator):
    joints = sample_joints(CLIPS, 25, generator)
    assert joints.shape == (CLIPS, 15)
    assert (joints.sort(1).values.diff(dim=1) > 0).all()
    assert_share(torch.bincount(joints.flatten(), minlength=25), CLIPS, 15 / 25)
    drawn = torch.zeros(CLIPS, 25).scatter_(1, joints, 1)
    pairs = (drawn.T @ drawn)[~torch.eye(25, dtype=torch.bool)]
    assert_share(pairs, CLIPS, 15 * 14 / (25 * 24))


def test_corruption_matrices(generator):
    matrix = sample_corruption_matrices(CLIPS, generator).flatten(1)
    zero = (matrix == 0).all(1)
    assert_share(zero.sum(), CLIPS, 1 / 2)
    for entry in matrix[~zero].T:
        assert_uniform(entry, -1, 1)
    assert_uncorrelated(matrix[~zero])


def test_shear_matrices(generator):
    matrix = sample_shear_matrices(CLIPS, generator)
    assert (matrix.diagonal(0, 1, 2) == 1).all()
    entries = matrix[:, ~torch.eye(3, dtype=torch.bool)]
    for entry in entries.T:
        assert_uniform(entry, -1, 1)
    assert_uncorrelated(entries)


def assert_uncorrelated(entries):
    correlation = torch.corrcoef(entries.T) - torch.eye(entries.shape[1])
    assert correlation.abs().max() < 5 / len(entries) ** 0.5


def test_half_are_sheared_a_quarter_are_blanked(generator):
    clips = 20_000
    matrices = sample_joint_matrices(clips, 25, generator)
    kept = (matrices == torch.eye(3)).flatten(2).all(2).sum(1)
    corrupted = kept == 10
    assert (kept[~corrupted] == 0).all()
    assert_share(corrupted.sum(), clips, 1 / 2)
    blank = (matrices == 0).flatten(2).all(2).sum(1)
    assert set(blank.tolist()) == {0, 15}
    assert corrupted[blank == 15].all()
    assert_share((blank == 15).sum(), clips, 1 / 4)
    sheared = matrices[~corrupted]
    assert (sheared == sheared[:, :1]).all()
    assert (sheared.diagonal(0, 2, 3) == 1).all()


def test_one_matrix_for_all_corrupted_joints(generator):
    for clip in sample_joint_matrices(200, 25, generator):
        assert len(clip.unique(dim=0)) in (1, 2)  # a shear, or the identity beside one matrix


def draws(*arguments):
    made = sample(torch.full((50,), 300), 25, partial(generator_at, *arguments))
    return torch.cat([draw.double().flatten() for draw in made])


def test_draws_are_a_function_of_seed_epoch_step_and_view():
    torch.manual_seed(1)
    first = draws(1, 2, 3, 4)
    torch.manual_seed(2)
    assert draws(1, 2, 3, 4).equal(first)
    places = [
        (1, 2, 3, 4),
        (5, 2, 3, 4),
        (1, 5, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 3, 5),
        (2, 1, 3, 4),
        (1, 2, 4, 3),
        (0, 0, 0, 0),
        (0, 0, 0, 1),
        (0, 0, 1, 0),
        (0, 1, 0, 0),
        (1, 0, 0, 0),
        (11, 2, 3, 4),
        (1, 12, 3, 4),
    ]
    assert len({tuple(draws(*place).tolist()) for place in places}) == len(places)


def test_another_draw_changes_no_other():
    place = partial(generator_at, 1, 2, 3, 4)
    num_frames = torch.full((50,), 300)
    alone = sample(num_frames, 25, place)

    def after_another_draw(name):
        torch.rand(50, generator=place('another'))
        return place(name)

    for made, expected in zip(sample(num_frames, 25, after_another_draw), alone, strict=True):
        assert made.equal(expected)
    assert sample_crops(num_frames, place('crop'))[0].equal(alone.start)
    assert sample_joint_matrices(50, 25, place('joint_matrices')).equal(alone.joint_matrices)


def test_the_draws_of_this_version():
    """If these numbers change, DRAWS_VERSION does: an earlier run would not continue as it began."""
    assert DRAWS_VERSION == 2
    assert generator_at(0, 'order').initial_seed() == 16665026860187147208
    assert generator_at(1, 2, 3, 0, 'crop').initial_seed() == 5952776168935734726


def test_constants_of_the_draws(generator):
    num_frames = torch.full((1000,), 200)
    constants = Augmentation((0.2, 0.4), crop_frames=50, shear=0.1)
    small = sample(num_frames, 25, lambda name: generator, constants)
    assert 50 == small.length.min() < small.length.max() < 0.4 * 200
    sheared = (small.joint_matrices == small.joint_matrices[:, :1]).flatten(1).all(1)
    change = small.joint_matrices[sheared] - torch.eye(3)
    assert 0.09 < change.abs().max() < 0.1
