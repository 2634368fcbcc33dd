#!/usr/bin/env bash
# Runs a search as a slurm job, whose processes share the images of every candidate. Run again, it resumes.
#
#   [GPUS=8] bash tools/slurm_search.sh PARTITION JOB_NAME CONFIG [CHECKPOINT] WORK_DIR [arguments of tools/search.py]
#
# CHECKPOINT is the trained supernet. Searches whose score needs no model have none. For a search that trains its
# candidates in workers, run one process: GPUS=0, or GPUS=1 if it measures latency on a GPU; see docs/slurm.md.
#
# Environment: GPUS (number of processes; default: 8; 0: one process without a GPU), GPUS_PER_NODE (default: 8, or GPUS
# if that is fewer), CPUS_PER_TASK (default: 5), SRUN_ARGS (additional arguments of srun), PYTHON (interpreter).
set -euo pipefail
. "$(dirname "$0")/_srun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
checkpoint=()
if [[ $# -ge 5 && $5 != -* ]]; then
  checkpoint=("$4")
  set -- "${@:1:3}" "${@:5}"
fi
[ $# -ge 4 ] || { usage >&2; die "PARTITION, JOB_NAME, CONFIG and WORK_DIR are required; got $# arguments."; }
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
srun_script "$partition" "$job" search.py "$config" "${checkpoint[@]}" --work-dir "$work_dir" "$@"
