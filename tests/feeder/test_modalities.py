"""Bone, motion and streams: the recorded ones exactly, and by loops."""

import pytest
import torch

from feeder.modalities import MODALITIES, bone, motion, streams, subsets

# The published pairs (joint, parent), 1-based.
PAIRS = [
    (1, 2),
    (2, 21),
    (3, 21),
    (4, 3),
    (5, 21),
    (6, 5),
    (7, 6),
    (8, 7),
    (9, 21),
    (10, 9),
    (11, 10),
    (12, 11),
    (13, 1),
    (14, 13),
    (15, 14),
    (16, 15),
    (17, 1),
    (18, 17),
    (19, 18),
    (20, 19),
    (21, 21),
    (22, 23),
    (23, 8),
    (24, 25),
    (25, 12),
]


@pytest.mark.parametrize('modality', MODALITIES)
def test_recorded_streams(recorded, ours, modality):
    made = streams(ours(recorded('pretrain')['view_1']))[modality]
    for stream, name in zip(made, ('temporal', 'spatial'), strict=True):
        expected = torch.from_numpy(recorded('pretrain')[f'{modality}_{name}'])
        assert len(expected)
        assert stream[: len(expected)].equal(expected)


def test_bone_is_a_joint_minus_its_parent(random_clips):
    x = random_clips(2)
    made = bone(x)
    assert sorted(joint for joint, _ in PAIRS) == list(range(1, 26))
    for joint, parent in PAIRS:
        assert made[..., joint - 1, :].equal(x[..., joint - 1, :] - x[..., parent - 1, :])


def test_motion_is_the_next_frame_minus_this_one(random_clips):
    x = random_clips(2)
    made = motion(x)
    for frame in range(63):
        assert made[:, frame].equal(x[:, frame + 1] - x[:, frame])
    assert not made[:, 63].any()


def test_order_of_the_tokens(random_clips):
    x = random_clips(3)
    temporal, spatial = streams(x, ('joint',))['joint']
    assert temporal.shape == (3, 64, 150)
    assert spatial.shape == (3, 50, 192)
    for body in range(2):
        for joint in range(25):
            for axis in range(3):
                coordinate = x[:, :, body, joint, axis]
                assert temporal[:, :, body * 75 + joint * 3 + axis].equal(coordinate)
                assert spatial[:, body * 25 + joint, axis::3].equal(coordinate)


@pytest.mark.parametrize(
    'chosen', [('motion',), ('bone', 'joint'), tuple(MODALITIES)], ids='-'.join
)
def test_streams_of_the_chosen_modalities_alone(random_clips, chosen):
    x = random_clips(2)
    made = streams(x, chosen)
    assert tuple(made) == chosen
    view = {'joint': x, 'bone': bone(x), 'motion': motion(x)}
    for modality in chosen:
        expected = streams(view[modality], ('joint',))['joint']
        assert all(
            stream.equal(other) for stream, other in zip(made[modality], expected, strict=True)
        )


def test_another_modality_is_one_function_and_one_row(random_clips, monkeypatch):
    monkeypatch.setitem(MODALITIES, 'acceleration', lambda x: motion(motion(x)))
    x = random_clips(2)
    made = streams(x)
    assert list(made) == ['joint', 'bone', 'motion', 'acceleration']
    expected = streams(motion(motion(x)), ['joint'])['joint']
    for stream, other in zip(made['acceleration'], expected, strict=True):
        assert stream.equal(other)


def test_subsets_are_all_that_are_not_empty():
    found = subsets()
    assert found[0] == ('joint',)
    assert found[-1] == tuple(MODALITIES)
    assert len(set(found)) == 2 ** len(MODALITIES) - 1
    assert [len(subset) for subset in found] == sorted(len(subset) for subset in found)
    assert subsets(['bone', 'motion']) == [('bone',), ('motion',), ('bone', 'motion')]
