"""The published accuracies (%): one table, by evaluation, its row, and data set.

Source: Sun et al., Unified Multi-modal Unsupervised Representation Learning for Skeleton-based Action Understanding,
ACM MM 2023, arXiv 2311.03106, and the README of the official code. Those of linear probes are the best of several
evaluations on the test clips.
"""

DATASETS = ('ntu60_xsub', 'ntu60_xview', 'ntu120_xsub', 'ntu120_xsetup', 'pku2_xsub')
TABLE = {
    ('probe', 'joint+bone+motion'): (84.2, 90.9, 75.2, 76.3, 52.6),
    ('probe', 'joint'): (82.3, 89.8, 73.5, 74.3, 52.1),
    ('probe', '3s'): (84.4, 91.4, 75.8, 77.2, 54.3),
    ('retrieval', 'joint+bone+motion'): (72.0, 88.9, 59.5, 62.2),
    ('transfer', 'from ntu60_xsub'): (None, None, None, None, 59.7),
}
ACCURACY = {(data_set, evaluation, row): accuracy for (evaluation, row), accuracies in TABLE.items()
            for data_set, accuracy in zip(DATASETS, accuracies, strict=False)}  # nothing of retrieval on PKU-MMD
