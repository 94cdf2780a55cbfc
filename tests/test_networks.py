"""Networks: batching, receptive field, and our convolution against the library's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sda_jax.networks import ResidualMLP, TemporalConv
from sda_jax.networks.conv import Convolution

NETWORKS = [ResidualMLP(width=16, blocks=2), TemporalConv(width=8, dilations=(1, 2))]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("state", [(3,), (4, 1)])
def test_a_batch_is_its_members(network, state, key):
    x = jax.random.normal(key, (5, 9, *state))
    level = jnp.linspace(0, 1, 5)
    variables = network.init(key, x[0], level[0])
    out = network.apply(variables, x, level)
    assert out.shape == x.shape and out.dtype == jnp.float32
    one = jax.vmap(lambda x, u: network.apply(variables, x, u))(x, level)
    np.testing.assert_allclose(out, one, rtol=1e-4, atol=1e-5)
    assert (jnp.abs(out[0] - network.apply(variables, x[0], level[1])) > 1e-4).any()


def test_receptive_radius():
    network = TemporalConv(width=8, dilations=(1, 2, 1))
    assert TemporalConv().radius == 14
    x = jax.random.normal(jax.random.key(1), (41, 2))
    variables = network.init(jax.random.key(0), x, jnp.zeros(()))
    centre = jax.grad(lambda x: network.apply(variables, x, jnp.zeros(()))[20].sum())(x)
    seen = np.flatnonzero(np.abs(centre).sum(1) > 0)
    assert (seen[0], seen[-1]) == (20 - network.radius, 20 + network.radius)


@pytest.mark.parametrize("dilation", [1, 3])
def test_convolution_is_the_librarys(dilation, key):
    x = jax.random.normal(key, (4, 17, 5))
    layer = Convolution(6, 3, dilation)
    variables = layer.init(key, x)
    dense = variables["params"]["Dense_0"]
    expected = jax.lax.conv_general_dilated(
        x,
        dense["kernel"].reshape(3, 5, 6),
        (1,),
        "SAME",
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    np.testing.assert_allclose(layer.apply(variables, x), expected + dense["bias"], atol=1e-5)
