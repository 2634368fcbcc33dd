#!/usr/bin/env bash
# Runs a search in several processes that share the images of every candidate; their number does not change the result.
#
#   bash tools/dist_search.sh CONFIG [CHECKPOINT] NPROC [arguments of tools/search.py]
#
# CHECKPOINT is the trained supernet. Searches whose score needs no model have none; only one process works in them.
# NPROC is the number of processes on this machine, usually one per GPU.
#
# Environment: NNODES and NODE_RANK (number of machines and rank of this one; run this command on each), MASTER_ADDR and
# PORT (address and port of rank 0; default: a free port), PYTHON (interpreter), MAX_RESTARTS (how often all processes
# restart after one has died and the search resumes from its ledger; default: 1).
set -euo pipefail
. "$(dirname "$0")/_torchrun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
checkpoint=()
if [[ $# -ge 2 && ! $2 =~ ^[0-9]+$ ]]; then
  checkpoint=("$2")
  set -- "$1" "${@:3}"
fi
[ $# -ge 2 ] || { usage >&2; die "CONFIG and NPROC are required; got $(($# + ${#checkpoint[@]})) arguments."; }
config=$1 nproc=$2
shift 2
torchrun_script "$nproc" "${MAX_RESTARTS:-1}" search.py "$config" "${checkpoint[@]}" "$@"
