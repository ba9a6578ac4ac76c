# Sourced by the script_*.sh: goes to the project's root, and defines what they share.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
CPU_INDEX=https://download.pytorch.org/whl/cpu

no_environment() { [ -z "${VIRTUAL_ENV:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" = base ]; }

# use_environment: use the active Python environment, or .venv if it exists
use_environment() {
    if no_environment && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
}

# use_cpu_index: whether to take PyTorch's CPU builds: on Linux without an NVIDIA GPU, unless pip has an index of its own,
# if they can be reached; prints a note if not
use_cpu_index() {
    [ "$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null && [ ! -e /usr/lib/wsl/lib/nvidia-smi ] &&
        ! python -m pip config list | grep -Eq 'index|find-links' || return
    python -c "from urllib.request import urlopen; urlopen('$CPU_INDEX/torch/', timeout=5)" 2>/dev/null && return
    echo "note: no NVIDIA GPU was found, but $CPU_INDEX cannot be reached: taking PyPI's build, for GPUs" >&2
    return 1
}

# make_environment FILE [PACKAGE …]: the same, but create .venv and install FILE if needed, which provides these packages too.
# To look for packages takes 0.1 s, to import them 4 s.
# The sizes are those of torch 2.13.0 for Python 3.11 and x86-64 on 30 November 2026.
make_environment() {
    if no_environment && ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        echo "making a Python environment in .venv" >&2
        python3 -m venv --clear .venv
    fi
    use_environment
    python -c 'import sys; from importlib.metadata import version; [*map(version, sys.argv[1:])]' \
        matplotlib numpy scipy scikit-learn tensorboard torch tqdm "${@:2}" 2>/dev/null && return
    if python -c 'import torch' 2>/dev/null; then  # keep a torch that is there: it may be built for this machine's GPU
        echo "installing $1 beside the torch that is there (once): up to 0.13 GB to download" >&2
        grep -hv -e '^torch' -e '^-r' requirements.txt "$1" | sort -u | python -m pip install -r /dev/stdin
    elif use_cpu_index; then
        echo "installing $1 with PyTorch's CPU builds (once): 0.32 GB to download" >&2
        python -m pip install -r "$1" --extra-index-url "$CPU_INDEX"
    else
        echo "installing $1 (once): up to 2.9 GB to download, most of it CUDA" >&2
        python -m pip install -r "$1"
    fi
}

asks_for_help() { [[ " $* " == *' --help '* || " $* " == *' -h '* ]]; }

# parse_dataset [dataset] [protocol] [flags]: sets the variables dataset, protocol, flags, and given, if a data set is
parse_dataset() {
    given=${1:--}
    dataset=ntu60 protocol=cross_subject
    if [[ ${1:--} != -* ]]; then dataset=$1; shift; fi
    case $dataset in custom) protocol=own_split ;; nwucla) protocol=cross_view ;; esac
    if [[ ${1:--} != -* ]]; then protocol=$1; shift; fi
    flags=("$@")
}

# pretrain LAUNCHER [dataset] [protocol] [flags]: pre-train with the published settings; LAUNCHER: python, torchrun …
# A run that was stopped is continued; --resume none starts a new one. Signals reach the launcher: nothing stands between.
pretrain() {
    local launcher=$1 settings folder i
    if asks_for_help "$@"; then python pretrain.py --help; return; fi
    parse_dataset "${@:2}"
    folder=./checkpoints/$(echo "${dataset}_$protocol" | sed 's/cross_/x/; s/xsubject/xsub/; s/_own_split//')
    settings="--lr 0.0005 --checkpoint-path $folder --schedule 351 --epochs 451"
    if [ "$dataset" = custom ] || [ "$dataset" = nwucla ]; then
        settings="--recipe small-data --checkpoint-path $folder"
        echo "using --recipe small-data; --recipe published is for tens of thousands of clips" >&2
    fi
    for ((i = 0; i < ${#flags[@]}; i++)); do  # what is printed is kept where the checkpoints are
        case ${flags[i]} in
            --checkpoint-path) folder=${flags[i + 1]:-$folder} ;;
            --checkpoint-path=*) folder=${flags[i]#*=} ;;
        esac
    done
    folder=${folder/#\~/$HOME}
    mkdir -p "$folder"
    export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1  # those that torchrun passes on
    $launcher pretrain.py $settings --pre-dataset "$dataset" --protocol "$protocol" --resume auto \
        ${flags[@]+"${flags[@]}"} > >(exec tee -i -a "$folder/pretrain.txt")
}

# evaluate COMMAND [dir] [dataset] [protocol] [flags]: evaluate the newest checkpoint in ./checkpoints/$dir, or dir itself
# if it is a file; without a data set on the one that the checkpoint was pre-trained on
evaluate() {
    local command=$1 path=ntu60_xsub data=() dir folder; shift
    if asks_for_help "$@"; then python $command --help; return; fi
    if [[ ${1:--} != -* ]]; then path=$1; shift; fi
    parse_dataset "$@"
    if [[ $given != -* ]]; then data=(--finetune-dataset "$dataset" --protocol "$protocol"); fi
    dir=${path#./} dir=${dir#checkpoints/} dir=${dir%/}  # a path is as good as the folder's name
    if [ ! -d "./checkpoints/$dir" ]; then  # both names are in use
        case $dir in ntu120_xset) dir=ntu120_xsetup ;; ntu120_xsetup) dir=ntu120_xset ;; esac
    fi
    if [ -f "$path" ]; then
        folder=$(dirname "$path")
    else
        path=./checkpoints/$dir folder=$path
        if ! compgen -G "$path/checkpoint_*.pth.tar" >/dev/null; then
            echo "error: no checkpoint in $path: pre-train first, or give a checkpoint or its folder" >&2; exit 2
        fi
    fi
    echo "evaluating $path"
    python $command --pretrained "$path" ${data[@]+"${data[@]}"} ${flags[@]+"${flags[@]}"} \
        | tee -a "$folder/${command%%.py*}.txt"
}
