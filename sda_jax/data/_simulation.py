"""Simulating trajectories."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._errors import ConfigError, DivergenceError, whole_number
from sda_jax.core._keys import require_key
from sda_jax.core._protocols import System
from sda_jax.core._requirements import is_traced, require_protocol
from sda_jax.runtime._devices import BATCH, over_batch, require_shared, shares
from sda_jax.runtime._memory import members_that_fit, needed_bytes, require_room, run_if_fits
from sda_jax.runtime._processes import finite_rows

UNSTABLE = (
    "The step is unstable: lower the system's dt or its noise; for a flow raise max_velocity or "
    "lower courant, which take more inner steps."
)
CHUNK_REMEDY = "Lower chunk, the trajectories simulated at once."


def spun_up(key: PRNGKey, system: System) -> PyTree[Array]:
    """A simulator state after the system's spin-up."""
    key_init, key_spin = jax.random.split(key)

    def step(s: PyTree[Array], i: Array) -> tuple[PyTree[Array], None]:
        return system.step(jax.random.fold_in(key_spin, i), s), None

    return jax.lax.scan(step, system.init(key_init), jnp.arange(system.spinup))[0]


def advance(
    key: PRNGKey, system: System, s: PyTree[Array], length: int
) -> tuple[PyTree[Array], Trajectory]:
    """`length` observed states from `s` on, and the simulator's state after the last."""

    def step(s: PyTree[Array], i: Array) -> tuple[PyTree[Array], Array]:
        x = system.state(s)
        if x.shape != system.state_shape:
            raise ConfigError(
                "system",
                f"a {type(system).__name__} with states of shape {x.shape}",
                f"its state_shape, {system.state_shape}",
                "Correct init, step, state or state_shape, a tuple.",
            )
        return system.step(jax.random.fold_in(key, i), s), x

    return jax.lax.scan(step, s, jnp.arange(length))


@partial(jax.jit, static_argnames="length")
def _simulate(key: PRNGKey, system: System, length: int) -> Trajectory:
    key_start, key_path = jax.random.split(key)
    return advance(key_path, system, spun_up(key_start, system), length)[1]


@partial(jax.jit, static_argnames="length")
def _simulate_members(
    key: PRNGKey, system: System, members: Array, length: int
) -> Float[Array, "batch length *state"]:
    return over_batch(lambda i: _simulate(jax.random.fold_in(key, i), system, length), members)


def simulate_members(
    key: PRNGKey, system: System, members: Array, length: int, chunk: int | None
) -> Float[Array, "batch length *state"]:
    """The trajectories of these indices, in memory and finite, `chunk` of them at once; see
    `simulate`."""
    if chunk is None and not is_traced(key, system):

        def needed(chunk: int) -> int:
            given = key, system, members[:chunk], length
            return needed_bytes(_simulate_members.lower(*given).compile())

        chunk = members_that_fit(len(members), needed, shares(BATCH))
    chunk = len(members) if chunk is None else chunk
    starts = range(0, len(members), chunk)
    parts = [_chunk(key, system, members[i : i + chunk], length) for i in starts]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _chunk(
    key: PRNGKey, system: System, members: Array, length: int
) -> Float[Array, "batch length *state"]:
    require_shared("chunk", len(members), BATCH)
    if is_traced(key, system):
        return _simulate_members(key, system, members, length)
    x = run_if_fits(_simulate_members, CHUNK_REMEDY, key, system, members, length)
    _require_finite(key, system, x, members)
    return x


def simulate_one(key: PRNGKey, system: System, length: int) -> Trajectory:
    """A single trajectory; see `simulate`."""
    if is_traced(key, system):
        return _simulate(key, system, length)
    x = run_if_fits(_simulate, "Shorten the trajectory.", key, system, length)
    _require_finite(key, system, x, None)
    return x


def simulate(
    key: PRNGKey,
    system: System,
    length: int,
    batch: int | None = None,
    chunk: int | None = None,
) -> Float[Array, ...]:
    """Draws trajectories after the system's spin-up; compiled.

    Under `jax.vmap` and `jax.jit` (with `length`, `batch` and `chunk` static) neither memory nor
    finiteness is checked.

    Args:
        key: Random key. Trajectory i of a batch uses the key folded with i.
        system: What to simulate.
        length: States per trajectory.
        batch: Trajectories; None for a single one without a batch axis.
        chunk: Trajectories simulated at once, which bounds the memory; None for as many as fit.

    Returns:
        `(length, *S)` or `(batch, length, *S)` in physical units.

    Raises:
        ConfigError: `length`, `batch` or `chunk` no integer or below 1, no key, or a system that
            lacks a method.
        DivergenceError: The simulation gave values that are not finite.
        ResourceError: It needs more memory than is free.
    """
    require_protocol("system", system, System)
    require_key(key)
    length = whole_number("length", length)
    batch = None if batch is None else whole_number("batch", batch)
    size = 4 * length * math.prod(system.state_shape)
    require_room(f"a trajectory of {length} states", size, "Shorten it.")
    if batch is None:
        return simulate_one(key, system, length)
    require_room(f"an array of {batch} trajectories", size * batch, "Ask for fewer.")
    chunk = None if chunk is None else whole_number("chunk", chunk)
    return simulate_members(key, system, jnp.arange(batch), length, chunk)


@partial(jax.jit, static_argnames="length")
def forecast(key: PRNGKey, system: System, x: Float[Array, "*state"], length: int) -> Trajectory:
    """Simulates on from an observed state, lifted to the simulator's: `(length, *S)` from `x` on.

    Where lifting is not exact, as for a coarsened flow, the first state given back is not quite x.
    """
    return advance(key, system, system.lift(x), length)[1]


def _require_finite(key: PRNGKey, system: System, x: Array, members: Array | None) -> None:
    """Raises `DivergenceError` naming the first trajectory and step that is not finite.

    `x` is what `_simulate_members` gave, or `_simulate` where `members` is None.
    """
    batch = x[None] if members is None else x
    finite = finite_rows(batch)
    if finite.all():
        return
    row, name = int(np.argmin(finite)), "the trajectory"
    if members is not None:
        key, name = jax.random.fold_in(key, members[row]), f"trajectory {members[row]}"
    step = int(_first_bad(key, system, batch.shape[1]))
    when = "the initial state" if step == 0 else f"step {step}"
    if step < 0:  # chaos: simulated alone, this trajectory happens to stay finite
        when = "an unknown step"
    raise DivergenceError(
        "simulation",
        f"values that are not finite in {name} from {when} on, {system.spinup} of them spin-up",
        "finite states",
        UNSTABLE,
    )


@partial(jax.jit, static_argnames="length")
def _first_bad(key: PRNGKey, system: System, length: int) -> Array:
    """The number of steps, spin-up included, after which `_simulate` first is not finite; -1
    if it always is."""
    key_start, key_path = jax.random.split(key)
    key_init, key_spin = jax.random.split(key_start)

    def finite(s: PyTree[Array]) -> Array:
        return jnp.isfinite(system.state(s)).all()

    def run(key: PRNGKey, s: PyTree[Array], steps: int) -> tuple[PyTree[Array], Array]:
        def step(s: PyTree[Array], i: Array) -> tuple[PyTree[Array], Array]:
            s = system.step(jax.random.fold_in(key, i), s)
            return s, finite(s)

        return jax.lax.scan(step, s, jnp.arange(steps))

    start = system.init(key_init)
    spun, first = run(key_spin, start, system.spinup)
    _, second = run(key_path, spun, length)
    good = jnp.concatenate([finite(start)[None], first, second])
    return jnp.where(good.all(), -1, jnp.argmin(good))
