"""Commands whose reader leaves, and JAX's debugging of NaN."""

import os
import subprocess
import sys

import numpy as np
import pytest

from sda_jax.core._errors import ResourceError
from sda_jax.data._layout import Channel, Layout
from sda_jax.experiment._files import ObservationFiles


@pytest.mark.parametrize("arguments", ["inspect lorenz63 kolmogorov", "train --fields"])
def test_a_reader_that_leaves_ends_a_command_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sda_jax.cli.main", *arguments.split()]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


MISSING = """
import jax
import numpy as np
import sda_jax as sda
key, system = jax.random.key(0), sda.Lorenz63(spinup=0)
truth = sda.simulate(key, system, length=9)
seen = sda.observe(key, truth, lambda x: x[::8, :1], std=0.4)
gap = sda.Observation(np.array([[1.0], [np.nan]]), lambda x: x[::8, :1], std=0.4)
both = sda.combine(seen, gap)
assert int(both.observed.sum()) == 3
sda.diagnose(both, truth[None])
"""


def test_missing_values_pass_jax_debugging_of_nan():
    environment = os.environ | {"JAX_DEBUG_NANS": "1"}
    command = [sys.executable, "-c", MISSING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("calendar, end", [("standard", "9999-12-31"), ("360_day", "9999-12-30")])
def test_ends_that_no_memory_holds_are_foreseen(monkeypatch, calendar, end):
    """Before the times of all states are laid out."""
    from sda_jax.runtime import _memory as memory

    monkeypatch.setattr(memory, "free_bytes", lambda: 2**30)
    layout = Layout((Channel("t"),), step=60.0, calendar=calendar)
    files = ObservationFiles(start="2020-01-01", end=end)
    with pytest.raises(ResourceError, match="memory: got a trajectory of .*earlier --end"):
        files.period(layout)
    length = ObservationFiles(start="2020-01-01", length=10**12)
    with pytest.raises(ResourceError, match="memory: got a trajectory of 1000000000000 states"):
        length.period(layout)
    near = ObservationFiles(start="2020-01-01", end="2020-01-01T01:00")
    assert near.period(layout) == (layout.number("2020-01-01", "start"), 61)
    assert np.isfinite(near.period(layout)[0])
