"""The demo recordings: complete raw files that every protocol can use, and the same files from the
same seed.
"""

import subprocess
import sys

import numpy as np
import pytest

from data_gen import demo_recordings
from data_gen.demo_recordings import write_recordings
from data_gen.protocols import DATASETS, Name
from data_gen.skeleton import read_xyz


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    assert write_recordings(folder, performers=6, classes=3) == 6 * 3 * 3
    return folder


def names(folder):
    return sorted(Name.parse(path.stem) for path in folder.glob('*.skeleton'))


def test_every_protocol_has_both_splits(folder):
    assert len(names(folder)) == 54
    for dataset in DATASETS.values():
        for benchmark in set(dataset.counts) & {'xsub', 'xview', 'xsetup'}:
            if dataset.preparable:
                assert {dataset.trains(name, benchmark) for name in names(folder)} == {True, False}
                assert all(map(dataset.holds, names(folder)))


def test_recordings_are_people_in_front_of_a_camera(folder):
    num_bodies = set()
    for path in folder.glob('*.skeleton'):
        xyz = read_xyz(path)
        assert 60 <= xyz.shape[1] <= 110
        main = xyz[..., 0][:, xyz[..., 0].any((0, 2))]
        assert 1.2 < np.median(np.ptp(main[1], 1)) < 2.3  # metres from head to foot
        assert 1.5 < main[2].mean() < 5
        num_bodies.add(1 + xyz[..., 1].any())
    assert num_bodies == {1, 2}  # some actions are for two people


def test_the_sensor_loses_people(folder):
    """Some recordings have frames without anybody; in some the second body comes late."""
    empty = late = 0
    for path in folder.glob('*.skeleton'):
        seen = read_xyz(path).any((0, 2))  # (T, 2)
        empty += not seen.any(1).all()
        late += seen.any(0).all() and not seen[0].all() and seen[-1].all()
    assert 0 < empty < 10
    assert 0 < late < 10


def test_the_noise_is_a_real_sensor_s(tmp_path):
    """Of a body that does not move at all: below a millimetre on the trunk, more at the finger
    tips.
    """
    standing = demo_recordings.forward_kinematics(
        demo_recordings.draw_bones(np.random.default_rng(0)), np.zeros((200, 25, 3))
    )[None]
    path = tmp_path / 'S001C001P001R001A001.skeleton'
    path.write_text(
        demo_recordings.film(standing, 0, np.random.default_rng(0), np.random.default_rng(0))
    )
    xyz = read_xyz(path)[..., 0]
    noise = xyz[:, xyz.any((0, 2))].std(1).mean(0)  # (25,) in metres
    assert 0 < noise[demo_recordings.TRUNK].mean() < 0.001 < noise[[21, 22, 23, 24]].mean() < 0.003


def test_performers_have_their_own_proportions():
    trunk, arms, legs = np.array(
        [
            [
                np.linalg.norm(bones[part], axis=1).sum()
                for part in (demo_recordings.TRUNK, demo_recordings.ARMS, demo_recordings.LEGS)
            ]
            for bones in (
                demo_recordings.draw_bones(np.random.default_rng(seed)) for seed in range(20)
            )
        ]
    ).T
    for ratio in (arms / trunk, legs / trunk):
        assert 0.8 < ratio.min() / ratio.max() < 0.97


def test_the_seed_decides(folder, tmp_path):
    for seed, same in ((0, True), (1, False)):
        write_recordings(tmp_path / str(seed), seed=seed, performers=6, classes=3)
        assert same == all(
            path.read_bytes() == (tmp_path / str(seed) / path.name).read_bytes()
            for path in folder.iterdir()
        )


def test_cameras_see_one_performance_from_three_sides(folder):
    one, two, three = (
        read_xyz(folder / f'S001C00{camera}P001R001A024.skeleton') for camera in (1, 2, 3)
    )
    assert one.shape == two.shape == three.shape
    assert not np.allclose(one, two, atol=0.3)
    # how high the kicking foot is does not depend on the camera
    height = [xyz[1, :, 18, 0] - xyz[1, :, 16, 0] for xyz in (one, two, three)]
    seen = np.all([xyz[..., 0].any((0, 2)) for xyz in (one, two, three)], 0)
    assert np.corrcoef([line[seen] for line in height]).min() > 0.5


@pytest.mark.parametrize(
    'command', [['-m', 'data_gen.demo_recordings'], [demo_recordings.__file__]]
)
def test_the_command(command, folder, tmp_path, pytestconfig):
    flags = ['--out', tmp_path, '--performers', '3', '--classes', '1', '--replications', '2']
    subprocess.run([sys.executable, *command, *flags], cwd=pytestconfig.rootpath, check=True)
    assert len(names(tmp_path)) == 3 * 1 * 2 * 3
    name = 'S001C001P001R001A001.skeleton'
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    'flags', [[], ['--performers', '2'], ['--classes', '13'], ['--seed', '-1']]
)
def test_a_mistake_is_one_line(flags, tmp_path, mistake):
    assert '--' in mistake(demo_recordings.main, ['--out', tmp_path, *flags] if flags else [])


def test_other_files_are_left_alone(tmp_path, mistake):
    (tmp_path / 'mine.txt').write_text('mine')
    assert 'not empty' in mistake(demo_recordings.main, ['--out', tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']
