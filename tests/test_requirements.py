"""A component of a user's own that lacks a method is told which, before anything is compiled."""

import re
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.core._protocols import Denoiser, GaussianSystem, System
from sda_jax.core._requirements import require_protocol
from sda_jax.data._dataset import generate
from sda_jax.evaluation import log_prior
from sda_jax.systems import KolmogorovFlow, Lorenz63


class Named(Protocol):
    name: str

    def __call__(self, x, t): ...


class Sized(Named, Protocol):
    @property
    def size(self) -> int: ...


@component
class Half:
    """All of `System` but `lift`."""

    dt: float = 0.1
    spinup = 0
    state_shape = (2,)
    standardisation = sda.Standardisation(mean=0.0, std=1.0)

    def init(self, key):
        return jnp.zeros(2)

    def step(self, key, s):
        raise AssertionError("was traced")

    def state(self, s):
        return s


@component
class Undrawn:
    """A noise model that can be evaluated only."""

    def log_prob(self, y, prediction):
        return -jnp.abs(y - prediction)


@pytest.mark.parametrize("system", [Lorenz63(), KolmogorovFlow(size=16)])
def test_what_has_everything_passes(system):
    require_protocol("system", system, System)


def test_a_value_in_a_field_serves_as_an_attribute_and_a_function_as_a_call():
    @component
    class Both:
        name: str
        size: int = 3

        def __call__(self, x, t):
            return x

    require_protocol("both", Both("b"), Sized)
    require_protocol("f", lambda x: x, type("Call", (Protocol,), {"__call__": len}))


@pytest.mark.parametrize(
    "value, protocol, missing",
    [
        (Half(), System, "lift(x)"),
        (Half(), GaussianSystem, "lift(x), transition_std, forecast(x), log_prob(x, x_next)"),
        (3.0, Sized, "name, __call__(x, t), size"),
        (len, Denoiser, "schedule"),
    ],
)
def test_everything_that_is_missing_is_named(value, protocol, missing):
    message = f"thing: got {type(value).__name__} without {missing}; expected the protocol "
    with pytest.raises(ConfigError, match=f"^{re.escape(message + protocol.__name__)}. Remedy!$"):
        require_protocol("thing", value, protocol, "Remedy!")


def test_a_class_in_place_of_a_component_is_refused():
    with pytest.raises(ConfigError, match=r"system: got the class Lorenz63.*Lorenz63\(\.\.\.\)"):
        sda.simulate(jax.random.key(0), Lorenz63, 3)


def test_a_system_without_a_method_is_refused_before_it_is_traced(tmp_path):
    with pytest.raises(ConfigError, match=r"system: got Half without lift\(x\).*protocol System"):
        sda.simulate(jax.random.key(0), Half(), 3)
    with pytest.raises(ConfigError, match=r"system: got Half without lift\(x\).*protocol System"):
        generate(tmp_path / "data.h5", Half(), 0, 3, 4)
    assert not list(tmp_path.iterdir())


def test_a_density_asks_for_a_gaussian_system():
    x = np.zeros((1, 3, *KolmogorovFlow(size=16).state_shape), np.float32)
    expected = r"without transition_std, forecast\(x\), log_prob\(x, x_next\).*no density"
    with pytest.raises(ConfigError, match=expected):
        log_prior(KolmogorovFlow(size=16), x)


def test_noise_models_name_what_they_lack(key):
    missing = r"noise: got Half without log_prob\(y, prediction\).*protocol NoiseModel.*StudentT"
    with pytest.raises(ObservationError, match=missing):
        sda.Observation(np.ones(3), lambda x: x, noise=Half())
    observation = sda.Observation(np.ones(3), lambda x: x, noise=Undrawn())
    assert observation.log_likelihood(jnp.zeros(3)) == -3
    missing = r"noise: got Undrawn without sample\(key, prediction\).*protocol DrawsNoise"
    with pytest.raises(ObservationError, match=missing):
        sda.observe(key, jnp.zeros(3), lambda x: x, noise=Undrawn())
    both = sda.combine(observation, sda.Observation(np.ones(3), lambda x: x, std=1.0))
    with pytest.raises(ObservationError, match=missing):
        both.draw(key, jnp.zeros(6))
