"""The demo recordings: whole raw files that every protocol can use, the same again from the same seed."""
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


def test_every_protocol_has_both_parts(folder):
    assert len(names(folder)) == 54
    for dataset in DATASETS.values():
        for benchmark in set(dataset.benchmarks) & {'xsub', 'xview', 'xsetup'}:
            if dataset.setups:
                assert {dataset.trains(name, benchmark) for name in names(folder)} == {True, False}
                assert all(map(dataset.holds, names(folder)))


def test_recordings_are_people_in_front_of_a_camera(folder):
    bodies = set()
    for path in folder.glob('*.skeleton'):
        xyz = read_xyz(path)
        assert 50 <= xyz.shape[1] <= 120
        main = xyz[..., 0][:, xyz[..., 0].any((0, 2))]
        assert 1.2 < np.median(np.ptp(main[1], 1)) < 2.3  # metres from head to foot
        assert 1.5 < main[2].mean() < 5
        bodies.add(bool(xyz[..., 1].any()))
    assert bodies == {True, False}  # some actions are for two


def test_the_seed_decides(folder, tmp_path):
    for seed, same in ((0, True), (1, False)):
        write_recordings(tmp_path / str(seed), seed=seed, performers=6, classes=3)
        assert same == all(path.read_bytes() == (tmp_path / str(seed) / path.name).read_bytes()
                           for path in folder.iterdir())


def test_cameras_see_one_performance_from_three_sides(folder):
    one, two, three = (read_xyz(folder / f'S001C00{camera}P001R001A024.skeleton') for camera in (1, 2, 3))
    assert one.shape == two.shape == three.shape
    assert not np.allclose(one, two, atol=0.3)
    # how high the kicking foot is does not depend on the camera
    height = [xyz[1, :, 18, 0] - xyz[1, :, 16, 0] for xyz in (one, two, three)]
    seen = np.all([xyz[..., 0].any((0, 2)) for xyz in (one, two, three)], 0)
    assert np.corrcoef([line[seen] for line in height]).min() > 0.5


@pytest.mark.parametrize('flags', [[], ['--performers', '2'], ['--classes', '13'], ['--seed', '-1']])
def test_a_mistake_is_one_line(flags, tmp_path, mistake):
    assert '--' in mistake(demo_recordings.main, ['--out', tmp_path, *flags] if flags else [])
