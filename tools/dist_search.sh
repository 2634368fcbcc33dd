#!/usr/bin/env bash
# Searches with several processes that share the images of every candidate; their number does not change the result.
#
#   bash tools/dist_search.sh CONFIG CHECKPOINT NPROC [arguments of tools/search.py]
#
# NPROC is the number of processes on this machine, one a GPU. Environment: NNODES and NODE_RANK (several
# machines; each runs this), MASTER_ADDR and PORT (where they meet; a free port unless told), PYTHON,
# MAX_RESTARTS (how often all processes start again after one has died; the search goes on from its ledger;
# 1 unless told).
set -euo pipefail
. "$(dirname "$0")/_torchrun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 3 ] || { usage >&2; die "CONFIG, CHECKPOINT and NPROC are wanted; got $# arguments."; }
config=$1 checkpoint=$2 nproc=$3
shift 3
torchrun_script "$nproc" "${MAX_RESTARTS:-1}" search.py "$config" "$checkpoint" "$@"
