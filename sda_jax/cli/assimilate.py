"""Assimilates one observation, simulated or from a file, and writes the posterior."""

from __future__ import annotations

import argparse
import dataclasses
import time
from functools import partial
from pathlib import Path

from sda_jax.cli.common import Arguments, nothing_but_files, run
from sda_jax.core._errors import ConfigError


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", default="lo", help="which of the config's cases")
    parser.add_argument("--index", type=int, default=0, help="which test of that case")
    parser.add_argument("--observation", default=None, help="HDF5 observation file to use instead")
    parser.add_argument(
        "--save-every", type=int, default=16, help="noise levels between two checkpoints"
    )
    group = parser.add_argument_group("observations in files, for a prior trained on files")
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
    group.add_argument(
        "--set-aside", type=float, default=0.0, help="share of the values that only judge the draw"
    )
    group.add_argument("--method", default="linear", help="linear or nearest interpolation")
    group.add_argument("--posterior", default=None, help="file to write (.nc or .zarr)")
    group.add_argument(
        "--quantiles", type=float, nargs="*", default=None,
        help="also write mean, spread and these quantiles beside the posterior",
    )  # fmt: skip


def assimilate(arguments: Arguments) -> None:
    """Draws the posterior of observations in files, of an observation file, or of a case."""
    options = arguments.options
    if options.start or options.points or options.gridded or options.operator:
        _files(arguments)
    elif arguments.config.system is None and options.observation is None:
        raise ConfigError(
            "--config, --points, --gridded, --operator",
            None,
            "what was observed",
            "Give a config with cases, or files of observations with --start.",
        )
    else:
        _case(arguments)


def _files(arguments: Arguments) -> None:
    """Writes a CF data set; interrupted, it goes on where it stopped."""
    from sda_jax.experiment._cases import configured_prior
    from sda_jax.experiment._files import (
        ObservationFiles,
        assimilate_files,
        require_layout,
        summary_path,
    )

    config, options = arguments.config, arguments.options
    prior = configured_prior(config, options.output, arguments.components)
    layout = require_layout(prior, "Use --case or --observation with it.")
    names = [field.name for field in dataclasses.fields(ObservationFiles)]
    files = ObservationFiles(**{name: getattr(options, name) for name in names})
    _, length = files.period(layout)
    path = assimilate_files(
        options.posterior or options.output / "posterior.nc",
        prior,
        files,
        config,
        config.prior if config.prior is not None else str(options.output / "prior"),
        options.quantiles,
        options.save_every,
        progress=True,
        report=partial(print, flush=True),
    )
    print(f"posterior: {path} ({config.assimilation.samples} members of {length} states)")
    if options.quantiles is not None:
        print(f"summary: {summary_path(path)}")


def _case(arguments: Arguments) -> None:
    """Writes `<case>/observation.h5` and `<case>/posterior.h5`; interrupted, it goes on where it
    stopped."""
    from sda_jax.core._json import dumps
    from sda_jax.experiment._cases import (
        case_of_file,
        configured_prior,
        describe_run,
        draw_case,
        sampling_arguments,
    )
    from sda_jax.observations._files import save_observation
    from sda_jax.posterior._arguments import check_observation
    from sda_jax.posterior._files import load_diagnosis
    from sda_jax.posterior._to_file import draw_to_file
    from sda_jax.runtime._claims import claim
    from sda_jax.runtime._processes import is_process_zero, on_process_zero, whole

    config, options = arguments.config, arguments.options
    prior = configured_prior(config, options.output, arguments.components)
    chosen = (options.case, options.index)
    test = (
        draw_case(config, *chosen)
        if options.observation is None
        else case_of_file(config, prior, options.observation, *chosen, arguments.components)
    )
    description = describe_run(
        config, case=options.case, index=options.index, observation=options.observation
    )
    check_observation(prior, test.observation, test.length)
    folder = claim(options.output / options.case, dumps(description))
    start = time.perf_counter()
    path = draw_to_file(
        path=folder / "posterior.h5",
        **sampling_arguments(prior, test, config.assimilation),
        save_every=options.save_every,
        description=description,
        truth=None if test.truth is None else whole(test.truth),
        progress=True,
    )
    seconds = time.perf_counter() - start
    on_process_zero(
        lambda: save_observation(folder / "observation.h5", test.observation, test.length)
    )
    if is_process_zero():
        print(
            f"posterior: {path} ({config.assimilation.samples} members of {test.length} states, "
            f"spread {_spread(path):.3f}, {seconds:.1f} s)"
        )
        print(load_diagnosis(path).summary())


def _spread(path: Path) -> float:
    """Root of the mean variance of a posterior file's members, a few states at a time."""
    import numpy as np

    from sda_jax.runtime._hdf5 import read_hdf5

    variances = []
    with read_hdf5(path, "posterior") as file:
        ensemble = file["ensemble"]
        if len(ensemble) < 2:
            return float("nan")
        for first in range(0, ensemble.shape[1], 64):
            states = ensemble[:, first : first + 64].astype(np.float64)
            variances += (
                np.var(states, axis=0, ddof=1).reshape(states.shape[1], -1).mean(1).tolist()
            )
    return float(np.sqrt(np.mean(variances)))


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/assimilate.py."""
    return run(assimilate, str(__doc__), arguments, nothing_but_files, _options)
