"""Features of a frozen encoder: extracted once, for both splits, then used by every evaluation."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.functional import normalize

from data_gen.protocols import Data
from feeder.augmentations import center_crops
from feeder.dataset import ClipDataset, load_split
from feeder.feeders import downstream_batches
from model.umurl import Backbone
from tools import checkpoint
from tools.common.cli import InputError, plural, progress
from tools.common.files import file_sha256
from tools.device import amp_dtype, autocast, select
from tools.evaluation import feature_files
from tools.evaluation.feature_files import Features
from tools.evaluation.flops import gflops_per_clip
from tools.evaluation.late_fusion import Subset, modalities_of
from tools.evaluation.recipes import RECIPES, Crops, Recipe, training_crops
from tools.results import Origin, data_sha256, print_origin

SHORTEST = 1e-12  # a shorter feature counts as zero in torch's normalize
MISSING = '--pretrained CHECKPOINT is missing (or --load-features FILE)'


class Extraction(NamedTuple):
    """How an encoder is run. dtype: of autocast, None for float32; batch_size: clips at a time."""

    device: torch.device
    dtype: torch.dtype | None
    batch_size: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> 'Extraction':
        """What the flags ask for; the device becomes the current one."""
        device = select(args.device)
        return cls(device, amp_dtype(args.amp, device), args.extract_batch)


class Inputs(NamedTuple):
    """An encoder and both splits of the data, on one device, and where they come from."""

    data: Data
    backbone: Backbone
    train: ClipDataset
    val: ClipDataset
    origin: Origin

    @property
    def train_labels(self) -> torch.Tensor:
        return self.train.labels.cpu()

    @property
    def labels(self) -> torch.Tensor:
        """Of the test clips (M,), on the CPU."""
        return self.val.labels.cpu()

    @property
    def num_classes(self) -> int:
        return self.data.num_classes(torch.cat((self.train_labels, self.labels)))


class FrozenFeatures(NamedTuple):
    """The features of both splits, by subset of the modalities, and where they come from.

    draw_again(epoch): the training features {subset: (N, 2H)} with the random crops of another
    epoch, from 1; None if there are no random crops.
    """

    data: Data
    by_subset: dict[Subset, Features]
    origin: Origin
    draw_again: Callable[[int], dict] | None = None

    @property
    def first(self) -> Features:
        return next(iter(self.by_subset.values()))

    @property
    def train_labels(self) -> torch.Tensor:
        return self.first.train_labels

    @property
    def labels(self) -> torch.Tensor:
        """Of the test clips (M,)."""
        return self.first.val_labels

    @property
    def num_classes(self) -> int:
        return self.data.num_classes(torch.cat((self.train_labels, self.labels)).cpu())

    def to(self, device: torch.device | str) -> 'FrozenFeatures':
        moved = {
            subset: Features(*(tensor.to(device) for tensor in values))
            for subset, values in self.by_subset.items()
        }
        return self._replace(by_subset=moved)


def load_features(path: Path, subsets: list[Subset], data: Data) -> FrozenFeatures:
    """The features of these subsets in a file, on the CPU; InputError if it does not hold them, or
    is of other data.
    """
    source = feature_files.read_source(path)
    if source.dataset not in (None, data.dataset):
        raise InputError(
            f'{path} has features of the data set {source.dataset}, not {data.dataset}'
        )
    if source.protocol not in (None, data.protocol):
        raise InputError(
            f'{path} has features of the protocol {source.protocol}, not {data.protocol}'
        )
    features = feature_files.load(path, subsets)
    check_features(features, path)
    frozen = FrozenFeatures(data, features, source.origin)
    data.check_labels(source.origin.train_names, frozen.train_labels.tolist())
    data.check_labels(source.origin.val_names, frozen.labels.tolist())
    return frozen


def extract_features(
    pretrained: Path,
    subsets: list[Subset],
    data: Data,
    extraction: Extraction,
    recipe: Recipe = RECIPES['probe'],
    seed: int = 0,
    with_flops: bool = False,
) -> FrozenFeatures:
    """The features of these subsets as a checkpoint's encoder gives them, with the crops of a
    recipe, on the device. with_flops: count those of each pass; to count takes two seconds.
    """
    inputs = load_inputs(data, pretrained, modalities_of(subsets), extraction.device)
    backbone, train, val = inputs.backbone, inputs.train, inputs.val

    def extract(clips: ClipDataset, crops: Crops) -> dict[Subset, torch.Tensor]:
        return extract_subsets(
            backbone, clips, subsets, extraction.batch_size, extraction.dtype, crops
        )

    def draw_again(epoch: int) -> dict[Subset, torch.Tensor]:
        crops = training_crops(train.num_frames, recipe.train_crop, seed, epoch)
        return extract(train, crops)

    of_train = draw_again(0)
    of_val = extract(val, center_crops(val.num_frames, recipe.test_crop))
    features = {
        subset: Features(of_train[subset], train.labels, of_val[subset], val.labels)
        for subset in subsets
    }
    check_features(features, pretrained)
    origin = inputs.origin
    if with_flops:
        origin = origin._replace(gflops=gflops_per_clip(backbone, subsets))
    return FrozenFeatures(data, features, origin, draw_again if recipe.random_crops else None)


def read_features(path: Path, subset: Subset, data: Data, extraction: Extraction) -> Features:
    """The features of one subset, of length 1, on the CPU: of a checkpoint or an .npz file. Prints
    what the encoder was pre-trained on.

    If the file holds a single subset, it is that one.
    """
    if path.suffix == '.npz':
        stored = feature_files.read_source(path).subsets or []
        subset = stored[0] if len(stored) == 1 else subset
        frozen = load_features(path, [subset], data)
    else:
        frozen = extract_features(path, [subset], data, extraction)
    print_origin(frozen.origin.pretrained_on, data.dataset, data.protocol)
    train, train_labels, val, val_labels = frozen.to('cpu').first
    return Features(normalize(train), train_labels, normalize(val), val_labels)


def load_inputs(
    data: Data, pretrained: Path, modalities: list[str], device: torch.device
) -> Inputs:
    """The encoder of --pretrained and both splits, on the device. Their hashes are left out.

    Prints a note about modalities the encoder was not trained on; InputError if its frames had
    another size.
    """
    model, pretrained_on = checkpoint.load_model(pretrained, modalities)
    trained = (pretrained_on or {}).get('modalities', model.backbone.modalities)
    if untrained := [modality for modality in modalities if modality not in trained]:
        print(
            f'note: {pretrained} was pre-trained on {" ".join(trained)} only; its embedding of '
            f'{" ".join(untrained)} is still random',
            file=sys.stderr,
        )
    train, val = (load_split(data.folder, split) for split in ('train', 'val'))
    expected = model.backbone.t_input_size
    for clips in (train, val):
        data.check_labels(clips.names, clips.labels.tolist())
        size = math.prod(clips.frames.shape[1:])
        if size != expected:
            raise InputError(
                f'{data.folder}: {size} numbers per frame, {pretrained} takes {expected}'
            )
    origin = Origin(
        pretrained_on=pretrained_on,
        val_names=val.names,
        performers=data.performers(val.names),
        train_names=train.names,
    )
    return Inputs(data, model.backbone.to(device), train.to(device), val.to(device), origin)


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
    batches = downstream_batches(dataset, batch_size, modalities_of(subsets), crops)
    num_batches = math.ceil(len(dataset) / batch_size)
    for clips, parts in progress(batches, 'features', num_batches, unit='batch', leave=False):
        with torch.inference_mode(), autocast(dtype, device):
            embedded = [
                {modality: embeddings[modality](pair) for modality, pair in streams.items()}
                for streams in parts
            ]
            for subset, values in features.items():
                tokens = [
                    backbone.fuse([part[modality] for modality in subset]) for part in embedded
                ]
                values[clips] = torch.cat([backbone.ma_encoder(*part) for part in tokens]).float()
    return features


def check_features(features: dict[Subset, Features], path: Path) -> None:
    """InputError for features that cannot be scored; notes for those that tell nothing."""
    for train, _, val, _ in features.values():
        if not len(train) or not len(val):
            raise InputError(
                f'{len(train)} training and {len(val)} test clips: nothing to evaluate'
            )
        for split, values in (('training', train), ('test', val)):
            norms = values.norm(dim=1)
            if not norms.isfinite().all():
                raise InputError(
                    f'{path} gives features that are not finite, or their norm is not in float32'
                )
            zero = int((norms < SHORTEST).sum())
            if zero:
                print(
                    f'note: {path}: the features of {plural(zero, f"{split} clip")} are zeros',
                    file=sys.stderr,
                )
            elif len(values) > 1 and (values == values[0]).all():
                print(f'note: {path}: all {split} clips have the same features', file=sys.stderr)


def input_hashes(
    data: Data, pretrained: Path | None, features_file: Path | None
) -> dict[str, str | None]:
    """The hashes of the checkpoint and of the data, which are part of a result's configuration."""
    if features_file:
        origin = feature_files.read_source(features_file).origin
        if origin.checkpoint_sha256 is None:  # the file does not say, so it is identified by itself
            return {'features_sha256': file_sha256(features_file)}
        return {'checkpoint_sha256': origin.checkpoint_sha256, 'data_sha256': origin.data_sha256}
    if pretrained is None:
        raise InputError(MISSING)
    if not pretrained.is_file():
        raise InputError(f'--pretrained {pretrained}: no such checkpoint')
    return {
        'checkpoint_sha256': file_sha256(pretrained),
        'data_sha256': data_sha256(data.folder),
    }
