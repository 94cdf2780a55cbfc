"""What the commands share: arguments, and errors as messages.

A command's module imports the pipeline where it runs, so that --help does not wait for JAX.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from sda_jax.core._errors import ProcessError, SDAError
from sda_jax.core._registry import classes_in, import_components, registry
from sda_jax.runtime._claims import leave_bare
from sda_jax.runtime._processes import (
    REMEDY,
    is_process_zero,
    join,
    process_index,
    require_same,
)

if TYPE_CHECKING:
    from sda_jax.experiment._config import Experiment

LOCALE = (
    "%s: this locale has no such characters in names of files. Set PYTHONUTF8=1 or LC_ALL=C.UTF-8."
)


def take_all_characters() -> None:
    """Lets the output take every character: bytes of names as they are, and what its encoding has
    not as an escape."""
    codecs.register_error("sda_jax", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="sda_jax")


def _escaped(error: Any) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


class Arguments(NamedTuple):
    """What a command was given.

    Attributes:
        options: Its own.
        config: The experiment.
        components: The user's own classes that files may name: those of --components and those
            that the experiment is made of.
    """

    options: argparse.Namespace
    config: Experiment
    components: tuple[type, ...] = ()


def add_components(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names the user's own classes."""
    parser.add_argument(
        "--components",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODULE:CLASS",
        help="your own classes that files name, importable or in the working folder",
    )


def _parser(command: str, description: str, config_required: bool) -> argparse.ArgumentParser:
    """What every command takes."""
    parser = argparse.ArgumentParser(
        prog=f"sda-jax {command}",
        description=description,
        epilog="Every field of the config can be set, as in --training.steps 100; "
        "--fields lists them.",
    )
    parser.add_argument("--config", required=config_required, help="config file")
    parser.add_argument(
        "--output", type=Path, default=None, help="folder (default: runs/ and the config's name)"
    )
    parser.add_argument("--fields", action="store_true", help="list the config's fields and exit")
    add_components(parser)
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="join the processes that Slurm, Open MPI, Kubernetes or a TPU pod started",
    )
    group.add_argument("--coordinator", default=None, help="or, all three: host:port of process 0")
    group.add_argument("--processes", type=int, default=None, help="their number")
    group.add_argument("--process", type=int, default=None, help="which one this is, from 0")
    return parser


def nothing_but_files() -> Experiment:
    """The experiment of a command that is given no config."""
    from sda_jax.experiment._config import Experiment

    return Experiment()


def run(
    command: FunctionType,
    description: str,
    arguments: list[str] | None = None,
    default: Callable[[], Experiment] | None = None,
    add_options: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
    name: str = "files",
) -> int:
    """Parses the command line, runs `command` and turns expected errors into messages.

    Args:
        command: What to do.
        description: For --help.
        arguments: The command line; None for the process's own.
        default: Gives the experiment if --config is not given; None makes it required.
        add_options: Adds the command's own options.
        name: Of the default's output folder below runs/.

    Returns:
        The exit status: 0, or 2 after an error of this package.
    """
    take_all_characters()
    parser = _parser(command.__name__, description, config_required=default is None)
    add_options(parser)
    options, rest = parser.parse_known_args(arguments)
    from sda_jax.experiment._config import load_config, override
    from sda_jax.runtime._compilations import cache_compilations
    from sda_jax.runtime._devices import use_mesh

    process = ""
    try:
        where = (options.coordinator, options.processes, options.process)
        if options.distributed or any(w is not None for w in where):
            join(*where)
            process = f"process {process_index()}: "
        with _quiet(), _lost_processes():
            if options.config is None and default is not None:
                config, doc = default(), ""
            else:
                config, doc = load_config(options.config)
            config = override(config, ["--help"] if options.fields else rest, doc)
            components = (*import_components(options.components), *classes_in(config))
            registry(components)  # two classes of one name are refused before anything is done
            if options.output is None:
                options.output = Path("runs") / Path(options.config or name).stem
            cache_compilations()
            require_same("arguments", f"{config} {_common(options)}")
            with use_mesh(config.mesh.batch, config.mesh.time, config.mesh.space):
                command(Arguments(options, config, components))
    except SDAError as error:
        leave_bare()
        print(f"{process}error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # of standard output: the command's, which ends
        raise
    except OSError as error:
        print(
            f"{process}error: {error}. Check the disk; what was finished before is kept.",
            file=sys.stderr,
        )
        return 2
    except UnicodeEncodeError as error:
        print(f"{process}error: {LOCALE % ascii(error.object)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{process}interrupted; what was finished is kept", file=sys.stderr)
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
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        message = str(error).partition("\n")[0]
        raise ProcessError("processes", message, "all of them to be there", REMEDY) from error
