"""The Kolmogorov flow experiments of Rozet & Louppe (2023), from which the configs here are made.

Not an experiment by itself: the files beside it call these functions. Operators and values are set
so that on a coarser grid the same physical quantities are seen as in the paper on 64 x 64, except
for subsampling, which takes every n-th point of any grid.
"""

import dataclasses

from sda_jax import (
    SDA,
    Assimilation,
    At,
    Case,
    Chain,
    Coarsen,
    Crop,
    Data,
    EvenTime,
    Every,
    Experiment,
    ExponentialIntegrator,
    FirstMinusLast,
    KolmogorovFlow,
    Langevin,
    LogNormalRatio,
    Memory,
    NoisePrediction,
    PredictorCorrector,
    Ring,
    Saturate,
    SpectralPreconditioned,
    Subsample,
    Training,
    UNet,
    UniformTime,
    Vorticity,
)
from sda_jax.posterior._presets import FIELD_PRESETS

PAPER_FLOW = KolmogorovFlow(size=256, coarsening=4)
LAPTOP_FLOW = KolmogorovFlow(size=128, coarsening=4)
LAPTOP_NETWORK = UNet(
    channels=(32, 64, 96, 128), blocks=(1, 1, 2, 2), max_frequency=32.0, outputs=2
)


# the default of priors of fields, for all experiments: no gradient through the network, a
# covariance that follows the innovations, and Gibbs steps at all but the lowest levels
GUIDANCE, SAMPLER = FIELD_PRESETS["default"]
ENSEMBLES = {
    "assimilation": (4, Memory(1)),
    "extrapolation": (8, Memory(8)),
    "saturation": (8, Memory(8)),
    "subsampling": (8, Memory(8)),
    "circle": (8, Memory(8)),
    "loop": (2, Memory(1, window_chunk=16)),
}
SAMPLING = {name: Assimilation(*size, GUIDANCE, SAMPLER) for name, size in ENSEMBLES.items()}


def cases(grid: int) -> dict[str, dict[str, Case]]:
    """The six experiments for a prior on `grid` by `grid` points, each with its cases."""
    scale = 64 // grid
    return {
        "assimilation": {"assimilation": Case(29, Every(4, Coarsen(8 // scale)), 0.1)},
        "extrapolation": {
            "extrapolation": Case(8, Every(3, Chain((Coarsen(4 // scale), Crop(8)))), 0.01)
        },
        "saturation": {
            "saturation": Case(
                8,
                Every(3, Chain((Coarsen(4 // scale), Vorticity(), Crop(12), Saturate()))),
                0.05,
            )
        },
        "subsampling": {f"every_{n}": Case(8, Every(1, Subsample(n)), 0.1) for n in (2, 4, 8, 16)},
        "circle": {
            "circle": Case(8, At(-1, Chain((Vorticity(), Ring()))), 0.2 * scale, 0.6 * scale)
        },
        "loop": {"loop": Case(127, FirstMinusLast(), 0.01, 0.0)},
    }


def paper() -> Experiment:
    """The paper's data, network, budget and sampler, on 64 x 64."""
    return Experiment(
        system=PAPER_FLOW,
        network=UNet(channels=(96, 192, 384), blocks=(3, 3, 3), dtype="bfloat16"),
        window=5,
        parameterisation=NoisePrediction(),
        data=Data(source="stored", trajectories=1024, length=64, chunk=64),
        training=Training(
            steps=1024 * 128,
            batch=32,
            segment=5,
            learning_rate=2e-4,
            weight_decay=1e-3,
            clip=None,
            ema=0.0,
            times=UniformTime(),
            block=128,
            checkpoint_every=128 * 16,
        ),
        assimilation=Assimilation(
            samples=1,
            memory=Memory(1),
            guidance=SDA(gamma_obs=1e-2),
            sampler=PredictorCorrector(256, EvenTime(), ExponentialIntegrator(), Langevin(1, 0.5)),
        ),
        cases={k: v for each in cases(64).values() for k, v in each.items()},
    )


def laptop() -> Experiment:
    """A small preconditioned network on 32 x 32, from 128 x 128, for 2 CPU cores."""
    return Experiment(
        system=LAPTOP_FLOW,
        network=LAPTOP_NETWORK,
        window=5,
        parameterisation=SpectralPreconditioned(),
        data=Data(source="stored", trajectories=512, length=64, chunk=32),
        training=Training(
            steps=16384,
            batch=16,
            segment=5,
            learning_rate=1e-3,
            times=LogNormalRatio(mean=-1.2, std=1.8),
            ema=0.999,
            block=64,
            checkpoint_every=1024,
        ),
        assimilation=SAMPLING["assimilation"],
    )


def shipped(name: str) -> Experiment:
    """An experiment with the shipped prior on 32 x 32."""
    chosen = {"prior": "kolmogorov", "cases": cases(32)[name], "assimilation": SAMPLING[name]}
    return dataclasses.replace(laptop(), **chosen)
