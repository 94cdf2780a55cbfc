"""Tiles of a grid: what a network of crops says of a larger grid, and how it is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own import save, waves

import sda_jax as sda
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.data._archive import open_archive
from sda_jax.data._feed import Feed
from sda_jax.data._files import Files
from sda_jax.data._sources import Cropped, FromArray
from sda_jax.data._survey import survey
from sda_jax.data._tiling import Tiling
from sda_jax.diffusion._composition import ComposedDenoiser
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._tiles import TiledDenoiser
from sda_jax.experiment._crops import tiling_of
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser

pytestmark = pytest.mark.compiles
SCHEDULE = sda.Cosine()
T = 0.4
ROUNDING = {"rtol": 1e-5, "atol": 2e-6}


@component
class Neighbours:
    """A denoiser that looks one point further along each axis: with zeros beyond the ends."""

    wraps: tuple[bool, bool] = sda.static((False, False))
    context: object = None

    schedule = SCHEDULE

    def conditioned(self, context):
        return dataclasses.replace(self, context=context)

    def __call__(self, x, t):
        known = 0.0 if self.context is None else self.context
        for axis, wraps in zip((1, 2), self.wraps, strict=True):
            width = [(0, 0)] * 4
            width[axis] = (1, 1)
            grown = jnp.pad(x, width, mode="wrap" if wraps else "constant")
            n = x.shape[axis]
            before, after = (jax.lax.slice_in_dim(grown, i, i + n, axis=axis) for i in (0, 2))
            x = jnp.tanh(before - 0.5 * after + x + t + known)
        return x


GRIDS = [((24, 40), (True, True)), ((24, 16), (True, False)), ((33, 17), (False, False))]


@pytest.mark.parametrize(("space", "periodic"), GRIDS)
def test_weights_sum_to_one_and_leave_the_margins_out(space, periodic):
    tiling = Tiling.of((16, 16), periodic)
    origins, weights = tiling.tiles(space)
    total = np.zeros(space)
    for origin, *along in zip(origins, *weights, strict=True):
        rows = [(first + np.arange(16)) % n for first, n in zip(origin, space, strict=True)]
        total[np.ix_(*rows)] += np.multiply.outer(*along)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    for i, (n, wraps) in enumerate(zip(space, periodic, strict=True)):
        inner = np.ones(len(origins), bool) if wraps else origins[:, i] > 0
        assert (weights[i][inner, : tiling.margin] == 0).all()
        inner = np.ones(len(origins), bool) if wraps else origins[:, i] < n - 16
        assert (weights[i][inner, 16 - tiling.margin :] == 0).all()


@pytest.mark.parametrize(("space", "periodic"), GRIDS)
def test_tiles_of_a_local_denoiser_are_the_denoiser_of_the_whole(key, space, periodic):
    """With context that is cut along, whatever the chunk; and so are gradients."""
    key_x, key_c = jax.random.split(key)
    x = jax.random.normal(key_x, (3, *space, 2))
    context = jax.random.normal(key_c, (3, *space, 1))

    def value_and_gradient(denoiser):
        run = jax.value_and_grad(lambda x: (jnp.sum(y := denoiser(x, T)) ** 2, y), has_aux=True)
        (_, out), gradient = jax.jit(lambda x: run(x))(x)
        return out, gradient / jnp.max(jnp.abs(gradient))

    whole = value_and_gradient(Neighbours(periodic, context))
    for chunk in (None, 4):
        tiled = TiledDenoiser(Neighbours(), Tiling.of((16, 16), periodic), chunk)
        found = value_and_gradient(tiled.conditioned(context))
        for a, b in zip(found, whole, strict=True):
            np.testing.assert_allclose(a, b, **ROUNDING)
    wrong = Tiling((16, 16), periodic, 2, 0)  # tiles that trust their outermost points
    assert np.abs(TiledDenoiser(Neighbours(context=context), wrong)(x, T) - whole[0]).max() > 5e-3


@pytest.fixture(scope="module")
def convolutional():
    """Convolutions that see six points further."""
    network = sda.UNet((4,), (1,), forcing=None, embedding=8, periodic=(False, False))
    denoiser = NetworkDenoiser(network, None, SCHEDULE, sda.Preconditioned())
    init = jax.jit(lambda key: denoiser.init(key, (3, 20, 20, 1)))
    return dataclasses.replace(denoiser, variables=init(jax.random.key(1)))


def test_tiles_of_convolutions_are_those_of_the_whole_grid_in_less_memory(convolutional, key):
    whole = dataclasses.replace(
        convolutional, network=dataclasses.replace(convolutional.network, periodic=(True, True))
    )
    x = jax.random.normal(key, (3, 48, 40, 1))
    tiling = Tiling((20, 20), (True, True), 14, 6)
    expected = jax.jit(lambda x: whole(x, T))(x)
    peaks = []
    for chunk in (None, 4):
        tiled = TiledDenoiser(convolutional, tiling, chunk)
        compiled = jax.jit(lambda x, d=tiled: d(x, T)).lower(x).compile()
        np.testing.assert_allclose(compiled(x), expected, **ROUNDING)
        peaks.append(compiled.memory_analysis().temp_size_in_bytes)
    assert peaks[1] < 0.3 * peaks[0], peaks


def test_a_grid_that_is_one_crop_is_left_alone(key):
    x = jax.random.normal(key, (3, 16, 20, 1))
    for crop, periodic in (((16, 20), (False, False)), ((16, None), (False, True))):
        whole = Neighbours((False, periodic[1]))
        tiled = TiledDenoiser(whole, Tiling.of(crop, periodic))
        np.testing.assert_array_equal(tiled(x, T), whole(x, T))


def test_windows_of_tiles_are_tiles_of_windows(convolutional, key):
    x = jax.random.normal(key, (5, 24, 32, 1))
    tiling = Tiling.of((20, 20), (True, False))
    one = ComposedDenoiser(TiledDenoiser(convolutional, tiling, 2), 3)
    other = TiledDenoiser(ComposedDenoiser(convolutional, 3, 1), tiling)
    a, b = (jax.jit(lambda x, d=d: d(x, T))(x) for d in (one, other))
    np.testing.assert_allclose(a, b, **ROUNDING)


def test_the_covariance_of_tiles_is_symmetric_positive_and_that_of_drawn_errors(key):
    length, crop, space = 1, 8, (12, 10)
    i, j = np.divmod(np.arange(crop**2), crop)
    covariance = np.exp(-np.hypot(i[:, None] - i, j[:, None] - j) / 3)
    exact = GaussianDenoiser.of(
        jnp.zeros((length, crop, crop, 1)), jnp.asarray(covariance, jnp.float32), SCHEDULE
    )
    tiled = TiledDenoiser(exact, Tiling.of((crop, crop), (True, False)), 3)
    shape, n = (length, *space, 1), int(np.prod(space))
    times = jax.jit(jax.vmap(lambda w: tiled.covariance_times(w.reshape(shape), T).ravel()))
    matrix = np.asarray(times(jnp.eye(n)), np.float64)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert np.linalg.eigvalsh(matrix).min() > 0
    own = np.asarray(exact.covariance_times(jnp.eye(crop**2)[0].reshape(1, crop, crop, 1), T))
    assert np.diag(matrix).max() < 1.2 * own.max()  # variances are means of the tiles'
    count = 4000
    draws = jax.jit(jax.vmap(lambda k: tiled.draw_error(k, shape, T).ravel()))
    e = np.asarray(draws(jax.random.split(key, count)), np.float64)
    found = e.T @ e / count
    variances = np.diag(matrix)
    error = np.sqrt((matrix**2 + np.multiply.outer(variances, variances)) / count)
    z = (found - matrix) / error
    assert np.abs(z).max() < 5.5 and abs(np.mean(z**2) - 1) < 0.3


def places(space, channels=1):
    """A field that says where each point is."""
    field = np.arange(np.prod(space), dtype=np.float32).reshape(*space, 1)
    return np.repeat(field, channels, axis=-1)


def test_crops_are_cut_anywhere_with_their_context(key):
    space, periodic = (6, 7), (True, False)
    field = np.concatenate([places(space), -places(space)], axis=-1)
    x = jnp.asarray(np.broadcast_to(field, (2, 4, *field.shape)))
    source = Cropped(FromArray(x), Tiling.of((4, 3), periodic))
    assert isinstance(source, sda.data.Source)
    _, drawn = source.at(0, 1, 0).draw(key, (), 400, 3)
    assert drawn.shape == (400, 3, 4, 3, 2)
    np.testing.assert_array_equal(drawn[..., 1], -drawn[..., 0])
    first = np.asarray(drawn[:, 0, 0, 0, 0], int)
    i, j = np.divmod(first, space[1])
    rows = (i[:, None] + np.arange(4)) % 6
    columns = j[:, None] + np.arange(3)
    expected = field[rows[:, :, None], columns[:, None, :], 0]
    np.testing.assert_array_equal(drawn[:, 1, ..., 0], expected)
    # all 6 x 5 places alike: of 400, each has 13.3 with a standard deviation of 3.6
    counts = np.bincount(i * 5 + j, minlength=30)
    assert len(counts) == 30 and counts.min() >= 1 and counts.max() < 13.3 + 5 * 3.6


def test_files_are_read_as_crops(tmp_path):
    data = waves()
    data.temp.values[:, 2, 3] = np.nan
    archive = open_archive(Files((save(data, tmp_path / "a.nc"),)))
    found = survey(archive)
    tiling = Tiling.of((3, 4), (False, True))
    key = jax.random.key(0)
    whole, crops = (Feed(archive, found, key, 4, 5, tiling=t) for t in (None, tiling))
    x, cut = whole.segments(0, 3), crops.segments(0, 3)
    assert cut.shape == (3, 4, 5, 3, 4, x.shape[-1])
    origins = crops.origins(0, 3)
    for segment, crop, origin in zip(
        x.reshape(-1, *x.shape[2:]), cut.reshape(-1, *cut.shape[2:]), origins, strict=True
    ):
        np.testing.assert_array_equal(tiling.cut(jnp.asarray(segment), origin), crop)
    assert len({tuple(o) for o in origins}) > 6 and origins[:, 1].max() > 4
    filled = cut[..., :2] == np.float32(found.standardisation.mean)
    valid = crops.valid(3)
    np.testing.assert_array_equal(filled, np.broadcast_to(~valid, filled.shape))
    assert 0 < (~valid).sum() < 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A prior of crops of an array, and where it is."""
    folder = tmp_path_factory.mktemp("trained")
    x = jax.random.normal(jax.random.key(0), (10, 4, 12, 10, 2))
    network = sda.UNet((4,), (1,), outputs=1, forcing=None, embedding=8, periodic=(False, False))
    training = sda.Training(steps=2, batch=2, segment=3, crop=(8, 6), block=2, validation_batches=1)
    experiment = sda.Experiment(None, network, 3, 1, training=training)
    return sda.train_prior(x, folder, experiment), folder / "prior"


def test_a_prior_of_crops_is_saved_and_loaded(trained):
    prior, folder = trained
    loaded = sda.load_prior(folder)
    assert loaded.tiling == prior.tiling == Tiling((8, 6), (False, False), 3, 0)
    assert loaded.state_shape == (12, 10, 1)
    assert jax.tree.structure(loaded) == jax.tree.structure(prior)
    tiled = trajectory_denoiser(loaded, 4, 0.0, sda.Memory(tile_chunk=2)).denoiser
    assert isinstance(tiled, TiledDenoiser) and tiled.chunk == 2


def test_a_larger_grid_than_the_crop_is_assimilated(trained):
    prior = sda.load_prior(trained[1]).on_grid((14, 16), periodic=(True, True))
    truth = jax.random.normal(jax.random.key(1), (4, 14, 16, 1))
    obs = sda.observe(jax.random.key(2), truth, lambda x: x[::2, ::3, ::3], std=0.1)
    sampler = sda.PredictorCorrector(2, sda.LogSNR(), corrector=sda.Langevin(0))
    memory = sda.Memory(1, window_chunk=1, tile_chunk=3)
    with pytest.warns(sda.EnsembleWarning):
        ensemble = sda.assimilate(
            jax.random.key(3), prior, obs, 4, 2, sda.SDA(), sampler, memory, context=0.5
        )
    assert ensemble.shape == (2, 4, 14, 16, 1) and bool(jnp.isfinite(ensemble).all())


def test_what_cannot_be_tiled_is_refused(convolutional, trained):
    with pytest.raises(ConfigError, match="overlap: got 4.*from 6, twice the margin, to 7"):
        Tiling((8, 8), (True, True), 4, 3)
    with pytest.raises(ConfigError, match="crop: got.*number of points for some of the 1 axes"):
        Tiling.of((8, 8), (True,))
    tiled = TiledDenoiser(convolutional, Tiling.of((20, 20), (True, True)))
    with pytest.raises(ConfigError, match="crop: got 20 x 20.*at most the 16 x 32 points"):
        tiled(jnp.zeros((3, 16, 32, 1)), T)
    with pytest.raises(ConfigError, match="chunk: got 0"):
        dataclasses.replace(tiled, chunk=0)
    prior = trained[0]
    for given, said in (
        (((7, 16),), "space: got 7 x 16.*a crop's points along each axis, 8 x 6"),
        ((5,), "space: got 5; expected points along 2 axes"),
        (((16, 16, 1),), "space: got .*expected points along 2 axes"),
        (((16, 16), True), "periodic: got True; expected whether each of 2 axes is"),
    ):
        with pytest.raises(ConfigError, match=said):
            prior.on_grid(*given)
    for crop in (8, ("8", 8), (0, 8)):
        with pytest.raises(ConfigError, match="training.crop: got "):
            sda.Training(crop=crop)
    plain = dataclasses.replace(prior, tiling=None)
    with pytest.raises(ConfigError, match="prior: got one whose network takes whole states"):
        plain.on_grid((16, 16))
    with pytest.raises(ConfigError, match="tile_chunk: got 2.*not trained on crops"):
        trajectory_denoiser(plain, 4, 0.0, sda.Memory(tile_chunk=2))
    along = dataclasses.replace(prior, tiling=Tiling.of((8, None), (False, False)))
    with pytest.raises(ConfigError, match="space: got 16 x 16; expected 10 points along the axis"):
        along.on_grid((16, 16))
    pointwise = sda.Standardisation(np.zeros((12, 10, 1)), np.ones((12, 10, 1)))
    with pytest.raises(ConfigError, match="space: got 16 x 16.*differs from point to point"):
        dataclasses.replace(prior, standardisation=pointwise).on_grid((16, 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": (8,)}, "training.crop: got .8,.*each of the 2 axes"),
        ({"crop": (8, 40)}, "crop: got 8 x 40.*at most the 32 x 32 points"),
        ({"parameterisation": sda.SpectralPreconditioned()}, "parameterisation: .*Preconditioned"),
        ({"network": sda.UNet((4,), (1,), forcing=None)}, "network.periodic: got None.*ends"),
        (
            {"network": sda.UNet((4,), (1,), forcing=4, periodic=(False, False))},
            "network.forcing: got 4.*does not know where",
        ),
    ],
)
def test_experiments_that_cannot_train_on_crops_are_refused(changes, message):
    training = sda.Training(crop=changes.pop("crop", (8, 8)))
    experiment = sda.Experiment(training=training, **changes)
    with pytest.raises(ConfigError, match=message):
        tiling_of(experiment, [(32, True), (32, True)])


def test_an_axis_as_long_as_the_crop_is_not_cut():
    grid = [(32, True), (8, True)]
    experiment = sda.Experiment(training=sda.Training(crop=(8, 8)))
    assert tiling_of(experiment, grid) == Tiling.of((8, None), (True, True))
    whole = sda.Experiment(training=sda.Training(crop=(32, 8)))
    assert tiling_of(whole, grid) is None
