# Common functions; sourced by the scripts in this folder.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Prints the header comment of the calling script.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# Checks that a config exists, before several processes start that would each print the error.
need_config() { [ -f "$1" ] || die "there is no config '$1'. Give the path of a config, see configs/*/README.md."; }

minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# wait_for_lock DESCRIPTOR FOLDER: waits for the lock on an open file in the folder of an environment.
# A file system without locks, such as some NFS and Lustre, gives a warning and does not stop the set-up.
wait_for_lock() {
  local status=0
  flock -n -E 75 "$1" || status=$?
  if [ "$status" -eq 75 ]; then
    say '      another set-up of this environment is running; waiting for it'
    flock "$1"
  elif [ "$status" -ne 0 ]; then
    say "      the file system of $2 has no locks: run one set-up of this environment at a time"
  fi
}

# Prints the virtual environment of a family: $DETNAS_VENV, or .venv / .venv-openmmlab in the checkout.
venv_of() {
  if [ -n "${DETNAS_VENV:-}" ]; then
    printf '%s' "$DETNAS_VENV"
  elif [ "$1" = openmmlab ]; then
    printf '%s' "$root/.venv-openmmlab"
  else
    printf '%s' "$root/.venv"
  fi
}

# Prints the interpreter for launch scripts: $PYTHON, else of the activated environment, of setup_env.sh, or of PATH.
pick_python() {
  if [ -n "${PYTHON:-}" ]; then
    printf '%s' "$PYTHON"
  elif [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$(venv_of onedl)/bin/python" ]; then
    printf '%s' "$(venv_of onedl)/bin/python"
  else
    printf 'python'
  fi
}
