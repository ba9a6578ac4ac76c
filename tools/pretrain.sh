# Sourced by the two pre-training scripts: the published settings of a data set and protocol.
#   pretrain 'COMMAND that runs a script' [dataset] [protocol] [more flags]

pretrain() {
    local launch=$1 dataset=ntu60 protocol=cross_subject batch=1024 folder
    shift
    if [[ ${1:--} != -* ]]; then dataset=$1; shift; fi
    if [ "$dataset" = custom ]; then protocol=own_split; fi
    if [[ ${1:--} != -* ]]; then protocol=$1; shift; fi
    if [ "$dataset $protocol" = "ntu60 cross_subject" ]; then batch=512; fi
    folder=./checkpoints/${dataset}_${protocol/cross_/x}
    folder=${folder/xsubject/xsub}
    folder=${folder/_own_split/}

    mkdir -p "$folder"
    # shellcheck disable=SC2086  # the command is several words
    $launch pretrain.py --lr 0.0005 --batch-size "$batch" --checkpoint-path "$folder" \
        --schedule 351 --epochs 451 --pre-dataset "$dataset" --protocol "$protocol" "$@" | tee -a "$folder/pretrain.txt"
}
