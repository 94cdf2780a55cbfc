"""Kolmogorov flow: jax-cfd's own numbers, exact solutions, incompressibility, gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._errors import ConfigError, DivergenceError
from sda_jax.data._simulation import forecast
from sda_jax.systems import _cfd as cfd
from sda_jax.systems._fields import coarsen, staggered_divergence

pytestmark = pytest.mark.compiles
SMALL = sda.KolmogorovFlow(size=32, coarsening=2, spinup=4)


def taylor_green(size, k=2):
    """Velocity on the faces, exact decay rate of its amplitude per viscosity."""
    centre = 2 * np.pi * (np.arange(size) + 0.5) / size
    face = 2 * np.pi * (np.arange(size) + 1) / size
    u = np.cos(k * face)[:, None] * np.sin(k * centre)[None, :]
    v = -np.sin(k * centre)[:, None] * np.cos(k * face)[None, :]
    return jnp.asarray(np.stack([u, v], -1), jnp.float32), 2 * k**2


def test_jax_itself_is_left_alone():
    assert not hasattr(jax, "tree_map")


def test_inner_steps_are_the_papers_and_obey_diffusion():
    assert sda.KolmogorovFlow().inner_steps == 82
    assert sda.KolmogorovFlow(size=128).inner_steps == 41
    thick = sda.KolmogorovFlow(size=128, reynolds=1.0)
    assert thick.inner_steps == math.ceil(0.2 / ((2 * np.pi / 128) ** 2 / 4))


def test_the_same_numbers_as_jax_cfd_called_directly(key):
    s = SMALL.init(key)
    grid = cfd.grids.Grid((32, 32), domain=((0, 2 * jnp.pi), (0, 2 * jnp.pi)))
    v = cfd.initial_conditions.filtered_velocity_field(key, grid, 3.0, 4)
    np.testing.assert_allclose(s[..., 0], v[0].data, atol=1e-6)
    force = cfd.forcings.simple_turbulence_forcing(grid, 1.0, 4, -0.1)
    advance = cfd.equations.semi_implicit_navier_stokes(
        density=1.0, viscosity=1e-3, dt=0.2 / SMALL.inner_steps, grid=grid, forcing=force
    )
    v = jax.jit(cfd.funcutils.repeated(advance, SMALL.inner_steps))(v)
    ours = jax.jit(SMALL.step)(key, s)
    np.testing.assert_allclose(ours, jnp.stack([u.data for u in v], -1), atol=1e-5)


def test_taylor_green_decays_as_it_must_under_refinement():
    errors = []
    for size in (16, 32, 64):
        flow = sda.KolmogorovFlow(size=size, reynolds=10.0, forcing=0.0, damping=0.0, dt=0.5)
        s, rate = taylor_green(size)
        after = jax.jit(flow.step)(jax.random.key(0), s)
        expected = s * math.exp(-rate / 10 * 0.5)
        errors.append(float(jnp.linalg.norm(after - expected) / jnp.linalg.norm(expected)))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.02, errors


def test_damping_and_forcing_alone():
    flow = sda.KolmogorovFlow(size=32, reynolds=1e6, forcing=0.0, damping=0.3, dt=0.1)
    uniform = jnp.ones((32, 32, 2))
    np.testing.assert_allclose(flow.step(None, uniform), math.exp(-0.03) * uniform, rtol=1e-3)
    pushed = sda.KolmogorovFlow(size=32, reynolds=1e6, damping=0.0, dt=0.1).step(
        None, jnp.zeros((32, 32, 2))
    )
    y = 2 * np.pi * (np.arange(32) + 0.5) / 32
    np.testing.assert_allclose(pushed[..., 0], np.tile(0.1 * np.sin(4 * y), (32, 1)), atol=1e-3)
    np.testing.assert_allclose(pushed[..., 1], 0.0, atol=1e-5)


def test_divergence_is_at_rounding_level(key):
    s = SMALL.init(key)
    for _ in range(2):
        s = jax.jit(SMALL.step)(key, s)
        assert jnp.abs(staggered_divergence(s)).max() < 1e-5 * jnp.abs(s).max()
    lifted = SMALL.lift(SMALL.state(s))
    assert jnp.abs(staggered_divergence(lifted)).max() < 1e-5


def test_observed_and_lifted_states(key):
    s = jax.jit(SMALL.step)(key, SMALL.init(key))
    x = SMALL.state(s)
    assert x.shape == SMALL.state_shape == (16, 16, 2)
    np.testing.assert_array_equal(x, coarsen(s, 2))
    again = SMALL.state(SMALL.lift(x))
    assert jnp.sqrt(jnp.mean((again - x) ** 2)) < 0.05 * jnp.std(x)


def test_gradient_through_the_simulator(key):
    s = SMALL.init(key)
    tangent = s  # along which the energy changes much: rounding does not drown the difference
    f = jax.jit(lambda s: jnp.sum(SMALL.step(key, s) ** 2))
    slope = jnp.vdot(jax.jit(jax.grad(f))(s), tangent)
    numeric = (f(s + 1e-2 * tangent) - f(s - 1e-2 * tangent)) / 2e-2
    np.testing.assert_allclose(slope, numeric, rtol=0.02)


def test_trajectories_and_forecasts(key):
    x = sda.simulate(key, SMALL, 3, batch=3, chunk=2)
    assert x.shape == (3, 3, 16, 16, 2) and x.dtype == jnp.float32
    np.testing.assert_allclose(x[:1], sda.simulate(key, SMALL, 3, batch=1), atol=1e-3)
    ahead = forecast(key, SMALL, x[0, 0], 3)
    persistence = jnp.sqrt(jnp.mean((x[0, 0] - x[0, 1]) ** 2))
    assert jnp.sqrt(jnp.mean((ahead[1] - x[0, 1]) ** 2)) < 0.5 * persistence


def test_moved_flows_obey_the_same_equations(key):
    """Any shift along x and the force's wavelengths along y, each as often; not half of one."""
    x = jnp.arange(16.0 * 16 * 2).reshape(1, 16, 16, 2)
    places = jax.vmap(lambda k: SMALL.moved(k, x))(jax.random.split(key, 64 * 50))
    first = np.asarray(places[:, 0, 0, 0, 0]).astype(int) // 2
    counts = np.bincount(first, minlength=256).reshape(16, 16)
    assert set(np.nonzero(counts.sum(axis=0))[0]) == {0, 4, 8, 12}
    assert (np.abs(counts[:, ::4] - 50) < 5 * np.sqrt(50)).all()
    along_x, along_y = divmod(int(first[0]), 16)
    np.testing.assert_array_equal(places[0], jnp.roll(x, (-along_x, -along_y), (1, 2)))

    s = SMALL.init(key)
    later = SMALL.step(key, s)
    for shift in ((6, 0), (0, 8), (14, 24)):
        moved = SMALL.step(key, jnp.roll(s, shift, (0, 1)))
        np.testing.assert_allclose(moved, jnp.roll(later, shift, (0, 1)), atol=1e-4)
    moved = SMALL.step(key, jnp.roll(s, 4, 1))
    assert np.abs(moved - jnp.roll(later, 4, 1)).max() > 0.1


def test_force_and_drag_are_leaves():
    traces = []

    @jax.jit
    def step(system, s):
        traces.append(1)
        return system.step(None, s)

    s = jnp.zeros((16, 16, 2))
    a = step(sda.KolmogorovFlow(size=16, forcing=1.0), s)
    b = step(sda.KolmogorovFlow(size=16, forcing=2.0), s)
    assert len(traces) == 1
    np.testing.assert_allclose(b, 2 * a, rtol=0.05, atol=1e-3)
    uniform = jnp.ones((16, 16, 2))
    still = sda.KolmogorovFlow(size=16, forcing=0.0, damping=0.0)
    damped = sda.KolmogorovFlow(size=16, forcing=0.0, damping=1.0)
    np.testing.assert_allclose(step(still, uniform), uniform, atol=1e-4)
    np.testing.assert_allclose(step(damped, uniform), math.exp(-0.2) * uniform, rtol=0.01)
    assert len(traces) == 1


def test_refusals(key):
    with pytest.raises(ConfigError, match="size: got 33.*even"):
        sda.KolmogorovFlow(size=33)
    with pytest.raises(ConfigError, match="coarsening: got 5.*divisor of size, 64"):
        sda.KolmogorovFlow(size=64, coarsening=5)
    with pytest.raises(ConfigError, match="reynolds"):
        sda.KolmogorovFlow(reynolds=-1.0)
    unstable = sda.KolmogorovFlow(size=32, max_velocity=0.2, spinup=8)
    with pytest.raises(DivergenceError, match=r"from step \d+ on, 8 of them.*max_velocity"):
        sda.simulate(key, unstable, 4)
