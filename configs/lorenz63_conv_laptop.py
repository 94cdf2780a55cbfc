"""Lorenz 1963, dilated convolutions along time: the shipped prior `lorenz63`.

    python scripts/train.py --config configs/lorenz63_conv_laptop.py

98,304 steps of 32 segments of 64 states, drawn from the running simulator, in 33 minutes on 2 CPU
cores that other work used at times; with nothing else running they do 60 steps a second. The
shipped weights went on from the result for 75 minutes on one core:

    python scripts/train.py --config configs/lorenz63_conv_laptop.py \\
        --start runs/lorenz63_conv_laptop/prior --output runs/lorenz63_longer \\
        --training.steps 61440 --training.batch 64 --training.learning-rate 7e-4 \\
        --training.ema 0.9998 --training.checkpoint-every 1024 --training.seed 1

The README has the scores of these.
"""

from lorenz63_common import laptop

from sda_jax.denoise import LogNormalRatio
from sda_jax.networks import TemporalConv
from sda_jax.train import Training

config = laptop(
    TemporalConv(width=64, dilations=(1, 2, 4, 8, 8, 4, 2, 1), max_frequency=32.0),
    window=None,
    training=Training(
        steps=98304, batch=32, segment=64, times=LogNormalRatio(), ema=0.9995, checkpoint_every=4096
    ),
)
