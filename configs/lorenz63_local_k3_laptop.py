"""Lorenz 1963, local score network on 7 states (k = 3), for 2 CPU cores.

    python scripts/train.py --config configs/lorenz63_local_k3_laptop.py

65,536 steps of 256 windows, some 95 a second on 2 CPU cores: about 12 minutes. Not scored yet.
"""

from lorenz63_common import local_laptop

config = local_laptop(k=3)
