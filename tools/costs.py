"""What the method costs, by formula: FLOPs (2 x multiply-add, matrix products alone) and bytes.

H = hidden_size, B clips in the global batch, n processes. The layers' shapes are those of model/umurl.py.
"""
import math

import torch

from data_gen.skeleton import BODIES, JOINTS
from feeder.feeders import SIZE
from feeder.modalities import MODALITIES
from model.umurl import PROJECTION, UmURL

STREAMS = ((SIZE, BODIES * JOINTS * 3), (BODIES * JOINTS, SIZE * 3))  # tokens, and numbers of each, of the two streams
BATCH_NORMS = 2  # in a projector
FLOAT = 4  # bytes
BUCKET = 25 << 20  # bytes of gradients that DistributedDataParallel sums at once


def encode_flops(hidden_size, modalities=1, num_layer=1):
    """FLOPs of one encoder pass of one clip: one modality by itself, or two or three fused."""
    square = hidden_size ** 2
    total = 0
    for tokens, width in STREAMS:
        embedding = modalities * (width * hidden_size + square)
        fusion = square if modalities > 1 else 0
        layer = 6 * square + 2 * tokens * hidden_size  # q, k, v, out and two feed-forward maps; scores and their sums
        total += 2 * tokens * (embedding + fusion + num_layer * layer)
    return total


def forward_flops(hidden_size, num_layer=1):
    """FLOPs of one clip in a forward pass of pre-training: four encoder passes and six projections."""
    wide = 2 * hidden_size
    projection = 2 * (2 * wide * wide + wide * PROJECTION)
    return (len(MODALITIES) * encode_flops(hidden_size, 1, num_layer)
            + encode_flops(hidden_size, len(MODALITIES), num_layer) + 2 * len(MODALITIES) * projection)


def input_flops(hidden_size):
    """FLOPs of one clip in the products that meet the clips themselves; their inputs need no gradient."""
    return 2 * len(MODALITIES) * sum(2 * tokens * width * hidden_size for tokens, width in STREAMS)


def step_flops(hidden_size, num_layer=1):
    """FLOPs of one clip in a step of pre-training, forward and backward: 23.9 G at H = 1024.

    Three times the forward's, as is usual; the gradient of the inputs in it, 1 %, is never computed.
    """
    return 3 * forward_flops(hidden_size, num_layer)


def objective_flops(batch_size):
    """FLOPs of the objective and its gradient over a whole batch: the six Gram matrices."""
    return 3 * 2 * len(MODALITIES) * 2 * batch_size ** 2 * PROJECTION


def view_bytes(clips):
    """The least bytes that making a batch of streams moves: each view's frames read, each stream written."""
    frame = BODIES * JOINTS * 3 * FLOAT
    views, streams = len(MODALITIES) + 1, 2 * 2 * len(MODALITIES)
    return clips * SIZE * frame * (views + streams)


def parameters(hidden_size):
    """Numbers that a step of pre-training trains."""
    with torch.device('meta'):
        model = UmURL(STREAMS[0][1], STREAMS[1][1], hidden_size)
    return sum(parameter.numel() for parameter in model.parameters())


def optimizer_bytes(hidden_size):
    """Adam reads the parameter, its gradient and two moments, and writes all but the gradient."""
    return 7 * FLOAT * parameters(hidden_size)


def all_reduce_bytes(size, n):
    """Bytes that each of n processes sends to sum `size` bytes over a ring, and as many that it receives."""
    return 2 * (n - 1) * size / n


def all_gather_bytes(size, n):
    """Bytes that each of n processes sends, over a ring, until all have the `size` bytes of each."""
    return (n - 1) * size


def step_messages(hidden_size, batch_size, n, z_bytes=FLOAT, batch_norm=True):
    """{what: (bytes that each process sends in a step, collectives, messages of each one after another)}.

    z_bytes: of one number of the z's. batch_norm: synchronised, as on GPUs; of each of its layers the forward gathers
    mean, deviation and count, the backward sums two vectors.
    """
    rings = {'all-reduce': (all_reduce_bytes, 2 * (n - 1)), 'all-gather': (all_gather_bytes, n - 1)}
    layers, width = 2 * len(MODALITIES) * BATCH_NORMS * batch_norm, 2 * hidden_size
    gradients = FLOAT * parameters(hidden_size)
    buckets = math.ceil(gradients / BUCKET)
    parts = {'gradients': ('all-reduce', buckets, gradients / buckets),
             'gather of z': ('all-gather', 1, 2 * len(MODALITIES) * (batch_size / n) * PROJECTION * z_bytes),
             'BatchNorm, forward': ('all-gather', layers, FLOAT * (2 * width + 1)),
             'BatchNorm, backward': ('all-reduce', layers, FLOAT * 2 * width)}
    return {what: (count * rings[kind][0](size, n), count, rings[kind][1])
            for what, (kind, count, size) in parts.items()}
