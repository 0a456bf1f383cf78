"""What holds for the repository as a whole, whatever its rooms do."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.peers import ROOT

ROOMS = ("config", "db", "enhancer", "pacs_node", "webui", "cxr_sr")
DIST = ROOT / "webui" / "static" / "dist"

#: Hosts of package registries, in halves so that this file does not name them.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("download", "pytorch", "org"),
        ("deb", "debian", "org"),
        ("registry", "yarnpkg", "com"),
    )
]


def git(*arguments: str) -> str:
    """Return what git prints; without a working tree of git skip the test."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git working tree")
    command = ["git", "-C", str(ROOT), *arguments]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert said.returncode in (0, 1), said.stderr
    return said.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel and return the names of its files."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (built,) = folder.glob("cxr_sr-*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_tracked_file_names_a_registry_host(host: str) -> None:
    assert git("grep", "-lIF", host) == ""


def test_no_tracked_file_names_the_folder_it_was_written_in() -> None:
    assert git("grep", "-lIF", f"{ROOT}/") == ""


def test_nothing_that_a_command_builds_is_tracked() -> None:
    tracked = git("ls-files", "--", ".venv", "var", "webui/static/dist", "webui/frontend/node_modules")
    assert tracked == ""


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_typed_and_says_what_it_is(room: str) -> None:
    assert (ROOT / room / "py.typed").exists()
    assert (ROOT / room / "__init__.py").read_text().lstrip().startswith('"""')


@pytest.mark.parametrize("lock", ["runtime.txt", "dev.txt"])
def test_every_locked_file_has_a_hash_and_torch_is_not_among_them(lock: str) -> None:
    pins = re.split(r"^(?=[\w.-]+==)", (ROOT / "requirements" / lock).read_text(), flags=re.M)[1:]
    assert len(pins) > 40
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert [pin for pin in pins if pin.startswith("torch==")] == []


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0].lower().replace("_", "-") for line in lines}

    def locked(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text()
        return set(re.findall(r"^([\w.-]+)==", text, re.M)) | {"torch"}

    runtime, dev = locked("runtime.txt"), locked("dev.txt")
    assert names(project["dependencies"]) - runtime == set()
    assert names(project["optional-dependencies"]["dev"]) - dev == set()
    assert runtime - dev == set()


def test_the_wheel_carries_every_tracked_file_of_the_rooms(wheel: list[str]) -> None:
    tracked = git("ls-files", "--", *ROOMS).split("\n")
    present = {
        name for name in tracked if name and (ROOT / name).exists() and not name.startswith("webui/frontend/")
    }
    assert present - set(wheel) == set()


def test_the_wheel_carries_the_licence_and_the_attributions(wheel: list[str]) -> None:
    names = {Path(name).name for name in wheel if ".dist-info/licenses/" in name}
    assert names == {"LICENSE", "NOTICE", *(path.name for path in (ROOT / "LICENSES").iterdir())}


def test_the_wheel_carries_the_built_front_end_and_not_its_sources(wheel: list[str]) -> None:
    if not DIST.exists():
        pytest.skip("the front end is not built (make build-web)")
    built = {str(path.relative_to(ROOT)) for path in DIST.rglob("*") if path.is_file()}
    shipped = {name for name in built if not Path(name).name.startswith(".built-")}
    assert any(name.endswith("manifest.json") for name in shipped)
    assert {name for name in wheel if name.startswith("webui/static/dist/")} == shipped
    assert [name for name in wheel if name.startswith("webui/frontend/")] == []


def test_the_enhancer_imports_where_there_is_nothing_but_its_own_libraries() -> None:
    others = ["click", "flask", "pydantic", "pydicom", "pynetdicom", "sqlalchemy", "structlog", "alembic"]
    script = f"import sys; sys.modules.update(dict.fromkeys({others!r})); import enhancer; enhancer.load"
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0, said.stderr
