"""Log lines on a terminal that shows a progress bar."""

from __future__ import annotations

import logging
from typing import TextIO

from tqdm import tqdm


class AboveBars:
    """A stream whose text appears above the progress bars of this process, which are drawn again below it.

    Args:
        stream: where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Clear the bars, write, and draw them again; without a bar, write."""
        tqdm.write(text, file=self.stream, end="")

    def flush(self) -> None:
        """Flush the stream itself."""
        self.stream.flush()


def lines_above_bars() -> None:
    """From here on no line of the root logger's console breaks a bar; ``configs/logging.conf`` may name no class of ours."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler and not isinstance(handler.stream, AboveBars):
            handler.setStream(AboveBars(handler.stream))
