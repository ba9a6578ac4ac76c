"""The one table of data sets and protocols, who trains in each, and the names of recordings."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_gen import manifest
from data_gen.class_names import CLASS_NAMES
from tools.common.cli import InputError

PROTOCOLS = {
    'cross_subject': 'xsub',
    'cross_view': 'xview',
    'cross_setup': 'xsetup',
    'own_split': 'split',
}

NTU60_TRAINING_PERFORMERS = frozenset(
    {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
)
NTU120_TRAINING_PERFORMERS = NTU60_TRAINING_PERFORMERS | {
    45,
    46,
    47,
    49,
    50,
    52,
    53,
    54,
    55,
    56,
    57,
    58,
    59,
    70,
    74,
    78,
    80,
    81,
    82,
    83,
    84,
    85,
    86,
    89,
    91,
    92,
    93,
    94,
    95,
    97,
    98,
    100,
    103,
}
TRAINING_CAMERAS = frozenset({2, 3})
MOST_CLASSES = 10_000  # an evaluation counts each class taken for each other one


class Name(NamedTuple):
    """A recording's name, `SsssCcccPpppRrrrAaaa`; the numbers are those of the name, from 1."""

    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    PATTERN = re.compile(r'S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(?!000)(\d{3})')

    @classmethod
    def parse(cls, stem: str) -> 'Name | None':
        """A Name, or None if `stem` is not one."""
        match = cls.PATTERN.fullmatch(stem)
        return cls(*map(int, match.groups())) if match else None

    @classmethod
    def find_all(cls, content: bytes) -> 'list[Name]':
        """The names in a text in UTF-8 or UTF-16, in any case, each once."""
        text = content.replace(b'\0', b'').decode('latin-1').upper()
        found = [cls(*map(int, numbers)) for numbers in cls.PATTERN.findall(text)]
        return list(dict.fromkeys(found))

    def __str__(self):
        return f'S{self.setup:03d}C{self.camera:03d}P{self.performer:03d}R{self.replication:03d}A{self.action:03d}'


class Dataset(NamedTuple):
    """One data set, its folder below the data root, and the published clip counts (train, val) of
    its benchmarks.

    The other fields are for recordings with names of NTU RGB+D; `preparable`: the benchmarks of
    ntu_gendata, with or without published results.
    """

    folder: str
    classes: int
    counts: dict
    setups: int = 0
    training_performers: frozenset = frozenset()
    preparable: tuple = ()

    @property
    def protocols(self) -> list[str]:
        return [protocol for protocol, benchmark in PROTOCOLS.items() if benchmark in self.counts]

    def holds(self, name: Name) -> bool:
        """Whether a recording belongs to this data set (NTU-60 is a part of NTU-120)."""
        return name.setup <= self.setups and name.action <= self.classes

    def trains(self, name: Name, benchmark: str) -> bool:
        """Whether a recording is in the benchmark's `train` split; the others are in `val`."""
        return {
            'xsub': name.performer in self.training_performers,
            'xview': name.camera in TRAINING_CAMERAS,
            'xsetup': name.setup % 2 == 0,
        }[benchmark]

    def split(self, name: Name, benchmark: str) -> str:
        """The benchmark's split that a recording belongs to: `train` or `val`."""
        return 'train' if self.trains(name, benchmark) else 'val'

    def describe_missing(self, names: list[Name]) -> str:
        """Which setups and actions of NTU RGB+D have no recording among these."""
        setups = set(range(1, self.setups + 1)) - {name.setup for name in names}
        actions = set(range(1, self.classes + 1)) - {name.action for name in names}
        missing = [
            f'no {what} {number_ranges(sorted(numbers))}'
            for what, numbers in (('setup', setups), ('action', actions))
            if numbers
        ]
        return ', '.join(missing) or 'every setup and action has some'


# A set without cross_subject also needs its protocol in tools/scripts.sh.
DATASETS = {
    'ntu60': Dataset(
        'NTU-RGB-D-60-AGCN',
        60,
        {'xsub': (40091, 16487), 'xview': (37646, 18932)},
        setups=17,
        training_performers=NTU60_TRAINING_PERFORMERS,
        preparable=('xsub', 'xview'),
    ),
    'ntu120': Dataset(
        'NTU-RGB-D-120-AGCN',
        120,
        {'xsub': (63026, 50919), 'xsetup': (54468, 59477)},
        setups=32,
        training_performers=NTU120_TRAINING_PERFORMERS,
        preparable=('xsub', 'xsetup', 'xview'),
    ),
    'pku1': Dataset('PKU-MMD-1', 51, {'xsub': None, 'xview': None}),
    'pku2': Dataset('PKU-MMD-2', 51, {'xsub': None, 'xview': None}),
    'irds': Dataset(
        'IntelliRehabDS',
        9,
        {'xsub': (1336, 1241)},  # counted here: the article has no protocol
        setups=1,
        training_performers=NTU60_TRAINING_PERFORMERS,
    ),
    'nwucla': Dataset('NW-UCLA', 10, {'xview': (1020, 464)}),
    'custom': Dataset('custom', 0, {'split': None}),  # the class names are in its manifest
}


class Data(NamedTuple):
    """The arrays of a data set and protocol below a data root, prepared or not."""

    root: Path
    dataset: str
    protocol: str

    @property
    def path(self) -> Path:
        """Where the arrays belong; InputError if the data set has no such protocol."""
        known = DATASETS[self.dataset]
        if PROTOCOLS[self.protocol] not in known.counts:
            choices = ' or '.join(known.protocols)
            raise InputError(f'{self.dataset} has no protocol {self.protocol}: choose {choices}')
        return Path(self.root) / known.folder / PROTOCOLS[self.protocol]

    @property
    def folder(self) -> Path:
        """The folder of the arrays; InputError if they are not prepared."""
        if self.path.is_dir():
            return self.path
        others = [self._replace(protocol=name) for name in DATASETS[self.dataset].protocols]
        prepared = [other.protocol for other in others if other.path.is_dir()]
        hint = f'; prepared: --protocol {" or ".join(prepared)}' if prepared else ''
        raise InputError(
            f'{self.path} is not there: prepare {self.dataset} first (data_gen/README.md), or see '
            f'--data-root{hint}'
        )

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes, if the manifest has them or the data set is known for them."""
        described = (manifest.read(self.path) or {}).get('class_names')
        return described or CLASS_NAMES.get(self.dataset)

    def class_name(self, label: int) -> str:
        """See `class_name`."""
        return class_name(self.class_names, label)

    def num_classes(self, labels) -> int:
        """See `num_classes`; labels (N,), on the CPU."""
        return num_classes(self.dataset, self.class_names, labels)

    def check_labels(self, names: list[str] | None, labels: list[int]) -> None:
        """InputError if a label of NTU RGB+D is not the one in the clip's name, where names are
        known. Other data sets may have such names and labels of their own.
        """
        if names is None or not DATASETS[self.dataset].setups:
            return
        for name, label in zip(names, labels, strict=True):
            parsed = Name.parse(name.removesuffix('.skeleton'))
            if parsed and parsed.action != label + 1:
                raise InputError(
                    f'{self.dataset} {self.protocol}: the clip {name} has label {label}, but its '
                    f'name says {parsed.action - 1}: names or labels are in another order'
                )

    def performers(self, names: list[str]) -> list | None:
        """Who performs each clip, from the manifest or a name of NTU RGB+D.

        None if that is not known of every clip.
        """
        parsed = {name: Name.parse(name.removesuffix('.skeleton')) for name in names}
        known = {name: each.performer for name, each in parsed.items() if each}
        known |= (manifest.read(self.path) or {}).get('performers', {})
        return [known[name] for name in names] if known.keys() >= set(names) else None


def class_name(class_names: list | None, label: int) -> str:
    """The name of a class or, without one, its number as in NTU RGB+D: A001 is label 0."""
    named = label < len(class_names or ())
    return str(class_names[label]) if named else f'A{label + 1:03d}'


def num_classes(dataset: str | None, class_names: list | None, labels) -> int:
    """The data set's fixed number of classes, else that of the names, else the largest label + 1.

    labels (N,), on the CPU, not empty; InputError for one outside.
    """
    labels = np.asarray(labels)
    low, high = int(labels.min()), int(labels.max())
    fixed = DATASETS[dataset].classes if dataset in DATASETS else 0
    count = fixed or len(class_names or ()) or high + 1
    if low < 0 or high >= count:
        raise InputError(
            f'labels run from {low} to {high}, but {dataset or "the data set"} has {count} classes'
        )
    if count > MOST_CLASSES:
        raise InputError(
            f'labels up to {high} mean {count:,} classes, more than {MOST_CLASSES:,}: number the '
            'classes from 0, without gaps'
        )
    return count


def number_ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 7] -> '1-3 7'."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ' '.join(
        str(start) if start == end else f'{start}-{end}'
        for start, end in zip(starts, ends, strict=True)
    )
