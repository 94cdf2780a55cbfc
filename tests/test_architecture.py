"""The architecture page, the imports and the README agree with the code."""

import ast
import inspect
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from sda_jax.core._registry import known_names, registry

PACKAGE = ROOT / "sda_jax"


def documented_order() -> list[str]:
    page = (ROOT / "docs" / "architecture.md").read_text()
    return re.findall(r"^\| `([a-z]+)/` \|", page, flags=re.M)


def top(path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path) -> set[str]:
    """Package modules that a file imports, by their first part."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "sda_jax":
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sda_jax."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("sda_jax.")}
    return found


def test_the_page_lists_every_folder():
    real = {p.name for p in PACKAGE.iterdir() if p.is_dir()} - {"__pycache__"}
    listed = documented_order()
    assert set(listed) == real and len(listed) == len(real)


def test_imports_point_up_the_page():
    order = documented_order()
    for path in PACKAGE.rglob("*.py"):
        name = top(path)
        if name == "__init__":
            continue
        for other in imports(path):
            assert order.index(other) <= order.index(name), f"{path} imports {other}"


def test_flax_stays_in_networks():
    for path in PACKAGE.rglob("*.py"):
        if top(path) != "networks":
            assert not re.search(r"^\s*(import|from) flax", path.read_text(), flags=re.M), path


def test_importing_changes_nothing_global():
    code = (
        "import jax, numpy, matplotlib; before = dict(jax.config.values); "
        "rc = dict(matplotlib.rcParams); import sda_jax, sda_jax.cli.demo; "
        "assert dict(jax.config.values) == before; assert dict(matplotlib.rcParams) == rc"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_figures_do_without_pyplots_global_state():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) .*pyplot", path.read_text(), flags=re.M), path


def test_public_names_are_listed_and_exist():
    import sda_jax

    assert sorted(sda_jax.__all__, key=lambda n: n) == sorted(set(sda_jax.__all__))
    for name in sda_jax.__all__:
        assert getattr(sda_jax, name).__doc__, name


def test_nothing_but_public_names_and_folders_is_visible():
    import sda_jax

    folders = set(documented_order()) - {"weights"}
    assert set(dir(sda_jax)) == set(sda_jax.__all__) | folders
    for name in dir(sda_jax):
        assert getattr(sda_jax, name) is not None


def test_modules_inside_folders_have_private_names():
    """So that no name is function and module at once; the commands' are their names."""
    for path in PACKAGE.rglob("*.py"):
        if top(path) not in ("__init__", "cli"):
            assert path.name.startswith("_"), path


def test_folders_export_what_they_list():
    import importlib

    registered = []
    for folder in set(documented_order()) - {"weights", "cli"}:
        module = importlib.import_module(f"sda_jax.{folder}")
        assert len(module.__all__) == len(set(module.__all__))
        for name in module.__all__:
            assert getattr(module, name) is not None, (folder, name)
        assert dir(module) == sorted(module.__all__)
        registered += vars(module).get("COMPONENTS", [])
        with pytest.raises(AttributeError, match=f"'sda_jax.{folder}' has no attribute 'absent'"):
            module.absent  # noqa: B018
    assert set(registered) == set(registry()) == known_names()
    assert len(registered) == len(set(registered))


def test_keys_come_first():
    """Of every public function that takes one."""
    import sda_jax

    for name in sda_jax.__all__:
        function = getattr(sda_jax, name)
        if inspect.isfunction(function):
            names = list(inspect.signature(function).parameters)
            assert "key" not in names[1:], name


def test_no_component_is_probed_for_attributes():
    """Protocols say what a part must have; `hasattr` would hide one more contract."""
    for path in PACKAGE.rglob("*.py"):
        assert "hasattr(" not in path.read_text(), path


def test_benchmarks_and_library_do_not_import_the_commands():
    for path in [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "configs").glob("*.py")]:
        assert "cli" not in imports(path), path


@pytest.mark.parametrize("samples", [8, pytest.param(256, marks=pytest.mark.slow)])
def test_the_readme_example_runs(samples):
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.S)
    assert blocks
    code = "\n".join(blocks)
    if samples != 256:  # fewer members and steps, and not the population that the demo's test draws
        few = f"samples={samples}, sampler=sda.PredictorCorrector(4)"
        assert "samples=256" in code
        code = code.replace("samples=256", few)
    code += f"\nassert ensemble.shape == ({samples}, 65, 3), ensemble.shape\n"
    # the few are compiled for longer than they are computed
    hardly = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} if samples != 256 else {}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=os.environ | hardly)
