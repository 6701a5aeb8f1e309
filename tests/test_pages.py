"""The programs of README.md and of the pages in docs run as they are printed, each in a process of
its own. They compile what a user's first session compiles.
"""

import pytest
from pages import blocks

PAGES = {str(page.relative_to(blocks.ROOT)): page for page in blocks.PAGES}
PROGRAMS = [(name, block) for name, page in PAGES.items() for block in blocks.blocks(page)]


@pytest.mark.parametrize(
    "name", [name for name, page in PAGES.items() if any(x.is_run for x in blocks.blocks(page))]
)
def test_the_programs_of_a_page_run(name, tmp_path):
    measured = blocks.run(PAGES[name], tmp_path)
    assert len(measured) == sum(block.is_run for block in blocks.blocks(PAGES[name]))


def test_every_program_states_its_time():
    run = {(name, block.text): block.seconds for name, block in PROGRAMS if block.is_run}
    assert run
    assert not [where for where, seconds in run.items() if not 0 < seconds <= blocks.MAX_SECONDS]


def test_programs_that_are_not_run_are_few_and_on_the_pages():
    starts = [block.text for _, block in PROGRAMS if not block.is_run]
    assert all(any(text.startswith(start) for text in starts) for start in blocks.NOT_RUN)
    assert len(starts) <= len(blocks.NOT_RUN) + 3


def test_a_program_that_fails_is_shown(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(undefined)\n```\n")
    with pytest.raises(RuntimeError, match="NameError: name 'undefined'"):
        blocks.run(page, tmp_path)
    page.write_text("```sh\nfalse\ntrue\n```\n")
    with pytest.raises(RuntimeError, match="false"):
        blocks.run(page, tmp_path)


def test_both_commands_are_on_the_first_screen_of_the_readme():
    lines = (blocks.ROOT / "README.md").read_text().splitlines()[:25]
    assert any(line.startswith("make demo") for line in lines)
    assert any(line.startswith("make test") for line in lines)
