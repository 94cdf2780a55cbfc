"""What the commands share: arguments, the compilation cache, priors, observations."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import ConfigError, ProcessError, SDAError
from sda_jax.core._keys import stream
from sda_jax.data._simulation import simulate
from sda_jax.diffusion._denoisers import with_context
from sda_jax.experiment._config import Assimilation, Case, Experiment, load_config, override
from sda_jax.observations._files import load_observation
from sda_jax.observations._observation import Observation, observe
from sda_jax.posterior._assimilate import assimilate
from sda_jax.prior._prior import Prior, load_prior
from sda_jax.runtime._devices import Mesh, use_mesh
from sda_jax.runtime._processes import (
    REMEDY,
    is_process_zero,
    join,
    require_same,
    whole,
)


class Arguments(NamedTuple):
    """What a command was given: its own options and the configured experiment."""

    options: argparse.Namespace
    config: Experiment


def cache_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR says
    where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "sda_jax" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def run(
    command: Callable[[Arguments], None],
    description: str,
    arguments: list[str] | None = None,
    default_config: str | None = None,
    add_options: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
    own_data: bool = False,
) -> int:
    """Parses the command line, runs `command` and turns expected errors into messages.

    Args:
        command: What to do.
        description: For --help.
        arguments: The command line; None for the process's own.
        default_config: Config file if --config is not given; None makes it required.
        add_options: Adds the command's own options.
        own_data: Whether no config at all will do, where the data are the user's own.

    Returns:
        The exit status: 0, or 2 after an error of this package.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog="Every field of the config can be set, as in --training.steps 100; "
        "--fields lists them.",
    )
    needed = default_config is None and not own_data
    parser.add_argument("--config", default=default_config, required=needed, help="config file")
    parser.add_argument(
        "--output", type=Path, default=None, help="folder (default: runs/ and the config's name)"
    )
    parser.add_argument("--fields", action="store_true", help="list the config's fields and exit")
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="join the processes that Slurm, Open MPI, Kubernetes or a TPU pod started",
    )
    group.add_argument("--coordinator", default=None, help="or: host:port of process 0,")
    group.add_argument("--processes", type=int, default=None, help="how many processes there are")
    group.add_argument("--process", type=int, default=None, help="and which one this is, from 0")
    add_options(parser)
    options, rest = parser.parse_known_args(arguments)
    name = ""
    try:
        where = (options.coordinator, options.processes, options.process)
        if options.distributed or any(w is not None for w in where):
            join(*where)
            name = f"process {jax.process_index()}: "
        with _quiet(), _lost_processes():
            config, doc = (
                (Experiment(), "") if options.config is None else load_config(options.config)
            )
            config = override(config, ["--help"] if options.fields else rest, doc)
            if options.output is None:
                options.output = Path("runs") / Path(options.config or "own").stem
            cache_compilations()
            require_same("arguments", f"{config} {_common(options)}")
            with use_mesh(config.mesh.batch, config.mesh.time):
                command(Arguments(options, config))
    except SDAError as error:
        print(f"{name}error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"{name}error: {error}. Check the disk; what was finished before is kept.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}interrupted; what was finished is kept", file=sys.stderr)
        return 130
    return 0


def _common(options: argparse.Namespace) -> dict[str, Any]:
    """The options that several processes have in common."""
    return {k: v for k, v in vars(options).items() if k != "process"}


@contextlib.contextmanager
def _quiet() -> Generator[None, None, None]:
    """Of several processes only the first prints."""
    if is_process_zero():
        yield
        return
    with (
        open(os.devnull, "w") as null,
        contextlib.redirect_stdout(null),
        contextlib.redirect_stderr(null),
    ):
        yield


@contextlib.contextmanager
def _lost_processes() -> Generator[None, None, None]:
    """Makes a message of the runtime's error that shows in others when a process is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        message = str(error).partition("\n")[0]
        raise ProcessError("processes", message, "all of them to be there", REMEDY) from error


def described(config: Experiment, **given: Any) -> dict[str, Any]:
    """What makes a run what it is: the experiment, however many devices share it, and what else the
    command was told."""
    return {"experiment": dataclasses.replace(config, mesh=Mesh()), **given}


def the_prior(config: Experiment, output: Path) -> Prior:
    """The prior that the config names, or the one that `train` left in `output`.

    Raises:
        ConfigError: Its states are not the system's.
    """
    own = (config.system, config.network, config.schedule, config.parameterisation)
    path = config.prior if config.prior is not None else output / "prior"
    prior = load_prior(path, components=[type(part) for part in own])
    if config.system is None:
        return prior
    *space, channels = config.system.state_shape
    if prior.state_shape != (expected := (*space, channels - config.context)):
        raise ConfigError(
            "prior",
            f"states of shape {prior.state_shape}",
            f"{expected}, as the system's",
            "Use a prior of the system's resolution, or change the system.",
        )
    return prior


def the_case(config: Experiment, name: str) -> Case:
    """The configured case of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in config.cases:
        raise ConfigError("case", repr(name), f"one of {sorted(config.cases)}", "Choose one.")
    return config.cases[name]


class TestCase(NamedTuple):
    """A test: a true trajectory, its observation, and keys for what follows.

    Where a case imposes y, the truth is a simulation that y does not come from. The context is
    None or that of the truth.
    """

    truth: Array
    observation: Observation
    assimilation: PRNGKey
    reference: PRNGKey
    context: Array | None = None


def draw_case(config: Experiment, name: str, index: int = 0) -> TestCase:
    """The index-th test of a case, fixed by the config's seed."""
    case = the_case(config, name)
    key = jax.random.fold_in(stream(config.seed, "cases"), zlib.crc32(name.encode()))
    keys = jax.random.split(jax.random.fold_in(key, index), 4)
    truth, context = with_context(simulate(keys[0], config.system, case.length), config.context)
    std = case.std if case.noise is None else None
    observation = observe(keys[1], truth, case.operator, std=std, noise=case.noise)
    if case.imposed is not None:
        observation = dataclasses.replace(observation, y=jnp.full_like(observation.y, case.imposed))
    return TestCase(truth, observation, keys[2], keys[3], context)


def of_file(test: TestCase, prior: Prior, path: str) -> TestCase:
    """The draw's keys with a file's observation; nothing is known of the truth and its context, for
    which a trajectory of zeros stands.

    Raises:
        ConfigError: The prior asks for a context, which no such file has.
    """
    if prior.context is not None:
        raise ConfigError(
            "--observation",
            path,
            "none: this prior asks for a context, which the file does not have",
            "Call sda_jax.assimilate with context=.",
        )
    observation, length = load_observation(path)
    unknown = jnp.zeros((length, *prior.state_shape))
    return test._replace(observation=observation, truth=unknown, context=None)


def asked(prior: Prior, test: TestCase, settings: Assimilation) -> dict[str, Any]:
    """What `assimilate` and `assimilate_to_file` are to be called with."""
    return {
        "key": test.assimilation,
        "prior": prior,
        "observation": test.observation,
        "length": len(test.truth),
        "samples": settings.samples,
        "guidance": settings.guidance,
        "sampler": settings.sampler,
        "chunk": settings.chunk,
        "window_chunk": settings.window_chunk,
        "window_stride": settings.window_stride,
        "context": test.context,
    }


def posterior(
    prior: Prior,
    test: TestCase,
    settings: Assimilation,
    progress: bool = False,
) -> Float[np.ndarray, "samples length *state"]:
    """The ensemble that the configured settings draw."""
    return whole(assimilate(**asked(prior, test, settings), progress=progress))
