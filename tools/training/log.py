"""The record of a training run: log.jsonl, TensorBoard, and a line on the screen. Only rank 0 keeps
one.
"""

import json
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from tools.common.files import replacing
from tools.distributed import rank, world_size

LOG_FILES = ('log.jsonl', 'tensorboard')  # in the folder of a run


class RunLog:
    """log.jsonl (the command line and configuration first, then a line per epoch) and TensorBoard
    scalars.
    """

    def __init__(self, folder: Path, configuration: dict, device: torch.device, first_epoch: int):
        self.writer = None
        if rank() != 0:
            return
        from torch.utils.tensorboard import (
            SummaryWriter,
        )  # slow to import, and only this process needs it

        self.writer = SummaryWriter(folder / 'tensorboard', purge_step=first_epoch)
        path = folder / 'log.jsonl'
        lines = lines_before(path, first_epoch)
        with replacing(path) as file:
            file.write(''.join(lines).encode())
        self.file = open(path, 'a', buffering=1)  # noqa: SIM115, it stays open
        first_line = {
            'command': sys.argv,
            'config': configuration,
            'torch': torch.__version__,
            'device': str(device),
            'processes': world_size(),
        }
        self.file.write(json.dumps(first_line) + '\n')

    def epoch(self, epoch: int, scalars: dict[str, float]) -> None:
        """Record the scalars of one epoch."""
        if self.writer is None:
            return
        self.file.write(json.dumps({'epoch': epoch, **scalars}) + '\n')
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()  # a checkpoint may follow, and then nobody writes these again
        show = (
            tqdm.write if sys.stderr.isatty() else print
        )  # above the progress bar, if there is one
        show(
            f'epoch {epoch}: ' + '  '.join(f'{name} {value:.4g}' for name, value in scalars.items())
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        if self.writer is not None:
            self.writer.close()
            self.file.close()


def lines_before(path: Path, first_epoch: int) -> list[str]:
    """The lines of an earlier run's log that a run resuming at `first_epoch` keeps."""
    lines = path.read_text().splitlines(keepends=True) if first_epoch and path.is_file() else []
    return [
        line
        for line in lines
        if line.endswith('\n') and json.loads(line).get('epoch', -1) < first_epoch
    ]
