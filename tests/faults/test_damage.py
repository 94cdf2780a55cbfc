"""Files that were cut or changed: an error that names the file, or the very same contents."""

import shutil

import h5py
import jax
import numpy as np
import pytest

from sda_jax.cli.train import main as train_main
from sda_jax.core._errors import SDAError
from sda_jax.data._dataset import load
from sda_jax.observations._files import load_observation
from sda_jax.posterior._files import load_posterior
from sda_jax.prior._loading import load_prior
from sda_jax.runtime._hdf5 import read_hdf5, write_hdf5
from sda_jax.runtime._records import read_records
from sda_jax.runtime._versions import HDF5_VERSION, PRIOR_VERSION


def data_of(out):
    with read_hdf5(out / "data.h5", "dataset") as file:
        attributes = {k: np.asarray(v).tolist() for k, v in file.attrs.items()}
    return [attributes, *(load(out / "data.h5", split).tolist() for split in ("train", "valid"))]


def observation_of(out):
    observation, length = load_observation(out / "lo" / "observation.h5")
    return [repr(observation), length]


def posterior_of(out):
    return {k: v.tolist() for k, v in load_posterior(out / "lo" / "posterior.h5").items()}


def prior_of(out):
    prior = load_prior(out / "prior")
    return [repr(prior), *(np.asarray(x).tolist() for x in jax.tree.leaves(prior.denoiser))]


READERS = {
    "data.h5": data_of,
    "lo/observation.h5": observation_of,
    "lo/posterior.h5": posterior_of,
    "prior/prior.json": prior_of,
    "prior/weights.safetensors": prior_of,
}


def damages(contents, count, rng):
    """The same bytes cut, and with single bits flipped."""
    for _ in range(count):
        yield contents[: rng.integers(len(contents))]
        flipped = bytearray(contents)
        flipped[rng.integers(len(contents))] ^= 1 << rng.integers(8)
        yield bytes(flipped)


def inject(out, name, reader, count):
    """Reads the file with so many damages of each kind; how many were noticed. The others change
    nothing that is read."""
    expected, path = reader(out), out / name
    contents, noticed, harmless = path.read_bytes(), 0, 0
    try:
        for damaged in damages(contents, count, np.random.default_rng(0)):
            path.write_bytes(damaged)
            try:
                assert reader(out) == expected, f"{name} was read with other contents"
                harmless += 1
            except SDAError as error:
                assert str(out) in str(error), error
                noticed += 1
    finally:
        path.write_bytes(contents)
    assert noticed + harmless == 2 * count
    return noticed


@pytest.mark.parametrize("count", [20, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_cut_and_flipped(whole, tmp_path, name, count, record_property):
    copy = shutil.copytree(whole[1], tmp_path / "out")
    noticed = inject(copy, name, READERS[name], count)
    assert noticed > count
    record_property(f"damages of {name}, {noticed} noticed, the others harmless", 2 * count)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax's readers
@pytest.mark.parametrize("cut", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_damaged_checkpoint_is_not_gone_on_from(whole, tmp_path, cut, capsys):
    """Every file of the latest checkpoint in turn: refused with the folder's name, or the very same
    weights in the end."""
    config, out = whole
    weights = (out / "prior" / "weights.safetensors").read_bytes()
    rng = np.random.default_rng(1)
    files = [p for p in (out / "train" / "checkpoints" / "10").rglob("*") if p.is_file()]
    assert len(files) > 3
    for path in files:
        copy = tmp_path / "out"
        shutil.copytree(out, copy)
        shutil.rmtree(copy / "prior")
        victim = copy / path.relative_to(out)
        contents = bytearray(path.read_bytes())
        if not contents:
            shutil.rmtree(copy)
            continue
        if cut:
            contents = contents[: len(contents) // 2]
        else:
            contents[rng.integers(len(contents))] ^= 1 << rng.integers(8)
        victim.write_bytes(contents)
        status = train_main(["--config", str(config), "--output", str(copy)])
        if status == 0:
            assert (copy / "prior" / "weights.safetensors").read_bytes() == weights, path
        else:
            assert status == 2 and "checkpoints" in capsys.readouterr().err
        shutil.rmtree(copy)


def test_torn_and_changed_metrics_are_left_out(whole, tmp_path):
    path = whole[1] / "train" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    torn = tmp_path / "metrics.jsonl"
    torn.write_text(lines[0] + "\n" + lines[1][:-7])
    assert read_records(torn) == read_records(path)[:1]


def test_what_another_version_wrote_is_refused_with_its_number(whole, monkeypatch):
    """Each format has a number of its own."""
    for place, version, read, path in (
        ("sda_jax.runtime._hdf5.HDF5_VERSION", HDF5_VERSION, data_of, whole[1]),
        ("sda_jax.prior._folder.PRIOR_VERSION", PRIOR_VERSION, load_prior, whole[1] / "prior"),
    ):
        monkeypatch.setattr(place, version + 1)
        said = f"format version {version}; expected version {version + 1}"
        with pytest.raises(SDAError, match=said):
            read(path)


def test_a_file_from_before_its_digest_had_its_name_is_not_called_damaged(tmp_path):
    path = tmp_path / "posterior.h5"
    with write_hdf5(path, "posterior") as file:
        file["ensemble"] = np.ones((1, 2, 3), np.float32)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
        file.attrs["digest"] = file.attrs["sda_digest"]
        del file.attrs["sda_digest"]
    with pytest.raises(SDAError, match="format version 2; expected version 3. Make the file again"):
        load_posterior(path)
