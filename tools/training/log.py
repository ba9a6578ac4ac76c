"""The record of a training run: log.jsonl, TensorBoard, and a line on the screen. Only rank 0 keeps
one, and no error in keeping it ends the training.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from model.objective import Losses
from tools.common.cli import plural
from tools.common.files import replacing
from tools.distributed import rank, world_size
from tools.version import code_version

LOG_FILES = ('log.jsonl', 'tensorboard', 'log.jsonl.damaged')  # in the folder of a run


class RunLog:
    """log.jsonl (the command line and configuration first, then a line per epoch) and TensorBoard
    scalars.
    """

    def __init__(self, folder: Path, configuration: dict, device: torch.device, first_epoch: int):
        self.path, self.board_folder, _ = (folder / name for name in LOG_FILES)
        self.board, self.failed = None, set()
        if rank() != 0:
            return
        first_line = {
            'command': sys.argv,
            'config': configuration,
            'torch': torch.__version__,
            'code': code_version(),
            'device': str(device),
            'processes': world_size(),
        }
        with self.errors_reported('log.jsonl'):
            keep_lines_before(self.path, first_epoch)
            self.write(first_line)
        with self.errors_reported('tensorboard/'):
            # Slow to import, and only this process needs it.
            from torch.utils.tensorboard import SummaryWriter

            wait_for_the_next_file(self.board_folder)
            self.board = SummaryWriter(self.board_folder, purge_step=first_epoch)

    def write(self, line: dict) -> None:
        with open(self.path, 'a') as file:
            file.write(json.dumps(line) + '\n')

    def epoch(self, epoch: int, scalars: dict[str, float]) -> None:
        """Record the scalars of one epoch, and show the losses, the least spread and the speed."""
        if rank() != 0:
            return
        with self.errors_reported('log.jsonl'):
            self.write({'epoch': epoch, **scalars})
        with self.errors_reported('tensorboard/'):
            self.write_board(epoch, scalars)
        # above the progress bar, if there is one
        show = tqdm.write if sys.stderr.isatty() else print
        show(f'epoch {epoch}: {summary(scalars)}')

    def write_board(self, epoch: int, scalars: dict[str, float]) -> None:
        if self.board is None:
            return
        self.board_folder.mkdir(exist_ok=True)  # someone may have removed it
        for name, value in scalars.items():
            self.board.add_scalar(name, value, epoch)
        self.board.flush()  # a checkpoint may follow, and then nobody writes these again

    @contextmanager
    def errors_reported(self, name: str) -> Iterator[None]:
        """Print the first error about a file, and go on."""
        try:
            yield
        except Exception as error:  # TensorBoard can raise almost anything
            if name not in self.failed:
                print(
                    f'warning: {name} is not complete, training goes on: {error}', file=sys.stderr
                )
            self.failed.add(name)

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        with self.errors_reported('tensorboard/'):
            if self.board is not None:
                self.board.close()


def wait_for_the_next_file(folder: Path) -> None:
    """Wait until a new file of events comes after those in `folder`, less than a second.

    TensorBoard reads them in the order of their names, which tell whole seconds and a counter
    without leading zeros: of the same second, the tenth comes before the ninth, whose later
    `purge_step` then hides what it wrote.
    """
    while any(folder.glob(f'events.out.tfevents.{int(time.time()):010d}.*')):
        time.sleep(0.02)


def summary(scalars: dict[str, float]) -> str:
    """The losses, the smallest standard deviation of a projection, k-NN accuracy and speed."""
    spreads = [value for name, value in scalars.items() if name.startswith('std_')]
    shown = {name: scalars.get(name) for name in ('total', *Losses._fields)}
    shown['smallest std'] = min(spreads, default=None)
    shown['k-NN'] = scalars.get('knn')
    shown['clips/s'] = scalars.get('clips_per_second')
    return '  '.join(f'{name} {value:.4g}' for name, value in shown.items() if value is not None)


def read_log(path: Path) -> tuple[list[dict], int]:
    """The lines of a log.jsonl, and the number of those left out because they cannot be read."""
    entries, left_out = [], 0
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get('epoch', 0), int):
            entries.append(entry)
        else:
            left_out += 1
    return entries, left_out


def keep_lines_before(path: Path, first_epoch: int) -> None:
    """Leave those lines of an earlier run's log that a run resuming at `first_epoch` keeps.

    Prints a note about lines that cannot be read; log.jsonl.damaged keeps them.
    """
    entries, left_out = [], 0
    if first_epoch and path.is_file():
        entries, left_out = read_log(path)
    if left_out:
        damaged = path.with_name(LOG_FILES[2])
        with open(damaged, 'ab') as file:  # which may hold earlier ones
            file.write(path.read_bytes())
        print(
            f'note: {path}: {plural(left_out, "line")} left out that cannot be read; the file as '
            f'it was is in {damaged.name}',
            file=sys.stderr,
        )
    with replacing(path) as file:
        for entry in entries:
            if entry.get('epoch', -1) < first_epoch:
                file.write(json.dumps(entry).encode() + b'\n')
