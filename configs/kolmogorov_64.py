"""Kolmogorov flow on 64 x 64 with a spectrally preconditioned network of half the paper's width:
5.8 million weights, 11.6 MB in half precision.

    python scripts/train.py --config configs/kolmogorov_64.py

For an accelerator: from a buffer that the running simulator refreshes, no file needed. Not run at
this size so far.
"""

import dataclasses

from kolmogorov_common import paper

from sda_jax import Data, LogNormalRatio, SpectralPreconditioned, UNet

base = paper()
config = dataclasses.replace(
    base,
    network=UNet((48, 96, 192), (3, 3, 3), max_frequency=32.0, dtype="bfloat16", outputs=2),
    parameterisation=SpectralPreconditioned(),
    data=Data(source="replay", trajectories=256, length=64, chunk=32, refresh=64),
    training=dataclasses.replace(
        base.training, learning_rate=5e-4, clip=1.0, ema=0.999, times=LogNormalRatio(-1.2, 1.8)
    ),
)
