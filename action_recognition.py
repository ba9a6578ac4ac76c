"""Linear probe: train one linear layer on a frozen encoder's features, report the accuracy on the
test split.

    python action_recognition.py --pretrained ./checkpoints/ntu60_xsub/checkpoint_0450.pth.tar \\
        --dataset ntu60 --protocol cross_subject --lr 0.03 --batch-size 512

The encoder is frozen, so its features are extracted once. `--lr 0.01 0.03 0.1` trains a probe with
each learning rate. --finetune trains the encoder too, with --data-ratio on a share of the labels,
by a recipe: cmd, which other papers use (sources: tools/evaluation/README.md), or plain, which is
cmd without crops. Other flags override its values. Runs on one GPU or on the CPU.
"""

import tools.common.start  # noqa: F401

from functools import partial
from pathlib import Path

from feeder.feeders import DRAWS_VERSION
from tools import options
from tools.common.cli import InputError, Parser, non_negative_float, positive_int, run
from tools.device import memory_advice
from tools.evaluation import evaluation, probe, semi_supervised
from tools.evaluation.evaluation import Evaluation
from tools.evaluation.features import Extraction, load_inputs
from tools.evaluation.finetune import finetune
from tools.evaluation.recipes import RECIPES, Recipe
from tools.evaluation.semi_supervised import DRAWS, draw_labels

FINETUNE_ONLY = ('data_ratio', 'repeats', 'draw', 'save_model')


@memory_advice('use a smaller --extract-batch or, with --finetune, --batch-size')
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    recipe = recipe_of(args)
    settings = {'recipe': args.recipe, 'overrides': args.overrides, 'seed': args.seed}
    settings |= {'draws_version': DRAWS_VERSION} | recipe._asdict()
    if args.finetune:
        settings |= {name: getattr(args, name) for name in ('data_ratio', 'repeats', 'draw')}
        if tuning := evaluation.begin(args, 'fine-tuning', **settings):
            run_finetuning(tuning, recipe)
    elif probing := evaluation.begin(args, 'linear probe', **settings):
        run_probe(probing, recipe)


def run_probe(probing: Evaluation, recipe: Recipe) -> None:
    """Train the probe on the features of a frozen encoder, and report its scores."""
    frozen = probing.features(recipe)
    scored = probe.train_probe(frozen, probing.rows, recipe, probing.args.seed)
    record = probe.main_result(scored, probing.main_row.name)
    details = f'{len(frozen.train_labels)} training clips, {len(frozen.labels)} test clips'
    if record['training_loss'] is not None:
        details += f', last training loss {record["training_loss"]:.4f}'
    probing.finish(frozen, details, probe.report(scored, record), record)


def run_finetuning(tuning: Evaluation, recipe: Recipe) -> None:
    """Fine-tune on every draw of the labels, resuming from --results, and report the scores."""
    args, rows = tuning.args, tuning.rows
    extraction = Extraction.of(args)
    inputs = load_inputs(tuning.data, args.pretrained, args.modalities, extraction.device)
    draws = {
        (ratio, repeat): draw_labels(inputs.train_labels, ratio, args.draw, args.seed, repeat)
        for ratio in args.data_ratio or [1.0]
        for repeat in range(args.repeats)
    }
    drawn_clips = []
    if args.data_ratio:
        drawn_clips = [
            {'data_ratio': ratio, 'repeat': repeat, 'clips': [inputs.train.names[n] for n in clips]}
            for (ratio, repeat), clips in draws.items()
        ]
    finished = {}
    if not args.save_model:
        finished = semi_supervised.load_finished_runs(args.results, tuning.config, draws, rows)
    runs = semi_supervised.run_all(
        partial(finetune, inputs, recipe, extraction, args.seed, args.save_model),
        inputs,
        draws,
        rows,
        finished,
        lambda runs: tuning.write(inputs, draws=drawn_clips, runs=runs),
    )
    details = f'recipe {args.recipe}'
    if args.overrides:
        details += f' with {", ".join(args.overrides)} overridden'
    details += (
        f', {len(inputs.train)} training clips, {len(inputs.val)} test clips, '
        f'{recipe.epochs} epochs, runs per line: {args.repeats}'
    )
    record = semi_supervised.main_result(runs, tuning.main_row.name) | {'draws': drawn_clips}
    tuning.finish(inputs, details, semi_supervised.report(runs), record)


def parse_args(argv: list[str] | None):
    parser = evaluation.new_parser(__doc__)
    evaluation.add_fusion_flags(parser)
    add_recipe_flags(parser)
    add_finetuning_flags(parser)
    options.accept_official_flags(parser)
    args = evaluation.parse_args(parser, argv)
    if args.recipe and not args.finetune:
        raise InputError('--recipe: needs --finetune')
    args.recipe = args.recipe or ('cmd' if args.finetune else 'probe')
    args.overrides = overrides_of(args)
    if args.finetune:
        args.repeats = args.repeats or (5 if args.data_ratio else 1)
        args.draw = args.draw or ('random' if args.data_ratio else None)
    check_finetuning_flags(args)
    check_recipe(args, recipe_of(args))
    options.try_outputs(args.save_model)
    return args


def add_recipe_flags(parser: Parser) -> None:
    """A flag for each field of a recipe."""
    flag = parser.add_argument_group('training').add_argument
    describe = partial(options.describe, RECIPES)
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
    flag('--cos', action='store_true', default=None, help='cosine schedule instead of --schedule')
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
        help='train on random crops of such a share of each clip; the probe then extracts the '
        f'features of the training clips in every epoch, not once ({describe("train_crop")})',
    )
    flag(
        '--test-crop',
        type=non_negative_float,
        metavar='SHARE',
        help=f'test on the centre crop of this share of each clip ({describe("test_crop")})',
    )


def add_finetuning_flags(parser: Parser) -> None:
    flag = parser.add_argument_group('fine-tuning').add_argument
    flag('--finetune', action='store_true', help='train the encoder together with the linear layer')
    flag(
        '--recipe',
        choices=[name for name in RECIPES if name != 'probe'],
        help='a row of defaults that other flags override (default cmd)',
    )
    flag(
        '--data-ratio',
        type=non_negative_float,
        nargs='+',
        metavar='R',
        help='use only these shares of the labels, such as 0.01 0.1 (default: all labels)',
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
        help='save the weights; for a single run',
    )


def recipe_of(args) -> Recipe:
    """The recipe's row, with the values of its flags."""
    return RECIPES[args.recipe]._replace(**args.overrides)


def overrides_of(args) -> dict:
    """The flags whose values are not those of the recipe."""
    defaults = RECIPES[args.recipe]._asdict()
    given = {name: getattr(args, name) for name in defaults}
    return {
        name: value
        for name, value in given.items()
        if value is not None and value != defaults[name]
    }


def check_finetuning_flags(args) -> None:
    """InputError for flags of fine-tuning that make no sense together."""
    if not args.finetune:
        given = [name for name in FINETUNE_ONLY if getattr(args, name) is not None]
        if given:
            flags = ' '.join(f'--{name.replace("_", "-")}' for name in given)
            raise InputError(f'{flags}: needs --finetune')
        return
    if not args.pretrained:
        raise InputError('--finetune needs --pretrained CHECKPOINT')
    if args.save_features or args.load_features:
        raise InputError('--finetune uses no features files')
    ratios = args.data_ratio or []
    if wrong := [f'{ratio:g}' for ratio in ratios if not 0 < ratio <= 1]:
        raise InputError(
            f'--data-ratio {" ".join(wrong)}: give shares above 0 and at most 1, such as 0.1 for '
            '10 % of the labels'
        )
    if len(set(ratios)) < len(ratios):
        raise InputError('--data-ratio has a share twice')
    if args.draw and not ratios:
        raise InputError('--draw needs --data-ratio')
    several = len(ratios) > 1 or args.repeats > 1
    if args.per_class and several:
        raise InputError('--per-class needs a single --data-ratio and run')
    if args.save_model and (several or args.ensemble or args.all_modalities):
        raise InputError('--save-model needs a single --data-ratio, run and model')


def check_recipe(args, recipe: Recipe) -> None:
    """InputError for values of a recipe's flags that cannot be used."""
    low, high = recipe.train_crop
    if len(set(recipe.lr)) < len(recipe.lr):
        raise InputError('--lr has a value twice')
    if args.finetune and len(recipe.lr) > 1:
        raise InputError('--finetune takes one --lr')
    if not 0 < low <= high <= 1:
        raise InputError(
            f'--train-crop {low:g} {high:g}: give two shares above 0 and at most 1, the smaller '
            'one first, such as 0.5 1'
        )
    if not 0 < recipe.test_crop <= 1:
        raise InputError(f'--test-crop {recipe.test_crop:g}: give a share above 0 and at most 1')
    cropped = recipe.random_crops or recipe.test_crop != 1
    features_files = args.save_features or args.load_features or not args.pretrained
    if cropped and features_files and not args.finetune:
        raise InputError(
            '--train-crop and --test-crop need --pretrained CHECKPOINT, and no features files'
        )


if __name__ == '__main__':
    run(main)
