"""Composition of local denoisers, on a chain whose exact local denoisers are known."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.classical import exact_prior
from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._composition import ComposedDenoiser
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.diffusion._schedules import Cosine
from sda_jax.networks import ResidualMLP
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser

CHAIN = sda.VectorAutoregression()


@cache
def exact(length):
    return exact_prior(CHAIN, length).denoiser


@jax.jit
def at(denoiser, x, t):
    return denoiser(x, t)


def error(k, length, t, x):
    composed = ComposedDenoiser(exact(2 * k + 1), 2 * k + 1)
    return float(jnp.sqrt(jnp.mean((at(composed, x, t) - at(exact(length), x, t)) ** 2)))


def test_the_window_of_the_whole_trajectory_is_exact(key):
    x = jax.random.normal(key, (9, 2))
    for t in (0.05, 0.5, 0.95):
        np.testing.assert_allclose(
            at(ComposedDenoiser(exact(9), 9), x, t), at(exact(9), x, t), atol=1e-5
        )


def test_error_falls_with_the_window(key):
    x = jax.random.normal(key, (25, 2))
    for t in (0.2, 0.5):
        errors = [error(k, 25, t, x) for k in (0, 1, 2, 4, 8)]
        assert all(b < 0.9 * a for a, b in itertools.pairwise(errors)), errors
        assert errors[-1] < 0.05 * errors[0]


def test_every_state_comes_from_its_window():
    """With a denoiser that reports positions, the parts are seen to be where they belong."""

    class Position:
        schedule = Cosine()

        def __call__(self, x, t):
            return x + jnp.arange(len(x))[:, None] / 100

    out = ComposedDenoiser(Position(), 5)(jnp.arange(9.0)[:, None], 0.0)[:, 0]
    place = [0, 1, 2, 2, 2, 2, 2, 3, 4]
    np.testing.assert_allclose(out, np.arange(9) + np.array(place) / 100, rtol=1e-5)


@pytest.fixture(scope="module")
def local():
    network = ResidualMLP(width=32, blocks=2)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((5, 3)), jnp.zeros(()))
    return NetworkDenoiser(network, variables, Cosine(), Preconditioned())


def test_chunks_change_nothing_but_the_memory(local, key):
    x = jax.random.normal(key, (203, 3))

    def value_and_gradient(chunk):
        composed = ComposedDenoiser(local, 5, chunk)
        return jax.jit(jax.value_and_grad(lambda x: jnp.sum(composed(x, 0.4) ** 2)))

    whole, parts = value_and_gradient(None), value_and_gradient(16)
    for a, b in zip(whole(x), parts(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    peaks = [f.lower(x).compile().memory_analysis().temp_size_in_bytes for f in (whole, parts)]
    assert peaks[1] < 0.6 * peaks[0], peaks


def test_too_short_trajectories_are_refused(local):
    with pytest.raises(ConfigError, match="length: got 4.*window of 5"):
        ComposedDenoiser(local, 5)(jnp.zeros((4, 3)), 0.5)
    with pytest.raises(ConfigError, match="window: got 4.*odd"):
        ComposedDenoiser(local, 4)
    with pytest.raises(ConfigError, match="chunk: got 0"):
        ComposedDenoiser(local, 5, 0)


def test_a_prior_without_window_is_its_own_denoiser(local):
    whole = sda.Prior(local, sda.Standardisation(), (3,), None)
    assert trajectory_denoiser(whole, 9) is local
    with pytest.raises(ConfigError, match="window_chunk: got 4.*whole trajectories"):
        trajectory_denoiser(whole, 9, None, sda.Memory(window_chunk=4))
    assert isinstance(
        trajectory_denoiser(sda.Prior(local, whole.standardisation, (3,), 5), 9), ComposedDenoiser
    )


@pytest.mark.parametrize("length", [5, 6, 9, 13, 16])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strided_windows_reproduce_what_windows_agree_on(length, stride):
    """A denoiser that is local in itself gives the same from every window: no stride shows."""

    class Local:
        schedule = Cosine()

        def __call__(self, x, t):
            return 3 * x + t

    x = jax.random.normal(jax.random.key(0), (length, 2))
    composed = ComposedDenoiser(Local(), 5, stride=stride)(x, 0.5)
    np.testing.assert_allclose(composed, 3 * x + 0.5, rtol=1e-5)


def test_strided_windows_are_blended_linearly():
    """Windows that report their own first element: a state between two centres sees both."""

    class First:
        schedule = Cosine()

        def __call__(self, x, t):
            return jnp.broadcast_to(x[0], x.shape)

    x = jnp.arange(12.0)[:, None]
    out = ComposedDenoiser(First(), 5, stride=3)(x, 0.0)[:, 0]
    # windows at 0, 3, 6 and, to reach the end, 7: their centres are the states 2, 5, 8 and 9
    np.testing.assert_allclose(out, [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7], atol=1e-6)


def test_a_larger_stride_costs_accuracy_and_keeps_the_exact_case(key):
    x = jax.random.normal(key, (25, 2))
    composed = [at(ComposedDenoiser(exact(9), 9, stride=s), x, 0.3) for s in (1, 3, 5)]
    errors = [float(jnp.sqrt(jnp.mean((c - at(exact(25), x, 0.3)) ** 2))) for c in composed]
    assert errors[0] <= errors[1] <= errors[2], errors
    plain, strided = ComposedDenoiser(exact(9), 9), ComposedDenoiser(exact(9), 9, chunk=2, stride=2)
    np.testing.assert_allclose(at(strided, x[:9], 0.3), at(plain, x[:9], 0.3), atol=1e-5)
    for stride in (0, 6):
        with pytest.raises(ConfigError, match=f"stride: got {stride}.*from 1 to 5"):
            ComposedDenoiser(exact(9), 9, stride=stride)
