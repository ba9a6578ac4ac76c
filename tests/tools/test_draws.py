"""Semi-supervised draws: their size, their balance, and that they can be made again."""
import pytest
import torch

from tools.draws import draw

LABELS = torch.tensor([0] * 50 + [3] * 30 + [7] * 19 + [9])  # 100 clips, four classes, the last of one clip


def counts(drawn):
    return torch.bincount(LABELS[drawn], minlength=10)[[0, 3, 7, 9]].tolist()


@pytest.mark.parametrize('how', ['random', 'balanced'])
def test_a_draw_follows_from_seed_ratio_and_repeat(how):
    first = draw(LABELS, 0.2, how, seed=1, repeat=0)
    torch.manual_seed(5)
    assert draw(LABELS, 0.2, how, seed=1, repeat=0).equal(first)
    assert not draw(LABELS, 0.2, how, seed=2, repeat=0).equal(first)
    assert not draw(LABELS, 0.2, how, seed=1, repeat=1).equal(first)


def test_draws_of_two_ratios_are_independent():
    small, large = (set(draw(LABELS, ratio, 'random', 0, 0).tolist()) for ratio in (0.3, 0.4))
    assert not small <= large


@pytest.mark.parametrize(('ratio', 'clips'), [(0.001, 1), (0.01, 1), (0.05, 5), (0.29, 29), (0.126, 13), (1, 100)])
def test_a_plain_draw_is_the_nearest_number_of_clips(ratio, clips):
    drawn = draw(LABELS, ratio, 'random', 0, 0)
    assert len(drawn) == clips
    assert drawn.unique().equal(drawn)  # ascending, none twice
    assert drawn.max() < 100


def test_a_plain_draw_knows_no_classes():
    share = sum(torch.tensor(counts(draw(LABELS, 0.1, 'random', 0, repeat))) for repeat in range(400)) / 4000
    assert share.tolist() == pytest.approx([0.5, 0.3, 0.19, 0.01], abs=0.03)


@pytest.mark.parametrize(('ratio', 'each'), [(0.001, [1, 1, 1, 1]), (0.08, [2, 2, 2, 1]), (0.2, [5, 5, 5, 1]),
                                             (0.9, [22, 22, 19, 1]), (1, [25, 25, 19, 1])])
def test_a_balanced_draw_has_as_many_of_each_class_as_there_are(ratio, each):
    drawn = draw(LABELS, ratio, 'balanced', 0, 0)
    assert counts(drawn) == each
    assert drawn.unique().equal(drawn)


def test_every_clip_of_a_class_can_be_drawn():
    seen = torch.cat([draw(LABELS, 0.2, 'balanced', 0, repeat) for repeat in range(60)]).unique()
    assert len(seen) == 100
