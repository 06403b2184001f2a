"""Which DICOM series is the fixed and which the moving one: by modality and by words of a description.

The rules lie in a JSON file that a site edits; ``docs/deploy.md`` says how. Nothing here needs the Deploy SDK.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from ...core.errors import InputError
from ...images.dicom.pairing import why_unfit
from ...images.dicom.series import Series

ROLES = ("fixed", "moving")
LISTED = 8  # series named in a message; a study can hold dozens


@dataclass(frozen=True)
class Rule:
    """What a series has to be to play a role.

    Attributes:
        modality: DICOM modalities, any of them.
        look_in: keywords of the DICOM attributes that describe a series; the first that holds one of the words decides.
        any_of: words of which it must hold one.
        none_of: words of which it must not hold any.
    """

    modality: tuple[str, ...]
    look_in: tuple[str, ...]
    any_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()

    def fits(self, header: Dataset) -> bool:
        """Whether a series with this header may play the role; a localizer never does."""
        if text_of(header, "Modality").upper() not in self.modality or "LOCALIZER" in text_of(header, "ImageType").upper():
            return False
        for keyword in self.look_in:
            text = text_of(header, keyword)
            if any(holds(text, word) for word in self.none_of):
                return False
            if any(holds(text, word) for word in self.any_of):
                return True
        return False


def text_of(header: Dataset, keyword: str) -> str:
    """The value of an attribute as text, several values with spaces between them, empty if there is none."""
    value = header.get(keyword)
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def words_of(text: str) -> list[str]:
    """A text as words: runs of letters or of digits, in lower case; ``BT1 pelvis`` is bt, 1, pelvis."""
    return re.findall(r"[^\W\d_]+|\d+", text.lower())


def holds(text: str, word: str) -> bool:
    """Whether a text holds a word, or several in a row; ``brachy*`` stands for every word that begins so.

    Words are whole: ``BT`` is in "BT1 pelvis" and in "HDR-BT", and neither in "EBRT" nor in "CBCT".
    """
    wanted, found = words_of(word), words_of(text)
    for start in range(len(found) - len(wanted) + 1):
        *whole, last = found[start : start + len(wanted)]
        if whole == wanted[:-1] and (last.startswith(wanted[-1]) if word.endswith("*") else last == wanted[-1]):
            return True
    return False


def read_rules(path: str | Path) -> dict[str, Rule]:
    """Read the rules of both roles from a JSON file.

    Raises:
        InputError: no such file, no JSON, or a rule that is not as ``docs/deploy.md`` says.
    """
    path = Path(path)
    remedy = "copy the file that comes with the bundle and edit its words"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, "a file of selection rules", (error.strerror or "no file").lower(), remedy) from error
    except ValueError as error:
        raise InputError(path, "selection rules as JSON", f"a mistake in it ({error})", remedy) from error
    rules = {key: value for key, value in content.items() if key != "about"} if isinstance(content, dict) else {}
    if set(rules) != set(ROLES):
        raise InputError(path, "rules for fixed and for moving", ", ".join(rules) or "neither", remedy)
    return {role: _rule(path, role, rules[role]) for role in ROLES}


def _rule(path: Path, role: str, given: object) -> Rule:
    """One rule, checked; a misspelt key or attribute would otherwise match nothing, or everything, in silence."""
    names = [field.name for field in fields(Rule)]
    if not isinstance(given, Mapping) or not set(given) <= set(names) or not set(given) >= set(names) - {"none_of"}:
        found = ", ".join(given) if isinstance(given, Mapping) else repr(given)
        raise InputError(path, f"'{role}' to have {', '.join(names)}", found, "correct the names")
    for name, value in given.items():
        texts = isinstance(value, list) and all(isinstance(item, str) and words_of(item) for item in value)
        if not texts or (not value and name != "none_of"):
            raise InputError(path, f"'{role}', '{name}' to be a list of words", repr(value), "correct the list")
    for keyword in given["look_in"]:
        if tag_for_keyword(keyword) is None:
            expected = f"'{role}', 'look_in' to hold names of DICOM attributes, such as SeriesDescription"
            raise InputError(path, expected, repr(keyword), "correct the name")
    values = {name: tuple(value) for name, value in given.items()}
    return Rule(**{**values, "modality": tuple(modality.upper() for modality in values["modality"])})


def choose(folder: str | Path, role: str, rule: Rule, headers: Sequence[Dataset], rules_file: str | Path) -> int:
    """The one series that may play a role.

    Args:
        folder: where the series come from, for the message.
        role: "fixed" or "moving".
        rule: of this role.
        headers: one of each series.
        rules_file: where the rule can be edited, for the message.

    Returns:
        Its place in ``headers``.

    Raises:
        InputError: none fits, or several do.
    """
    fitting = [place for place, header in enumerate(headers) if rule.fits(header)]
    if len(fitting) == 1:
        return fitting[0]
    words = f"{' or '.join(rule.modality)} described by one of {', '.join(rule.any_of)}"
    if fitting:
        found = f"{len(fitting)}: {_named([headers[place] for place in fitting])}"
        remedy = f"leave out all but one, or make the words for '{role}' in {rules_file} narrower"
    else:
        found = f"none among {len(headers)}: {_named(headers)}" if headers else "no DICOM series at all"
        remedy = f"add it, or edit the words for '{role}' in {rules_file}"
    raise InputError(folder, f"one series as {role} ({words})", found, remedy)


def _named(headers: Sequence[Dataset]) -> str:
    """Series as a user knows them: modality and descriptions."""
    names = []
    for header in headers[:LISTED]:
        described = " / ".join(filter(None, (text_of(header, f"{level}Description") for level in ("Study", "Series"))))
        names.append(f"{text_of(header, 'Modality') or 'no modality'} '{described}'")
    more = len(headers) - LISTED
    return "; ".join(names) + (f"; and {more} more" if more > 0 else "")


def check_pair(folder: str | Path, fixed: Dataset, moving: Dataset, rules_file: str | Path) -> None:
    """Refuse two headers that are no pair.

    Raises:
        InputError: they are one and the same series, or not of one patient, as far as can be told.
    """
    if text_of(fixed, "SeriesInstanceUID") == text_of(moving, "SeriesInstanceUID"):
        remedy = f"add to none_of in {rules_file} what tells them apart"
        raise InputError(folder, "two different series as fixed and moving", f"one for both: {_named([fixed])}", remedy)
    if reason := why_unfit(Series.of([fixed]), Series.of([moving])):
        found = reason[0].lower() + reason[1:].rstrip(".")
        raise InputError(folder, "two series of one patient", found, "give the studies of one patient only")
