"""Update rules: what turns experience into a loss."""

from jaxrl.rules.base import Clock, UpdateRule
from jaxrl.rules.surrogate import Clip, PolicyGradient, Surrogate

__all__ = ["Clip", "Clock", "PolicyGradient", "Surrogate", "UpdateRule"]
