"""pretrain.py with checkpoints that take half a second to write, so that tests can stop it in the
middle of one.
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pretrain  # noqa: E402
from tools.common import cli  # noqa: E402

original = torch.save


def slow_save(content, file):
    file.write(b'the start of a file that is overwritten')
    file.flush()
    time.sleep(0.5)
    file.seek(0)
    original(content, file)


torch.save = slow_save
cli.run(pretrain.record(pretrain.main))
