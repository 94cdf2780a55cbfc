"""Figures: what they show of numbers that are not nice."""

import warnings

import numpy as np

from sda_jax.figures import accuracy_curves


def test_a_value_that_is_not_finite_leaves_a_gap():
    """A member that overflowed makes the mean log prior of one number of corrections infinite."""
    row = {"case": "lo", "w1": 2.0, "w1_floor": 1.0, "log_prior_truth": 60.0}
    row |= {"log_likelihood": -3.0, "log_likelihood_truth": -2.0}
    records = [
        row | {"corrections": c, "log_prior": prior}
        for c, prior in ((0, -np.inf), (0, 50.0), (1, 55.0), (1, 57.0))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = accuracy_curves(records)
    shown = figure.axes[1].get_lines()[0].get_ydata()
    np.testing.assert_array_equal(shown, [np.nan, 56.0])
