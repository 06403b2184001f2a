"""The tree as docs/conventions.md draws it: a few packages, one direction of imports, and no more loaded than is used."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BUNDLE = Path(__file__).resolve().parents[2] / "quiz_bundle"
SCRIPTS = BUNDLE / "scripts"
PACKAGES = (
    "core", "images", "network", "registration", "report", "synthetic", "training", "checks", "apps", "study",
)  # fmt: skip


def imported(path):
    """The packages of ours that a module imports, wherever in it."""
    package = path.relative_to(SCRIPTS).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            yield (base + tuple((node.module or node.names[0].name).split(".")))[0]


def loaded_by(*modules):
    """The packages of ours that a fresh Python has loaded after importing some modules."""
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules!r}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=BUNDLE, capture_output=True, text=True, check=True)
    return {name.split(".")[1] for name in done.stdout.split() if name.startswith("scripts.")}


def targets(config):
    """The modules of ours that a config names."""
    names = re.findall(r'"_target_": "(scripts\.[\w.]+)"', (BUNDLE / "configs" / config).read_text(encoding="utf-8"))
    found = set()
    for name in names:
        parts = name.split(".")
        while not (BUNDLE.joinpath(*parts).with_suffix(".py").exists() or BUNDLE.joinpath(*parts).is_dir()):
            parts.pop()
        found.add(".".join(parts))
    return found


def test_there_are_ten_packages_and_no_loose_modules():
    assert {path.name for path in SCRIPTS.iterdir() if path.name != "__pycache__"} == {"__init__.py", *PACKAGES}
    assert json.loads((BUNDLE / "configs" / "metadata.json").read_text())["version"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_lower_package_never_imports_a_higher_one(package):
    allowed = set(PACKAGES[: PACKAGES.index(package) + 1])
    for path in (SCRIPTS / package).rglob("*.py"):
        assert set(imported(path)) <= allowed, path.relative_to(SCRIPTS)


def test_registering_loads_neither_phantoms_nor_training_nor_research():
    assert loaded_by("scripts.registration") == {"core", "images", "network", "registration"}
    assert loaded_by(*targets("inference.json")) == {"core", "images", "network", "registration", "report", "apps"}


def test_evaluating_loads_no_peers():
    assert "study" not in loaded_by(*targets("train.json"), *targets("evaluate.json"))


def defined(path):
    """The names at the top of a module, whether or not what it needs is installed."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for inner in ast.walk(node) if isinstance(node, (ast.If, ast.Try, ast.With)) else [node]:
            if isinstance(inner, (ast.FunctionDef, ast.ClassDef)):
                yield inner.name
            elif isinstance(inner, (ast.Import, ast.ImportFrom)):
                yield from (alias.asname or alias.name.split(".")[0] for alias in inner.names)
            elif isinstance(inner, (ast.Assign, ast.AnnAssign)):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def test_every_name_that_a_module_imports_of_ours_is_there():
    """Of modules too that need an SDK which is not installed here."""
    for path in SCRIPTS.rglob("*.py"):
        package = path.relative_to(SCRIPTS).parent.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                place = SCRIPTS.joinpath(*package[: len(package) - node.level + 1], *(node.module or "").split("."))
                alone = node.module and place.with_suffix(".py").exists()
                module = place.with_suffix(".py") if alone else place / "__init__.py"
                modules = {found.stem for found in place.glob("*.py")} | {found.name for found in place.glob("*/")}
                for alias in node.names:
                    assert alias.name in {*defined(module), *modules}, (str(path.relative_to(SCRIPTS)), alias.name)
