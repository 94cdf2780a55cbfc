"""Commands that are killed at random moments, gone on with, end as if nothing had happened."""

import contextlib
import random
import signal
import time

import numpy as np
import pytest
from launch import finish, results, start, start_two, write_config

pytestmark = pytest.mark.slow
SIZES = {"levels": 48, "trajectories": 200, "steps": 400}
ORDER = ("simulate", "train", "assimilate")
GROWING = {"simulate": "data.h5.parts", "train": "train", "assimilate": "lo"}
OPTIONS = {"simulate": (), "train": (), "assimilate": ("--save-every", 4)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    config = write_config(folder, **SIZES)
    for command in ORDER:
        finish(start(command, config, folder / "out", *OPTIONS[command]))
    return config, results(folder / "out")


def state_of(folder):
    found = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            found.add((path, path.stat().st_size))
    return found


def kill_at_work(processes, victim, folder, moments, how, wait=True):
    """Ends the victim once it has written something, after a random while; whether it was at
    work. The others end by themselves, or are ended too."""
    before, began = state_of(folder), time.monotonic()
    while state_of(folder) == before and victim.poll() is None:
        assert time.monotonic() - began < 300
        time.sleep(0.01)
    time.sleep(moments.uniform(0.0, 0.5))
    at_work = victim.poll() is None
    victim.send_signal(how)
    for process in processes:
        if not wait:
            process.kill()
        process.communicate(timeout=300)
    assert not at_work or any(p.returncode != 0 for p in processes)
    return at_work


def disturbed(config, output, kills, mesh=None):
    """All commands, each killed that often; how many kills met one at work."""
    moments, met = random.Random(0), 0
    for command in ORDER:
        arguments = (*OPTIONS[command], *(mesh[command] if mesh else ()))

        def begin(command=command, arguments=arguments):
            if mesh:
                return start_two(command, config, output, *arguments)
            return [start(command, config, output, *arguments)]

        for i in range(kills):
            processes = begin()
            victim = processes[i % len(processes)]
            how = (signal.SIGKILL, signal.SIGTERM)[i // len(processes) % 2]
            met += kill_at_work(processes, victim, output / GROWING[command], moments, how)
        finish(*begin())
    return met


def assert_same(found, expected, tolerance=0.0):
    assert sorted(found) == sorted(expected) == ["data", "posterior", "weights"]
    for name, numbers in expected.items():
        size = np.abs(numbers).max()
        np.testing.assert_allclose(
            found[name], numbers, rtol=0, atol=tolerance * size, err_msg=name
        )


def test_killed_ten_times_each(undisturbed, tmp_path, record_property):
    config, expected = undisturbed
    met = disturbed(config, tmp_path, 10)
    assert met >= 20
    assert_same(results(tmp_path), expected)
    record_property("kills, all gone on from", met)


MESH = {
    "simulate": ("--mesh.batch", 4),
    "train": ("--mesh.batch", 4),
    "assimilate": ("--mesh.batch", 2, "--mesh.time", 2),
}


def test_one_of_two_processes_killed(undisturbed, tmp_path, record_property):
    """The other ends by itself, and both go on. Sums are in another order than on one device."""
    config, expected = undisturbed
    met = disturbed(config, tmp_path, 2, MESH)
    assert met >= 4
    assert_same(results(tmp_path), expected, 5e-3)
    record_property("kills, all gone on from", met)


def test_a_run_goes_on_with_other_devices_and_processes(undisturbed, tmp_path):
    """Two processes, one of which is killed; then one process with one device."""
    config, expected = undisturbed
    for command in ORDER:
        arguments = (*OPTIONS[command], *MESH[command])
        both = start_two(command, config, tmp_path, *arguments)
        folder = tmp_path / GROWING[command]
        kill_at_work(both, both[1], folder, random.Random(1), signal.SIGKILL, wait=False)
        finish(start(command, config, tmp_path, *OPTIONS[command]))
    assert_same(results(tmp_path), expected, 5e-3)
