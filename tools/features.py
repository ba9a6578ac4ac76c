"""Features of a frozen encoder: extracted once, for both parts, then used by every evaluation.

A subset is a tuple of modalities in the order joint, bone, motion. Under torchrun every process extracts its share.
"""
import sys
from itertools import combinations

import torch

from data_gen import manifest
from data_gen.cli import InputError, progress
from data_gen.protocols import DATASETS, PROTOCOLS
from feeder import store
from feeder.feeders import downstream_batches
from feeder.modalities import MODALITIES
from tools import checkpoint, feature_files, options
from tools.device import amp_dtype, autocast
from tools.distributed import rank
from tools.feature_files import Features
from tools.results import data_digest, digest
from tools.sharding import gathered, own_share

SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(MODALITIES, size)]


def rows(args):
    """{name: subsets}: the lines of the table asked for; where there are several subsets, their scores are added."""
    if args.all_modalities:
        if len(args.modalities) < len(MODALITIES):
            raise InputError('--all-modalities is of all of them: leave out --modalities')
        return {'+'.join(subset): [subset] for subset in SUBSETS} | {'3s': SUBSETS[:3]}
    if args.ensemble:
        if len(args.modalities) == 1:
            raise InputError(f'--ensemble takes two or three modalities, not {args.modalities[0]} alone')
        single = {modality: [(modality,)] for modality in args.modalities}
        return single | {f'{len(single)}s': [(modality,) for modality in single]}
    return {'+'.join(args.modalities): [tuple(args.modalities)]}


def chosen(args):
    """The name of the row that is the result; the others stand in the table only."""
    return '+'.join(MODALITIES) if args.all_modalities else list(rows(args))[-1]


def subsets(args):
    """The subsets whose features are needed, each once."""
    return list(dict.fromkeys(subset for needed in rows(args).values() for subset in needed))


def from_args(args, device):
    """{subset: Features} on the device, read from files or extracted with a checkpoint, in one pass over the data.

    Sets args.checkpoint_sha256, args.data_sha256 and args.pretrained_on. Every process gets all of it.
    """
    needed = subsets(args)
    if args.load_features:
        data = feature_files.load_each(needed, args)
        if args.pretrained and rank() == 0:
            print('note: --pretrained has no effect here: the features come from --load-features', file=sys.stderr)
    else:
        data = with_checkpoint(needed, args, device)
    for features in data.values():
        check(args, features)
    if args.save_features and rank() == 0:
        feature_files.save_each(data, args)
    return {subset: Features(*(tensor.to(device) for tensor in features)) for subset, features in data.items()}


def with_checkpoint(subsets, args, device):
    """Run the encoder of --pretrained over both parts: {subset: Features}."""
    backbone, folder = load_backbone(args).to(device), options.data_folder(args)
    parts = []
    for part in ('train', 'val'):
        clips = store.load(folder, part, quiet=rank() != 0)
        check_width(backbone, clips, folder, args)
        blocks = extract_each(backbone, own_share(clips).to(device), subsets, args.extract_batch,
                              amp_dtype(args.amp, device))
        parts.append([(gathered(block, len(clips)), clips.labels) for block in blocks])
    return {subset: Features(*train, *val) for subset, train, val in zip(subsets, *parts, strict=True)}


def load_backbone(args):
    """The encoder of --pretrained, on the CPU; notes in args where it and the data come from (see `from_args`)."""
    if args.pretrained is None:
        raise InputError('--pretrained CHECKPOINT is missing (or --load-features FILE)')
    model = checkpoint.load_model(args.pretrained)
    args.checkpoint_sha256, args.data_sha256 = digest(args.pretrained), data_digest(options.data_folder(args))
    args.pretrained_on = model.about
    trained = (args.pretrained_on or {}).get('modalities', MODALITIES)
    strange = [modality for modality in args.modalities if modality not in trained]
    if strange and rank() == 0:
        print(f'note: {args.pretrained} was pre-trained on {" ".join(trained)} alone: its embedding of '
              f'{" ".join(strange)} is as random as it began', file=sys.stderr)
    return model.backbone


def check_width(backbone, clips, folder, args):
    """InputError where the clips of a folder are not what the encoder of --pretrained reads."""
    width = backbone.j_emb.t_embedding[0].in_features
    if clips.frames[0].numel() != width:
        raise InputError(f'{folder}: {clips.frames[0].numel()} numbers a frame, {args.pretrained} takes {width}')


def extract(backbone, clips, modalities, batch_size, dtype=None):
    """Features (N, 2H) float32 of every clip of a store, in its order, on its device; dtype: see device.amp_dtype."""
    return extract_each(backbone, clips, [tuple(modalities)], batch_size, dtype)[0]


def extract_each(backbone, clips, subsets, batch_size, dtype=None):
    """The same for several subsets, in one pass that embeds each modality once: a list of (N, 2H)."""
    device, width = clips.frames.device, 2 * backbone.ma_encoder.pe.pe.shape[2]
    features = [torch.empty(len(clips), width, device=device) for _ in subsets]
    embeddings = backbone.embeddings()
    batches = downstream_batches(clips, batch_size, [name for name in MODALITIES if any(name in s for s in subsets)])
    starts = progress(range(0, len(clips), batch_size), 'features', unit='batch', leave=False, disable=rank() != 0)
    with torch.inference_mode():
        for first, streams in zip(starts, batches, strict=False):  # no batch is made where there is no clip
            with autocast(dtype, device):
                embedded = {modality: embeddings[modality](pair) for modality, pair in streams.items()}
                for kept, subset in zip(features, subsets, strict=True):
                    tokens = backbone.fuse([embedded[modality] for modality in subset])
                    kept[first:first + batch_size] = backbone.ma_encoder(*tokens)
    return features


def check(args, features):
    """InputError for features that no score can be trusted of."""
    if not len(features.train) or not len(features.val):
        raise InputError(f'{len(features.train)} training and {len(features.val)} test clips: nothing to evaluate')
    extremes = torch.stack((*features.train.aminmax(), *features.val.aminmax()))  # not a number, if there is such a one
    if not extremes.isfinite().all():
        raise InputError(f'{args.load_features or args.pretrained} gives features that are not finite')
    classes(args, features.train_labels, features.val_labels)


def classes(args, *labels):
    """(number of classes, their names or None): of a data set that fixes neither, as its manifest or the labels say.

    labels: of all parts, (N,) each. InputError for one that is no class.
    """
    dataset = DATASETS[args.dataset]
    made = manifest.read(args.data_root / dataset.folder / PROTOCOLS[args.protocol]) or {}
    names, labels = made.get('class_names'), torch.cat(labels)
    low, high = labels.min().item(), labels.max().item()
    count = dataset.classes or len(names or ()) or high + 1
    if low < 0 or high >= count:
        raise InputError(f'labels run from {low} to {high}, but {args.dataset} has {count} classes')
    return count, names
