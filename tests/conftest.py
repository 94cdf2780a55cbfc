"""Programs are compiled quickly, and kept between test runs."""

import fcntl
import gc
import os
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent

# a test compiles more than it computes; read at the first compilation, by subprocesses too
FLAGS = "--xla_backend_optimization_level=1"
if jax.__version_info__ < (0, 11):  # which does not know it, and ends the process
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}"
# tracing makes many objects that stay, which were looked through again and again
gc.set_threshold(100_000, 50, 50)
SECONDS = 0.0  # of compilation, from which a program is kept: all are


def pytest_configure(config):
    if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
        # a core for each worker: they took turns on both, and compiled on four threads
        cores = sorted(os.sched_getaffinity(0))
        own = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        os.sched_setaffinity(0, {cores[own % len(cores)]})
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "sda_jax" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(SECONDS))
    jax.config.update("jax_compilation_cache_dir", folder)


# files of tests by the time they take, so that no worker ends on a long one
LONGEST = [
    "test_limits", "test_population", "test_own", "test_config", "test_train", "test_mesh",
    "test_architecture", "test_assimilate", "test_series", "test_spectral", "test_stream",
    "test_tiles", "test_candidates", "test_driver", "test_networks",
    "test_predictors_correctors", "test_report", "test_components", "test_samplers",
    "test_train_prior", "test_smc", "test_guidance",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    rank = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def optimise(node):
    """Programs compiled from here on are hardly optimised where the closest mark says so, which is
    returned; with `compiles(False)` a test of a file that is marked is left out."""
    closest = node.get_closest_marker("compiles")
    hardly = closest is not None and closest.args != (False,)
    jax.config.update("jax_disable_most_optimizations", hardly)
    return hardly


@pytest.fixture(autouse=True)
def optimised(request):
    optimise(request.node)


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    """Let go of programs after a file when they are many: they would exhaust a process's memory
    maps, of which Linux allows 65,530. And when they are not those that other files would compile.
    """
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS)  # commands set another
    hardly = optimise(request.node)
    sys.modules.pop("mine", None)  # a user's module, another in each file of tests
    yield
    maps = Path("/proc/self/maps")
    if hardly or not maps.exists() or maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    """What a file's tests wrote and imported is not the next file's."""
    yield
    written = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        if str(vars(module).get("__file__")).startswith(written):
            del sys.modules[name]


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A config file and the folder with what the three commands write, made once for all workers;
    not to be changed."""
    from launch import write_config

    from sda_jax.cli import assimilate, simulate, train

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "whole"
    with open(shared / "whole.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            # by the programs of commands in processes of their own, of which bits are compared
            jax.config.update("jax_disable_most_optimizations", False)
            jax.clear_caches()
            folder.mkdir(exist_ok=True)
            given = ["--config", str(write_config(folder)), "--output", str(folder / "out")]
            for command in (simulate, train, assimilate):
                assert command.main(given) == 0
            (folder / "made").touch()
    return folder / "config.py", folder / "out"
