"""Priors survive saving; damaged or foreign ones are refused; nothing in them is run."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, DivergenceError, StorageError
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._parameterisations import NoisePrediction, Preconditioned
from sda_jax.diffusion._spectral import SpectralPreconditioned
from sda_jax.networks import ResidualMLP, TemporalConv, UNet
from sda_jax.prior._folder import description_digest
from sda_jax.prior._loading import shipped_priors


def make(network, parameterisation=Preconditioned(), window=None, system=None):
    shape = (window or 9, 3)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros(shape), jnp.zeros(()))
    denoiser = NetworkDenoiser(network, variables, sda.Cosine(eta=2e-3), parameterisation)
    return sda.Prior(denoiser, sda.Standardisation((1.0, 2.0, 3.0), 2.0), (3,), window, system)


PRIORS = [
    make(TemporalConv(width=8, dilations=(1, 2)), system=sda.Lorenz63(dt=0.01)),
    make(ResidualMLP(width=8, blocks=1), NoisePrediction(), window=5),
]


@pytest.mark.parametrize("prior", PRIORS, ids=["conv", "local"])
def test_round_trip(prior, tmp_path, key):
    loaded = sda.load_prior(sda.save_prior(tmp_path / "prior", prior))
    assert jax.tree.structure(loaded) == jax.tree.structure(prior)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(prior), strict=True):
        np.testing.assert_array_equal(a, b)
    x = jax.random.normal(key, (5, 3))
    np.testing.assert_array_equal(loaded.denoiser(x, 0.3), prior.denoiser(x, 0.3))


def test_half_precision_rounds_the_network_and_nothing_else(tmp_path):
    law = SpectralPreconditioned().fitted(np.random.default_rng(0).normal(size=(4, 6, 4, 4, 1)), 3)
    network = UNet((4,), (1,), outputs=1)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((3, 4, 4, 2)), jnp.zeros(()))
    denoiser = NetworkDenoiser(network, variables, sda.Cosine(), law)
    prior = sda.Prior(denoiser, sda.Standardisation(0.0, 1.0), (4, 4, 1), 3, None)
    full, half = (sda.save_prior(tmp_path / str(h), prior, half=h) for h in (False, True))
    loaded = sda.load_prior(half).denoiser
    for a, b in zip(jax.tree.leaves(loaded.variables), jax.tree.leaves(variables), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_array_equal(a, np.float32(np.float16(b)))
    measured = jax.tree.leaves(loaded.parameterisation)
    for a, b in zip(measured, jax.tree.leaves(law), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (half / "weights.safetensors").stat().st_size < (
        full / "weights.safetensors"
    ).stat().st_size


@component
class Mine(sda.Lorenz63):
    """A user's own system."""

    speed: float = 1.0


def test_own_components_are_named_when_loading(tmp_path):
    prior = make(TemporalConv(width=4, dilations=(1,)), system=Mine(2.0))
    sda.save_prior(tmp_path, prior)
    with pytest.raises(ConfigError, match=r"'Mine'.*components"):
        sda.load_prior(tmp_path)
    assert sda.load_prior(tmp_path, components=[Mine]).system == Mine(2.0)


@pytest.fixture
def saved(tmp_path):
    return sda.save_prior(tmp_path / "prior", PRIORS[0])


def edit(path, **changes):
    """Writes another description that claims to be whole."""
    data = json.loads((path / "prior.json").read_text()) | changes
    data["description_sha256"] = description_digest(data)
    (path / "prior.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(format_version=99), "format version 99"),
        (dict(kind="other"), "a prior"),
        (dict(network={"type": "os.system"}), "os.system"),
        (dict(network={"type": "TemporalConv", "depth": 3}), "TemporalConv.depth"),
        (dict(network={"type": "TemporalConv", "width": "wide"}), "TemporalConv.width"),
        (dict(network={"type": "TemporalConv", "width": 16}), "not of one prior"),
        (dict(schedule={"type": "Cosine", "eta": -1.0}), "eta"),
        (dict(network=None), "damaged"),
        (dict(network={"type": "Lorenz63"}), "damaged"),
        (dict(network={"type": "TemporalConv", "dilations": "x"}), "damaged"),
        (dict(state_shape=None), "damaged"),
        (dict(window=4), "window: got 4"),
    ],
)
def test_wrong_descriptions_are_refused(saved, changes, message):
    edit(saved, **changes)
    with pytest.raises((StorageError, ConfigError), match=message):
        sda.load_prior(saved)


def test_damaged_files_are_refused(saved):
    weights, description = saved / "weights.safetensors", saved / "prior.json"
    whole = weights.read_bytes()
    for content in (whole[:50], whole[:-10], b""):
        weights.write_bytes(content)
        with pytest.raises(StorageError, match="damaged"):
            sda.load_prior(saved)
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(StorageError, match="prior.json was written for"):
        sda.load_prior(saved)
    weights.unlink()
    with pytest.raises(StorageError, match="weights.safetensors: got no file"):
        sda.load_prior(saved)
    weights.write_bytes(whole)
    for content in ("{", "[]", "", '{"kind": "prior", "format_version": 1}', "[" * 100000):
        description.write_text(content)
        with pytest.raises(StorageError):
            sda.load_prior(saved)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    broken = jax.tree.map(lambda a: a * np.nan, PRIORS[0].denoiser.variables)
    denoiser = dataclasses.replace(PRIORS[0].denoiser, variables=broken)
    with pytest.raises(DivergenceError, match="not finite"):
        sda.save_prior(tmp_path / "x", dataclasses.replace(PRIORS[0], denoiser=denoiser))
    assert not (tmp_path / "x").exists()


def test_unknown_names_list_the_shipped_ones():
    with pytest.raises(StorageError, match="lorenz63"):
        sda.load_prior("lorenz64")


SHIPPED = {
    "kolmogorov": (sda.KolmogorovFlow(size=128, coarsening=4), (32, 32, 2), 11e6),
    "kolmogorov64": (sda.KolmogorovFlow(size=256, coarsening=4), (64, 64, 2), 16e6),
    "lorenz63": (sda.Lorenz63(dt=0.025), (3,), 2e6),
}


def test_every_shipped_prior_is_known():
    assert shipped_priors() == list(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_priors_load_and_are_small(name):
    system, shape, size = SHIPPED[name]
    prior = sda.load_prior(name)
    assert (prior.system, prior.state_shape) == (system, shape)
    folder = Path(sda.__file__).parent / "weights" / name
    assert sum(file.stat().st_size for file in folder.iterdir()) < size
