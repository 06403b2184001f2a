"""Log lines beside a progress bar."""

import io
import logging

import pytest
from scripts.core.console import AboveBars, lines_above_bars
from tqdm import tqdm


@pytest.fixture
def console():
    """A handler like the one of logging.conf, on the root logger, and what its terminal shows."""
    screen = io.StringIO()
    handler = logging.StreamHandler(screen)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    yield handler, screen
    logging.getLogger().removeHandler(handler)


def shown(text):
    """The lines of a terminal: what follows a carriage return overwrites the line from its beginning."""
    lines = []
    for line in text.split("\n"):
        cells = ""
        for part in line.split("\r"):
            cells = part + cells[len(part) :]
        lines.append(cells.rstrip())
    return lines


def test_a_line_stands_above_the_bar_and_the_bar_below_it(console):
    _, screen = console
    lines_above_bars()
    with tqdm(total=3, desc="cases", file=screen, mininterval=0) as bar:
        bar.update()
        logging.getLogger("anybody").warning("one of them is odd")
        bar.update(2)
    lines = shown(screen.getvalue())
    assert lines[0] == "WARNING one of them is odd"
    assert lines[1].startswith("cases: 100%") and "3/3" in lines[1] and lines[2:] == [""]


def test_asked_for_twice_it_is_done_once(console):
    handler, screen = console
    lines_above_bars()
    lines_above_bars()
    assert isinstance(handler.stream, AboveBars) and handler.stream.stream is screen
    logging.getLogger().warning("no bar here")
    assert screen.getvalue() == "WARNING no bar here\n"
