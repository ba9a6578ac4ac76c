"""What `./script_reproduce.sh --demo` runs on: two made data sets, and settings that learn something in a minute."""
import csv
import shutil

from data_gen.protocols import Name
from tools import demo

SOURCE, TARGET = 'ntu60_xsub', 'custom'
FLAGS = {
    'pretrain': '--hidden-size 32 --batch-size 32 --epochs 20 --schedule 16 --lr 0.002',
    'probe': '--batch-size 128',
    'retrieval': '',
    'semi': '--data-ratio 0.1 --repeats 2 --batch-size 8 --epochs 20 --schedule 16',
    'finetune': '--batch-size 32 --epochs 10 --schedule 8',
    'transfer': '--batch-size 16 --epochs 15 --schedule 12',
}
NOTE = '''\
**The recordings are synthetic**: a kinematic actor moved, no person was recorded. ntu60 and custom are names of formats
here, and the numbers compare with nothing published.
'''
PERFORMERS, OTHER_PERFORMERS, OTHER_CLASSES = 10, 4, 6


def prepare(folder):
    """Write the recordings of both data sets and prepare them, unless they are there."""
    if not (folder / demo.ARRAYS / 'xsub/manifest.json').is_file():
        record(folder / 'raw', '--performers', PERFORMERS)
        demo.stage(*demo.PREPARE, '--data_path', folder / 'raw', '--out_folder', folder / demo.ARRAYS)
    if not (folder / 'data/custom/split/manifest.json').is_file():
        record(folder / 'raw_custom', '--performers', OTHER_PERFORMERS, '--classes', OTHER_CLASSES, '--seed', 1)
        write_list(folder / 'raw_custom', folder / 'custom.csv')
        demo.stage('data_gen/custom_gendata.py', '--recordings', folder / 'custom.csv',
                   '--out_folder', folder / 'data/custom')


def record(folder, *flags):
    shutil.rmtree(folder, ignore_errors=True)
    demo.stage('data_gen/demo_recordings.py', '--out', folder, *flags)


def write_list(recordings, path):
    """The list that custom_gendata.py takes; performers of even number are the test part."""
    with open(path, 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(('path', 'label', 'part', 'performer'))
        for recording in sorted(recordings.iterdir()):
            name = Name.parse(recording.stem)
            table.writerow((recording, name.action, 'train' if name.performer % 2 else 'val', name.performer))
