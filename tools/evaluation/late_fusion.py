"""Which modalities are evaluated, and late fusion: encode each modality separately, add the scores
("3s" of three).
"""

from itertools import combinations
from typing import NamedTuple

from feeder.modalities import MODALITIES
from tools.common.cli import InputError
from tools.results import Origin

Subset = tuple[str, ...]  # modalities encoded together, in the order joint, bone, motion
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(MODALITIES, size)]


class FusionRow(NamedTuple):
    """A row of the results: one subset, or several whose scores are added."""

    name: str
    subsets: list[Subset]


def fusion_rows(
    modalities: list[str], ensemble: bool = False, all_modalities: bool = False
) -> list[FusionRow]:
    """The rows to evaluate; the flags are --modalities, --ensemble and --all-modalities."""
    if all_modalities:
        if len(modalities) < len(MODALITIES):
            raise InputError('--all-modalities evaluates all of them: leave out --modalities')
        return [FusionRow('+'.join(subset), [subset]) for subset in SUBSETS] + [
            FusionRow('3s', SUBSETS[:3])
        ]
    if ensemble:
        if len(modalities) == 1:
            raise InputError(f'--ensemble takes two or three modalities, not {modalities[0]} alone')
        singles = [FusionRow(modality, [(modality,)]) for modality in modalities]
        return singles + [FusionRow(f'{len(singles)}s', [(modality,) for modality in modalities])]
    return [FusionRow('+'.join(modalities), [tuple(modalities)])]


def main_row(rows: list[FusionRow]) -> FusionRow:
    """The row that is the result: the three fused modalities if they are among several subsets,
    else the last row.
    """
    return next((row for row in rows if row.name == '+'.join(MODALITIES)), rows[-1])


def needed_subsets(rows: list[FusionRow]) -> list[Subset]:
    """All subsets of the rows, each once."""
    return list(dict.fromkeys(subset for row in rows for subset in row.subsets))


def row_facts(row: FusionRow, origin: Origin) -> dict:
    """For a row of a table: its GFLOPs per clip, and a note if pre-training never fused just these
    modalities.
    """
    trained = (origin.pretrained_on or {}).get('modalities', MODALITIES)
    untrained = any(len(subset) > 1 and set(subset) != set(trained) for subset in row.subsets)
    return {
        'gflops': sum(origin.gflops['+'.join(subset)] for subset in row.subsets)
        if origin.gflops
        else None,
        'note': 'combination not trained on' if untrained else '',
    }
