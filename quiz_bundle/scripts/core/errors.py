"""The one exception for what a user can mend: a file, an option, a value."""

from __future__ import annotations

from collections.abc import Callable


class InputError(ValueError):
    """A bad input, told in one line: what it is, what was expected, what was found, what to do.

    Args:
        subject: the file or option that is at fault, as the user named it.
        expected: what would have been right.
        found: what was there instead.
        remedy: what the user can do about it.
        unnamed: ``found`` without what could tell whose scan it is (names of files inside a folder, UIDs, descriptions),
            where that differs.

    """

    def __init__(self, subject: object, expected: str, found: str, remedy: str, unnamed: str | None = None) -> None:
        self.subject, self.expected, self.found, self.remedy = str(subject), expected, found, remedy
        self.unnamed = unnamed
        super().__init__(_line(self.subject, expected, found, remedy))

    def hidden(self, hide: Callable[[str], str]) -> str:
        """The line with ``unnamed`` for ``found``, and each of its pieces as ``hide`` makes it."""
        found = self.found if self.unnamed is None else self.unnamed
        return _line(*(hide(piece) for piece in (self.subject, self.expected, found, self.remedy)))

    def __reduce__(self) -> tuple:
        """Survive the way back from another process."""
        return InputError, (self.subject, self.expected, self.found, self.remedy, self.unnamed)


def _line(subject: str, expected: str, found: str, remedy: str) -> str:
    return " ".join(f"{subject}: expected {expected}, found {found}; {remedy}{'' if remedy.endswith('.') else '.'}".split())


def input_error(error: BaseException | None) -> InputError | None:
    """The ``InputError`` in an exception's chain of causes, if there is one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def innermost(error: BaseException) -> BaseException:
    """The first of an exception's chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def in_one_line(error: BaseException) -> str:
    """What went wrong, for a table: the user's mistake if it was one, else the message of the first cause."""
    return printable(" ".join(str(input_error(error) or innermost(error)).split()))


def printable(text: object) -> str:
    """A text whose bytes were no UTF-8 (names of files from old systems, as Python hands them on), read as Latin-1."""
    try:
        str(text).encode()
    except UnicodeEncodeError:
        return str(text).encode("utf-8", "surrogateescape").decode("latin-1")
    return str(text)
