"""What an experiment is made of, and how a config file becomes one."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from sda_jax.core._errors import ConfigError, require_at_least, require_choice
from sda_jax.core._paths import require_path
from sda_jax.data._files import Files
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.diffusion._schedules import Cosine
from sda_jax.observations._operators import Channels, Every
from sda_jax.posterior._presets import PRESETS
from sda_jax.prior._training import Training
from sda_jax.runtime._devices import Mesh
from sda_jax.runtime._memory import Memory


@dataclass(frozen=True)
class Data:
    """Training data.

    Attributes:
        source: "simulator" for fresh segments from running simulations, "replay" for a buffer on
            the device that the running simulator refreshes, "stored" for a set in a file
            (`simulate` writes it), "files" for trajectories of your own.
        trajectories: Of the stored set, split 80/10/10, or of the buffer.
        length: States of each.
        chunk: Trajectories simulated at once; None for as many as fit the memory.
        refresh: Steps of training for each refreshed trajectory of the buffer.
        files: Your own, with the source "files".
    """

    source: str = "simulator"
    trajectories: int = 1024
    length: int = 1024
    chunk: int | None = None
    refresh: int = 16
    files: Files = Files()

    def __post_init__(self) -> None:
        require_choice("data.source", self.source, ("simulator", "replay", "stored", "files"))


@dataclass(frozen=True)
class Case:
    """A kind of observation.

    Attributes:
        length: States of the trajectory.
        operator: A component on physical trajectories.
        std: Of Gaussian noise, in physical units.
        imposed: A value that every element of y is given, where nothing is observed but a property
            asked for; None for an observation of a simulated truth.
        noise: Instead of std, a noise model; see `sda_jax.observations.NoiseModel`.
    """

    length: int = 65
    operator: Any = Every(8, Channels((0,)))
    std: float = 0.4
    imposed: float | None = None
    noise: Any = None


@dataclass(frozen=True)
class Assimilation:
    """How posteriors are sampled.

    Attributes:
        samples: Members.
        memory: How much is computed at once.
        guidance, sampler: Components; by default those for Lorenz, whatever the prior. States of
            files are drawn by the default of `presets(prior, observation, length)` where neither is
            another.
    """

    samples: int = 256
    memory: Memory = Memory(32)
    guidance: Any = PRESETS["default"][0]
    sampler: Any = PRESETS["default"][1]

    @property
    def chosen(self) -> tuple[Any, Any]:
        """Guidance and sampler; None for both where they are the defaults."""
        both = self.guidance, self.sampler
        return (None, None) if both == PRESETS["default"] else both


@dataclass(frozen=True)
class Evaluation:
    """How posteriors are compared with the truth.

    Attributes:
        cases: Names of the cases, in order.
        observations: Test observations of each.
        corrections: Corrector steps to try in place of the sampler's own; empty for just that.
        particles: Of the particle smoother.
    """

    cases: tuple[str, ...] = ("lo", "hi")
    observations: int = 8
    corrections: tuple[int, ...] = ()
    particles: int = 32768

    def __post_init__(self) -> None:
        require_at_least("observations", self.observations, 1)
        require_at_least("particles", self.particles, 1)


@dataclass(frozen=True)
class Experiment:
    """Everything that the commands need to know.

    Attributes:
        system: What is simulated; None where the data are your own.
        network: Score network; None for one chosen by the form of your own data.
        window: A local network's window, 2k + 1; None for one that takes any length.
        context: How many of the data's last channels are context: known to the network and never
            sampled (parameters, static fields, the season).
        schedule: Noise schedule.
        parameterisation: What the network's output means.
        data: Where training segments come from.
        training: Optimiser and budget.
        start: A shipped prior's name or a folder whose weights training starts from; None for
            random ones.
        prior: A shipped prior's name or a folder, used in place of this experiment's own.
        cases: The kinds of observation, by name.
        assimilation: Guidance and sampler.
        evaluation: What is compared with the truth.
        mesh: Devices that share the work.
        seed: Of everything.
    """

    system: Any = None
    network: Any = None
    window: int | None = None
    context: int = 0
    schedule: Any = Cosine()
    parameterisation: Any = Preconditioned()
    data: Data = Data()
    training: Training = Training()
    start: str | None = None
    prior: str | None = None
    cases: dict[str, Case] = field(default_factory=dict)
    assimilation: Assimilation = Assimilation()
    evaluation: Evaluation = Evaluation()
    mesh: Mesh = Mesh()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window is not None and self.training.segment != self.window:
            raise ConfigError(
                "training.segment",
                self.training.segment,
                f"the window, {self.window}: a local network learns windows",
                "Set both to 2k + 1.",
            )


def require_experiment(experiment: Any, expected: str = "an Experiment") -> None:
    """Raises `ConfigError` unless `experiment` is one."""
    if not isinstance(experiment, Experiment):
        raise ConfigError("experiment", f"a {type(experiment).__name__}", expected, "Make one.")


def load_config(path: str | Path) -> tuple[Experiment, str]:
    """Runs a config file, a Python file that sets `config`, and gives it with its docstring.

    It may import its neighbours.

    Raises:
        ConfigError: No such file, it fails, or it sets no Experiment.
    """
    path = require_path("path", path)
    if not path.is_file():
        raise ConfigError("--config", path, "a Python file", "Check the path.")
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        found = runpy.run_path(str(path))
    except Exception as error:
        raise ConfigError(
            "--config", path, "a file that runs", f"It raised {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(str(path.parent.absolute()))
    config = found.get("config")
    if not isinstance(config, Experiment):
        raise ConfigError("--config", path, "a file that sets config = Experiment(...)", "Set it.")
    return config, found.get("__doc__") or ""


def override(config: Experiment, arguments: list[str], description: str = "") -> Experiment:
    """`config` with fields replaced by typed command-line arguments (`--training.steps 100`).

    Unknown fields and values of the wrong type end the program with a message that suggests the
    nearest field.
    """
    return tyro.cli(
        Experiment,
        default=config,
        args=arguments,
        description=description,
        config=(tyro.conf.AvoidSubcommands,),
    )
