"""The confusion matrix: counts and orders by hand, and what is drawn at 3 and at 120 classes."""

import json

import numpy as np
import pytest

from tools.analysis import confusion, drawing


def test_counts_and_worst_by_hand():
    classes, counts = confusion.count([7, 7, 7, 7, 2, 2, 5], [7, 2, 2, 9, 2, 7, 5])
    assert classes.tolist() == [2, 5, 7, 9]
    assert counts.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [2, 0, 1, 1], [0, 0, 0, 0]]
    assert confusion.shares(counts)[3].tolist() == [0, 0, 0, 0]  # no clips
    assert set(confusion.worst(counts)[:2]) == {(0, 2), (2, 0)}
    assert confusion.worst(counts)[2:] == [(2, 3)]


def test_classes_taken_for_each_other_are_side_by_side():
    rng, counts = np.random.default_rng(0), 60 * np.eye(30, dtype=int)
    pairs = rng.permutation(30).reshape(15, 2)
    counts[pairs[:, 0], pairs[:, 1]] = counts[pairs[:, 1], pairs[:, 0]] = 30
    place = np.argsort(confusion.by_confusion(counts))
    assert sorted(place) == list(range(30))
    assert (np.abs(place[pairs[:, 0]] - place[pairs[:, 1]]) == 1).all()


@pytest.mark.parametrize('number', [3, 120])
def test_drawn(number):
    counts = 8 * np.eye(number, dtype=int)
    counts[1, 0] = 2
    names = [f'class {label}' for label in range(number - 1)] + [
        'a name that is much too long for the side'
    ]
    figure = confusion.draw(counts, names)
    figure.draw_without_rendering()
    matrix, bars, _ = figure.axes
    assert [tick.get_text() for tick in matrix.get_yticklabels()[:-1]] == names[:-1]
    assert matrix.get_yticklabels()[-1].get_text() == 'a name that is much too long …'
    assert [bar.get_width() for bar in bars.patches] == [100, 80] + (number - 2) * [100]
    assert [text.get_text() for text in matrix.texts] == (
        ['100', '20', '80', '100'] if number == 3 else []
    )
    boxes = [tick.get_window_extent() for tick in matrix.get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_command(tmp_path, capsys):
    path = tmp_path / 'results.json'
    path.write_text(
        json.dumps({'labels': [0, 0, 1], 'predictions': [0, 1, 1], 'class_names': ['sit', 'stand']})
    )
    confusion.main([str(path), '--out', str(tmp_path / 'matrix.png')])
    assert 'sit taken for stand: 1 of 2 clips' in capsys.readouterr().out
    assert {'matrix.png', 'matrix.pdf'} < {file.name for file in tmp_path.iterdir()}


def test_bad_input_is_one_line(tmp_path, mistake):
    path = tmp_path / 'results.json'
    for record, message in (
        ({'labels': [1, 1], 'predictions': [1, 1]}, 'only one class'),
        ({}, 'not a results file'),
        ({'accuracy': 1.0}, 'not a results file'),
    ):
        path.write_text(json.dumps(record))
        assert message in mistake(confusion.main, [path, '--out', tmp_path / 'out'])


def test_characters_that_the_font_lacks_are_one_note(tmp_path, capsys, recwarn):
    figure = confusion.draw(np.array([[3, 1], [0, 4]]), ['坐下', '站起'])
    drawing.save(tmp_path / 'confusion', figure)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert 'note: the font has no 下 坐 站 起 and draws boxes' in said[0]
    assert not recwarn.list
    figure = confusion.draw(np.array([[3, 1], [0, 4]]), ['sit', 'stand'])
    drawing.save(tmp_path / 'confusion', figure)
    assert capsys.readouterr().err == ''
