"""Features of a frozen encoder: extracted once, for both splits, then used by every evaluation."""

import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from data_gen.protocols import Data
from feeder.augmentations import center_crops
from feeder.dataset import ClipDataset, load_split
from feeder.feeders import downstream_batches
from feeder.modalities import MODALITIES
from model.umurl import Backbone
from tools import checkpoint
from tools.common.cli import InputError, progress
from tools.common.files import file_sha256
from tools.device import amp_dtype, autocast
from tools.evaluation import feature_files
from tools.evaluation.feature_files import Features
from tools.evaluation.flops import gflops_per_clip
from tools.evaluation.late_fusion import Subset
from tools.evaluation.recipes import RECIPES, Crops, Recipe, training_crops
from tools.results import Origin, data_sha256

MISSING = '--pretrained CHECKPOINT is missing (or --load-features FILE)'


def load_or_extract(
    subsets: list[Subset],
    data: Data,
    pretrained: Path | None,
    load_features: Path | None,
    save_features: Path | None,
    batch_size: int,
    amp: str,
    device: torch.device,
    recipe: Recipe = RECIPES['probe'],
    seed: int = 0,
) -> tuple[dict[Subset, Features], Origin, Callable | None]:
    """From a file or from a checkpoint, what `extract_splits` returns; the features are on the
    device.
    """
    draw_again = None
    if load_features:
        source = feature_files.read_source(load_features)
        for name, stored, wanted in (
            ('data set', source.dataset, data.dataset),
            ('protocol', source.protocol, data.protocol),
        ):
            if stored not in (None, wanted):
                raise InputError(
                    f'{load_features} has features of the {name} {stored}, not {wanted}'
                )
        if pretrained:
            print('note: --pretrained has no effect with --load-features', file=sys.stderr)
        features, origin = feature_files.load(load_features, subsets), source.origin
    elif pretrained is None:
        raise InputError(MISSING)
    else:
        features, origin, draw_again = extract_splits(
            subsets, data, pretrained, recipe, seed, batch_size, amp, device
        )
    check_features(features, load_features or pretrained)
    if save_features:
        feature_files.save(save_features, features, data.dataset, data.protocol, origin)
    features = {
        subset: Features(*(tensor.to(device) for tensor in values))
        for subset, values in features.items()
    }
    return features, origin, draw_again


def extract_splits(
    subsets: list[Subset],
    data: Data,
    pretrained: Path,
    recipe: Recipe,
    seed: int,
    batch_size: int,
    amp: str,
    device: torch.device,
) -> tuple[dict[Subset, Features], Origin, Callable | None]:
    """The features of each subset with the crops of a recipe, where they come from, and
    `draw_again`.

    draw_again(epoch): the features of the training clips {subset: (N, 2H)} with the crops of
    another epoch; None if the recipe has no random crops.
    """
    modalities = [
        modality for modality in MODALITIES if any(modality in subset for subset in subsets)
    ]
    backbone, train, val, origin = load_inputs(data, pretrained, modalities, device)

    extract = partial(
        extract_subsets,
        backbone,
        subsets=subsets,
        batch_size=batch_size,
        dtype=amp_dtype(amp, device),
    )

    def draw_again(epoch):
        return extract(
            train, crops=training_crops(train.num_frames, recipe.train_crop, seed, epoch)
        )

    of_train, of_val = (
        draw_again(0),
        extract(val, crops=center_crops(val.num_frames, recipe.test_crop)),
    )
    features = {
        subset: Features(of_train[subset], train.labels, of_val[subset], val.labels)
        for subset in subsets
    }
    origin = origin._replace(gflops=gflops_per_clip(backbone, subsets))
    return features, origin, draw_again if recipe.train_crop != [1, 1] else None


def load_inputs(
    data: Data, pretrained: Path, modalities: list[str], device: torch.device
) -> tuple[Backbone, ClipDataset, ClipDataset, Origin]:
    """The encoder of --pretrained, the train and the val split, all on the device, and where they
    come from.

    Prints a note about modalities the encoder was not trained on; InputError if its frames had
    another size.
    """
    model, pretrained_on = checkpoint.load_model(pretrained)
    trained = (pretrained_on or {}).get('modalities', MODALITIES)
    if untrained := [modality for modality in modalities if modality not in trained]:
        print(
            f'note: {pretrained} was pre-trained on {" ".join(trained)} only; its embedding of '
            f'{" ".join(untrained)} is still random',
            file=sys.stderr,
        )
    train, val = (load_split(data.folder, split) for split in ('train', 'val'))
    for dataset in (train, val):
        size, expected = (
            math.prod(dataset.frames.shape[1:]),
            model.backbone.j_emb.t_embedding[0].in_features,
        )
        if size != expected:
            raise InputError(
                f'{data.folder}: {size} numbers per frame, {pretrained} takes {expected}'
            )
    origin = Origin(
        file_sha256(pretrained),
        data_sha256(data.folder),
        pretrained_on,
        val.names,
        data.performers(val.names),
        train.names,
    )
    return model.backbone.to(device), train.to(device), val.to(device), origin


def extract_subsets(
    backbone: Backbone,
    dataset: ClipDataset,
    subsets: list[Subset],
    batch_size: int,
    dtype: torch.dtype | None = None,
    crops: Crops | None = None,
) -> dict[Subset, torch.Tensor]:
    """Features (N, 2H) float32 of every clip, in order, for each subset, on the dataset's device;
    dtype: of autocast.

    One pass embeds each modality once. Of whole clips, or of crops.
    """
    device = dataset.labels.device
    features = {
        subset: torch.empty(len(dataset), 2 * backbone.hidden_size, device=device)
        for subset in subsets
    }
    embeddings = backbone.embeddings()
    modalities = [
        modality for modality in MODALITIES if any(modality in subset for subset in subsets)
    ]
    batches = downstream_batches(dataset, batch_size, modalities, crops)
    starts = progress(range(0, len(dataset), batch_size), 'features', unit='batch', leave=False)
    for first, streams in zip(starts, batches, strict=True):
        with torch.inference_mode(), autocast(dtype, device):
            embedded = {modality: embeddings[modality](pair) for modality, pair in streams.items()}
            for subset, values in features.items():
                tokens = backbone.fuse([embedded[modality] for modality in subset])
                values[first : first + batch_size] = backbone.ma_encoder(*tokens)
    return features


def check_features(features: dict[Subset, Features], path: Path) -> None:
    """InputError for features that cannot be scored."""
    for train, _, val, _ in features.values():
        if not len(train) or not len(val):
            raise InputError(
                f'{len(train)} training and {len(val)} test clips: nothing to evaluate'
            )
        if (
            not torch.stack((*train.aminmax(), *val.aminmax())).isfinite().all()
        ):  # extremes are NaN if there is one
            raise InputError(f'{path} gives features that are not finite')


def input_hashes(
    data: Data,
    pretrained: Path | None,
    load_features: Path | None,
) -> dict[str, str | None]:
    """The hashes of the checkpoint and of the data, which are part of a result's configuration."""
    if load_features:
        origin = feature_files.read_source(load_features).origin
        if origin.checkpoint_sha256 is None:  # the file does not say, so it is identified by itself
            return {'features_sha256': file_sha256(load_features)}
        return {'checkpoint_sha256': origin.checkpoint_sha256, 'data_sha256': origin.data_sha256}
    if pretrained is None:
        raise InputError(MISSING)
    if not pretrained.is_file():
        raise InputError(f'--pretrained {pretrained}: no such checkpoint')
    return {
        'checkpoint_sha256': file_sha256(pretrained),
        'data_sha256': data_sha256(data.folder),
    }
