"""Assimilates one observation, simulated or from a file, and writes the posterior."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from sda_jax.cli.common import Arguments, asked, described, draw_case, of_file, run, the_prior
from sda_jax.cli.own import assimilate_own, is_own, observation_options
from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps
from sda_jax.observations._files import save_observation
from sda_jax.posterior._assimilate import check_observation
from sda_jax.posterior._to_file import assimilate_to_file
from sda_jax.runtime._claims import claim
from sda_jax.runtime._hdf5 import read_hdf5
from sda_jax.runtime._processes import is_process_zero, on_process_zero, whole


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", default="lo", help="which of the config's cases")
    parser.add_argument("--index", type=int, default=0, help="which test of that case")
    parser.add_argument("--observation", default=None, help="HDF5 observation file to use instead")
    parser.add_argument(
        "--save-every", type=int, default=16, help="noise levels between two checkpoints"
    )
    observation_options(parser)


def assimilate(arguments: Arguments) -> None:
    """Writes `<case>/observation.h5` and `<case>/posterior.h5`; interrupted, it goes on where it
    stopped."""
    config, options = arguments.config, arguments.options
    if is_own(options):
        assimilate_own(arguments)
        return
    if config.system is None:
        raise ConfigError(
            "--config, --points, --gridded, --operator",
            None,
            "what was observed",
            "Give a config with cases, or files of observations with --start.",
        )
    prior = the_prior(config, options.output)
    test = draw_case(config, options.case, options.index)
    if options.observation is not None:
        test = of_file(test, prior, options.observation)
    observation, length, settings = test.observation, len(test.truth), config.assimilation
    description = described(
        config, case=options.case, index=options.index, observation=options.observation
    )
    check_observation(prior, observation, length)
    folder = claim(options.output / options.case, dumps(description))
    start = time.perf_counter()
    path = assimilate_to_file(
        path=folder / "posterior.h5",
        **asked(prior, test, settings),
        save_every=options.save_every,
        description=description,
        truth=whole(test.truth) if options.observation is None else None,
        progress=True,
    )
    seconds = time.perf_counter() - start
    on_process_zero(lambda: save_observation(folder / "observation.h5", observation, length))
    if is_process_zero():
        print(
            f"posterior: {path} ({settings.samples} members of {length} states, "
            f"spread {_spread(path):.3f}, {seconds:.1f} s)"
        )


def _spread(path: Path) -> float:
    """Root of the mean variance of a posterior file's members, a few states at a time."""
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
    return run(assimilate, str(__doc__), arguments, add_options=_options, own_data=True)
