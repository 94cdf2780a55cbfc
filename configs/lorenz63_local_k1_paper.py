"""Lorenz 1963, local score network on 3 states (k = 1), the paper's settings.

    python scripts/simulate.py --config configs/lorenz63_local_k1_paper.py
    python scripts/train.py --config configs/lorenz63_local_k1_paper.py
    python scripts/evaluate.py --config configs/lorenz63_local_k1_paper.py

262,144 steps of 256 windows: made for a GPU. Published W1 at 16 corrections, lo and hi (digitised):
26.1 and 17.5.
"""

from lorenz63_common import local_paper

config = local_paper(k=1)
