"""--compile: torch.compile of the model's parts and of the objective."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable

import torch

from model.umurl import Embedding, Fusion, Layer, Projector, UmURL
from tools.distributed import rank


def compiled(model: UmURL, objective: Callable, device: torch.device) -> Callable:
    """Compile the parts of a model in place, and return the compiled objective.

    Parts, because each is then a node of its own in the backward: DDP sends the gradients of one
    while the next is computed. Sizes are constants in the compiled code of projectors and objective;
    a smaller last batch of an epoch gets code of its own. How many clips of a batch have one body
    varies, so the encoder's code takes any number. Without a compiler nothing is compiled, and a
    note says so.
    """
    compiler = (
        (os.environ.get('CC') or 'gcc')
        if device.type == 'cuda'
        else (os.environ.get('CXX') or 'g++')
    )
    needed = {compiler: shutil.which(compiler.split()[0])}
    if device.type == 'cuda':
        needed['triton'] = importlib.util.find_spec('triton')
    if model.encoder_chunks > 1:  # fails with torch 2.4; those between were not tried
        needed['torch 2.13 for --encoder-chunks'] = torch.__version__ >= '2.13'
    if missing := [name for name, found in needed.items() if not found]:
        if rank() == 0:
            print(
                f'note: --compile needs {" and ".join(missing)}, which is missing here: nothing is '
                'compiled',
                file=sys.stderr,
            )
        return objective
    # Each modality, number of bodies, and a single clip have code of their own: more than torch's 8.
    torch._dynamo.config.cache_size_limit = 32
    for part in model.modules():
        if isinstance(part, (Embedding, Fusion, Layer, Projector)):
            part.compile(dynamic=not isinstance(part, Projector))
    return torch.compile(objective, dynamic=False)
