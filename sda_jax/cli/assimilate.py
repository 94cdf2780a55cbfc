"""Assimilates one observation, simulated or from a file, and writes the posterior."""

from __future__ import annotations

import argparse
import time

from sda_jax.assimilate import check_observation
from sda_jax.cli.common import Arguments, draw_case, of_file, posterior, run, the_prior
from sda_jax.files import save_observation, save_posterior
from sda_jax.metrics import spread
from sda_jax.serialize import dumps
from sda_jax.storage import claim


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", default="lo", help="which of the config's cases")
    parser.add_argument("--index", type=int, default=0, help="which test of that case")
    parser.add_argument("--observation", default=None, help="HDF5 observation file to use instead")


def assimilate(arguments: Arguments) -> None:
    """Writes `<case>/observation.h5` and `<case>/posterior.h5`."""
    config, options = arguments.config, arguments.options
    prior = the_prior(config, options.output)
    test = draw_case(config, options.case, options.index)
    if options.observation is not None:
        test = of_file(test, prior, options.observation)
    observation, length = test.observation, len(test.truth)
    description = {"experiment": config, "case": options.case, "index": options.index}
    description["observation"] = options.observation
    check_observation(prior, observation, length)
    folder = claim(options.output / options.case, dumps(description))
    start = time.perf_counter()
    ensemble = posterior(prior, test, config.assimilation, True)
    seconds = time.perf_counter() - start
    save_observation(folder / "observation.h5", observation, length)
    truth = test.truth if options.observation is None else None
    save_posterior(folder / "posterior.h5", ensemble, description, truth)
    print(
        f"posterior: {folder / 'posterior.h5'} ({len(ensemble)} members of {length} states, "
        f"spread {spread(ensemble):.3f}, {seconds:.1f} s)"
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/assimilate.py."""
    return run(assimilate, str(__doc__), arguments, add_options=_options)
