"""Lorenz 1963, the fully convolutional score network (k about 8), the paper's settings exactly.

    python scripts/simulate.py --config configs/lorenz63_conv_paper.py
    python scripts/train.py --config configs/lorenz63_conv_paper.py
    python scripts/evaluate.py --config configs/lorenz63_conv_paper.py

262,144 steps of 64 segments of 32 states; sampled with 256 even steps, tau 0.25, gamma 3e-2, 0 to
16 corrections, 64 observations of each case, 1024 samples: made for a GPU. Published W1 at 16
corrections, lo and hi (digitised): 5.6 and 7.1, the truth's 5.1 and 6.5.
"""

from lorenz63_common import paper

from sda_jax import TemporalConv

config = paper(TemporalConv(), window=None, batch=64)
