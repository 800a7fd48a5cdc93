#!/bin/bash
# Train on a Slurm cluster, one process for each GPU. From the root of the repository, as arguments what
# main_train_student.py takes:
#
#     sbatch scripts/slurm_train.sh --opt train.json
#     sbatch --nodes=1 --gpus-per-node=8 --ntasks-per-node=8 scripts/slurm_train.sh --opt train.json
#     SWEEP=runs.txt sbatch --array=1-20 --nodes=1 --gpus-per-node=1 --ntasks-per-node=1 scripts/slurm_train.sh --opt train.json
#
# The last one trains 20 runs: each takes a line of runs.txt as more arguments (task=... and other KEY=VALUE).
# docs/scaling.md has the rest.

#SBATCH --job-name=swinlet
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120

set -euo pipefail

# Settings. CPUS: the process's own threads and its dataloader_num_workers share them.
export PYTHON=${PYTHON:-.venv/bin/python}
CPUS=${SLURM_CPUS_PER_TASK:-1}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # on GPUs; without any, as many as CPUS

: "${SLURM_JOB_ID:?this is a job: sbatch scripts/slurm_train.sh --opt train.json}"
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  : "${SWEEP:?a job array needs SWEEP, a file with a line of KEY=VALUE for each run}"
  read -r -a overrides < <(sed -n "${SLURM_ARRAY_TASK_ID}p" "$SWEEP") || true
  : "${overrides:?line $SLURM_ARRAY_TASK_ID of $SWEEP: there is none}"
  set -- "$@" "${overrides[@]}"
fi

# Where the processes meet. Ports from 32768 are handed out by Linux.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export MASTER_ADDR MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))

# srun starts the processes, not torchrun on each node: Slurm's SIGTERM before the time limit then reaches the training
# itself, which saves and ends with 0. torchrun ends with 1 after a signal, upon which the step would be killed, perhaps
# while process 0 still writes. In blocks: the ranks of a node follow one another, and process 0 is on the first node.
# shellcheck disable=SC2016  # expanded by each process
srun --kill-on-bad-exit=1 --distribution=block --cpus-per-task="$CPUS" bash -c '
  export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE
  exec "$PYTHON" main_train_student.py "$@"
' train "$@"
