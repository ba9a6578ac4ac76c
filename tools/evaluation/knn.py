"""k-NN retrieval: the nearest training clips of each query, their votes, and average precision.

Similarities are computed for a block of queries at a time, so memory is bounded however many clips
there are.
"""

from collections.abc import Iterator

import torch

from tools.common.cli import progress
from tools.evaluation.late_fusion import late_fusion

SIMILARITIES_PER_BLOCK = 1 << 25  # 128 MB of float32
# Fewer queries take other kernels, which give some equal clips similarities that differ.
FEWEST_QUERIES = 8


@torch.inference_mode()
def knn_search(
    train: list[torch.Tensor],
    queries: list[torch.Tensor],
    k: int,
    labels: tuple[torch.Tensor, torch.Tensor] | None = None,
    block: int | None = None,
):
    """The k training clips nearest to each query, and the average precision of its whole ranking.

    train: features (N, D) of one or several subsets; queries: (Q, D) of the same; all rows of
    length 1. The similarity of two clips is their cosine, summed over subsets. labels: of the
    training clips (N,) and of the queries (Q,).
    block: queries per block. Returns neighbours (Q, k), nearest first, equally near ones in the
    order of the training clips, and average precision (Q,) in 0..1, which is NaN without labels, or
    if no training clip has the query's label.
    """
    block = block or max(1, SIMILARITIES_PER_BLOCK // len(train[0]))
    device, num_queries = train[0].device, len(queries[0])
    neighbours = torch.empty(num_queries, k, dtype=torch.long, device=device)
    precision = torch.full((num_queries,), torch.nan, device=device)
    blocks = (
        list(blocks_by_label(*labels, block))
        if labels
        else [(indices, None) for indices in torch.arange(num_queries, device=device).split(block)]
    )
    for indices, relevant in progress(blocks, 'retrieval', unit='block', leave=False):
        rows = torch.arange(max(len(indices), FEWEST_QUERIES), device=device)
        filled = indices[rows % len(indices)]
        similarities = late_fusion(
            query[filled] @ features.T for query, features in zip(queries, train, strict=True)
        )[: len(indices)]
        neighbours[indices] = nearest(similarities, k)
        if relevant is not None:
            precision[indices] = average_precision(
                similarities[:, relevant], sort_rows(similarities)
            )
    return neighbours, precision


def blocks_by_label(
    train_labels: torch.Tensor, query_labels: torch.Tensor, block: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (queries with the same label, the training clips with that label), both as indices.

    The relevant clips of a whole block are then a selection of columns.
    """
    for label in query_labels.unique():
        relevant = (train_labels == label).nonzero()[:, 0]
        for indices in (query_labels == label).nonzero()[:, 0].split(block):
            yield indices, relevant


def nearest(similarities: torch.Tensor, k: int) -> torch.Tensor:
    """The columns of the k largest of each row (q, N), largest first, equal ones in order: (q, k).

    topk alone leaves open which of equal ones it takes, and in which order.
    """
    values, columns = similarities.topk(min(k + 1, similarities.shape[1]))
    columns, last = columns[:, :k], values[:, k - 1 : k]
    tied = (values[:, k:] == last).any(1)  # (q,), with an equal beyond the k
    if similarities.device.type != 'cpu':  # a look at `tied` would wait for the GPU
        columns = first_of_equals(similarities, last, k)
    elif tied.any():
        columns[tied] = first_of_equals(similarities[tied], last[tied], k)
    columns = columns.sort(1).values
    order = similarities.gather(1, columns).argsort(dim=1, descending=True, stable=True)
    return columns.gather(1, order)


def first_of_equals(similarities: torch.Tensor, last: torch.Tensor, k: int) -> torch.Tensor:
    """The columns (q, k), in any order, of all above the k-th largest, `last` (q, 1), and of the
    first that equal it.
    """
    above, equal = similarities > last, similarities == last
    room = k - above.sum(1, keepdim=True)
    chosen = above | equal & (equal.cumsum(1) <= room)
    return chosen.byte().topk(k).indices


def average_precision(relevant: torch.Tensor, ranked: torch.Tensor) -> torch.Tensor:
    """Average precision (q,) of q rankings; NaN if there is nothing relevant.

    relevant (q, R): the similarities of the relevant clips; ranked (q, N): of all clips, ascending.
    Equally similar clips share the last of their ranks, because their order is arbitrary.
    """
    relevant = relevant.sort(1).values
    rank = ranked.shape[1] - torch.searchsorted(ranked, relevant)
    num_relevant = relevant.shape[1] - torch.searchsorted(relevant, relevant)
    return (num_relevant / rank).mean(1)


def sort_rows(x: torch.Tensor) -> torch.Tensor:
    """The rows of x (q, N) in ascending order; in place on a CPU."""
    if x.device.type != 'cpu':
        return x.sort(1).values
    x.numpy().sort(1)  # much faster than torch's sort, which also returns indices
    return x


def vote(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """The most frequent label (Q,) among each query's neighbours (Q, k); the smallest label wins a
    tie.
    """
    votes = torch.zeros(len(labels), num_classes, dtype=torch.long, device=labels.device)
    return votes.scatter_add_(1, labels, torch.ones_like(labels)).argmax(
        1
    )  # the first of equal maxima
