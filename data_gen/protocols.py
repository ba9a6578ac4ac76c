"""The one table of data sets, protocols, and who trains in each; names of recordings."""
import re
from dataclasses import dataclass

PROTOCOLS = {'cross_subject': 'xsub', 'cross_view': 'xview', 'cross_setup': 'xsetup', 'own_split': 'split'}

NTU60_TRAINING_PERFORMERS = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
NTU120_TRAINING_PERFORMERS = NTU60_TRAINING_PERFORMERS | {
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103}
TRAINING_CAMERAS = frozenset({2, 3})


@dataclass(frozen=True)
class Dataset:
    """One data set, its folder below the data root, and the published clip counts (train, val) of its benchmarks.

    `also` can be prepared, but nothing is published on it; `setups` and `training_performers` are NTU RGB+D's.
    """
    folder: str
    classes: int
    counts: dict
    also: tuple = ()
    setups: int = 0
    training_performers: frozenset = frozenset()

    @property
    def benchmarks(self):
        return tuple(self.counts)

    @property
    def protocols(self):
        return [protocol for protocol, benchmark in PROTOCOLS.items() if benchmark in self.counts]

    @property
    def preparable(self):
        return self.benchmarks + self.also

    def holds(self, name):
        """Whether a recording belongs to this data set (NTU-60 is a part of NTU-120)."""
        return name.setup <= self.setups and name.action <= self.classes

    def trains(self, name, benchmark):
        """Whether a recording is in the benchmark's training part; the rest is `val`."""
        return {'xsub': name.performer in self.training_performers,
                'xview': name.camera in TRAINING_CAMERAS,
                'xsetup': name.setup % 2 == 0}[benchmark]


DATASETS = {
    'ntu60': Dataset('NTU-RGB-D-60-AGCN', 60, {'xsub': (40091, 16487), 'xview': (37646, 18932)},
                     setups=17, training_performers=NTU60_TRAINING_PERFORMERS),
    'ntu120': Dataset('NTU-RGB-D-120-AGCN', 120, {'xsub': (63026, 50919), 'xsetup': (54468, 59477)}, also=('xview',),
                      setups=32, training_performers=NTU120_TRAINING_PERFORMERS),
    'pku1': Dataset('PKU-MMD-1', 51, {'xsub': None, 'xview': None}),
    'pku2': Dataset('PKU-MMD-2', 51, {'xsub': None, 'xview': None}),
    'custom': Dataset('custom', 0, {'split': None}),  # the number of classes is in its manifest
}


@dataclass(frozen=True, order=True)
class Name:
    """What `SsssCcccPpppRrrrAaaa` says; numbers as in the name, from 1."""
    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    PATTERN = re.compile(r'S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(?!000)(\d{3})')

    @classmethod
    def parse(cls, stem):
        """A Name, or None where `stem` is not one."""
        match = cls.PATTERN.fullmatch(stem)
        return cls(*map(int, match.groups())) if match else None

    def __str__(self):
        return f'S{self.setup:03d}C{self.camera:03d}P{self.performer:03d}R{self.replication:03d}A{self.action:03d}'

    @property
    def label(self):
        return self.action - 1
