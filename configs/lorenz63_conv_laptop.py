"""Lorenz 1963, dilated convolutions along time: the shipped prior `lorenz63`.

    python scripts/train.py --config configs/lorenz63_conv_laptop.py

The shipped weights have a history of three parts: six blocks (dilations 1, 2, 4, 4, 2, 1),
trained for 98,304 steps of 32 segments of 64 states, drawn from the running simulator, in 33
minutes on 2 CPU cores that other work used at times; 61,440 steps of 64 segments more, in 75
minutes on one core; then two blocks of dilation 8 in the middle, whose second convolutions were
zero at first, and 36,864 steps of 64 segments, in 58 minutes on one core, with

    --training.steps 36864 --training.batch 64 --training.learning-rate 7e-4
    --training.ema 0.9998 --training.checkpoint-every 1024 --training.seed 2

What this config trains to from nothing has not been measured. The wide blocks took 11, 18 and 19 %
off the mean square error at sigma/mu = 0.8, 1.6 and 3.2, for trajectories of 257 states 12 and 31 %
at 0.8 and 3.2, though segments have 64.

The README has the scores of these.
"""

from lorenz63_common import laptop

from sda_jax import LogNormalRatio, TemporalConv, Training

config = laptop(
    TemporalConv(width=64, dilations=(1, 2, 4, 8, 8, 4, 2, 1), max_frequency=32.0),
    window=None,
    training=Training(
        steps=98304, batch=32, segment=64, times=LogNormalRatio(), ema=0.9995, checkpoint_every=4096
    ),
)
