"""Corrupted test clips by hand, and the table as a user gets it."""

import json

import pytest

from feeder.feeders import generator_at
from tools.analysis import robustness

NAMES = [
    'clean',
    '5 joints zeroed',
    '10 joints zeroed',
    'an arm zeroed',
    'a leg zeroed',
    'half the frames',
    'jitter of 1 cm',
    'jitter of 2 cm',
    'jitter of 5 cm',
]


@pytest.fixture
def clips(random_dataset):
    clips = random_dataset([70, 10, 33, 1, 64, 7])
    clips.frames[:70, 1] = 0  # nobody else is there
    return clips


def corrupted(clips, name, seed=0):
    corrupt, severity = robustness.CORRUPTIONS[name]
    return corrupt(clips, severity, generator_at(seed, name))


def test_the_severities():
    assert list(robustness.CORRUPTIONS) == NAMES


def zeroed_joints(before, after):
    """Of each clip: the joints that are zero in all frames and bodies. All others must be as
    before.
    """
    joints = []
    for start, length in zip(before.start.tolist(), before.num_frames.tolist(), strict=True):
        old, new = (clips.frames[start : start + length] for clips in (before, after))
        zero = ~new.any(-1).any(1).any(0)
        assert new[:, :, ~zero].equal(old[:, :, ~zero])
        joints.append(zero.nonzero()[:, 0].tolist())
    return joints


@pytest.mark.parametrize(('name', 'number'), [('5 joints zeroed', 5), ('10 joints zeroed', 10)])
def test_drawn_joints_are_zeroed(clips, name, number):
    joints = zeroed_joints(clips, corrupted(clips, name))
    assert {len(each) for each in joints} == {number}
    assert len(set(map(tuple, joints))) > 1  # drawn for each clip
    assert (
        zeroed_joints(clips, corrupted(clips, name))
        == joints
        != zeroed_joints(clips, corrupted(clips, name, 1))
    )


@pytest.mark.parametrize(
    ('name', 'limbs'), [('an arm zeroed', robustness.ARMS), ('a leg zeroed', robustness.LEGS)]
)
def test_one_of_two_limbs_is_zeroed(clips, name, limbs):
    assert {tuple(each) for each in zeroed_joints(clips, corrupted(clips, name))} == set(limbs)


def test_half_the_frames_of_each_clip_are_dropped(clips):
    after = corrupted(clips, 'half the frames')
    assert after.num_frames.tolist() == [35, 5, 17, 1, 32, 4]
    assert len(after.frames) == 94
    for clip, (start, length) in enumerate(
        zip(after.start.tolist(), after.num_frames.tolist(), strict=True)
    ):
        first, frames = clips.start[clip], after.frames[start : start + length]
        old = clips.frames[first : first + clips.num_frames[clip]]
        rows = [next(row for row, frame in enumerate(old) if frame.equal(kept)) for kept in frames]
        assert rows == sorted(set(rows))  # in the old order
    assert not corrupted(clips, 'half the frames', 1).frames.equal(after.frames)


@pytest.mark.parametrize('centimetres', [1, 2, 5])
def test_jitter_moves_the_joints_that_are_there(clips, centimetres):
    noise = corrupted(clips, f'jitter of {centimetres} cm').frames - clips.frames
    assert noise[clips.frames != 0].std() == pytest.approx(centimetres / 100, rel=0.02)
    assert not noise[:70, 1].any()


def test_only_test_clips_are_corrupted_and_the_same_ones_for_all(
    tmp_path, padded_arrays, save_untrained, capsys, monkeypatch
):
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=30, val=12)
    for seed, name in enumerate('ab'):
        save_untrained(tmp_path / f'{name}.pth.tar', seed)
    seen, extract = [], robustness.extract_subsets
    monkeypatch.setattr(
        robustness,
        'extract_subsets',
        lambda backbone, clips, *more: (
            seen.append(clips.frames),
            extract(backbone, clips, *more),
        )[1],
    )
    command = [
        *(str(tmp_path / f'{name}.pth.tar') for name in 'ab'),
        '--data-root',
        str(tmp_path / 'data'),
        '--device',
        'cpu',
        '--results',
        str(tmp_path / 'r.json'),
    ]
    robustness.main(command)
    assert all(one.equal(other) for one, other in zip(seen[:10], seen[10:], strict=True))
    made = json.loads((tmp_path / 'r.json').read_text())['accuracies']
    assert [list(row) for row in made.values()] == [NAMES] * 2
    a, b = made.values()
    assert a['clean'] > 60
    *lines, written = capsys.readouterr().out.splitlines()
    assert written == f'written: {tmp_path / "r.json"}'
    assert lines[-9].split() == ['clean', f'{a["clean"]:.2f}', '0.0', f'{b["clean"]:.2f}', '0.0']
    name, accuracy = NAMES[-1], a[NAMES[-1]]
    assert lines[-1].split()[4:6] == [f'{accuracy:.2f}', f'{100 * (1 - accuracy / a["clean"]):.1f}']
    backwards = dict(reversed(robustness.CORRUPTIONS.items()))  # each has draws of its own
    monkeypatch.setattr(robustness, 'CORRUPTIONS', backwards)
    robustness.main(command)
    assert json.loads((tmp_path / 'r.json').read_text())['accuracies'] == made
