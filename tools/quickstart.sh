#!/usr/bin/env bash
# Installs detnas_mm, then searches, trains and tests a detector backbone on Digits, a small data set that is made here.
#
#   bash tools/quickstart.sh [--detector retinanet|fpn] [--seed N] [--smallest] [--out FOLDER]
#
#   --detector  detector to search a backbone for (default: retinanet)
#   --seed      seed of everything random (default: 0)
#   --smallest  run a few steps of everything, to see that it works; the nets it finds are of no use
#   --out       folder for all outputs (default: work_dirs/quickstart)
#
# The first run installs what is missing (see tools/setup_env.sh; 12 to 14 minutes on 2 cores, most of it compiling
# mmcv). Then it makes Digits and runs DetNAS: 7 to 12 minutes on 2 cores. The same command again resumes from where it
# stopped.
#
# Environment: DETNAS_VENV (the virtual environment; default: .venv).
set -euo pipefail
. "$(dirname "$0")/_common.sh"

for arg in "$@"; do
  case $arg in -h | --help) usage; exit 0 ;; esac
done
bash "$root/tools/setup_env.sh"
py=$(venv_of onedl)/bin/python
export OMP_NUM_THREADS=1 # before torch is loaded: the quickstart runs two processes side by side
"$py" -W ignore "$root/tools/quickstart.py" "$@" || {
  status=$?
  say "The quickstart failed (exit status $status); the reason is above. To resume, run the same command again."
  exit "$status"
}
