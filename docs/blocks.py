"""The programs on the pages: find them, run them as printed, and measure them.

`python docs/blocks.py [PAGE ...]` prints the stated and the measured seconds of each block.
"""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAX_SECONDS = 90
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
STATED = re.compile(r"# (\d+) s on two cores\n")
# blocks that are not run here, by their first words, and why
NOT_RUN = {
    "make demo": "runs the tests; tests/test_experiments.py runs the demo",
    "git clone": "needs a network",
    "pip install": "needs a network",
    "#!/bin/bash": "needs a cluster",
    "# needs the extra compile": "tests/test_accelerator_compiled.py runs it where it is installed",
}


@dataclasses.dataclass(frozen=True)
class Block:
    """A program of a page; seconds: the time that it states, 0 where it states none."""

    kind: str
    text: str
    seconds: int

    @property
    def is_run(self) -> bool:
        return not self.text.startswith(tuple(NOT_RUN))


def blocks(page: pathlib.Path) -> list[Block]:
    """The Python and shell programs of a page, in order."""
    found = []
    for kind, text in BLOCK.findall(page.read_text()):
        stated = STATED.match(text)
        found.append(Block(kind, text, int(stated[1]) if stated else 0))
    return found


@dataclasses.dataclass(frozen=True)
class Run:
    """A block that was run: its seconds, and those of the processor, which other work on the
    machine does not lengthen.
    """

    block: Block
    seconds: float
    cpu_seconds: float


# written after each Python block, so that the output of a page stays as it is
STAMP = """
import time as _time
with open("seconds.txt", "a") as _file:
    print(_time.time(), _time.process_time(), file=_file)
"""


def run(page: pathlib.Path, folder: pathlib.Path) -> list[Run]:
    """Run the programs of a page in a folder, each as printed, and measure them.

    The Python blocks of a page are one program, as in a notebook; each shell block is one script.

    Raises:
      RuntimeError: a program that fails, with what it printed.
    """
    todo = [block for block in blocks(page) if block.is_run]
    python = [block for block in todo if block.kind == "python"]
    measured = []
    if python:
        before = (time.time(), 0.0)
        (folder / "page.py").write_text("".join(block.text + STAMP for block in python))
        _run([sys.executable, "page.py"], folder)
        lines = (folder / "seconds.txt").read_text().splitlines()
        for block, line in zip(python, lines, strict=True):
            wall, cpu = map(float, line.split())
            measured.append(Run(block, wall - before[0], cpu - before[1]))
            before = (wall, cpu)
    for block in todo:
        if block.kind == "sh":
            wall, cpu = time.time(), _cpu_of_children()
            _run(["bash", "-euo", "pipefail", "-c", block.text], folder)
            measured.append(Run(block, time.time() - wall, _cpu_of_children() - cpu))
    return measured


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _run(command: list[str], folder: pathlib.Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    paths = [str(ROOT), *filter(None, [env.get("PYTHONPATH")])]
    env |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), env["PATH"]]),
    }
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def main(pages: list[pathlib.Path]) -> None:
    """Print the stated and the measured seconds of each block."""
    for page in pages:
        with tempfile.TemporaryDirectory() as folder:
            for done in run(page, pathlib.Path(folder)):
                stated = f"{page.name:26} stated {done.block.seconds:3} s"
                cpu = f"{done.cpu_seconds:5.1f} s of processor time"
                print(f"{stated}, took {done.seconds:5.1f} s, {cpu}", flush=True)


if __name__ == "__main__":
    main([pathlib.Path(name) for name in sys.argv[1:]] or PAGES)
