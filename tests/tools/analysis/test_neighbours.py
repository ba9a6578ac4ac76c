"""Test clips and their neighbours: which are shown, and which are marked right."""

import json

import numpy as np
import pytest

from data_gen.class_names import CLASS_NAMES
from tools.analysis import neighbours

WIDTH = 4


@pytest.fixture
def setting(tmp_path, padded_arrays):
    """Arrays of 9 train and 4 val clips, and features (of classes 0, 1, 2): a val clip is a train
    clip with noise.
    """
    made = padded_arrays(tmp_path / 'NTU-RGB-D-60-AGCN/xsub', train=9, val=4)
    rng, labels = np.random.default_rng(0), {split: np.array(made[split][3]) for split in made}
    train = rng.normal(0, 1, (9, WIDTH)).astype(np.float32)
    of = np.array(
        [3, 7, 1, 0]
    )  # the nearest of each val clip, whose classes are 0, 1, 2, 0: the third is wrong
    val = 3 * train[of] + 0.01
    about = json.dumps({'dataset': 'ntu60', 'protocol': 'cross_subject'})
    np.savez(
        tmp_path / 'f.npz',
        train=train,
        train_labels=labels['train'],
        val=val,
        val_labels=labels['val'],
        about=about,
        val_names=made['val'][2],
    )
    return [tmp_path / 'f.npz', '--data-root', tmp_path, '--out', tmp_path / 'sheet'], made, of


def drawn(monkeypatch, argv):
    rows = []
    monkeypatch.setattr(neighbours, 'draw', lambda made: rows.extend(made))
    monkeypatch.setattr(neighbours.drawing, 'save', lambda *_: None)
    neighbours.main(list(map(str, argv)))
    return rows


def test_the_nearest_are_shown_with_their_similarity(setting, monkeypatch):
    argv, made, of = setting
    names = made['val'][2]
    rows = drawn(monkeypatch, [*argv, '-k', 3, '--names', names[1], names[2]])
    with np.load(argv[0]) as arrays:
        train, val = (
            arrays[split] / np.linalg.norm(arrays[split], axis=1)[:, None]
            for split in ('train', 'val')
        )
    for query, (shown, *found) in zip((1, 2), rows, strict=True):
        similarity = train @ val[query]
        order = np.argsort(-similarity)[:3]
        assert order[0] == of[query]
        true = CLASS_NAMES['ntu60'][made['val'][3][query]]
        assert shown[:2] == (true, names[query][:20])
        for near, (label, caption, poses) in zip(order, found, strict=True):
            assert label == CLASS_NAMES['ntu60'][made['train'][3][near]]
            assert caption == f'{similarity[near]:.3f}  {made["train"][2][near][:20]}'
            data, num_frame = made['train'][:2]
            np.testing.assert_array_equal(
                poses, data[near].transpose(1, 3, 2, 0)[: num_frame[near]]
            )


def test_worst_and_random(setting, monkeypatch):
    argv, made, _ = setting
    assert [row[0][1] for row in drawn(monkeypatch, [*argv, '--worst'])] == [made['val'][2][2][:20]]
    some = [
        [row[0][1] for row in drawn(monkeypatch, [*argv, '--queries', 2, '--seed', seed])]
        for seed in (0, 0, 1, 2)
    ]
    assert some[0] == some[1]
    assert len({*map(tuple, some)}) > 1


def test_right_and_wrong_differ_without_colour():
    poses = np.random.default_rng(0).normal(0, 1, (9, 2, 25, 3))
    figure = neighbours.draw(
        [[('sit', 'query', poses), ('sit', 'right', poses), ('fall', 'wrong', poses[:1])]]
    )
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts if text.get_fontsize() > 5] == [
        'sit',
        '✓ sit',
        '✗ fall',
    ]
    assert [frame.get_linestyle() for frame in ax.patches] == ['-', '--']
    assert {frame.get_y() for frame in ax.patches} == {0.05}


def test_files_are_written(setting):
    argv, _, _ = setting
    neighbours.main([*map(str, argv), '--queries', '1'])
    assert argv[-1].with_suffix('.png').read_bytes().startswith(b'\x89PNG')


def test_bad_input_is_one_line(setting, tmp_path, padded_arrays, mistake):
    argv, made, _ = setting
    line = mistake(neighbours.main, [*argv, '--names', made['val'][2][0] + 'n'])
    assert f'some that are there: {made["val"][2][0]}' in line
    assert 'there are 9 training clips' in mistake(neighbours.main, [*argv, '-k', 10])
    assert 'not an .npz file' in mistake(neighbours.main, [__file__, *argv[1:]])
    padded_arrays(tmp_path / 'NTU-RGB-D-60-AGCN/xview', train=9, val=5)
    assert 'has features of the protocol cross_subject, not cross_view' in mistake(
        neighbours.main, [*argv, '--protocol', 'cross_view']
    )
    arrays = dict(np.load(argv[0]))
    del arrays['about'], arrays['val_names']
    np.savez(tmp_path / 'unknown.npz', **arrays)
    assert 'features of other clips' in mistake(
        neighbours.main, [tmp_path / 'unknown.npz', *argv[1:], '--protocol', 'cross_view']
    )
    assert 'is not there: prepare ntu120' in mistake(
        neighbours.main, [*argv, '--finetune-dataset', 'ntu120']
    )
