"""Kolmogorov flow, shipped prior on 32 x 32: assimilation.

    python scripts/experiment.py --config configs/kolmogorov_assimilation.py

L = 29: velocity averaged over blocks to 8 x 8, every 4th state, std 0.1.

A member takes about a minute on one core. Residuals: benchmarks/results/kolmogorov.md.
"""

from kolmogorov_common import shipped

config = shipped("assimilation")
