"""The promises around the code: locked set-up, one OpenCV, nobody else owns our import names."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-ray.lock", "bootstrap.lock")
OUR_PACKAGES = ("lightning_app", "models", "datamodules", "experiments")


def locked_names(lock: str) -> set[str]:
    lines = (ROOT / lock).read_text().splitlines()
    return {line.split("==")[0] for line in lines if "==" in line and not line.startswith(" ")}


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_address_and_hashes_everything(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    entries = re.findall(r"^\S+==.*(?:\n +--hash=sha256:.*)+", text, re.M)
    assert len(entries) == len(re.findall(r"^\S+==", text, re.M)) > 0


def test_lock_holds_one_opencv():
    assert "opencv-python" in locked_names("requirements.lock")
    assert "opencv-python-headless" not in locked_names("requirements.lock")


def test_every_requirement_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=!~ ;\[]", requirement)[0] for requirement in project["dependencies"]}
    assert wanted <= locked_names("requirements.lock")


def test_nobody_else_owns_our_import_names():
    owners = metadata.packages_distributions()
    for package in OUR_PACKAGES:
        assert set(owners.get(package, ["inkbeat"])) == {"inkbeat"}


def test_imports_resolve_to_this_checkout():
    for package in OUR_PACKAGES:
        module = __import__(package)
        assert Path(module.__file__).resolve().is_relative_to(ROOT)


COPYLEFT = re.compile(r"\b(A?GPL|LGPL|GNU (Affero |Lesser |Library )?General Public)", re.I)


def runtime_closure() -> set[str]:
    """Names of everything our run-time requirements pull in, as installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    queue = [re.split(r"[<>=!~ ;\[]", requirement)[0] for requirement in project["dependencies"]]
    seen: set[str] = set()
    while queue:
        name = queue.pop().lower().replace("_", "-")
        if name in seen:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        seen.add(name)
        queue += [re.split(r"[<>=!~ ;\[(]", r)[0] for r in requires if "extra ==" not in r]
    return seen


def test_no_copyleft_among_runtime_dependencies():
    guilty = []
    for name in sorted(runtime_closure()):
        info = metadata.metadata(name)
        licences = [info.get("License-Expression") or "", *(info.get_all("Classifier") or [])]
        text = " ".join(line for line in licences if "Licen" in line or line == licences[0])
        if COPYLEFT.search(text):
            guilty.append((name, text))
    assert not guilty
