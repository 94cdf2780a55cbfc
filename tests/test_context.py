"""What a network is told beside the noisy states, from the data to the posterior."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.cli import assimilate as assimilate_cli
from sda_jax.cli import train as train_cli
from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._composition import ComposedDenoiser
from sda_jax.diffusion._denoisers import NetworkDenoiser, predicted_noise
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.networks import ResidualMLP, TemporalConv, UNet
from sda_jax.prior._folder import description_digest
from sda_jax.prior._loading import load_prior
from sda_jax.prior._saving import save_prior

NETWORKS = [
    (ResidualMLP(width=16, blocks=1), (5, 3), 5),
    (TemporalConv(width=16, dilations=(1,)), (5, 3), None),
    (UNet(channels=(8, 8), blocks=(1, 1)), (5, 8, 8, 2), 5),
]


def prior_of(network, shape, window, channels=2):
    denoiser = NetworkDenoiser(network, None, sda.Cosine(), Preconditioned(), channels)
    variables = jax.jit(lambda key: denoiser.init(key, shape))(jax.random.key(0))
    denoiser = dataclasses.replace(denoiser, variables=variables)
    statistics = sda.Standardisation((1.0, 2.0), (0.5, 4.0))
    return sda.Prior(denoiser, sda.Standardisation(), shape[1:], window, None, statistics)


@pytest.mark.parametrize(("network", "shape", "window"), NETWORKS, ids=lambda a: type(a).__name__)
def test_networks_see_the_context_and_give_states(network, shape, window, key):
    prior = prior_of(network, shape, window)
    x = jax.random.normal(key, shape)
    context = jax.random.normal(key, (*shape[:-1], 2))
    conditioned = jax.jit(lambda x, context: prior.denoiser.conditioned(context)(x, 0.5))
    out = conditioned(x, context)
    assert out.shape == shape
    assert jnp.abs(conditioned(x, context + 1) - out).max() > 1e-4
    both = jax.vmap(conditioned)(jnp.stack([x, x]), jnp.stack([context, context]))
    np.testing.assert_allclose(both[1], out, atol=1e-5)
    with pytest.raises(ConfigError, match="context: got None.*2 channels"):
        prior.denoiser(x, 0.5)


@pytest.mark.parametrize(("stride", "chunk"), [(1, None), (2, None), (1, 3)])
def test_windows_take_their_part_of_the_context(stride, chunk, key):
    """Each window of the composed denoiser is the local one, told the window's context."""
    network, shape, window = NETWORKS[0]
    local = prior_of(network, shape, window).denoiser
    x, context = jax.random.normal(key, (9, 3)), jax.random.normal(key, (9, 2))
    composed = ComposedDenoiser(local.conditioned(context), window, chunk, stride)(x, 0.4)
    centre = local.conditioned(context[2:7])(x[2:7], 0.4)[2]
    np.testing.assert_allclose(composed[4], centre, atol=1e-5)
    np.testing.assert_allclose(
        composed[:2], local.conditioned(context[:5])(x[:5], 0.4)[:2], atol=1e-5
    )


def test_context_broadcasts_and_is_in_physical_units(key):
    prior = prior_of(*NETWORKS[1])
    quick = sda.PredictorCorrector(4, sda.LogSNR(), corrector=sda.Langevin(0))
    draw = lambda c: sda.sample(key, prior, 5, 2, quick, context=c)  # noqa: E731
    wide = jnp.broadcast_to(jnp.array([1.0, -3.0]), (5, 2))
    np.testing.assert_array_equal(draw(jnp.array([1.0, -3.0])), draw(wide))
    told = prior.denoiser.conditioned((wide - jnp.array([1.0, 2.0])) / jnp.array([0.5, 4.0]))
    standard = dataclasses.replace(
        prior, context=None, denoiser=dataclasses.replace(told, channels=0)
    )
    np.testing.assert_allclose(draw(wide), sda.sample(key, standard, 5, 2, quick), atol=1e-5)


@pytest.mark.parametrize(
    ("context", "match"),
    [(None, "context: got None.*broadcast"), (np.zeros((5, 3)), r"shape \(5, 3\).*\(5, 2\)")],
)
def test_missing_and_misshapen_contexts_are_refused(context, match, key):
    with pytest.raises(ConfigError, match=match):
        sda.sample(key, prior_of(*NETWORKS[1]), 5, 2, context=context)


def test_a_prior_without_context_wants_none(key):
    prior = sda.load_prior("lorenz63")
    with pytest.raises(ConfigError, match="context.*trained without"):
        sda.sample(key, prior, 5, 2, context=np.zeros(2))


def test_saved_with_the_prior(tmp_path):
    prior = prior_of(*NETWORKS[1])
    again = load_prior(save_prior(tmp_path / "p", prior))
    assert again.context == prior.context and again.denoiser.channels == 2


CONFIG = '''
"""A chain around a level that is its context."""
import jax, jax.numpy as jnp
from sda_jax.experiment._config import Case, Data, Experiment
from sda_jax.diffusion._loss import LogNormalRatio
from sda_jax.networks import TemporalConv
from sda_jax.observations._operators import Channels, Every
from sda_jax.core._units import Standardisation
from sda_jax.prior._training import Training
from sda_jax.core._component import component

@component
class Levelled:
    """x_{i+1} = level + 0.5 (x_i - level) + N(0, 1); its states are (x, level)."""
    spinup = 8
    state_shape = (2,)
    @property
    def standardisation(self):
        return Standardisation((0.0, 0.0), (3.0, 3.0))
    def init(self, key):
        return jnp.full((2,), 3 * jax.random.normal(key))
    def step(self, key, s):
        return s.at[0].set(s[1] + 0.5 * (s[0] - s[1]) + jax.random.normal(key))
    def state(self, s):
        return s
    def lift(self, x):
        return x

config = Experiment(
    system=Levelled(), network=TemporalConv(width=32, dilations=(1, 2), max_frequency=32.0),
    context=1, data=Data("stored", trajectories=400, length=32, chunk=400),
    training=Training(steps=600, batch=64, segment=16, block=200, checkpoint_every=600,
                      times=LogNormalRatio(0.0, 1.5), ema=0.99, validation_batches=2),
    cases={"sparse": Case(16, Every(8, Channels((0,))), 0.3)},
)
'''


@pytest.mark.slow
def test_from_data_to_a_posterior_that_knows_the_context(tmp_path, key):
    """Trained from files, the unobserved distribution follows the context: mean the level, variance
    4/3."""
    (tmp_path / "c.py").write_text(CONFIG)
    common = ["--config", str(tmp_path / "c.py"), "--output", str(tmp_path / "run")]
    assert train_cli.main(common) == 0
    settings = ["--assimilation.samples", "8", "--assimilation.memory.chunk", "8"]
    assert assimilate_cli.main([*common, "--case", "sparse", *settings]) == 0
    prior = load_prior_of(tmp_path)
    assert prior.state_shape == (1,) and prior.denoiser.channels == 1
    noise = predicted_noise(prior.denoiser.conditioned(jnp.zeros((16, 1))), jnp.zeros((16, 1)), 1.0)
    assert noise.shape == (16, 1)
    sampler = sda.PredictorCorrector(64, sda.LogSNR(), corrector=sda.Langevin(0))
    for level in (-4.0, 4.0):
        drawn = np.asarray(sda.sample(key, prior, 16, 256, sampler, 256, context=[level]))
        assert abs(drawn.mean() - level) < 0.3
        assert 0.75 < drawn.var(axis=0).mean() / (4 / 3) < 1.25


def load_prior_of(folder):
    """Without its system, which is a class of the config file."""
    import json

    path = folder / "run" / "prior" / "prior.json"
    description = json.loads(path.read_text())
    description["system"] = None
    description["description_sha256"] = description_digest(description)
    path.write_text(json.dumps(description))
    return sda.load_prior(folder / "run" / "prior")
