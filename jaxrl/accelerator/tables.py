"""Tables of text, for a terminal and for a notebook."""

import dataclasses
import html
from collections.abc import Sequence


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


def _aligned(text: str, width: int) -> str:
    """Numbers to the right, words to the left."""
    return text.rjust(width) if text[:1].isdigit() else text.ljust(width)
