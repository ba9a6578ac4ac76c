"""The record of a training run: log.jsonl, TensorBoard, and a line on the screen; rank 0 alone keeps one."""
import json
import sys

import torch
from tqdm import tqdm

from tools.distributed import rank, world_size


class RunLog:
    """log.jsonl (the command line first, then a line per epoch) and TensorBoard scalars below `folder`."""

    def __init__(self, folder, args, device, first_epoch):
        self.writer = None
        if rank() != 0:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only this process needs it
        self.writer = SummaryWriter(folder / 'tensorboard', purge_step=first_epoch)
        earlier = self.before(folder / 'log.jsonl', first_epoch)
        self.file = open(folder / 'log.jsonl', 'w', buffering=1)  # noqa: SIM115, it stays open
        self.file.writelines(earlier)
        self.write({'command': sys.argv, 'args': {key: str(value) for key, value in vars(args).items()},
                    'torch': torch.__version__, 'device': str(device), 'processes': world_size()})

    @staticmethod
    def before(path, first_epoch):
        """The lines of an earlier run's log that a run going on from `first_epoch` keeps."""
        if not first_epoch or not path.is_file():
            return []
        lines = path.read_text().splitlines(keepends=True)
        return [line for line in lines if line.endswith('\n') and json.loads(line).get('epoch', -1) < first_epoch]

    def write(self, record):
        self.file.write(json.dumps(record) + '\n')

    def epoch(self, epoch, scalars):
        """Record one epoch's scalars {name: number}."""
        if self.writer is None:
            return
        self.write({'epoch': epoch, **scalars})
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, epoch)
        show = tqdm.write if sys.stderr.isatty() else print  # above the bar where there is one
        show(f'epoch {epoch}: ' + '  '.join(f'{name} {value:.4g}' for name, value in scalars.items()))

    def close(self):
        if self.writer is not None:
            self.writer.close()
            self.file.close()
