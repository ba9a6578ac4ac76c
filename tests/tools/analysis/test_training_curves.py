"""Training curves: what is drawn of each run, and mistakes."""

import json

import pytest

from tools.analysis import training_curves


@pytest.fixture
def log(tmp_path):
    """log(name, epochs, …): a run's folder; epochs: from, to; more numbers {name: every how many
    epochs}.
    """

    def write(name, first=0, end=3, **more):
        lines = [{'command': [], 'config': {}}]
        lines += [
            {'epoch': epoch, 'total': 10.0 - epoch, 'lr': 1e-3}
            | {each: 50.0 for each, every in more.items() if epoch % every == 0}
            for epoch in range(first, end)
        ]
        (tmp_path / name).mkdir()
        (tmp_path / name / 'log.jsonl').write_text(
            ''.join(json.dumps(line) + '\n' for line in lines)
        )
        return tmp_path / name

    return write


def test_drawn(log, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(
        training_curves.drawing, 'save', lambda path, figure: figures.append(figure)
    )
    runs = [log('a', end=30, knn=10), log('b') / 'log.jsonl']
    training_curves.main([*map(str, runs), '--out', str(tmp_path / 'out')])
    total, knn = figures[0].axes
    assert (total.get_title(), knn.get_title()) == ('total', 'knn')
    assert [line.get_xydata().tolist() for line in total.lines] == [
        [[epoch, 10 - epoch] for epoch in range(end)] for end in (30, 3)
    ]
    assert [line.get_xdata().tolist() for line in knn.lines] == [[0, 10, 20], []]
    assert [text.get_text() for text in figures[0].legends[0].texts] == ['a', 'b']
    styles = [(line.get_color(), line.get_linestyle()) for line in total.lines]
    assert styles[0][0] != styles[1][0]
    assert styles[0][1] != styles[1][1]
    training_curves.main(
        [*map(str, runs), '--out', str(tmp_path / 'out'), '--numbers', 'lr', '--titles', 'x', 'y']
    )
    assert [ax.get_title() for ax in figures[1].axes] == ['lr']
    assert [text.get_text() for text in figures[1].legends[0].texts] == ['x', 'y']


def test_files_are_written(log, tmp_path):
    training_curves.main([str(log('a')), '--out', str(tmp_path / 'new' / 'curves')])
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == [
        'curves.pdf',
        'curves.png',
    ]


def test_bad_input_is_one_line(log, tmp_path, mistake):
    rest = ['--out', tmp_path / 'out']
    assert 'there is no number in these logs named totl; some that are there: total' in mistake(
        training_curves.main, [log('a'), '--numbers', 'totl', *rest]
    )
    assert 'is not a log.jsonl' in mistake(training_curves.main, [tmp_path / 'none', *rest])
    assert 'is not a log.jsonl' in mistake(training_curves.main, [__file__, *rest])
    assert 'no epoch is finished' in mistake(training_curves.main, [log('b', end=0), *rest])
    assert '2 titles for 1 runs' in mistake(
        training_curves.main, [tmp_path / 'a', '--titles', 'x', 'y', *rest]
    )
