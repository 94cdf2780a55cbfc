"""What the exact smoothers ask of their arguments, before anything is computed."""

from __future__ import annotations

import math
from typing import Any

from sda_jax.core._errors import ConfigError
from sda_jax.core._keys import require_key
from sda_jax.core._numbers import whole_number
from sda_jax.core._requirements import require_untraced
from sda_jax.observations._observation import require_observation
from sda_jax.runtime._memory import require_room
from sda_jax.systems import LinearGaussian
from sda_jax.systems._base import require_noise

LOOP = "Call it in a Python loop, outside of compiled functions."


def check_chain(function: str, system: Any, length: Any, observation: Any = None) -> int:
    """`length` as an integer.

    Raises:
        ConfigError: JAX traces the call, `system` is no linear-Gaussian chain or `length` no
            integer from 1 on.
        ResourceError: The covariance of trajectories is larger than the memory that is free.
    """
    require_untraced(function, LOOP, system, observation, length)
    if not isinstance(system, LinearGaussian):
        raise ConfigError(
            "system",
            f"a {type(system).__name__}",
            "a LinearGaussian chain",
            "Use sda_jax.VectorAutoregression(), or particle_smoother for other systems.",
        )
    length = whole_number("length", length)
    size = 8 * (length * math.prod(system.state_shape)) ** 2
    require_room(f"the covariance of {length} states", size, "Shorten the trajectory.")
    return length


def check_particles(
    function: str, key: Any, system: Any, observation: Any, *numbers: Any
) -> tuple[int, int, int]:
    """`numbers`, of states, particles and trajectories, as integers.

    Raises:
        ConfigError: JAX traces the call, `key` is none, the system's transition has no noise, or a
            number is no integer from 1 on.
        ObservationError: `observation` is none.
        ResourceError: They are more than the memory that is free can hold.
    """
    require_untraced(function, LOOP, key, system, observation, *numbers)
    require_key(key)
    require_noise(system)
    require_observation(observation)
    names = ("length", "particles", "samples")
    length, particles, samples = (
        whole_number(name, number) for name, number in zip(names, numbers, strict=True)
    )
    state = 4 * length * math.prod(system.state_shape)
    require_room(f"{particles} particles of {length} states", particles * state, "Use fewer.")
    require_room(f"{samples} trajectories of {length} states", samples * state, "Ask for fewer.")
    return length, particles, samples
