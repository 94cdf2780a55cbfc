"""Operators of fields against plain numpy; files; refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.core._json import dumps, loads
from sda_jax.core._registry import registry


def np_vorticity(x):
    u, v = x[..., 0], x[..., 1]
    u_y = (np.roll(u, -1, -1) - np.roll(u, 1, -1)) / 2
    v_x = (np.roll(v, -1, -2) - np.roll(v, 1, -2)) / 2
    return u_y - v_x


def np_coarsen(x, f):
    out = np.zeros((*x.shape[:-3], x.shape[-3] // f, x.shape[-2] // f, x.shape[-1]))
    for i in range(f):
        for j in range(f):
            out += x[..., i::f, j::f, :] / f**2
    return out


def np_ring(x):
    n = x.shape[1]
    points = [
        x[:, i, j]
        for i in range(n)
        for j in range(n)
        if 0.4 < (2 * i / (n - 1) - 1) ** 2 + (2 * j / (n - 1) - 1) ** 2 < 0.6
    ]
    return np.stack(points, axis=1)


MASK = np.random.default_rng(0).random((16, 16)) < 0.2
CASES = {
    "coarsen": (sda.Every(4, sda.Coarsen(8)), lambda x: np_coarsen(x, 8)[::4]),
    "crop": (
        sda.Every(3, sda.Chain((sda.Coarsen(2), sda.Crop(4)))),
        lambda x: np_coarsen(x, 2)[::3, 2:6, 2:6],
    ),
    "subsample": (sda.Subsample(4), lambda x: x[:, ::4, ::4]),
    "mask": (sda.Mask(MASK), lambda x: x[:, MASK]),
    "vorticity": (sda.Vorticity(), lambda x: np_vorticity(x)[..., None]),
    "saturation": (
        sda.Every(3, sda.Chain((sda.Vorticity(), sda.Crop(12), sda.Saturate()))),
        lambda x: (w := np_vorticity(x)[::3, 2:14, 2:14, None]) / (1 + np.abs(w)),
    ),
    "ring": (
        sda.At(-1, sda.Chain((sda.Vorticity(), sda.Ring()))),
        lambda x: np_ring(np_vorticity(x)[-1:, ..., None])[0],
    ),
    "loop": (sda.FirstMinusLast(), lambda x: x[0] - x[-1]),
}


@pytest.mark.parametrize("name", CASES)
def test_against_numpy_and_through_a_file(name, key):
    operator, expected = CASES[name]
    x = jax.random.normal(key, (7, 16, 16, 2))
    np.testing.assert_allclose(operator(x), expected(np.asarray(x)), atol=1e-5)
    again = loads(dumps(operator), registry())
    np.testing.assert_array_equal(again(x), operator(x))
    assert jnp.isfinite(jax.grad(lambda x: jnp.sum(operator(x) ** 2))(x)).all()


def test_a_chain_takes_functions_too(key):
    x = jax.random.normal(key, (3, 16, 16, 2))
    chain = sda.Chain((lambda x: 2 * x, sda.Saturate()))
    np.testing.assert_allclose(jax.jit(lambda c, x: c(x))(chain, x), 2 * x / (1 + abs(2 * x)), 1e-5)


def test_refusals():
    x = jnp.zeros((7, 16, 16, 2))
    with pytest.raises(ConfigError, match="factor: got 5.*16 x 16"):
        sda.Coarsen(5)(x)
    with pytest.raises(ObservationError, match=r"mask: got shape \(8, 8\); expected the grid's"):
        sda.Mask(np.ones((8, 8)))(x)
    for mask in (np.ones(16), np.zeros((16, 16)), np.full((16, 16), 0.5)):
        with pytest.raises(ObservationError, match="mask"):
            sda.Mask(mask)
    with pytest.raises(ObservationError, match="size: got 17"):
        sda.Crop(17)(x)
    with pytest.raises(ObservationError, match="inner, outer"):
        sda.Ring(0.5, 0.5)(x)
