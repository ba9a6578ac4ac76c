"""Scores by hand; the interval against a bootstrap over clips."""

import csv

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from tools import scores

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 3])
PREDICTIONS = torch.tensor([0, 0, 3, 1, 1, 3, 3])


def test_summary_by_hand():
    made = scores.accuracy_summary(PREDICTIONS, LABELS, 4)
    assert made['accuracy'] == pytest.approx(400 / 7)
    assert made['class_accuracy'] == [50, 50, None, 100]
    assert made['mean_class_accuracy'] == pytest.approx(200 / 3)
    assert made['predictions'] is PREDICTIONS
    assert made['accuracy_interval'][0] < made['accuracy'] < made['accuracy_interval'][1]


def test_the_interval_is_that_of_resampled_clips():
    rng = np.random.default_rng(1)
    hits = np.arange(400) < 280
    resampled = [100 * rng.choice(hits, len(hits)).mean() for _ in range(4000)]
    assert scores.interval(280, 400) == pytest.approx(
        np.percentile(resampled, (2.5, 97.5)).tolist(), abs=0.5
    )


def test_the_interval_of_nothing_or_all_correct():
    """Zero hits in n trials: the upper end is where (1 - p)^n = 2.5 %."""
    end = 100 * (1 - 0.025 ** (1 / 9))
    assert scores.interval(0, 9) == pytest.approx([0, end])
    assert scores.interval(9, 9) == pytest.approx([100 - end, 100])


@pytest.mark.parametrize('num_clips', [1, 7, 411, 16487])
def test_the_interval_is_that_of_the_binomial_test(num_clips):
    for correct in {0, 1, num_clips // 3, num_clips - 1, num_clips}:
        expected = [100 * end for end in binomtest(correct, num_clips).proportion_ci()]
        assert scores.interval(correct, num_clips) == pytest.approx(expected, abs=1e-9)


def test_classification_by_hand():
    logits = torch.tensor([[5.0, 4, 3, 2, 1, 0, -1], [0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0]])
    summary = scores.classification_summary(logits, torch.tensor([0, 2, 6]), 7)
    assert summary['accuracy'] == pytest.approx(100 / 3)
    assert summary['top5_accuracy'] == pytest.approx(200 / 3)
    assert summary['predictions'].tolist() == [0, 6, 0]
    assert scores.accuracy(logits, torch.tensor([0, 2, 6])) == pytest.approx(100 / 3)


def test_the_interval_by_performer_is_that_of_resampled_performers():
    """Against one resample at a time. Clips alike within a performer make it much wider than the
    one by clip.
    """
    rng = np.random.default_rng(3)
    performers = rng.integers(0, 12, 600)
    hits = rng.random(600) < np.linspace(0.4, 1, 12)[performers]
    clips = [hits[performers == performer] for performer in range(12)]
    resampled = [
        100 * np.concatenate([clips[each] for each in rng.integers(0, 12, 12)]).mean()
        for _ in range(4000)
    ]
    made = scores.bootstrap_interval(hits, [f'P{performer}' for performer in performers])
    assert made == pytest.approx(np.percentile(resampled, (2.5, 97.5)).tolist(), abs=1.5)
    assert made == scores.bootstrap_interval(hits, performers.tolist())
    low, high = scores.interval(int(hits.sum()), 600)
    assert made[1] - made[0] > 1.5 * (high - low)


@pytest.mark.parametrize(
    ('performers', 'why'),
    [
        (None, 'the performers are not known'),
        ([], 'the performers are not known'),
        ([4] * 7, 'the test clips are of one performer'),
    ],
)
def test_without_several_performers_the_interval_is_by_clip_alone(performers, why):
    made = scores.accuracy_summary(PREDICTIONS, LABELS, 4, performers)
    assert made['performer_interval'] is None
    assert scores.with_interval(made).endswith(f'by clip alone: {why})')
    made |= {'performer_interval': [1, 2], 'num_performers': 20}
    assert scores.with_interval(made).endswith('by clip, 1.00 to 2.00 by 20 performers)')
    made |= {'num_performers': 19}
    assert scores.with_interval(made).endswith('2.00 by 19 performers, which are few)')


def test_calibration_by_hand():
    """Confidences 0.5 (right), 0.5 (wrong) and 0.9 (right): |0.5 - 0.5| * 2 / 3 + |0.9 - 1| / 3."""
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.05, 0.05, 0.9]]).log()
    made = scores.classification_summary(logits, torch.tensor([0, 0, 2]), 3)
    assert made['calibration_error'] == pytest.approx(100 * 0.1 / 3, abs=1e-5)
    assert made['nll'] == pytest.approx(-np.log([0.5, 0.25, 0.9]).mean(), abs=1e-6)
    wrong = scores.calibration_error(torch.tensor([[100.0, 0]] * 4), torch.tensor([1, 1, 1, 0]))
    assert wrong == pytest.approx(75)


def test_best_seen_is_the_first_of_equals():
    assert scores.best_seen({5: 10.0, 10: 30.0, 15: 30.0}) == {
        'best_accuracy': 30,
        'best_epoch': 10,
    }


def test_mean_and_deviation():
    assert scores.mean_std([1.0, 2.0, 6.0]) == pytest.approx((3, 7**0.5))
    assert scores.mean_std([5.0]) == (5, 0)


def test_per_class_file(tmp_path):
    scores.write_per_class(
        tmp_path / 'c.csv', LABELS, PREDICTIONS, 4, ['sit, down', 'wave', 'kick', 'fall']
    )
    with open(tmp_path / 'c.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row.values()) for row in rows] == [
        ('0', 'sit, down', '4', '2', '50.00', 'wave'),
        ('1', 'wave', '2', '1', '50.00', 'fall'),
        ('2', 'kick', '0', '0', '', ''),
        ('3', 'fall', '1', '1', '100.00', ''),
    ]


def test_per_class_file_without_names(tmp_path):
    scores.write_per_class(tmp_path / 'c.csv', torch.tensor([1, 1]), torch.tensor([0, 0]), 2)
    assert (tmp_path / 'c.csv').read_text().split()[1:] == ['0,A001,0,0,,', '1,A002,2,0,0.00,A001']


def test_table():
    summary = scores.accuracy_summary(PREDICTIONS, LABELS, 4)
    row = {'modalities': 'joint+bone', 'mAP': None, 'per class': 1 / 3} | summary
    head, line = scores.table([row], {'mAP': 'mAP', 'mean': 'per class'}).splitlines()
    assert head.split() == ['modalities', 'accuracy', '95', '%', 'by', 'clip', 'mAP', 'mean']
    low, high = row['accuracy_interval']
    assert line.split() == ['joint+bone', '57.14', f'{low:.2f}', 'to', f'{high:.2f}', '-', '0.33']
    assert len(head) == len(line)


def test_long_names_leave_the_columns_in_line():
    summary = scores.accuracy_summary(PREDICTIONS, LABELS, 4)
    names = ('joint', 'joint+bone+motion', 'joint+bone+motion+acceleration')
    rows = [{'modalities': name, 'mAP': None} | summary for name in names]
    head, *lines = scores.table(rows, {'mAP': 'mAP'}).splitlines()
    assert {len(line) for line in lines} == {len(head)}
    assert {line.index(' 57.14 ') for line in lines} == {head.index('accuracy') + 2}


def test_rows_without_predictions():
    assert list(scores.without_predictions([{'predictions': 1, 'accuracy': 2}])) == [
        {'accuracy': 2}
    ]
