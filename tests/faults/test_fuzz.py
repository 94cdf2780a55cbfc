"""Inputs made up by hypothesis: accepted, or refused by an error of this package that says why.
Nothing else comes out, no code in a data file runs, no file appears outside the output folder."""

import copy
import json
import os
import sys

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sda_jax as sda
from sda_jax.cli.assimilate import main
from sda_jax.core._errors import SDAError
from sda_jax.core._json import dumps, encode, loads
from sda_jax.core._registry import registry
from sda_jax.experiment._config import Experiment, load_config, override
from sda_jax.observations._files import load_observation
from sda_jax.posterior._arguments import check_observation
from sda_jax.prior._folder import description_digest
from sda_jax.prior._loading import load_prior
from sda_jax.prior._saving import save_prior
from sda_jax.runtime._hdf5 import write_hdf5

NUMBERS = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats()
NAMES = st.sampled_from([*sorted(registry()), "os.system", "__import__", "eval", "object", ""])
WORDS = st.text(max_size=12) | NAMES
TYPED = st.fixed_dictionaries({"type": NAMES}, optional={"n": NUMBERS, "of": NUMBERS})
ANY = st.recursive(
    NUMBERS | WORDS | TYPED,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(WORDS, inner, max_size=4)
        | st.fixed_dictionaries({"type": NAMES, "of": inner})
    ),
    max_leaves=8,
)


def changed(draw, tree):
    """A JSON tree with something anywhere in it replaced, removed or added."""
    tree = copy.deepcopy(tree)
    at, path = tree, []
    while isinstance(at, (dict, list)) and at and (not path or draw(st.booleans())):
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        path.append((at, key))
        at = at[key]
    parent, key = path[-1]
    how = draw(st.sampled_from(["replace", "remove", "add"]))
    if how == "remove":
        del parent[key]
    elif how == "add" and isinstance(parent, dict):
        parent[draw(WORDS)] = draw(ANY)
    else:
        parent[key] = draw(ANY)
    return tree


class Audit:
    """What the interpreter does that data must never make it do."""

    def __init__(self):
        self.watching, self.seen = False, []
        sys.addaudithook(self.note)

    def note(self, event, arguments):
        if self.watching and event in (
            "exec",
            "os.system",
            "subprocess.Popen",
            "pickle.find_class",
        ):
            self.seen.append((event, arguments))


AUDIT = Audit()


def refused(function, *arguments):
    """Whether the arguments are refused; any other exception passes through."""
    try:
        function(*arguments)
    except SDAError as error:
        assert error.argument and error.remedy
        return True
    return False


def operators(count):
    examples = [
        sda.Every(2, sda.Channels((0,))),
        sda.At(-1, sda.Chain((sda.Vorticity(), sda.Ring()))),
        sda.Every(3, sda.Chain((sda.Coarsen(2), sda.Crop(4), sda.Saturate()))),
    ]

    @settings(max_examples=count, deadline=None)
    @given(st.data())
    def run(data):
        tree = encode(data.draw(st.sampled_from(examples)))
        tree = json.loads(json.dumps(tree)) if data.draw(st.booleans()) else data.draw(ANY)
        if isinstance(tree, dict) and tree:
            tree = changed(data.draw, tree)
        text = json.dumps(tree)
        AUDIT.seen.clear()
        refused(loads, text[: data.draw(st.integers(0, len(text)))], registry())
        AUDIT.watching = True
        refused(loads, text, registry())
        AUDIT.watching = False
        assert not AUDIT.seen

    run()


def observations(count, folder):
    prior, path = sda.load_prior("lorenz63"), folder / "observation.h5"
    shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
    arrays = st.tuples(shapes, st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, 1e30]))

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data):
        with write_hdf5(path, "observation") as file:
            for name in data.draw(st.sets(st.sampled_from(["y", "std", "covariance", "other"]))):
                shape, value = data.draw(arrays)
                kind = data.draw(st.sampled_from(["f4", "f8", "i4", "S3"]))
                file[name] = np.full(shape, value if kind[0] == "f" else 1).astype(kind)
            if data.draw(st.booleans()):
                file["noise"] = json.dumps(data.draw(ANY))
            operator = (
                dumps(sda.Every(2)) if data.draw(st.booleans()) else json.dumps(data.draw(ANY))
            )
            for name, value in (("operator", operator), ("length", data.draw(NUMBERS))):
                if value is not None and data.draw(st.booleans()):
                    file.attrs[name] = value

        def use():
            observation, length = load_observation(path)
            if length < 100:
                check_observation(prior, observation, length)

        refused(use)

    run()


def priors(count, folder):
    path = save_prior(folder / "prior", sda.load_prior("lorenz63"))
    whole = json.loads((path / "prior.json").read_text())

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data):
        tree = changed(data.draw, whole)
        signed = data.draw(st.booleans())
        if signed:
            tree["description_sha256"] = description_digest(tree)
        (path / "prior.json").write_text(json.dumps(tree))
        unchanged = {k: v for k, v in tree.items() if k != "notes"} == {
            k: v for k, v in whole.items() if k != "notes"
        }
        assert refused(load_prior, path) or signed or unchanged

    run()


def configs(count):
    config = Experiment(sda.Lorenz63(), None)
    fields = ["--training.steps", "--data.source", "--mesh.batch", "--cases.lo.std", "--seed"]
    fields += [
        "--assimilation.sampler.alone.sampler.grid",
        "--window",
        "--system.dt",
        "--prior",
        "--x",
        "-h",
        "-",
    ]

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(fields) | WORDS | NUMBERS.map(str), max_size=5))
    def run(arguments):
        try:
            refused(override, config, arguments)
        except SystemExit as ended:
            assert ended.code in (0, 2)

    run()


def test_operators():
    operators(300)


def test_observations(tmp_path):
    observations(100, tmp_path)


def test_priors(tmp_path):
    priors(100, tmp_path)


def test_overrides(capsys):
    configs(60)


@pytest.mark.slow
def test_thousands(tmp_path, capsys, record_property):
    operators(3000)
    observations(3000, tmp_path)
    priors(3000, tmp_path)
    configs(3000)
    record_property("inputs made up, each taken or refused by name", 12000)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=8) | st.sampled_from(["../out", "/tmp/x", "lo/..", "."]))
def test_no_path_leaves_the_output_folder(whole, tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("paths")
    before = sorted(os.listdir(folder.parent))
    arguments = ["--config", str(whole[0]), "--output", str(folder / "out")]
    status = main([*arguments, "--prior", str(whole[1] / "prior"), f"--case={name}"])
    assert status == (0 if name == "lo" else 2)
    assert not list(folder.iterdir()) or name == "lo"
    assert sorted(os.listdir(folder.parent)) == before


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_config_files(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_bytes(contents)
    assert refused(load_config, path)


def test_a_file_that_is_hdf5_and_nothing_else(tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    assert refused(load_observation, path)
