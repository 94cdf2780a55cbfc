"""Figures: what they show of numbers that are not nice."""

import warnings

import numpy as np
from PIL import Image

from sda_jax.figures import accuracy_curves, flow_animation


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


def test_every_frame_shows_its_state(tmp_path):
    """The last of a flow's is the first of the flow backwards, but for what the title says."""
    x = np.random.default_rng(0).normal(size=(3, 4, 16, 16, 2)).astype(np.float32)
    frames = []
    for i, states in enumerate((x, x[:, ::-1])):
        with Image.open(flow_animation(tmp_path / f"{i}.gif", states, 0.1)) as file:
            assert file.n_frames == 4
            every = [file.seek(k) or np.asarray(file.convert("L"), int) for k in range(4)]
        frames.append([frame[60:] for frame in every])  # below the title
    for k in range(4):
        # of a palette of 256 colours each
        apart = [np.abs(frame - frames[1][k]).mean() for frame in frames[0]]
        assert apart[3 - k] < 2 and sorted(apart)[1] > 10, (k, apart)
