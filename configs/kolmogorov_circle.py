"""Kolmogorov flow, shipped prior on 32 x 32: circle.

    python scripts/experiment.py --config configs/kolmogorov_circle.py

L = 8: a vorticity imposed on a ring of the last state, verified by simulating the members
forward from their first states.
"""

from kolmogorov_common import shipped

config = shipped("circle")
