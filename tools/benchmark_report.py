"""What `tools.benchmark` says: the table, what it means for a whole training, and a profile."""
import torch
from torch.autograd import DeviceType

from data_gen.arrays import replacing

CLIPS, EPOCHS = 40_091, 451  # of the published pre-training on NTU-60 x-sub
PROFILED = {'cpu': 1, 'cuda': 3}  # calls
COSTS = 3  # largest ones shown


def show(rows, about):
    """Print the table and what follows from it."""
    peaks = ', '.join(f'{name} {rate / 1e9:.0f} {"GB/s" if name == "copy" else "GFLOP/s"}'
                      for name, rate in about['peaks'].items())
    print(f'{about["device"]}, torch {about["torch"]}; hidden size {about["hidden_size"]}, batch {about["batch_size"]}')
    print(f'peaks measured in this run: {peaks}\n')
    print(f'{"stage":10} {"dtype":8}{"time":>12}{"clips/s":>10}{"GFLOPs":>10}{"GFLOP/s":>10}{"GB/s":>8}  '
          f'{"bound by":9}{"of peak":>8}{"ratio":>8}')
    for row in rows:
        ratio = f'{row["ratio"]:8.3f}  to {row["against"]}' if 'ratio' in row else ''
        print(f'{row["stage"]:10} {row["dtype"]:8}{row["seconds"] * 1e3:9.2f} ms{row["clips_per_second"]:10.0f}'
              f'{figure(row["flops"])}{figure(row["flops_per_second"])}{figure(row["bytes_per_second"], 8)}  '
              f'{row["bound"]:9}{row["of_peak"]:8.1%}{ratio}')
    print(f'\npeak memory of this process: {about["peak_memory"] / 1e9:.2f} GB')
    for line in findings(rows, about['peaks']):
        print(line)


def figure(number, width=10):
    """In thousands of millions; nothing for nothing."""
    return f'{number / 1e9:{width}.1f}' if number else ' ' * width


def findings(rows, peaks):
    """What the issue asks of the parts of a step together, as lines."""
    dtypes = list(dict.fromkeys(row['dtype'] for row in rows if row['stage'] == 'step'))
    seconds = {(row['stage'], row['dtype']): row['seconds'] for row in rows}
    for dtype in dtypes:
        parts = [row for row in rows if row['stage'] in ('forward', 'backward') and row['dtype'] == dtype]
        small = {row['stage']: row['seconds'] for row in rows if row['stage'] in ('views', 'objective', 'optimizer')}
        if len(parts) == 2 and len(small) == 3:
            learning = sum(row['seconds'] for row in parts) + small['objective'] + small['optimizer']
            rate = sum(row['flops'] for row in parts) / learning / peaks[f'matmul {dtype}']
            yield f'{dtype}: forward, backward, objective and optimizer: {rate:.1%} of the matrix product peak'
            step = learning + small['views']
            yield f'{dtype}: views, objective and optimizer: {sum(small.values()) / step:.1%} of a step'
            yield f'{dtype}: views: {small["views"] / step:.1%} of a step'
    for row in rows:
        if row['stage'] == 'step':
            hours = CLIPS * EPOCHS / row['clips_per_second'] / 3600
            yield (f'{row["dtype"]}: whole step at {row["of_peak"]:.1%} of the matrix product peak; NTU-60 x-sub, '
                   f'{EPOCHS} epochs of {CLIPS} clips, would take {hours:.2f} hours')
    for dtype in dtypes[1:]:
        faster = seconds['step', dtypes[0]] / seconds['step', dtype]
        yield f'{dtype}: whole step {faster:.2f} times as fast as in {dtypes[0]}'


def profile(work, path, device):
    """Write a trace of a few calls, for chrome://tracing, and print the largest costs by their own time."""
    work()
    with torch.profiler.profile() as profiler:
        for _ in range(PROFILED[device.type]):
            work()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
    with replacing(path) as file:
        profiler.export_chrome_trace(file.name)
    field = 'self_device_time_total' if device.type == 'cuda' else 'self_cpu_time_total'
    costs = {event.key: getattr(event, field) for event in profiler.key_averages()
             if event.device_type == DeviceType.CPU}  # operations, not the kernels they launch
    total = sum(costs.values())
    print(f'\n{path}: a trace; the largest costs of a step:')
    for key in sorted(costs, key=costs.get, reverse=True)[:COSTS]:
        print(f'{costs[key] / total:7.1%}  {key}')
