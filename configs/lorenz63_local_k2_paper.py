"""Lorenz 1963, local score network on 5 states (k = 2), the paper's settings.

    python scripts/simulate.py --config configs/lorenz63_local_k2_paper.py
    python scripts/train.py --config configs/lorenz63_local_k2_paper.py
    python scripts/evaluate.py --config configs/lorenz63_local_k2_paper.py

262,144 steps of 256 windows: made for a GPU. Published W1 at 16 corrections, lo and hi (digitised):
11.9 and 11.7.
"""

from lorenz63_common import local_paper

config = local_paper(k=2)
