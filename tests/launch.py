"""Small experiments run as commands, in one process or several."""

import os
import socket
import subprocess
import sys

import h5py
import numpy as np
from conftest import ROOT
from safetensors.numpy import load_file

CONFIG = """
import sda_jax as sda
from sda_jax.experiment._config import Assimilation, Case, Data, Experiment
from sda_jax.networks import TemporalConv
from sda_jax.prior._training import Training
from sda_jax.runtime import Memory

sampler = sda.PredictorCorrector(
    {levels}, sda.LogSNR(), sda.ExponentialIntegrator(), sda.Langevin(1, 0.1)
)
config = Experiment(
    system=sda.VectorAutoregression(),
    network=TemporalConv(width=8, dilations=(1, 2)),
    data=Data("stored", {trajectories}, 32, 4),
    training=Training(
        steps={steps}, batch=8, segment=16, block=5, checkpoint_every=5, validation_batches=1
    ),
    cases={{"lo": Case(16, sda.Every(2), 0.3)}},
    assimilation=Assimilation(8, Memory(4), sampler=sampler),
)
"""


def write_config(folder, levels=8, trajectories=8, steps=10):
    path = folder / "config.py"
    path.write_text(CONFIG.format(levels=levels, trajectories=trajectories, steps=steps))
    return path


LIMITED = """
import resource, runpy, sys
kind, size = getattr(resource, sys.argv[1]), int(sys.argv[2])
resource.setrlimit(kind, (size, size))
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def environment(devices):
    """Of a process that sees so many CPU devices."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "3"}


def start(command, config, output, *arguments, devices=1, limit=()):
    """A command as a process of its own, `limit` being a resource's name and how much there is."""
    script = ROOT / "scripts" / f"{command}.py"
    given = ["--config", config, "--output", output, *map(str, arguments)]
    return subprocess.Popen(
        [sys.executable, *(["-c", LIMITED, *map(str, limit)] if limit else []), script, *given],
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(command, config, output, *arguments, own=None):
    """The same in two processes with two devices each; `own` is an option that is given each
    one's number."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    given = ("--coordinator", f"localhost:{port}", "--processes", 2, "--process")
    return [
        start(command, config, output, *arguments, *given, i, *([own, i] if own else ()), devices=2)
        for i in range(2)
    ]


def finish(*processes):
    """Waits for processes that must end well; what each printed."""
    printed = [p.communicate(timeout=600) for p in processes]
    for process, (_, errors) in zip(processes, printed, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [out for out, _ in printed]


def results(output):
    """The numbers that the commands left in a folder: data, weights, posterior."""
    found = {}
    if (output / "data.h5").exists():
        with h5py.File(output / "data.h5") as file:
            found["data"] = np.concatenate([file[f"{s}/x"][:] for s in ("train", "valid", "test")])
    if (output / "prior").exists():
        weights = load_file(output / "prior" / "weights.safetensors")
        found["weights"] = np.concatenate([weights[name].ravel() for name in sorted(weights)])
    if (output / "lo" / "posterior.h5").exists():
        with h5py.File(output / "lo" / "posterior.h5") as file:
            found["posterior"] = file["ensemble"][:]
    return found
