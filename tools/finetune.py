"""Fine-tuning: encoder and linear head trained together, on all labels or, semi-supervised, on drawn shares of them.

Behind `action_recognition.py --finetune`. A run is one subset of the modalities, one share of the labels and one
repeat. With --results each finished run is kept, and the same command goes on where it was stopped.
"""
import argparse
import json
import sys
from itertools import chain
from pathlib import Path

import torch

from data_gen import cli
from feeder import store
from tools import features, options, results, scores
from tools.classifier import Task, late_fusion, score, train
from tools.distributed import world_size
from tools.draws import DRAWS, draw

DEFAULTS = {'lr': 0.01, 'batch_size': 64, 'epochs': 80, 'schedule': [50, 70]}  # the peers' protocol
SCORES = {'top-1': 'accuracy', 'top-5': 'top5_accuracy', 'per class': 'mean_class_accuracy',
          'best seen': 'best_accuracy'}
# What a run follows from, beside its modalities, share and repeat: runs that differ in it are not gone on with.
RECIPE = ('dataset', 'protocol', 'data_root', 'lr', 'batch_size', 'epochs', 'schedule', 'cos', 'momentum',
          'weight_decay', 'amp', 'tf32', 'seed', 'draw')


def add_flags(parser):
    parser.add_argument('--finetune', action='store_true',
                        help='train encoder and head together, in place of a head on the frozen encoder')
    parser.add_argument('--data-ratio', type=share, nargs='+', metavar='R',
                        help='with --finetune: semi-supervised, on these shares of the labels, such as 0.01 0.05 0.1 '
                             '0.2 (default: all labels)')
    parser.add_argument('--repeats', type=cli.positive, metavar='N',
                        help='with --finetune: how many runs, each with its own draw, order and head (default 5 with '
                             '--data-ratio, else 1)')
    parser.add_argument('--draw', choices=DRAWS,
                        help='with --data-ratio: from all clips alike, or as many from each class (default random)')
    parser.add_argument('--save-model', type=Path, metavar='FILE.pth.tar',
                        help='with --finetune, a single run: keep the fine-tuned weights')


def share(text):
    """An argparse type: a part of the whole, above 0 and at most 1."""
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not above 0 and at most 1')
    return float(text)


def settle(args):
    """Fill in the defaults that depend on other flags; InputError for flags that make no sense together."""
    if not args.finetune:
        for name in ('data_ratio', 'repeats', 'draw', 'save_model'):
            if getattr(args, name) is not None:
                raise cli.InputError(f'--{name.replace("_", "-")} goes with --finetune')
        return
    if not args.pretrained:
        raise cli.InputError('--finetune needs --pretrained CHECKPOINT')
    if args.save_features or args.load_features:
        raise cli.InputError('--finetune trains the encoder, so there are no features to save or to load')
    if args.draw and not args.data_ratio:
        raise cli.InputError('--draw goes with --data-ratio: without it there is nothing to draw')
    if args.data_ratio and len(set(args.data_ratio)) < len(args.data_ratio):
        raise cli.InputError(f'--data-ratio has a share twice: {" ".join(map(str, args.data_ratio))}')
    args.repeats = args.repeats or (5 if args.data_ratio else 1)
    args.draw = args.draw or DRAWS[0]
    draws = args.repeats * len(args.data_ratio or [1])
    if args.per_class and draws > 1:
        raise cli.InputError('--per-class is of a single run: ask for one --data-ratio and --repeats 1')
    if args.save_model:
        if draws * len(features.rows(args)) > 1:
            raise cli.InputError('--save-model is of a single run: ask for one --data-ratio, --repeats 1, one model')
        args.save_model.parent.mkdir(parents=True, exist_ok=True)


def run(args, device):
    """Fine-tune as the flags say: print a table, write --results."""
    if world_size() > 1:
        raise cli.InputError('--finetune runs in one process: leave out torchrun')
    task, rows = load(args, device), features.rows(args)
    labels = task.train.labels.cpu()
    draws = {(ratio, repeat): draw(labels, ratio, args.draw, args.seed, repeat)
             for ratio in args.data_ratio or [1.] for repeat in range(args.repeats)}
    wanted = [(name, *at) for at in draws for name in rows]
    fewest = min(map(len, draws.values()))
    if fewest < task.classes:
        print(f'note: the smallest draw has {fewest} clips, for {task.classes} classes', file=sys.stderr)
    runs = earlier(args, wanted)
    missing = [name for name in wanted if name not in runs]
    for record in every_run(task, draws, rows, missing, args) if missing else ():
        runs[key(record)] = record
        write(task, draws, runs, args)  # no accuracy as yet: whoever reads it sees that it is not finished

    runs = {name: runs[name] for name in wanted}  # in this order, whichever were there before
    table = summaries(runs.values())
    chosen = features.chosen(args)
    total = max((row for row in table if row['modalities'] == chosen), key=lambda row: row['data_ratio'])
    if args.repeats == 1:
        total = total | runs[chosen, total['data_ratio'], 0]
    report(task, table, args)
    if args.per_class:
        scores.write_per_class(args.per_class, task.val.labels.cpu(), torch.as_tensor(total['predictions']),
                               task.classes, task.class_names)
    write(task, draws, runs, args, **total, table=table)


def load(args, device):
    """The Task of --pretrained and the data set, on the device."""
    backbone, folder = features.load_backbone(args).to(device), options.data_folder(args)
    parts = []
    for part in ('train', 'val'):
        clips = store.load(folder, part)
        features.check_width(backbone, clips, folder, args)
        parts.append(clips.to(device))
    return Task(backbone, *parts, *features.classes(args, *(clips.labels for clips in parts)))


def every_run(task, draws, rows, missing, args):
    """Do the `missing` runs, a list of keys; yields the record of each."""
    plan = {at: {name: needed for name, needed in rows.items() if (name, *at) in missing} for at in draws}
    models = sum(len(set(chain(*needed.values()))) for needed in plan.values())
    with cli.progress(None, 'fine-tuning', models * args.epochs, 'epoch') as bar:
        for (ratio, repeat), needed in plan.items():
            made = {}  # {subset: (logits at each look, last loss)}
            for name, subsets in needed.items():
                for subset in (subset for subset in subsets if subset not in made):
                    bar.set_postfix_str(f'{"+".join(subset)}, {100 * ratio:g} % of the labels, run {repeat + 1}', False)
                    made[subset] = train(task, subset, draws[ratio, repeat], repeat, args, bar)
                looks, losses = zip(*(made[subset] for subset in subsets), strict=True)
                yield {'modalities': name, 'data_ratio': ratio, 'repeat': repeat, 'clips': len(draws[ratio, repeat]),
                       'training_loss': losses[0] if len(losses) == 1 else None,
                       **score(late_fusion(looks), task, args)}


def key(record):
    return record['modalities'], record['data_ratio'], record['repeat']


def earlier(args, wanted):
    """{key: record} of the wanted runs that a stopped command of the same RECIPE left in --results."""
    if not args.results or not args.results.is_file() or args.save_model:  # the weights of a finished run are gone
        return {}
    try:
        made = json.loads(args.results.read_text())
        kept = {key(record): record for record in made['runs']}
        same = (all(made['args'][name] == results.as_text(getattr(args, name)) for name in RECIPE)
                and all(made[name] == getattr(args, name) for name in ('checkpoint_sha256', 'data_sha256'))
                and (not args.ensemble or made['args']['modalities'] == args.modalities))  # any two give a row `2s`
    except (ValueError, KeyError, TypeError):  # not a file of fine-tuning
        return {}
    runs = {name: kept[name] for name in wanted if same and name in kept}
    if runs:
        print(f'{args.results} has {len(runs)} of {len(wanted)} runs: '
              f'{"nothing is left to train" if len(runs) == len(wanted) else "going on from there"}', file=sys.stderr)
    elif kept:
        print(f'note: {args.results} is of other arguments, data or checkpoint; it was moved to '
              f'{results.move_aside(args.results)}', file=sys.stderr)
    return runs


def write(task, draws, runs, args, **total):
    """Write --results, if asked for: all runs so far, the names of the drawn clips, and the total."""
    if args.results:
        drawn = [{'data_ratio': ratio, 'repeat': repeat, 'clips': [task.train.names[clip] for clip in clips.tolist()]}
                 for (ratio, repeat), clips in draws.items() if args.data_ratio]
        results.write(args.results, args, **total, task='fine-tuning', runs=list(runs.values()), draws=drawn,
                      labels=task.val.labels, class_names=task.class_names)


def summaries(runs):
    """A row for each share and subset: mean and standard deviation (n - 1) over the repeats; a single one as it is."""
    groups, rows = {}, []
    for record in runs:
        groups.setdefault((record['data_ratio'], record['modalities']), []).append(record)
    for records in groups.values():
        row = {name: records[0][name] for name in ('modalities', 'data_ratio', 'clips')} | {'repeats': len(records)}
        for name in SCORES.values():
            row[name], row[f'{name}_std'] = scores.mean_std([record[name] for record in records])
        if len(records) == 1:
            row |= {name: records[0][name] for name in ('accuracy_interval', 'best_epoch', 'training_loss')}
        rows.append(row)
    return rows


def report(task, table, args):
    """Print the summaries: a line for each share of the labels and subset of the modalities."""
    results.print_origin(args)
    print(f'fine-tuning, {args.dataset} {args.protocol}: {len(task.train)} training clips, {len(task.val)} test clips, '
          f'{args.epochs} epochs, runs per line: {args.repeats}')
    print(f'{"labels":>8}{"clips":>8}  {"modalities":20}' + ''.join(f'{title:>16}' for title in SCORES))
    for row in table:
        numbers = [f'{row[name]:.2f}' + (f' ± {row[f"{name}_std"]:5.2f}' if row['repeats'] > 1 else '')
                   for name in SCORES.values()]
        print(f'{100 * row["data_ratio"]:6g} %{row["clips"]:8}  {row["modalities"]:20}'
              + ''.join(f'{number:>16}' for number in numbers))
    print('(in %, of the last epoch; best seen: the best top-1 of a look every 5 epochs, chosen on the test part)')
