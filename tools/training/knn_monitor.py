"""k-NN accuracy while a model trains: a fixed sample of its training clips, each among the others."""

import time

import numpy as np
import torch
from torch.nn.functional import normalize

from data_gen.protocols import Data
from feeder.dataset import ClipDataset
from feeder.feeders import generator_at
from tools.evaluation.features import extract_subsets

SAMPLE = 2000  # clips, at most


class KnnMonitor:
    """How many clips of a sample have the class of their nearest neighbour (cosine) in it, in %.

    A neighbour is never of the same performer, or, if performers are unknown or only one, never the
    clip itself. Labels are used for this number alone, and the test split is not used.
    """

    def __init__(self, dataset: ClipDataset, data: Data, seed: int):
        order = torch.randperm(len(dataset), generator=generator_at(seed, 'k-NN sample'))
        self.sample = dataset.select(order[:SAMPLE].sort().values)
        performers = data.performers(self.sample.names) or []
        if len(set(performers)) < 2:  # unknown, or all of one person
            performers = range(len(self.sample))
        performers = np.array(performers)
        self.same = torch.from_numpy(performers[:, None] == performers)

    def accuracy(self, backbone, modalities, device: torch.device, dtype) -> dict[str, float]:
        """{'knn': in %, 'knn_seconds': what it cost}."""
        started = time.perf_counter()
        (features,) = extract_subsets(
            backbone, self.sample.to(device), [tuple(modalities)], 64, dtype
        ).values()
        features = normalize(features).cpu()
        nearest = (features @ features.T).masked_fill_(self.same, -2).argmax(1)
        right = (self.sample.labels[nearest] == self.sample.labels).double().mean().item()
        return {'knn': 100 * right, 'knn_seconds': time.perf_counter() - started}
