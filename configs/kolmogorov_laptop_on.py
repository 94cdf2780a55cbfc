"""Kolmogorov flow on 32 x 32: second part of training the shipped prior `kolmogorov`.

    cp runs/kolmogorov_laptop/data.h5 runs/kolmogorov_laptop_on/   # or simulate the set again
    python scripts/train.py --config configs/kolmogorov_laptop_on.py

Starts from what `kolmogorov_laptop.py` leaves, with more weight on noise levels from 0.1 to 7. It
has the first part's seed, and so sees the first part's windows again in the same order.
"""

import dataclasses

from kolmogorov_common import laptop

from sda_jax.denoise import LogNormalRatio

base = laptop()
config = dataclasses.replace(
    base,
    start="runs/kolmogorov_laptop/prior",
    training=dataclasses.replace(
        base.training,
        steps=9216,
        learning_rate=7e-4,
        times=LogNormalRatio(mean=-1.0, std=1.6),
        ema=0.9995,
    ),
)
