"""Kolmogorov flow on 32 x 32 from random weights: how the shipped prior `kolmogorov` began.

    python scripts/train.py --config configs/kolmogorov_laptop.py

16,384 steps of 16 windows from 512 simulated trajectories. On 2 CPU cores the simulations take 15
minutes, the training an hour. `--start PRIOR --training.seed 1` goes on from a result. The
shipped network was trained so, with a loss that counted each mode by its share of the error and
without the flow's symmetries; then on a GPU, as training is today, for 11,600 steps of 64 windows
from 512 trajectories of 192 states: benchmarks/results/gpu.md.
"""

from kolmogorov_common import laptop

config = laptop()
