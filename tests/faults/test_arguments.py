"""Public functions given things of other kinds, or called under `jax.jit` and `jax.vmap`: an error
of this package, or a result; nothing of JAX or NumPy comes out."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import sda_jax as sda
from sda_jax import classical, evaluation
from sda_jax.core._errors import SDAError
from sda_jax.posterior._files import save_posterior
from sda_jax.posterior._sealing import verify_posterior

ODD = {
    "None": None, "a number": 7, "0": 0, "half": 2.5, "a text": "lorenz63", "bytes": b"x",
    "complex": 1 + 2j, "a truth value": True, "NaN": float("nan"), "a long integer": 10**30,
    "complex numbers": np.ones((8, 3), complex), "texts": np.array(["a"]), "a list": ["a", None],
    "masked": np.ma.masked_array(np.ones((8, 3)), np.eye(8, 3) > 0), "a tuple": (),
    "a class": sda.SDA, "an object": object(), "a function": len, "a dict": {"a": 1},
    "a table": pd.DataFrame({"a": [1]}),
    "nothing": np.zeros((0, 3)), "a date": np.datetime64("2001-01-01"), "a long name": "x" * 5000,
    "no name": "a\0b",
}  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Arguments by name that go together, and files."""
    folder, key, system = tmp_path_factory.mktemp("given"), jax.random.key(0), sda.DampedSpring()
    prior = classical.exact_prior(system, 8)
    truth = sda.simulate(key, system, 8)
    observation = sda.observe(key, truth, sda.Every(2), 0.3)
    sampler = sda.PredictorCorrector(
        2, sda.LogSNR(), sda.ExponentialIntegrator(), sda.Langevin(1, 0.1)
    )
    sda.save_observation(folder / "observation.h5", observation, 8)
    ensemble = np.stack([truth, truth + 1, truth - 1])
    save_posterior(folder / "posterior.h5", ensemble, None)
    return {
        "key": key, "system": system, "observation": observation, "length": 8, "particles": 16,
        "samples": 2, "block": 2, "schedule": sda.Cosine(), "denoiser": prior.denoiser,
        "sampler": sampler, "shape": truth.shape, "prior": prior, "ensemble": ensemble,
        "truth": truth, "reference": None, "description": None, "components": (), "batch": 1,
        "time": 1, "notes": None, "half": False, "net": sda.load_prior("lorenz63"), "x": ensemble,
        "y": ensemble + 1, "held_out": observation, "operator": sda.Every(2), "std": 0.3,
        "covariance": None, "noise": None, "chunk": None, "folder": folder,
    }  # fmt: skip


READERS = {
    sda.load_observation: "observation.h5", sda.load_posterior: "posterior.h5",
    sda.load_diagnosis: "posterior.h5", verify_posterior: "posterior.h5",
    sda.load_prior: "posterior.h5", sda.load_config: "posterior.h5",
}  # fmt: skip
FUNCTIONS = [
    classical.kalman_smoother, classical.particle_smoother, classical.bootstrap_filter,
    classical.exact_prior, classical.trajectory_distribution, sda.simulate, sda.observe, sda.draw,
    sda.use_mesh, sda.presets, sda.save_prior, sda.save_observation, save_posterior, *READERS,
    evaluation.rmse, evaluation.crps, evaluation.ranks, evaluation.energy_distance,
    evaluation.innovation_chi_square, evaluation.residual_std, evaluation.held_out_ranks,
]  # fmt: skip


def arguments(function, given):
    chosen = {n: given[n] for n in inspect.signature(function).parameters if n in given}
    if "path" in inspect.signature(function).parameters:
        chosen["path"] = given["folder"] / READERS.get(function, "new")
    return chosen | ({"prior": given["net"]} if function is sda.save_prior else {})


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_other_kinds(given, function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some of them are names
    whole = arguments(function, given)
    for name in whole.keys() - {"shape"}:  # a denoiser takes what shapes it takes
        for kind, odd in ODD.items():
            try:
                function(**(whole | {name: odd}))
            except SDAError as error:
                assert error.argument and error.remedy
            except Exception as error:
                raise AssertionError(f"{name} is {kind}: {type(error).__name__}") from error


TRACED = {  # by the argument that is traced; those that can be are not here
    classical.kalman_smoother: "observation", classical.particle_smoother: "key",
    classical.bootstrap_filter: "key", classical.exact_prior: "system",
    classical.trajectory_distribution: "system", sda.save_prior: "prior",
    sda.save_observation: "observation", save_posterior: "ensemble", evaluation.rmse: "ensemble",
    evaluation.crps: "ensemble", evaluation.ranks: "ensemble", evaluation.energy_distance: "x",
    evaluation.innovation_chi_square: "ensemble", evaluation.residual_std: "ensemble",
    evaluation.held_out_ranks: "key",
}  # fmt: skip


@pytest.mark.parametrize("function", TRACED, ids=lambda f: f.__name__)
def test_functions_on_the_host_under_jit_and_vmap(given, function):
    whole = arguments(function, given)
    name = TRACED[function]

    def call(value):
        function(**(whole | {name: value}))
        return 0

    with pytest.raises(SDAError, match=r"jax.jit|JAX traces"):
        jax.make_jaxpr(call)(whole[name])
    leaves = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), whole[name])
    with pytest.raises(SDAError, match=r"jax.jit|JAX traces"):
        jax.make_jaxpr(jax.vmap(call, out_axes=None))(leaves)


def test_functions_of_the_device_under_jit_and_vmap(given):
    """With the result that they have outside."""
    system, whole = given["system"], arguments(sda.draw, given)
    keys = jax.random.split(given["key"], 2)
    rest = {name: value for name, value in whole.items() if name != "key"}

    def both(key):
        return sda.simulate(key, system, 4), sda.draw(key, **rest)

    compiled = jax.tree.map(lambda *x: jnp.stack(x), *map(jax.jit(both), keys))
    for found in (jax.vmap(both)(keys), compiled):
        for i, key in enumerate(keys):
            for a, b, near in zip(found, both(key), (1e-4, 1e-2), strict=True):
                np.testing.assert_allclose(a[i], b, rtol=0, atol=near)  # of members about 1
    observed = jax.vmap(lambda key: sda.observe(key, given["truth"], sda.Every(2), 0.3).y)(keys)
    alone = sda.observe(keys[1], given["truth"], sda.Every(2), 0.3).y
    np.testing.assert_allclose(observed[1], alone, rtol=1e-5)


def test_paths_and_notes_of_a_prior(given, tmp_path):
    """What can be saved comes back."""
    path = sda.save_prior(str(tmp_path / "é"), given["net"], {"score": [1, 2.5, None]})
    assert dataclasses.asdict(sda.load_prior(path).standardisation)
    with pytest.raises(SDAError, match=r"notes: got .*not JSON compliant"):
        sda.save_prior(tmp_path / "b", given["net"], {"score": float("nan")})
    with pytest.raises(SDAError, match=r"prior: got one with a GaussianDenoiser"):
        sda.save_prior(tmp_path / "b", given["prior"])
    assert not (tmp_path / "b").exists()
