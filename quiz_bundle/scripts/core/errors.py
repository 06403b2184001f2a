"""The one exception for what a user can mend: a file, an option, a value."""


class InputError(ValueError):
    """A bad input, told in one line: what it is, what was expected, what was found, what to do.

    Args:
        subject: the file or option that is at fault, as the user named it.
        expected: what would have been right.
        found: what was there instead.
        remedy: what the user can do about it.
        unnamed: ``found`` without what could tell whose scan it is (names of files inside a folder, UIDs, descriptions),
            where that differs.

    Attributes:
        unnamed_line: the line with ``unnamed`` for ``found``; the subject and other paths are still in it.
    """

    def __init__(self, subject: object, expected: str, found: str, remedy: str, unnamed: str | None = None) -> None:
        self.subject, self.expected, self.found, self.remedy = str(subject), expected, found, remedy
        self.unnamed = unnamed
        super().__init__(self._line(found))
        self.unnamed_line = self._line(found if unnamed is None else unnamed)

    def _line(self, found: str) -> str:
        return " ".join(f"{self.subject}: expected {self.expected}, found {found}; {self.remedy}.".split())

    def __reduce__(self) -> tuple:
        """Survive the way back from another process."""
        return InputError, (self.subject, self.expected, self.found, self.remedy, self.unnamed)


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
    return " ".join(str(input_error(error) or innermost(error)).split())
