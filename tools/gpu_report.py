"""A page of Markdown about training on one GPU, for BENCHMARKS.md: python -m tools.benchmark
--gpu-report DIR.

Sustained peaks, the stages of the benchmark, whole runs of pretrain.py at NTU-60's size, what waits
for the host, the longest kernels, and the tests that need a GPU. Each line is on the page as soon
as it is measured. On a CPU the same runs in small, which shows that it works.
"""

import json
import pickle
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch

from data_gen.arrays import file_of
from feeder.dataset import ClipDataset, load_split
from tools import benchmark, demo
from tools.device import name_of
from tools.options import ROOT


class Size(NamedTuple):
    clips: int  # training clips
    epochs: int
    copied: int  # bytes that are copied to measure the memory's bandwidth
    peaks: list[torch.dtype]
    stages: list[str]  # dtypes, as --dtype
    runs: list[str]  # flags of pretrain.py


RUNS = [
    f'--batch-size {batch} --amp {amp}{more}'
    for batch in (512, 1024)
    for amp, more in (('bf16', ''), ('bf16', ' --compile on'), ('fp16', ''))
]
RUNS += [f'--batch-size 512 --amp bf16 --data-device {where}' for where in ('cpu', 'disk')]
SIZES = {
    'cuda': Size(
        40_091,
        3,
        1 << 30,
        [torch.bfloat16, torch.float16, torch.float32],
        ['bf16', 'float32'],
        RUNS,
    ),
    'cpu': Size(12, 1, 1 << 20, [torch.float32], ['float32'], ['--batch-size 4 --amp off']),
}
PUBLISHED_EPOCHS = 451


def write_report(folder: Path, device: torch.device, hidden_size: int) -> Path:
    """Measure everything and write DIR/report.md; returns its path. Needs 4 GB on disk until it
    ends.
    """
    folder = folder.absolute()  # the commands run in the project's root
    folder.mkdir(parents=True, exist_ok=True)
    size, page = SIZES[device.type], folder / 'report.md'
    with open(page, 'w') as file, TemporaryDirectory(dir=folder) as scratch:
        scratch = Path(scratch)
        parts = {
            f'Training on {name_of(device)}': environment(),
            'Peaks': peaks(device, size),
            'Stages': stages(scratch / 'stages', device, hidden_size, size),
            'Runs': runs(scratch, device, hidden_size, size),
            'One step': one_step(device, hidden_size, size),
            'Tests that need a GPU': tests(device),
        }
        for title, lines in parts.items():
            for line in chain([f'## {title}\n'], lines, ['']):
                print(line)
                print(line, file=file, flush=True)
    return page


def environment() -> Iterator[str]:
    yield f'torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}'


def peaks(device: torch.device, size: Size) -> Iterator[str]:
    """The rate of a large torch.mm in each dtype, and of a copy."""
    side = benchmark.PEAK_SIDE[device.type]
    for dtype in size.peaks:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        seconds = benchmark.seconds_of(lambda a=a, b=b: torch.mm(a, b))
        yield f'- torch.mm of {side} x {side} in {dtype}: {2 * side**3 / seconds / 1e12:.3g} TFLOP/s'
    source, target = (torch.empty(size.copied, dtype=torch.uint8, device=device) for _ in range(2))
    seconds = benchmark.seconds_of(lambda: target.copy_(source))
    yield f'- copy, read and written: {2 * size.copied / seconds / 1e12:.3g} TB/s'


def stages(folder: Path, device: torch.device, hidden_size: int, size: Size) -> Iterator[str]:
    """The table of the benchmark; the probe and k-NN are of NTU-60's size."""
    yield '| stage | dtype | ms | clips/s | TFLOP/s | of peak |'
    yield '|---|---|---|---|---|---|'
    folder.mkdir()
    batch_size = benchmark.SIZES[device.type][0]
    for stage in benchmark.build_stages(
        set(benchmark.STAGES), folder, hidden_size, batch_size, size.stages, device
    ):
        row = benchmark.measure(stage, device)
        products = (
            f'{row["flops_per_second"] / 1e12:.3g} | {row["of_peak"]:.1%}'
            if row['flops']
            else ' | '
        )
        yield (
            f'| {row["stage"]} | {row["dtype"]} | {row["seconds"] * 1e3:.2f} | '
            f'{row["clips_per_second"]:.0f} | '
            f'{products} |'
        )


def runs(folder: Path, device: torch.device, hidden_size: int, size: Size) -> Iterator[str]:
    """Runs of pretrain.py on the demo's clips, repeated. Their last epoch counts: those before warm
    up and compile.
    """
    demo.run_command(*demo.RECORD, '--out', folder / 'raw', '--performers', 3)
    demo.run_command(*demo.PREPARE, '--data_path', folder / 'raw', '--out_folder', folder / 'demo')
    write_repeated(
        load_split(folder / 'demo/xsub', 'train'), folder / 'NTU-RGB-D-60-AGCN/xsub', size.clips
    )
    yield f'| pretrain.py, {size.clips} clips | clips/s | hours for {PUBLISHED_EPOCHS} epochs, extrapolated | loss |'
    yield '|---|---|---|---|'
    for number, flags in enumerate(size.runs):
        run = folder / f'run {number}'
        demo.run_command(
            'pretrain.py',
            '--data-root',
            folder,
            '--checkpoint-path',
            run,
            '--device',
            device,
            '--hidden-size',
            hidden_size,
            '--epochs',
            size.epochs,
            *flags.split(),
        )
        epoch = json.loads((run / 'log.jsonl').read_text().splitlines()[-1])
        hours = PUBLISHED_EPOCHS * size.clips / epoch['clips_per_second'] / 3600
        yield f'| {flags} | {epoch["clips_per_second"]:.0f} | {hours:.2f} | {epoch["total"]:.3f} |'


def write_repeated(dataset: ClipDataset, folder: Path, clips: int) -> None:
    """Write arrays of so many training clips: the dataset's, again and again."""
    folder.mkdir(parents=True)
    clip = np.arange(clips) % len(dataset)
    num_frames = dataset.num_frames.numpy()[clip]
    frame = np.arange(num_frames.sum()) % len(dataset.frames)
    np.save(file_of(folder, 'train', 'trimmed'), dataset.frames.numpy()[frame])
    np.save(file_of(folder, 'train', 'counts'), num_frames)
    names, labels = (
        list(map(values.__getitem__, clip)) for values in (dataset.names, dataset.labels.tolist())
    )
    file_of(folder, 'train', 'labels').write_bytes(pickle.dumps((names, labels)))


def one_step(device: torch.device, hidden_size: int, size: Size) -> Iterator[str]:
    """What makes the host wait within a step, and where its time goes."""
    batch_size = benchmark.SIZES[device.type][0]
    dataset = benchmark.synthetic_dataset(batch_size).to(device)
    stages_of_it = benchmark.model_stages(dataset, hidden_size, batch_size, size.stages[:1], device)
    step = next(stage.work for stage in stages_of_it if stage.name == 'step')
    step()
    with warnings.catch_warnings(record=True) as waits, sync_warnings(device):
        warnings.simplefilter('always')
        step()
    yield f'{len(waits)} waits for the device in a step of {batch_size} clips.'
    yield from (f'- {each.message}' for each in waits)
    with torch.profiler.profile() as profile:
        step()
        torch.randn(1, device=device).item()  # waits for the step
    order = f'self_{device.type}_time_total'
    yield f'```\n{profile.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=60)}\n```'


@contextmanager
def sync_warnings(device: torch.device) -> Iterator[None]:
    """On a GPU, warn of every operation that makes the host wait for it."""
    if device.type != 'cuda':
        yield
        return
    torch.cuda.set_sync_debug_mode('warn')
    yield
    torch.cuda.set_sync_debug_mode('default')


def tests(device: torch.device) -> Iterator[str]:
    if device.type != 'cuda':
        yield 'There is no GPU.'
        return
    command = [sys.executable, '-m', 'pytest', '-q', '-m', 'cuda']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    yield from (done.stdout or done.stderr).splitlines()[-5:]
