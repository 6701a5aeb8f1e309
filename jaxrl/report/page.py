"""The HTML page of a report, which includes its style, script and data."""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import importlib.resources
import json
from typing import Any

from jaxrl import plot
from jaxrl.lazy import pandas as pd
from jaxrl.report import charts, study
from jaxrl.report.study import Study

MAX_ROWS = 500  # of a table
SETTINGS = "Final {} of each setting, the best first; diverged runs rank lowest."
NOTE = (
    "Scores are those of the last evaluation point; intervals are 95 % percentile bootstrap "
    "intervals of the interquartile mean (IQM) over seeds. The best of several settings was "
    "selected on the same seeds as its score, which is therefore biased upwards: run it on fresh "
    "seeds before you report it."
)


class Html(str):
    """Text that is markup, and is not escaped."""


def tag(name: str, *inside: Any, **attributes: Any) -> Html:
    """An HTML element. Attributes, and content that is not Html, are escaped."""
    text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{text}>{''.join(_safe(x) for x in inside)}</{name}>")


def _safe(x: Any) -> str:
    if isinstance(x, list | tuple):
        return "".join(map(_safe, x))
    return str(x) if isinstance(x, Html) else html.escape(str(x))


def page(studies: list[Study], comparisons: list[Any], films: bool) -> str:
    """The whole page. comparisons: (first title, second title, Comparison or obstacles)."""
    drawn: list[charts.Chart] = []  # the charts so far; figures refer to them by index
    title = "; ".join(dict.fromkeys(one.title for one in studies))
    sections = [_section(one, drawn, films) for one in studies]
    script, style = (
        importlib.resources.files("jaxrl.report").joinpath(name).read_text()
        for name in ("page.js", "page.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
        f"'sha256-{digest}'"
    )
    head = [
        Html(
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, '
            'initial-scale=1">'
        ),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("title", f"Report: {title}"),
        Html(f"<style>{style}</style>"),
    ]
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    note = f"Written by jaxrl on {date}. {NOTE}"
    body = [
        tag("header", tag("h1", title), tag("p", note, class_="note")),
        _comparison(studies, comparisons, drawn) if comparisons else "",
        sections,
        tag("noscript", "The charts need JavaScript; the tables do not."),
        Html(f'<script type="application/json" id="charts">{charts.embedded(drawn)}</script>'),
        Html(f"<script>{script}</script>"),
    ]
    return f'<!doctype html>\n<html lang="en">{tag("head", head)}{tag("body", body)}</html>\n'


def _section(one: Study, drawn: list[charts.Chart], films: bool) -> Html:
    importance, importance_charts = charts.importances(one)
    divergence, diverged = study.diverged(one)
    curves, improvement = charts.learning_curves(one), charts.improvement(one)
    parallel = charts.parallel(one)
    parts = [
        tag("h2", one.title, " ", tag("small", one.path.name)),
        tag("p", study.question(one), class_="question"),
        _card(one),
        tag("h3", "Scores"),
        tag("p", study.left_out(one), class_="note") if one.unfinished else "",
        _table(study.table(one), SETTINGS.format(one.name)),
        tag("h3", "Learning curves"),
        _chart(curves, drawn) if curves else tag("p", "The results have no steps."),
        tag("h3", "Performance profiles"),
        _chart(charts.profile(one), drawn),
        tag("h3", "Probability of improvement"),
        _chart(improvement, drawn)
        if improvement
        else tag("p", "There is one setting, or one seed: nothing to compare."),
        tag("h3", "Importance of hyperparameters"),
        tag("p", importance),
        tag("div", [_chart(c, drawn) for c in importance_charts], class_="several"),
        _chart(parallel, drawn) if parallel else "",
        tag("h3", "Diverged runs"),
        [_chart(c, drawn) for c in charts.divergence(one)],
        tag("p", divergence),
        tag("ul", [tag("li", name) for name in diverged]) if diverged else "",
        tag("h3", "Policies") if films else "",
        tag("div", [_film(*film) for film in study.films(one)], class_="several") if films else "",
    ]
    return tag("section", parts)


def _card(one: Study) -> Html:
    rows = [
        tag("tr", tag("th", key, scope="row"), tag("td", value)) for key, value in study.card(one)
    ]
    run = json.dumps(one.record["run"], indent=1)[:50_000]
    return tag(
        "details",
        tag("summary", "Reproducibility card"),
        tag("table", rows, class_="card"),
        tag("pre", run),
        open="",
    )


def _table(frame: pd.DataFrame, title: str) -> Html:
    """A table that is sorted by clicking on a column."""

    def is_numeric(column: Any) -> bool:
        return column.dtype.kind in "iuf" or any(isinstance(x, float) for x in column)

    kinds = ["number" if is_numeric(frame[column]) else "text" for column in frame]
    buttons = [tag("button", column, type="button") for column in frame.columns]
    head = [
        tag("th", button, scope="col", class_=kind)
        for button, kind in zip(buttons, kinds, strict=True)
    ]
    rows = [
        tag("tr", [_cell(value) for value in row])
        for row in frame.head(MAX_ROWS).itertuples(index=False)
    ]
    more = f" The first {MAX_ROWS} of {len(frame):,}." if len(frame) > MAX_ROWS else ""
    caption = tag("caption", f"{title}{more} Click a column to sort by it.")
    return tag(
        "div",
        tag("table", caption, tag("thead", tag("tr", head)), tag("tbody", rows), class_="sorts"),
        class_="wide",
    )


def _cell(value: Any) -> Html:
    if isinstance(value, str | bool):
        return tag("td", value)
    text = plot.number(value)
    if value != value:  # NaN
        text = "–"
    elif isinstance(value, float) and abs(value) >= 1:
        text = f"{value:.5g}"
    return tag("td", text, class_="number", data_value=value)


def _chart(chart: charts.Chart, drawn: list[charts.Chart]) -> Html:
    drawn.append(chart)
    kind = "chart small" if chart.get("small") else "chart"
    note = tag("figcaption", chart["note"]) if chart.get("note") else ""
    return tag("figure", note, class_=kind, data_chart=len(drawn) - 1)


def _film(caption: str, source: str, reason: str) -> Html:
    picture = tag("p", reason, class_="note")
    if source:
        picture = Html(tag("img", src=source, alt=caption).removesuffix("</img>"))
    return tag("figure", picture, tag("figcaption", caption), class_="film")


def _comparison(studies: list[Study], comparisons: list[Any], drawn: list[charts.Chart]) -> Html:
    parts = [
        tag("h2", "Comparison"),
        tag("p", "The best settings of the studies.", class_="question"),
    ]
    for first, second, found in comparisons:
        parts.append(tag("h3", f"{first} and {second}"))
        if isinstance(found, list):
            parts.append(tag("p", "Not compared, as that would be misleading:"))
            parts.append(tag("ul", [tag("li", line) for line in found]))
            continue
        pairing = "same seeds" if found.paired else "unpaired"
        rows = [
            (first, *map(float, found.first)),
            (second, *map(float, found.second)),
            (f"difference, {pairing}", *map(float, found.difference)),
            (
                "probability that a seed of the first has the higher score",
                *map(float, found.improvement),
            ),
        ]
        table = pd.DataFrame(rows, columns=["of", "estimate", "low", "high"])
        verdict = f"{found.statistic} of the final {found.name}: {found.verdict}."
        parts.append(_table(table, verdict))
    if not any(isinstance(found, list) for _, _, found in comparisons):
        best = [(one, charts.learning_curves(one)) for one in studies]
        lines = [
            chart["lines"][0] | {"label": one.path.name, "x": chart["x"]}
            for one, chart in best
            if chart
        ]
        chart = {
            "kind": "lines",
            "xlabel": "environment steps",
            "ylabel": studies[0].name,
            "lines": lines,
        }
        parts += [_chart(chart, drawn)] if lines else []
    return tag("section", parts)
