# Sourced by the scripts: go to the project's root and use a Python environment that has what we need.
#   use_environment          the active one, or .venv where it exists
#   make_environment         the same, made and filled where something is missing

# Threads that wait for work sleep: where they spin, another program on the machine slows a CPU run many times over.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

use_environment() {
    if [ -z "${VIRTUAL_ENV:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" = base ] && [ -f .venv/bin/activate ]; then
        . .venv/bin/activate
    fi
}

make_environment() {
    if [ -z "${VIRTUAL_ENV:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" = base ] && ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        echo "making a Python environment in .venv" >&2
        python3 -m venv --clear .venv
    fi
    use_environment
    if ! python -c 'import matplotlib, numpy, pytest, sklearn, tensorboard, torch, tqdm' 2>/dev/null || ! ruff --version >/dev/null 2>&1; then
        echo "installing requirements.txt (once; minutes)" >&2
        if python -c 'import torch' 2>/dev/null; then  # a torch that is there stays: it may be built for this machine's GPU
            grep -v '^torch' requirements.txt | python -m pip install --quiet --requirement /dev/stdin
        else
            python -m pip install --quiet --requirement requirements.txt
        fi
    fi
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
