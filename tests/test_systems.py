"""What every system promises, and the exact properties of each."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import sda_jax as sda
from sda_jax.core._errors import ConfigError
from sda_jax.systems import DampedSpring, Lorenz63, Lorenz96, LotkaVolterra, VectorAutoregression

SYSTEMS = [
    Lorenz63(),
    Lorenz96(noise=0.5),
    LotkaVolterra(noise=0.1),
    DampedSpring(),
    VectorAutoregression(),
]
each_system = pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: type(s).__name__)


@each_system
def test_shapes_dtype_and_vmap(system, key):
    x = sda.simulate(key, system, length=7, batch=3)
    assert x.shape == (3, 7, *system.state_shape)
    assert x.dtype == jnp.float32
    assert jnp.isfinite(x).all()


@each_system
def test_member_depends_on_its_index_and_states_on_their_past_only(system, key):
    if getattr(system, "noise", None) and system.spinup:
        system = dataclasses.replace(system, spinup=4)  # chaos would amplify rounding
    long = sda.simulate(key, system, length=7, batch=3)
    np.testing.assert_allclose(sda.simulate(key, system, 5, batch=2), long[:2, :5], rtol=1e-4)
    alone = sda.simulate(jax.random.fold_in(key, 1), system, 7)
    np.testing.assert_allclose(alone, long[1], rtol=1e-4, atol=1e-4)


@each_system
def test_log_prob_is_the_density_of_step(system, key):
    s = system.init(key)
    draws = jax.vmap(lambda k: system.step(k, s))(jax.random.split(key, 4000))
    flat = np.asarray(draws, np.float64).reshape(4000, -1)
    std = np.broadcast_to(np.asarray(system.transition_std), system.state_shape).reshape(-1)
    mean = np.asarray(system.forecast(s)).reshape(-1)
    assert (np.abs(flat.mean(0) - mean) < 5 * std / np.sqrt(4000)).all()
    assert (np.abs(flat.std(0) / std - 1) < 5 / np.sqrt(2 * 4000)).all()
    expected = scipy.stats.norm.logpdf(flat[0], mean, std).sum()
    np.testing.assert_allclose(system.log_prob(s, draws[0]), expected, rtol=1e-3)


@each_system
def test_gradient_and_lift(system, key):
    x = system.state(system.init(key))
    np.testing.assert_array_equal(system.state(system.lift(x)), x)
    gradient = jax.grad(lambda x: system.forecast(x).sum())(x)
    assert jnp.isfinite(gradient).all() and (gradient != 0).any()


@each_system
def test_parameters_are_leaves(system):
    traces = []

    @jax.jit
    def forecast(system, x):
        traces.append(1)
        return system.forecast(x)

    x = jnp.ones(system.state_shape)
    forecast(system, x)
    forecast(jax.tree.map(lambda leaf: leaf * 0.9, system), x)
    assert len(traces) == 1


@pytest.mark.parametrize("system", [Lorenz63(), Lorenz96(), VectorAutoregression()])
def test_standardisation_fits_the_stationary_law(system, key):
    z = system.standardisation.forward(sda.simulate(key, system, 400, batch=64))
    axes = tuple(range(z.ndim - 1))
    assert (jnp.abs(z.mean(axes)) < 0.2).all()
    assert (jnp.abs(z.std(axes) - 1) < 0.1).all()


def fine(system, x, substeps):
    """One transition in `substeps` smaller ones."""
    small = dataclasses.replace(system, dt=system.dt / substeps, noise=0.0)
    for _ in range(substeps):
        x = small.forecast(x)
    return x


@pytest.mark.parametrize("system", [Lorenz63(dt=0.1), Lorenz96(dt=0.05), LotkaVolterra(dt=0.8)])
def test_runge_kutta_is_of_fourth_order(system, key):
    with jax.enable_x64(True):
        x = jnp.asarray(system.standardisation.inverse(jax.random.normal(key, system.state_shape)))
        x = x.astype(jnp.float64)
        exact = fine(system, x, 64)
        errors = [float(jnp.abs(fine(system, x, n) - exact).max()) for n in (2, 4, 8)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert ((orders > 3.4) & (orders < 5.2)).all(), orders


def test_lorenz63_settings_of_the_paper():
    assert float(Lorenz63().transition_std) ** 2 == pytest.approx(0.025)
    x = jnp.array([1.0, 2.0, 3.0])
    tiny = Lorenz63(dt=1e-3)
    slope = (tiny.forecast(x) - x) / 1e-3
    np.testing.assert_allclose(slope, [10.0, 1 * (28 - 3) - 2, 2 - 8.0], rtol=0.02)


def test_lotka_volterra_conserves_its_invariant(key):
    x = sda.simulate(key, LotkaVolterra(), length=1000)
    u, v = x[:, 0], x[:, 1]
    invariant = jnp.exp(u) - u + jnp.exp(v) - v
    np.testing.assert_allclose(invariant, invariant[0], rtol=1e-4)


def test_autoregression_is_stationary():
    chain = VectorAutoregression(coefficients=((0.8, 0.3), (-0.2, 0.5)), noise_std=0.7)
    a, p = np.asarray(chain.transition, float), np.asarray(chain.initial_covariance, float)
    np.testing.assert_allclose(a @ p @ a.T + 0.49 * np.eye(2), p, rtol=1e-5)


def test_impossible_settings_are_refused(key):
    with pytest.raises(ConfigError, match="dt.*-1"):
        Lorenz63(dt=-1.0)
    with pytest.raises(ConfigError, match="dim: got 3"):
        Lorenz96(dim=3)
    with pytest.raises(ConfigError, match="spectral radius"):
        VectorAutoregression(coefficients=((1.1,),))
    with pytest.raises(ConfigError, match="no density"):
        Lorenz96().log_prob(jnp.zeros((32, 1)), jnp.zeros((32, 1)))
    with pytest.raises(ConfigError, match="length: got 0"):
        sda.simulate(key, Lorenz63(), length=0)
    with pytest.raises(ConfigError, match="batch: got 0"):
        sda.simulate(key, Lorenz63(), length=3, batch=0)
