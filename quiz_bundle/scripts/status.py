"""Exit statuses: the only module that sets them, called from the ``run`` lists alone.

``monai.bundle run`` re-raises what goes wrong inside its own errors; a user's mistake should end in one line and status 1,
an unexpected error in its traceback.
"""

from __future__ import annotations

import sys
from types import TracebackType

from .errors import InputError

NOT_ACCEPTED = 3


def tell_input_errors() -> None:
    """From here on an ``InputError``, wherever in a chain of causes, ends the program with its one line and status 1."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, InputError):
                sys.stderr.write(f"{cause}\n")
                return
            cause = cause.__cause__ or cause.__context__
        usual(kind, error, trace)

    sys.excepthook = hook
