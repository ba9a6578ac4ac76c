"""What a results file holds."""
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from tools import results


def test_results_file(tmp_path):
    about = {'objective': 'umurl', 'modalities': ['joint']}
    args = Namespace(seed=3, data_root=Path('data'), lr=[0.1, 0.2], files=[Path('a')], gpu=None, checkpoint_sha256='ab',
                     data_sha256=None, pretrained_on=about)
    results.write(tmp_path / 'r.json', args, accuracy=50., labels=torch.tensor([1, 2]),
                  table=[{'modalities': 'joint', 'interval': torch.tensor([1.5]), 'count': np.int64(3)}])
    made = json.loads((tmp_path / 'r.json').read_text())
    assert made.pop('command')
    assert made.pop('torch') == torch.__version__
    assert made == {
        'accuracy': 50, 'labels': [1, 2], 'table': [{'modalities': 'joint', 'interval': [1.5], 'count': 3}], 'seed': 3,
        'args': {'seed': 3, 'data_root': 'data', 'lr': [0.1, 0.2], 'files': ['a'], 'gpu': None},
        'checkpoint_sha256': 'ab', 'data_sha256': None, 'pretrained_on': about}
