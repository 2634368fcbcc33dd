# Sourced by slurm_*.sh: runs a script of tools/ as a slurm job.
. "$(dirname "${BASH_SOURCE[0]}")/_common.sh"

# srun_script PARTITION JOB_NAME SCRIPT CONFIG [ARGS…]
srun_script() {
  local partition=$1 job=$2 script=$3 gpus=${GPUS:-8} options
  shift 3
  command -v srun >/dev/null || die 'srun is not installed on this machine; without slurm use tools/dist_*.sh.'
  need_config "$1"
  local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
  local asked=(--gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node") launcher=(--launcher slurm)
  if [ "$gpus" = 0 ]; then
    asked=(--ntasks=1) launcher=()
  fi
  read -ra options <<<"${SRUN_ARGS:-}"
  PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec srun -p "$partition" --job-name="$job" "${asked[@]}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${options[@]+"${options[@]}"} \
    "$(pick_python)" -u "$root/tools/$script" "$@" ${launcher[@]+"${launcher[@]}"}
}
