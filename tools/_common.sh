# Sourced by the scripts beside it; does nothing by itself.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Prints the header comment of the script that asks, from its second line to the first that is no comment.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# Refuses a config that is not there before several processes are started that would each say so.
need_config() { [ -f "$1" ] || die "there is no config '$1'. Configs are in configs/, listed in its READMEs."; }

minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# wait_for_lock DESCRIPTOR FOLDER: locks an open file in the folder of an environment, after whoever holds it.
# A file system that cannot lock, as some of NFS and Lustre, is said and does not stop the set-up.
wait_for_lock() {
  local status=0
  flock -n -E 75 "$1" || status=$?
  if [ "$status" -eq 75 ]; then
    say '      another set-up of this environment runs; waiting for it'
    flock "$1"
  elif [ "$status" -ne 0 ]; then
    say "      the file system of $2 cannot lock: start one set-up of this environment at a time"
  fi
}

# The virtual environment of a family: $DETNAS_VENV, or .venv / .venv-openmmlab in the checkout.
venv_of() {
  if [ -n "${DETNAS_VENV:-}" ]; then
    printf '%s' "$DETNAS_VENV"
  elif [ "$1" = openmmlab ]; then
    printf '%s' "$root/.venv-openmmlab"
  else
    printf '%s' "$root/.venv"
  fi
}

# The interpreter that launch scripts use: $PYTHON, an activated environment, what setup_env.sh made, or PATH's.
pick_python() {
  if [ -n "${PYTHON:-}" ]; then
    printf '%s' "$PYTHON"
  elif [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$(venv_of onedl)/bin/python" ]; then
    printf '%s' "$(venv_of onedl)/bin/python"
  else
    printf 'python'
  fi
}
