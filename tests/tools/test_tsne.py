"""The t-SNE figure: the same clips for each panel, numbers by hand, and what the picture keeps to."""
import json
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch

from model.umurl import UmURL
from tools import checkpoint, features, tsne, tsne_figure

LABELS = np.repeat([0, 1, 2, 3], 15)


def write_features(path, labels=LABELS, train_labels=LABELS, seed=0, width=6, **about):
    """Features of noise, of each class round a direction of its own."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (61, width))
    train, val = ((centres[these] + rng.normal(0, 0.3, (len(these), width))).astype(np.float32)
                  for these in (train_labels, labels))
    with open(path, 'wb') as file:
        np.savez(file, train=train, train_labels=train_labels, val=val, val_labels=labels, about=json.dumps(about))
    return path


@pytest.fixture
def made(tmp_path):
    """made(name, …): see write_features; in a folder of its own."""
    return lambda name='a.npz', **more: write_features(tmp_path / name, **more)


@pytest.fixture
def drawn(monkeypatch):
    """What was given to tsne_figure.write, in place of a figure: a list of (panels, numbers, names)."""
    calls = []
    monkeypatch.setattr(tsne_figure, 'write', lambda path, *what: calls.append(what) or [path])
    return calls


def run(*argv):
    tsne.main(['--perplexity', '5', '--device', 'cpu', *map(str, argv)])


def test_both_files_and_the_same_bytes_again(made, tmp_path, capsys):
    sources = made('a.npz'), made('b.npz', seed=1)
    for name in ('one.png', 'two.pdf', 'three'):
        run(*sources, '--classes', 3, '--out', tmp_path / 'made' / name)
    folder = tmp_path / 'made'
    assert sorted(path.name for path in folder.iterdir()) == [
        'one.pdf', 'one.png', 'three.pdf', 'three.png', 'two.pdf', 'two.png']
    for suffix, magic in (('.png', b'\x89PNG'), ('.pdf', b'%PDF')):
        first, *others = (folder.joinpath(name + suffix).read_bytes() for name in ('one', 'two', 'three'))
        assert first.startswith(magic)
        assert others == [first, first]
    assert 't-SNE of 45 test clips of 3 classes, ntu60 cross_view' in capsys.readouterr().out


def test_the_same_clips_in_each_panel(made, drawn, monkeypatch):
    embedded = []
    monkeypatch.setattr(tsne, 'embed', lambda values, *_: embedded.append(values) or values[:, :2])
    paths = [made(f'{name}.npz', seed=seed, width=width) for name, seed, width in (('a', 0, 6), ('b', 1, 4))]
    run(*paths, '--classes', 2, '--max-per-class', 8, '--seed', 3, '--out', 'figure')
    panels, numbers, names = drawn[0]
    classes, shown = tsne.draw_clips(LABELS, LABELS, Namespace(seed=3, classes=2, max_per_class=8, perplexity=5))
    assert [panel.title for panel in panels] == ['a', 'b']
    assert names == [f'A{label + 1:03d}' for label in classes]
    assert classes[numbers].tolist() == LABELS[shown].tolist()
    for path, values in zip(paths, embedded, strict=True):
        with np.load(path) as kept:
            wanted = kept['val'][shown]
        np.testing.assert_allclose(values, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-5)


def test_clips_drawn():
    labels = np.array([7] * 12 + [5] * 3 + [2] * 12 + [9] * 12)
    every, draws = set(), set()
    for seed in range(30):
        args = Namespace(seed=seed, classes=2, max_per_class=6, perplexity=4)
        classes, shown = tsne.draw_clips(labels, np.array([2, 5, 7, 7]), args)  # 9 has no training clip
        again = tsne.draw_clips(labels, np.array([2, 5, 7, 7]), args)
        assert (classes.tolist(), shown.tolist()) == tuple(part.tolist() for part in again)
        assert classes[0] < classes[1]
        assert [(labels[shown] == label).sum() for label in classes] == [min(6, (labels == c).sum()) for c in classes]
        assert len(set(shown.tolist())) == len(shown)
        every.add(tuple(classes.tolist()))
        draws.add(tuple(shown.tolist()))
    assert every == {(2, 5), (2, 7), (5, 7)}
    assert len(draws) > 25


def rays(*degrees):
    """Unit vectors (N, 2)."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack((angles.cos(), angles.sin()), 1).float()


def test_accuracy_by_hand():
    train, train_labels = rays(0, 10, 50, 52, 90), torch.tensor([0, 0, 2, 1, 1])
    val, val_labels = rays(4, 36, 51, 89, 70), torch.tensor([0, 1, 2, 1, 0])
    data = features.Features(train, train_labels, val, val_labels)
    # classes 0 and 1: 4 -> 0 right, 36 -> 52 right (not 50: class 2 is not shown), 89 -> 90 right, 70 -> 52 wrong
    assert tsne.accuracy(data, np.array([0, 1]), np.array([0, 1, 3, 4]), 'val') == 75
    assert tsne.accuracy(data, np.array([0, 1]), np.array([0, 3]), 'val') == 100
    # training clips among themselves: 0 and 10 find each other, 52 finds 90 and 90 finds 52
    assert tsne.accuracy(data, np.array([0, 1]), np.array([0, 1, 3, 4]), 'train') == 100
    # with class 2 in between: 50 and 52 find each other, 90 finds 52
    assert tsne.accuracy(data, np.array([0, 1, 2]), np.array([0, 1, 2, 3, 4]), 'train') == 60


def test_accuracy_in_blocks(monkeypatch):
    data = features.Features(rays(0, 90), torch.tensor([0, 1]), rays(1, 2, 3, 88, 4), torch.tensor([0, 0, 1, 1, 0]))
    for size in (1, 2, 3, 1024):
        monkeypatch.setattr(tsne, 'CLIPS_AT_ONCE', size)
        assert tsne.accuracy(data, np.array([0, 1]), np.arange(5), 'val') == 80


def test_silhouette_by_hand():
    values, labels = rays(0, 20, 80, 90, 60).numpy(), np.array([0, 0, 1, 1, 1])
    distance = 1 - values.astype(float) @ values.T
    scores = []
    for clip, label in enumerate(labels):
        own = [distance[clip, other] for other in range(5) if labels[other] == label and other != clip]
        far = [distance[clip, other] for other in range(5) if labels[other] != label]
        scores.append((np.mean(far) - np.mean(own)) / max(np.mean(far), np.mean(own)))
    assert tsne.silhouette(values, labels) == pytest.approx(np.mean(scores), abs=1e-5)


def test_points_are_the_same_each_time_and_keep_neighbours():
    rng = np.random.default_rng(0)
    values = (np.repeat(np.eye(3, 80), 20, 0) * 5 + rng.normal(0, 0.1, (60, 80))).astype(np.float32)
    points = tsne.embed(values, 5, 0)
    assert points.shape == (60, 2)
    np.testing.assert_array_equal(points, tsne.embed(values.copy(), 5, 0))
    distance = np.square(points[:, None] - points).sum(2) + np.diag(np.full(60, np.inf))
    assert (distance.argmin(1) // 20 == np.arange(60) // 20).all()


def test_checkpoints_beside_their_features(padded_arrays, tmp_path, drawn, capsys):
    """The x-view arrays without being asked for; a panel of a checkpoint is that of the features saved from it."""
    folder = tmp_path / 'data' / 'NTU-RGB-D-60-AGCN' / 'xview'
    padded_arrays(folder, train=9, val=18)
    (tmp_path / 'run').mkdir()
    torch.manual_seed(0)
    model, path = UmURL(150, 192, 8), tmp_path / 'run' / 'checkpoint_0009.pth.tar'
    checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 10)
    kept = tmp_path / 'kept.npz'
    flags = ['--data-root', tmp_path / 'data', '--modalities', 'joint', '--device', 'cpu']
    args = tsne.parse([str(word) for word in (path, '--out', 'x', *flags)])
    data = tsne.read(path, '', args, torch.device('cpu')).data
    with open(kept, 'wb') as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in data._asdict().items()})
    run(path, kept, *flags, '--out', tmp_path / 'figure')
    (one, other), _, names = drawn[0]
    assert (one.title, other.title) == ('run', 'kept')
    assert (one.accuracy, one.silhouette) == pytest.approx((other.accuracy, other.silhouette))
    assert names == ['A001', 'A002', 'A003']
    said = capsys.readouterr()
    assert 'note: there are only 3 classes' in said.err
    assert 'ntu60 cross_view' in said.out

    run(path, *flags, '--part', 'train', '--perplexity', 3, '--titles', 'On the training part', '--out', 'x')
    (panel,), numbers, _ = drawn[1]
    assert panel.title == 'On the training part'
    assert len(numbers) == 9


def test_names_of_the_classes_are_the_manifests(made, drawn, tmp_path):
    folder = tmp_path / 'custom' / 'split'
    folder.mkdir(parents=True)
    made_of = {'parts': {}, 'class_names': ['wave', 'kick', 'sit', 'run']}
    folder.joinpath('manifest.json').write_text(json.dumps(made_of))
    run(made(dataset='custom', protocol='own_split'), '--data-root', tmp_path, '--classes', 4, '--out', 'x')
    assert drawn[0][2] == ['wave', 'kick', 'sit', 'run']


def test_each_class_looks_different():
    count = 40
    looks = set()
    figure = tsne_figure.draw([panel(count)], np.arange(count), [str(number) for number in range(count)])
    for dots in figure.axes[0].collections:
        looks.add((dots.get_facecolor()[0, :3].round(3).tobytes(), dots.get_paths()[0].vertices.tobytes()))
    assert len(looks) == count
    for column in range(2):  # of ten classes no two share a colour, or a marker
        assert len({look[column] for look in looks}) == 10


def panel(points, title='UmURL'):
    return tsne_figure.Panel(title, np.random.default_rng(0).normal(0, 1, (points, 2)), 50.0, 0.1)


@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_panels_are_equal_and_nothing_is_covered(count):
    import matplotlib
    names = ['_hidden', '$no^^formula$', 'a name that is far too long for the legend of a single column of a paper'] * 4
    with matplotlib.rc_context(tsne_figure.STYLE):
        figure = tsne_figure.draw([panel(24, 'a rather long title, $a^^b$')] * count, np.arange(24) % 12, names)
        figure.draw_without_rendering()
    boxes = [ax.get_window_extent() for ax in figure.axes[:count]]
    for box in boxes:
        assert box.width == pytest.approx(box.height, abs=0.5)
        assert box.width == pytest.approx(boxes[0].width, abs=0.5)
        assert box.width > 130  # pixels, of 100 an inch
    (legend,) = figure.legends
    assert [text.get_text().replace('\n', ' ') for text in legend.get_texts()] == names
    extent = legend.get_window_extent()
    assert extent.y1 <= min(ax.get_tightbbox().y0 for ax in figure.axes[:count]) + 0.5
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width and extent.y0 >= 0


BAD = [
    (['none.npz'], 'no such checkpoint or .npz file'),
    (['.'], 'a folder, not a checkpoint'),
    (['text.npz'], 'not an .npz of'),
    (['text.pth.tar'], 'is not a'),
    (['a.npz', 'other.npz'], 'other is of other clips than a'),
    (['a.npz', '--classes', 1], '1 is not a whole number from 2'),
    (['a.npz', '--perplexity', 60], '60 clips of 4 classes are too few for --perplexity 60'),
    (['a.npz', '--max-per-class', 2], '8 clips of 4 classes are too few for --perplexity 30'),
    (['one_class.npz'], '1 class has both training and test clips'),
    (['same.npz', '--perplexity', 5], 'same: the features of all clips are the same'),
    (['a.npz', '--titles', 'A', 'B'], '2 titles for 1 panels'),
    (['a.npz', '--out', 'figure.svg'], 'name a file, FILE.png'),
    (['a.npz', '--out', '.'], 'name a file, FILE.png'),
    (['small.pth.tar', '--data-root', 'nowhere'], 'NTU-RGB-D-60-AGCN/xview is not there'),
    (['small.pth.tar', '--protocol', 'cross_setup'], 'ntu60 has no protocol cross_setup')]


@pytest.fixture
def bad_files(made, tmp_path, monkeypatch):
    """The files that BAD names, in the working folder."""
    monkeypatch.chdir(tmp_path)
    made()
    made('other.npz', labels=LABELS[::-1].copy())
    made('one_class.npz', labels=LABELS * 0)
    for name in ('text.npz', 'text.pth.tar'):
        tmp_path.joinpath(name).write_text('text')
    np.savez('same.npz', train=np.ones((60, 4)), train_labels=LABELS, val=np.ones((60, 4)), val_labels=LABELS)
    model = UmURL(150, 192, 2)
    checkpoint.save('small.pth.tar', model, torch.optim.Adam(model.parameters()), 0)


@pytest.mark.parametrize(('argv', 'message'), BAD, ids=[message for _, message in BAD])
def test_a_mistake_is_one_line(bad_files, mistake, argv, message):
    assert message in mistake(tsne.main, [*argv, *([] if '--out' in argv else ['--out', 'x']), '--device', 'cpu'])


def test_without_matplotlib(made, mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    assert 'matplotlib cannot be imported' in mistake(tsne.main, [made(), '--out', 'x'])
