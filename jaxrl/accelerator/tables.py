"""Tables of text, for a terminal and for a notebook."""

import dataclasses
import html
from collections.abc import Sequence

from jaxrl.progress import clock


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        every = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in every) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                _aligned(text, width) for text, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in every
        ]
        return "\n".join([self.title, *lines])

    @property
    def html(self) -> str:
        """The table for a notebook."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f"<table>{caption}<tr>{head}</tr>{body}</table>"


def format_bytes(amount: float) -> str:
    """An amount as text: 4.2 GB."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f} bytes"


def format_seconds(seconds: float) -> str:
    """A time as text: 3.1 ms, 42 s, 1:05 of minutes and seconds, 2:01:05 with hours."""
    if seconds >= 60.0:
        return clock(seconds)
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e6 * seconds:.3g} us"


def _aligned(text: str, width: int) -> str:
    """Numbers to the right, words to the left."""
    return text.rjust(width) if text[:1].isdigit() else text.ljust(width)
