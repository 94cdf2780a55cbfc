"""From files of observations to a posterior file, for a prior that was trained on files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sda_jax.core._errors import ConfigError, StorageError, whole_number
from sda_jax.core._json import dumps
from sda_jax.core._keys import stream
from sda_jax.core._paths import require_path
from sda_jax.core._units import Standardisation
from sda_jax.data._layout import Layout
from sda_jax.data._opening import open_dataset
from sda_jax.experiment._cases import describe_run
from sda_jax.experiment._config import Experiment
from sda_jax.experiment._early_warning import judged_file
from sda_jax.experiment._origins import Report, silent
from sda_jax.observations._gridded import Gridded
from sda_jax.observations._observation import Observation
from sda_jax.observations._reading import OperatorSource, read_all
from sda_jax.observations._setting_aside import set_aside
from sda_jax.observations._tables import Points
from sda_jax.posterior._arguments import check_length
from sda_jax.posterior._export import (
    provenance,
    require_format,
    write_posterior,
    write_summary,
)
from sda_jax.posterior._rehearsal import require_writable
from sda_jax.posterior._sealing import verify_posterior
from sda_jax.posterior._summary import require_quantiles, summarise
from sda_jax.posterior._to_file import digest, draw_to_file
from sda_jax.prior._prior import Prior, require_prior
from sda_jax.runtime._claims import abandon, claim, clear
from sda_jax.runtime._hdf5 import read_hdf5
from sda_jax.runtime._memory import require_room
from sda_jax.runtime._parts import parts_folder
from sda_jax.runtime._processes import on_process_zero

TIMES = 32  # bytes that the time of a state needs while times are laid out


class Observed(NamedTuple):
    """Observations of files.

    Attributes:
        kept: What is assimilated.
        aside: What is not, or None.
        report: How many values are used, and why others are not; a line each.
        code: See `ReadResult`.
    """

    kept: Observation
    aside: Observation | None
    report: str
    code: str


@dataclass(frozen=True)
class ObservationFiles:
    """Which trajectory is asked for, and the files of what was observed of it.

    Attributes:
        start: Time of the first state, a date or a number as the prior's states have it.
        end: Time of the last state, or
        length: the number of states.
        points: CSV or Parquet tables.
        gridded: NetCDF, HDF5 or Zarr files.
        operator: `module:function` of your own, importable or in the working folder, with
        y: the file of what it saw (`.npy`, or one variable).
        std: Of the noise, where a file has none.
        columns: Pairs such as "value=temp": what the tables call the columns.
        method: "linear" or "nearest" interpolation.
        set_aside: Share of the observed values, chosen at random, that are not assimilated but used
            to judge the ensemble.
    """

    start: str | None = None
    end: str | None = None
    length: int | None = None
    points: Sequence[str] = ()
    gridded: Sequence[str] = ()
    operator: str | None = None
    y: str | None = None
    std: float | None = None
    columns: Sequence[str] = ()
    method: str = "linear"
    set_aside: float = 0.0

    def sources(self) -> list[Points | Gridded | OperatorSource]:
        """The files, each with how it is to be read.

        Raises:
            ConfigError: Fields that do not go together.
        """
        columns = column_names(self.columns)
        if (self.operator is None) != (self.y is None):
            raise ConfigError(
                "--operator, --y", (self.operator, self.y), "both or none", "Give the other too."
            )
        found: list[Points | Gridded | OperatorSource] = [
            Points(path, self.std, columns, self.method) for path in self.points
        ]
        found += [Gridded(path, self.std, None, self.method) for path in self.gridded]
        if self.operator is not None and self.y is not None:
            if self.std is None:
                raise ConfigError("--std", None, "the noise of y", "Give --std.")
            found.append(OperatorSource(self.operator, self.y, self.std))
        return found

    def observation(
        self,
        layout: Layout,
        start: float,
        length: int,
        seed: int,
        units: Standardisation = Standardisation(),
    ) -> Observed:
        """What is assimilated, and what is set aside; `units` as in `read`.

        Raises:
            ConfigError, StorageError, ObservationError: See `read` and `set_aside`.
        """
        used = read_all(self.sources(), layout, start, length, units)
        key = stream(seed, "set aside")
        kept, aside = set_aside(key, used.observation, self.set_aside, used.numbers)
        report = used.report
        if aside is not None:
            out = np.unique(used.numbers[np.asarray(aside.observed).reshape(-1)])
            report += f"\n  set aside: {len(out)} of these values"
        return Observed(kept, aside, report, used.code)

    def period(self, layout: Layout) -> tuple[float, int]:
        """The trajectory's first time, as the layout's number, and its number of states.

        Raises:
            ConfigError: It is not said, or twice.
        """
        if self.start is None or (self.end is None) == (self.length is None):
            raise ConfigError(
                "--start, --end, --length",
                (self.start, self.end, self.length),
                "a start, and an end or a length",
                "Say which trajectory is asked for.",
            )
        start = layout.number(self.start, "--start")
        if self.length is not None:
            length = whole_number("--length", self.length)
            _require_times(length)
            return start, length
        end = layout.number(self.end, "--end")
        most = 3 + max(0, int(1.2 * (end - start) / layout.step))
        _require_times(most)
        place = float(layout.places(np.array([end]), start, most)[0])
        length = 1 + round(place)
        if length < 1 or abs(place - round(place)) > 0.2:
            raise ConfigError(
                "--end",
                self.end,
                f"a whole number of steps of {layout.step:g} after {self.start}",
                "Correct it, or give --length.",
            )
        return start, length


def _require_times(length: int) -> None:
    """Raises `ResourceError` before the times of more states are laid out than memory can hold."""
    size = TIMES * length
    require_room(f"a trajectory of {length} states", size, "Take an earlier --end.")


def column_names(columns: Sequence[str]) -> dict[str, str]:
    """What tables call the columns, of pairs such as "value=temp".

    Raises:
        ConfigError: Something that is no pair.
    """
    found = dict(pair.split("=", 1) for pair in columns if "=" in pair)
    if len(found) != len(columns):
        raise ConfigError("--columns", columns, "pairs such as value=temp", "Write them so.")
    return found


def require_layout(prior: Prior, remedy: str) -> Layout:
    """What the prior's states look like.

    Raises:
        ConfigError: They are a simulated system's, without times and places.
    """
    if prior.layout is None:
        raise ConfigError(
            "prior",
            "one of a simulated system",
            "one trained on files, whose states have times and places",
            remedy,
        )
    return prior.layout


def assimilate_files(
    path: str | Path,
    prior: Prior,
    files: ObservationFiles,
    config: Experiment | None = None,
    prior_name: str = "",
    quantiles: Sequence[float] | None = None,
    save_every: int = 16,
    progress: bool = False,
    report: Report = silent,
) -> Path:
    """Writes the posterior of observations in files as a CF data set; called again after an
    interruption, it goes on where it stopped.

    Args:
        path: The file, `.nc` or `.zarr`; if it is this very posterior already, nothing is drawn.
        prior: One that was trained on files.
        files: Which trajectory, and what was observed of it.
        config: Of which `assimilation` and `seed` say how members are drawn; None for the defaults.
        prior_name: Where the prior is, for the file's attributes.
        quantiles: If not None, `<stem>_summary.nc` beside the file gets mean, spread and these.
        save_every: Noise levels between two checkpoints.
        progress: Shows a bar.
        report: Called with how many observations are used and why others are not, for people.

    Returns:
        `path`.

    Raises:
        ConfigError: The prior is of a simulated system, or fields of `files` do not go together.
        StorageError: A file is missing or damaged, or `path` is another posterior.
        ObservationError: Files whose contents are impossible, or of which nothing can be used.
        DivergenceError, ResourceError: See `assimilate`.
    """
    config = Experiment() if config is None else config
    path = require_path("path", path)
    require_prior(prior)
    layout = require_layout(prior, "Use --case or --observation with it.")
    for name, value, kind in (("files", files, ObservationFiles), ("config", config, Experiment)):
        if not isinstance(value, kind):
            raise ConfigError(name, f"a {type(value).__name__}", f"an {kind.__name__}", "Make one.")
    path = require_format(path)
    require_quantiles(quantiles or ())
    start, length = files.period(layout)
    check_length(prior, length)
    used = files.observation(layout, start, length, config.seed, prior.standardisation)
    report(used.report)
    description = dumps(
        describe_run(
            config,
            **{f.name: getattr(files, f.name) for f in dataclasses.fields(files)},
            assimilated=digest(used.kept),
            denoiser=digest(prior.denoiser),
            code=used.code,
        )
    )
    if _is_there(path, description):
        on_process_zero(lambda: clear(parts_folder(path)))
    else:
        require_writable(path, layout, start, length)
        attributes = provenance(prior_name, description, config.seed, sda_observations=used.report)
        _draw(path, prior, used, (start, length), config, attributes, save_every, progress, report)
    if quantiles is not None:
        on_process_zero(lambda: _summarise(path, summary_path(path), quantiles))
    return path


def summary_path(path: Path) -> Path:
    """Where mean, spread and quantiles of a posterior file are."""
    return path.with_name(f"{path.stem}_summary.nc")


def _is_there(path: Path, description: str) -> bool:
    """Whether the file is this very posterior.

    Raises:
        StorageError: It is another file, or damaged.
    """
    if not path.exists():
        return False
    with open_dataset(path) as dataset:
        ours = dataset.attrs.get("sda_config") == description
    if ours:
        verify_posterior(path)
        return True
    raise StorageError(
        str(path),
        "a file that is there, of another command",
        "a new name, or the posterior of this very command",
        "Choose another --posterior, or remove the file.",
    )


def _draw(
    path: Path,
    prior: Prior,
    used: Observed,
    period: tuple[float, int],
    config: Experiment,
    attributes: dict[str, str],
    save_every: int,
    progress: bool,
    report: Report,
) -> None:
    """Samples into a folder beside `path`, and makes the file of it."""
    layout, (start, length) = prior.layout, period
    assert layout is not None
    folder = claim(parts_folder(path), attributes["sda_config"], "--posterior")
    settings = config.assimilation
    context = layout.context(layout.times(start, length)) if layout.context_channels else None
    drawn = draw_to_file(
        stream(config.seed, "assimilation"),
        folder / "posterior.h5",
        prior,
        used.kept,
        length,
        settings.samples,
        *settings.chosen,
        settings.memory,
        context,
        save_every,
        progress=progress,
    )

    summary = judged_file(drawn, prior, used.kept, used.aside, config.seed)
    report(summary)

    def members() -> Iterator[np.ndarray]:  # apart: errors of writing are none of this file
        with read_hdf5(drawn, "posterior") as file:
            for i in range(settings.samples):
                yield file["ensemble"][i]

    def export() -> None:
        known = attributes | {"sda_diagnosis": summary}
        write_posterior(path, members(), settings.samples, layout, start, known)
        abandon(folder)

    on_process_zero(export)


def _summarise(path: Path, out: Path, quantiles: Sequence[float]) -> None:
    with open_dataset(path) as dataset:
        write_summary(out, summarise(dataset, quantiles))
