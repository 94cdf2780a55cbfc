"""Lorenz 1996 of 8 variables, convolutions along time: the prior of `benchmarks/operators.py`.

python scripts/train.py --config configs/lorenz96_laptop.py
"""

from sda_jax import (
    Case,
    Channels,
    Every,
    Experiment,
    LogNormalRatio,
    Lorenz96,
    Preconditioned,
    TemporalConv,
    Training,
)

config = Experiment(
    system=Lorenz96(dim=8, dt=0.025, noise=1.0),
    network=TemporalConv(width=96, dilations=(1, 2, 4, 4, 2, 1), max_frequency=32.0),
    window=None,
    parameterisation=Preconditioned(),
    training=Training(
        steps=32768, batch=32, segment=33, times=LogNormalRatio(), ema=0.999, checkpoint_every=2048
    ),
    cases={"half": Case(33, Every(4, Channels((0,))), 0.5)},
)
