"""The import arrows: the application knows models and datamodules, which know neither it nor each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lightning_app", "models", "datamodules", "experiments", "tests")
ALLOWED = {
    "models": {"models"},
    "datamodules": {"datamodules"},
    "lightning_app": {"lightning_app", "models", "datamodules"},
    "experiments": {"experiments"},
}
HEAVY = {
    "torch",
    "pytorch_lightning",
    "segmentation_models_pytorch",
    "albumentations",
    "neurokit2",
    "matplotlib",
    "skimage",
    "surface_distance",
    "wandb",
}
# Modules that answer in a blink: nothing heavy at their top, in themselves and in what they import from us.
LIGHT = [
    "lightning_app",
    "models",
    "datamodules",
    "datamodules.errors",
    "datamodules.layout",
    "datamodules.geometry",
    "datamodules.folds",
    "datamodules.cohort",
    "datamodules.leakage",
    "datamodules.patches",
    "datamodules.degrade",
    "datamodules.signals",
    "lightning_app.specs",
    "lightning_app.cells",
    "lightning_app.cli",
    "lightning_app.report.pages",
]


def imported(source, module, is_package, top_only=False):
    """Names of the modules that a source file imports, relative imports resolved."""
    tree = ast.parse(source)
    nodes = tree.body if top_only else ast.walk(tree)
    package = module if is_package else module.rpartition(".")[0]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            names |= {name} | {f"{name}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _called(node.func) in ("__import__", "import_module"):
            names |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return names


def _called(function):
    return getattr(function, "id", None) or getattr(function, "attr", None)


def sources(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield path, ".".join(parts[:-1] if is_package else parts), is_package


def violations(package, module, source, is_package=False):
    names = {name.partition(".")[0] for name in imported(source, module, is_package)}
    return sorted(names & (set(PACKAGES) - ALLOWED[package]))


@pytest.mark.parametrize("package", ALLOWED)
def test_no_module_imports_against_the_arrow(package):
    found = {
        str(path.relative_to(ROOT)): wrong
        for path, module, is_package in sources(package)
        if (wrong := violations(package, module, path.read_text("utf-8"), is_package))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("models", "import datamodules.scans"),
        ("models", "from lightning_app import specs"),
        ("models", "def f():\n    from datamodules.patches import window_starts"),
        ("datamodules", "from models.windows import predict_page"),
        ("datamodules", "import importlib\nimportlib.import_module('lightning_app.cells')"),
        ("datamodules", "from tests.shared import SHARED"),
        ("lightning_app", "import tests.shared"),
    ],
)
def test_a_planted_import_against_the_arrow_is_found(package, source):
    assert violations(package, f"{package}.planted", source) != []


def test_imports_along_the_arrow_and_relative_ones_are_not_reported():
    source = (
        "from datamodules import scans\nimport models.fcn\nfrom . import specs\nfrom ..lightning_app import x"
    )
    assert violations("lightning_app", "lightning_app.engines.local", source) == []


@pytest.mark.parametrize("package", ["datamodules", "models", "lightning_app"])
def test_nobody_imports_the_other_lightning_namespace(package):
    for path, module, is_package in sources(package):
        roots = {name.partition(".")[0] for name in imported(path.read_text("utf-8"), module, is_package)}
        assert "lightning" not in roots, path


def test_only_degrade_knows_albumentations():
    knowing = [
        str(path.relative_to(ROOT))
        for package in ALLOWED
        for path, module, is_package in sources(package)
        if any(
            name.startswith("albumentations")
            for name in imported(path.read_text("utf-8"), module, is_package)
        )
    ]
    assert knowing == ["datamodules/degrade.py"]


def heavy_reached(module):
    """Heavy packages imported at the top of a module or of any module of ours that it imports at its top."""
    files = {name: (path, is_package) for package in ALLOWED for path, name, is_package in sources(package)}
    todo, seen, heavy = [module], set(), {}
    while todo:
        name = todo.pop()
        if name in seen or name not in files:
            continue
        seen.add(name)
        path, is_package = files[name]
        for found in imported(path.read_text("utf-8"), name, is_package, top_only=True):
            if found.partition(".")[0] in HEAVY:
                heavy[name] = found
            todo.append(found)
        todo.append(name.rpartition(".")[0])
    return heavy


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_reach_nothing_heavy(module):
    path = ROOT / module.replace(".", "/")
    if not (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()):
        pytest.skip(f"{module} does not exist yet")
    assert heavy_reached(module) == {}


def test_the_search_for_heavy_imports_sees_through_our_modules():
    assert "datamodules.page_store" in heavy_reached("datamodules.scans")


def test_the_command_line_starts_without_torch():
    if not (ROOT / "lightning_app" / "cli.py").is_file():
        pytest.skip("lightning_app.cli does not exist yet")
    code = f"import sys, lightning_app.cli; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
