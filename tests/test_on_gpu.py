"""The script for a GPU, rehearsed: every part at a tiny size."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

PARTS = ["throughput", "guidance_cost", "replay", "train"]


@pytest.mark.slow
def test_the_script_for_a_gpu_does_all_and_skips_what_is_done(tmp_path):
    out, script = tmp_path / "out", ROOT / "benchmarks" / "on_gpu.sh"
    environment = os.environ | {"PYTHON": sys.executable}

    def run(seconds):
        command = ["bash", script, str(seconds), str(out), "--tiny"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert run(0).count("no time left") == len(PARTS)
    run(1200)
    assert (out / "done.txt").read_text().split() == PARTS, (out / "log.txt").read_text()
    assert run(1200).count("done before") == len(PARTS)
    files = [path for path in out.iterdir() if path.is_file()]
    assert len(files) <= 8 and all(path.stat().st_size < 16 * 2**20 for path in files)
    assert {"weights.safetensors", "prior.json", "records.tar"} <= {p.name for p in files}
