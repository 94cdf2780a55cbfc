"""Kolmogorov flow, shipped prior on 32 x 32: loop.

    python scripts/experiment.py --config configs/kolmogorov_loop.py

L = 127: the first state equals the last, std 0.01.
"""

from kolmogorov_common import shipped

config = shipped("loop")
