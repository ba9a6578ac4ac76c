"""Who trains in which protocol: the published tables, and the recorded splits."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from data_gen import manifest
from data_gen.class_names import CLASS_NAMES
from data_gen.protocols import (
    DATASETS,
    PROTOCOLS,
    Data,
    Name,
    num_classes,
    number_ranges,
)
from tools.common.cli import InputError

NTU60_PERFORMERS = '1 2 4 5 8 9 13 14 15 16 17 18 19 25 27 28 31 34 35 38'
NTU120_PERFORMERS = NTU60_PERFORMERS + (
    ' 45 46 47 49 50 52 53 54 55 56 57 58 59 70 74 78 80 81 82 83 84 85 86 89 91 92 93 94 95 97 98 '
    '100 103'
)
NAMES = [
    Name(setup, camera, performer, 1, 60)
    for setup in range(1, 33)
    for camera in (1, 2, 3)
    for performer in range(1, 107)
]


def training(dataset, benchmark, number):
    """The values of one number of the names that train."""
    return {getattr(name, number) for name in NAMES if DATASETS[dataset].trains(name, benchmark)}


@pytest.mark.parametrize(
    ('dataset', 'benchmark', 'number', 'expected'),
    [
        ('ntu60', 'xsub', 'performer', NTU60_PERFORMERS),
        ('ntu120', 'xsub', 'performer', NTU120_PERFORMERS),
        ('irds', 'xsub', 'performer', NTU60_PERFORMERS),
        ('ntu60', 'xview', 'camera', '2 3'),
        ('ntu120', 'xview', 'camera', '2 3'),
        ('ntu120', 'xsetup', 'setup', ' '.join(map(str, range(2, 33, 2)))),
    ],
)
def test_training_split(dataset, benchmark, number, expected):
    trains = training(dataset, benchmark, number)
    assert trains == set(map(int, expected.split()))
    decided_by_it_alone = {name for name in NAMES if getattr(name, number) in trains}
    assert decided_by_it_alone == {
        name for name in NAMES if DATASETS[dataset].trains(name, benchmark)
    }


@pytest.mark.parametrize('benchmark', ['xsub', 'xview', 'xsetup'])
def test_recorded_splits(reference, benchmark):
    for split in ('train', 'val'):
        names, labels = pickle.loads(
            (reference / 'gendata' / benchmark / f'{split}_label.pkl').read_bytes()
        )
        assert names
        for text, label in zip(names, labels, strict=True):
            name = Name.parse(text.removesuffix('.skeleton'))
            assert DATASETS['ntu120'].trains(name, benchmark) == (split == 'train')
            assert name.action - 1 == label


def test_which_recordings_a_data_set_holds():
    inside, late_setup, new_action = (
        Name(17, 1, 1, 1, 60),
        Name(18, 1, 1, 1, 60),
        Name(17, 1, 1, 1, 61),
    )
    assert [DATASETS['ntu60'].holds(name) for name in (inside, late_setup, new_action)] == [
        True,
        False,
        False,
    ]
    assert all(
        DATASETS['ntu120'].holds(name)
        for name in (inside, late_setup, new_action, Name(32, 3, 106, 2, 120))
    )


def test_published_folders_and_protocols():
    assert {
        key: (dataset.folder, dataset.classes, tuple(dataset.counts))
        for key, dataset in DATASETS.items()
    } == {
        'ntu60': ('NTU-RGB-D-60-AGCN', 60, ('xsub', 'xview')),
        'ntu120': ('NTU-RGB-D-120-AGCN', 120, ('xsub', 'xsetup')),
        'pku1': ('PKU-MMD-1', 51, ('xsub', 'xview')),
        'pku2': ('PKU-MMD-2', 51, ('xsub', 'xview')),
        'irds': ('IntelliRehabDS', 9, ('xsub',)),
        'nwucla': ('NW-UCLA', 10, ('xview',)),
        'custom': ('custom', 0, ('split',)),
    }
    assert PROTOCOLS == {
        'cross_subject': 'xsub',
        'cross_view': 'xview',
        'cross_setup': 'xsetup',
        'own_split': 'split',
    }


def test_names_there_and_back_and_in_order():
    texts = [
        'S001C002P003R002A013',
        'S001C002P003R002A120',
        'S001C003P001R001A001',
        'S032C001P106R001A060',
    ]
    names = [Name.parse(text) for text in texts]
    assert [str(name) for name in names] == texts
    assert names == sorted(names)
    assert names[0] == Name(setup=1, camera=2, performer=3, replication=2, action=13)
    assert names[0].action - 1 == 12


@pytest.mark.parametrize(
    'text',
    [
        '',
        'S001C002P003R002',
        's001c002p003r002a013',
        'S001C002P003R002A013.skeleton',
        'S001C002P003R002A0133',
        'S01C002P003R002A013',
        ' S001C002P003R002A013',
        'readme',
    ],
)
def test_not_a_name(text):
    assert Name.parse(text) is None


@pytest.mark.parametrize(
    ('dataset', 'class_names', 'labels', 'expected'),
    [
        ('ntu60', None, [0, 3], 60),
        ('pku2', None, np.array([50]), 51),
        ('custom', ['a', 'b', 'c'], [1, 0], 3),
        ('custom', None, [1, 4], 5),
        (None, None, [2], 3),
        (None, ['a', 'b'], [0], 2),
        ('another', None, [6], 7),
    ],
)
def test_number_of_classes(dataset, class_names, labels, expected):
    assert num_classes(dataset, class_names, labels) == expected


@pytest.mark.parametrize(
    ('dataset', 'class_names', 'labels', 'says'),
    [
        ('ntu60', None, [0, 60], 'labels run from 0 to 60, but ntu60 has 60 classes'),
        ('custom', ['a', 'b'], [2, 1], 'custom has 2 classes'),
        (None, None, [0, 10_000], 'labels up to 10000 mean 10,001 classes, .* number the classes'),
        ('custom', None, [-1, 1], 'from -1 to 1'),
    ],
)
def test_a_label_outside_the_classes_is_a_mistake(dataset, class_names, labels, says):
    with pytest.raises(InputError, match=says):
        num_classes(dataset, class_names, labels)


def test_folders_of_benchmarks():
    assert Data('data', 'ntu120', 'cross_setup').path == Path('data/NTU-RGB-D-120-AGCN/xsetup')
    assert Data(Path('/d'), 'custom', 'own_split').path == Path('/d/custom/split')
    with pytest.raises(
        InputError, match='ntu60 has no protocol cross_setup: choose cross_subject or cross_view'
    ):
        _ = Data('data', 'ntu60', 'cross_setup').path


@pytest.mark.parametrize(
    ('dataset', 'label', 'name'),
    [
        ('ntu60', 0, 'A001 drink water'),
        ('ntu60', 6, 'A007 throw'),
        ('ntu60', 59, 'A060 walk apart'),
        ('ntu60', 60, 'A061'),  # there is none
        ('ntu120', 60, 'A061 put on headphones'),
        ('ntu120', 119, 'A120 rock-paper-scissors'),
        ('irds', 8, 'A009 side tap left'),
        ('pku2', 6, 'A007'),
        ('custom', 6, 'A007'),
    ],
)
def test_names_of_classes(tmp_path, dataset, label, name):
    data = Data(tmp_path, dataset, DATASETS[dataset].protocols[0])
    assert data.class_name(label) == name


def test_every_class_has_a_name_of_its_own():
    for dataset, names in CLASS_NAMES.items():
        classes = DATASETS[dataset].classes if dataset in DATASETS else 10
        assert len(set(names)) == len(names) == classes
    assert CLASS_NAMES['nwucla'][-1] == 'A012 carry'  # action 12, the tenth class


@pytest.mark.parametrize(
    ('numbers', 'text'),
    [
        ([], ''),
        ([4], '4'),
        ([1, 2], '1-2'),
        ([1, 2, 3, 7], '1-3 7'),
        ([0, 2, 3, 5, 8, 9], '0 2-3 5 8-9'),
    ],
)
def test_number_ranges(numbers, text):
    assert number_ranges(numbers) == text


def test_who_performs_a_clip(tmp_path):
    """By the name, or by the manifest; of all clips or of none."""
    data = Data(tmp_path, 'custom', 'own_split')
    data.path.mkdir(parents=True)
    ntu = ['S001C002P003R001A004.skeleton', 'S001C002P013R001A004']
    assert data.performers(ntu) == [3, 13]
    assert data.performers([*ntu, 'A01N01-L.txt_0']) is None
    part = manifest.split_summary([], [], [], [])
    manifest.write(data.path, parts={'val': part}, performers={'a.npy': 'Ann', 'b.npy': 'Bo'})
    assert data.performers(['b.npy', 'a.npy', 'b.npy']) == ['Bo', 'Ann', 'Bo']
    assert data.performers(['b.npy', 'c.npy']) is None
