"""Plots of the results of sweeps, and animations of policies. Only this package uses matplotlib.

Each function returns a `Picture`, a matplotlib Figure that is displayed in a notebook and saved by
`picture.savefig("curve.pdf")`. No display, backend or pyplot state is needed.
"""

from typing import TYPE_CHECKING, Any

from jaxrl.plot.canvas import COLORS, DASHES, MARKERS, number
from jaxrl.plot.curves import curve, heat
from jaxrl.plot.evidence import law, power, profile
from jaxrl.plot.film import Film, gif
from jaxrl.plot.importances import divergence, importance, parallel, together
from jaxrl.plot.matrix import matrix
from jaxrl.plot.repertoire import repertoire

if TYPE_CHECKING:
    from jaxrl.plot.picture import Picture

__all__ = [
    "COLORS",
    "DASHES",
    "MARKERS",
    "Film",
    "Picture",
    "curve",
    "divergence",
    "gif",
    "heat",
    "importance",
    "law",
    "matrix",
    "number",
    "parallel",
    "power",
    "profile",
    "repertoire",
    "together",
]


def __getattr__(name: str) -> Any:
    if name == "Picture":  # here, as matplotlib takes half a second to import
        from jaxrl.plot.picture import Picture

        return Picture
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
