#!/usr/bin/env bash
# Trains as a slurm job.
#
#   [GPUS=8] bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
#
# Environment: GPUS (number of processes; default: 8), GPUS_PER_NODE (default: 8, or GPUS if that is fewer),
# CPUS_PER_TASK (default: 5), SRUN_ARGS (additional arguments of srun), PYTHON (interpreter).
set -euo pipefail
. "$(dirname "$0")/_srun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 4 ] || { usage >&2; die "PARTITION, JOB_NAME, CONFIG and WORK_DIR are required; got $# arguments."; }
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
srun_script "$partition" "$job" train.py "$config" --work-dir "$work_dir" "$@"
