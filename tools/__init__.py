"""What the three scripts share. The folders hold evaluations, analyses and the paper's tables."""

import sys

MOVED = {
    'tools.complexity': 'python -m tools.analysis.complexity',
    'tools.tsne': 'python -m tools.analysis.tsne',
    'tools.scaling': 'the table of bytes per step in BENCHMARKS.md',
    'tools.benchmark_preparation': 'python -m tools.benchmark --stages read',
}

if sys.argv[0] == '-m' and (command := sys.orig_argv[sys.orig_argv.index('-m') + 1]) in MOVED:
    print(f'error: {command} is gone: use {MOVED[command]}', file=sys.stderr)
    sys.exit(2)
