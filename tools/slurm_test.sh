#!/usr/bin/env bash
# Tests a checkpoint as a slurm job.
#
#   [GPUS=8] bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
#
# Environment: GPUS (number of processes; default: 8), GPUS_PER_NODE (default: 8, or GPUS if that is fewer),
# CPUS_PER_TASK (default: 5), SRUN_ARGS (additional arguments of srun), PYTHON (interpreter).
set -euo pipefail
. "$(dirname "$0")/_srun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 4 ] || { usage >&2; die "PARTITION, JOB_NAME, CONFIG and CHECKPOINT are required; got $# arguments."; }
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
srun_script "$partition" "$job" test.py "$config" "$checkpoint" "$@"
