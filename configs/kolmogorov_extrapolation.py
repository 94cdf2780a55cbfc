"""Kolmogorov flow, shipped prior on 32 x 32: extrapolation.

    python scripts/experiment.py --config configs/kolmogorov_extrapolation.py

L = 8: the central 8 x 8 of 16 x 16 averages, every 3rd state, std 0.01.

A member takes about six seconds on one core. Residuals: benchmarks/results/kolmogorov.md.
"""

from kolmogorov_common import shipped

config = shipped("extrapolation")
