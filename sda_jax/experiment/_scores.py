"""Scores of posterior files: of states from files (`.nc`, `.zarr`), or of a case (`.h5`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sda_jax.core._errors import ConfigError, SDAError, StorageError
from sda_jax.core._json import decode, parse
from sda_jax.core._keys import stream
from sda_jax.core._kinds import annotations_of, is_of
from sda_jax.core._registry import registry
from sda_jax.core._units import Standardisation
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._layout import Layout, differing
from sda_jax.data._opening import open_dataset
from sda_jax.data._time_coordinates import time_numbers
from sda_jax.data._transforms import CIRCULAR
from sda_jax.evaluation._baselines import baseline_scores, truth_as_points
from sda_jax.evaluation._channels import channel_scores, held_out_scores
from sda_jax.evaluation._diagnostics import ChiSquare, innovation_chi_square
from sda_jax.evaluation._metrics import crps, ranks, rmse, spread, spread_skill
from sda_jax.experiment._files import ObservationFiles, column_names, require_layout
from sda_jax.observations._files import load_observation
from sda_jax.observations._observation import Observation, log_likelihood
from sda_jax.observations._reading import read_all
from sda_jax.observations._tables import Points
from sda_jax.posterior._cf import from_xarray
from sda_jax.posterior._files import load_posterior
from sda_jax.posterior._sealing import verify_posterior
from sda_jax.posterior._to_file import digest
from sda_jax.prior._prior import Prior

POSTERIOR = "posterior"  # beside the names of baselines


class PosteriorFile(NamedTuple):
    """What `assimilate_files` wrote.

    Attributes:
        path: The file.
        ensemble: `(samples, length, *S)` in physical units, NaN under the mask.
        layout: Of the states.
        start: Time of the first state, as the layout's number.
        files: What was asked for, and of which observations.
        assimilated: Digest of the observation that was made of them.
        attributes: Of the whole file: prior, seed, versions and so on.
    """

    path: Path
    ensemble: np.ndarray
    layout: Layout
    start: float
    files: ObservationFiles
    assimilated: str
    attributes: dict[str, str]


class PosteriorScores(NamedTuple):
    """How good a posterior is, as far as there is something to compare it with.

    Attributes:
        posterior: The file's contents.
        observation: What was assimilated; None if its files do not hold it any more.
        left_out: Why it is None, otherwise empty.
        chi_square: See `innovation_chi_square`; None without an observation of Gaussian noise.
        channels: See `channel_scores`.
        held_out: See `held_out_scores`, at the values of the tables given, or else at those that
            were set aside when it was drawn; empty if there are none.
        held_out_ranks: Ranks of the values that were held out, or None.
        held_out_report: How many of these are used, and why others are not.
        baselines: For each variable with its unit, scores of the posterior and of methods that need
            no network (`baseline_scores`), at what was held out or else at the truth; empty if they
            were not asked for.
        baselines_left_out: Why a method is not among them.
        truth: The true states `(length, *S)`, or None.
        ranks: Ranks of the true values among the members, `(length, values)`, or None.
    """

    posterior: PosteriorFile
    observation: Observation | None
    left_out: str
    chi_square: ChiSquare | None
    channels: list[dict[str, float]]
    held_out: dict[str, dict[str, float]]
    held_out_ranks: np.ndarray | None
    held_out_report: str
    baselines: dict[str, dict[str, dict[str, float]]]
    baselines_left_out: dict[str, str]
    truth: np.ndarray | None
    ranks: np.ndarray | None


def score_posterior(
    path: str | Path,
    prior: Prior,
    held_out: Sequence[str] = (),
    truth: str | Path | None = None,
    std: float | None = None,
    columns: Sequence[str] = (),
    operator: str | None = None,
    seed: int = 0,
    baselines: bool = False,
) -> PosteriorScores:
    """Scores a posterior of states from files.

    Args:
        path: What `assimilate_files` wrote.
        prior: That it was drawn with.
        held_out: Tables of points that were not assimilated.
        truth: A file of the true states on the prior's grid.
        std: Noise of what was held out, where a table has none.
        columns: Pairs such as "value=temp": what these tables call the columns.
        operator: `module:function`: the operator of your own that was assimilated. The posterior's
            file names it, but only what is given here is imported.
        seed: Of the noise in the ranks of held-out values.
        baselines: Whether climatology, interpolation in time and optimal interpolation of the same
            observations are scored too, with mean and covariance of the training data.

    Raises:
        ConfigError: The prior is of a simulated system, or baselines have nothing to be scored at.
        StorageError: A file is missing, damaged or of another kind, or the truth has another grid.
        ObservationError: None of the held-out values can be used.
    """
    layout = require_layout(prior, "Leave out --posterior.")
    posterior = read_posterior_file(path, layout)
    ensemble, start = posterior.ensemble, posterior.start
    length = ensemble.shape[1]
    usual = prior.standardisation.inverse(jnp.zeros(layout.state_shape))
    filled = np.where(layout.valid, ensemble, np.asarray(usual, np.float32))
    observation, aside, left_out = _assimilated(posterior, length, operator)
    true = None if truth is None else _truth(str(truth), layout, start, length)
    chi_square, found, places, report = None, {}, None, ""
    at: Observation | None = None if true is None else truth_as_points(true, prior)
    if observation is not None and observation.noise is None:
        chi_square = innovation_chi_square(observation, jnp.asarray(filled))
    if held_out or aside is not None:
        at, report = _held_out(posterior, aside, held_out, std, columns, prior.standardisation)
        found, places = held_out_scores(stream(seed, "held-out noise"), prior, at, filled)
    beside, without = {}, {}
    if baselines:
        beside, without = _beside(prior, observation, left_out, at, found, filled, start, seed)
    return PosteriorScores(
        posterior,
        observation,
        left_out,
        chi_square,
        channel_scores(prior, ensemble, true),
        found,
        places,
        report,
        beside,
        without,
        true,
        None if true is None else ranks(ensemble, true)[:, layout.valid],
    )


def _held_out(
    posterior: PosteriorFile,
    aside: Observation | None,
    tables: Sequence[str],
    std: float | None,
    columns: Sequence[str],
    units: Standardisation,
) -> tuple[Observation, str]:
    """The values that were not assimilated, of tables or set aside, and how many of them."""
    if not tables:
        assert aside is not None
        return aside, f"set aside: {int(np.sum(aside.observed))} values"
    sources = [Points(path, std, column_names(columns)) for path in tables]
    length = posterior.ensemble.shape[1]
    used = read_all(sources, posterior.layout, posterior.start, length, units)
    return used.observation, used.report


def _beside(
    prior: Prior,
    observation: Observation | None,
    left_out: str,
    at: Observation | None,
    known: dict[str, dict[str, float]],
    ensemble: np.ndarray,
    start: float,
    seed: int,
) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, str]]:
    """The posterior's scores and the baselines', by variable, and which of these are left out;
    `known` are the posterior's at what was held out, if anything was.

    Raises:
        ConfigError: There is nothing to be scored at, or what was assimilated is not known.
    """
    if at is None:
        raise ConfigError(
            "--baselines",
            "neither --held-out nor --truth, and nothing was set aside",
            "one of them",
            "Name what to score at.",
        )
    if observation is None:
        raise ConfigError("--baselines", f"no observation, {left_out}", "what was seen", "Give it.")
    layout, length = prior.layout, ensemble.shape[1]
    assert layout is not None
    context = layout.context(layout.times(start, length)) if layout.context_channels else None
    members = known or held_out_scores(stream(seed, "held-out noise"), prior, at, ensemble)[0]
    found = baseline_scores(prior, observation, at, length, context)
    kept = ("rmse", "crps", "spread_skill", "inside_90")
    scores = {
        variable: {POSTERIOR: {name: members[variable][name] for name in kept}, **methods}
        for variable, methods in found.scores.items()
    }
    return scores, found.left_out


def read_posterior_file(path: str | Path, layout: Layout) -> PosteriorFile:
    """Reads what `assimilate_files` wrote.

    Of the configuration in it only the observations are taken; its components, which may be of
    classes of your own, are not needed.

    Raises:
        StorageError: The file is missing, damaged, or another one.
    """
    path = Path(path)
    verify_posterior(path)
    with open_dataset(path) as dataset:
        ensemble = from_xarray(dataset, layout)
        attributes = {k: str(v) for k, v in dataset.attrs.items()}
        start = float(time_numbers(str(path), dataset.coords[layout.time])[0][0])
    try:
        given = parse(attributes["sda_config"])["dict"]
        kinds = annotations_of(ObservationFiles)
        known = {name: decode(given[name], registry()) for name in kinds}
        if not all(is_of(value, kinds[name]) for name, value in known.items()):
            raise _another(path)
        files, assimilated = ObservationFiles(**known), given["assimilated"]
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise _another(path) from error
    if ensemble.ndim != 2 + len(layout.state_shape):
        raise _another(path)
    return PosteriorFile(path, ensemble, layout, start, files, assimilated, attributes)


def _another(path: Path) -> StorageError:
    return StorageError(
        str(path), "another file", "a posterior of `sda-jax assimilate`", "Name the one it wrote."
    )


def _assimilated(
    posterior: PosteriorFile, length: int, operator: str | None
) -> tuple[Observation | None, Observation | None, str]:
    """What the posterior was given and what was set aside, if its files still hold it; otherwise
    the reason."""
    files = posterior.files
    if files.operator is not None and files.operator != operator:
        reason = (
            f"for it was observed by {files.operator}, which a data file may name but not import: "
            f"give --operator {files.operator}"
        )
        return None, None, reason
    try:
        seed = int(posterior.attributes["sda_seed"])
        used = files.observation(posterior.layout, posterior.start, length, seed)
    except (SDAError, ValueError) as error:
        return None, None, str(error)
    if digest(used.kept) == posterior.assimilated:
        return used.kept, used.aside, ""
    return None, None, "for the files of observations have changed since"


def _truth(path: str, layout: Layout, start: float, length: int) -> np.ndarray:
    """The states of a file at the trajectory's times.

    Raises:
        StorageError: Its variables, units, grid or calendar are not the prior's, a time is not
            there, or it has several trajectories.
    """
    names = tuple(dict.fromkeys(c.variable for c in layout.channels))
    space = tuple(axis.name for axis in layout.axes)
    angles = {c.variable: c.circular[1] for c in layout.channels if c.circular is not None}
    turns = tuple(f"{name}={CIRCULAR}:{turn!r}" for name, turn in angles.items())
    archive = open_archive(
        Files((path,), variables=names, time=layout.time, space=space, transforms=turns)
    )
    if (other := differing(layout, archive.layout)) is not None:
        raise StorageError(
            path, other[1], f"{other[0]} of the prior: {other[2]}", "Put it on the prior's grid."
        )
    if len(archive.times) != 1:
        raise StorageError(
            path, f"{len(archive.times)} trajectories", "one, the truth", "Select one of them."
        )
    there, wanted = archive.times[0], layout.times(start, length)
    place = np.clip(np.searchsorted(there, wanted - 0.06 * layout.step), 0, len(there) - 1)
    bad = np.abs(there[place] - wanted) > 0.06 * layout.step
    if bad.any():
        first = layout.written(float(wanted[int(np.argmax(bad))]))
        raise StorageError(path, f"no state at {first}", "all of the posterior's", "Add it.")
    return archive.read(0, int(place[0]), int(place[-1]) + 1)[place - place[0]]


def score_case_posterior(path: str | Path, components: Iterable[type] = ()) -> dict[str, float]:
    """Scores a case's `posterior.h5` with the `observation.h5` beside it.

    Args:
        path: The posterior file.
        components: Your own classes that the observation may name: operators, noise models.

    Returns:
        `samples`, `length` and `spread`; `log_likelihood` of the observation, the members' mean,
        and, if its noise is Gaussian, `chi_square` (see `innovation_chi_square`); `rmse` of the
        mean, `crps` and `spread_skill` where the file has the truth.

    Raises:
        ConfigError: A class that is not known.
        StorageError: A file is missing or damaged.
    """
    path = Path(path)
    arrays = load_posterior(path)
    observation, _ = load_observation(path.with_name("observation.h5"), components)
    ensemble = arrays["ensemble"]
    found = {"samples": len(ensemble), "length": ensemble.shape[1]}
    several = len(ensemble) > 1
    if several:
        found["spread"] = spread(ensemble)
    found["log_likelihood"] = float(log_likelihood(observation, ensemble).mean())
    if observation.noise is None:
        found["chi_square"] = float(
            innovation_chi_square(observation, jnp.asarray(ensemble)).members.mean()
        )
    if "truth" in arrays:
        found["rmse"] = rmse(ensemble, arrays["truth"])
        if several:
            found["crps"] = crps(ensemble, arrays["truth"])
            found["spread_skill"] = spread_skill(ensemble, arrays["truth"])
    return found
