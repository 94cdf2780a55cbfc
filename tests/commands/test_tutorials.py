"""The tutorials run as they are written, but for less training and fewer steps."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(python|console)(?: file=(\S+))?\n(.*?)^```$", re.M | re.S)
# fewer steps, the same commands
QUICK = {
    "train": "--training.steps 4 --training.block 2 --training.batch 4 "
    "--training.validation-batches 1 --training.checkpoint-every 4",
    "assimilate": "--assimilation.sampler.steps 2 --assimilation.samples 4",
}
LESS = [
    (r"--training\.steps \d+", ""),
    (r"--assimilation\.samples \d+", ""),
    (r"trajectories=256", "trajectories=6"),
    (r"4096, 64\)", "256, 8)"),
    (r"samples=\d+", "samples=8"),
    (r"dataset\(8000,", "dataset(900,"),
]


def shortened(text):
    for pattern, less in LESS:
        text = re.sub(pattern, less, text)
    return text


def command(line):
    words = shlex.split(line)
    assert words[0] == "sda-jax", line
    return [sys.executable, "-m", "sda_jax.cli.main", *words[1:], *QUICK.get(words[1], "").split()]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda p: p.stem)
def test_a_tutorial_runs(page, tmp_path):
    blocks = [(k, n, shortened(t)) for k, n, t in BLOCK.findall(page.read_text())]
    assert blocks
    told, run = [], 0  # Python blocks go on from each other
    for kind, name, text in [*blocks, ("console", "", "")]:
        if name:
            (tmp_path / name).write_text(text)
        elif kind == "python":
            told.append(text)
        else:
            if len(told) > run:
                _run([sys.executable, "-c", "\n".join(told)], tmp_path)
                run = len(told)
            for line in text.splitlines():
                if line.startswith("$ "):
                    _run(command(line[2:]), tmp_path)


def _run(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{words[-1][-500:]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Warning" not in done.stderr, done.stderr[-2000:]
