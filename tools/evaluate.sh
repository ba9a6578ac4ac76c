# Sourced by the two evaluation scripts: the newest checkpoint of a folder. The published settings are their defaults.
#   evaluate 'SCRIPT.py --its flags' [dir] [dataset] [protocol] [more flags]

evaluate() {
    local command=$1 dir=ntu60_xsub dataset=ntu60 protocol=cross_subject checkpoint
    shift
    if [[ ${1:--} != -* ]]; then dir=$1; shift; fi
    if [[ ${1:--} != -* ]]; then dataset=$1; shift; fi
    if [ "$dataset" = custom ]; then protocol=own_split; fi
    if [[ ${1:--} != -* ]]; then protocol=$1; shift; fi
    dir=${dir#./} dir=${dir#checkpoints/} dir=${dir%/}  # the folder's path will do for its name
    checkpoint=$(ls "./checkpoints/$dir"/checkpoint_*.pth.tar 2>/dev/null | sort | tail -n 1 || true)
    if [ -z "$checkpoint" ]; then
        echo "error: no checkpoint in ./checkpoints/$dir: pre-train first (./script_pretrain.sh), or give the folder's name" >&2
        exit 2
    fi
    echo "evaluating $checkpoint"
    # shellcheck disable=SC2086  # the command is several words
    python $command --pretrained "$checkpoint" \
        --finetune-dataset "$dataset" --protocol "$protocol" "$@" | tee -a "./checkpoints/$dir/${command%%.py*}.txt"
}
