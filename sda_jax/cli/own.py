"""What assimilate does with observations of a user's own states."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from sda_jax.cli.common import Arguments, described, the_prior
from sda_jax.core._errors import ConfigError, StorageError, require_at_least
from sda_jax.core._json import dumps
from sda_jax.core._keys import stream
from sda_jax.data._conventions import open_dataset
from sda_jax.data._layout import Layout
from sda_jax.observations._reading import Gridded, OperatorSource, Points, ReadResult, read_all
from sda_jax.posterior._cf import provenance, require_format, summarise, write_posterior
from sda_jax.posterior._to_file import assimilate_to_file, digest
from sda_jax.prior._prior import Prior
from sda_jax.runtime._files import atomic, claim, read_hdf5
from sda_jax.runtime._processes import is_process_zero, on_process_zero

# what says which posterior is asked for, beside the experiment
ASKED = (
    "start", "end", "length", "points", "gridded", "operator", "y", "std", "columns", "method",
)  # fmt: skip


def observation_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what was observed of one's own states, and when."""
    group = parser.add_argument_group("observations of your own states")
    group.add_argument("--start", default=None, help="time of the first state of the trajectory")
    group.add_argument("--end", default=None, help="time of the last one, or")
    group.add_argument("--length", type=int, default=None, help="number of states")
    group.add_argument("--points", nargs="+", default=[], help="CSV or Parquet tables")
    group.add_argument("--gridded", nargs="+", default=[], help="NetCDF, HDF5 or Zarr files")
    group.add_argument("--operator", default=None, help="module:function of your own, with")
    group.add_argument("--y", default=None, help="the file of what it saw (.npy or one variable)")
    group.add_argument("--std", type=float, default=None, help="noise, where a file has none")
    group.add_argument(
        "--columns", nargs="+", default=[], help="such as value=temp: a column's name in the tables"
    )
    group.add_argument("--method", default="linear", help="linear or nearest interpolation")
    group.add_argument("--posterior", default=None, help="file to write (.nc or .zarr)")
    group.add_argument(
        "--quantiles", type=float, nargs="*", default=None,
        help="also write mean, spread and these quantiles beside the posterior",
    )  # fmt: skip


def is_own(options: argparse.Namespace) -> bool:
    """Whether the command is told of observations in files of one's own."""
    return bool(options.points or options.gridded or options.operator or options.start)


def columns_of(options: argparse.Namespace) -> dict[str, str]:
    """What the tables call the columns.

    Raises:
        ConfigError: Something that is no pair.
    """
    columns = dict(pair.split("=", 1) for pair in options.columns if "=" in pair)
    if len(columns) != len(options.columns):
        raise ConfigError(
            "--columns", options.columns, "pairs such as value=temp", "Write them so."
        )
    return columns


def sources_of(options: argparse.Namespace) -> list[Points | Gridded | OperatorSource]:
    """The files of observations.

    Raises:
        ConfigError: Options that do not go together.
    """
    columns = columns_of(options)
    if (options.operator is None) != (options.y is None):
        raise ConfigError(
            "--operator, --y", (options.operator, options.y), "both or none", "Give the other too."
        )
    found: list[Points | Gridded | OperatorSource] = [
        Points(path, options.std, columns, options.method) for path in options.points
    ]
    found += [Gridded(path, options.std, None, options.method) for path in options.gridded]
    if options.operator is not None:
        if options.std is None:
            raise ConfigError("--std", None, "the noise of y", "Give --std.")
        found.append(OperatorSource(options.operator, options.y, options.std))
    return found


def period(options: argparse.Namespace, layout: Layout) -> tuple[float, int]:
    """The trajectory's first time, as a number, and its number of states.

    Raises:
        ConfigError: It is not said, or twice.
    """
    if options.start is None or (options.end is None) == (options.length is None):
        raise ConfigError(
            "--start, --end, --length",
            (options.start, options.end, options.length),
            "a start, and an end or a length",
            "Say which trajectory is asked for.",
        )
    start = layout.number(options.start, "--start")
    if options.length is not None:
        require_at_least("--length", options.length, 1)
        return start, options.length
    end = layout.number(options.end, "--end")
    most = 3 + max(0, int(1.2 * (end - start) / layout.step))
    place = float(layout.places(np.array([end]), start, most)[0])
    length = 1 + round(place)
    if length < 1 or abs(place - round(place)) > 0.2:
        raise ConfigError(
            "--end",
            options.end,
            f"a whole number of steps of {layout.step:g} after {options.start}",
            "Correct it, or give --length.",
        )
    return start, length


def assimilate_own(arguments: Arguments) -> None:
    """Writes the posterior of observations in files; interrupted, it goes on where it stopped."""
    config, options = arguments.config, arguments.options
    prior = the_prior(config, options.output)
    layout = prior.layout
    if layout is None:
        raise ConfigError(
            "prior",
            "one of a simulated system",
            "one trained on files, whose states have times and places",
            "Use --case or --observation with it.",
        )
    start, length = period(options, layout)
    used = read_all(sources_of(options), layout, start, length)
    print(used.report, flush=True)
    path = require_format(options.posterior or options.output / "posterior.nc")
    description = described(
        config,
        **{name: getattr(options, name) for name in ASKED},
        assimilated=digest(used.observation),
        denoiser=digest(prior.denoiser),
        code=used.code,
    )
    said = dumps(description)
    if not _is_there(path, said):
        _draw(arguments, prior, used, (start, length), path, said)
    if is_process_zero():
        print(f"posterior: {path} ({config.assimilation.samples} members of {length} states)")
    if options.quantiles is not None:
        out = path.with_name(f"{path.stem}_summary.nc")
        on_process_zero(lambda: _summarise(path, out, options.quantiles))
        print(f"summary: {out}")


def _is_there(path: Path, said: str) -> bool:
    """Whether the file is this very posterior.

    Raises:
        StorageError: It is another file.
    """
    if not path.exists():
        return False
    with open_dataset(path) as dataset:
        if dataset.attrs.get("sda_config") == said:
            return True
    raise StorageError(
        str(path),
        "a file that is there, of another command",
        "a new name, or the posterior of this very command",
        "Choose another --posterior, or remove the file.",
    )


def _draw(
    arguments: Arguments,
    prior: Prior,
    used: ReadResult,
    when: tuple[float, int],
    path: Path,
    said: str,
) -> None:
    """Samples into a folder beside `path`, and makes the file of it."""
    config, options = arguments.config, arguments.options
    layout, (start, length) = prior.layout, when
    assert layout is not None
    folder = claim(path.with_name(path.name + ".parts"), said, "--posterior")
    settings = config.assimilation
    context = layout.context(layout.times(start, length)) if layout.context_channels else None
    drawn = assimilate_to_file(
        folder / "posterior.h5",
        stream(config.seed, "assimilation"),
        prior,
        used.observation,
        length,
        settings.samples,
        settings.guidance,
        settings.sampler,
        settings.chunk,
        settings.window_chunk,
        settings.window_stride,
        context,
        options.save_every,
        progress=True,
    )

    def export() -> None:
        name = config.prior if config.prior is not None else str(options.output / "prior")
        attributes = provenance(name, said, config.seed, sda_observations=used.report)
        with read_hdf5(drawn, "posterior") as file:
            members = (file["ensemble"][i] for i in range(settings.samples))
            write_posterior(path, members, settings.samples, layout, start, attributes)
        shutil.rmtree(folder)

    on_process_zero(export)


def _summarise(path: Path, out: Path, quantiles: list[float]) -> None:
    with open_dataset(path) as dataset, atomic(out) as temporary:
        summarise(dataset, quantiles).to_netcdf(temporary, engine="h5netcdf")
