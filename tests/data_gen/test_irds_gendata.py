"""The IntelliRehabDS command: made files of the published form, against counts and splits by hand."""

import pickle

import numpy as np
import pytest

from data_gen import irds_gendata
from data_gen.preprocess import pre_normalization
from tools.reproduce.stages import NAMES

# Each file's name without .txt, in string order, and what it becomes; None: left out.
FILES = {
    '101_18_0_10_1_stand': 'P001R001A001',  # 10 before 2: in string order
    '101_18_0_2_2_stand': 'P001R002A001',
    '101_18_0_3_3_stand': None,  # poor
    '101_18_0_4_1_chair': 'P001R003A001',
    '101_18_8_1_1_stand-frame': 'P001R001A009',
    '103_18_8_4_1_stand': 'P003R001A009',
    '207_18_4_1_2_chair': 'P014R001A005',
    '209_18_4_1_2_wheelchair': 'P015R001A005',
    '217_18_1_1_1_stand': 'P023R001A002',
    '301_18_6_1_1_stand': 'P024R001A007',
    '307_18_7_1_1_stand': 'P030R001A008',
}
STRAY = ['208_18_0_1_1_stand.txt', '101_18_9_1_1_stand.txt', '101_18_0_1_4_stand.txt', 'ReadMe.md']
TRAIN = [1, 14, 15]  # of NTU-60's training performers


@pytest.fixture
def raw(tmp_path):
    """The made folder: 4 to 14 frames each, the second file 601."""
    folder, rng = tmp_path / 'Simplified', np.random.default_rng(0)
    folder.mkdir()
    for number, name in enumerate(FILES):
        frames = rng.normal(1, 0.5, (601 if number == 1 else 4 + number, 75))
        np.savetxt(folder / f'{name}.txt', frames, '%.6f', delimiter=',')
    for name in STRAY:
        (folder / name).write_text('1,2\n')
    return folder


@pytest.fixture
def prepare(raw, tmp_path):
    """prepare(): run the command on the made files; the folder of the arrays."""

    def command():
        out = tmp_path / 'out'
        flags = ['--data_path', raw, '--out_folder', out, '-j', 1]
        assert irds_gendata.main(list(map(str, flags))) == 0
        return out / 'xsub'

    return command


def expected(split):
    """(names, labels, files) of a split, in the order of the new names."""
    wanted = []
    for file, name in FILES.items():
        if name and (int(name[1:4]) in TRAIN) == (split == 'train'):
            wanted.append((f'S001C001{name}.skeleton', int(name[-3:]) - 1, file))
    return [list(column) for column in zip(*sorted(wanted), strict=True)]


@pytest.mark.parametrize('split', ['train', 'val'])
def test_names_labels_splits_and_coordinates(prepare, raw, split):
    folder = prepare()
    names, labels, files = expected(split)
    assert pickle.loads((folder / f'{split}_label.pkl').read_bytes()) == (names, labels)
    data = np.load(folder / f'{split}_data_joint.npy')
    lengths = np.load(folder / f'{split}_num_frame.npy')
    for clip, length, file in zip(data, lengths, files, strict=True):
        frames = np.loadtxt(raw / f'{file}.txt', delimiter=',')
        if len(frames) == 601:
            frames = frames[np.linspace(0, 600, 300).round().astype(int)]
        assert length == len(frames)
        xyz = np.zeros((1, 3, length, 25, 2))
        xyz[0, ..., 0] = frames.reshape(length, 25, 3).transpose(2, 0, 1)
        np.testing.assert_allclose(clip[:, :length], pre_normalization(xyz)[0], atol=1e-6)


def test_what_is_left_out_is_said(prepare, capsys):
    prepare()
    lines = capsys.readouterr().out.splitlines()
    assert '1 recording left out: poor, by the label of its authors' in lines
    skipped = {line.split('/')[-1] for line in lines if 'not named as published' in line}
    assert skipped == {f'{name}: skipped, not named as published' for name in STRAY}


def test_unusable_files_are_skipped_with_the_line(prepare, raw, capsys):
    path = raw / '101_18_0_10_1_stand.txt'
    path.write_text(path.read_text() + '1,2,nan\n')
    (raw / '301_18_6_1_1_stand.txt').write_text(','.join('0' * 75) + '\n')
    (raw / '307_18_7_1_1_stand.txt').write_text('')
    prepare()
    out = capsys.readouterr().out
    assert f'{path}: line 5: not 75 finite numbers within 100 m' in out
    assert '301_18_6_1_1_stand.txt: all coordinates are zero' in out
    assert '307_18_7_1_1_stand.txt: line 1: not 75 finite' in out


def test_the_other_folder_is_refused_in_one_line(mistake, raw, tmp_path):
    for path in raw.iterdir():
        path.write_text('Version0.1\n4092,(SpineBase,Tracked,0.1,0.2,2.4,250,210)\n')
    flags = ['--data_path', raw, '--out_folder', tmp_path / 'out']
    assert 'the folder Simplified, not RawData' in mistake(irds_gendata.main, flags)
    assert not (tmp_path / 'out').exists()


def test_a_missing_folder_is_named(mistake):
    assert '/none: no such folder' in mistake(irds_gendata.main, ['--data_path', '/none'])


def test_its_tables_follow():
    assert NAMES['irds_xsub'] == ('irds', 'cross_subject')
