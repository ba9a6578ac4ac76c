"""How far accuracy falls when the test clips are corrupted: a table for one or several encoders.

    python -m tools.analysis.robustness umurl.pth.tar baseline.pth.tar

All encoders see the same corrupted test clips; training clips stay as they are. The accuracy is
that of retrieval (k = 1, cosine), which trains nothing. Clips are corrupted after preparation:
centred, in metres. Joints, or an arm or leg, are drawn for each clip and zeroed in all frames of
both bodies. Half of the frames are dropped before the resize. Jitter is Gaussian, on each
coordinate of every joint that was recorded.
"""

import tools.common.start  # noqa: F401

from pathlib import Path

import torch
from torch.nn.functional import normalize

from feeder.dataset import ClipDataset
from feeder.feeders import DRAWS_VERSION, generator_at
from tools import options, results
from tools.common import cli
from tools.evaluation.features import Extraction, Inputs, extract_subsets, load_inputs
from tools.evaluation.knn import knn_search
from tools.evaluation.late_fusion import Subset

CONFIGURATION = ('dataset', 'protocol', 'modalities', 'amp', 'tf32', 'seed')


def main(argv=None):
    args = parse_args(argv)
    data, extraction = options.data_of(args), Extraction.of(args)
    table = {}
    for path in args.sources:
        inputs = load_inputs(data, path, args.modalities, extraction.device)
        results.print_origin(inputs.origin.pretrained_on, args.dataset, args.protocol)
        table[path] = accuracies(inputs, tuple(args.modalities), extraction, args.seed)
    print(
        f'retrieval, {args.dataset} {args.protocol}, {"+".join(args.modalities)}: accuracy and '
        'relative drop, in %'
    )
    print('columns:', *table)
    for name in CORRUPTIONS:
        cells = [f'{row[name]:10.2f}{drop(row, name):8.1f}' for row in table.values()]
        print(f'{name:20}', *cells)
    if args.results:
        config = {name: getattr(args, name) for name in CONFIGURATION}
        config['draws_version'] = DRAWS_VERSION
        by_path = {str(path): row for path, row in table.items()}
        results.write(args.results, config, accuracies=by_path)
        print(f'written: {args.results}')


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        'sources',
        nargs='+',
        type=Path,
        metavar='CHECKPOINT',
        help='from pretrain.py or the official code; of a folder its newest. The first sets the '
        'data set and protocol',
    )
    flag('--results', type=Path, metavar='FILE.json', help='also write the accuracies')
    options.add_encoding_flags(parser)
    args = options.parse_args(parser, argv)
    options.try_outputs(args.results)
    return args


def accuracies(
    inputs: Inputs, subset: Subset, extraction: Extraction, seed: int
) -> dict[str, float]:
    """Retrieval accuracy in % for each kind of corruption of the test clips."""

    def encode(clips: ClipDataset) -> torch.Tensor:
        features = extract_subsets(
            inputs.backbone, clips, [subset], extraction.batch_size, extraction.dtype
        )
        return features[subset]

    train, val = inputs.train, inputs.val
    of_train = normalize(encode(train))
    row = {}
    for name, (corrupt, severity) in CORRUPTIONS.items():
        generator = generator_at(seed, name)
        parts = [encode(corrupt(part, severity, generator)) for part in val.parts()]
        of_val = normalize(torch.cat(parts))
        neighbours, _ = knn_search([of_train], [of_val], 1)
        right = train.labels[neighbours[:, 0]] == val.labels
        row[name] = 100 * right.double().mean().item()
    return row


def drop(row: dict[str, float], name: str) -> float:
    """The share of the clean clips' accuracy that is lost, in %."""
    return 100 * (1 - row[name] / row['clean']) if row['clean'] else 0.0


def zero_joints(clips: ClipDataset, number: int, generator: torch.Generator) -> ClipDataset:
    order = torch.rand(len(clips), clips.frames.shape[2], generator=generator).argsort(1)
    return zero(clips, order[:, :number])


def zero_limb(clips: ClipDataset, sides: tuple, generator: torch.Generator) -> ClipDataset:
    side = torch.randint(2, (len(clips),), generator=generator)
    return zero(clips, torch.tensor(sides)[side])


def zero(clips: ClipDataset, joints: torch.Tensor) -> ClipDataset:
    """The clips with these joints (N, J) at zero."""
    keep = torch.ones(len(clips), clips.frames.shape[2]).scatter_(1, joints, 0)
    keep = keep.to(clips.frames.device).repeat_interleave(clips.num_frames, 0)
    frames = clips.frames * keep[:, None, :, None]
    return ClipDataset(frames, clips.num_frames, clips.labels, clips.names)


def drop_frames(clips: ClipDataset, share: float, generator: torch.Generator) -> ClipDataset:
    """The clips without this share of their frames, drawn anywhere; at least one frame stays."""
    num_frames, start = clips.num_frames.cpu(), clips.start.cpu()
    clip = torch.arange(len(clips)).repeat_interleave(num_frames)
    draws = torch.rand(len(clip), generator=generator, dtype=torch.float64)
    order = (clip + draws).argsort()  # shuffled in each clip
    left = (num_frames * (1 - share)).ceil().long()
    rank = torch.arange(len(clip)) - start[clip]
    kept = order[rank < left[clip]].sort().values
    device = clips.frames.device
    return ClipDataset(clips.frames[kept.to(device)], left.to(device), clips.labels, clips.names)


def jitter(clips: ClipDataset, metres: float, generator: torch.Generator) -> ClipDataset:
    noise = metres * torch.randn(clips.frames.shape, generator=generator).to(clips.frames.device)
    frames = clips.frames + noise * clips.frames.any(-1, keepdim=True)
    return ClipDataset(frames, clips.num_frames, clips.labels, clips.names)


ARMS = (
    (4, 5, 6, 7, 21, 22),
    (8, 9, 10, 11, 23, 24),
)  # left and right, from shoulder to finger tips; of NTU RGB+D
LEGS = ((12, 13, 14, 15), (16, 17, 18, 19))
CORRUPTIONS = {
    'clean': (lambda clips, *_: clips, None),
    '5 joints zeroed': (zero_joints, 5),
    '10 joints zeroed': (zero_joints, 10),
    'an arm zeroed': (zero_limb, ARMS),
    'a leg zeroed': (zero_limb, LEGS),
    'half the frames': (drop_frames, 0.5),
    'jitter of 1 cm': (jitter, 0.01),
    'jitter of 2 cm': (jitter, 0.02),
    'jitter of 5 cm': (jitter, 0.05),
}

if __name__ == '__main__':
    cli.run(main)
