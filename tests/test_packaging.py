"""What a user installs: skillrl and nothing beside it."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import skillrl

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and a source distribution, built from a copy of what they need."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("skillrl", "tests", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("envs", "agents"):
        (copy / name).symlink_to(f"skillrl/{name}")
    out = tmp_path_factory.mktemp("built")
    code = (
        "import setuptools.build_meta as backend, sys; out = sys.argv[1]; "
        "backend.build_wheel(out); backend.build_sdist(out)"
    )
    subprocess.run([sys.executable, "-c", code, out], cwd=copy, check=True, capture_output=True)
    return out


def test_wheel_holds_the_package_only(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    metadata = f"skillrl-{skillrl.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        entry_points = file.read(f"{metadata}/entry_points.txt").decode()
    assert {name.split("/")[0] for name in names} == {"skillrl", metadata}
    assert "skillrl/py.typed" in names
    assert "skillrl = skillrl.cli:main" in entry_points
    code = (".py", ".pyi")
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "skillrl").rglob("*")  # follows no links, and there are none inside
        if path.suffix in code
    }
    assert expected == {name for name in names if name.endswith(code)}


def test_source_distribution_holds_no_module_twice(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = [name.partition("/")[2] for name in file.getnames()]
    assert not [name for name in names if name.split("/")[0] in {"envs", "agents"}]
    assert names.count("skillrl/__init__.py") == 1


def test_the_links_at_the_root_lead_into_the_package() -> None:
    for name in ("envs", "agents"):
        assert (ROOT / name).resolve() == (ROOT / "skillrl" / name).resolve()


def test_every_requirement_is_pinned_and_allows_its_pin() -> None:
    packaging_requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    extras = project["optional-dependencies"].values()
    for text in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = packaging_requirements.Requirement(text)
        assert pins[requirement.name] in requirement.specifier, text
    assert not [pin for pin in pins.values() if "+" in pin], "a local version is in no registry"


def test_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^version: (.+)$", citation) == [skillrl.__version__]
