"""One mesh of devices, of one process or several: members, trajectories and segments over `batch`,
states over `time`, tiles of a grid over `space`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, PyTree

from sda_jax.core._errors import ConfigError, whole_number

BATCH, TIME, SPACE = "batch", "time", "space"


@dataclass(frozen=True)
class Mesh:
    """How many devices share the work.

    Attributes:
        batch: Shares of an ensemble's members, of simulated trajectories and of a training batch.
        time: Shares of a long trajectory's states, when sampling.
        space: Shares of the tiles of a grid, when sampling (`TiledDenoiser`); in one process.
    """

    batch: int = 1
    time: int = 1
    space: int = 1

    def __post_init__(self) -> None:
        for name in (BATCH, TIME, SPACE):
            whole_number(f"mesh.{name}", getattr(self, name))


def use_mesh(batch: int = 1, time: int = 1, space: int = 1) -> contextlib.AbstractContextManager:
    """Within it `simulate`, `train`, `assimilate` and `sample` share their work among
    `batch * time * space` devices; their results stay what they are on one.

    Args:
        batch, time, space: See `Mesh`.

    Raises:
        ConfigError: JAX sees fewer devices, or more with several processes, none of which may be
            left without; or several processes are to share tiles.
    """
    Mesh(batch, time, space)
    devices, count = jax.devices(), batch * time * space
    asked = f"{batch} x {time} x {space} (batch x time x space)"
    if jax.process_count() > 1 and (count != len(devices) or space > 1):
        raise ConfigError(
            "mesh",
            asked,
            f"{len(devices)} devices, those of all {jax.process_count()} processes, along batch "
            "and time",
            "Set mesh.batch and mesh.time.",
        )
    if count > len(devices):
        raise ConfigError(
            "mesh",
            asked,
            f"at most {len(devices)} devices, those that JAX sees",
            "Ask for fewer, or for testing set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count}.",
        )
    if count == 1:
        return contextlib.nullcontext()
    shape, axes = (batch, time, space), (AxisType.Auto,) * 3
    mesh = jax.make_mesh(shape, (BATCH, TIME, SPACE), axes, devices=devices[:count])
    return jax.set_mesh(mesh)


def shares(axis: str) -> int:
    """Devices along an axis of the mesh in use; 1 without one."""
    return jax.sharding.get_abstract_mesh().shape.get(axis, 1)


def constrain(x: Array, *axes: str | None) -> Array:
    """`x` with its leading axes shared along these axes of the mesh, without any on every device;
    x itself without a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def over_batch(one: Callable[..., Any], members: PyTree[Array]) -> Any:
    """`one` of each member, the members shared along `batch`."""
    name = None if jax.sharding.get_abstract_mesh().empty else BATCH
    shared = jax.tree.map(lambda x: constrain(x, BATCH), members)
    return jax.vmap(one, spmd_axis_name=name)(shared)


def sharding(spec: PartitionSpec) -> Sharding:
    """Where an array shared so is: on the mesh in use, or on the first device without one."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(mesh, spec)


def scattered(shape: tuple[int, ...]) -> PartitionSpec:
    """How an array of `shape` is shared along `batch`: on its first axis that all devices can share
    evenly; on every device where there is none."""
    for axis, size in enumerate(shape):
        if size % shares(BATCH) == 0:
            return PartitionSpec(*(None,) * axis, BATCH)
    return PartitionSpec()


def require_shared(argument: str, value: int, axis: str) -> None:
    """Raises `ConfigError` if the devices along an axis cannot share `value` things evenly."""
    if value % shares(axis):
        raise ConfigError(
            argument,
            value,
            f"a multiple of {shares(axis)}, the mesh's devices along {axis}",
            f"Change {argument} or the mesh.",
        )


def along_time(
    one: Callable[[Any, Any], Array],
    given: PyTree,
    states: PyTree[Array],
    reach: int,
    multiple: int = 1,
) -> Array:
    """`one(given, states)`, each device evaluating it for its share of the states and `reach` more
    on either side, which neighbours send.

    Args:
        one: Function of `given` and of states in a row; gives an array with as many. What it gives
            for a state may depend on states up to `reach` away, and near the ends of the row on
            where the row ends. All arrays it uses are arguments.
        given: What every device has.
        states: Arrays with the states on the first axis.
        reach: See `one`.
        multiple: Every device's row begins at a multiple of it; `reach` is one.

    Raises:
        ConfigError: Shares of the trajectory shorter than what neighbours need of them, or no
            multiple of `multiple`.
    """
    devices = shares(TIME)
    if devices == 1:
        return one(given, states)
    length = len(jax.tree.leaves(states)[0])
    share, margin = length // devices, 2 * reach
    if length % (devices * multiple) or share < margin:
        raise ConfigError(
            "length",
            length,
            f"a multiple of {devices * multiple} and at least {devices * margin} for {devices} "
            f"devices along {TIME}, whose windows reach {reach} states into each other's shares",
            "Change length or lower mesh.time.",
        )
    onward = [(i, i + 1) for i in range(devices - 1)]
    back = [(i + 1, i) for i in range(devices - 1)]

    def local(given: PyTree, states: PyTree[Array]) -> Array:
        index = jax.lax.axis_index(TIME)
        # at the trajectory's ends all of the margin comes from the one neighbour there is
        offset = jnp.where(index == 0, margin, jnp.where(index == devices - 1, 0, reach))

        def row(x: Array) -> Array:
            before = jax.lax.ppermute(x[share - margin :], TIME, onward)
            after = jax.lax.ppermute(x[:margin], TIME, back)
            whole = jnp.concatenate([before, x, after])
            return jax.lax.dynamic_slice_in_dim(whole, offset, share + margin)

        out = one(given, jax.tree.map(row, states))
        return jax.lax.dynamic_slice_in_dim(out, margin - offset, share)

    everywhere, shared = PartitionSpec(), PartitionSpec(TIME)
    # without the check of what varies: under vmap with a named axis it fails on numbers that do not
    evaluated = jax.shard_map(
        local, in_specs=(everywhere, shared), out_specs=shared, check_vma=False
    )
    return evaluated(given, states)


def summed_over_space(
    one: Callable[[Any, Any], Array], given: PyTree, parts: PyTree[Array]
) -> Array:
    """`one(given, parts)`, each device along `space` evaluating it for its share of the parts, and
    their results added.

    Args:
        one: Function of `given` and of some of the parts that gives a sum over them, to which parts
            of zeros add nothing. All arrays it uses are arguments.
        given: What every device has.
        parts: Arrays with the parts on the first axis.
    """
    devices = shares(SPACE)
    if devices == 1:
        return one(given, parts)
    missing = -len(jax.tree.leaves(parts)[0]) % devices

    def filled(x: Array) -> Array:
        return jnp.concatenate([x, jnp.zeros((missing, *x.shape[1:]), x.dtype)])

    parts = jax.tree.map(filled, parts)

    def local(given: PyTree, parts: PyTree[Array]) -> Array:
        return jax.lax.psum(one(given, parts), SPACE)

    def own(x: Array) -> Array:
        share = len(x) // devices
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(SPACE) * share, share)

    if SPACE in jax.sharding.get_abstract_mesh().manual_axes:  # within `along_time`
        return local(given, jax.tree.map(own, parts))
    everywhere, shared = PartitionSpec(), PartitionSpec(SPACE)
    evaluated = jax.shard_map(
        local, in_specs=(everywhere, shared), out_specs=everywhere, check_vma=False
    )
    return evaluated(given, parts)
