#!/bin/bash
# Posterior sampling on 4 nodes with 4 GPUs each: one process a GPU, 16 devices in one mesh.
# Adapt the lines marked (*), then: sbatch docs/slurm.sh
#SBATCH --job-name=assimilate
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source .venv/bin/activate                      # (*) an environment with jax[cuda12]
OUTPUT=/shared/scratch/$USER/runs/lorenz63     # (*) a folder that all nodes see

# one process that fails ends the step; requeued, the job goes on where it stopped
srun --kill-on-bad-exit=1 python scripts/assimilate.py \
    --config configs/lorenz63_demo.py --output "$OUTPUT" \
    --distributed --mesh.batch 16 --mesh.time 1 \
    --assimilation.samples 1024 --assimilation.chunk 256
