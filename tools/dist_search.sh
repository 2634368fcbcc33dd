#!/usr/bin/env bash
# Searches with several processes that share the images of every candidate; their number does not change the result.
#
#   bash tools/dist_search.sh CONFIG [CHECKPOINT] NPROC [arguments of tools/search.py]
#
# Searches whose score needs no model have no checkpoint; nor are they faster on several processes: one does it all.
# NPROC is the number of processes on this machine, one a GPU. Environment: NNODES and NODE_RANK (several
# machines; each runs this), MASTER_ADDR and PORT (where they meet; a free port unless told), PYTHON,
# MAX_RESTARTS (how often all processes start again after one has died; the search goes on from its ledger;
# 1 unless told).
set -euo pipefail
. "$(dirname "$0")/_torchrun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
checkpoint=()
if [[ $# -ge 2 && ! $2 =~ ^[0-9]+$ ]]; then
  checkpoint=("$2")
  set -- "$1" "${@:3}"
fi
[ $# -ge 2 ] || { usage >&2; die "CONFIG, CHECKPOINT and NPROC are wanted; got $(($# + ${#checkpoint[@]})) arguments."; }
config=$1 nproc=$2
shift 2
torchrun_script "$nproc" "${MAX_RESTARTS:-1}" search.py "$config" "${checkpoint[@]}" "$@"
