"""What users hand over is converted in one place, or refused in words that say what is wanted."""

import datetime
import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import sda_jax as sda
from sda_jax.classical import exact_prior
from sda_jax.core._errors import ConfigError, ObservationError, ResourceError, SDAError
from sda_jax.core._json import dumps
from sda_jax.core._numbers import real_array
from sda_jax.core._paths import require_path
from sda_jax.data._dataset import generate
from sda_jax.evaluation import crps, rmse
from sda_jax.experiment._cases import describe_run
from sda_jax.posterior import posterior_denoiser

MASKED = np.ma.array([1.0, -999.0, 3.0], mask=[False, True, False])
TAKEN = {
    "masked": (MASKED, [1, np.nan, 3]),
    "masked integers": (np.ma.array([1, -999], mask=[0, 1]), [1, np.nan]),
    "a list of masked arrays": ([MASKED, MASKED], [[1, np.nan, 3]] * 2),
    "a masked element in a list": ([1.0, np.ma.masked], [1, np.nan]),
    "nested lists": ([[1, 2], [3, 4.5]], [[1, 2], [3, 4.5]]),
    "tuples": (((1.0,), (2.0,)), [[1], [2]]),
    "a Series": (pd.Series([1.0, np.nan]), [1, np.nan]),
    "a Series with marks": (pd.Series([1, None], dtype="Int64"), [1, np.nan]),
    "a DataFrame": (
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [1.5, 2]}),
        [[1, 1.5], [np.nan, 2]],
    ),
    "an Index": (pd.Index([1, 2]), [1, 2]),
    "a DataArray": (xr.DataArray([1.0, np.nan], dims="x"), [1, np.nan]),
    "big-endian": (np.array([1, 2], ">f8"), [1, 2]),
    "float16": (np.array([1.5], np.float16), [1.5]),
    "longdouble": (np.array([1.5], np.longdouble), [1.5]),
    "unsigned": (np.array([200], np.uint8), [200]),
    "bfloat16": (jnp.array([1.5], jnp.bfloat16), [1.5]),
    "integers of JAX": (jnp.array([1, 2]), [1, 2]),
    "a range": (range(3), [0, 1, 2]),
    "a number of NumPy": (np.float16(1.5), 1.5),
    "a large integer": (2**70, 2.0**70),
}
REFUSED = {
    "complex": (1 + 2j, r"\(1\+2j\) \(complex numbers\).*two elements"),
    "complex arrays": (np.array([1j]), "complex numbers"),
    "complex arrays of JAX": (jnp.array([1j]), "complex numbers"),
    "a masked complex array": (np.ma.array([1j], mask=[0]), "complex numbers"),
    "a text": ("1.0", r"'1.0' \(text\)"),
    "texts": (np.array(["1"]), "text"),
    "bytes": (b"1", r"b'1' \(text\)"),
    "a number and a text": ([1, "2"], r"'2' \(text\)"),
    "nothing": (None, r"None \(objects\)"),
    "nothing in a list": ([1.0, None], r"None \(objects\)"),
    "objects": (np.array([1.0, None], object), "objects"),
    "fractions": ([fractions.Fraction(1, 2)], "objects"),
    "dates": (np.array(["2020-01-01"], "M8[s]"), "dates"),
    "dates of Python": ([datetime.date(2020, 1, 1)], "objects"),
    "durations": (np.array([1], "m8[s]"), "durations"),
    "truth values": (np.array([True]), "truth values"),
    "records": (np.zeros(2, [("a", float)]), "records"),
    "ragged": ([[1, 2], [3]], r"shapes \(2,\) and \(1,\)"),
    "a table": ({"a": 1.0}, "objects"),
    "a column of texts": (pd.DataFrame({"a": [1.0], "b": ["x"]}), "objects"),
    "a Dataset": (xr.Dataset({"a": 1.0}), "a Dataset that says"),
    "a key": (jax.random.key(0), "key"),
    "a function": (len, "objects"),
    "beyond single precision": ([1e39], r"1e\+39; expected at most 3.4e\+38"),
    "beyond any precision": (10**400, "a int that says"),
}


@pytest.mark.parametrize("given, expected", TAKEN.values(), ids=TAKEN)
def test_containers_of_real_numbers_are_taken(given, expected):
    found = real_array("y", given)
    assert type(found) is float or found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("given, message", REFUSED.values(), ids=REFUSED)
def test_what_is_no_real_number_is_refused(given, message):
    with pytest.raises(ObservationError, match=f"(?s)^y: got .*{message}"):
        real_array("y", given, ObservationError)


def test_observations_take_them_everywhere():
    mask = [False, True, False]
    given = sda.Observation(MASKED, lambda x: x, std=pd.Series([1, 2, 3], dtype="Int64"))
    np.testing.assert_array_equal(given.y, [1, np.nan, 3])
    np.testing.assert_array_equal(given.std, [1, 2, 3])
    with pytest.raises(ObservationError, match="std: got nan"):
        sda.Observation(np.ones(3), lambda x: x, std=np.ma.array([1.0, 9.0, 1.0], mask=mask))
    with pytest.raises(ObservationError, match="covariance: got values that are missing"):
        sda.Observation([1.0, 2.0], lambda x: x, covariance=np.ma.array(np.eye(2), mask=np.eye(2)))
    with pytest.raises(ObservationError, match="scale: got nan"):
        sda.StudentT(scale=np.ma.array([1.0, 9.0], mask=[0, 1]))
    with pytest.raises(ObservationError, match="scale: got complex"):
        sda.StudentT(scale=np.array([1j]))
    drawn = sda.observe(jax.random.key(0), MASKED[:, None], lambda x: x, std=1e-3)
    np.testing.assert_array_equal(np.isnan(drawn.y).ravel(), mask)
    unknown = np.array([[1.0, 0.0], [0.0, np.nan]])
    with pytest.raises(ObservationError, match="covariance: got values that are missing"):
        sda.Observation([1.0, 2.0], lambda x: x, covariance=unknown)


def near_singular(share):
    """Two directions with variances 2 and `share`."""
    root = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)
    return (root * [2.0, share]) @ root


@pytest.mark.parametrize("scale", [1.0, 1e-10, 1e10])
@pytest.mark.parametrize("share", [1e-8, 1e-10, 0.0, -1e-9])
def test_a_covariance_is_checked_in_the_precision_that_computes(share, scale):
    covariance = scale * near_singular(share)
    message = r"single precision that computes. Jitter would do: add (.*) \* numpy.diag"
    with pytest.raises(ObservationError, match=message) as caught:
        sda.Observation([0.0, 0.0], lambda x: x, covariance=covariance)
    jitter = float(caught.value.remedy.split("add ")[1].split(" *")[0])
    mended = covariance + jitter * np.diag(np.diagonal(covariance))
    observation = sda.observe(
        jax.random.key(0), np.zeros((1, 2)), lambda x: x[0], covariance=mended
    )
    assert np.isfinite(observation.y).all()


def test_covariances_that_single_precision_holds_are_taken(key):
    for covariance in (near_singular(1e-3), np.diag([1e-12, 1e12]), 1e-20 * near_singular(0.1)):
        drawn = jax.vmap(
            lambda k, c=covariance: (
                sda.observe(k, jnp.zeros((1, 2)), lambda x: x[0], covariance=c).y
            )
        )(jax.random.split(key, 4096))
        variances, axes = np.linalg.eigh(covariance)
        found = (np.asarray(drawn, float) @ axes).var(axis=0) / variances
        np.testing.assert_allclose(found, 1, atol=0.15)
    with pytest.raises(
        ObservationError, match=r"not symmetric.*\(covariance \+ covariance.T\) / 2"
    ):
        sda.Observation([0.0, 0.0], lambda x: x, covariance=1e-9 * np.array([[1, 0.5], [0.4, 1]]))
    with pytest.raises(ObservationError, match="negative or no variance"):
        sda.Observation([0.0, 0.0], lambda x: x, covariance=-np.eye(2))


@pytest.mark.parametrize("std", [1e-20, 1e-30, 1e20])
def test_noise_whose_square_single_precision_does_not_hold(std):
    with pytest.raises(ObservationError, match="std: got .*single precision.*Choose other units"):
        sda.Observation([0.0, 0.0], lambda x: x, std=std)


@pytest.fixture(scope="module")
def prior():
    return exact_prior(sda.VectorAutoregression(), 8)


@pytest.fixture(scope="module")
def observation():
    return sda.Observation(np.zeros((8, 2)), lambda x: x, std=1.0)


QUICK = sda.PredictorCorrector(2, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(0))
WRONG = {
    "key": (7, None, "seed", jnp.zeros(3), jax.random.split(jax.random.key(0), 2)),
    "prior": ("lorenz63", None, 3, sda.Lorenz63()),
    "observation": (None, np.zeros((8, 2)), "y"),
    "length": (None, "8", 8.5, True, 8 + 0j, [8], 10**11, 10**30),
    "samples": (None, "4", 2.5, True, [4], np.ma.masked, 0, -1, 10**13, 10**40),
    "particles": (None, "4", 2.5, 0, 10**13),
    "guidance": ("fast", 3, sda.SDA),
    "sampler": ("fast", 3, sda.Heun),
    "memory": (64, "all", None),
    "context": ("x", np.zeros(3)),
    "ensemble": ("x", None, np.zeros((2, 8)), np.full((2, 8, 2), np.nan)),
    "path": (None, 3),
}
GIVEN = {"guidance": None, "sampler": QUICK, "memory": sda.Memory(), "context": None}


COMMON = ("prior", "observation", "length", "context")
SAMPLED = ("samples", "guidance", "sampler", "memory")
TAKES = {
    "assimilate": ("key", *COMMON, *SAMPLED),
    "draw_posterior": ("key", *COMMON, *SAMPLED),
    "assimilate_to_file": ("key", *COMMON, *SAMPLED, "path"),
    "sample": ("key", "prior", "length", "context", "samples", "sampler", "memory"),
    "count_evaluations": (*COMMON, *SAMPLED),
    "twisted_smc": ("key", *COMMON, "particles"),
    "find_modes": ("prior", "observation", "context", "guidance", "ensemble"),
}


@pytest.fixture
def given(prior, observation, tmp_path):
    return GIVEN | {
        "key": jax.random.key(0),
        "prior": prior,
        "observation": observation,
        "length": 8,
        "samples": 2,
        "particles": 2,
        "ensemble": np.zeros((2, 8, 2)),
        "path": tmp_path / "p.h5",
    }


def call(function, given, **changed):
    arguments = given | changed
    return getattr(sda, function)(**{name: arguments[name] for name in TAKES[function]})


@pytest.mark.parametrize("function", TAKES)
def test_wrong_types_are_told(given, tmp_path, function):
    for name in TAKES[function]:
        for value in WRONG[name]:
            if (function, name) == ("count_evaluations", "samples") and value in (10**13, 10**40):
                continue  # what is not drawn needs no memory
            with pytest.raises(SDAError) as caught:
                call(function, given, **{name: value})
            too_much = isinstance(caught.value, ResourceError)
            assert too_much or caught.value.argument == name, (name, value, caught.value)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_serve_as_samples_length_and_chunk(given):
    expected = call("assimilate", given, memory=sda.Memory(2))
    for number in (np.int64, np.uint8, np.array, jnp.asarray):
        numbers = {"samples": number(2), "length": number(8), "memory": sda.Memory(number(2))}
        np.testing.assert_array_equal(call("assimilate", given, **numbers), expected)


@pytest.mark.parametrize("function", TAKES)
def test_compiled_calls_are_told_what_to_use(given, function):
    message = f"^{function}: got a call under jax.jit.*Python loop"
    with pytest.raises(ConfigError, match=message):
        jax.jit(lambda: call(function, given))()
    with pytest.raises(ConfigError, match=message):
        seen = lambda y: sda.Observation(y, lambda x: x, std=1.0)  # noqa: E731
        jax.vmap(lambda key, y: call(function, given, key=key, observation=seen(y), context=y))(
            jax.random.split(jax.random.key(0), 2), np.zeros((2, 8, 2))
        )


def test_what_is_told_to_be_used_can_be_compiled(prior, observation):
    posterior, sampler = posterior_denoiser(prior, observation, 8, 2, sampler=QUICK)
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.jit(jax.vmap(lambda key: sda.draw(key, posterior, sampler, (8, 2))))(keys)
    assert x.shape == (3, 8, 2) and np.isfinite(x).all()


def test_simulations_can_be_vectorised_and_compiled(key):
    keys, system = jax.random.split(key, 3), sda.Lorenz63(spinup=0)
    expected = sda.simulate(keys[1], system, 5)
    mapped = jax.vmap(sda.simulate, in_axes=(0, None, None))(keys, system, 5)
    static = jax.jit(sda.simulate, static_argnames="length")(keys[1], system, length=5)
    batch = jax.vmap(lambda k: sda.simulate(k, system, 5, batch=2, chunk=1))(keys)
    for found in (mapped[1], static):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        batch[1, 1], sda.simulate(jax.random.fold_in(keys[1], 1), system, 5), rtol=1e-5, atol=1e-4
    )
    with pytest.raises(ConfigError, match="length: got a value that JAX traces.*static_argnames"):
        jax.jit(sda.simulate)(key, system, 5)


@pytest.mark.parametrize(
    "given",
    [{"key": 7}, {"system": "lorenz63"}, {"length": 2.5}, {"length": None}, {"batch": "2"},
     {"batch": 2, "chunk": 0.5}, {"batch": 0}],
    ids=str,
)  # fmt: skip
def test_simulations_of_wrong_types(key, given):
    with pytest.raises(ConfigError, match=f"^{list(given)[-1]}: got "):
        sda.simulate(**{"key": key, "system": sda.VectorAutoregression(), "length": 5} | given)


@pytest.mark.parametrize("given", [{"length": 10**9}, {"length": 10**15}, {"batch": 10**12}])
def test_simulations_that_no_memory_holds(key, monkeypatch, given):
    from sda_jax.runtime import _memory as memory

    monkeypatch.setattr(memory, "free_bytes", lambda: 2**30)
    with pytest.raises(ResourceError, match="memory: got .* GiB; expected at most the 1.0 GiB"):
        sda.simulate(**{"key": key, "system": sda.Lorenz63(), "length": 5} | given)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: sda.Memory("8"), "chunk: got '8'; expected an integer"),
        (lambda: sda.Memory(2.5), "chunk: got 2.5; expected an integer"),
        (lambda: sda.Memory(True), "chunk: got True; expected an integer"),
        (lambda: sda.Lorenz63(dt="fast"), "dt: got 'fast'; expected a number"),
        (lambda: sda.Lorenz63(dt=1j), "dt: got 1j; expected a number"),
        (lambda: sda.Training(steps=None), "steps: got None; expected an integer"),
        (lambda: sda.Training(decay=3), "decay: got 3; expected a str"),
        (lambda: sda.Every("2"), "n: got '2'; expected an integer"),
        (lambda: sda.Population(particles=2.0), "particles: got 2.0; expected an integer"),
    ],
)
def test_fields_of_components_have_their_kind(make, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        make()


def test_fields_take_numbers_of_numpy_and_what_is_traced():
    assert type(sda.Memory(np.int16(3)).chunk) is int and sda.Memory(np.array(3)).chunk == 3
    assert type(sda.Lorenz63(dt=np.float32(0.5)).dt) is float
    traced = jax.vmap(lambda dt: sda.Lorenz63(dt).transition_std)(jnp.array([0.25, 1.0]))
    np.testing.assert_allclose(traced, [0.5, 1.0])


def test_ensembles_and_trajectories_of_other_forms(prior, observation, key):
    members = np.zeros((2, 8, 2))
    for wrong in (members[0], members[..., :1], members[:0], np.ma.array(members, mask=True), "x"):
        with pytest.raises(ConfigError, match="^ensemble: got "):
            sda.find_modes(prior, observation, wrong)
        with pytest.raises(ConfigError, match="^ensemble: got "):
            sda.refine(key, sda.VectorAutoregression(), observation, wrong)
    for wrong in (members, members[0, :, :1], None, members[0].astype(complex)):
        with pytest.raises(ConfigError, match="^x: got "):
            sda.log_prob(key, prior, wrong)
    for wrong in (members[0], members[:0], None):
        with pytest.raises(ConfigError, match="^ensemble: got "):
            sda.diagnose(observation, wrong)


@pytest.mark.parametrize(
    "data",
    [np.ma.array(np.ones((3, 9, 1)), mask=True), None, 7, [[1, 2], [3]], np.ones((3, 9)),
     np.ones((3, 9, 1), complex)],
    ids=["masked", "None", "number", "ragged", "flat", "complex"],
)  # fmt: skip
def test_trajectories_to_train_on_are_real_numbers(tmp_path, data):
    with pytest.raises(ConfigError, match="^data: got "):
        sda.train_prior(data, tmp_path / "run")
    with pytest.raises(ConfigError, match="^folder: got None"):
        sda.train_prior(data, None)
    with pytest.raises(ConfigError, match="^experiment: got a str"):
        sda.train_prior(data, tmp_path / "run", "laptop")
    assert not list(tmp_path.iterdir())


def test_paths(tmp_path):
    assert require_path("path", str(tmp_path)) == tmp_path
    for wrong in (None, 3, b"x", "a\0b"):
        with pytest.raises(ConfigError, match="^path: got .*expected a path"):
            require_path("path", wrong)


def test_the_numeric_mode_is_part_of_what_a_run_is(tmp_path):
    system, path = sda.Lorenz63(spinup=0), tmp_path / "data.h5"
    generate(path, system, 0, 3, 2)
    with jax.enable_x64(True):
        with pytest.raises(sda.StorageError, match="another data set"):
            generate(path, system, 0, 3, 2)
        other = dumps(describe_run(sda.Experiment()))
    assert other != dumps(describe_run(sda.Experiment()))
    assert generate(path, system, 0, 3, 2) == path


def test_scores_see_what_is_masked():
    ensemble, truth = np.ma.array([[[1.0]], [[-999.0]]], mask=[[[0]], [[1]]]), np.zeros((1, 1))
    assert np.isnan(rmse(ensemble, truth)) and np.isnan(crps(ensemble, truth))
    with pytest.raises(ConfigError, match="^truth: got complex numbers"):
        rmse(ensemble, truth + 1j)
