"""Laws of several forms beside each other: fits, their comparison, and a checklist for reports.

After "(Mis)Fitting: A Survey of Scaling Laws" (Li et al., 2025).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import stdtrit

from jaxrl.errors import nearest
from jaxrl.stats.intervals import Interval
from jaxrl.stats.power_law import EXPONENTS, search
from jaxrl.tree import pytree, static

Loss = Literal["relative", "absolute"]


@dataclasses.dataclass(frozen=True)
class Form:
    """y = offset + scale * shape(x, rate).

    text: the formula. has_offset, has_rate: False where it is 0, or not used.
    """

    text: str
    shape: Callable[[jax.Array, jax.Array], jax.Array]
    has_offset: bool = True
    has_rate: bool = True

    @property
    def num_parameters(self) -> int:
        """Number of fitted parameters."""
        return 1 + self.has_offset + self.has_rate


FORMS: dict[str, Form] = {
    "power": Form("scale * x ** -rate", lambda x, rate: x**-rate, has_offset=False),
    "power with offset": Form("offset + scale * x ** -rate", lambda x, rate: x**-rate),
    "exponential": Form("offset + scale * exp(-rate * x)", lambda x, rate: jnp.exp(-rate * x)),
    "hyperbola": Form("offset + scale / (1 + rate * x)", lambda x, rate: 1 / (1 + rate * x)),
    "logarithm": Form("offset + scale * log(x)", lambda x, _: jnp.log(x), has_rate=False),
}


@pytree
class Law:
    """A fitted law. It is a function of x, and a pytree that can be vmapped.

    offset, scale, rate: its parameters; in units of `unit`, which divides x. NaN if the points have
      no finite fit, as with a NaN in y. [].
    error: the standard error of the rate, by linearisation. [].
    left_out: the leave-one-out error at each point, of the loss. [points].
    aic: Akaike's criterion with the correction for few points, where the variance of the errors is
      a parameter too; lower is better. [].
    """

    offset: Any
    scale: Any
    rate: Any
    unit: Any
    error: Any
    left_out: Any
    aic: Any
    form: str = static()
    loss: str = static()

    def __call__(self, x: Any) -> jax.Array:
        """y at x [...]. [...]."""
        x = jnp.asarray(x, float) / self.unit
        return self.offset + self.scale * FORMS[self.form].shape(x, self.rate)

    def rate_interval(self, level: float = 0.95) -> Interval:
        """The exponent (of x, or of x / unit) and its interval by Student's t. [].

        It assumes that the form is right and errors are independent and normal.
        """
        degrees = self.left_out.shape[-1] - FORMS[self.form].num_parameters
        half = float(stdtrit(degrees, (1 + level) / 2)) * self.error
        return Interval(self.rate, self.rate - half, self.rate + half)


def fit_law(form: str, x: Any, y: Any, *, loss: Loss = "relative") -> Law:
    """Least-squares fit of a law to x and y, each [points]. It can be jitted and vmapped.

    For a given rate, offset and scale are a linear regression: only the rate is searched, on a grid
    and on two finer ones, from 0.02 to 8.

    Args:
      form: "power", "power with offset", "exponential", "hyperbola" or "logarithm".
      x: positive.
      y: their measured values. With `loss="relative"` not 0.
      loss: of errors divided by y, or of errors as they are.

    Raises:
      ValueError: no such form or loss, or no more points than parameters plus two.
    """
    if form not in FORMS or loss not in ("relative", "absolute"):
        raise ValueError(
            f"form={form!r}, loss={loss!r}: {nearest(form, FORMS)}, and losses are 'relative' and "
            "'absolute'."
        )
    x, y = jnp.asarray(x, float), jnp.asarray(y, float)
    fewest = FORMS[form].num_parameters + 3  # of which Akaike's criterion exists
    if x.shape != y.shape or x.ndim != 1 or len(x) < fewest:
        raise ValueError(
            f"x and y of shapes {x.shape} and {y.shape}: a law of this form needs the same "
            f"{fewest} or more points of both."
        )
    return _fit(form, loss, x, y)


@partial(jax.jit, static_argnames=("form", "loss"))
def _fit(form: str, loss: str, x: jax.Array, y: jax.Array) -> Law:
    unit = jnp.exp(jnp.mean(jnp.log(x)))
    scale_of = 1 / jnp.abs(y) if loss == "relative" else jnp.ones_like(y)
    shape, n, p = FORMS[form], len(x), FORMS[form].num_parameters
    z = x / unit

    def value(parameters: jax.Array, z: jax.Array) -> jax.Array:
        return parameters[0] + parameters[1] * shape.shape(z, parameters[2])

    every = jnp.ones(n)
    best = _nearest(shape, z, y, every * scale_of**2)
    others = jax.vmap(lambda weight: _nearest(shape, z, y, weight))(
        (1 - jnp.eye(n)) * scale_of[None] ** 2
    )
    left_out = jnp.abs(jax.vmap(value)(others, z) - y) * scale_of
    square = jnp.sum(((value(best, z) - y) * scale_of) ** 2)
    # of the likelihood of y: the loss's scale counts, so that losses can be compared
    deviance = n * jnp.log(square / n) - 2 * jnp.sum(jnp.log(scale_of))
    k = p + 1  # with the variance of the errors
    aic = deviance + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    error = jnp.zeros(())
    if shape.has_rate:
        slopes = jax.jacfwd(value)(best, z) * scale_of[:, None]  # [points, (offset, scale, rate)]
        # what the other parameters do not explain of the rate's slope
        linear = slopes[:, :2] if shape.has_offset else slopes[:, 1:2]
        rest = _residual(linear, slopes[:, 2])
        error = jnp.sqrt(square / (n - p) / jnp.sum(rest**2))
    return Law(best[0], best[1], best[2], unit, error, left_out, aic, form, loss)


def _nearest(form: Form, z: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    """Least-squares offset, scale and rate for weights [points]. [3]."""

    def at(rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        feature = form.shape(z, rate)
        mean_x, mean_y = (
            jnp.sum(weight * v) / jnp.sum(weight) * form.has_offset for v in (feature, y)
        )
        spread = jnp.sum(weight * (feature - mean_x) ** 2)
        scale = jnp.sum(weight * (feature - mean_x) * (y - mean_y)) / spread
        offset = mean_y - scale * mean_x
        square = jnp.sum(weight * (offset + scale * feature - y) ** 2)
        is_fit = jnp.isfinite(square)
        found = jnp.where(is_fit, jnp.stack([offset, scale, rate]), jnp.nan)
        return jnp.where(is_fit, square, jnp.inf), found

    return search(at) if form.has_rate else at(jnp.ones(()))[1]


def _residual(columns: jax.Array, y: jax.Array) -> jax.Array:
    """What a regression of y [n] on columns [n, 1 or 2], without a constant, leaves. [n]."""
    for j in range(columns.shape[1]):
        column = columns[:, j]
        project = lambda z, c=column: z - c * (c @ z) / (c @ c)
        columns, y = jax.vmap(project, 1, 1)(columns), project(y)
    return y


def checklist(x: Any, y: Any, form: str = "power with offset", loss: Loss = "relative") -> str:
    """What a report of a law should state, with the fits by other forms and losses beside it.

    x, y, form, loss: as in `fit_law`. A line that begins with "WARNING" is of another choice that
    the points support as well (Akaike's criterion is at most 2 higher), with a rate, or a value at
    10 times the largest x, outside the interval of this law.

    Raises:
      ValueError: as `fit_law`, or a number is not finite.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    law = fit_law(form, x, y, loss=loss)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            f"{(~(np.isfinite(x) & np.isfinite(y))).sum()} of {len(x)} points are not finite, and "
            "no law fits them: leave them out."
        )
    rate, far = law.rate_interval(), 10 * x.max()
    estimate, low, high = map(float, _value_interval(law, x, y, far))
    rows = [
        f"form: {FORMS[form].text}, x in units of {float(law.unit):.4g}",
        f"points: {len(x)}, x from {x.min():.4g} to {x.max():.4g} "
        f"({np.log10(x.max() / x.min()):.1f} decades)",
        f"loss: squared {loss} error; least squares in closed form, the rate by a grid on "
        f"{EXPONENTS}",
        f"offset {float(law.offset):.4g}, scale {float(law.scale):.4g}",
        "rate {:.4g} [{:.4g}, {:.4g}] by Student's t".format(*map(float, rate)),
        f"value at {far:.4g}: {estimate:.4g} [{low:.4g}, {high:.4g}] by Student's t",
        f"leave-one-out {loss} error: {float(np.max(law.left_out)):.3g} at most",
    ]
    for other in FORMS:
        for other_loss in ("relative", "absolute"):
            if (other, other_loss) == (form, loss):
                continue
            fit = fit_law(other, x, y, loss=other_loss)
            worse, found = float(fit.aic - law.aic), float(fit(far))
            text = f"{other}, {other_loss}: rate {float(fit.rate):.4g}, value {found:.4g}, "
            is_same_rate = "power" in other and "power" in form
            differs = is_same_rate and not rate.low <= fit.rate <= rate.high
            differs = differs or not low <= found <= high
            rows.append("WARNING " * bool(differs and worse <= 2) + text + f"AIC {worse:+.3g}")
    return "\n".join(rows)


def _value_interval(law: Law, x: np.ndarray, y: np.ndarray, at: float) -> Interval:
    """The value at a point and its 95 % interval by Student's t, by linearisation. []."""
    form = FORMS[law.form]
    is_fitted = np.array([form.has_offset, True, form.has_rate])

    def slopes(x: Any) -> np.ndarray:
        """By the parameters. [..., 3]."""
        value = lambda p: p[0] + p[1] * form.shape(jnp.asarray(x) / law.unit, p[2])
        return np.asarray(jax.jacfwd(value)(jnp.stack([law.offset, law.scale, law.rate])))

    scale = 1 / np.abs(y) if law.loss == "relative" else np.ones_like(y)
    degrees = len(x) - form.num_parameters
    square = np.sum(((np.asarray(law(x)) - y) * scale) ** 2) / degrees
    inverse = np.linalg.pinv(slopes(x) * is_fitted * scale[:, None])  # [3, points]
    error = np.sqrt(square) * np.linalg.norm(slopes(at) * is_fitted @ inverse)
    half = stdtrit(degrees, 0.975) * error
    return Interval(law(at), law(at) - half, law(at) + half)
