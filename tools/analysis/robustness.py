"""How far accuracy falls when the test clips are corrupted: a table for one or several encoders.

    python -m tools.analysis.robustness umurl.pth.tar baseline.pth.tar --finetune-dataset ntu60

All encoders see the same corrupted test clips; training clips stay as they are. The accuracy is
that of retrieval (k = 1, cosine), which trains nothing. Clips are corrupted after preparation:
centred, in metres. Joints, or an arm or leg, are drawn for each clip and zeroed in all frames of
both bodies. Half of the frames are dropped before the resize. Jitter is Gaussian, on each
coordinate of every joint that was recorded.
"""

from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import normalize

from feeder.dataset import ClipDataset
from feeder.feeders import generator_at
from tools import options, results
from tools.common import cli
from tools.device import amp_dtype, select
from tools.evaluation.features import extract_subsets, load_inputs
from tools.evaluation.knn import knn_search


def main(argv=None):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        'checkpoints',
        nargs='+',
        type=Path,
        metavar='CHECKPOINT',
        help='from pretrain.py or the official code',
    )
    flag('--extract-batch', type=cli.positive_int, metavar='N', help='default 512; 64 on a CPU')
    flag('--results', type=Path, metavar='FILE.json', help='also write the accuracies')
    options.add_data_flags(parser, '--finetune-dataset')
    options.add_modalities_flag(parser)
    options.add_machine_flags(parser, amp='off')
    args = options.parse_args(parser, argv)
    options.try_outputs(args.results)
    data, device = options.data_of(args), select(args.device)
    table = {}
    for path in args.checkpoints:
        backbone, train, val, origin = load_inputs(data, path, args.modalities, device)
        results.print_origin(origin.pretrained_on, args.dataset, args.protocol)
        features_of = partial(
            extract_subsets,
            backbone,
            subsets=[tuple(args.modalities)],
            batch_size=args.extract_batch,
            dtype=amp_dtype(args.amp, device),
        )
        (of_train,), table[path] = features_of(train).values(), {}
        for number, (name, (corrupt, severity)) in enumerate(CORRUPTIONS.items()):
            generator = generator_at(args.seed, number)
            corrupted = (corrupt(part, severity, generator) for part in val.parts())
            of_val = torch.cat(
                [features for part in corrupted for features in features_of(part).values()]
            )
            neighbours, _ = knn_search([normalize(of_train)], [normalize(of_val)], 1)
            right = train.labels[neighbours[:, 0]] == val.labels
            table[path][name] = 100 * right.double().mean().item()
    print(
        f'retrieval, {args.dataset} {args.protocol}, {"+".join(args.modalities)}: accuracy and '
        'relative drop, in %'
    )
    print('columns:', *table)
    for name in CORRUPTIONS:
        cells = [
            f'{row[name]:10.2f}{100 * (1 - row[name] / row["clean"]) if row["clean"] else 0.0:8.1f}'
            for row in table.values()
        ]
        print(f'{name:20}', *cells)
    if args.results:
        config = {
            name: getattr(args, name)
            for name in ('dataset', 'protocol', 'modalities', 'amp', 'tf32', 'seed')
        }
        results.write(
            args.results, config, accuracies={str(path): row for path, row in table.items()}
        )


def zero_joints(clips: ClipDataset, number: int, generator: torch.Generator) -> ClipDataset:
    return zero(
        clips,
        torch.rand(len(clips), clips.frames.shape[2], generator=generator).argsort(1)[:, :number],
    )


def zero_limb(clips: ClipDataset, sides: tuple, generator: torch.Generator) -> ClipDataset:
    return zero(clips, torch.tensor(sides)[torch.randint(2, (len(clips),), generator=generator)])


def zero(clips: ClipDataset, joints: torch.Tensor) -> ClipDataset:
    """The clips with these joints (N, J) at zero."""
    keep = (
        torch.ones(len(clips), clips.frames.shape[2]).scatter_(1, joints, 0).to(clips.frames.device)
    )
    frames = clips.frames * keep.repeat_interleave(clips.num_frames, 0)[:, None, :, None]
    return ClipDataset(frames, clips.num_frames, clips.labels, clips.names)


def drop_frames(clips: ClipDataset, share: float, generator: torch.Generator) -> ClipDataset:
    """The clips without this share of their frames, drawn anywhere; at least one frame stays."""
    num_frames, start = clips.num_frames.cpu(), clips.start.cpu()
    clip = torch.arange(len(clips)).repeat_interleave(num_frames)
    order = (
        clip + torch.rand(len(clip), generator=generator, dtype=torch.float64)
    ).argsort()  # shuffled in each clip
    left = (num_frames * (1 - share)).ceil().long()
    kept = order[torch.arange(len(clip)) - start[clip] < left[clip]].sort().values
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
