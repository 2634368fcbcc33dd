#!/usr/bin/env bash
# Installs detnas_mm and all its dependencies into a virtual environment.
#
#   bash tools/setup_env.sh [--family onedl|openmmlab]
#
#   --family onedl      OpenMMLab's maintained continuation (the default), into .venv
#   --family openmmlab  OpenMMLab's own distributions, into .venv-openmmlab
#
# The first run compiles mmcv's operators: about 10 minutes on two cores; pip caches the result, so that the
# next environment takes about 3. A run with nothing to do takes under a second. Versions are pinned in
# requirements/constraints.txt.
#
# Environment: DETNAS_VENV (the environment's folder), PYTHON (the interpreter to create it with), MAX_JOBS
# (parallel compilers; default: all cores).
set -euo pipefail
. "$(dirname "$0")/_common.sh"

family=onedl
while [ $# -gt 0 ]; do
  case $1 in
    --family) family=${2:-}; shift 2 || die '--family needs a value: onedl or openmmlab.' ;;
    --family=*) family=${1#*=}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'. Allowed: --family onedl|openmmlab, --help." ;;
  esac
done
case $family in
  onedl) mmcv=onedl-mmcv; requirements=$root/requirements.txt ;;
  openmmlab) mmcv=mmcv; requirements=$root/requirements/openmmlab.txt ;;
  *) die "unknown family '$family'. Allowed: onedl, openmmlab." ;;
esac

constraints=$root/requirements/constraints.txt
venv=$(venv_of "$family")
py=$venv/bin/python
stamp=$venv/.detnas_mm-setup
disk_gb=12 # 7 for the finished environment, the rest for downloads and the build

pin() { sed -n "s/^$1==//p" "$constraints"; }
pip() { "$py" -m pip --disable-pip-version-check "$@"; }

# Identifies the inputs of the environment: if any of them changes, the set-up runs again.
fingerprint() {
  say "$family $root"
  cat "$0" "$root/setup.cfg" "$constraints" "$requirements" "$root/requirements/dev.txt" | cksum
}

operators_in_place() { compgen -G "$venv/lib/python*/site-packages/mmcv/_ext*.so" >/dev/null; }

ready() { [ -x "$py" ] && operators_in_place && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ]; }

# Checks that distributions are installed in the pinned versions; reads metadata only.
installed() {
  "$py" - "$constraints" "$@" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version

pins = dict(line.strip().split('==') for line in open(sys.argv[1]) if '==' in line and line[0] != '#')
try:
    sys.exit(any(version(name).split('+')[0] != pins[name] for name in sys.argv[2:]))
except PackageNotFoundError:
    sys.exit(1)
PY
}

usable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }
has_headers() {
  "$1" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' 2>/dev/null
}

# Sets $base to an interpreter that runs (pyenv's shims may not), preferably one with venv and headers.
find_python() {
  local candidate first=
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    usable "$candidate" || continue
    first=${first:-$candidate}
    if has_venv "$candidate" && has_headers "$candidate"; then
      base=$candidate
      return
    fi
  done
  base=$first
}

check_machine() {
  local packages=() version free folder=$venv other
  other=$(awk 'NR == 1 { print $1 }' "$stamp" 2>/dev/null || true)
  [ -z "$other" ] || [ "$other" = "$family" ] ||
    die "$venv contains the $other family; families cannot share an environment. Set DETNAS_VENV to another" \
      "folder, or unset it."
  find_python
  if [ -z "$base" ]; then
    die "no Python from 3.11 to 3.13 among: ${PYTHON:-python3.11 python3.12 python3.13 python3}. Install one" \
      "(apt-get install python3.11 python3.11-venv python3.11-dev), or name it: PYTHON=/path/to/python3.11."
  fi
  version=$("$base" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  has_venv "$base" || packages+=("$version-venv")
  has_headers "$base" || packages+=("$version-dev")
  command -v g++ >/dev/null || packages+=(g++)
  if [ ${#packages[@]} -gt 0 ]; then
    die "this machine lacks ${packages[*]}. Install: apt-get update && apt-get install -y ${packages[*]}" \
      "(as root), then run this again."
  fi
  [ ! -d "$venv" ] || [ -f "$venv/pyvenv.cfg" ] || [ -z "$(ls -A "$venv")" ] ||
    die "$venv exists and is no virtual environment. Remove it, or set DETNAS_VENV to another folder."
  until [ -d "$folder" ]; do folder=$(dirname "$folder"); done
  free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1048576) }')
  if [ ! -x "$py" ] && [ "$free" -lt "$disk_gb" ]; then
    die "$free GB free in $folder, $disk_gb needed. Make room, or set DETNAS_VENV to a folder on a bigger disk."
  fi
  say "      $base ($("$base" --version)), g++ $(g++ -dumpversion), $free GB free"
}

make_venv() {
  "$py" -m pip --version >/dev/null 2>&1 || "$base" -m venv "$venv"
  installed pip || pip install -qq -c "$constraints" pip
}

# Runs a command that says nothing, with a line every 25 seconds.
waiting() {
  local start=$SECONDS beat status=0
  while sleep 25 >/dev/null 2>&1; do say "      installing, $(minutes $((SECONDS - start)))"; done 9>&- &
  beat=$!
  trap 'kill $beat 2>/dev/null || true' EXIT
  "$@" || status=$?
  kill "$beat" 2>/dev/null || true
  trap - EXIT
  return "$status"
}

install_torch() {
  local names=(torch torchvision numpy setuptools wheel ninja psutil)
  installed "${names[@]}" || waiting pip install -qq -c "$constraints" "${names[@]}"
}

# Loads only the compiled file: the package mmcv cannot be imported before mmengine is installed.
operators_load() {
  "$py" - "$venv"/lib/python*/site-packages/mmcv/_ext*.so <<'PY' >"$venv/mmcv-operators.log" 2>&1
import importlib.util
import sys

import torch  # noqa: F401  the operators are linked against its libraries

spec = importlib.util.spec_from_file_location('_ext', sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
PY
}

# A line every 25 seconds while mmcv compiles.
heartbeat() {
  local start=$SECONDS done_
  while sleep 25 >/dev/null 2>&1; do
    done_=$(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$1" | tail -n 1 | tr -d ' []' || true)
    say "      mmcv: ${done_:-0} files compiled, $(minutes $((SECONDS - start)))"
  done
}

# Builds CUDA operators if nvcc is of the CUDA version that torch was built with, else CPU operators.
# FORCE_CUDA=0 does not suffice: mmcv still builds for CUDA if there is a GPU.
build_mmcv() {
  local log=$venv/mmcv-build.log beat status=0 cuda nvcc flags
  local settings=(MMCV_WITH_OPS=1 "MAX_JOBS=${MAX_JOBS:-$(nproc)}") options=()
  # Python's own flags but without debug information, which takes a third to a half of the build time.
  flags="$("$py" -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS"))') -g0"
  settings+=("CFLAGS=$flags ${CFLAGS:-}" "CXXFLAGS=$flags ${CXXFLAGS:-}")
  nvcc=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p' || true)
  cuda=$("$py" -c 'import torch; print(torch.version.cuda if torch.cuda.is_available() else "")')
  if [ -n "$cuda" ] && [ "$cuda" = "$nvcc" ]; then
    say "      for CUDA $cuda"
    settings+=(FORCE_CUDA=1)
    options+=(--no-cache-dir) # pip's cache cannot tell such a wheel from one without CUDA
  else
    [ -z "$cuda" ] || say "      for the CPU: there is a GPU, but no nvcc $cuda (found: ${nvcc:-none})"
    settings+=(FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=)
  fi
  heartbeat "$log" 9>&- &
  beat=$!
  trap 'kill $beat 2>/dev/null || true' EXIT
  env "${settings[@]}" "$py" -m pip install -v ${options[@]+"${options[@]}"} --no-build-isolation --no-deps \
    "$mmcv==$(pin "$mmcv")" >"$log" 2>&1 || status=$?
  kill "$beat" 2>/dev/null || true
  trap - EXIT
  if [ "$status" -ne 0 ]; then
    grep -nE 'error|Killed' "$log" | tail -n 15 >&2 || true
    die "building $mmcv failed; see $log. 'Killed' means that memory ran out: try MAX_JOBS=1."
  fi
}

install_mmcv() {
  local reason
  installed "$mmcv" && operators_load && return
  build_mmcv
  operators_load && return
  reason=$(tail -n 1 "$venv/mmcv-operators.log")
  grep -q 'Using cached .*\.whl\|Created wheel' "$venv/mmcv-build.log" || die "mmcv's operators do not load: $reason"
  say "      pip's cached mmcv has no operators, or those of another torch ($reason): building it again"
  pip uninstall -q -y "$mmcv"
  pip cache remove "${mmcv//-/_}" >/dev/null 2>&1 || true
  build_mmcv
  operators_load || die "mmcv was built, but its operators do not load: $(tail -n 1 "$venv/mmcv-operators.log")"
}

install_rest() {
  waiting pip install -qq -c "$constraints" --no-build-isolation -r "$requirements" -r "$root/requirements/dev.txt" -e "$root"
  # mmcv and mmdet's dependencies require opencv-python and opencv-python-headless, which overwrite one another.
  # Keep the headless one, which needs no display libraries. Only `pip check` reports the other as missing.
  if installed opencv-python || ! installed opencv-python-headless; then
    pip uninstall -q -y opencv-python opencv-python-headless
    pip install -qq --no-deps -c "$constraints" opencv-python-headless
  fi
}

verify() {
  (cd / && "$py" - "$family") <<'PY'
import sys
import warnings

warnings.simplefilter('ignore')
import cv2  # noqa: F401
import mmcv, mmdet, mmengine, mmpretrain, torch, torchvision
from mmcv.ops import nms

boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1].tolist() == [0, 2], 'mmcv.ops.nms is wrong'
from detnas_mm import compat

compat.check_stack()
stack = (torch, torchvision, mmengine, mmcv, mmdet, mmpretrain)
print('      ' + ', '.join(f'{module.__name__} {module.__version__}' for module in stack))
PY
}

if ready; then
  say "$venv is ready ($family family)."
  exit 0
fi

step() {
  local start=$SECONDS
  say "[$1] $2"
  $3
  say "      done in $(minutes $((SECONDS - start)))"
}

say "Setting up $venv for the $family family."
step 1/6 'checking the machine' check_machine
mkdir -p "$venv"
exec 9>"$venv/.detnas_mm-lock"
wait_for_lock 9 "$venv"
if ready; then
  say "$venv is ready ($family family)."
  exit 0
fi
step 2/6 'virtual environment' make_venv
step 3/6 "torch $(pin torch) (about 2 minutes and 7 GB the first time)" install_torch
step 4/6 "$mmcv $(pin "$mmcv") with compiled operators (about 10 minutes on 2 cores unless pip has kept it)" install_mmcv
step 5/6 'the rest of the stack, the tools for tests, and detnas_mm itself' install_rest
step 6/6 'checking that all of it loads' verify
fingerprint >"$stamp"
say "$venv is ready after $(minutes $SECONDS). Use it by: source $venv/bin/activate"
