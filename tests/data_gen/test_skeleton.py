"""Reading: the recorded recordings, a naive reader, and files that are not whole."""

import re
from itertools import count

import numpy as np
import pytest

from data_gen.skeleton import SkeletonError, read_recording, read_xyz
from tools.common.cli import InputError


def naive_read(path):
    """(3, T, 25, 2), read as the syntax is worded."""
    lines = iter(path.read_text().splitlines())
    xyz = np.zeros((4, int(next(lines)), 25, 3))
    for frame in range(xyz.shape[1]):
        for slot in range(int(next(lines))):
            next(lines)
            for joint in range(int(next(lines))):
                fields = next(lines).split()
                if slot < 4:
                    xyz[slot, frame, joint] = [float(field) for field in fields[:3]]
    energy = []
    for body in xyz:
        seen = [frame for frame in body if frame.sum() != 0]
        energy.append(
            sum(np.std([frame[:, axis] for frame in seen]) for axis in range(3)) if seen else 0
        )
    liveliest = sorted(range(4), key=lambda slot: -energy[slot])[:2]
    return xyz[liveliest].transpose(3, 1, 2, 0)


def test_recorded_recordings(reference, recorded):
    files = recorded('data_gen')['files']
    assert len(files) == 16
    for index, name in enumerate(files):
        np.testing.assert_allclose(
            read_xyz(reference / 'raw' / name),
            recorded('data_gen')[f'xyz_{index}'],
            rtol=0,
            atol=1e-6,
            err_msg=name,
        )


@pytest.mark.parametrize(
    'frames',
    [[1], [1] * 5, [2, 1, 0, 3], [0, 0, 2, 2], [5, 6, 4], [0, 1, 0, 1, 0], [1, 3, 3, 3]],
    ids=str,
)
def test_equals_a_naive_reader(tmp_path, write_skeleton, frames):
    path = tmp_path / 'recording'
    write_skeleton(path, frames)
    assert (read_xyz(path) == naive_read(path)).all()


def test_liveliest_two_slots_of_the_first_four(tmp_path, write_skeleton):
    scales = np.array([0.1, 3, 0.2, 2, 50])  # the fifth is never kept
    bodies = np.random.default_rng(0).normal(0, 1, (6, 5, 25, 3)) * scales[:, None, None]
    write_skeleton(tmp_path / 'recording', [list(frame) for frame in bodies])
    assert (read_xyz(tmp_path / 'recording') == bodies[:, [1, 3]].transpose(3, 0, 2, 1)).all()


def test_energy_leaves_empty_frames_out(tmp_path, write_skeleton):
    rng = np.random.default_rng(0)
    near, far = (
        rng.normal(1, 0.5, (6, 25, 3)),
        rng.normal(9, 0.1, (6, 25, 3)),
    )  # far jumps from 0 to 9, but is still
    write_skeleton(
        tmp_path / 'recording', [[near[t], far[t]] if t % 2 else [near[t]] for t in range(6)]
    )
    assert (read_xyz(tmp_path / 'recording')[..., 0] == near.transpose(2, 0, 1)).all()


def test_body_ids_do_not_matter(tmp_path, write_skeleton):
    write_skeleton(tmp_path / 'recording', [2] * 4)
    ids = count()
    text = (tmp_path / 'recording').read_text()
    (tmp_path / 'other').write_text(re.sub(r'(?m)^\d{17} ', lambda _: f'{next(ids)} ', text))
    assert next(ids) == 8
    assert (read_xyz(tmp_path / 'other') == read_xyz(tmp_path / 'recording')).all()


@pytest.mark.parametrize(
    'change',
    [lambda text: text.replace('\n', '\r\n'), str.rstrip, lambda text: text + '\n\n'],
    ids=['windows lines', 'no last newline', 'blank lines at the end'],
)
def test_line_endings_do_no_harm(tmp_path, write_skeleton, change):
    write_skeleton(tmp_path / 'recording', [1, 2])
    (tmp_path / 'other').write_bytes(change((tmp_path / 'recording').read_text()).encode())
    assert (read_xyz(tmp_path / 'other') == read_xyz(tmp_path / 'recording')).all()


def test_no_body_at_all(tmp_path, write_skeleton):
    write_skeleton(tmp_path / 'recording', [0, 0, 0])
    with pytest.raises(SkeletonError, match='no body'):
        read_xyz(tmp_path / 'recording')


def test_cut_off_after_any_line(tmp_path, write_skeleton):
    path = tmp_path / 'recording'
    write_skeleton(path, [1, 2])
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 + 3 * 27
    for kept in range(len(lines)):
        path.write_text(''.join(lines[:kept]))
        with pytest.raises(SkeletonError, match='line'):
            read_xyz(path)


@pytest.mark.parametrize(
    ('line', 'text', 'reason'),
    [
        (1, 'three', 'number of frames'),
        (1, '-3', 'number of frames'),
        (2, '', 'number of bodies'),
        (2, '1.0', 'number of bodies'),
        (4, '24', '25 joints, not 24'),
        (4, '1 2', 'number of joints'),
        (5, 'nan 0 0', 'finite'),
        (9, '0 inf 0', 'finite'),
        (29, '1.5 x 2', 'finite'),
        (12, '1.0 2.0', 'finite'),
    ],
)
def test_a_wrong_line_is_named(tmp_path, write_skeleton, line, text, reason):
    path = tmp_path / 'recording'
    write_skeleton(path, [1, 2])
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text('\n'.join(lines))
    with pytest.raises(SkeletonError, match=f'line {line}: .*{reason}'):
        read_xyz(path)


def test_not_a_text_file(tmp_path):
    (tmp_path / 'recording').write_bytes(bytes(range(256)))
    with pytest.raises(SkeletonError, match='line 1: expected the number of frames'):
        read_xyz(tmp_path / 'recording')
    with pytest.raises(SkeletonError, match='cannot be read'):
        read_xyz(tmp_path / 'none')


def test_an_array_is_called_one(tmp_path):
    np.save(tmp_path / 'wave.npy', np.zeros((9, 25, 3)))
    with pytest.raises(InputError, match=r'wave\.npy: an array, not .*: give the array itself'):
        read_recording(tmp_path / 'wave.npy')


def test_a_byte_order_mark_is_passed_over(tmp_path, write_skeleton):
    path = tmp_path / 'a.skeleton'
    write_skeleton(path, [1, 2, 1])
    before = read_xyz(path)
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    np.testing.assert_array_equal(read_xyz(path), before)
