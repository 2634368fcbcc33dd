#!/usr/bin/env bash
# From nothing to a detector backbone that the machine designed, on a small set of real images made here.
#
#   bash tools/quickstart.sh [--detector retinanet|fpn] [--seed N] [--smallest] [--out FOLDER]
#
#   --detector  what the backbone is designed for (default: retinanet)
#   --seed      fixes everything (default: 0)
#   --smallest  a few steps of everything, to see that it runs; the nets it finds are worth nothing
#   --out       folder for everything it makes (default: work_dirs/quickstart)
#
# The first run installs what is missing (see tools/setup_env.sh; 6 to 20 minutes on 2 cores, most of it compiling
# mmcv). Then it makes the Digits set and runs DetNAS: 8 to 15 minutes on 2 cores. Run again, it goes on where it
# stopped, and reuses what is finished.
#
# Environment: DETNAS_VENV (the virtual environment; default .venv).
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
  say "The quickstart stopped (exit $status). The lines above say why; run the same command again to go on from there."
  exit "$status"
}
