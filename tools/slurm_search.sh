#!/usr/bin/env bash
# Searches as a slurm job; its processes share the images of every candidate. Run again, it goes on from the ledger.
#
#   [GPUS=8] bash tools/slurm_search.sh PARTITION JOB_NAME CONFIG [CHECKPOINT] WORK_DIR [arguments of tools/search.py]
#
# Searches whose score needs no model have no checkpoint. A search that trains its candidates in workers is one process,
# which needs no GPU unless it measures latency on one: GPUS=0 or GPUS=1; see docs/slurm.md.
#
# Environment: GPUS (processes in all, 8; 0: one process without a GPU), GPUS_PER_NODE (8, or GPUS if fewer),
# CPUS_PER_TASK (5), SRUN_ARGS (more arguments for srun), PYTHON.
set -euo pipefail
. "$(dirname "$0")/_srun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
checkpoint=()
if [[ $# -ge 5 && $5 != -* ]]; then
  checkpoint=("$4")
  set -- "${@:1:3}" "${@:5}"
fi
[ $# -ge 4 ] ||
  { usage >&2; die "PARTITION, JOB_NAME, CONFIG, CHECKPOINT and WORK_DIR are wanted; got $# arguments."; }
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
srun_script "$partition" "$job" search.py "$config" "${checkpoint[@]}" --work-dir "$work_dir" "$@"
