"""The Lorenz 1963 experiments of Rozet & Louppe (2023), from which the configs here are made.

Not an experiment by itself: the files beside it call these functions.
"""

from sda_jax import (
    SDA,
    Assimilation,
    Data,
    Evaluation,
    EvenTime,
    Experiment,
    ExponentialIntegrator,
    Langevin,
    LogNormalRatio,
    Lorenz63,
    NoisePrediction,
    Preconditioned,
    PredictorCorrector,
    ResidualMLP,
    TemporalConv,
    Training,
    UniformTime,
)
from sda_jax.experiment import demo_experiment

CASES = demo_experiment().cases

# gamma acts on standardised coordinates, as in the paper
PAPER_SAMPLING = Assimilation(
    samples=1024,
    guidance=SDA(gamma=3e-2),
    sampler=PredictorCorrector(256, EvenTime(), ExponentialIntegrator(), Langevin(1, 0.25)),
)
PAPER_EVALUATION = Evaluation(observations=64, corrections=(0, 1, 2, 4, 8, 16))


def paper(network: ResidualMLP | TemporalConv, window: int | None, batch: int) -> Experiment:
    """The paper's data, network, budget, sampler and evaluation."""
    return Experiment(
        system=Lorenz63(),
        network=network,
        window=window,
        parameterisation=NoisePrediction(),
        data=Data(source="stored", trajectories=1024, length=1024),
        training=Training(
            steps=1024 * 256,
            batch=batch,
            segment=window or 32,
            clip=None,
            ema=0.0,
            times=UniformTime(),
            block=256,
            checkpoint_every=256 * 16,
        ),
        cases=CASES,
        assimilation=PAPER_SAMPLING,
        evaluation=PAPER_EVALUATION,
    )


def laptop(
    network: ResidualMLP | TemporalConv, window: int | None, training: Training
) -> Experiment:
    """Preconditioned, from the running simulator, within half an hour on 2 CPU cores."""
    return Experiment(
        system=Lorenz63(),
        network=network,
        window=window,
        parameterisation=Preconditioned(),
        training=training,
        cases=CASES,
    )


def local_paper(k: int) -> Experiment:
    """Residual MLP on windows of 2k + 1 states."""
    return paper(ResidualMLP(width=256, blocks=5), 2 * k + 1, batch=256)


def local_laptop(k: int) -> Experiment:
    """The same network for 65,536 steps."""
    training = Training(
        steps=65536, batch=256, segment=2 * k + 1, times=LogNormalRatio(), ema=0.9995
    )
    return laptop(ResidualMLP(width=256, blocks=5, max_frequency=32.0), 2 * k + 1, training)
