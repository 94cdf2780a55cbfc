"""Variables that are learnt in other units than they are measured in, and angles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from oracles import condition
from own import save

import sda_jax as sda
from sda_jax.classical import GaussianClimate, optimal_interpolation
from sda_jax.classical._kalman import GaussianTrajectory
from sda_jax.core import BoxCox, Logarithm, Logit
from sda_jax.core._errors import ConfigError, ObservationError, StorageError
from sda_jax.core._json import decode, encode
from sda_jax.core._registry import registry
from sda_jax.core._transforms import transform_named
from sda_jax.data._archive import open_archive
from sda_jax.data._feed import Feed
from sda_jax.data._files import Files
from sda_jax.data._survey import survey
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._series import SeriesPreconditioned
from sda_jax.observations._reading import read
from sda_jax.observations._setting_aside import set_aside
from sda_jax.observations._tables import Points

UNITS = sda.Standardisation((0.5, 10.0), (0.8, 3.0), (Logarithm(0.2), None))
EACH = [
    (Logarithm(), [0.01, 1.0, 300.0]),
    (Logarithm(0.1), [-0.05, 0.0, 5.0]),
    (BoxCox(0.3), [0.01, 1.0, 80.0]),
    (Logit(-1.0, 101.0), [-0.5, 30.0, 100.0]),
]


@pytest.mark.parametrize("transform, values", EACH, ids=str)
def test_there_and_back(transform, values):
    x = jnp.array(values)
    u = transform.forward(x)
    assert np.all(np.diff(u) > 0)
    np.testing.assert_allclose(transform.inverse(u), x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(transform.slope(x), jax.vmap(jax.grad(transform.forward))(x), 1e-4)
    low = {Logarithm: 0.0, BoxCox: 0.0, Logit: -1.0}[type(transform)]
    shift = getattr(transform, "shift", 0.0)
    wide = transform.inverse(jnp.linspace(-40.0, 15.0, 50))
    assert np.isfinite(wide).all() and wide.min() >= low - shift
    assert np.isfinite(jax.vmap(jax.grad(transform.inverse))(jnp.linspace(-40.0, 15.0, 50))).all()


def test_a_standardisation_keeps_its_transforms():
    x = jnp.array([[0.3, 8.0], [4.0, 12.0]])
    z = UNITS.forward(x)
    np.testing.assert_allclose(z[:, 0], (np.log(x[:, 0] + 0.2) - 0.5) / 0.8, rtol=1e-5)
    np.testing.assert_allclose(z[:, 1], (x[:, 1] - 10) / 3, rtol=1e-5)
    np.testing.assert_allclose(UNITS.inverse(z), x, rtol=1e-5)
    slope = jax.vmap(jax.jacobian(UNITS.inverse))(z)
    np.testing.assert_allclose(UNITS.scale(x), np.einsum("nii->ni", slope), rtol=1e-5)
    assert decode(encode(UNITS), registry()) == UNITS
    assert UNITS.channels(1, None).transforms is None
    assert UNITS.channels(0, 1).transforms == (Logarithm(0.2),)


def test_texts_name_transforms():
    assert transform_named("a", "log") == Logarithm(0.0)
    assert transform_named("a", "logit:-1:101") == Logit(-1.0, 101.0)
    for wrong in ("root", "log:1:2", "log:much", "boxcox:0", "logit:1:0", "log:nan"):
        with pytest.raises(ConfigError):
            transform_named("data.files.transforms", wrong)


def gaussian_prior(units):
    """Two states of one channel that is normal once it is transformed."""
    covariance = jnp.array([[1.0, 0.6], [0.6, 1.0]])
    denoiser = GaussianDenoiser.of(jnp.zeros((2, 1)), covariance, sda.Cosine())
    return sda.Prior(denoiser, units, (1,)), np.asarray(covariance, float)


def test_the_posterior_of_a_physical_observation_is_that_of_the_transformed_one():
    """log x is normal and log x is observed: the exact posterior, though the operator is given x
    in physical units."""
    prior, covariance = gaussian_prior(sda.Standardisation((0.7,), (0.4,), (Logarithm(),)))
    seen = sda.Observation(np.array([1.5]), lambda x: jnp.log(x[:1, 0]), std=0.2)
    sampler = sda.PredictorCorrector(
        48, sda.LogSNR(), sda.DPMSolverPP2M(), sda.LeimkuhlerMatthews(5, 0.5, above=0.005)
    )
    count = 2048
    members = sda.assimilate(
        jax.random.key(1), prior, seen, 2, count, sda.GaussianCovariance(), sampler
    )
    logs = np.log(np.asarray(members)[..., 0])
    known = GaussianTrajectory(np.full((2, 1), 0.7), 0.16 * covariance)
    exact = condition(known, np.array([[1.0, 0.0]]), np.array([1.5]), np.array([[0.04]]))
    std = np.sqrt(np.diag(exact.covariance))
    apart = np.abs(logs.mean(axis=0) - exact.mean.ravel()) / std
    assert np.max(apart) < 4.5 / np.sqrt(count) + 0.02
    ratio = np.cov(logs.T) / exact.covariance
    assert np.max(np.abs(np.diag(ratio) - 1)) < 5 * np.sqrt(2 / count) + 0.02


def test_log_density_counts_the_change_of_volume():
    x = jnp.array([[2.0], [3.5]])
    prior, _ = gaussian_prior(sda.Standardisation((0.7,), (0.4,), (Logarithm(),)))
    plain, _ = gaussian_prior(sda.Standardisation((0.7,), (0.4,)))
    ours = sda.log_prob(None, prior, x)
    theirs = sda.log_prob(None, plain, jnp.log(x))
    np.testing.assert_allclose(ours, theirs - jnp.sum(jnp.log(x)), rtol=1e-4)


def test_optimal_interpolation_works_in_transformed_units():
    lags = jnp.array([[[1.0]], [[0.5]], [[0.2]]])
    known = dataclasses.replace(SeriesPreconditioned(), lags=lags)
    units = sda.Standardisation((0.7,), (0.4,), (Logarithm(),))
    plain = sda.Standardisation((0.7,), (0.4,))
    y = np.array([1.4, 0.2])
    logs = sda.Observation(y, lambda x: x[::2, 0], std=0.1)
    same = sda.Observation(y, lambda x: jnp.log(x[::2, 0]), std=0.1)
    expected = optimal_interpolation(GaussianClimate.of(known, plain, 3), logs)
    found = optimal_interpolation(GaussianClimate.of(known, units, 3), same)
    np.testing.assert_allclose(np.log(found.mean), expected.mean, atol=2e-3)
    np.testing.assert_allclose(found.std / found.mean, expected.std, rtol=0.01)


def winds(count=60, seed=0):
    rng = np.random.default_rng(seed)
    angle = 350 + 40 * np.sin(np.arange(count) / 4) + 5 * rng.standard_normal(count)
    rain = np.exp(rng.standard_normal(count))
    rain[3] = -0.1
    return xr.Dataset(
        {
            "direction": ("time", (angle % 360).astype("f4"), {"units": "degree"}),
            "rain": ("time", rain.astype("f4"), {"units": "mm"}),
        },
        {"time": pd.date_range("2020-01-01", periods=count, freq="h")},
    )


@pytest.fixture
def opened(tmp_path):
    files = Files(
        (save(winds(), tmp_path / "w.nc"),), trend=True, cycles=("day",),
        transforms=("rain=log:0.2", "direction=circular"),
    )  # fmt: skip
    archive = open_archive(files)
    return archive, survey(archive)


def test_files_are_read_as_they_are_learnt(opened, key):
    archive, found = opened
    layout, data = found.layout, winds()
    assert [c.label for c in layout.channels] == ["direction_cos", "direction_sin", "rain"]
    assert layout.channels[1].variable == "direction" and layout.channels[1].units == "1"
    x = archive.read(0, 0, 60)
    phase = np.deg2rad(data.direction.values)
    np.testing.assert_allclose(x[:, :2], np.stack([np.cos(phase), np.sin(phase)], 1), atol=1e-5)
    logs = np.log(data.rain.values[:48] + 0.2)
    units = found.standardisation
    assert units.transforms == (None, None, Logarithm(0.2))
    np.testing.assert_allclose([units.mean[2], units.std[2]], [logs.mean(), logs.std()], rtol=1e-4)
    block = Feed(archive, found, key, 2, 5).segments(0, 1)
    np.testing.assert_allclose(units.forward(block[..., :3])[..., 2].std(), 1.0, atol=0.8)
    assert layout.temporal_channels == 3
    trend = layout.context(archive.times[0])[:, 0]
    np.testing.assert_allclose(trend, np.linspace(-1, 1, 60), atol=1e-5)
    later = layout.context(archive.times[0] + 30 * 3600)[:, 0]
    assert later[-1] == 1.0


def test_tables_report_angles(opened, tmp_path):
    _, found = opened
    layout = found.layout
    start = layout.number("2020-01-01", "start")
    table = pd.DataFrame(
        {
            "time": ["2020-01-01T02:00", "2020-01-01T03:00", "2020-01-01T04:00"],
            "variable": ["direction", "rain", "direction"],
            "value": [10.0, 0.5, 359.0],
            "std": [6.0, 0.1, 3.0],
            "units": ["degree", "mm", "degree"],
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    result = read(Points(str(tmp_path / "t.csv")), layout, start, 6)
    used = result.observation
    assert result.report.endswith("3 of 3 values used")
    x = np.zeros((6, 3), np.float32)
    x[2, :2] = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
    x[4, :2] = np.cos(np.deg2rad(359)), np.sin(np.deg2rad(359))
    x[3, 2] = 0.5
    # the true trajectory is seen without a residual, though 359 and 10 degrees are far apart
    np.testing.assert_allclose(used.operator(x), used.y, atol=1e-6)
    noise = sorted(np.asarray(used.std))
    np.testing.assert_allclose(noise, sorted([*np.deg2rad([6, 6, 3, 3]), 0.1]), rtol=1e-5)
    # an angle is withheld as a whole
    for seed in range(8):
        _, aside = set_aside(jax.random.key(seed), used, 0.4, result.numbers)
        out = ~np.isnan(np.asarray(aside.y))
        assert len(set(result.numbers[out])) == 1
        assert out.sum() == np.sum(result.numbers == result.numbers[out][0])


@pytest.mark.parametrize(
    "variable, value, message",
    [
        ("direction", -999.0, r"t.csv, line 2: got direction -999; expected an angle"),
        ("direction", 721.0, "of which 360 is a full turn"),
        ("rain", -999.0, r"t.csv, line 2: got rain -999 \(noise 0.1\)"),
    ],
)
def test_codes_of_missing_values_are_no_observations(opened, tmp_path, variable, value, message):
    """In tables and in the files that a prior learns from; a little below zero is noise."""
    _, found = opened
    start = found.layout.number("2020-01-01", "start")
    row = {"time": "2020-01-01T02:00", "variable": variable, "std": 0.1}
    table = pd.DataFrame([row | {"value": value}, row | {"value": 0.0, "time": "2020-01-01T03:00"}])
    source = Points(str(tmp_path / "t.csv"))
    table.to_csv(source.path, index=False)
    with pytest.raises(ObservationError, match=message):
        read(source, found.layout, start, 6, found.standardisation)
    table.assign(value=-0.3 if variable == "rain" else -359.0).to_csv(source.path, index=False)
    assert read(source, found.layout, start, 6, found.standardisation)
    data = winds()
    data["direction"][5] = value
    files = Files((save(data, tmp_path / "code.nc"),), transforms=("direction=circular",))
    with pytest.raises(StorageError, match=f"1 values of direction such as {value:g}"):
        survey(open_archive(files))


@pytest.mark.parametrize(
    "transforms, message",
    [
        (("rain=log",), "rain.*inside of where rain=log is defined"),
        (("snow=log",), "one of direction, rain"),
        (("rain",), "a variable and its transform"),
        (("rain=log:1", "rain=log:2"), "once each"),
        (("direction=circular:-1",), "circular"),
    ],
)
def test_transforms_that_do_not_fit_are_refused(tmp_path, transforms, message):
    files = Files((save(winds(), tmp_path / "w.nc"),), transforms=transforms)
    with pytest.raises((ConfigError, StorageError), match=message):
        survey(open_archive(files))
