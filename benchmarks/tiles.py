"""Grids larger than a network's crop: tiles of a network of 64 x 64 crops against the same network
on the whole of a periodic 128 x 128 field, and a 512 x 512 field by tiles.

The field is Gaussian and stationary, so that the best denoiser and the posterior's mean are known.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import record

import sda_jax as sda
from sda_jax.data import Tiling
from sda_jax.diffusion import LogSNR, TiledDenoiser
from sda_jax.prior import trajectory_denoiser
from sda_jax.runtime._files import write_text
from sda_jax.runtime._memory import needed_bytes

SIZE, CROP, LARGE, STATES = 128, 64, 512, 3
RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
FIELDS = 16
CHUNKS = (1, 4, 16, None)
EVERY, STD, STEPS = 8, 0.1, 32
MIB = 2**20
MOST = 4096 * MIB  # that a program is run with


@sda.component
class GaussianField:
    """A stationary Gaussian field on a periodic plane, each wavenumber of which decays alike: of
    variance 1 and power `(1 + (f / scale)^2)^-2.5` at f cycles a point.

    Attributes:
        size: Points along each axis.
        scale: Cycles a point up to which all scales are alike.
        memory: Correlation of neighbouring states.
    """

    size: int = sda.static(SIZE)
    scale: float = sda.static(3 / SIZE)
    memory: float = sda.static(0.9)
    spinup: int = sda.static(0)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.size, self.size, 1)

    @property
    def standardisation(self) -> sda.Standardisation:
        return sda.Standardisation((0.0,), (1.0,))

    @property
    def periodic(self) -> tuple[bool, ...]:
        return (True, True)

    @property
    def power(self) -> np.ndarray:
        """Variance of each wavevector of a unitary Fourier transform."""
        f = np.fft.fftfreq(self.size)
        power = (1 + (f[:, None] ** 2 + f**2) / self.scale**2) ** -2.5
        return power / power.mean()

    def _fresh(self, key: jax.Array) -> jax.Array:
        white = jax.random.normal(key, (self.size, self.size))
        return filtered(jnp.asarray(np.sqrt(self.power)), white)[..., None]

    def init(self, key: jax.Array) -> jax.Array:
        return self._fresh(key)

    def step(self, key: jax.Array, s: jax.Array) -> jax.Array:
        return self.memory * s + np.sqrt(1 - self.memory**2) * self._fresh(key)

    def state(self, s: jax.Array) -> jax.Array:
        return s

    def lift(self, x: jax.Array) -> jax.Array:
        return x


def filtered(gain: jax.Array, x: jax.Array) -> jax.Array:
    """Fields on the last two axes with each wavevector multiplied."""
    return jnp.fft.ifft2(gain * jnp.fft.fft2(x)).real


def in_time(field: GaussianField) -> tuple[np.ndarray, np.ndarray]:
    """Variances and modes of the states of a trajectory at a point."""
    i = np.arange(STATES)
    return np.linalg.eigh(field.memory ** np.abs(i[:, None] - i))


@sda.component
class Wiener:
    """The exact denoiser of a field: of whole grids in the Fourier basis, of crops in that of their
    covariance (`modes`)."""

    variances: Any
    times: tuple[Any, Any]
    schedule: Any
    modes: Any = None

    def __call__(self, x: jax.Array, t: Any) -> jax.Array:
        mu, sigma = self.schedule.mu(t), self.schedule.sigma(t)
        values, basis = map(partial(jnp.asarray, dtype=jnp.float32), self.times)
        with jax.default_matmul_precision("highest"):
            a = jnp.tensordot(basis.T, x[..., 0], 1)
            known = values.reshape(-1, *(1,) * self.variances.ndim) * self.variances
            gain = mu * known / (mu**2 * known + sigma**2)
            if self.modes is None:
                a = filtered(gain, a)
            else:
                a = ((gain * (a.reshape(len(a), -1) @ self.modes)) @ self.modes.T).reshape(a.shape)
            return jnp.tensordot(basis, a, 1)[..., None]


@cache
def of_crops(field: GaussianField) -> Wiener:
    """The exact denoiser of crops, which knows their field to go on beyond them."""
    covariance = np.fft.ifft2(field.power).real
    i, j = np.divmod(np.arange(CROP**2), CROP)
    crop = covariance[(i[:, None] - i) % field.size, (j[:, None] - j) % field.size]
    values, modes = np.linalg.eigh(crop.astype(np.float32))
    return Wiener(jnp.maximum(values, 0.0), in_time(field), sda.Cosine(), jnp.asarray(modes))


def trained(folder: Path) -> sda.Prior:
    """A small U-Net of three states' crops."""
    if (folder / "prior").exists():
        return sda.load_prior(folder / "prior", components=[GaussianField])
    network = sda.UNet(
        (16, 32, 32), (1, 1, 1), forcing=None, max_frequency=32.0, periodic=(False, False)
    )
    training = sda.Training(
        steps=1536, batch=8, segment=STATES, crop=(CROP, CROP), block=32, checkpoint_every=128,
        times=sda.LogNormalRatio(0.0, 1.8), validation_batches=4,
    )  # fmt: skip
    experiment = sda.Experiment(GaussianField(), network, STATES, training=training)
    return sda.train_prior(experiment, folder, progress=True)


def whole(prior: sda.Prior) -> Any:
    """The same weights on whole grids, which the convolutions take for periodic."""
    denoiser = prior.denoiser
    network = dataclasses.replace(denoiser.network, periodic=(True, True))
    return dataclasses.replace(denoiser, network=network)


def errors(prior: sda.Prior) -> str:
    """RMS errors by noise level."""
    field = GaussianField()
    x = sda.simulate(jax.random.key(1), field, STATES, batch=FIELDS)
    noise = jax.random.normal(jax.random.key(2), x.shape)
    assert prior.tiling is not None
    exact = Wiener(jnp.asarray(field.power), in_time(field), sda.Cosine())
    denoisers = {
        "exact": exact,
        "exact, tiles": TiledDenoiser(of_crops(field), prior.tiling),
        "network": whole(prior),
        "network, tiles": trajectory_denoiser(prior, STATES),
    }
    halves = dataclasses.replace(prior.tiling, overlap=2 * prior.tiling.margin)
    denoisers["network, fewer tiles"] = TiledDenoiser(prior.denoiser, halves)
    names = [*denoisers, "tiles less network"]
    rows = ["| sigma/mu | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for ratio in RATIOS:
        t = sda.Cosine().time(ratio)
        x_t = sda.Cosine().mu(t) * x + sda.Cosine().sigma(t) * noise
        found = {name: denoised(denoiser, t, x_t) for name, denoiser in denoisers.items()}
        cells = [rms(d - x) for d in found.values()]
        cells.append(rms(found["network, tiles"] - found["network"]))
        rows.append(f"| {ratio} | " + " | ".join(f"{c:.4f}" for c in cells) + " |")
    tiles, fewer = (len(t.tiles((SIZE, SIZE)).origins) for t in (prior.tiling, halves))
    return (
        f"RMS errors of {FIELDS} trajectories of {STATES} states, {SIZE} x {SIZE}, {tiles} tiles "
        f"of {CROP} x {CROP} ({described(prior.tiling)}), or {fewer} of them (overlap "
        f"{halves.overlap}):\n\n" + "\n".join(rows)
    )


@jax.jit
def denoised(denoiser: Any, t: Any, x: jax.Array) -> jax.Array:
    """Trajectories one after another."""
    return jax.lax.map(lambda x: denoiser(x, t), x)


def larger_scales(tiling: Tiling) -> str:
    """Errors of exact denoisers of a field that varies over more than a crop."""
    field = dataclasses.replace(GaussianField(), scale=0.5 / SIZE)
    x = sda.simulate(jax.random.key(1), field, STATES, batch=FIELDS)
    noise = jax.random.normal(jax.random.key(2), x.shape)
    exact = Wiener(jnp.asarray(field.power), in_time(field), sda.Cosine())
    tiled = TiledDenoiser(of_crops(field), tiling)
    rows = ["| sigma/mu | exact | exact, tiles |", "|---|---|---|"]
    for ratio in RATIOS:
        t = sda.Cosine().time(ratio)
        x_t = sda.Cosine().mu(t) * x + sda.Cosine().sigma(t) * noise
        whole, parts = (rms(denoised(d, t, x_t) - x) for d in (exact, tiled))
        rows.append(f"| {ratio} | {whole:.4f} | {parts:.4f} |")
    return (
        "The same without a network, of a field whose power is even up to half a cycle in the "
        f"{SIZE} points only, so that most of it is in scales larger than a crop:\n\n"
        + "\n".join(rows)
    )


def described(tiling: Tiling) -> str:
    return f"overlap {tiling.overlap}, margin {tiling.margin}"


def rms(x: Any) -> float:
    return float(jnp.sqrt(jnp.mean(jnp.asarray(x) ** 2)))


def memory(large: sda.Prior) -> str:
    """Memory and time of an evaluation, and memory of a gradient, by chunk."""
    x = jax.random.normal(jax.random.key(3), (STATES, *large.state_shape))
    cases = {f"tiles, {c or 'all'} at once": sda.Memory(tile_chunk=c) for c in CHUNKS}
    rows = ["| | evaluation, MiB | s | with a gradient, MiB |", "|---|---|---|---|"]

    def forward(denoiser: Any, x: jax.Array) -> jax.Array:
        return denoiser(x, 0.5)

    def gradient(denoiser: Any, x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jnp.sum(denoiser(x, 0.5) ** 2))(x)

    denoisers = {name: trajectory_denoiser(large, STATES, None, m) for name, m in cases.items()}
    for name, denoiser in (denoisers | {"network, whole grid": whole(large)}).items():
        cells = []
        for function in (forward, gradient):
            compiled = jax.jit(function).lower(denoiser, x).compile()
            needed = needed_bytes(compiled)
            cells.append(f"{needed / MIB:.0f}")
            if function is forward:
                start = time.process_time()
                if needed < MOST:
                    jax.block_until_ready(compiled(denoiser, x))
                cells.append(f"{time.process_time() - start:.1f}" if needed < MOST else "not run")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    assert large.tiling is not None
    tiles = len(large.tiling.tiles((LARGE, LARGE)).origins)
    return (
        f"{LARGE} x {LARGE}, {STATES} states, {tiles} tiles; working memory and outputs of the "
        "compiled program, and seconds of processor time of an evaluation:\n\n" + "\n".join(rows)
    )


def posterior_mean(field: GaussianField, y: jax.Array) -> np.ndarray:
    """The exact one, of every n-th point along both axes: the observed points are a stationary
    field on a grid of their own."""
    n = field.size // EVERY
    values, basis = in_time(field)
    covariance = np.fft.ifft2(field.power).real
    observed = np.fft.fft2(covariance[::EVERY, ::EVERY]).real
    a = np.fft.fft2(np.tensordot(basis.T, np.asarray(y[..., 0], np.float64), 1))
    known = values[:, None, None] * observed
    weights = np.fft.ifft2(a / (known + STD**2)).real
    placed = np.zeros((STATES, field.size, field.size))
    placed[:, ::EVERY, ::EVERY] = weights.reshape(STATES, n, n)
    spread = np.fft.ifft2(field.power * np.fft.fft2(placed)).real
    return np.tensordot(basis, values[:, None, None] * spread, 1)[..., None]


def guided(large: sda.Prior) -> str:
    """Members of a posterior on the large grid, against its exact mean."""
    field = dataclasses.replace(GaussianField(), size=LARGE)
    truth = sda.simulate(jax.random.key(4), field, STATES)
    obs = sda.observe(jax.random.key(5), truth, sda.Subsample(EVERY), std=STD)
    mean = posterior_mean(field, obs.y)
    steps = (sda.DPMSolverPP2M(), sda.Langevin(1, 0.3))
    sampler = sda.PredictorCorrector(STEPS, LogSNR(), *steps)
    guidance = sda.GaussianCovariance()
    start = time.process_time()
    ensemble = sda.assimilate(
        jax.random.key(6), large, obs, STATES, 1, guidance, sampler,
        sda.Memory(chunk=1, tile_chunk=1),
    )  # fmt: skip
    seconds = time.process_time() - start
    member, exact = np.asarray(ensemble), rms(mean - np.asarray(truth))
    residual = rms(obs.operator(ensemble) - obs.y) / STD
    return (
        f"A guided draw on {LARGE} x {LARGE} ({STATES} states, every {EVERY}th point along both "
        f"axes with noise {STD}; {STEPS} predictions and corrections, all with a gradient through "
        f"the network, one tile at a time): {seconds:.0f} s of processor time. Residuals are "
        f"{residual:.2f} times the noise. "
        f"The exact posterior's mean is {exact:.3f} from the truth (RMS; the field's standard "
        f"deviation is 1), and exact draws are as far from it; this one is "
        f"{rms(member - mean):.3f} from it, and {rms(member - np.asarray(truth)):.3f} from the "
        f"truth, where exact draws are {exact * np.sqrt(2):.3f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of what was made: each part is, once")
    folder = parser.parse_args().folder
    prior = trained(folder)
    large = prior.on_grid((LARGE, LARGE))
    assert large.tiling is not None
    weights = sum(leaf.size for leaf in jax.tree.leaves(prior.denoiser.variables))
    texts = [
        f"A U-Net of {weights:,} weights, trained on random {CROP} x {CROP} crops of a stationary "
        f"Gaussian field on a periodic {SIZE} x {SIZE} grid for 1,536 steps of 8 windows."
    ]
    parts = {
        "errors": partial(errors, prior),
        "larger_scales": partial(larger_scales, large.tiling),
        "memory": partial(memory, large),
        "guided": partial(guided, large),
    }
    for name, part in parts.items():
        path = folder / f"{name}.md"
        if not path.exists():
            write_text(path, part())
        texts.append(path.read_text())
    record("tiles", "Grids larger than a network's crop, by tiles", "\n\n".join(texts))


if __name__ == "__main__":
    main()
