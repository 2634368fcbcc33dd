# Sourced by dist_*.sh: starts one of the package's scripts on several processes, with or without GPUs.
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

# torchrun_script NPROC RESTARTS SCRIPT CONFIG [ARGS…]
torchrun_script() {
  local nproc=$1 restarts=$2 script=$3 python port
  shift 3
  [[ $nproc =~ ^[1-9][0-9]{0,3}$ ]] ||
    die "the number of processes is '$nproc'; a whole number from 1 to 9999 is wanted. The order of arguments: --help"
  need_config "$1"
  python=$(pick_python)
  command -v "$python" >/dev/null ||
    die "there is no Python at '$python'. Set PYTHON to an interpreter, or make an environment: bash tools/setup_env.sh"
  if [ -n "${PORT:-}" ]; then
    port=$PORT
  elif [ "${NNODES:-1}" -gt 1 ]; then
    port=29500 # all machines must name the same one
  else
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
  fi
  # The scripts find detnas_mm in this checkout, too, when it is not installed.
  PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$nproc" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port" --max_restarts="$restarts" \
    "$root/tools/$script" "$@" --launcher pytorch
}
