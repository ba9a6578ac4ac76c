"""Which modalities are evaluated, and late fusion: encode each modality separately, add the scores
("3s" of three).
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from feeder.modalities import MODALITIES, subsets
from model.umurl import SHORT_NAMES
from tools.common.cli import InputError, position
from tools.results import Origin

Subset = tuple[str, ...]  # modalities encoded together, in the order of MODALITIES

NOT_TRAINED_ON = 'combination not trained on'


class FusionRow(NamedTuple):
    """A row of the results: one subset, or several whose scores are added."""

    name: str
    subsets: list[Subset]


def late_fusion(scores: Iterable[torch.Tensor]) -> torch.Tensor:
    """The fused scores (N, C) of several encodings of the same clips: the sum of their logits or,
    in retrieval, of their similarities.
    """
    return sum(scores)


def fusion_rows(
    modalities: list[str], ensemble: bool = False, all_modalities: bool = False
) -> list[FusionRow]:
    """The rows to evaluate; the flags are --modalities, --ensemble and --all-modalities."""
    if not ensemble and not all_modalities:
        return [fused(tuple(modalities))]
    if len(modalities) == 1:
        flag = '--ensemble' if ensemble else '--all-modalities'
        raise InputError(f'{flag} takes two or more modalities, not {modalities[0]} alone')
    encoded = subsets(modalities)
    if ensemble:
        encoded = [(modality,) for modality in modalities]
    return [fused(subset) for subset in encoded] + [fused_late(modalities)]


def fused(subset: Subset) -> FusionRow:
    return FusionRow('+'.join(subset), [subset])


def fused_late(modalities: list[str]) -> FusionRow:
    return FusionRow(f'{len(modalities)}s', [(modality,) for modality in modalities])


def main_row(rows: list[FusionRow], modalities: list[str], ensemble: bool = False) -> FusionRow:
    """The row that is the result: --modalities fused, late with --ensemble.

    InputError if it is not among the rows: no other row may stand in for it.
    """
    wanted = fused_late(modalities) if ensemble else fused(tuple(modalities))
    return rows[position(wanted.name, [row.name for row in rows], 'row')]


def needed_subsets(rows: list[FusionRow]) -> list[Subset]:
    """All subsets of the rows, each once."""
    return list(dict.fromkeys(subset for row in rows for subset in row.subsets))


def modalities_of(subsets: list[Subset]) -> list[str]:
    """All modalities of the subsets, in the usual order."""
    used = {modality for subset in subsets for modality in subset}
    return [modality for modality in MODALITIES if modality in used]


def row_facts(row: FusionRow, origin: Origin) -> dict:
    """For a row of a table: its GFLOPs per clip, and a note if pre-training never fused just these
    modalities.

    The official code does not record what it was trained on: its three modalities.
    """
    trained = set((origin.pretrained_on or {}).get('modalities', SHORT_NAMES))
    gflops = None
    if origin.gflops:
        gflops = sum(origin.gflops['+'.join(subset)] for subset in row.subsets)
    note = ''
    if any(len(subset) > 1 and set(subset) != trained for subset in row.subsets):
        note = NOT_TRAINED_ON
    return {'gflops': gflops, 'note': note}
