#!/bin/bash
# sbatch slurm.sh: 2 machines with 4 GPUs each, a process for each GPU. Every process is told by SLURM which it is.
# The folder of the run and the data have to be on a file system that all machines see.
#SBATCH --job-name=jaxdl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue

# One minute before the time is up all processes save and end; started again, the job goes on.
srun --kill-on-bad-exit=1 .venv/bin/python -m jaxdl.train \
    --data-dir "$SLURM_SUBMIT_DIR/mnist" --recipe cnn --batch-size 512 \
    --out "$SLURM_SUBMIT_DIR/runs/slurm-$SLURM_JOB_ID" --resume
