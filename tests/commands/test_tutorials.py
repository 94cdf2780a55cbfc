"""The tutorials run as they are written, but for less training and fewer steps."""

import re
import shlex

import pytest
from conftest import ROOT

from sda_jax.cli.main import main
from sda_jax.core._errors import EnsembleWarning

pytestmark = pytest.mark.compiles
TUTORIALS = [*sorted((ROOT / "docs" / "tutorials").glob("*.md")), ROOT / "docs" / "extending.md"]
# which take long to compile
MINUTES = {"weather", "lorenz", "own_netcdf", "choosing", "own_ode", "own_operator", "extending"}
PAGES = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in MINUTES else [])
    for page in TUTORIALS
]
BLOCK = re.compile(r"^```(python|console)(?: file=(\S+))?\n(.*?)^```$", re.M | re.S)
# fewer steps, the same commands
QUICK = {
    "train": "--training.steps 4 --training.block 2 --training.batch 4 "
    "--training.validation-batches 1 --training.checkpoint-every 4",
    "assimilate": "--assimilation.sampler.search 2 --assimilation.sampler.refinement 2 "
    "--assimilation.sampler.alone.sampler.steps 2 --assimilation.samples 4",
}
LESS = [
    (r"--training\.steps \d+", ""),
    (r"--assimilation\.samples \d+", ""),
    (r"trajectories=256", "trajectories=6"),
    (r"4096, 64\)", "256, 8)"),
    (r"samples=\d+", "samples=8"),
    (r"obs, 33, 16,", "obs, 33, 4,"),
    (r"dataset\(8000,", "dataset(900,"),
    (r"\(\"fast\", \"default\"\)", '("fast",)'),  # the default is drawn with below
    (r"particles=\d+, search=\d+", "particles=2, search=4"),
    (r"(obs, length=33, samples=8)\)", r"\1, sampler=sda.Population(search=2, refinement=2))"),
]


def shortened(text):
    for pattern, less in LESS:
        text = re.sub(pattern, less, text)
    return text


def command(line, quick):
    words = shlex.split(line)
    assert words[0] == "sda-jax", line
    assert main([*words[1:], *quick.get(words[1], "").split()]) == 0, line


@pytest.mark.parametrize("page", PAGES)
def test_a_tutorial_runs(page, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    blocks = BLOCK.findall(page.read_text())
    assert blocks
    names = {}  # Python blocks go on from each other
    quick = QUICK if page.parent.name == "tutorials" else {}  # others are quick as they are
    for kind, name, text in blocks:
        if name:
            (tmp_path / name).write_text(shortened(text))
        elif kind == "python":
            exec(compile(shortened(text), page.name, "exec"), names)
        else:
            for line in text.splitlines():
                if line.startswith("$ "):
                    command(shortened(line[2:]), quick)
    # those that Python shows a user
    hidden = (DeprecationWarning, PendingDeprecationWarning, ResourceWarning)
    hidden += (EnsembleWarning,)  # of fewer steps than the tutorial's
    assert not [str(w.message) for w in recwarn if not issubclass(w.category, hidden)]
