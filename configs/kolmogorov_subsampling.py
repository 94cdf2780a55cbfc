"""Kolmogorov flow, shipped prior on 32 x 32: subsampling.

    python scripts/experiment.py --config configs/kolmogorov_subsampling.py

L = 8: every 2nd, 4th, 8th or 16th grid point of every state, std 0.1.

A member takes about eight seconds on one core. Residuals:
benchmarks/results/kolmogorov.md.
"""

from kolmogorov_common import shipped

config = shipped("subsampling")
