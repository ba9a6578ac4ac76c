"""Two results compared: by hand, with clips that are alike within a performer, and as a user runs
it.
"""

import json

import numpy as np
import pytest

from tools.analysis import compare

RNG = np.random.default_rng(0)
PERFORMERS = np.repeat(np.arange(10), 40).tolist()


def test_mcnemar_by_hand():
    """Only the first is right 5 times, only the second never: two-sided p = 2 / 2^5."""
    first, second = np.array([1, 1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1, 0], bool)
    lines = compare.compare(first, second, None)
    assert lines[0].startswith('accuracy 85.71 and 14.29 %, difference +71.43 points, 7 test clips')
    assert 'only the first is right 5 times, only the second 0 times, p = 0.062' in lines[1]
    assert lines[2].startswith(
        'They do not differ beyond chance (by clip alone, since the performers are not known'
    )
    assert 'p = 1' in compare.compare(first, first, None)[1]


def test_clips_of_one_performer_are_no_evidence():
    """The second fails on all clips of one performer only: McNemar's test is sure of a difference,
    but over-reads.
    """
    first, second = np.ones(400, bool), np.arange(400) >= 40
    lines = compare.compare(first, second, PERFORMERS)
    assert 'p = 1.8e-12' in lines[1]
    assert 'interval +0.00 to ' in lines[2]
    assert lines[3] == 'They do not differ beyond chance (by 10 performers, at the 5 % level).'


@pytest.mark.parametrize(('swap', 'winner'), [(False, 'first'), (True, 'second')])
def test_a_difference_in_all_performers_counts(swap, winner):
    encoders = [RNG.random(400) < share for share in (0.9, 0.5)]
    lines = compare.compare(*encoders[:: -1 if swap else 1], PERFORMERS)
    assert lines[-1] == f'They differ: the {winner} is better (by 10 performers, at the 5 % level).'


def test_the_interval_is_paired():
    """Both right on the same clips: each interval is wide, that of the difference has no width."""
    hits = np.repeat(np.arange(10) < 5, 40)
    assert 'interval +0.00 to +0.00' in compare.compare(hits, hits.copy(), PERFORMERS)[2]


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


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'labels': [0, 1, 0]}, 'has other test clips'),
        ({'val_names': ['a', 'b', 'd']}, 'has other test clips'),
        ({'predictions': None}, 'not a results file of a single run'),
        (None, 'not a results file'),
    ],
)
def test_what_cannot_be_compared(write, mistake, tmp_path, changes, message):
    other = tmp_path / 'none.json' if changes is None else write('b.json', **changes)
    line = mistake(compare.main, [write('a.json'), other])
    assert message in line
    assert str(other) in line
