"""Two results compared: by hand, with clips that are alike within a performer, and as a user runs
it.
"""

import json

import numpy as np
import pytest

from tools.analysis import compare

RNG = np.random.default_rng(0)
PERFORMERS = np.repeat(np.arange(10), 40).tolist()
FILES = ['one.json', 'other.json']


def test_mcnemar_by_hand():
    """Only the first is right 5 times, only the second never: two-sided p = 2 / 2^5."""
    first, second = np.array([1, 1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1, 0], bool)
    lines = compare.compare(FILES, first, second, None)
    assert lines[0].startswith('accuracy 85.71 and 14.29 %, difference +71.43 points, 7 test clips')
    assert 'only one.json is right 5 times, only other.json 0 times, p = 0.062' in lines[1]
    assert lines[2].startswith(
        'They do not differ beyond chance (at the 5 % level, by clip alone: fewer than two performers'
    )
    assert 'p = 1' in compare.compare(FILES, first, first, None)[1]


def test_clips_of_one_performer_are_no_evidence():
    """The second fails on all clips of one performer only: McNemar's test is sure of a difference,
    but over-reads.
    """
    first, second = np.ones(400, bool), np.arange(400) >= 40
    lines = compare.compare(FILES, first, second, PERFORMERS)
    assert 'p = 1.8e-12' in lines[1]
    assert 'interval +0.00 to ' in lines[2]
    assert lines[3] == (
        'They do not differ beyond chance (at the 5 % level, by clip and by 10 performers, which '
        'are few).'
    )


@pytest.mark.parametrize(('swap', 'winner'), [(False, 'one.json'), (True, 'other.json')])
def test_a_difference_in_all_performers_counts(swap, winner):
    encoders = [RNG.random(400) < share for share in (0.9, 0.5)]
    lines = compare.compare(FILES, *encoders[:: -1 if swap else 1], PERFORMERS)
    assert lines[-1].startswith(f'They differ: {winner} is better (at the 5 % level, ')


def test_few_clips_are_no_evidence_either():
    """Each of 5 performers gains one clip: the interval is sure, McNemar's test is not (p = 2 / 2^5)."""
    performers = np.repeat(np.arange(5), 20).tolist()
    first, second = np.ones(100, bool), np.arange(100) % 20 > 0
    lines = compare.compare(FILES, first, second, performers)
    assert 'p = 0.062' in lines[1]
    assert 'interval +5.00 to +5.00' in lines[2]
    assert lines[3].startswith('They do not differ beyond chance')


def test_twenty_performers_are_not_few():
    lines = compare.compare(FILES, *np.ones((2, 40), bool), np.repeat(np.arange(20), 2).tolist())
    assert lines[-1].endswith('by clip and by 20 performers).')


def test_the_interval_is_paired():
    """Both right on the same clips: each interval is wide, that of the difference has no width."""
    hits = np.repeat(np.arange(10) < 5, 40)
    assert 'interval +0.00 to +0.00' in compare.compare(FILES, hits, hits.copy(), PERFORMERS)[2]


@pytest.fixture
def write(tmp_path):
    def write(name, **changes):
        record = {
            'labels': [0, 1, 1],
            'predictions': [0, 1, 0],
            'val_names': list('abc'),
            'performers': [1, 1, 2],
        }
        record = {key: value for key, value in (record | changes).items() if value is not None}
        (tmp_path / name).write_text(json.dumps(record))
        return tmp_path / name

    return write


def test_from_files(write, tmp_path, capsys):
    old = write(
        'old.json', val_names=None, performers=None
    )  # written before results knew their clips
    compare.main([str(write('a.json', predictions=[0, 1, 1])), str(old)])
    out = capsys.readouterr().out
    assert 'accuracy 100.00 and 66.67 %, difference +33.33 points' in out
    assert 'by 2 performers' in out
    compare.main([str(old), str(tmp_path / 'a.json')])
    assert 'by 2 performers' in capsys.readouterr().out
    compare.main([str(old), str(old)])
    assert 'by clip alone' in capsys.readouterr().out


def test_different_tasks_are_named(write, capsys):
    one = write('a.json', task='linear probe')
    other = write('b.json', task='k-NN retrieval')
    compare.main([str(one), str(other)])
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f'different tasks: {one} is of linear probe, {other} of k-NN retrieval'
    compare.main([str(one), str(one)])
    assert 'different tasks' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'labels': [0, 1, 0]}, 'has other test clips'),
        ({'val_names': ['a', 'b', 'd']}, 'has other test clips'),
        ({'predictions': None}, 'not a results file of a single run'),
        (None, 'no such file'),
    ],
)
def test_what_cannot_be_compared(write, mistake, tmp_path, changes, message):
    other = tmp_path / 'none.json' if changes is None else write('b.json', **changes)
    line = mistake(compare.main, [write('a.json'), other])
    assert message in line
    assert str(other) in line
