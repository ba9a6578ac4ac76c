"""k-NN search: neighbours, votes and average precision against a naive loop, scikit-learn and
examples by hand.
"""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

from tools.evaluation.knn import average_precision, knn_search, vote

CLASSES = 5


@pytest.fixture(scope='module')
def features():
    """100 training clips and 31 queries of 6 features; the training split has no clip of the last
    class.
    """
    generator = torch.Generator().manual_seed(0)
    train, queries = (normalize(torch.randn(count, 6, generator=generator)) for count in (100, 31))
    return train, queries, torch.arange(100) % (CLASSES - 1), torch.arange(31) % CLASSES


def knn_predict(train, train_labels, queries, k, num_classes, block=None):
    neighbours, _ = knn_search([normalize(train)], [normalize(queries)], k, block=block)
    return vote(train_labels[neighbours], num_classes)


def naive_average_precision(similarities, relevant):
    """The mean, over the relevant ones, of the share of relevant ones among all that come no later."""
    found, precisions = 0, []
    for rank, index in enumerate(np.argsort(-similarities), 1):
        if relevant[index]:
            found += 1
            precisions.append(found / rank)
    return np.mean(precisions) if precisions else np.nan


def test_average_precision_is_that_of_a_naive_loop_and_of_scikit_learn(features):
    train, queries, train_labels, labels = features
    _, precision = knn_search([train], [queries], 1, (train_labels, labels))
    similarities = (queries @ train.T).numpy()
    relevant = (labels[:, None] == train_labels).numpy()
    naive = [naive_average_precision(*pair) for pair in zip(similarities, relevant, strict=True)]
    np.testing.assert_allclose(precision, naive, rtol=1e-5)
    known = labels.numpy() < CLASSES - 1
    assert precision.isnan().tolist() == (~known).tolist()
    theirs = [
        average_precision_score(*pair)
        for pair in zip(relevant[known], similarities[known], strict=True)
    ]
    np.testing.assert_allclose(precision[known], theirs, rtol=1e-5)


def test_average_precision_by_hand():
    ranked = torch.tensor([[0.1, 0.2, 0.3, 0.9], [0.1, 0.2, 0.3, 0.9]])
    relevant = torch.tensor([[0.9, 0.2], [0.1, 0.3]])  # ranks 1 and 3; ranks 2 and 4
    expected = torch.tensor([(1 + 2 / 3) / 2, (1 / 2 + 2 / 4) / 2])
    torch.testing.assert_close(average_precision(relevant, ranked), expected)


def test_equal_similarities_share_the_last_rank():
    ranked, relevant = torch.tensor([[0.2, 0.5, 0.5, 0.5]]), torch.tensor([[0.5]])
    assert average_precision(relevant, ranked).item() == pytest.approx(1 / 3)
    assert average_precision_score([0, 1, 0, 0], [0.2, 0.5, 0.5, 0.5]) == pytest.approx(1 / 3)


def test_neighbours_come_nearest_first(features):
    train, queries, *_ = features
    neighbours, precision = knn_search([train], [queries], 7)
    assert neighbours.tolist() == np.argsort(-(queries @ train.T).numpy(), 1)[:, :7].tolist()
    assert precision.isnan().all()


@pytest.mark.parametrize('block', [1, 4, 1000])
def test_the_block_changes_nothing(features, block):
    train, queries, *labels = features
    whole, pieces = (knn_search([train], [queries], 3, labels, size) for size in (None, block))
    assert whole[0].equal(pieces[0])
    torch.testing.assert_close(whole[1], pieces[1], equal_nan=True)


@pytest.mark.parametrize('copies', [2, 3, 40])
@pytest.mark.parametrize('block', [None, 1, 5, 8])
def test_equally_near_clips_come_in_their_order(features, copies, block):
    """Each training clip is there several times, anywhere; and two rows have the same numbers."""
    train, queries, *_ = features
    order = torch.randperm(copies * len(train), generator=torch.Generator().manual_seed(1))
    several = train.repeat(copies, 1)[order]
    similarities = (queries @ train.T).repeat(1, copies)[:, order]
    expected = torch.from_numpy(np.argsort(-similarities.numpy(), 1, kind='stable'))
    for k in (1, 2, 3, 10, len(several)):
        neighbours, _ = knn_search([several], [queries], k, block=block)
        assert neighbours.equal(expected[:, :k])


def test_all_equal_clips_come_in_their_order():
    train = torch.ones(50, 1)
    for k in (1, 7, 50):
        neighbours, _ = knn_search([train], [torch.ones(3, 1)], k)
        assert neighbours.tolist() == 3 * [[*range(k)]]


def test_queries_alone_find_equal_clips_in_their_order():
    """Few queries at a time take another kernel, which adds up the last rows in another order."""
    generator = torch.Generator().manual_seed(0)
    train = normalize(torch.randn(1001, 517, generator=generator))
    noise = 0.01 * torch.randn(100, 517, generator=generator)
    queries = normalize(train[-2:].repeat(50, 1) + noise)
    for block in (1, 3, 100):
        neighbours, _ = knn_search([train.repeat(2, 1)], [queries], 2, block=block)
        assert (neighbours[:, 1] == neighbours[:, 0] + 1001).all()


def test_several_subsets_add_their_cosines(features):
    train, queries, *labels = features
    others = [
        each.roll(1, 1) * torch.tensor([1, -1, 1, 1, -1, 1]) for each in (train, queries.flip(0))
    ]
    both = knn_search([train, others[0]], [queries, others[1]], 3, labels)
    joined = knn_search(
        [torch.cat((train, others[0]), 1)], [torch.cat((queries, others[1]), 1)], 3, labels
    )
    alone = knn_search([train], [queries], 3, labels)
    assert both[0].equal(joined[0])
    assert not both[0].equal(alone[0])
    torch.testing.assert_close(both[1], joined[1], equal_nan=True)


def test_two_subsets_by_hand():
    """Cosines to the clips .6, .8 and 0, and in the other subset .8, 0 and 1: together 1.4, .8 and
    1.
    """
    train = [
        torch.tensor([[0.6, 0.8], [0.8, 0.6], [0, 1]]),
        torch.tensor([[0.8, 0.6], [0, 1], [1, 0]]),
    ]
    labels = torch.tensor([1, 0, 0]), torch.tensor([0])
    neighbours, precision = knn_search(train, [torch.tensor([[1.0, 0]])] * 2, 3, labels)
    assert neighbours.tolist() == [[0, 2, 1]]
    assert precision.item() == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_votes():
    assert vote(torch.tensor([[2, 1, 2], [3, 0, 1], [0, 3, 3]]), 4).tolist() == [2, 0, 3]


@pytest.mark.parametrize('k', [1, 5, 9, 20])
def test_retrieval_as_recorded(recorded, k):
    arrays = {name: torch.from_numpy(value) for name, value in recorded('evaluation').items()}
    predictions = knn_predict(arrays['train'], arrays['train_labels'], arrays['test'], k, 12)
    assert predictions.equal(arrays[f'knn_{k}'])


@pytest.mark.parametrize('k', [1, 4, 7])
def test_retrieval_is_that_of_scikit_learn(k):
    rng = np.random.default_rng(0)
    labels, train, queries = (
        rng.integers(0, 5, 100),
        rng.normal(size=(100, 6)),
        rng.normal(size=(31, 6)),
    )
    theirs = (
        KNeighborsClassifier(k, metric='cosine', algorithm='brute')
        .fit(train, labels)
        .predict(queries)
    )
    mine = knn_predict(*map(torch.from_numpy, (train, labels, queries)), k, 5, block=7)
    assert (mine.numpy() == theirs).all()


def test_equal_votes_go_to_the_smallest_label():
    train = torch.tensor([[1.0, 0], [1, 0.1], [1, 0.2]])
    assert knn_predict(train, torch.tensor([2, 0, 1]), torch.tensor([[1.0, 0]]), 3, 3).tolist() == [
        0
    ]
