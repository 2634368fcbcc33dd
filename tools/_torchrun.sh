# Sourced by dist_*.sh: runs a script of tools/ in several processes, with or without GPUs.
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

# torchrun_script NPROC RESTARTS SCRIPT CONFIG [ARGS…]
torchrun_script() {
  local nproc=$1 restarts=$2 script=$3 python port
  shift 3
  [[ $nproc =~ ^[1-9][0-9]{0,3}$ ]] ||
    die "NPROC must be a whole number from 1 to 9999; got '$nproc'. For the order of arguments see --help."
  need_config "$1"
  python=$(pick_python)
  command -v "$python" >/dev/null ||
    die "there is no Python at '$python'. Set PYTHON to one, or create an environment: bash tools/setup_env.sh"
  if [ -n "${PORT:-}" ]; then
    port=$PORT
  elif [ "${NNODES:-1}" -gt 1 ]; then
    port=29500 # the same on all machines
  else
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
  fi
  # Lets the scripts import detnas_mm from this checkout if it is not installed.
  PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$nproc" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port" --max_restarts="$restarts" \
    "$root/tools/$script" "$@" --launcher pytorch
}
