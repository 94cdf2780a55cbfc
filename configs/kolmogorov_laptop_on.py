"""Kolmogorov flow on 32 x 32: second and third part of training the shipped prior `kolmogorov`.

    mkdir -p runs/kolmogorov_laptop_on runs/third      # or simulate the set again, twice
    cp runs/kolmogorov_laptop/data.h5 runs/kolmogorov_laptop_on/
    cp runs/kolmogorov_laptop/data.h5 runs/third/
    python scripts/train.py --config configs/kolmogorov_laptop_on.py
    python scripts/train.py --config configs/kolmogorov_laptop_on.py --output runs/third \\
        --start runs/kolmogorov_laptop_on/prior --training.seed 2 --training.steps 18432 \\
        --training.times.mean -1.75 --training.times.std 1.7

The second part starts from what `kolmogorov_laptop.py` leaves, with more weight on noise levels
from 0.1 to 7; the third is longer, and weights smaller ones, where the small scales are decided.
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
        seed=1,
    ),
)
