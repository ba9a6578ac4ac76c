"""The t-SNE figure: the same clips in each panel, numbers by hand, and the picture's layout."""

import json

import numpy as np
import pytest
import torch

from data_gen.class_names import CLASS_NAMES
from data_gen.protocols import Data
from model.umurl import UmURL
from tools import checkpoint
from tools.analysis import drawing, tsne
from tools.evaluation.feature_files import Features
from tools.evaluation.features import Extraction

LABELS = np.repeat([0, 1, 2, 3], 15)


def write_features(path, labels=LABELS, train_labels=LABELS, seed=0, width=6, **about):
    """Features of noise, each class around a direction of its own."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (61, width))
    train, val = (
        (centres[these] + rng.normal(0, 0.3, (len(these), width))).astype(np.float32)
        for these in (train_labels, labels)
    )
    with open(path, 'wb') as file:
        np.savez(
            file,
            train=train,
            train_labels=train_labels,
            val=val,
            val_labels=labels,
            about=json.dumps(about),
        )
    return path


@pytest.fixture
def features_file(tmp_path):
    """features_file(name, …): see write_features; in a folder of its own."""
    return lambda name='a.npz', **more: write_features(tmp_path / name, **more)


@pytest.fixture
def drawn(monkeypatch):
    """What tsne.draw got, which draws nothing: a list of (panels, classes, names)."""
    calls = []
    monkeypatch.setattr(tsne, 'draw', lambda *what: calls.append(what))
    monkeypatch.setattr(drawing, 'save', lambda *_: None)
    return calls


def run(*argv):
    tsne.main(['--perplexity', '5', '--device', 'cpu', *map(str, argv)])


def test_both_files_and_the_same_bytes_again(features_file, tmp_path, capsys):
    sources = features_file('a.npz'), features_file('b.npz', seed=1)
    folder = tmp_path / 'new'
    for name in ('one.png', 'two.pdf', 'three'):
        run(*sources, '--classes', 3, '--out', folder / name)
    assert sorted(path.name for path in folder.iterdir()) == [
        'one.pdf',
        'one.png',
        'three.pdf',
        'three.png',
        'two.pdf',
        'two.png',
    ]
    for suffix, magic in (('.png', b'\x89PNG'), ('.pdf', b'%PDF')):
        first, *others = (
            folder.joinpath(name + suffix).read_bytes() for name in ('one', 'two', 'three')
        )
        assert first.startswith(magic)
        assert others == [first, first]
    shown = capsys.readouterr().out
    assert '--classes 4 shows all classes\nt-SNE of 45 test clips of 3 of 4 classes, ntu60' in shown


def test_the_same_clips_in_each_panel(features_file, drawn, monkeypatch):
    embedded = []
    monkeypatch.setattr(tsne, 'embed', lambda values, *_: embedded.append(values) or values[:, :2])
    paths = [
        features_file(f'{name}.npz', seed=seed, width=width)
        for name, seed, width in (('a', 0, 6), ('b', 1, 4))
    ]
    run(*paths, '--classes', 2, '--max-per-class', 8, '--seed', 3, '--out', 'figure')
    panels, numbers, names, _ = drawn[0]
    classes, shown = tsne.draw_clips(LABELS, LABELS, 2, 8, 3)
    assert [title for title, _, _ in panels] == ['a', 'b']
    assert names == [CLASS_NAMES['ntu60'][label] for label in classes]
    assert classes[numbers].tolist() == LABELS[shown].tolist()
    for path, values in zip(paths, embedded, strict=True):
        with np.load(path) as kept:
            wanted = kept['val'][shown]
        np.testing.assert_allclose(
            values, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-5
        )


def test_clips_drawn():
    labels = np.array([7] * 12 + [5] * 3 + [2] * 12 + [9] * 12)
    every, draws = set(), set()
    for seed in range(30):
        classes, shown = tsne.draw_clips(
            labels, np.array([2, 5, 7, 7]), 2, 6, seed
        )  # 9 has no training clip
        again = tsne.draw_clips(labels, np.array([2, 5, 7, 7]), 2, 6, seed)
        assert (classes.tolist(), shown.tolist()) == tuple(part.tolist() for part in again)
        assert classes[0] < classes[1]
        assert [(labels[shown] == label).sum() for label in classes] == [
            min(6, (labels == c).sum()) for c in classes
        ]
        assert len(set(shown.tolist())) == len(shown)
        every.add(tuple(classes.tolist()))
        draws.add(tuple(shown.tolist()))
    assert every == {(2, 5), (2, 7), (5, 7)}
    assert len(draws) > 25


def rays(*degrees):
    """Unit vectors (N, 2)."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack((angles.cos(), angles.sin()), 1).float()


def accuracy(data, classes, shown, split):
    caption = tsne.separation(data, split, np.array(classes), np.array(shown))
    return float(caption.removeprefix('k-NN ').split(' %')[0])


def test_accuracy_by_hand():
    train, train_labels = rays(0, 10, 50, 52, 90), torch.tensor([0, 0, 2, 1, 1])
    val, val_labels = rays(4, 36, 51, 89, 70), torch.tensor([0, 1, 2, 1, 0])
    data = Features(train, train_labels, val, val_labels)
    # classes 0 and 1: 4 -> 0 right, 36 -> 52 right (not 50: class 2 is not shown), 89 -> 90 right,
    # 70 -> 52 wrong
    assert accuracy(data, [0, 1], [0, 1, 3, 4], 'val') == 75
    assert accuracy(data, [0, 1], [0, 1, 3], 'val') == 100
    # training clips among themselves: 0 and 10 find each other, 52 finds 90 and 90 finds 52
    assert accuracy(data, [0, 1], [0, 1, 3, 4], 'train') == 100
    # with class 2 in between: 50 and 52 find each other, 90 finds 52
    assert accuracy(data, [0, 1, 2], [0, 1, 2, 3, 4], 'train') == 60


def test_a_copy_of_a_training_clip_is_its_neighbour():
    data = Features(rays(0, 0, 90, 90), torch.tensor([0, 1, 0, 1]), rays(0), torch.tensor([0]))
    assert accuracy(data, [0, 1], [0, 1, 2, 3], 'train') == 0


def test_silhouette_by_hand():
    values, labels = rays(0, 20, 80, 90, 60).numpy(), np.array([0, 0, 1, 1, 1])
    distance = 1 - values.astype(float) @ values.T
    scores = []
    for clip, label in enumerate(labels):
        own = [
            distance[clip, other] for other in range(5) if labels[other] == label and other != clip
        ]
        far = [distance[clip, other] for other in range(5) if labels[other] != label]
        scores.append((np.mean(far) - np.mean(own)) / max(np.mean(far), np.mean(own)))
    data = Features(
        rays(0, 90), torch.tensor([0, 1]), torch.from_numpy(values), torch.from_numpy(labels)
    )
    caption = tsne.separation(data, 'val', np.array([0, 1]), np.arange(5))
    assert caption.endswith(f'silhouette {np.mean(scores):.3f}')


def test_points_are_the_same_each_time_and_keep_neighbours():
    rng = np.random.default_rng(0)
    values = (np.repeat(np.eye(3, 80), 20, 0) * 5 + rng.normal(0, 0.1, (60, 80))).astype(np.float32)
    points = tsne.embed(values, 5, 0, 'title')
    assert points.shape == (60, 2)
    np.testing.assert_array_equal(points, tsne.embed(values.copy(), 5, 0, 'title'))
    distance = np.square(points[:, None] - points).sum(2) + np.diag(np.full(60, np.inf))
    assert (distance.argmin(1) // 20 == np.arange(60) // 20).all()


def test_checkpoints_beside_their_features(padded_arrays, tmp_path, drawn, capsys):
    """The panel of a checkpoint is that of the features saved from it."""
    folder = tmp_path / 'data' / 'NTU-RGB-D-60-AGCN' / 'xsub'
    padded_arrays(folder, train=9, val=18)
    (tmp_path / 'run').mkdir()
    torch.manual_seed(0)
    model, path = UmURL(150, 192, 8), tmp_path / 'run' / 'checkpoint_0009.pth.tar'
    checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 10)
    saved = tmp_path / 'saved.npz'
    arrays = Data(tmp_path / 'data', 'ntu60', 'cross_subject')
    data = tsne.read_features(path, ('joint',), arrays, Extraction(torch.device('cpu'), None, 64))
    with open(saved, 'wb') as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in data._asdict().items()})
    flags = ['--data-root', tmp_path / 'data', '--modalities', 'joint']
    run(path, saved, *flags, '--out', tmp_path / 'figure')
    ((title, _, caption), (other_title, _, other_caption)), _, names, _ = drawn[0]
    assert (title, other_title) == ('run', 'saved')
    assert caption == other_caption
    assert names == ['A001 drink water', 'A002 eat meal', 'A003 brush teeth']
    assert 't-SNE of 18 test clips of 3 classes, ntu60 cross subject' in capsys.readouterr().out

    run(
        path,
        *flags,
        '--split',
        'train',
        '--perplexity',
        3,
        '--titles',
        'On the training split',
        '--out',
        'x',
    )
    ((title, points, _),), classes, _, _ = drawn[1]
    assert title == 'On the training split'
    assert len(points) == len(classes) == 9


def test_a_file_says_what_it_is_of_and_the_manifest_names_the_classes(
    features_file, drawn, tmp_path, capsys
):
    folder = tmp_path / 'custom' / 'split'
    folder.mkdir(parents=True)
    folder.joinpath('manifest.json').write_text(
        json.dumps({'parts': {}, 'class_names': ['wave', 'kick', 'sit', 'run']})
    )
    about = {'dataset': 'custom', 'protocol': 'own_split', 'modalities': ['bone']}
    run(features_file(**about), '--data-root', tmp_path, '--classes', 4, '--out', 'x')
    assert drawn[0][2] == ['wave', 'kick', 'sit', 'run']
    assert 'custom own split' in capsys.readouterr().out


def test_the_first_encoder_sets_the_data_and_the_others_are_transfer(
    padded_arrays, tmp_path, drawn, capsys
):
    padded_arrays(tmp_path / 'data' / 'NTU-RGB-D-120-AGCN' / 'xsetup', train=9, val=18)
    model = UmURL(150, 192, 8)
    configs = {
        'first': {'dataset': 'ntu120', 'protocol': 'cross_setup', 'objective': 'umurl'},
        'second': {'dataset': 'ntu60', 'protocol': 'cross_view', 'objective': 'umurl'},
    }
    for name, config in configs.items():
        (tmp_path / name).mkdir()
        path = tmp_path / name / 'checkpoint_0009.pth.tar'
        optimizer = torch.optim.Adam(model.parameters())
        config = config | {'modalities': ['joint', 'bone', 'motion']}
        checkpoint.save(path, model, optimizer, 10, config=config)
    folders = [tmp_path / name for name in configs]
    run(*folders, '--data-root', tmp_path / 'data', '--out', tmp_path / 'figure')
    panels, _, _, about = drawn[0]
    assert [title for title, _, _ in panels] == ['first', 'second']
    assert about == '18 test clips of 3 classes, ntu120 cross setup'
    said = capsys.readouterr().out
    assert said.count('is the newest checkpoint in') == 2
    assert said.count('transfer:') == 1
    assert 'transfer: pre-trained on ntu60 cross_view, evaluated on ntu120 cross_setup' in said


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--perplexity', 60], 'note: --perplexity 19, not 60: there are 60 clips\n'),
        (['--max-per-class', 2], 'note: --perplexity 2, not 30: there are 8 clips\n'),
        (['--perplexity', 5], ''),
    ],
)
def test_perplexity_is_lowered_to_the_clips(features_file, drawn, capsys, flags, said):
    path = features_file(dataset='ntu60', protocol='cross_subject')
    tsne.main([*map(str, [path, *flags]), '--out', 'x', '--device', 'cpu'])
    assert capsys.readouterr().err == said


def test_each_class_has_a_style_of_its_own():
    count = 40
    styles = set()
    figure = tsne.draw(
        [panel(count)], np.arange(count), [str(number) for number in range(count)], ''
    )
    for dots in figure.axes[0].collections:
        styles.add(
            (dots.get_facecolor()[0, :3].round(3).tobytes(), dots.get_paths()[0].vertices.tobytes())
        )
    assert len(styles) == count
    for column in range(2):  # of ten classes no two share a colour, or a marker
        assert len({style[column] for style in styles}) == 10


def panel(points, title='UmURL'):
    return (
        title,
        np.random.default_rng(0).normal(0, 1, (points, 2)),
        'k-NN 50.0 %, silhouette 0.100',
    )


@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_panels_are_equal_and_nothing_is_covered(count):
    import matplotlib

    names = [
        '_hidden',
        '$no^^formula$',
        'a name that is far too long for the legend of a single column of a paper',
    ] * 4
    with matplotlib.rc_context(drawing.STYLE):
        figure = tsne.draw(
            [panel(24, 'a rather long title, $a^^b$')] * count, np.arange(24) % 12, names, 'about'
        )
        figure.draw_without_rendering()
    boxes = [ax.get_window_extent() for ax in figure.axes[:count]]
    for box in boxes:
        assert box.width == pytest.approx(box.height, abs=0.5)
        assert box.width == pytest.approx(boxes[0].width, abs=0.5)
        assert box.width > 130  # pixels, of 100 an inch
    (legend,) = figure.legends
    assert [text.get_text().replace('\n', ' ') for text in legend.get_texts()] == names
    extent = legend.get_window_extent()  # below the figure: the saved picture grows by it
    assert extent.y1 <= min(ax.get_tightbbox().y0 for ax in figure.axes[:count]) + 0.5
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width


BAD = [
    (['a.npz', 'none.npz'], 'none.npz is not a file'),
    (['.'], '. is not a file'),
    (['text.npz'], 'not an .npz file'),
    (['text.pth.tar', '--data-root', 'data'], 'text.pth.tar is not a'),
    (['a.npz', 'other.npz'], 'other has other clips than a'),
    (['a.npz', '--classes', 1], '--classes 1 of 4 with training and test clips: show two or more'),
    (['a.npz', '--classes', 0], '0 is not a whole number from 1'),
    (['a.npz', '--max-per-class', 1], '4 clips of as many classes: raise --max-per-class, or'),
    (['one_class.npz'], 'of 1 with training and test clips: show two or more'),
    (['same.npz', '--perplexity', 5], 'same: the features of all clips are the same'),
    (['a.npz', '--titles', 'A', 'B'], '2 titles for 1 panels'),
    (['a.npz', '--out', 'figure.svg'], 'name a file, FILE.png'),
    (['a.npz', '--out', '.'], 'name a file, FILE.png'),
    (['small.pth.tar', '--data-root', 'nowhere'], 'NTU-RGB-D-60-AGCN/xsub is not there'),
    (['small.pth.tar', '--protocol', 'cross_setup'], 'ntu60 has no protocol cross_setup'),
]


@pytest.fixture
def bad_files(features_file, tmp_path, monkeypatch):
    """The files that BAD names, in the working folder."""
    monkeypatch.chdir(tmp_path)
    features_file()
    features_file('other.npz', labels=LABELS[::-1].copy())
    features_file('one_class.npz', labels=LABELS * 0)
    for name in ('text.npz', 'text.pth.tar'):
        tmp_path.joinpath(name).write_text('text')
    (tmp_path / 'data' / 'NTU-RGB-D-60-AGCN' / 'xview').mkdir(parents=True)
    np.savez(
        'same.npz',
        train=np.ones((60, 4)),
        train_labels=LABELS,
        val=np.ones((60, 4)),
        val_labels=LABELS,
    )
    model = UmURL(150, 192, 2)
    checkpoint.save('small.pth.tar', model, torch.optim.Adam(model.parameters()), 0)


@pytest.mark.parametrize(('argv', 'message'), BAD, ids=[message for _, message in BAD])
def test_a_mistake_is_one_line(bad_files, mistake, argv, message):
    assert message in mistake(
        tsne.main, [*argv, *([] if '--out' in argv else ['--out', 'x']), '--device', 'cpu']
    )
