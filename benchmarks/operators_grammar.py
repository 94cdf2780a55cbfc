"""Observations drawn from a grammar by a seed: what is seen of a state, when, and how well."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import sda_jax as sda

CLIMATE = 2048  # states from which the size of what is seen is known

LINEAR = ("channels", "combination", "combinations")
POINTWISE = (
    "square", "absolute", "product", "norm", "range", "saturation", "logarithm", "threshold",
)  # fmt: skip
WHEN = ("every", "irregular", "bursts", "early", "ends")


@sda.component
class Feature:
    """A function of a standardised state, of linear features `u = weights z`.

    Attributes:
        kind: One of POINTWISE, or one of LINEAR, which take u as it is.
        weights: `(features, size)`.
        place: What is taken from u first: the point that a range is to, a threshold.
    """

    kind: str = sda.static()
    weights: Any
    place: Any
    mean: Any
    std: Any

    def __call__(self, x: Array) -> Array:
        u = jnp.asarray(self.weights) @ ((x - self.mean) / self.std).reshape(-1) - self.place
        length = jnp.sqrt(jnp.sum(u**2, keepdims=True) + 1e-6)
        found: dict[str, Array] = {
            "square": u**2,
            "absolute": jnp.abs(u),
            "product": jnp.prod(u, keepdims=True),
            "norm": length,
            "range": length,
            "saturation": jnp.arctan(2 * u),
            "logarithm": jnp.log(0.1 + u**2),
            "threshold": jax.nn.softplus(4 * u) / 4,
        }
        return found.get(self.kind, u)


@sda.component
class Windows:
    """A feature of the states of windows: their average, or the last one's less the first one's.

    Attributes:
        ends: Last state of each window.
        width: States of a window; with 1, the feature of single states.
        change: Whether the difference is seen.
        feature: Of one state.
    """

    ends: tuple[int, ...] = sda.static()
    width: int = sda.static()
    change: bool = sda.static()
    feature: Any

    def __call__(self, x: Array) -> Array:
        places = np.asarray(self.ends)[:, None] + np.arange(1 - self.width, 1)
        return jax.vmap(self.of_window)(x[places])

    def of_window(self, states: Array) -> Array:
        """What is seen of one window `(width, *S)`."""
        seen = jax.vmap(self.feature)(states)
        return seen[-1] - seen[0] if self.change else jnp.mean(seen, axis=0)


class Source(NamedTuple):
    """One instrument.

    Attributes:
        operator: What it sees.
        noise: The arguments of `sda.observe` that say how well.
        missing: Share of the values that are missing.
        offset: Taken from what is seen where counts are observed: their mean is one or so.
    """

    operator: Any
    noise: dict[str, Any]
    missing: float


class Generated(NamedTuple):
    """An observation to be made.

    Attributes:
        name: What it is, in words.
        family: Its coarsest description, by which tables are made.
        length: States of the trajectory.
        sources: Its instruments.
        linear: Whether all of them are linear with Gaussian noise.
    """

    name: str
    family: str
    length: int
    sources: tuple[Source, ...]
    linear: bool


def generate(system: Any, seed: int, length: int, linear_only: bool = False) -> Generated:
    """The observation of a seed, of trajectories of a system."""
    rng = np.random.default_rng([seed, 26])
    climate = np.asarray(sda.simulate(jax.random.key(26), system, length=CLIMATE))
    count = 2 if rng.random() < 0.25 else 1
    parts = [_source(rng, system, climate, length, linear_only) for _ in range(count)]
    names, families, sources = zip(*parts, strict=True)
    linear = all(f.startswith("linear") for f in families)
    family = "several sources" if count > 1 else families[0]
    return Generated(" and ".join(names), family, length, sources, linear)


def observations(
    key: Array, made: Generated, truth: Array
) -> tuple[sda.Observation, list[sda.Observation]]:
    """What is observed of a truth, and the same of each source."""
    parts = []
    for i, source in enumerate(made.sources):
        key_noise, key_missing = jax.random.split(jax.random.fold_in(key, i))
        seen = sda.observe(key_noise, truth, source.operator, **source.noise)
        lost = jax.random.uniform(key_missing, seen.y.shape) < source.missing
        y = jnp.where(lost, jnp.nan, seen.y)
        parts.append(sda.Observation(y, source.operator, **source.noise))
    return (parts[0] if len(parts) == 1 else sda.combine(*parts)), parts


def mirrored(made: Generated, system: Any) -> bool:
    """Whether nothing is seen of the sign of Lorenz 1963's first two coordinates."""
    if not isinstance(system, sda.Lorenz63):
        return False
    x = sda.simulate(jax.random.key(27), system, length=made.length)
    flipped = x * jnp.array([-1.0, -1.0, 1.0])
    return all(
        bool(jnp.allclose(s.operator(x), s.operator(flipped), atol=1e-4)) for s in made.sources
    )


def _source(
    rng: np.random.Generator, system: Any, climate: np.ndarray, length: int, linear_only: bool
) -> tuple[str, str, Source]:
    size = int(np.prod(system.state_shape))
    linear = linear_only or rng.random() < 0.4
    kind = str(rng.choice(LINEAR if linear else POINTWISE))
    feature, words = _feature(rng, kind, size, system.standardisation)
    width, change = 1, False
    if rng.random() < 0.25:
        width, change = int(rng.integers(2, 5)), bool(rng.random() < 0.4)
        words += f", {'change' if change else 'mean'} over {width} states"
    layout = str(rng.choice(WHEN, p=(0.5, 0.15, 0.15, 0.1, 0.1)))
    ends, when = _ends(rng, layout, length, width)
    operator = Windows(ends, width, change, feature)
    starts = range(width - 1, CLIMATE)
    everything = Windows(tuple(starts), width, change, feature)
    size_of = np.std(np.asarray(everything(jnp.asarray(climate))), axis=0)
    share = float(np.exp(rng.uniform(np.log(0.01), np.log(1.0))))
    std = (share * size_of).astype(np.float32)
    noise: dict[str, Any] = {"std": std}
    law = "" if linear_only else str(rng.choice(["", "t", "counts"], p=(0.8, 0.12, 0.08)))
    words += f", {when}"
    if law == "t":
        noise = {"noise": sda.StudentT(std, 3.0)}
        words += f", t noise of {100 * share:.0f} %"
    elif law == "counts":
        noise = {"noise": sda.Poisson()}
        words += ", counts"
    else:
        words += f", noise of {100 * share:.0f} %"
    missing = 0.3 if rng.random() < 0.2 else 0.0
    words += ", some missing" if missing else ""
    family = f"{'linear' if linear and law == '' else 'nonlinear'}, {layout}"
    return words, family, Source(operator, noise, missing)


def _feature(
    rng: np.random.Generator, kind: str, size: int, standardisation: Any
) -> tuple[Feature, str]:
    rows = {"channels": int(rng.integers(1, min(size, 3) + 1)), "combinations": 2, "product": 2}
    rows |= {"norm": int(rng.integers(2, 4)), "range": int(rng.integers(2, 4))}
    count = rows.get(kind, 1)
    mixed = kind.startswith("combination") or (kind in POINTWISE and rng.random() < 0.3)
    if mixed:
        weights = rng.normal(size=(count, size))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        words = f"{kind} of {count} mixed"
    else:
        chosen = rng.choice(size, count, replace=False)
        weights = np.eye(size)[chosen]
        words = f"{kind} of {', '.join(map(str, sorted(chosen)))}"
    place = np.zeros(count)
    if kind in ("range", "threshold"):
        place = rng.normal(size=count)
    found = Feature(
        kind,
        weights.astype(np.float32),
        place.astype(np.float32),
        np.asarray(standardisation.mean, np.float32),
        np.asarray(standardisation.std, np.float32),
    )
    return found, words


def _ends(
    rng: np.random.Generator, layout: str, length: int, width: int
) -> tuple[tuple[int, ...], str]:
    first = width - 1
    if layout == "every":
        n = int(rng.choice([1, 2, 4, 8, 16]))
        return tuple(range(first, length, n)), f"every {n}"
    if layout == "irregular":
        count = int(rng.integers(4, 17))
        chosen = np.sort(rng.choice(np.arange(first, length), count, replace=False))
        return tuple(map(int, chosen)), f"{count} irregular"
    if layout == "bursts":
        span = int(rng.integers(4, 9))
        starts = np.sort(rng.choice(np.arange(first, length - span), 2, replace=False))
        both = sorted({int(s) + i for s in starts for i in range(span)})
        return tuple(both), f"two bursts of {span}"
    if layout == "early":
        last = int(rng.integers(length // 5, length // 2))
        n = int(rng.choice([1, 2, 4]))
        return tuple(range(first, max(last, first + 1), n)), f"every {n} up to {last}"
    span = int(rng.integers(1, 4))
    both = [*range(first, first + span), *range(length - span, length)]
    return tuple(both), f"ends, {span} each"
