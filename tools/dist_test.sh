#!/usr/bin/env bash
# Tests a checkpoint on several processes of this machine, or of several: on its GPUs, or without one on its cores.
#
#   bash tools/dist_test.sh CONFIG CHECKPOINT NPROC [arguments of tools/test.py]
#
# NPROC is the number of processes on this machine, one a GPU. Environment: NNODES and NODE_RANK (several
# machines; each runs this), MASTER_ADDR and PORT (where they meet; a free port unless told), PYTHON.
set -euo pipefail
. "$(dirname "$0")/_torchrun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 3 ] || { usage >&2; die "CONFIG, CHECKPOINT and NPROC are wanted; got $# arguments."; }
config=$1 checkpoint=$2 nproc=$3
shift 3
torchrun_script "$nproc" 0 test.py "$config" "$checkpoint" "$@"
