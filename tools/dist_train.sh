#!/usr/bin/env bash
# Trains in several processes, on one machine or several; on GPUs, or without one on CPUs.
#
#   bash tools/dist_train.sh CONFIG NPROC [arguments of tools/train.py]
#
# NPROC is the number of processes on this machine, usually one per GPU.
#
# Environment: NNODES and NODE_RANK (number of machines and rank of this one; run this command on each), MASTER_ADDR and
# PORT (address and port of rank 0; default: a free port), PYTHON (interpreter).
set -euo pipefail
. "$(dirname "$0")/_torchrun.sh"

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 2 ] || { usage >&2; die "CONFIG and NPROC are required; got $# arguments."; }
config=$1 nproc=$2
shift 2
torchrun_script "$nproc" 0 train.py "$config" "$@"
