"""What a linear probe reports: the results by learning rate, for a results file and for the screen."""
from tools import scores

COLUMNS = {'top-5': 'top5_accuracy', 'per class': 'mean_class_accuracy', 'best seen': 'best_accuracy',
           'loss': 'training_loss'}


def main_result(results: list[dict], main: str) -> dict:
    """The result of the row named `main` and the first learning rate, as a results file holds it.

    results: of `train_probe`. by_lr has the result of each learning rate without predictions, and its table if there
    are several rows; the main result has the first of these tables.
    """
    by_lr = []
    for table in tables_by_lr(results):
        table = scores.without_predictions(table)
        row = next(row for row in table if row['modalities'] == main)
        by_lr.append(row | ({'table': table} if len(table) > 1 else {}))
    first = next(row for row in results if row['modalities'] == main)
    return first | by_lr[0] | {'by_lr': by_lr}


def tables_by_lr(results: list[dict]) -> list[list[dict]]:
    """The rows of the table for each learning rate."""
    return [[row for row in results if row['lr'] == lr] for lr in dict.fromkeys(row['lr'] for row in results)]


def report(results: list[dict], main: str) -> str:
    """Lines of text: the main result, and tables if there are several learning rates or rows."""
    first, tables = main_result(results, main), tables_by_lr(results)
    lines = [f'top-1 accuracy, last epoch:  {scores.with_interval(first)}',
             f'top-5 accuracy, last epoch:  {first["top5_accuracy"]:.2f} %',
             f'mean per class, last epoch:  {first["mean_class_accuracy"]:.2f} %',
             f'top-1 accuracy, best seen:   {first["best_accuracy"]:.2f} % (epoch {first["best_epoch"]}; chosen on the '
             'test split, which is how the official code reports)']
    if len(tables[0]) > 1:
        for table in tables:
            lines += [f'\nlr {table[0]["lr"]:g}', scores.table(table, COLUMNS)]
    elif len(tables) > 1:
        lines.append(scores.table([row | {'modalities': f'lr {row["lr"]:g}'} for row in results], COLUMNS))
    if len(tables) > 1:
        lines.append(f'(The lines above the table are for lr {first["lr"]:g}, the first one given. Choosing a learning '
                     'rate by these numbers means choosing on the test split.)')
    return '\n'.join(lines)
