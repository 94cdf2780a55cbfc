"""Components are pytrees that compiled functions tell apart."""

import jax
import jax.numpy as jnp
import pytest

import sda_jax as sda
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._record import static
from sda_jax.diffusion._schedules import Cosine, Exponential, Linear

ALIKE = [
    (sda.ExponentialIntegrator(), sda.Heun()),
    (sda.EvenTime(), sda.LogSNR()),
    (Cosine(), Linear()),
    (Linear(), Exponential()),
]


@pytest.mark.parametrize("a, b", ALIKE, ids=lambda c: type(c).__name__)
def test_components_with_the_same_fields_have_different_structures(a, b):
    assert len(jax.tree.leaves(a)) == len(jax.tree.leaves(b))
    assert jax.tree.structure(a) != jax.tree.structure(b)
    assert jax.tree.structure(a) == jax.tree.structure(type(a)())


@component
class Scaled:
    factor: float
    power: int = static(1)

    def __post_init__(self):
        if not isinstance(self.factor, jax.Array) and self.factor < 0:
            raise ConfigError("factor", self.factor, "at least 0", "Raise it.")


def test_leaves_statics_and_paths():
    value = Scaled(2.0, power=3)
    leaves = jax.tree_util.tree_leaves_with_path(value)
    assert [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves] == [(".factor", 2.0)]
    assert jax.tree.map(lambda leaf: 2 * leaf, value) == Scaled(4.0, power=3)
    traces = []

    @jax.jit
    def f(c, x):
        traces.append(1)
        return c.factor * x**c.power

    assert f(value, jnp.asarray(2.0)) == 16 and f(Scaled(1.0, 3), jnp.asarray(2.0)) == 8
    assert len(traces) == 1
    assert f(Scaled(1.0, 2), jnp.asarray(2.0)) == 4 and len(traces) == 2
    with pytest.raises(ConfigError):
        Scaled(-1.0)
