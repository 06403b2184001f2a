"""Exit statuses: the only module that sets them, called from the ``run`` lists alone.

``monai.bundle run`` re-raises what goes wrong inside its own errors; a user's mistake should end in one line and
status 1, an unexpected error in its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType

from ..core.console import lines_above_bars
from ..core.errors import input_error
from ..core.options import as_bool
from .anonymous import quieten, told
from .command import Command

FAILED, NOT_ACCEPTED = 1, 3


def tell_input_errors(inputs: Sequence[str] = ()) -> None:
    """From here on an ``InputError``, wherever in a chain of causes, ends the program with its one line and status 1.

    Comes first in each ``run`` list, before anything is read or written, and looks at the command: ids that no config
    knows are refused, and options with a ``#`` in them mended (see ``command.Command``). With ``anonymous``, inputs are
    named by their roles, and an unexpected error is told by its type alone.

    Args:
        inputs: ids whose values may tell whose scan it is.

    Raises:
        InputError: an option is not known, or ``anonymous`` or ``strict`` neither true nor false.
    """
    usual = sys.excepthook
    command, paths, hidden = Command.this(), {}, False

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause = input_error(error) or command.misfit(error)
        if cause is not None or hidden:
            sys.stderr.write(f"{told(cause or error, paths if hidden else None)}\n")
        else:
            usual(kind, error, trace)

    sys.excepthook = hook
    lines_above_bars()
    command.check_ids()
    command.keep_text()
    hidden = as_bool("anonymous", command.value("anonymous", False))
    paths.update((name, command.value(name)) for name in inputs)
    if hidden:
        quieten()
    as_bool("strict", command.value("strict", False))  # looked at only when all is done, so checked here


def finish(records: Sequence[Mapping[str, object]], strict: object = False) -> None:
    """End with status 1 if a case failed, with 3 if ``strict`` and a registration was not accepted.

    Raises:
        Exception: what a case on its own failed of.
    """
    failed = [record for record in records if record["status"] == "failed"]
    if failed and "error" in failed[0]:
        raise failed[0]["error"]
    if failed:
        sys.stderr.write("".join(f"{record['name']}: {record['message']}\n" for record in failed))
        raise SystemExit(FAILED)
    if as_bool("strict", strict) and not all(record["accepted"] for record in records):
        raise SystemExit(NOT_ACCEPTED)
