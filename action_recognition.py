"""Linear probe: train one linear layer on a frozen encoder's features, report the accuracy on the
test split.

    python action_recognition.py --pretrained ./checkpoints/ntu60_xsub/checkpoint_0450.pth.tar \\
        --finetune-dataset ntu60 --protocol cross_subject --lr 0.03 --batch-size 512

The encoder is frozen, so its features are extracted once. `--lr 0.01 0.03 0.1` trains a probe with
each learning rate. --finetune trains the encoder too, with --data-ratio on a share of the labels,
by a recipe: cmd, which other papers use (sources: tools/evaluation/README.md), or plain, which is
cmd without crops. Other flags override its values. Runs on one GPU or on the CPU.
"""

from functools import partial
from pathlib import Path

import torch

from tools import options, results, scores
from tools.common.cli import InputError, Parser, non_negative_float, positive_int, run
from tools.device import amp_dtype, memory_advice, select
from tools.distributed import first_process_only
from tools.evaluation import feature_files, probe, semi_supervised
from tools.evaluation.features import input_hashes, load_inputs, load_or_extract
from tools.evaluation.finetune import finetune
from tools.evaluation.late_fusion import fusion_rows, main_row, needed_subsets
from tools.evaluation.recipes import RECIPES, Recipe
from tools.evaluation.semi_supervised import DRAWS, draw_labels
from tools.schedule import lr_factors

CONFIGURATION = [
    'dataset',
    'protocol',
    'modalities',
    'ensemble',
    'all_modalities',
    'recipe',
    'overrides',
    'cos',
    *Recipe._fields,
    'amp',
    'tf32',
    'seed',
]
FINETUNE_ONLY = ['data_ratio', 'repeats', 'draw']


@memory_advice('use a smaller --extract-batch or, with --finetune, --batch-size')
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not first_process_only():
        return
    rows = fusion_rows(args.modalities, args.ensemble, args.all_modalities)
    config = {'task': 'fine-tuning' if args.finetune else 'linear probe'}
    config |= {name: getattr(args, name) for name in CONFIGURATION + FINETUNE_ONLY * args.finetune}
    if args.results:
        config |= input_hashes(options.data_of(args), args.pretrained, args.load_features)
    if args.skip_finished and results.is_finished(args.results, config):
        return

    record, details, report = (
        run_finetuning(args, rows, config) if args.finetune else run_probe(args, rows)
    )
    name = main_row(rows).name
    name = f'{"+".join(args.modalities)}, late fusion ({name})' if args.ensemble else name
    print(f'{config["task"]}, {args.dataset} {args.protocol}, {name}: {details}')
    results.print_origin(record['pretrained_on'], args.dataset, args.protocol)
    print(report)
    if args.per_class:
        scores.write_per_class(
            args.per_class,
            record['labels'],
            record['predictions'],
            len(record['class_accuracy']),
            record['class_names'],
        )
    if args.results:
        results.write(args.results, config, task=config['task'], **record)


def run_probe(args, rows):
    """Train the probe on the features of a frozen encoder: (the record for --results, details,
    report).
    """
    data = options.data_of(args)
    features, origin, draw_again = load_or_extract(
        needed_subsets(rows),
        data,
        args.pretrained,
        args.load_features,
        args.save_features,
        args.extract_batch,
        args.amp,
        select(args.device),
        recipe_of(args),
        args.seed,
    )
    _, train_labels, _, labels = next(iter(features.values()))
    num_classes = data.num_classes(torch.cat((train_labels, labels)).cpu())
    factors = lr_factors(args.epochs, args.schedule, args.cos)
    scored = probe.train_probe(
        features, rows, num_classes, recipe_of(args), factors, args.seed, origin, draw_again
    )
    result = probe.main_result(scored, main_row(rows).name)
    details = f'{len(train_labels)} training clips, {len(labels)} test clips'
    if result['training_loss'] is not None:
        details += f', last training loss {result["training_loss"]:.4f}'
    record = {**origin.record(), 'labels': labels, 'class_names': data.class_names, **result}
    return record, details, probe.report(scored, result)


def run_finetuning(args, rows, config):
    """Fine-tune on every draw of the labels, resuming from --results: (the record for --results,
    details, report).
    """
    data, device = options.data_of(args), select(args.device)
    backbone, train, val, origin = load_inputs(data, args.pretrained, args.modalities, device)
    train_labels, labels = train.labels.cpu(), val.labels.cpu()
    num_classes = data.num_classes(torch.cat((train_labels, labels)))
    draws = {
        (ratio, repeat): draw_labels(train_labels, ratio, args.draw, args.seed, repeat)
        for ratio in args.data_ratio or [1.0]
        for repeat in range(args.repeats)
    }
    clip_names = [
        {
            'data_ratio': ratio,
            'repeat': repeat,
            'clips': [train.names[clip] for clip in clips.tolist()],
        }
        for (ratio, repeat), clips in draws.items()
        if args.data_ratio
    ]
    record = {
        **origin.record(),
        'labels': labels,
        'class_names': data.class_names,
        'draws': clip_names,
    }

    def save(runs):
        if args.results:
            results.write(args.results, config, task=config['task'], **record, runs=runs)

    finished = (
        {}
        if args.save_model
        else semi_supervised.load_finished_runs(args.results, config, draws, rows)
    )
    finetune_once = partial(
        finetune,
        backbone,
        train,
        val,
        num_classes,
        recipe=recipe_of(args),
        factors=lr_factors(args.epochs, args.schedule, args.cos),
        dtype=amp_dtype(args.amp, device),
        seed=args.seed,
        extract_batch=args.extract_batch,
        save_model=args.save_model,
        pretrained_on=origin.pretrained_on,
    )
    runs = semi_supervised.run_all(
        finetune_once, draws, rows, finished, labels, num_classes, save, origin.performers
    )
    overridden = f' with {", ".join(args.overrides)} overridden' if args.overrides else ''
    details = (
        f'recipe {args.recipe}{overridden}, {len(train)} training clips, {len(val)} test clips, '
        f'{args.epochs} epochs, runs per line: {args.repeats}'
    )
    return (
        record | semi_supervised.main_result(runs, main_row(rows).name),
        details,
        semi_supervised.report(runs),
    )


def parse_args(argv: list[str] | None):
    parser = Parser(__doc__)
    options.add_evaluation_flags(parser)
    flag, describe = parser.add_argument, partial(options.describe, RECIPES)
    flag('--epochs', type=positive_int, help=describe('epochs'))
    flag('-b', '--batch-size', type=positive_int, help=describe('batch_size'))
    flag(
        '--lr',
        '--learning-rate',
        type=non_negative_float,
        nargs='+',
        help=f'several: a probe with each; the first gives the main result ({describe("lr")})',
    )
    flag(
        '--schedule',
        type=int,
        nargs='*',
        help=f'epochs at which --lr falls to a tenth ({describe("schedule")})',
    )
    flag('--cos', action='store_true', help='cosine schedule instead of --schedule')
    flag('--momentum', type=non_negative_float, help=describe('momentum'))
    flag(
        '--wd',
        '--weight-decay',
        dest='weight_decay',
        type=non_negative_float,
        help=describe('weight_decay'),
    )
    flag(
        '--train-crop',
        type=non_negative_float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='train on random crops of such a share of each clip; the probe then extracts the features of the '
        f'training clips in every epoch, not once ({describe("train_crop")})',
    )
    flag(
        '--test-crop',
        type=non_negative_float,
        metavar='SHARE',
        help=f'test on the centre crop of this share of each clip ({describe("test_crop")})',
    )
    flag('--finetune', action='store_true', help='train the encoder together with the linear layer')
    flag(
        '--recipe',
        choices=[name for name in RECIPES if name != 'probe'],
        help='of --finetune: a row of defaults that other flags override (default cmd)',
    )
    flag(
        '--data-ratio',
        type=non_negative_float,
        nargs='+',
        metavar='R',
        help='with --finetune: use only these shares of the labels, such as 0.01 0.1 (default: all labels)',
    )
    flag(
        '--repeats',
        type=positive_int,
        metavar='N',
        help='number of runs (default 5 with --data-ratio, else 1)',
    )
    flag(
        '--draw',
        choices=DRAWS,
        help='draw from all clips (default), or the same number from each class',
    )
    flag(
        '--save-model',
        type=Path,
        metavar='FILE.pth.tar',
        help='with --finetune, a single run: save the weights',
    )
    options.accept_official_flags(parser)
    args = options.parse_args(parser, argv, feature_files.read_source)
    if args.recipe and not args.finetune:
        raise InputError('--recipe: needs --finetune')
    args.recipe = args.recipe or ('cmd' if args.finetune else 'probe')
    defaults = RECIPES[args.recipe]._asdict()
    given = recipe_of(args)._asdict() | {'cos': args.cos or None}
    args.overrides = {
        name: value for name, value in given.items() if value not in (None, defaults.get(name))
    }
    if args.finetune:
        defaults |= {'repeats': 5, 'draw': 'random'} if args.data_ratio else {'repeats': 1}
    vars(args).update(
        {name: value for name, value in defaults.items() if getattr(args, name) is None}
    )
    validate_args(args)
    options.try_outputs(args.results, args.per_class, args.save_features, args.save_model)
    return args


def recipe_of(args) -> Recipe:
    """The recipe's row, with the values of its flags."""
    return Recipe(*(getattr(args, name) for name in Recipe._fields))


def validate_args(args) -> None:
    """InputError for flags that make no sense together."""
    ratios = args.data_ratio or []
    given = [
        f'--{name.replace("_", "-")}'
        for name in (*FINETUNE_ONLY, 'save_model')
        if getattr(args, name) is not None
    ]
    single_draw = len(ratios) < 2 and args.repeats == 1
    for is_wrong, message in (
        (len(set(args.lr)) < len(args.lr), '--lr has a value twice'),
        (given and not args.finetune, f'{" ".join(given)}: needs --finetune'),
        (args.finetune and len(args.lr) > 1, '--finetune takes one --lr'),
        (args.finetune and not args.pretrained, '--finetune needs --pretrained CHECKPOINT'),
        (
            args.finetune and (args.save_features or args.load_features),
            '--finetune uses no features files',
        ),
        (
            wrong := [f'{ratio:g}' for ratio in ratios if not 0 < ratio <= 1],
            f'--data-ratio {" ".join(wrong)}: give shares above 0 and at most 1, such as 0.1 for '
            '10 % of the labels',
        ),
        (
            not 0 < args.train_crop[0] <= args.train_crop[1] <= 1,
            f'--train-crop {args.train_crop[0]:g} {args.train_crop[1]:g}: give two shares above 0 '
            'and at most 1, the '
            'smaller one first, such as 0.5 1',
        ),
        (
            not 0 < args.test_crop <= 1,
            f'--test-crop {args.test_crop:g}: give a share above 0 and at most 1',
        ),
        (
            not args.finetune
            and (args.train_crop, args.test_crop) != ([1, 1], 1)
            and (args.save_features or args.load_features or not args.pretrained),
            '--train-crop and --test-crop need --pretrained CHECKPOINT, and no features files',
        ),
        (len(set(ratios)) < len(ratios), '--data-ratio has a share twice'),
        (args.draw and not ratios, '--draw needs --data-ratio'),
        (
            args.finetune and args.per_class and not single_draw,
            '--per-class needs a single --data-ratio and run',
        ),
        (
            args.save_model and (not single_draw or args.ensemble or args.all_modalities),
            '--save-model needs a single --data-ratio, run and model',
        ),
    ):
        if is_wrong:
            raise InputError(message)


if __name__ == '__main__':
    run(main)
