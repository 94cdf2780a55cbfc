"""Noise prediction against the preconditioned denoiser, at equal cost, on the shipped network."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from common import record
from jax import Array

import sda_jax as sda
from sda_jax.data._sources import FromSimulator
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._loss import LogNormalRatio, UniformTime
from sda_jax.diffusion._parameterisations import NoisePrediction, Preconditioned
from sda_jax.experiment._config import load_config
from sda_jax.networks import TemporalConv
from sda_jax.prior._loop import train

RATIOS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
DILATED, PLAIN = (1, 2, 4, 4, 2, 1), (1, 1, 1, 1, 1, 1)
VARIANTS = {
    "noise prediction, t uniform (the paper's)": (NoisePrediction(), UniformTime(), 1e3, DILATED),
    "noise prediction, log ratio normal": (NoisePrediction(), LogNormalRatio(), 1e3, DILATED),
    "preconditioned, log ratio normal": (Preconditioned(), LogNormalRatio(), 32.0, DILATED),
    "the same without dilation": (Preconditioned(), LogNormalRatio(), 32.0, PLAIN),
}


@jax.jit
def denoising_error(denoiser: Any, z: Array, noise: Array, ratio: Array) -> Array:
    """Mean square error of the posterior mean at one noise level, in units of the noise."""
    t = denoiser.schedule.time(ratio)
    x = denoiser.schedule.mu(t) * z + denoiser.schedule.sigma(t) * noise
    estimate = jax.vmap(lambda x: denoiser(x, t))(x)
    return jnp.mean((estimate - z) ** 2) / jnp.minimum(ratio, 1.0) ** 2


def main() -> None:
    """Trains every variant and tabulates its denoising error on fresh trajectories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10240)
    steps = parser.parse_args().steps
    root = Path(__file__).parent.parent
    config, _ = load_config(root / "configs" / "lorenz63_conv_laptop.py")
    system, scale = config.system, config.system.standardisation
    z = scale.forward(sda.simulate(jax.random.key(6), system, 65, batch=512))
    noise = jax.random.normal(jax.random.key(7), z.shape)
    held = sda.simulate(jax.random.key(5), system, 64, batch=32)[None]
    rows = [
        "| variant | " + " | ".join(f"{r:g}" for r in RATIOS) + " |",
        "|---" * (len(RATIOS) + 1) + "|",
    ]
    for name, (parameterisation, times, frequency, dilations) in VARIANTS.items():
        network = TemporalConv(width=64, dilations=dilations, max_frequency=frequency)
        blank = NetworkDenoiser(network, None, config.schedule, parameterisation)
        training = dataclasses.replace(
            config.training, steps=steps, times=times, ema=0.999, checkpoint_every=steps
        )
        with tempfile.TemporaryDirectory() as folder:
            trained = train(blank, FromSimulator(system), held, scale, training, folder)
        errors = [float(denoising_error(trained, z, noise, jnp.asarray(r))) for r in RATIOS]
        cells = " | ".join(f"{e:.4f}" for e in errors)
        rows.append(f"| {name} | {cells} |")
        print(rows[-1], flush=True)
    record(
        "parameterisation",
        f"Denoising error after {steps} steps of 32 segments of 64 states",
        "Mean square error of the posterior mean of 65 standardised states, divided by the noise's "
        "variance where sigma/mu is below 1; columns are sigma/mu.\n\n" + "\n".join(rows),
    )


if __name__ == "__main__":
    main()
