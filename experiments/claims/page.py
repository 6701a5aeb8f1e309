"""The table of verdicts, made from the records alone."""

import collections
import json
import pathlib

from experiments.claims.claim import ledger
from experiments.claims.running import RECORDS, VERDICTS

FOLDER = pathlib.Path(__file__).parent.parent / "papers"
HEAD = """\
# Published ideas on small tasks

Each file in this folder is one idea, on top of the mechanisms of `jaxrl/`, and its claims as data.
A verdict is measured: *reproduced* if all of a claim's checks hold, *partly* if at least one check
of its statement does; controls (of a baseline, an ablation or the validity of the comparison) do
not count for that. A check holds if the whole 95 % interval satisfies it; the effect is the value
of the first check, with its interval, and what was required. The records in
`experiments/results/papers/` have all checks, budgets, settings and seeds.

`python -m experiments.papers NAME` measures one again; `jaxrl papers --topic bandits` prints a part
of this table; `notebooks/9_a_paper_in_an_hour.ipynb` adds a paper.
"""


def records(folder: pathlib.Path = RECORDS / "papers") -> dict[str, dict]:
    """Name of each paper's file, with its record."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def entries(found: dict[str, dict]) -> list[dict[str, str]]:
    """A row of the table for each claim, by topic and number."""
    rows = []
    for name, record in found.items():
        for claim in record["claims"]:
            paper = ledger()[claim["row"]]
            rows.append(
                {
                    "topic": paper["topic"],
                    "row": claim["row"],
                    "file": name,
                    "paper": paper["paper"],
                    "claim": claim["statement"],
                    "verdict": claim["verdict"],
                    "effect": effect(claim["checks"][0]),
                    "figure": claim["figure"],
                    "notes": " ".join(filter(None, (claim["unmatched"], claim["changed"]))),
                    "seeds": claim["seeds"] or "",
                    "minutes": f"{claim['seconds'] / 60:.1f}" if claim["seconds"] else "",
                }
            )
    return sorted(rows, key=lambda row: (row["topic"], row["row"]))


def effect(check: dict) -> str:
    """A check in words: its value, its interval and the requirement."""
    show = lambda x: "NaN" if x is None else f"{x:.3g}"
    ends = f" [{show(check['low'])}, {show(check['high'])}]"
    value = show(check["estimate"]) + ("" if check["low"] == check["high"] else ends)
    return f"{check['statement']}: {value} ({check['accept']})"


def counts(rows: list[dict[str, str]]) -> str:
    """How many papers have a verdict, and how many claims have each."""
    verdicts = collections.Counter(row["verdict"] for row in rows)
    papers = len({row["row"] for row in rows})
    parts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS)
    minutes = sum(float(row["minutes"] or 0) for row in rows)
    return (
        f"{papers} of {len(ledger())} papers, {len(rows)} claims: {parts}. "
        f"{minutes:.0f} minutes on two cores in all."
    )


def page(found: dict[str, dict]) -> str:
    """experiments/papers/README.md."""
    rows = entries(found)
    lines = [HEAD, counts(rows), ""]
    for topic in dict.fromkeys(row["topic"] for row in rows):
        lines += [f"## {topic.capitalize()}", ""]
        lines += ["| row | paper | claim | verdict | effect | seeds | minutes |"]
        lines += ["| ---: | --- | --- | --- | --- | ---: | ---: |"]
        for row in rows:
            if row["topic"] == topic:
                link = f"[{row['paper']}]({row['file']}.py)"
                figure = f" ([figure](../results/papers/{row['figure']}))" * bool(row["figure"])
                cells = [row["row"], link, row["claim"], row["verdict"], row["effect"] + figure]
                cells = [str(x).replace("|", "\\|") for x in [*cells, row["seeds"], row["minutes"]]]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
        of_topic = (row for row in rows if row["topic"] == topic)
        notes = [f"- {row['row']}: {row['notes']}" for row in of_topic if row["notes"]]
        if notes:
            lines += ["Differences from the papers, and what changed after trials on other seeds:"]
            lines += ["", *notes, ""]
    return "\n".join(lines)


def text(topic: str = "") -> str:
    """The table for a terminal. topic: a part of a topic's name, by default all.

    Raises:
      ValueError: no topic of the table contains it.
    """
    rows = entries(records())
    topics = list(dict.fromkeys(row["topic"] for row in rows))
    chosen = [name for name in topics if topic.lower() in name]
    if not chosen:
        raise ValueError(f"No topic contains {topic!r}: the topics are {', '.join(topics)}.")
    lines = [counts(rows)]
    for name in chosen:
        lines += ["", name.capitalize()]
        for row in (row for row in rows if row["topic"] == name):
            lines += [f"  {row['row']:>3}  {row['paper']}: {row['verdict']}"]
            lines += [f"       {part}" for part in (row["claim"], row["effect"])]
    return "\n".join(lines)


def write(found: dict[str, dict]) -> None:
    """Write the table."""
    (FOLDER / "README.md").write_text(page(found))
