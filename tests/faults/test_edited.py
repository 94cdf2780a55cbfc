"""Files that name others, have filters of any kind, or were edited: refused by name, or read as
they were meant."""

import json
import os
import shutil
import subprocess
import sys

import h5py
import jax.numpy as jnp
import numcodecs
import numpy as np
import pytest
import zarr
from conftest import ROOT
from own import save, waves
from safetensors.numpy import load_file, save_file

import sda_jax as sda
from sda_jax.cli import train
from sda_jax.core._errors import ConfigError, SDAError, StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._layout import Channel, Layout
from sda_jax.data._opening import open_dataset
from sda_jax.data._survey import surveyed
from sda_jax.experiment._describe import describe
from sda_jax.experiment._scores import read_posterior_file
from sda_jax.observations._files import load_observation, save_observation
from sda_jax.posterior._export import write_posterior
from sda_jax.posterior._files import load_diagnosis
from sda_jax.prior._folder import description_digest, weights_digest
from sda_jax.prior._loading import load_prior
from sda_jax.prior._saving import save_prior
from sda_jax.runtime._hdf5 import write_hdf5
from sda_jax.runtime._records import read_records

# a locale that knows ASCII alone, as batch systems and containers have it
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def as_link(file, name, other):
    del file[name]
    file[name] = h5py.ExternalLink(other.name, f"/{name}")


def as_raw_data(file, name, other):
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    raw = other.with_suffix(".raw")
    raw.write_bytes(np.zeros(shape, dtype).tobytes())
    file.create_dataset(name, shape, dtype, external=[(str(raw), 0, raw.stat().st_size)])


def as_virtual_data(file, name, other):
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    virtual = h5py.VirtualLayout(shape, dtype)
    virtual[:] = h5py.VirtualSource(str(other), name, shape)
    file.create_virtual_dataset(name, virtual)


WAYS = {"link": as_link, "raw": as_raw_data, "virtual": as_virtual_data}


@pytest.mark.parametrize("way", WAYS)
def test_data_that_lie_in_another_file_are_not_read(tmp_path, way):
    other, path = tmp_path / "other.nc", tmp_path / "a.nc"
    save(waves(), other)
    save(waves(), path)
    with h5py.File(path, "r+") as file:
        WAYS[way](file, "temp", other)
    for read in (open_dataset, describe, lambda p: open_archive(Files((str(p),)))):
        with pytest.raises(StorageError, match=r"a.nc, /temp: got .* another file .*(other|raw)"):
            read(path)


@pytest.mark.parametrize("way", WAYS)
def test_nor_those_of_this_packages_own_files(tmp_path, way):
    other, path = tmp_path / "other.h5", tmp_path / "observation.h5"
    for each in (other, path):
        save_observation(each, sda.Observation(jnp.ones((4, 3)), sda.Every(2), 0.5), 8)
    with h5py.File(path, "r+") as file:
        WAYS[way](file, "y", other)
    with pytest.raises(StorageError, match=r"observation.h5, /y: got .* another file"):
        load_observation(path)


def test_links_within_a_file_are_followed(tmp_path):
    path = save(waves(), tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        file.move("temp", "deep/temp")
        file["temp"] = h5py.SoftLink("/deep/temp")
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.temp.values, waves().temp.values)


def test_a_group_that_holds_itself(tmp_path):
    path = save(waves(), tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        file["deep/around"] = file["/"]
    with pytest.raises(StorageError, match="/deep/around: got a group that holds itself"):
        open_dataset(path)


def edit(path, change):
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


@pytest.mark.parametrize("name", ["pickle", "vlen-array", "evil"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_filters_that_are_not_of_the_list(tmp_path, monkeypatch, name, version, consolidated):
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)
    path = tmp_path / "a.zarr"
    waves(4).to_zarr(path, zarr_format=version, consolidated=consolidated)
    if version == 2:
        edit(path / "temp" / ".zarray", lambda said: said.update(filters=[{"id": name}]))
    else:
        added = {"name": f"numcodecs.{name}", "configuration": {}}
        edit(path / "temp" / "zarr.json", lambda said: said["codecs"].insert(0, added))
    with pytest.raises(StorageError, match=rf"temp.*: got the filter '(numcodecs\.)?{name}'"):
        open_dataset(path)


def test_a_filter_in_the_consolidated_copy_or_in_shards(tmp_path):
    path = tmp_path / "a.zarr"
    waves(4).to_zarr(path, zarr_format=2, consolidated=True)
    bad = {"id": "pickle"}
    edit(path / ".zmetadata", lambda said: said["metadata"]["temp/.zarray"].update(compressor=bad))
    with pytest.raises(StorageError, match=r"\.zmetadata: got the filter 'pickle'"):
        open_dataset(path)
    inner = tmp_path / "shards.zarr"
    zarr.create_array(inner, shape=(4, 4), chunks=(2, 2), shards=(4, 4), dtype="f4", name="x")

    def change(said):
        said["codecs"][0]["configuration"]["codecs"].append({"name": "numcodecs.pickle"})

    edit(inner / "x" / "zarr.json", change)
    with pytest.raises(StorageError, match="the filter 'numcodecs.pickle'"):
        open_dataset(inner)


CODECS = [numcodecs.Zlib(), numcodecs.LZ4(), numcodecs.Blosc(), numcodecs.BZ2(), numcodecs.LZMA()]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
def test_usual_filters_are_read(tmp_path, codec):
    x = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    zarr.create_array(
        tmp_path / "a.zarr", name="x", data=x, zarr_format=2, compressors=codec,
        filters=[numcodecs.Shuffle(4)], attributes={"_ARRAY_DIMENSIONS": ["t", "y"]},
    )  # fmt: skip
    with open_dataset(tmp_path / "a.zarr") as dataset:
        np.testing.assert_array_equal(dataset.x.values, x)


def other_mean(said):
    said["survey"]["standardisation"]["mean"][0] += 1.0


def other_gaps(said):
    said["survey"]["gaps"] = [[0, 0, 60]]


def without_digest(said):
    del said["sha256"]


def without_survey(said):
    said.clear()


@pytest.mark.parametrize("change", [other_mean, other_gaps, without_digest, without_survey])
def test_an_edited_survey_is_refused_and_can_be_made_anew(tmp_path, change):
    archive, path = (
        open_archive(Files((save(waves(), tmp_path / "a.nc"),))),
        tmp_path / "survey.json",
    )
    made = surveyed(path, archive)
    assert surveyed(path, archive) == made
    edit(path, change)
    with pytest.raises(StorageError, match=r"survey.json: got contents other .* Remove it"):
        surveyed(path, archive)
    path.unlink()
    assert surveyed(path, archive) == made


@pytest.mark.parametrize("contents", [b"", b"\xff\xfe", b"[]", b"{", b'{"survey": 1e999}', b"null"])
def test_a_survey_that_is_none(tmp_path, contents):
    archive, path = (
        open_archive(Files((save(waves(), tmp_path / "a.nc"),))),
        tmp_path / "survey.json",
    )
    path.write_bytes(contents)
    with pytest.raises(StorageError, match=r"survey.json"):
        surveyed(path, archive)


LINES = {
    "empty": "", "torn": '{"step": 10, "lo', "text": "hello\nworld\n", "list": "[1]\n3\nnull\n",
    "foreign": '{"step": "x"}\n{"a": 1}\n{"step": null, "loss": {}}\n', "bytes": "\x00\udcff\n",
    "deep": "[" * 10**5, "long": '{"step": ' + "9" * 5000 + "}",
}  # fmt: skip


@pytest.mark.parametrize("lines", LINES)
def test_a_training_without_its_metrics_goes_on_and_is_inspected(whole, tmp_path, lines):
    config, out = whole
    copy = shutil.copytree(out, tmp_path / "out")
    made = (copy / "prior" / "prior.json").read_text()
    path = copy / "train" / "metrics.jsonl"
    path.write_text(LINES[lines], errors="surrogateescape")
    assert "a training" in describe(copy / "train")
    shutil.rmtree(copy / "prior")
    assert train.main(["--config", str(config), "--output", str(copy)]) == 0
    assert (copy / "prior" / "prior.json").read_text() == made
    assert [r["step"] for r in read_records(path, {"validation_loss": float})] == [10]


DEEP = 1
for _ in range(700):
    DEEP = [DEEP]
HUGE = 10**400
TIMES = {"type": "Layout", "channels": [1, 2]}
CHANNELS = {"type": "Layout", "channels": [{"type": "Channel", "name": n} for n in "xyz"]}
CONV = {"type": "TemporalConv"}
IMPOSSIBLE = {
    "no layout": dict(layout=3), "a list as layout": dict(layout=[1]),
    "channels": dict(layout=TIMES),
    "another layout": dict(layout={"type": "Standardisation"}),
    "a step of nothing": dict(layout=CHANNELS | {"step": 0.0}),
    "a mask that is none": dict(layout=CHANNELS | {"mask": "zz"}),
    "a mask too long": dict(layout=CHANNELS | {"mask": "80" * 9}),
    "a calendar that is none": dict(layout=CHANNELS | {"calendar": "moon"}),
    "nesting": dict(notes=DEEP), "nesting of a network": dict(network=DEEP),
    "data_std": dict(parameterisation={"type": "Preconditioned", "data_std": HUGE}),
    "data_std of 0": dict(parameterisation={"type": "Preconditioned", "data_std": 0.0}),
    "dilations": dict(network=CONV | {"dilations": [1] * 100_000}),
    "a dilation": dict(network=CONV | {"dilations": [10**9]}),
    "a kernel": dict(network=CONV | {"kernel": 10**9 + 1}),
    "a width": dict(network=CONV | {"width": -1}),
    "blocks": dict(network={"type": "ResidualMLP", "blocks": 100_000}),
    "levels": dict(network={"type": "UNet", "channels": [1] * 999, "blocks": [1] * 999}),
    "a system": dict(system="x"), "another system": dict(system={"type": "Standardisation"}),
    "the schedule": dict(schedule={"type": "Standardisation"}),
    "a schedule of nothing": dict(schedule={"type": "VarianceExploding", "sigma_max": 1e300}),
    "mean": dict(standardisation={"type": "Standardisation", "mean": HUGE}),
    "mean of double precision": dict(standardisation={"type": "Standardisation", "mean": 1e300}),
    "mean of text": dict(standardisation={"type": "Standardisation", "mean": ["a"]}),
    "mean of another shape": dict(standardisation={"type": "Standardisation", "mean": [0.0] * 4}),
    "state": dict(state_shape=[3.5]), "negative state": dict(state_shape=[-3]),
    "large state": dict(state_shape=[HUGE]), "window": dict(window=HUGE), "true": dict(window=True),
    "context": dict(context_channels="1"), "context without statistics": dict(context_channels=2),
}  # fmt: skip


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_signed_priors_with_impossible_values(tmp_path, what):
    path = save_prior(tmp_path / "prior", sda.load_prior("lorenz63"))
    said = json.loads((path / "prior.json").read_text()) | IMPOSSIBLE[what]
    said["description_sha256"] = description_digest(said)
    (path / "prior.json").write_text(json.dumps(said))
    with pytest.raises((StorageError, ConfigError)):
        load_prior(path)
    try:  # which builds nothing
        assert "a prior" in describe(path)
    except SDAError as error:
        assert str(path) in str(error) or isinstance(error, ConfigError)


def weights_of(kind):
    header = {"x": {"dtype": kind, "shape": [4], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


MEASURED = "parameterisation/errors"
WEIGHTS = {
    "NaN among errors": lambda a: a | {MEASURED: np.full_like(a[MEASURED], np.nan)},
    "errors of 0": lambda a: a | {MEASURED: 0 * a[MEASURED]},
    "errors of another shape": lambda a: a | {MEASURED: np.ones((25, 7), np.float32)},
    "integers": lambda a: {name: x.astype(np.int32) for name, x in a.items()},
    "another name": lambda a: a | {"parameterisation/other": np.ones(3, np.float32)},
}


@pytest.mark.parametrize("what", [*WEIGHTS, "F8_E4M3", "F8_E5M2", "F4"])
def test_signed_weights_with_impossible_values(tmp_path, what):
    path = save_prior(tmp_path / "prior", sda.load_prior("lorenz63"))
    file = path / "weights.safetensors"
    if what in WEIGHTS:
        save_file(WEIGHTS[what](load_file(file)), file)
    else:
        file.write_bytes(weights_of(what))
    said = json.loads((path / "prior.json").read_text()) | {"weights_sha256": weights_digest(path)}
    said["description_sha256"] = description_digest(said)
    (path / "prior.json").write_text(json.dumps(said))
    with pytest.raises(StorageError, match="prior"):
        load_prior(path)


@pytest.mark.parametrize("length", [0, -3, 2.5, 10**12, "8", [8, 8]])
def test_lengths_of_observation_files(tmp_path, length):
    path = tmp_path / "observation.h5"
    with write_hdf5(path, "observation") as file:
        file["y"], file["std"] = np.ones((4, 3), np.float32), 0.5
        file.attrs["operator"], file.attrs["length"] = json.dumps({"type": "Every", "n": 2}), length
    with pytest.raises(SDAError, match="length"):
        load_observation(path)


def test_units_and_names_beyond_ascii(tmp_path):
    """Units, names of variables and of files, in this package's files and in those that NetCDF's
    own library writes, which marks all characters as ASCII."""
    layout = Layout((Channel("température", "°C", "mesurée"),), (), "time", 1.0)
    for name in ("é.nc", "é.zarr"):
        path = tmp_path / "dossier à" / name
        said = {"sda_prior": str(path), "sda_config": "{}"}
        write_posterior(path, iter([np.ones((2, 1), np.float32)]), 1, layout, 0.0, said)
        with open_dataset(path) as dataset:
            assert dataset["température"].units == "°C"
            assert dataset["température"].long_name == "mesurée"
            assert dataset.sda_prior == str(path)
    path = save(waves(), tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        file["temp"].attrs["units"] = np.bytes_("°C".encode())
        file["wind"].attrs["units"] = np.bytes_("°C".encode("latin-1"))
    assert [c.units for c in open_archive(Files((path,))).layout.channels] == ["°C", "°C"]


def test_every_text_is_written_and_printed_in_a_locale_of_ascii(tmp_path):
    """Names in bytes that the locale cannot read: inspected, recorded and printed all the same."""
    folder = tmp_path / "données"
    folder.mkdir()
    data = waves()
    data.temp.attrs["units"] = "°C"
    save(data, folder / "température.nc")
    code = (
        "import sys; from pathlib import Path; from sda_jax.cli.inspect import main;"
        "from sda_jax.runtime._files import read_text, write_text;"
        "from sda_jax.runtime._records import append_record, read_records;"
        "f = Path(sys.argv[1]).parent; write_text(f / 'x.txt', str(f) + chr(176));"
        "assert read_text(f / 'x.txt').endswith('es' + chr(176));"
        "append_record(f / 'r', {'path': str(f)});"
        "assert read_records(f / 'r') == [{'path': str(f)}];"
        "status = main(sys.argv[1:]); print(chr(176)); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "température.nc")],
        env=os.environ | ASCII, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    printed = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    assert str(folder / "température.nc") in printed and "channel temp \\xb0C" in printed
    assert (folder / "x.txt").read_text("utf-8") == f"{folder}°"


TEXTS = ["3", "null", "[1]", '{"type": 3}', "[" * 9999, '{"type": "Every", "n": 1e999}', "{", 5]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_in_files_that_are_no_descriptions(tmp_path, text):
    path = tmp_path / "observation.h5"
    with write_hdf5(path, "observation") as file:
        file["y"], file["std"] = np.ones((4, 3), np.float32), 0.5
        file.attrs["operator"], file.attrs["length"] = text, 8
    with pytest.raises((StorageError, ConfigError), match=r"observation.h5, operator"):
        load_observation(path)
    other = tmp_path / "posterior.h5"
    with write_hdf5(other, "posterior") as file:
        file["ensemble"], file["fit"] = np.ones((1, 8, 3), np.float32), [0.5]
        file.attrs["diagnosis"] = text
    with pytest.raises(StorageError, match=r"posterior.h5"):
        load_diagnosis(other)
    layout = Layout((Channel("u"),), (), "time", 1.0)
    said = {"sda_prior": "lorenz63", "sda_config": str(text)}
    write_posterior(tmp_path / "p.nc", iter([np.ones((8, 1), "f4")]), 1, layout, 0.0, said)
    assert "of the prior lorenz63" in describe(tmp_path / "p.nc")
    with pytest.raises(StorageError, match=r"p.nc: got another file"):
        read_posterior_file(tmp_path / "p.nc", layout)
