"""Files whose bytes or JSON were changed at random, of every format that is read: only errors of
this package come out. What is read of a file that was only cut, or that has checksums and was not
signed anew, is what it held."""

import copy
import dataclasses
import functools
import json
import shutil
import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from own import stations, waves

import sda_jax as sda
from sda_jax.core._errors import SDAError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._opening import open_dataset
from sda_jax.data._survey import surveyed
from sda_jax.experiment._describe import describe
from sda_jax.observations._files import load_observation, save_observation
from sda_jax.observations._tables import Points, read_table
from sda_jax.posterior._export import provenance, write_posterior
from sda_jax.posterior._sealing import verify_posterior
from sda_jax.prior._folder import description_digest
from sda_jax.prior._loading import load_prior
from sda_jax.prior._loop import METRICS
from sda_jax.prior._saving import save_prior
from sda_jax.runtime._records import read_records, write_records

ODD = [
    None, True, 0, -1, 10**9, 10**400, 0.5, -1e300, "", "x", "é°\u2028", "NaN", [], {}, [1, 2],
    [[[]]], {"type": "os.system"}, {"id": "pickle"}, {"name": "bytes"}, "\x00",
]  # fmt: skip


def states(path):
    archive = open_archive(Files((str(path),)))
    return [archive.read(i, 0, len(times)).tolist() for i, times in enumerate(archive.times)]


@functools.cache
def layout():
    path = FOLDER.at / "layout.nc"
    data().to_netcdf(path, engine="h5netcdf")
    return open_archive(Files((str(path),))).layout


def data():
    return waves(8, 3, 4)


@functools.cache
def archive(folder):
    data().to_netcdf(folder / "a.nc", engine="h5netcdf")
    return open_archive(Files((str(folder / "a.nc"),)))


FOLDER = SimpleNamespace(at=None)


def table(path):
    rows = read_table(Points(str(path)), layout())
    return [np.asarray(x).tolist() for x in (rows.times, *rows.coordinates, rows.values)]


def prior_of(path):
    loaded = load_prior(path)
    weights = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(loaded)]
    return [str(jax.tree.structure(loaded)), *weights]


def observation_of(path):
    observation, length = load_observation(path)
    return [np.asarray(observation.y).tolist(), repr(observation.operator), length]


def survey_of(path):
    return repr(surveyed(path / "survey.json", archive(FOLDER.at)))


def metrics_of(path):
    describe(path)
    return read_records(path / "metrics.jsonl", METRICS)


def posterior_of(path):
    verify_posterior(path)
    with open_dataset(path) as dataset:
        return dataset.to_dict()


def netcdf3(path):
    data().to_netcdf(path, engine="scipy")


def netcdf4(path):
    packed = {"temp": {"zlib": True, "dtype": "int16", "scale_factor": 0.01, "_FillValue": -1}}
    attributes = provenance("lorenz63", "{}", 0, sda_observations="°C é")
    data().assign_attrs(attributes).to_netcdf(path, engine="h5netcdf", encoding=packed)


def zarr(version):
    return lambda path: data().to_zarr(path, zarr_format=version, consolidated=version == 2)


def csv(path):
    stations(data(), np.random.default_rng(0), 12, times=slice(0, 7))[0].to_csv(path, index=False)


def parquet(path):
    stations(data(), np.random.default_rng(0), 12, times=slice(0, 7))[0].to_parquet(path)


def prior(path):
    save_prior(path, sda.load_prior("lorenz63"))


def observation(path):
    y = np.arange(12, dtype=np.float32).reshape(4, 3)
    save_observation(path, sda.Observation(y, sda.Every(2), 0.5), 8)


def posterior(path):
    states = [x.temp.values[..., None] for x in (data(), 2 * data())]
    said = provenance("lorenz63", "{}", 0, sda_observations="°C é")
    one = dataclasses.replace(layout(), channels=layout().channels[:1], mask=None)
    write_posterior(path, states, 2, one, layout().number("2020-01-01", ""), said)


def kept_survey(path):
    path.mkdir()
    survey_of(path)


def metrics(path):
    path.mkdir()
    line = {"loss": 0.5, "learning_rate": 1e-3, "seconds": 1.0, "validation_loss": 0.4}
    write_records(path / "metrics.jsonl", [{"step": i, **line} for i in (5, 10, 15)])


# how a file is made, how it is read, and which of its files are changed
FORMATS = {
    "NetCDF 3": (netcdf3, states, "a.nc"),
    "NetCDF 4": (netcdf4, states, "a.nc"),
    "Zarr 2": (zarr(2), states, "a.zarr"),
    "Zarr 3": (zarr(3), states, "a.zarr"),
    "CSV": (csv, table, "a.csv"),
    "Parquet": (parquet, table, "a.parquet"),
    "prior": (prior, prior_of, "prior"),
    "posterior, NetCDF": (posterior, posterior_of, "p.nc"),
    "posterior, Zarr": (posterior, posterior_of, "p.zarr"),
    "observation": (observation, observation_of, "observation.h5"),
    "survey": (kept_survey, survey_of, "train"),
    "metrics": (metrics, metrics_of, "train"),
}
# whatever is changed is noticed, or changes nothing
CHECKED = ("observation", "survey", "prior", "posterior, NetCDF", "posterior, Zarr")
FOUND = {"Parquet": (1004, 1060, 1216)}  # seeds that once failed
LEFT_OUT = ("CSV", "metrics")  # of which the lines that are left are a whole file


def bytes_changed(rng, contents):
    """The bytes with one of five things done to them."""
    contents = bytearray(contents)
    place, size = int(rng.integers(len(contents) + 1)), int(rng.integers(1, 17))
    how = int(rng.integers(5))
    if how == 0:
        del contents[place:]
    elif how == 1 and place < len(contents):
        contents[place] ^= 1 << int(rng.integers(8))
    elif how == 2:
        contents[place : place + size] = rng.bytes(size)
    elif how == 3:
        contents[place:place] = rng.bytes(size)
    else:
        del contents[place : place + size]
    return how == 0, bytes(contents)


def tree_changed(rng, tree):
    """JSON with something anywhere in it replaced, removed or added."""
    tree = copy.deepcopy(tree)
    at, path = tree, []
    while isinstance(at, (dict, list)) and at and (not path or rng.random() < 0.7):
        key = list(at)[int(rng.integers(len(at)))] if isinstance(at, dict) else int(
            rng.integers(len(at))
        )  # fmt: skip
        path.append((at, key))
        at = at[key]
    if not path:
        return tree
    parent, key = path[-1]
    value = ODD[int(rng.integers(len(ODD)))]
    how = int(rng.integers(4))
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        parent["added"] = value
    elif how == 2:
        deep = value
        for _ in range(int(rng.choice([3, 150, 900]))):
            deep = [deep]
        parent[key] = deep
    else:
        parent[key] = value
    return tree


def change(rng, path):
    """Changes one of the files at `path`; whether it was only cut, and whether signed anew."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    file = files[int(rng.integers(len(files)))]
    contents = file.read_bytes()
    if contents[:1] == b"{" and file.suffix != ".jsonl" and rng.random() < 0.7:
        tree = tree_changed(rng, json.loads(contents))
        signed = "description_sha256" in tree and rng.random() < 0.8
        if signed:
            tree["description_sha256"] = description_digest(tree)
        file.write_text(json.dumps(tree))
        return False, signed
    cut, contents = bytes_changed(rng, contents)
    file.write_bytes(contents)
    return cut and path.is_file(), False


def campaign(kind, seeds, folder):
    """How many inputs were refused, of those that the seeds make; the others hold what they did,
    where that can be known."""
    make, read, name = FORMATS[kind]
    FOLDER.at, whole, path = folder, folder / "whole" / name, folder / "tried" / name
    whole.parent.mkdir()
    path.parent.mkdir()
    make(whole)
    shutil.copytree(whole.parent, path.parent, dirs_exist_ok=True)
    expected, refused = read(path), 0
    for seed in seeds:
        rng = np.random.default_rng([seed, *kind.encode()])
        shutil.rmtree(path.parent)
        shutil.copytree(whole.parent, path.parent)
        only_cut, signed = change(rng, path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read(path)
        except SDAError as error:
            assert error.argument and error.remedy
            refused += 1
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {type(error).__name__}") from error
        else:
            checked = kind in CHECKED and not signed
            if checked or (only_cut and kind not in LEFT_OUT):
                assert found == expected, f"{kind}, seed {seed}: other values"
    return refused


@pytest.mark.parametrize("kind", FORMATS)
def test_some(kind, tmp_path):
    assert campaign(kind, (*range(12), *FOUND.get(kind, ())), tmp_path) > 0 or kind == "metrics"


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_a_thousand(kind, tmp_path, record_property):
    refused = campaign(kind, range(1000), tmp_path)
    record_property(f"changed files of {kind}, {refused} refused by name", 1000)
