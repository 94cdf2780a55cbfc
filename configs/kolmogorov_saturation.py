"""Kolmogorov flow, shipped prior on 32 x 32: saturation.

    python scripts/experiment.py --config configs/kolmogorov_saturation.py

L = 8: w / (1 + |w|) of the vorticity on 16 x 16 averages, inner 12 x 12, every 3rd state,
std 0.05.

A member takes about ten seconds on one core. Residuals: benchmarks/results/kolmogorov.md.
"""

from kolmogorov_common import shipped

config = shipped("saturation")
