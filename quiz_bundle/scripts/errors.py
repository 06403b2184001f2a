"""The one exception for what a user can mend: a file, an option, a value."""


class InputError(ValueError):
    """A bad input, told in one line: what it is, what was expected, what was found, what to do.

    Args:
        subject: the file or option that is at fault, as the user named it.
        expected: what would have been right.
        found: what was there instead.
        remedy: what the user can do about it.
    """

    def __init__(self, subject: object, expected: str, found: str, remedy: str) -> None:
        self.subject, self.expected, self.found, self.remedy = str(subject), expected, found, remedy
        line = f"{subject}: expected {expected}, found {found}; {remedy}."
        super().__init__(" ".join(line.split()))

    def __reduce__(self) -> tuple:
        """Survive the way back from another process."""
        return InputError, (self.subject, self.expected, self.found, self.remedy)
