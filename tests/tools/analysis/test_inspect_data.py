"""A problem planted in a small clean folder is reported, and nothing else; clean arrays have no
findings.
"""

import pickle
import re
import shutil
import warnings

import numpy as np
import pytest

from data_gen import manifest, ntu_gendata
from data_gen.preprocess import LEFT_SHOULDER, RIGHT_SHOULDER, SPINE, normalize
from tools.analysis import inspect_data
from tools.common import cli

FRAMES = 60


def people(seed, bodies=2):
    """A raw recording (3, T, 25, 2) in metres of one or two people, a metre apart, who sway before
    the sensor.
    """
    rng = np.random.default_rng(seed)
    size, rate, phase = (
        rng.uniform(0.02, 0.1, (2, 25, 3)),
        rng.uniform(0.1, 0.8, (2, 25, 3)),
        rng.uniform(0, 6, (2, 25, 3)),
    )
    sway = size * np.sin(phase + rate * np.arange(FRAMES)[:, None, None, None] / 5)
    pose = rng.normal(0, 0.3, (25, 3))
    pose[[0, SPINE, LEFT_SHOULDER, RIGHT_SHOULDER]] = [
        [0, 0, 0],
        [0, 0.3, 0],
        [-0.2, 0.5, 0],
        [0.2, 0.5, 0],
    ]  # upright
    facing = np.stack([pose, pose @ np.diag([-1, 1, -1])]) + [[[-0.5, 0, 3]], [[0.5, 0, 3]]]
    raw = facing + sway + rng.normal(0, 0.002, sway.shape)
    raw[:, bodies:] = 0
    return raw.transpose(3, 0, 2, 1)


def frames(raw):
    """A recording as it lies in the arrays: (T, 2, 25, 3) float32."""
    return normalize(raw).transpose(1, 3, 2, 0)[: raw.shape[1]].copy()


@pytest.fixture
def folder(tmp_path):
    """folder(plant=None, layout='padded', **entries): clean arrays, 6 clips per split, after
    plant(splits); its path.

    splits {'train': [[name, label, frames], …], 'val': …}. `entries` go into a manifest; without
    them there is none.
    """

    def write(plant=None, layout='padded', **entries):
        splits = {
            split: [
                [f'{split}{clip}', clip % 3, frames(people(seed + clip, 1 + clip % 2))]
                for clip in range(6)
            ]
            for seed, split in ((0, 'train'), (10, 'val'))
        }
        if plant:
            plant(splits)
        parts = {
            split: write_split(tmp_path, split, clips, layout) for split, clips in splits.items()
        }
        if entries:
            manifest.write(tmp_path, parts=parts, **entries)
        return tmp_path

    return write


def write_split(folder, split, clips, layout):
    """Write a split; returns its entry in the manifest."""
    names, labels, valid = zip(*clips, strict=True) if clips else ((), (), ())
    num_frames = [len(clip) for clip in valid]
    bodies = max((clip.shape[1] for clip in valid), default=2)
    if layout == 'padded':
        data = np.full(
            (len(clips), 3, 80, 25, bodies), 77, np.float32
        )  # nonsense behind the valid frames
        for row, clip in zip(data, valid, strict=True):
            row[:, : len(clip)] = clip.transpose(3, 0, 2, 1)
        np.save(folder / f'{split}_data_joint.npy', data)
    else:
        np.save(folder / f'{split}_frame_joint.npy', np.concatenate(valid))
    np.save(folder / f'{split}_num_frame.npy', np.array(num_frames, np.int64))
    (folder / f'{split}_label.pkl').write_bytes(pickle.dumps((list(names), list(labels))))
    digests = manifest.clip_digests(np.concatenate(valid), num_frames) if clips else []
    return manifest.split_summary(names, labels, num_frames, digests)


@pytest.fixture
def inspect(capsys):
    """inspect(folder, *flags): what the command prints; without a warning."""

    def run(folder, *flags):
        with warnings.catch_warnings(), pytest.raises(SystemExit) as end:
            warnings.simplefilter('error')
            cli.run(lambda: inspect_data.main([str(folder), *flags]))
        assert not end.value.code
        return capsys.readouterr().out

    return run


def named(text):
    """{kind: [(recording, what), …]} of the table."""
    found, kind = {}, None
    for line in text.split('\n\n', 1)[1].splitlines()[1:-1]:
        if line.startswith(' '):
            found[kind].append(tuple(line.strip().split(': ', 1)))
        else:
            kind = line[:14].strip()
            found[kind] = []
    return found


def planted(where, value, bodies=1, raw=False):
    """Frames of a recording with clip[where] = value(clip): (T, M, V, C), or before it is
    normalised, (C, T, V, M).
    """
    clip = people(99, bodies)
    clip = clip if raw else frames(clip)
    clip[where] = value(clip) if callable(value) else value
    return frames(clip) if raw else clip


def turned(clip, axis, degrees):
    """Frames turned about an axis, 0 1 2."""
    turn, (one, other) = np.eye(3, dtype=np.float32), [(1, 2), (2, 0), (0, 1)][axis]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[[one, one, other, other], [one, other, one, other]] = cosine, -sine, sine, cosine
    return clip @ turn.T


def late_and_walking(raw):
    """Body 0 comes 8 frames late; where it begins anew, to fill the end, the origin jumps, and body
    1 with it.
    """
    walk = np.linspace(0, 2, FRAMES) * np.array([[1], [0], [0]])
    return (raw[..., 0] + walk[..., None]) * (np.arange(FRAMES) >= 8)[:, None]


def close_and_swapping(raw):
    near = raw - np.arange(2) * np.reshape([0.8, 0, 0], (3, 1, 1, 1))  # 0.2 m apart
    return np.concatenate([near[:, :30], near[:, 30:, :, ::-1]], 1)


ALL = np.s_[:]
PLANTS = [
    ('not finite', '1 of 60 frames, first 7', planted(np.s_[7, 0, 3, 1], np.nan)),
    ('not finite', '60 of 60 frames, first 0', planted(np.s_[:, 0, 3], -np.inf)),
    ('empty frames', '60 of 60 frames, first 0', planted(ALL, 0)),
    ('empty frames', '10 of 60 frames, first 20', planted(np.s_[20:30], 0, bodies=2)),
    (
        'late or gone',
        'body 1, 12 of 60 frames',
        planted(np.s_[:, :12, :, 1], 0, bodies=2, raw=True),
    ),
    (
        'late or gone',
        'body 1, 20 of 60 frames',
        planted(np.s_[:, 40:, :, 1], 0, bodies=2, raw=True),
    ),
    ('late or gone', 'body 0, 25 of 60 frames', planted(np.s_[:, 35:, :, 0], 0, raw=True)),
    (
        'late or gone',
        'body 0, 15 of 60 frames',
        planted(np.s_[:, :15, :, 0], 0, bodies=2, raw=True),
    ),
    (
        'late or gone',
        'body 0, 8 of 60 frames',
        planted(np.s_[..., 0], late_and_walking, bodies=2, raw=True),
    ),
    (
        'late or gone',
        'body 1, 15 of 60 frames',
        planted(np.s_[45:, 1], 0, bodies=2),
    ),  # not filled: made by others
    ('late or gone', 'body 1, 30 of 60 frames', planted(np.s_[::2, 1], 0, bodies=2)),
    (
        'frozen body',
        'body 0, 29 steps up to frame 39',
        planted(np.s_[10:40, 0], lambda clip: clip[10, 0]),
    ),
    ('frozen body', 'body 0, 59 steps up to frame 59', planted(ALL, lambda clip: clip[:1])),
    (
        'frozen body',
        'body 1, 15 steps up to frame 59',
        planted(np.s_[45:, 1], lambda clip: clip[44, 1], bodies=2),
    ),
    (
        'frozen joint',
        'joint 11 of body 0, 29 steps up to frame 39',
        planted(np.s_[10:40, 0, 11], lambda clip: clip[10, 0, 11]),
    ),
    (
        'frozen joint',
        'joint 3 of body 0, 59 steps up to frame 59',
        planted(np.s_[:, 0, 3], 0, bodies=2),
    ),
    (
        'jump',
        'joint 7 of body 0 moves 1.01 m into frame 30',
        planted(np.s_[30, 0, 7, 1], lambda clip: clip[29, 0, 7, 1] + 1.01),
    ),
    (
        'jump',
        'joint 16 of body 1 moves 0.90 m into frame 30',
        planted(np.s_[30:, 1, :, 2], lambda clip: clip[30:, 1, :, 2] + 0.9, bodies=2),
    ),
    (
        'body swap',
        '1 times, first into frame 30',
        planted(np.s_[:, 30:], lambda raw: raw[:, 30:, :, ::-1], bodies=2, raw=True),
    ),
    (
        'body swap',
        '2 times, first into frame 20',
        planted(np.s_[:, 20:25], lambda raw: raw[:, 20:25, :, ::-1], bodies=2, raw=True),
    ),
    (
        'body swap',
        '1 times, first into frame 30',
        planted(ALL, close_and_swapping, bodies=2, raw=True),
    ),
    (
        'off centre',
        '0.30 m away in frame 0',
        planted(np.s_[..., 2], lambda clip: clip[..., 2] + 0.3, bodies=2),
    ),
    (
        'off centre',
        '0.59 m away in frame 59',
        planted(
            ALL,
            lambda clip: clip + np.arange(FRAMES)[:, None, None, None] * np.float32([0, 0, 0.01]),
            bodies=2,
        ),
    ),
    ('off x', '30 degrees off', planted(ALL, lambda clip: turned(clip, 1, 30), bodies=2)),
    ('along z', '3 degrees from z', planted(ALL, lambda clip: turned(clip, 0, 70))),
    ('short', '5 frames', planted(ALL, lambda clip: clip)[:5]),
    ('short', '1 frames', planted(ALL, lambda clip: clip)[:1]),
]


@pytest.mark.parametrize(
    ('kind', 'what', 'clip'), PLANTS, ids=lambda value: value if isinstance(value, str) else ''
)
@pytest.mark.parametrize('layout', ['padded', 'trimmed'])
def test_what_is_planted_is_named_and_nothing_else(folder, inspect, kind, what, clip, layout):
    def plant(splits):
        splits['train'][4][2] = clip

    found = named(inspect(folder(plant, layout)))
    assert found.keys() == {kind}
    ((who, words),) = found[kind]
    assert (who, words) == ('train train4', what)


@pytest.mark.parametrize(
    'clip',
    [
        planted(np.s_[20:25], 0),
        planted(np.s_[:, :5, :, 1], 0, 2, raw=True),
        planted(np.s_[20:25, 1], 0, 2),
        planted(np.s_[10:20, 0], lambda clip: clip[10, 0]),
        planted(np.s_[10:25, 0, 11], lambda clip: clip[10, 0, 11]),
        planted(
            np.s_[10:40, 0],
            lambda clip: np.random.default_rng(0).normal(clip[10, 0], 1e-4, (30, 25, 3)),
        ),
        planted(np.s_[30, 0, 7, 1], lambda clip: clip[30, 0, 7, 1] + 0.4),
        planted(np.s_[:, 0, 1], 0.003),
        planted(
            np.s_[:, 1:, :, 0],
            lambda raw: np.random.default_rng(0).normal(raw[:, 1:, :, 0], 0.2),
            raw=True,
        ),
        planted(ALL, lambda clip: turned(clip, 1, 0.5)),
        planted(ALL, lambda clip: turned(clip, 0, 45)),
        planted(ALL, lambda clip: np.float16(clip)),
        planted(ALL, lambda clip: clip)[:10],
    ],
    ids=[
        'empty for a moment',
        'a little late',
        'gone for a moment',
        'resting',
        'a joint resting',
        'nearly resting',
        'fast',
        'not quite centred',
        'noisy',
        'turned a little',
        'leaning',
        'half precision',
        'brief',
    ],
)
def test_what_good_recordings_have_is_not_named(folder, inspect, clip):
    def plant(splits):
        splits['val'][0][2] = clip

    assert named(inspect(folder(plant))) == {}


def test_clean_arrays(folder, inspect):
    text = inspect(folder())
    assert named(text) == {}
    assert f'none of: {", ".join(inspect_data.KINDS)}' in text
    assert 'no manifest.json' in text
    assert 'train: 6 clips, padded; 3 classes of 2 to 2; 60 to 60 frames, median 60' in text


def test_what_the_manifest_says(folder, inspect):
    path = folder(
        dataset='custom',
        benchmark='split',
        version='9.8',
        skipped={'lost': 'line 7', 'also': 'line 8'},
        class_names=['a', 'b', 'c', 'd'],
    )
    text = inspect(path, '--worst', '1')
    assert 'custom split, prepared by version 9.8' in text
    assert 'skipped in preparation: 2 recordings\n    lost: line 7\n\n' in text
    assert 'official' not in text
    assert named(text) == {'no clips': [('train', '1 of 4, actions 4')]}  # the worst one
    assert 'not the official counts, 40091 + 16487' in inspect(
        folder(dataset='ntu60', benchmark='xsub')
    )


def test_a_swap_is_not_counted_again_where_frames_repeat(folder, inspect):
    def plant(splits):
        raw = people(99)
        raw[:, 20:] = raw[:, 20:, :, ::-1]
        raw[:, 40:] = 0
        splits['train'][4][2] = frames(raw)

    assert named(inspect(folder(plant))) == {
        'late or gone': [('train train4', 'body 0, 20 of 60 frames')],
        'body swap': [('train train4', '1 times, first into frame 20')],
    }


def test_twins(folder, inspect):
    def plant(splits):
        splits['train'][5][2] = splits['train'][1][2]
        splits['val'][3][2] = splits['val'][4][2] = splits['train'][0][2]

    assert named(inspect(folder(plant))) == {
        'LEAK': [
            ('val val3', 'the 60 frames of train train0'),
            ('val val4', 'the 60 frames of train train0'),
        ],
        'duplicate': [('train train5', 'the 60 frames of train train1')],
    }


@pytest.mark.parametrize(
    ('labels', 'kind', 'what'),
    [
        ((0, 0, 1, 1, 0, 1), 'no clips', '1 of 3, actions 3'),
        ((2, 1, 2, 1, 2, 1), 'no clips', '1 of 3, actions 1'),
        ((0, 0, 0, 0, 1, 2), 'imbalance', 'action 1 4 clips, action 2 1'),
    ],
)
def test_classes(folder, inspect, labels, kind, what):
    def plant(splits):
        for clip, label in zip(splits['val'], labels, strict=True):
            clip[1] = label

    assert named(inspect(folder(plant))) == {kind: [('val', what)]}


def test_the_worst_come_first(folder, inspect):
    def plant(splits):
        for clip, height in zip(splits['train'], (0, 1, 4, 2, 5, 3), strict=True):
            clip[2][30, 0, 7, 1] += height

    path = folder(plant)
    assert [who for who, _ in named(inspect(path))['jump']] == [
        'train train4',
        'train train2',
        'train train5',
    ]
    assert len(named(inspect(path, '--worst', '9'))['jump']) == 5
    text = inspect(path, '--worst', '0')
    assert named(text) == {'jump': []}
    assert re.search(r'(?m)^jump +5 +41.67% ', text)  # of 12


def test_arrays_of_one_body(folder, inspect):
    def plant(splits):
        for clip in splits['train'] + splits['val']:
            clip[2] = clip[2][:, :1]

    assert named(inspect(folder(plant))) == {}


# The awkward cases of both recorded sets, as their raw files show: bodies that come late or leave,
# empty frames, …
RECORDED = {
    'empty frames': {
        'S003C003P092R001A059': '4 of 26 frames, first 8',
        'S003C003P097R001A008': '4 of 13 frames, first 4',
    },
    'late or gone': {
        'S020C003P025R002A007': 'body 1, 53 of 105 frames',
        'S001C001P025R001A086': 'body 1, 56 of 111 frames',
        'S002C002P096R001A062': 'body 0, 27 of 83 frames',
        'S019C002P073R001A036': 'body 0, 6 of 51 frames',
        'S002C002P055R002A041': 'body 0, 5 of 44 frames',
        'S001C001P081R002A040': 'body 0, 6 of 53 frames',
        'S020C003P018R002A037': 'body 0, 12 of 23 frames',
        'S001C001P027R001A109': 'body 1, 12 of 23 frames',
        'S001C001P091R002A006': 'body 0, 6 of 16 frames',
        'S019C002P032R001A054': 'body 0, 6 of 16 frames',
        'S002C002P064R002A087': 'body 0, 5 of 15 frames',
        'S002C002P063R001A088': 'body 1, 6 of 20 frames',
    },
    'jump': {
        # these slots change person
        'S001C001P025R001A086': 'joint 7 of body 0 moves 1.62 m into frame 55',
        'S001C001P027R001A109': 'joint 16 of body 0 moves 2.52 m into frame 11',
    },
    'short': {'S002C002P002R002A004': '1 frames', 'S002C002P097R002A085': '1 frames'},
}


def test_the_recorded_recordings(reference, tmp_path, inspect):
    """The awkward cases of the set, and no others."""
    ntu_gendata.main(
        [
            '--dataset',
            'ntu120',
            '--data_path',
            str(reference / 'raw'),
            '--out_folder',
            str(tmp_path),
        ]
    )
    text = inspect(tmp_path / 'xsetup', '--worst', '9')
    assert 'not the official counts, 54468 + 59477' in text
    found = named(text)
    assert found.pop('no clips')
    here = {path.stem for path in (reference / 'raw').iterdir()}
    assert {
        kind: {who.split()[1][:20]: what for who, what in lines} for kind, lines in found.items()
    } == {
        kind: {name: what for name, what in cases.items() if name in here}
        for kind, cases in RECORDED.items()
    }


@pytest.mark.parametrize(
    ('damage', 'says'),
    [
        (lambda path: [file.unlink() for file in path.iterdir()], 'no prepared arrays'),
        (lambda path: (path / 'val_data_joint.npy').unlink(), 'the val split has 0 clips, not 6'),
        (
            lambda path: np.save(path / 'train_num_frame.npy', [59] * 6),
            'the train split has other names',
        ),
        (lambda path: np.save(path / 'train_num_frame.npy', [60] * 5), '5 frame counts'),
        (lambda path: (path / 'val_label.pkl').write_bytes(b'no pickle'), 'not a pickle'),
    ],
    ids=['empty folder', 'a split gone', 'other frames', 'a count too few', 'damaged'],
)
def test_a_folder_that_cannot_be_read_is_one_line(folder, mistake, damage, says):
    path = folder(dataset='custom')
    damage(path)
    assert says in mistake(inspect_data.main, [path])


def test_a_label_outside_is_one_line(folder, mistake):
    def plant(splits):
        splits['val'][0][1] = 60

    assert 'labels run from 0 to 60, but ntu60 has 60' in mistake(
        inspect_data.main, [folder(plant, dataset='ntu60', benchmark='xsub')]
    )


@pytest.mark.parametrize(
    ('gone', 'entries'), [(False, {}), (True, {}), (False, {'dataset': 'custom'})]
)
def test_an_empty_split_has_no_clips(folder, inspect, gone, entries):
    path = folder(lambda splits: splits['val'].clear(), **entries)
    if gone:
        for file in path.glob('val_*'):
            file.unlink()
    assert named(inspect(path)) == {'no clips': [('val', 'the whole split is empty')]}


def test_a_folder_one_too_high_is_told_the_right_one(folder, mistake, tmp_path):
    above = tmp_path / 'above'  # tmp_path's own parent holds other tests' folders
    path = shutil.copytree(folder(), above / 'xsub')
    assert f'{above}: no prepared arrays there; did you mean {path}' in mistake(
        inspect_data.main, [above]
    )
