"""Rankings of the training clips by their similarity to each query: nearest neighbours, votes, average precision.

Similarities are formed for a block of queries at a time, so memory is bounded, whatever the number of clips.
"""
import torch

from data_gen.cli import progress

SIMILARITIES_AT_ONCE = 1 << 25  # 128 MB of float32


@torch.inference_mode()
def search(train, queries, most, labels=None, block=None):
    """The `most` training clips nearest to each query, and the average precision of its whole ranking.

    train: (N, D) of each subset, queries: (Q, D) of each, all rows of length 1; a similarity is the sum of the subsets'
    cosines. labels: (N,) of the training clips and (Q,) of the queries; the relevant clips are those of the query's
    label. block: queries at a time. Returns neighbours (Q, most), nearest first, and average precision (Q,) in 0..1,
    not a number where no clip is relevant, or where there are no labels.
    """
    block = block or max(1, SIMILARITIES_AT_ONCE // len(train[0]))
    device, count = train[0].device, len(queries[0])
    neighbours = torch.empty(count, most, dtype=torch.long, device=device)
    precision = torch.full((count,), torch.nan, device=device)
    if labels is None:
        blocks = [(chunk, None) for chunk in torch.arange(count, device=device).split(block)]
    else:
        blocks = list(of_one_label(*labels, block))
    for chunk, relevant in progress(blocks, 'retrieval', unit='block', leave=False):
        similarities = queries[0][chunk] @ train[0].T
        for more, others in zip(queries[1:], train[1:], strict=True):
            similarities.addmm_(more[chunk], others.T)
        neighbours[chunk] = similarities.topk(most).indices
        if relevant is not None:
            precision[chunk] = average_precision(similarities[:, relevant], sort_rows(similarities))
    return neighbours, precision


def of_one_label(train_labels, query_labels, block):
    """Yield blocks of queries that share a label, and the training clips with that label: two tensors of indices.

    What is relevant is then a choice of columns for the whole block.
    """
    classes = max(labels.max().item() for labels in (train_labels, query_labels)) + 1
    members, queries = (labels.argsort(stable=True).split(torch.bincount(labels, minlength=classes).tolist())
                        for labels in (train_labels, query_labels))
    for relevant, same in zip(members, queries, strict=True):
        for chunk in same.split(block) if len(same) else ():
            yield chunk, relevant


def average_precision(relevant, ranked):
    """Average precision (q,) of q rankings; not a number where nothing is relevant.

    relevant (q, R): the similarities of what is sought; ranked (q, N): all of them, rising. Clips that are equally
    similar share the last of their ranks, for their order is not known.
    """
    relevant = relevant.sort(1).values
    rank = ranked.shape[1] - torch.searchsorted(ranked, relevant)
    found = relevant.shape[1] - torch.searchsorted(relevant, relevant)
    return (found / rank).mean(1)


def sort_rows(x):
    """The rows of x (q, N) sorted, rising; in place on a CPU."""
    if x.is_cuda:
        return x.sort(1).values
    x.numpy().sort(1)  # a fraction of the time of torch's sort, which carries indices along
    return x


def vote(labels, classes):
    """The label (Q,) that most of each query's neighbours have; labels (Q, k). Of several the smallest."""
    votes = torch.zeros(len(labels), classes, dtype=torch.long, device=labels.device)
    votes.scatter_add_(1, labels, torch.ones_like(labels))
    favour_small = torch.arange(classes, 0, -1, device=labels.device)  # below one vote's worth
    return (votes * (classes + 1) + favour_small).argmax(1)
