"""Components, protocols, errors, JSON, units and resampling: what everything else is made of."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.core._arrays import Operator, PRNGKey, Scalar, State, Time, Trajectory
    from sda_jax.core._component import component
    from sda_jax.core._errors import (
        ConfigError,
        DivergenceError,
        EnsembleWarning,
        ObservationError,
        ProcessError,
        ResourceError,
        SDAError,
        StorageError,
    )
    from sda_jax.core._keys import PURPOSES, stream
    from sda_jax.core._protocols import (
        Conditional,
        Corrector,
        Denoiser,
        DrawsPosterior,
        ExplainsObservation,
        GaussianSystem,
        Guidance,
        KnowsErrors,
        LikelihoodGuidance,
        PopulationSampler,
        Predictor,
        Sampler,
        SamplerState,
        Schedule,
        System,
        Timed,
        Wraps,
    )
    from sda_jax.core._record import is_component, static
    from sda_jax.core._registry import classes_in, import_components, registry
    from sda_jax.core._requirements import require_protocol
    from sda_jax.core._resampling import ordered_resampling, systematic_resampling
    from sda_jax.core._transforms import BoxCox, Logarithm, Logit, Transform
    from sda_jax.core._units import Standardisation

__all__ = [
    "PURPOSES",
    "BoxCox",
    "Conditional",
    "ConfigError",
    "Corrector",
    "Denoiser",
    "DivergenceError",
    "DrawsPosterior",
    "EnsembleWarning",
    "ExplainsObservation",
    "GaussianSystem",
    "Guidance",
    "KnowsErrors",
    "LikelihoodGuidance",
    "Logarithm",
    "Logit",
    "ObservationError",
    "Operator",
    "PRNGKey",
    "PopulationSampler",
    "Predictor",
    "ProcessError",
    "ResourceError",
    "SDAError",
    "Sampler",
    "SamplerState",
    "Scalar",
    "Schedule",
    "Standardisation",
    "State",
    "StorageError",
    "System",
    "Time",
    "Timed",
    "Trajectory",
    "Transform",
    "Wraps",
    "classes_in",
    "component",
    "import_components",
    "is_component",
    "ordered_resampling",
    "registry",
    "require_protocol",
    "static",
    "stream",
    "systematic_resampling",
]
COMPONENTS = ["BoxCox", "Logarithm", "Logit", "Standardisation"]

__getattr__, __dir__ = exports(__name__)
