#!/usr/bin/env bash
# Sets up what is missing, then runs the linters and the test suite.
#
#   bash tools/run_tests.sh [--family onedl|openmmlab] [--lint|--fast|--packaging|--slow|--gpu|--all] [--no-setup] [-- PYTEST_ARGS]
#
#   --lint       ruff (lint and format), mypy, import-linter
#   --fast       tests that take seconds
#   --packaging  tests of sdist and wheel
#   --slow       tests that train, search and start other programs
#   --all        all of these; the default
#   --gpu        tests that need a GPU
#   --family openmmlab  run only the smoke tests (pytest -m smoke), with OpenMMLab's own distributions
#   --no-setup   do not set up anything; use $PYTHON, or the python on PATH
#
# Pass arguments to pytest after a double dash: bash tools/run_tests.sh --fast -- -k ledger
set -euo pipefail
. "$(dirname "$0")/_common.sh"
cd "$root"

family=onedl stages=() setup=1
while [ $# -gt 0 ]; do
  case $1 in
    --family) family=${2:-}; shift 2 || die '--family needs a value: onedl or openmmlab.' ;;
    --family=*) family=${1#*=}; shift ;;
    --lint | --fast | --packaging | --slow | --gpu) stages+=("${1#--}"); shift ;;
    --all) stages=(lint fast packaging slow); shift ;;
    --no-setup) setup=; shift ;;
    --) shift; break ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'. See --help; pass arguments to pytest after a double dash: -- $1" ;;
  esac
done
pytest_args=("$@")
case $family in
  onedl) [ ${#stages[@]} -gt 0 ] || stages=(lint fast packaging slow) ;;
  openmmlab) stages=(smoke) ;;
  *) die "unknown family '$family'. Allowed: onedl, openmmlab." ;;
esac

if [ -n "$setup" ]; then
  bash tools/setup_env.sh --family "$family"
  python=$(venv_of "$family")/bin/python
  export VIRTUAL_ENV=${python%/bin/python}
  export PATH=$VIRTUAL_ENV/bin:$PATH # tests that start other programs find the same ones
else
  python=${PYTHON:-python}
fi

cores=$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 1)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Runs all linters even if one fails, so that one run shows every error.
lint() {
  local status=0
  "$python" -m ruff check . || status=1
  "$python" -m ruff format --check --diff . || status=1
  say "mypy: up to two minutes without a cache"
  "$python" -m mypy || status=1
  "$python" -c 'import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())' || status=1
  return "$status"
}

# pytest exits with 5 if it selects no test, which is correct only if the caller passed arguments.
# One thread per process: small networks are slower with several threads on a busy machine.
run_pytest() {
  local status=0 processes=()
  [ "$cores" -lt 2 ] || [ "$1" = gpu ] || processes=(-n "$((cores < 4 ? cores : 4))" --dist loadfile)
  "$python" -m pytest -m "$1" ${processes[@]+"${processes[@]}"} ${pytest_args[@]+"${pytest_args[@]}"} || status=$?
  [ "$status" -ne 5 ] || [ ${#pytest_args[@]} -eq 0 ] || status=0
  return "$status"
}

run_stage() {
  case $1 in
    lint) lint ;;
    fast) run_pytest 'not slow and not packaging and not gpu' ;;
    packaging) run_pytest 'packaging and not slow' ;;
    slow) run_pytest 'slow' ;;
    gpu) run_pytest 'gpu' ;;
    smoke) run_pytest 'smoke' ;;
  esac
}

failed=() times=()
for stage in "${stages[@]}"; do
  start=$SECONDS
  say "==> $stage"
  run_stage "$stage" </dev/null || failed+=("$stage")
  times+=("$stage $(minutes $((SECONDS - start)))")
  say "<== $stage took $(minutes $((SECONDS - start)))"
done

say "times: $(printf '%s; ' "${times[@]}")"
[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}. One stage again: bash tools/run_tests.sh --${failed[0]}"
