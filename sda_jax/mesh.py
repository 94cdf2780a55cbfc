"""One mesh of devices: members, trajectories and segments over `batch`, states over `time`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array

from sda_jax.errors import ConfigError, require_at_least

BATCH, TIME = "batch", "time"


@dataclass(frozen=True)
class Mesh:
    """How many devices share the work.

    Attributes:
        batch: Shares of an ensemble's members, of simulated trajectories and of a training batch.
        time: Shares of a long trajectory's states, when sampling.
    """

    batch: int = 1
    time: int = 1

    def __post_init__(self) -> None:
        require_at_least("mesh.batch", self.batch, 1)
        require_at_least("mesh.time", self.time, 1)


def use_mesh(batch: int = 1, time: int = 1) -> contextlib.AbstractContextManager:
    """Within it `simulate`, `train`, `assimilate` and `sample` share their work among
    `batch * time` devices; their results stay what they are on one.

    Args:
        batch, time: See `Mesh`.

    Raises:
        ConfigError: JAX sees fewer devices.
    """
    Mesh(batch, time)
    devices = jax.devices()
    if batch * time > len(devices):
        raise ConfigError(
            "mesh",
            f"{batch} x {time} (batch x time)",
            f"at most {len(devices)} devices, those that JAX sees",
            "Ask for fewer, or for testing set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={batch * time}.",
        )
    if batch * time == 1:
        return contextlib.nullcontext()
    axes = (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh((batch, time), (BATCH, TIME), axes, devices=devices[: batch * time])
    return jax.set_mesh(mesh)


def shares(axis: str) -> int:
    """Devices along an axis of the mesh in use; 1 without one."""
    return jax.sharding.get_abstract_mesh().shape.get(axis, 1)


def split(x: Array, *axes: str | None) -> Array:
    """`x` with its leading axes shared along these axes of the mesh, without any on every device;
    x itself without a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def whole() -> Sharding:
    """Where an array is that every device has: on all of the mesh, or on the first device."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(mesh, PartitionSpec())


def require_shared(argument: str, value: int, axis: str) -> None:
    """Raises `ConfigError` if the devices along an axis cannot share `value` things evenly."""
    if value % shares(axis):
        raise ConfigError(
            argument,
            value,
            f"a multiple of {shares(axis)}, the mesh's devices along {axis}",
            f"Change {argument} or the mesh.",
        )
