"""JSON of components: what goes in comes out, and whatever else is refused by our own error."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sda_jax as sda
from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps, loads
from sda_jax.core._registry import registry

numbers = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=5), st.none()
)
values = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.builds(lambda m: sda.At(operator=m), inner),
    ),
    max_leaves=12,
)
names = st.sampled_from([*registry(), "os.system", "type", "dict", "float", "mean", "steps"])
documents = st.recursive(
    st.one_of(numbers, names),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(names, st.text(max_size=5)), inner, max_size=4),
        st.builds(lambda n, d: {"type": n} | d, names, st.dictionaries(names, inner, max_size=3)),
    ),
    max_leaves=10,
)


@given(values)
def test_round_trip(value):
    text = dumps(value)
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert repr(loads(text, registry())) == repr(value)


@settings(max_examples=500)
@given(documents)
def test_any_document_is_read_or_refused(document):
    with contextlib.suppress(ConfigError):
        loads(json.dumps(document), registry())


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ConfigError):
        loads(text, registry())


def test_arrays_become_tuples_and_functions_are_refused():
    saved = dumps(sda.Standardisation(mean=np.array([1.0, 2.0]), std=np.float32(2.0)))
    assert loads(saved, registry()) == sda.Standardisation(mean=(1.0, 2.0), std=2.0)
    with pytest.raises(ConfigError, match="component"):
        dumps(lambda x: x)
