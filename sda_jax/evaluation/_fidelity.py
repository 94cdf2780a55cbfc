"""How faithful a prior of periodic fields is to its data, scale by scale: where draws lose energy,
and whether the denoiser is calibrated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._protocols import Denoiser
from sda_jax.diffusion._denoisers import NetworkDenoiser, with_context
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.diffusion._spectral import LinearDenoiser, SpectralPreconditioned, shells
from sda_jax.samplers import DPMSolverPP2M

Windows = Float[Array, "n window x y channel"]
STEPS_A_DECADE = 32 / 3  # as 64 steps over the default schedule's six decades
AT_ONCE = 16  # windows
DRAWN_FROM = (0.1, 0.3, 1.0, 3.0, 10.0, 1000.0)  # sigma/mu
CALIBRATED_AT = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Calibration(NamedTuple):
    """A denoiser D against data, by noise level and wavenumber, over held-out windows.

    Attributes:
        slope: Of x on D(x_t): 1 where what the denoiser says is right on average.
        left: Correlation of x - D with x_t: 0 where nothing of x_t is left to be made use of.
        error: Mean squared error over the linear estimate's.
    """

    slope: Float[np.ndarray, "levels wavenumbers"]
    left: Float[np.ndarray, "levels wavenumbers"]
    error: Float[np.ndarray, "levels wavenumbers"]


def shell_products(
    a: Float[Array, "*batch x y channel"], b: Float[Array, "*batch x y channel"]
) -> Float[Array, "*batch wavenumbers"]:
    """Mean product of two fields by wavenumber, summed over channels: of one with itself, twice its
    energy spectrum where channels are velocities."""
    nx, ny = a.shape[-3:-1]
    index = shells(nx, ny)
    # the other half of the wavevectors are conjugates
    twice = np.where(np.arange(ny // 2 + 1) % (ny / 2) == 0, 1.0, 2.0)
    member = np.eye(index.max() + 1)[index] * twice[:, None]
    waves = [jnp.fft.rfft2(f, axes=(-3, -2), norm="forward") for f in (a, b)]
    products = jnp.sum((waves[0] * jnp.conj(waves[1])).real, axis=-1)
    return jnp.einsum("...xy,xyk->...k", products, jnp.asarray(member, jnp.float32))


def parted(denoiser: Denoiser, x: Array) -> tuple[Denoiser, Array]:
    """The denoiser conditioned on the context that windows have as last channels, if it takes one,
    and the windows without it."""
    if not isinstance(denoiser, NetworkDenoiser) or not denoiser.channels:
        return denoiser, x
    states, known = with_context(x, denoiser.channels)
    return denoiser.conditioned(known), states


def lowered(
    key: PRNGKey, denoiser: Denoiser, x: Windows, ratio: float, last: float = 0.0
) -> Windows:
    """Windows noised to sigma/mu = `ratio` and taken down to `last` by the probability-flow ODE;
    the posterior mean there."""
    schedule = denoiser.schedule
    lowest, highest = (float(noise_ratio(schedule, end)) for end in (0.0, 1.0))
    last = max(last, lowest)
    steps = max(1, round(STEPS_A_DECADE * np.log10(ratio / last)))
    most = max(steps, round(STEPS_A_DECADE * np.log10(highest / lowest)))
    times = schedule.time(jnp.geomspace(ratio, last, steps + 1))
    # of one length, so that one program serves all levels
    return _lowered(key, denoiser, x, jnp.pad(times, (0, most - steps), mode="edge"), steps)


@jax.jit
def _lowered(key: PRNGKey, denoiser: Denoiser, x: Windows, times: Array, steps: Array) -> Windows:
    schedule, predictor = denoiser.schedule, DPMSolverPP2M()

    def one(given: tuple[PRNGKey, Array]) -> Array:
        key, told, x = given[0], *parted(denoiser, given[1])
        noise = jax.random.normal(key, x.shape)
        start = schedule.mu(times[0]) * x + schedule.sigma(times[0]) * noise

        def step(i: Array, state: tuple[Array, Any]) -> tuple[Array, Any]:
            return predictor.step(key, told, state[0], times[i], times[i + 1], state[1])

        end, _ = jax.lax.fori_loop(0, steps, step, (start, predictor.init(start)))
        return told(end, times[-1])

    return jax.lax.map(one, (jax.random.split(key, len(x)), x), batch_size=min(AT_ONCE, len(x)))


def kept_spectrum(
    key: PRNGKey, denoiser: Denoiser, x: Windows, ratios: Sequence[float], last: float = 0.0
) -> Float[np.ndarray, "levels wavenumbers"]:
    """Spectrum of windows that are noised to each level and taken down again by the
    probability-flow ODE, over their own: 1 where draws from that level on lose nothing."""
    _, states = parted(denoiser, x)
    own = np.asarray(jnp.mean(shell_products(states, states), axis=(0, 1)))
    found = []
    for i, ratio in enumerate(ratios):
        y = lowered(jax.random.fold_in(key, i), denoiser, x, ratio, last)
        found.append(np.asarray(jnp.mean(shell_products(y, y), axis=(0, 1))))
    return np.array(found) / own


def calibration(
    key: PRNGKey, denoiser: Denoiser, linear: Denoiser, x: Windows, ratios: Sequence[float]
) -> Calibration:
    """Of a denoiser of windows on data that it was not trained on, beside the best linear one."""
    schedule = denoiser.schedule

    def at_level(level: tuple[PRNGKey, Array]) -> tuple[Array, ...]:
        key, t = level

        def one(given: tuple[PRNGKey, Array]) -> tuple[Array, ...]:
            key, told, x = given[0], *parted(denoiser, given[1])
            data = x + noise_ratio(schedule, t) * jax.random.normal(key, x.shape)
            x_t = schedule.mu(t) * data
            found, estimate = told(x_t, t), linear(x_t, t)
            pairs = (
                (x, found), (found, found), (x - found, data), (data, data),
                (x - found, x - found), (x - estimate, x - estimate),
            )  # fmt: skip
            return tuple(jnp.mean(shell_products(a, b), axis=0) for a, b in pairs)

        keys = jax.random.split(key, len(x))
        sums = jax.lax.map(one, (keys, x), batch_size=min(AT_ONCE, len(x)))
        return tuple(jnp.mean(a, axis=0) for a in sums)

    times = schedule.time(jnp.asarray(ratios))
    measure: Callable = jax.jit(lambda levels: jax.lax.map(at_level, levels))
    found = measure((jax.random.split(key, len(times)), times))
    both, own, left, data, error, reference = (np.asarray(a, np.float64) for a in found)
    return Calibration(both / own, left / np.sqrt(data * error), error / reference)


class Fidelity(NamedTuple):
    """What `fidelity` finds.

    Attributes:
        kept: See `kept_spectrum`, from the levels `DRAWN_FROM`.
        energy: The same of all wavenumbers together.
        calibration: At the levels `CALIBRATED_AT`.
    """

    kept: Float[np.ndarray, "levels wavenumbers"]
    energy: Float[np.ndarray, " levels"]
    calibration: Calibration


def fidelity(key: PRNGKey, denoiser: NetworkDenoiser, x: Windows) -> Fidelity:
    """How faithful a denoiser of windows of periodic fields is to held-out windows, in standardised
    units, with the context as last channels."""
    known, (_, states) = denoiser.parameterisation, parted(denoiser, x)
    if not isinstance(known, SpectralPreconditioned):
        known = SpectralPreconditioned().fitted(np.asarray(states), x.shape[1])
    key_kept, key_levels = jax.random.split(key)
    kept = kept_spectrum(key_kept, denoiser, x, DRAWN_FROM)
    own = np.asarray(jnp.mean(shell_products(states, states), axis=(0, 1)))
    linear = LinearDenoiser(known, denoiser.schedule)
    levels = calibration(key_levels, denoiser, linear, x, CALIBRATED_AT)
    return Fidelity(kept, kept @ own / own.sum(), levels)


def describe_fidelity(found: Fidelity, shown: Sequence[int] | None = None) -> str:
    """Tables in Markdown, with a column for each wavenumber of `shown`; None for some, from the
    largest scale to the smallest."""
    last = found.kept.shape[1] - 1
    if shown is None:
        shown = np.unique(np.linspace(1, last, 8).round().astype(int)).tolist()

    def table(ratios: Sequence[float], values: np.ndarray, *more: np.ndarray) -> list[str]:
        rows = [[*(a[i] for a in more), *values[i, shown]] for i in range(len(ratios))]
        return [
            f"| {ratio:g} | " + " | ".join(f"{v:.2f}" for v in row) + " |"
            for ratio, row in zip(ratios, rows, strict=True)
        ]

    def head(*names: str) -> list[str]:
        cells = [*names, *(f"k = {k}" for k in shown)]
        return ["| " + " | ".join(cells) + " |", "|---" * len(cells) + "|"]

    levels, parts = found.calibration, []
    parts += ["Spectrum of windows noised to sigma/mu and taken down again, over their own:\n"]
    parts += head("from", "energy") + table(DRAWN_FROM, found.kept, found.energy)
    for text, values in (
        ("Slope of x on D(x_t):", levels.slope),
        ("Correlation of x - D(x_t) with x_t:", levels.left),
        ("Mean squared error of D(x_t), over the linear estimate's:", levels.error),
    ):
        parts += [f"\n{text}\n", *head("sigma/mu"), *table(CALIBRATED_AT, values)]
    return "\n".join(parts)
