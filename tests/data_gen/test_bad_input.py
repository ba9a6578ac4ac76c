"""Damaged recordings: each is read right or refused by its line, within a time and a memory, and
without a warning.
"""

import random
import re
import signal
import tracemalloc
import warnings
from contextlib import contextmanager

import numpy as np
import pytest

from data_gen import manifest
from data_gen.preprocess import normalize
from data_gen.reader import SplitReader
from data_gen.skeleton import SkeletonError, read_xyz

NUMBER = r'\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?=\s|\Z)'
TOKENS = (
    '-1',
    '0',
    '1',
    '2',
    '24',
    '26',
    '99999',
    '1000000000',
    '9' * 5000,
    '1.0',
    '-0',
    '1e400',
    '-1e308',
    '1e5',
    'nan',
    'inf',
    '1_0',
    '0x10',
    '\xb2',
    '\xe9',
    '',
    '\0',
    'three',
    '1,5',
    '1e',
    '.',
)


@pytest.fixture
def recording(tmp_path, write_skeleton):
    """recording(frames, seed=0): the bytes of a recording; frames: the number of its random bodies
    in each frame.
    """

    def make(frames, seed=0):
        write_skeleton(tmp_path / 'recording', frames, seed)
        return (tmp_path / 'recording').read_bytes()

    return make


@pytest.fixture
def read(tmp_path):
    """read(content): what read_xyz makes of these bytes, or its SkeletonError; in time, in memory,
    without warning.
    """

    def run(content):
        path = tmp_path / 'file'
        path.unlink(missing_ok=True)  # much quicker than writing over it
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with warnings.catch_warnings(), within(seconds=60):
                warnings.simplefilter('error')
                found = read_xyz(path)
        except SkeletonError as error:
            found = error
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 1e6 + 30 * len(content) + 1.5 * getattr(found, 'nbytes', 0)
        return found

    return run


@contextmanager
def within(seconds):
    """Fail what takes longer."""

    def late(*_):
        raise AssertionError(f'it took more than {seconds} s')

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(content):
    """(3, T, 25, 2) by the letter of the syntax, or None for what is not a whole recording."""
    lines = re.split('\r\n|\r|\n', content.decode('latin-1'))
    bodies, energy, cursor = {}, [0] * 4, 1
    try:
        frames = whole(lines[0])
        for frame in range(frames):
            count, cursor = whole(lines[cursor]), cursor + 1
            for slot in range(count):
                assert whole(lines[cursor + 1]) == 25
                cursor += 27
                if slot < 4:
                    last = cursor - 1
                    bodies[slot, frame] = np.array(
                        [joint(lines[row]) for row in range(cursor - 25, cursor)]
                    )
                assert cursor <= len(lines)
        assert bodies
        assert frames <= 100_000
        assert last < len(lines) - 1 or len(lines[last].split()) >= len(lines[last - 1].split())
    except (AssertionError, IndexError):
        return None
    for slot in range(4):
        seen = [body for (place, _), body in bodies.items() if place == slot and body.sum() != 0]
        energy[slot] = np.std(seen, (0, 1)).sum() if seen else 0
    xyz = np.zeros((4, frames, 25, 3))
    for place, body in bodies.items():
        xyz[place] = body
    return xyz[sorted(range(4), key=lambda slot: (energy[slot], slot))[:1:-1]].transpose(3, 1, 2, 0)


def whole(line):
    assert re.fullmatch(r'\s*[0-9]{1,12}\s*', line)
    return int(line.strip())


def joint(line):
    match = re.match(3 * NUMBER, line)
    assert match
    numbers = [float(part) for part in match.groups()]
    assert all(abs(value) < 1e6 for value in numbers)
    return numbers


def agree(found, content):
    """Whether what was read is what the judge reads, or a refusal of what he refuses, by a line of
    the file.
    """
    expected = judge(content)
    if isinstance(found, SkeletonError):
        line = re.match(r'line (\d+): .{5,80}$', str(found))
        lines = len(re.split(b'\r\n|\r|\n', content))
        return expected is None and (
            str(found) == 'no body in any frame' or 1 <= int(line[1]) <= lines
        )
    return expected is not None and found.dtype == float and np.array_equal(found, expected)


def put(content, line, token):
    """Replace a line (from 1) of a recording."""
    lines = content.split(b'\n')
    lines[line - 1] = token.encode('latin-1')
    return b'\n'.join(lines)


# Lines of [1, 2] (bodies in each frame): 1 frames; 2 bodies, 3 body, 4 joints, 5-29 joints; 30
# bodies, 31 body, …, 84.
@pytest.mark.parametrize(
    ('line', 'token', 'says'),
    [
        (1, '3', 'line 85: the file ends early'),
        (1, '1000000000', 'line 1: 1000000000 frames'),
        (1, '-2', 'line 1: exp'),
        (1, '\xb2', 'line 1: expected'),
        (1, '2\0', 'line 1: expected'),
        (1, '', 'line 1: expected'),
        (2, '999999999', 'line 31: expected the number of joints'),
        (2, '-1', 'line 2: expected'),
        (2, '0', 'line 3: exp'),
        (2, '9' * 5000, 'line 2: expected'),
        (30, 'two', 'line 30: expected the number of bodies'),
        (30, '3', 'line 85: the file ends early'),
        (4, '1000000', 'line 4: a body has 25'),
        (4, '2_5', 'line 4: exp'),
        (4, '-25', 'line 4: expected'),
        (4, '25 25', 'line 4: expected'),
        (5, '1e400 1 1', 'line 5: x y z'),
        (5, '1e308 1 1', 'line 5: x y z'),
        (6, 'nan 1 1', 'line 6: x y z'),
        (7, '1 -inf 1', 'line 7: x y z'),
        (8, '1_0 1 1', 'line 8: x y z'),
        (9, '1 \xb2 1', 'line 9: x y z'),
        (10, '1 1', 'line 10: x y z'),
        (11, '1 1 1\0', 'line 11: x y z'),
        (12, '', 'line 12: x y z'),
        (13, '1,5 1,5 1,5', 'line 13: x y z'),
        (84, '9' * 10**6 + ' 1 1', 'line 84: x y z'),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_wrong_line(recording, read, line, token, says):
    content = put(recording([1, 2]), line, token)
    assert judge(content) is None
    assert str(read(content)).startswith(says)


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'line 1: the file ends early'),
        (bytes(1000), 'line 1: expected'),
        (b'2', 'line 1: the file ends early'),
        (b'\xef\xbb\xbf1\n', 'line 2: the file ends early'),
        ('1\n1\n'.encode('utf-16'), 'line 1: expected'),
        (b'0\n', 'no body'),
        (b'1\n0\n', 'no body'),
        (b'1\n1\nbody\n25\n' + b'\n' * 26, 'line 5: x y z'),
        (b'1000000\n' + b'0\n' * 10**6, 'line 1: 1000000 frames'),
        (b'2\n' + b'0' * 10**6, 'line 2: expected'),
    ],
    ids=lambda value: str(value)[:20],
)
def test_not_a_recording(read, content, says):
    assert str(read(content)).startswith(says)


@pytest.mark.parametrize(
    'change',
    [
        lambda content: content.replace(b'\n', b'\r\n'),
        lambda content: content.replace(b'\n', b'\r'),
        lambda content: content + b'4\n\0 left over, whatever it is\n',
        lambda content: put(content, 3, 'J\xe9r\xf4me \0'),
        lambda content: put(content, 4, ' 25\t'),
        lambda content: put(content, 3, 'x' * 10**6),
    ],
    ids=[
        'CRLF',
        'CR',
        'lines left over',
        'latin-1 and NUL in the line of a body',
        'spaces',
        'a huge line',
    ],
)
def test_read_all_the_same(recording, read, change):
    content = recording([1, 2])
    assert np.array_equal(read(change(content)), judge(content))


def test_cut_at_any_byte(recording, read):
    content = recording([1])
    for size in range(len(content) - 1):  # the last byte is a line end
        assert re.match(r'line \d+: ', str(read(content[:size])))


def test_long_recordings_need_no_more_than_their_array(recording, read):
    """The frames without a body are half of a long recording's text, but all of its array."""
    body = recording([1]).split(b'\n', 1)[1]
    assert read(b'20000\n' + body + b'0\n' * 19999).shape == (3, 20000, 25, 2)
    assert read(b'100000\n' + body + b'0\n' * 99999).shape == (3, 100000, 25, 2)
    assert isinstance(read(b'100001\n' + body + b'0\n' * 100000), SkeletonError)


def test_a_folder(tmp_path):
    with pytest.raises(SkeletonError, match='cannot be read'):
        read_xyz(tmp_path)


def mutate(content, rng, most=3):
    """A recording with one or more damages, of any kind."""
    for _ in range(rng.randint(1, most)):
        content = rng.choice((damage_bytes, damage_lines, damage_a_number, damage_a_number, cut))(
            content, rng
        )
    return content


def damage_bytes(content, rng):
    """Some bytes flipped, deleted or inserted."""
    place, size = rng.randrange(len(content) + 1), rng.randint(1, 8)
    change = rng.choice(('flip', 'delete', 'insert'))
    if change == 'flip' and place < len(content):
        return (
            content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
        )
    middle = rng.randbytes(size) if change == 'insert' else b''
    return content[:place] + middle + content[place + (size if change == 'delete' else 0) :]


def damage_lines(content, rng):
    """A line dropped, doubled, or in the place of another."""
    lines = content.split(b'\n')
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.choice(('drop', 'double', 'swap'))
    if change == 'swap':
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one : one + 1] = [lines[one]] * (0 if change == 'drop' else 2)
    return b'\n'.join(lines)


def damage_a_number(content, rng):
    """A token in the place of one of the numbers; every other time of one that stands alone, a
    count.
    """
    pattern = rb'(?m)^[0-9]+$' if rng.random() < 0.5 else rb'[^\s]+'
    places = [match.span() for match in re.finditer(pattern, content)] or [(0, 0)]
    first, last = rng.choice(places)
    return content[:first] + rng.choice(TOKENS).encode('latin-1') + content[last:]


def cut(content, rng):
    return content[: rng.randrange(len(content) + 1)]


def test_two_thousand_mutants(recording, read):
    rng = random.Random(0)
    bases = [recording(frames) for frames in ([1, 2], [0, 1, 0, 1], [5], [1, 1, 0])]
    good = 0
    for number in range(2000):
        content = mutate(bases[number % len(bases)], rng)
        found = read(content)
        assert agree(found, content), (number, found)
        good += not isinstance(found, SkeletonError)
    assert 200 < good < 1000  # both ways are much gone


def test_mutants_from_end_to_end(recording, tmp_path, prepare_xsub, capsys):
    """Every file is in the arrays, as it reads, or among those skipped."""
    rng, folder, readable = random.Random(1), tmp_path / 'raw', {}
    folder.mkdir()
    for number in range(60):
        name = f'S001C001P00{rng.randint(1, 3)}R001A{number + 1:03d}.skeleton'
        content = mutate(recording([1, 2], number), rng, most=1)
        (folder / name).write_bytes(content)
        if (xyz := judge(content)) is not None:
            readable[name] = xyz
    (folder / 'S001C001P001R002A001.skeleton').mkdir()
    xsub = prepare_xsub(folder, 'padded', workers=2)

    kept = []
    for split in ('train', 'val'):
        reader = SplitReader(xsub, split)
        for row, name in zip(reader.data, reader.names, strict=True):
            assert np.array_equal(row, normalize(readable[name]))
        kept += reader.names
    skipped = manifest.read(xsub)['skipped']
    assert sorted(kept) == sorted(readable)
    assert sorted([*kept, *skipped]) == sorted(path.name for path in folder.iterdir())
    assert 10 < len(kept) < 50
    listed = [line for line in capsys.readouterr().out.splitlines() if line.startswith('  /')]
    assert len(listed) == len(skipped)
