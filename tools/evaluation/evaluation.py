"""What every evaluation begins and ends with: flags, configuration, features, results.

README.md shows an evaluation of your own in 20 lines.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from data_gen.protocols import Data
from tools import options, results, scores
from tools.common.cli import InputError, Parser
from tools.distributed import first_process_only
from tools.evaluation import feature_files
from tools.evaluation.features import (
    MISSING,
    Extraction,
    FrozenFeatures,
    Inputs,
    extract_features,
    input_hashes,
    load_features,
)
from tools.evaluation.late_fusion import FusionRow, fusion_rows, main_row, needed_subsets
from tools.evaluation.recipes import RECIPES, Recipe
from tools.results import Origin

CONFIGURATION = (
    'dataset',
    'protocol',
    'modalities',
    'ensemble',
    'all_modalities',
    'amp',
    'tf32',
)


class Evaluation(NamedTuple):
    """One evaluation. rows: what is evaluated; config: all that determines the numbers; hashes: of
    the checkpoint and the data, if they are recorded.
    """

    task: str
    args: argparse.Namespace
    data: Data
    rows: list[FusionRow]
    config: dict
    hashes: dict[str, str | None]

    @property
    def main_row(self) -> FusionRow:
        return main_row(self.rows, self.args.modalities, self.args.ensemble)

    def features(self, recipe: Recipe = RECIPES['probe']) -> FrozenFeatures:
        """The features of all rows, on the device: of --load-features, or of --pretrained with the
        crops of a recipe. Writes --save-features.
        """
        args = self.args
        subsets = needed_subsets(self.rows)
        extraction = Extraction.of(args)
        if args.load_features:
            if args.pretrained:
                print('note: --pretrained has no effect with --load-features', file=sys.stderr)
            frozen = load_features(args.load_features, subsets, self.data).to(extraction.device)
        elif args.pretrained:
            with_flops = bool(self.hashes) or len(self.rows) > 1  # which are recorded, or a table
            frozen = extract_features(
                args.pretrained, subsets, self.data, extraction, recipe, args.seed, with_flops
            )
        else:
            raise InputError(MISSING)
        if args.save_features:
            feature_files.save(
                args.save_features,
                frozen.by_subset,
                args.dataset,
                args.protocol,
                self.identified(frozen.origin),
            )
        return frozen

    def identified(self, origin: Origin) -> Origin:
        """With the hashes, unless the features come from a file, which holds its own."""
        return origin if self.args.load_features else origin._replace(**self.hashes)

    def write(self, inputs: Inputs | FrozenFeatures, **record) -> None:
        """Write --results: this record, the labels of the test clips, and where they come from."""
        if self.args.results:
            results.write(
                self.args.results,
                self.config,
                task=self.task,
                **self.identified(inputs.origin).record(),
                labels=inputs.labels,
                class_names=self.data.class_names,
                **record,
            )

    def finish(
        self, inputs: Inputs | FrozenFeatures, details: str, report: str, record: dict
    ) -> None:
        """Write --results, print what was evaluated, with details, and the report; write
        --per-class.

        record: accuracy, predictions (M,), class_accuracy and more, as of `tools.scores`.
        """
        args = self.args
        self.write(inputs, **record)
        name = self.main_row.name
        if args.ensemble:
            name = f'{"+".join(args.modalities)}, late fusion ({name})'
        print(f'{self.task}, {args.dataset} {args.protocol}, {name}: {details}')
        results.print_origin(inputs.origin.pretrained_on, args.dataset, args.protocol)
        print(report)
        if args.per_class:
            scores.write_per_class(
                args.per_class,
                inputs.labels,
                record['predictions'],
                len(record['class_accuracy']),
                self.data.class_names,
            )
        for path in filter(None, (args.results, args.per_class, args.save_features)):
            print(f'written: {path}')


def new_parser(doc: str) -> Parser:
    """A parser with the flags of every evaluation."""
    parser = Parser(doc)
    model = options.add_encoding_flags(parser)
    model.add_argument(
        '--pretrained',
        type=Path,
        metavar='CHECKPOINT',
        help='from pretrain.py or the official code',
    )
    parser.set_defaults(ensemble=False, all_modalities=False)  # see add_fusion_flags
    flag = parser.add_argument_group('evaluation').add_argument
    flag('--save-features', type=Path, metavar='FILE.npz', help='save the features')
    flag(
        '--load-features', type=Path, metavar='FILE.npz', help='use saved features; no encoder runs'
    )
    flag(
        '--results',
        type=Path,
        metavar='FILE.json',
        help='write scores, predictions and the configuration',
    )
    flag(
        '--skip-finished',
        action='store_true',
        help='do nothing if --results holds this configuration already',
    )
    flag(
        '--per-class',
        type=Path,
        metavar='FILE.csv',
        help='write the accuracy of each class and its worst confusion',
    )
    return parser


def add_fusion_flags(parser: Parser) -> None:
    """For evaluations that score several rows of modalities."""
    several = parser.add_mutually_exclusive_group()
    several.add_argument(
        '--ensemble',
        action='store_true',
        help='late fusion: encode each of --modalities separately, add their scores ("3s" in papers)',
    )
    several.add_argument(
        '--all-modalities',
        action='store_true',
        help='a table of all subsets of --modalities and their late fusion, from one pass over '
        'the data',
    )


def parse_args(parser: Parser, argv: list[str] | None) -> argparse.Namespace:
    """Parse the flags of `new_parser` and others, and try to write the files they name."""
    args = options.parse_args(parser, argv, feature_files.read_source)
    options.try_outputs(args.results, args.per_class, args.save_features)
    return args


def begin(args: argparse.Namespace, task: str, **settings) -> Evaluation | None:
    """The evaluation that the flags ask for; settings: what else determines its numbers.

    None if there is nothing to do: in all but the first process of a launcher, or because
    --results is of this configuration already, with --skip-finished.
    """
    if not first_process_only():
        return None
    data = options.data_of(args)
    rows = fusion_rows(args.modalities, args.ensemble, args.all_modalities)
    config = {'task': task} | {name: getattr(args, name) for name in CONFIGURATION} | settings
    if args.amp != 'off':
        config['extract_batch'] = args.extract_batch
    hashes = {}
    if args.results or args.save_features:
        hashes = input_hashes(data, args.pretrained, args.load_features)
    if args.results:
        config |= hashes
    if args.skip_finished and results.is_finished(args.results, config):
        return None
    return Evaluation(task, args, data, rows, config, hashes)
