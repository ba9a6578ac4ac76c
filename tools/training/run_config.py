"""What a run of pretrain.py was asked for: recorded in its checkpoints and its log."""

import argparse
from dataclasses import dataclass, field, fields

from feeder.augmentations import Augmentation
from model.objective import Weights

# When a run is resumed, a field may change:
NEVER = 'never'
UNFINISHED = 'with a note, unless the run is finished'
NOTED = 'with a note'
SILENTLY = 'silently'


def changes(when: str):
    """A field of RunConfig, and when it may change."""
    return field(metadata={'changes': when})


@dataclass(frozen=True)
class RunConfig:
    """The configuration of a run. Each field says when it may change as the run is resumed."""

    recipe: str = changes(NEVER)
    objective: str = changes(NEVER)
    modalities: list = changes(NEVER)
    weights: Weights = changes(NEVER)
    augmentation: Augmentation = changes(NEVER)
    dataset: str = changes(NEVER)
    protocol: str = changes(NEVER)
    data: str | None = changes(NEVER)  # hash of the training arrays, if their manifest has one
    hidden_size: int = changes(NEVER)
    seed: int = changes(NEVER)
    draws_version: int = changes(NOTED)  # see feeder.feeders
    batch_size: int | None = changes(NEVER)  # of all processes; None until the clips are counted
    lr: float = changes(UNFINISHED)
    schedule: list = changes(UNFINISHED)
    cos: bool = changes(UNFINISHED)
    weight_decay: float = changes(UNFINISHED)
    epochs: int = changes(SILENTLY)
    overrides: list = changes(SILENTLY)  # values of the recipe that flags replaced
    amp: str = changes(SILENTLY)  # the line about the precision says it
    processes: int = changes(NOTED)
    device: str = changes(NOTED)  # its type

    @classmethod
    def from_flags(cls, args: argparse.Namespace, **more) -> 'RunConfig':
        """The fields that are flags from the parsed flags, `more` for the rest."""
        names = {each.name for each in fields(cls)}
        flags = {name: value for name, value in vars(args).items() if name in names}
        return cls(**flags | more)

    def entries(self) -> dict:
        """As written to files: plain values, with the augmentation's fields beside the others."""
        entries = {**vars(self), **self.augmentation._asdict(), 'weights': self.weights._asdict()}
        del entries['augmentation']
        return plain(entries)


def plain(entries: dict) -> dict:
    """Tuples as lists, as JSON has them."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in entries.items()
    }


def changed(recorded: dict, config: RunConfig) -> list[tuple[str, object, object, str]]:
    """The entries of an earlier config that differ: name, before, now, and when they may change.

    A loss term that only one of them has counts as one of weight 0, an augmentation that was not
    recorded as its default, draws as of version 1. Any other entry that was not recorded counts as
    unchanged.
    """
    when = {each.name: each.metadata['changes'] for each in fields(RunConfig)}
    known = {'draws_version': 1} | plain(Augmentation()._asdict()) | recorded
    differences = []
    for name, now in config.entries().items():
        before = known.get(name)
        if name == 'weights' and isinstance(before, dict):
            same = nonzero(before) == nonzero(now)
        else:
            same = before is None or before == now
        if not same:
            differences.append((name, before, now, when.get(name, NEVER)))
    return differences


def nonzero(weights: dict) -> dict:
    return {name: weight for name, weight in weights.items() if weight != 0}
