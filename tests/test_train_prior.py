"""Training as a function: of a system, of files, of arrays."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own import save, waves

import sda_jax as sda
from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.experiment import simulate_dataset
from sda_jax.networks import ResidualMLP, TemporalConv, UNet
from sda_jax.prior._loading import load_prior

CHAIN = sda.VectorAutoregression()
SMALL = sda.Training(steps=4, batch=4, segment=5, block=2, checkpoint_every=2, validation_batches=1)
QUICK = sda.Experiment(network=ResidualMLP(8, 1), window=5, training=SMALL)


def leaves(prior):
    found = jax.tree.leaves((prior.denoiser.variables, prior.denoiser.parameterisation))
    return np.concatenate([np.ravel(leaf) for leaf in found])


def simulated(n=10, length=16):
    return np.asarray(sda.simulate(jax.random.key(5), CHAIN, length, n))


@pytest.mark.parametrize(
    "source",
    ["replay", *(pytest.param(s, marks=pytest.mark.slow) for s in ("simulator", "stored"))],
)
def test_a_system_is_learnt_as_its_experiment_says(tmp_path, capsys, source):
    data = sda.Data(source, trajectories=5, length=16, chunk=4)
    experiment = dataclasses.replace(QUICK, system=CHAIN, data=data)
    prior = sda.train_prior(experiment, tmp_path)
    assert prior.system == CHAIN and prior.state_shape == CHAIN.state_shape
    np.testing.assert_array_equal(leaves(load_prior(tmp_path / "prior")), leaves(prior))
    assert (tmp_path / "data.h5").exists() == (source == "stored")
    if source == "stored":
        before = (tmp_path / "data.h5").read_bytes()
        assert simulate_dataset(experiment, tmp_path).read_bytes() == before
    assert capsys.readouterr() == ("", "")


def test_trajectories_in_memory_are_learnt(tmp_path):
    data = simulated()
    prior = sda.train_prior(data, tmp_path, QUICK)
    np.testing.assert_allclose(prior.standardisation.mean, data[:8].mean((0, 1)), rtol=1e-4)
    assert prior.system is None and prior.layout is None and prior.state_shape == (2,)
    again = sda.train_prior(jnp.asarray(data), tmp_path, QUICK)
    np.testing.assert_array_equal(leaves(again), leaves(prior))
    with pytest.raises(StorageError, match="the folder of another run"):
        sda.train_prior(data + 1, tmp_path, QUICK)


@pytest.mark.slow
def test_trajectories_and_files_are_given_a_network_where_none_is_named(tmp_path):
    fields = np.random.default_rng(0).normal(size=(4, 12, 8, 8, 1))
    training = dataclasses.replace(SMALL, batch=2)
    prior = sda.train_prior(fields, tmp_path / "fields", sda.Experiment(training=training))
    assert isinstance(prior.denoiser.network, UNet) and prior.window == 5
    path = save(waves(2000).isel(lat=2, lon=3, drop=True), tmp_path / "a.nc")
    said = []
    prior = sda.train_prior(
        sda.Files((path,)),
        tmp_path / "series",
        sda.Experiment(training=training),
        report=said.append,
    )
    assert isinstance(prior.denoiser.network, TemporalConv) and prior.layout is not None
    assert "channel: temp" in said[0]
    notes = json.loads((tmp_path / "series" / "prior" / "prior.json").read_text())["notes"]
    assert notes["training"]["data"]["source"] == "files"


@pytest.mark.parametrize(
    ("data", "experiment", "match"),
    [
        (QUICK, None, "experiment.system: got None; expected what to train on"),
        (QUICK, QUICK, "experiment: got a second one"),
        (sda.Experiment(CHAIN), None, "network: got None"),
        (
            dataclasses.replace(QUICK, system=CHAIN, window=None),
            None,
            "window: got None.*segments of one length",
        ),
        (simulated(2), QUICK, "trajectories: got 2; expected at least 3"),
        (simulated()[0], QUICK, r"data: got ndarray of shape \(16, 2\).*n, length"),
        (simulated() * np.nan, QUICK, "data: got values that are missing or not finite"),
        (3.0, QUICK, "data: got float"),
        ([], QUICK, "data.files.paths"),
        (simulated(), dataclasses.replace(QUICK, start="lorenz63"), "start: got lorenz63"),
        (
            dataclasses.replace(QUICK, system=sda.Lorenz63(), start="lorenz63"),
            None,
            "start: got lorenz63, whose window differs",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_folder_is_taken(
    tmp_path, data, experiment, match
):
    with pytest.raises(ConfigError, match=match):
        sda.train_prior(data, tmp_path / "run", experiment)
    assert not (tmp_path / "run").exists()
