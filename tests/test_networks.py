"""Networks: batching, receptive field, and our convolution against the library's."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sda_jax.core._errors import ConfigError
from sda_jax.networks import ResidualMLP, TemporalConv, UNet
from sda_jax.networks import _convolution as convolution
from sda_jax.networks._convolution import CircularConvolution
from sda_jax.networks._temporal_conv import Convolution

pytestmark = pytest.mark.compiles
NETWORKS = [ResidualMLP(width=16, blocks=2), TemporalConv(width=8, dilations=(1, 2))]


@partial(jax.jit, static_argnums=0)
def init(network, key, x, level):
    return network.init(key, x, level)


@partial(jax.jit, static_argnums=0)
def apply(network, variables, x, level):
    return network.apply(variables, x, level)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("state", [(3,), (4, 1)])
def test_a_batch_is_its_members(network, state, key):
    x = jax.random.normal(key, (5, 9, *state))
    level = jnp.linspace(0, 1, 5)
    variables = init(network, key, x[0], level[0])
    out = apply(network, variables, x, level)
    assert out.shape == x.shape and out.dtype == jnp.float32
    one = jax.vmap(lambda x, u: apply(network, variables, x, u))(x, level)
    np.testing.assert_allclose(out, one, rtol=1e-4, atol=1e-5)
    assert (jnp.abs(out[0] - apply(network, variables, x[0], level[1])) > 1e-4).any()


def test_receptive_radius():
    network = TemporalConv(width=8, dilations=(1, 2, 1))
    assert TemporalConv().radius == 14
    x = jax.random.normal(jax.random.key(1), (41, 2))
    variables = init(network, jax.random.key(0), x, jnp.zeros(()))
    centre = jax.jit(jax.grad(lambda x: network.apply(variables, x, jnp.zeros(()))[20].sum()))(x)
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


def unet_input(key, batch=3):
    return jax.random.normal(key, (batch, 5, 16, 8, 2)), jnp.linspace(0, 1, batch)


UNET = UNet(channels=(4, 8), blocks=(1, 2))


@cache
def unet_variables():
    """Which are for grids of any size."""
    x, level = unet_input(jax.random.key(0))
    return init(UNET, jax.random.key(0), x[0], level[0])


def test_unet_batches_and_dtypes(key):
    x, level = unet_input(key)
    variables = unet_variables()
    out = apply(UNET, variables, x, level)
    assert out.shape == x.shape and out.dtype == jnp.float32
    one = jax.vmap(lambda x, u: apply(UNET, variables, x, u))(x, level)
    np.testing.assert_allclose(out, one, atol=1e-5)
    half = apply(UNET.clone(dtype="bfloat16"), variables, x, level)
    assert half.dtype == jnp.float32
    assert 0 < jnp.abs(half - out).max() < 0.1 * jnp.abs(out).max()


@pytest.mark.slow
def test_unet_rematerialised_is_the_same_network(key):
    x, level = unet_input(key)
    variables = unet_variables()

    def gradient(network):
        return jax.jit(jax.grad(lambda v: jnp.mean(network.apply(v, x, level) ** 2)))(variables)

    leaves = zip(
        *map(jax.tree.leaves, (gradient(UNET), gradient(UNET.clone(remat=True)))), strict=True
    )
    for a, b in leaves:
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_unet_moves_with_the_flow(key):
    """A shift of a whole coarse cell along x, or of the forcing's period along y, moves the output
    alike; a shift along y by less does not."""
    x = jax.random.normal(key, (5, 16, 16, 2))
    level = jnp.asarray(0.3)
    variables = unet_variables()
    out = apply(UNET, variables, x, level)
    for shift, axis in ((2, 1), (4, 2)):
        moved = apply(UNET, variables, jnp.roll(x, shift, axis), level)
        np.testing.assert_allclose(moved, jnp.roll(out, shift, axis), atol=1e-5)
    moved = apply(UNET, variables, jnp.roll(x, 2, 2), level)
    assert jnp.abs(moved - jnp.roll(out, 2, 2)).max() > 1e-3
    free = UNET.clone(forcing=None)
    variables = init(free, key, x, level)
    moved = apply(free, variables, jnp.roll(x, 2, 2), level)
    np.testing.assert_allclose(moved, jnp.roll(apply(free, variables, x, level), 2, 2), atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_circular_convolution_is_the_librarys(stride, size, key):
    x = jax.random.normal(key, (2, 8, 6, 3))
    ours = CircularConvolution(4, size, stride)
    theirs = nn.Conv(4, (size, size), strides=stride, padding="CIRCULAR")
    variables = theirs.init(key, x)
    expected = theirs.apply(variables, x)
    np.testing.assert_allclose(ours.apply(variables, x), expected, atol=1e-5)
    _both_ways_agree(ours, variables, x)


def _both_ways_agree(ours, variables, x):
    kernel, stride = variables["params"]["kernel"], (ours.stride, ours.stride)
    padded = convolution._padded(x, kernel.shape[:2], ours.periodic)
    np.testing.assert_allclose(
        convolution._by_convolution(padded, kernel, stride),
        convolution._by_matmul(padded, kernel, stride, x.shape[1:3]),
        atol=1e-5,
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("periodic", [(False, False), (False, True), (True, False)])
def test_axes_with_two_ends_are_padded_with_zeros(stride, periodic, key):
    x = jax.random.normal(key, (2, 7, 6, 3))
    ours = CircularConvolution(4, 3, stride, periodic=periodic)
    by_hand = x
    for axis, wraps in enumerate(periodic, 1):
        widths = [(1, 1) if k == axis else (0, 0) for k in range(4)]
        by_hand = jnp.pad(by_hand, widths, mode="wrap" if wraps else "constant")
    theirs = nn.Conv(4, (3, 3), strides=stride, padding="VALID")
    variables = theirs.init(key, by_hand)
    expected = theirs.apply(variables, by_hand)
    np.testing.assert_allclose(ours.apply(variables, x), expected, atol=1e-5)
    _both_ways_agree(ours, variables, x)


def test_unet_on_a_line_and_on_any_number_of_points_with_two_ends(key):
    line = UNET.clone(forcing=None, periodic=(True,))
    x, level = jax.random.normal(key, (5, 8, 2)), jnp.ones(())
    variables = init(line, key, x, level)
    out = apply(line, variables, x, level)
    assert out.shape == x.shape
    moved = apply(line, variables, jnp.roll(x, 4, 1), level)
    np.testing.assert_allclose(moved, jnp.roll(out, 4, 1), atol=1e-5)
    ends = UNET.clone(forcing=None, periodic=(False, True))
    x = jax.random.normal(key, (5, 7, 8, 2))
    variables = init(ends, key, x, level)
    out = apply(ends, variables, x, level)
    assert out.shape == x.shape
    moved = apply(ends, variables, jnp.roll(x, 4, 2), level)
    np.testing.assert_allclose(moved, jnp.roll(out, 4, 2), atol=1e-5)
    assert (
        jnp.abs(apply(ends, variables, jnp.roll(x, 4, 1), level) - jnp.roll(out, 4, 1)).max() > 1e-3
    )
    with pytest.raises(ConfigError, match="periodic: got .True,.; expected a value for each of 2"):
        line.init(key, x, level)
    with pytest.raises(ConfigError, match="grid: got 8 x 7"):
        ends.init(key, jnp.zeros((5, 8, 7, 2)), level)


def test_unet_sizes_and_refusals():
    struct = jax.ShapeDtypeStruct((5, 64, 64, 2), jnp.float32)
    paper = jax.eval_shape(UNet().init, jax.random.key(0), struct, jnp.zeros(()))
    assert sum(leaf.size for leaf in jax.tree.leaves(paper)) == 22_874_922
    with pytest.raises(ConfigError, match="grid: got 6 x 6.*multiples of 4, for 3 levels"):
        UNet().init(jax.random.key(0), jnp.zeros((5, 6, 6, 2)), jnp.zeros(()))
    with pytest.raises(ConfigError, match=r"blocks: got \(1,\)"):
        UNet(channels=(8, 16), blocks=(1,))
    with pytest.raises(ConfigError, match="kernel: got 2"):
        UNet(kernel=2)
    with pytest.raises(ConfigError, match="dtype: got 'float16'"):
        UNet(dtype="float16")
