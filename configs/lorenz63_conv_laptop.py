"""Lorenz 1963, dilated convolutions along time: the shipped prior `lorenz63`.

    python scripts/train.py --config configs/lorenz63_conv_laptop.py

trains 98,304 steps of 32 segments of 64 states, drawn from the running simulator, in about 30
minutes on 2 CPU cores. See README for the scores of the result.
"""

from sda_jax.config import Assimilation, Case, Evaluation, Experiment
from sda_jax.denoise import LogNormalRatio, Preconditioned
from sda_jax.networks import TemporalConv
from sda_jax.observation import Channels, Every
from sda_jax.systems import Lorenz63
from sda_jax.train import Training

config = Experiment(
    system=Lorenz63(),
    network=TemporalConv(width=64, dilations=(1, 2, 4, 4, 2, 1), max_frequency=32.0),
    parameterisation=Preconditioned(),
    training=Training(
        steps=98304, batch=32, segment=64, times=LogNormalRatio(), ema=0.9995, checkpoint_every=4096
    ),
    cases={
        "lo": Case(length=65, operator=Every(8, Channels((0,))), std=0.4),
        "hi": Case(length=65, operator=Every(1, Channels((0,))), std=2.0),
        "multimodal": Case(length=49, operator=Every(4, Channels((2,))), std=0.86),
    },
    assimilation=Assimilation(),
    evaluation=Evaluation(cases=("lo", "hi"), observations=8),
)
