"""What the user typed: MONAI merges a command's options into the config without a trace, so the call itself is looked at."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle import run as bundle_run

from ..core.bundle import BUNDLE
from ..core.errors import InputError, innermost, input_error
from ..core.options import nearest

ARGUMENTS = set(inspect.signature(bundle_run).parameters) - {"override"} | {"workflow_type", "properties_path"}
TRACKING = {"output_dir", "tracking_uri", "experiment_name", "run_name", "save_execute_config"}  # of --tracking
BASE = "base"  # id that names the config that a config is laid over
MISFIT = "Failed to instantiate component"  # how MONAI says that arguments do not fit
QUOTED = ("'", '"', "[", "(", "{")  # how values begin that are read as Python


@dataclass
class Command:
    """A ``python -m monai.bundle run`` under way.

    Attributes:
        parser: of the workflow that runs; None where none does.
        options: ids and values of the command line and of ``args_file``, as they were written.
        configs: the config files' own ids and values; empty where the workflow was made in Python.
        tracked: whether ``--tracking`` was given, which brings ids of its own.
    """

    parser: ConfigParser | None = None
    options: dict[str, object] = field(default_factory=dict)
    configs: dict[str, object] = field(default_factory=dict)
    tracked: bool = False

    @classmethod
    def this(cls) -> Command:
        """The innermost one on the stack."""
        frame = sys._getframe()
        workflow = None
        while frame is not None:
            if workflow is None and frame.f_code is ConfigWorkflow.run.__code__:
                workflow = frame.f_locals["self"]
            elif workflow is not None and frame.f_code is bundle_run.__code__:
                call = frame.f_locals
                if call["workflow"] is workflow:
                    return cls._of(workflow.parser, call)
            frame = frame.f_back
        return cls(None if workflow is None else workflow.parser)

    @classmethod
    def _of(cls, parser: ConfigParser, call: Mapping[str, object]) -> Command:
        filed = ConfigParser.load_config_file(call["args_file"]) if call["args_file"] else {}
        typed = as_typed({key: value for key, value in call["override"].items() if value is not None}, sys.argv[1:])
        files = call["config_file"] or filed.get("config_file")
        options = {key: value for key, value in {**filed, **typed}.items() if key not in ARGUMENTS}
        tracked = (call["tracking"] or filed.get("tracking")) is not None
        return cls(parser, options, over_base(ConfigParser.load_config_files(files)), tracked)

    def check_ids(self) -> None:
        """Refuse an option that no loaded config knows.

        Raises:
            InputError: there is one; names the nearest id.
        """
        known = {*self.configs, ConfigParser.meta_key, "bundle_root"} | (TRACKING if self.tracked else set())
        for option in self.options if self.configs else ():
            name = _top(option)
            if name not in known:
                remedy = f"did you mean --{nearest(name, known)}? Overlays in --config_file may add ids"
                raise InputError(name, "an option of this run", "one that no config knows", remedy)

    def keep_text(self) -> None:
        """Give texts that MONAI or Fire has changed (a ``#`` is a separator to the one, a comment to the other) back.

        Those that begin with ``$``, ``@`` or ``%`` are MONAI's to read. Has to come before anything uses them.
        """
        written = {**self.configs, **{name: value for name, value in self.options.items() if _top(name) == name}}
        for name, value in written.items():
            texts = value if isinstance(value, (list, tuple)) else [value]
            plain = all(isinstance(text, str) and not text.startswith(("$", "@", "%")) for text in texts)
            if plain and self.parser[name] != value:
                self.parser.ref_resolver.resolved_content[name] = value

    def misfit(self, error: BaseException) -> InputError | None:
        """The mistake of options below an id (``inferer#amp``) that their component does not take; None for other errors."""
        below = ", ".join(option for option in self.options if _top(option) != option.removeprefix("+"))
        if not below or MISFIT not in str(error):
            return None
        why = " ".join(str(innermost(error)).split())
        return InputError(below, "values that their components take", why, "look them up in the config", unnamed="others")

    def value(self, name: str, default: object = None) -> object:
        """What an id stands for; ``default`` where the config does not have it.

        Raises:
            InputError: its value begins with ``$`` or ``@``, which MONAI evaluates, and that fails.
        """
        if self.parser is None or name not in self.parser:
            return default
        try:
            return self.parser.get_parsed_content(name)
        except Exception as error:
            text = self.options.get(name)
            if input_error(error) is not None or not isinstance(text, str):
                raise
            expected, found = "a value, or an expression that MONAI can evaluate", f"{text!r}, and it cannot"
            hidden = f"one that begins with {text[0]!r} ({type(innermost(error)).__name__})"
            raise InputError(name, expected, found, "write ./ before a path that begins with $ or @", hidden) from error


def over_base(config: Mapping[str, object]) -> dict[str, object]:
    """A config laid over the one that its ``base`` names, a file in ``configs``; as it is where it names none.

    Its top-level ids take the place of the base's; those under ``overlay`` (``cases#name``) change what lies deeper, which
    MONAI refuses at the top of a file that is given alone.
    """
    if not config.get(BASE):
        return dict(config)
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLE / "configs" / str(config[BASE])))
    for name, value in {**config, **config.get("overlay", {})}.items():
        parser[name] = value
    return parser.get()


def run_over_base(run: str) -> None:
    """Lay the config under way over its base, options and all, and go through a list of ids of what comes out.

    Args:
        run: id of the list.
    """
    parser = Command.this().parser
    parser.set(over_base(parser.get()))
    parser.parse()
    for number in range(len(parser[run])):
        parser.get_parsed_content(f"{run}#{number}")


def _top(option: str) -> str:
    """The top-level id of an option: ``b`` of ``+b``, ``b#c`` and ``b::c``."""
    return re.split("#|::", option.removeprefix("+"))[0]


def as_typed(options: Mapping[str, object], words: Sequence[str]) -> dict[str, object]:
    """Options as they stand on the command line: Fire cuts texts as Python code (``ct#2``), MONAI changes lists in place."""
    typed = dict(_pairs(words))
    result = dict(options)
    for name, value in options.items():
        text = typed.get(name)
        if text is not None and isinstance(value, (str, list)):
            result[name] = DefaultParseValue(text) if text.startswith(QUOTED) else text
    return result


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and texts of options, in Fire's syntax: ``--name text`` or ``--name=text``."""
    for word, following in zip(words, [*words[1:], "--"], strict=False):  # of no words nothing
        if re.match("--|-[a-zA-Z]", word):
            name, equals, text = word.lstrip("-").partition("=")
            if equals or not re.match("--|-[a-zA-Z]", following):
                yield name.replace("-", "_"), text if equals else following
