"""The published accuracies (%) of UmURL, each with its source: one table, by evaluation, its row,
and data set.

UmURL: Sun et al., Unified Multi-modal Unsupervised Representation Learning for Skeleton-based
Action Understanding, ACM MM 2023, arXiv 2311.03106. Those of linear probes are the best of several
evaluations on the test clips. None is listed for transfer to PKU-MMD II: no figure that has a
source is known.
"""

README = 'README of the official code'
PAPER = 'paper, not checked here; the README of the official code prints 74.3'
LATER = 'table of a later paper: USDRL, AAAI 2025'
DATASETS = ('ntu60_xsub', 'ntu60_xview', 'ntu120_xsub', 'ntu120_xsetup', 'pku2_xsub')
TABLE = {
    ('probe', 'joint+bone+motion'): (
        (84.2, README),
        (90.9, README),
        (75.2, README),
        (76.3, PAPER),
        (52.6, LATER),
    ),
    ('probe', 'joint'): ((82.3, LATER), (89.8, LATER), (73.5, LATER), (74.3, LATER), (52.1, LATER)),
    ('probe', '3s'): ((84.4, LATER), (91.4, LATER), (75.8, LATER), (77.2, LATER), (54.3, LATER)),
    ('retrieval', 'joint+bone+motion'): (
        (72.0, README),
        (88.9, README),
        (59.5, README),
        (62.2, README),
    ),
}
CELLS = {
    (data_set, evaluation, row): cell
    for (evaluation, row), cells in TABLE.items()
    for data_set, cell in zip(DATASETS, cells, strict=False)  # no retrieval on PKU-MMD
}
