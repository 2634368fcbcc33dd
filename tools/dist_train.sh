#!/usr/bin/env bash
# Trains on several processes of this machine, or of several: on its GPUs, or without one on its cores.
#
#   bash tools/dist_train.sh CONFIG NPROC [arguments of tools/train.py]
#
# NPROC is the number of processes on this machine, one a GPU. Environment: NNODES and NODE_RANK (several
# machines; each runs this), MASTER_ADDR and PORT (where they meet; a free port unless told), PYTHON.
set -euo pipefail
. "$(dirname "$0")/_torchrun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 2 ] || { usage >&2; die "CONFIG and NPROC are wanted; got $# arguments."; }
config=$1 nproc=$2
shift 2
torchrun_script "$nproc" 0 train.py "$config" "$@"
