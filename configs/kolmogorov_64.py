"""Kolmogorov flow on 64 x 64, how the shipped prior `kolmogorov64` was trained, and experiments.

    python scripts/train.py --config configs/kolmogorov_64.py
    python scripts/experiment.py --config configs/kolmogorov_64.py --case extrapolation

A spectrally preconditioned network of 7.1 million weights, in bfloat16: 22,000 steps of 64 windows
from 560 simulated trajectories, 234 s on an H200 after 55 s of simulation, which are hours on a
CPU: benchmarks/results/kolmogorov_64.md.
"""

import dataclasses

from kolmogorov_common import SAMPLING, paper

from sda_jax import Data, LogNormalRatio, SpectralPreconditioned, UNet

base = paper()
config = dataclasses.replace(
    base,
    prior="kolmogorov64",
    network=UNet((64, 128, 256), (2, 2, 2), max_frequency=32.0, dtype="bfloat16", outputs=2),
    parameterisation=SpectralPreconditioned(),
    data=Data(source="stored", trajectories=560, length=192, chunk=64),
    training=dataclasses.replace(
        base.training,
        steps=22_000,
        batch=64,
        learning_rate=8e-4,
        clip=1.0,
        ema=0.999,
        times=LogNormalRatio(-1.2, 1.8),
        block=200,
        checkpoint_every=2_000,
    ),
    assimilation=SAMPLING["assimilation"],
)
