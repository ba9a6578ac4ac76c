"""Do two results differ? The difference in accuracy of two results files of the same test clips,
and its uncertainty.

    python -m tools.analysis.compare umurl.json baseline.json
"""

import tools.common.start  # noqa: F401

from pathlib import Path

import numpy as np

from tools import results
from tools.common import cli
from tools.scores import bootstrap_interval, by_performers


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument(
        'files', nargs=2, type=Path, metavar='RESULTS.json', help='written by --results'
    )
    files = parser.parse_args(argv).files
    one, other = map(read, files)
    named = one.get('val_names') and other.get('val_names')  # features of elsewhere have no names
    if one['labels'] != other['labels'] or (named and one['val_names'] != other['val_names']):
        raise cli.InputError(
            f'{files[1]} has other test clips than {files[0]}: compare results of the same split'
        )
    performers = one.get('performers') or other.get('performers')
    tasks = one.get('task'), other.get('task')
    if tasks[0] != tasks[1]:
        print(f'different tasks: {files[0]} is of {tasks[0]}, {files[1]} of {tasks[1]}')
    print('\n'.join(compare(files, correct(one), correct(other), performers)))


def correct(record: dict) -> np.ndarray:
    """Which predictions (M,) are right."""
    return np.equal(record['predictions'], record['labels'])


def read(path: Path) -> dict:
    if not path.is_file():
        raise cli.InputError(f'{path}: no such file')
    record = results.read(path)
    if not {'predictions', 'labels'} <= record.keys():
        raise cli.InputError(
            f'{path} is not a results file of a single run with predictions (--results; with '
            '--finetune, one --data-ratio and --repeats 1)'
        )
    return record


def compare(
    files: list[Path], first: np.ndarray, second: np.ndarray, performers: list | None
) -> list[str]:
    """Lines of text about the correct predictions (M,) of two encoders for the same clips, with the
    files they are from; performers (M,) if known.
    """
    from scipy.stats import binomtest  # slow to import

    only_first = int((first > second).sum())
    only_second = int((first < second).sum())
    discordant = only_first + only_second
    p_value = binomtest(only_first, discordant).pvalue if discordant else 1.0
    difference = first.astype(int) - second
    points = 100 * difference.mean()
    lines = [
        f'accuracy {100 * first.mean():.2f} and {100 * second.mean():.2f} %, difference '
        f'{points:+.2f} points, {len(first)} test clips',
        f"McNemar's exact test, by clip: only {files[0]} is right {only_first} times, only "
        f'{files[1]} {only_second} times, p = {p_value:.2g}',
    ]
    interval = bootstrap_interval(difference, performers)
    differ = p_value < 0.05
    basis = 'by clip alone: fewer than two performers are known'
    if interval is not None:  # the more cautious of the two decides
        low, high = interval
        differ = differ and (low > 0 or high < 0)
        basis = f'by clip and {by_performers(len(set(performers)))}'
        lines.append(
            f'paired bootstrap by performer: 95 % interval {low:+.2f} to {high:+.2f} points'
        )
    verdict = 'They do not differ beyond chance'
    if differ:
        verdict = f'They differ: {files[0] if points > 0 else files[1]} is better'
    return [*lines, f'{verdict} (at the 5 % level, {basis}).']


if __name__ == '__main__':
    cli.run(main)
