"""What a draw costs: evaluations of the network, counted by running one."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._protocols import Denoiser, Schedule
from sda_jax.core._record import static
from sda_jax.diffusion._gaussian import covariance_times, draw_error


class Evaluations(NamedTuple):
    """Evaluations of the prior's denoiser for one draw.

    Attributes:
        forwards: Of `E[x | x_t]`.
        vjps: Of its Jacobian's transpose times a vector, a backward pass each.
        jvps: Of its Jacobian times a vector, a forward pass each.
        again: Forwards that each search after the first adds, of a `Population`.
    """

    forwards: int = 0
    vjps: int = 0
    jvps: int = 0
    again: int = 0

    def searched(self, searches: float) -> Evaluations:
        """With so many searches, as `Diagnosis.searches` says; NaN of what does not search."""
        more = 0 if math.isnan(searches) else round(searches) - 1
        return self._replace(forwards=self.forwards + more * self.again)


class Tally:
    """Numbers that grow while a program runs."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Evaluations._fields, 0)

    def evaluations(self) -> Evaluations:
        """What was counted."""
        return Evaluations(**self.counts)


# the identity of its first argument, which counts when it runs; the second is where the denoiser
# was evaluated, so that the compiler takes no two runs for one
_mark = Primitive("counted")


def _run(v: Array, x: Array, *, tally: Tally, kind: str, times: int) -> Array:
    def count(_: Any) -> np.ndarray:
        tally.counts[kind] += times
        return np.ones((), np.float32)

    # multiplied by what the host gives, so that it is not left out
    seen = jnp.stack([v.reshape(-1)[0], x.reshape(-1)[0]])
    one = jax.pure_callback(
        count, jax.ShapeDtypeStruct((), jnp.float32), seen, vmap_method="sequential"
    )
    return v * one.astype(v.dtype)


def _pushed(primals: tuple, tangents: tuple, *, tally: Tally, kind: str, times: int) -> tuple:
    (v, x), (dv, _) = primals, tangents
    out = _mark.bind(v, x, tally=tally, kind=kind, times=times)
    if type(dv) is ad.Zero:
        return out, dv
    return out, _mark.bind(dv, x, tally=tally, kind="jvps", times=times)


def _pulled(w: Any, v: Any, x: Any, *, tally: Tally, kind: str, times: int) -> list:
    pulled = w if type(w) is ad.Zero else _mark.bind(w, x, tally=tally, kind="vjps", times=times)
    return [pulled, None]


def _batched(args: tuple, dims: tuple, *, tally: Tally, kind: str, times: int) -> tuple:
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    v, x = (batching.bdim_at_front(a, d, size) for a, d in zip(args, dims, strict=True))
    return _mark.bind(v, x, tally=tally, kind=kind, times=times * size), 0


_mark.def_impl(_run)
_mark.def_abstract_eval(lambda v, x, **_: v)
mlir.register_lowering(_mark, mlir.lower_fun(_run, multiple_results=False))
ad.primitive_jvps[_mark] = _pushed
ad.primitive_transposes[_mark] = _pulled
batching.primitive_batchers[_mark] = _batched


@component
class CountingDenoiser:
    """A cheap denoiser, a standard normal's, in another's place: it counts how often it is asked,
    and knows the other's errors.

    Attributes:
        denoiser: The other.
        tally: Where it counts.
    """

    denoiser: Any
    tally: Tally = static()

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        mu, sigma = self.schedule.mu(t), self.schedule.sigma(t)
        return (
            mu / (mu**2 + sigma**2) * _mark.bind(x, x, tally=self.tally, kind="forwards", times=1)
        )

    def covariance_times(self, w: Trajectory, t: Time) -> Trajectory:
        """The other's."""
        return covariance_times(self.denoiser, w, t)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> Trajectory:
        """The other's."""
        return draw_error(key, self.denoiser, shape, t)


def counting(denoiser: Denoiser) -> tuple[CountingDenoiser, Tally]:
    """A denoiser that counts, in another's place, and its tally."""
    tally = Tally()
    return CountingDenoiser(denoiser, tally), tally
