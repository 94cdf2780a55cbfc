"""Kolmogorov flow on 32 x 32 from random weights: first part of training the shipped prior.

    python scripts/train.py --config configs/kolmogorov_laptop.py

14,336 steps of 16 windows from 512 simulated trajectories. On 2 CPU cores the simulations take 15
minutes, the training 46. `kolmogorov_laptop_on.py` goes on from the result.
"""

from kolmogorov_common import laptop

config = laptop()
