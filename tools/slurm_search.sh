#!/usr/bin/env bash
# Searches as a slurm job; its processes share the images of every candidate. Run again, it goes on from the ledger.
#
#   [GPUS=8] bash tools/slurm_search.sh PARTITION JOB_NAME CONFIG CHECKPOINT WORK_DIR [arguments of tools/search.py]
#
# Environment: GPUS (processes in all, 8), GPUS_PER_NODE (8, or GPUS if fewer), CPUS_PER_TASK (5),
# SRUN_ARGS (more arguments for srun), PYTHON.
set -euo pipefail
. "$(dirname "$0")/_srun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 5 ] || { usage >&2; die "PARTITION, JOB_NAME, CONFIG, CHECKPOINT and WORK_DIR are wanted; got $# arguments."; }
partition=$1 job=$2 config=$3 checkpoint=$4 work_dir=$5
shift 5
srun_script "$partition" "$job" search.py "$config" "$checkpoint" --work-dir "$work_dir" "$@"
