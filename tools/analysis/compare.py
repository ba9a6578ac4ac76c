"""Do two results differ? The difference in accuracy of two results files of the same test clips,
and its uncertainty.

python -m tools.analysis.compare umurl.json baseline.json
"""

from pathlib import Path

import numpy as np

from tools import results
from tools.common import cli
from tools.scores import bootstrap_interval


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument(
        'files', nargs=2, type=Path, metavar='RESULTS.json', help='written by --results'
    )
    files = parser.parse_args(argv).files
    one, other = map(read, files)
    names = [
        record['val_names'] for record in (one, other) if record.get('val_names')
    ]  # older files have none
    if one['labels'] != other['labels'] or (len(names) == 2 and names[0] != names[1]):
        raise cli.InputError(
            f'{files[1]} has other test clips than {files[0]}: compare results of the same split'
        )
    print(
        '\n'.join(
            compare(
                *(np.equal(record['predictions'], record['labels']) for record in (one, other)),
                one.get('performers') or other.get('performers'),
            )
        )
    )


def read(path: Path) -> dict:
    record = results.read(path)
    if not {'predictions', 'labels'} <= record.keys():
        raise cli.InputError(
            f'{path} is not a results file of a single run with predictions (--results; with '
            '--finetune, one --data-ratio and --repeats 1)'
        )
    return record


def compare(first: np.ndarray, second: np.ndarray, performers: list | None) -> list[str]:
    """Lines of text about the correct predictions (M,) of two encoders for the same clips;
    performers (M,) if known.
    """
    from scipy.stats import binomtest  # slow to import

    difference, only_first, only_second = (
        first * 1 - second,
        int((first > second).sum()),
        int((first < second).sum()),
    )
    discordant = only_first + only_second
    p_value = binomtest(only_first, discordant).pvalue if discordant else 1.0
    lines = [
        f'accuracy {100 * first.mean():.2f} and {100 * second.mean():.2f} %, difference '
        f'{100 * difference.mean():+.2f} points, {len(first)} test clips',
        f"McNemar's exact test, by clip: only the first is right {only_first} times, only the "
        'second '
        f'{only_second} times, p = {p_value:.2g}',
    ]
    interval = bootstrap_interval(difference, performers)
    if interval is None:
        differ, basis = p_value < 0.05, 'by clip alone, since the performers are not known'
    else:
        differ, basis = interval[0] > 0 or interval[1] < 0, f'by {len(set(performers))} performers'
        lines.append(
            f'paired bootstrap by performer: 95 % interval {interval[0]:+.2f} to '
            f'{interval[1]:+.2f} points'
        )
    winner = 'first' if difference.mean() > 0 else 'second'
    verdict = (
        f'They differ: the {winner} is better' if differ else 'They do not differ beyond chance'
    )
    return [*lines, f'{verdict} ({basis}, at the 5 % level).']


if __name__ == '__main__':
    cli.run(main)
