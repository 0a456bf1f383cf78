"""Nothing that we run was made by whoever sent it: no pickle, no evaluated text, no shell, no odd weights."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from enhancer import modelfile
from enhancer.errors import ModelFileError
from tests.peers import ROOT

ROOMS = ("config", "db", "enhancer", "pacs_node", "webui", "cxr_sr", "tools")

MODULES = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})
"""Reading what these write runs what it says."""

CALLS = frozenset(
    {
        "eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load",
        "tempfile.mktemp", "ssl._create_unverified_context", "numpy.fromregex", "pandas.read_pickle",
        "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn",
    }
)  # fmt: skip

XML = {"pacs_node/stow.py": "answers of archives, as text without declarations"}
"""Where XML is read, and why that is safe."""


def faults(text: str, file: str) -> Iterator[str]:
    """What in a module runs, or trusts, what others wrote."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            more = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            names = [name for name in more if name.split(".")[0] in MODULES]
            yield from (f"{file}:{node.lineno} imports {name}" for name in names)
        if isinstance(node, ast.Call):
            yield from (f"{file}:{node.lineno} {why}" for why in _calls(node, file))


def _calls(node: ast.Call, file: str) -> Iterator[str]:
    name = ast.unparse(node.func)
    said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in CALLS:
        yield f"calls {name}"
    if name == "torch.load" and said.get("weights_only") != "True":
        yield "calls torch.load without weights_only"
    if name.endswith(("jit.load", "hub.load")):
        yield f"calls {name}"
    if said.get("shell", "False") != "False":
        yield "starts a shell"
    if said.get("allow_pickle", "False") != "False":
        yield "reads pickled arrays"
    if said.get("verify") == "False" and "hasher" not in name:
        yield "believes any certificate"
    parses = name.lower().endswith(("tree.fromstring", "tree.iterparse", "tree.parse", "tree.xml"))
    if parses and file not in XML:
        yield "reads XML"


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_runs_what_others_wrote(room: str) -> None:
    found = []
    for file in sorted((ROOT / room).rglob("*.py")):
        if "node_modules" not in file.parts:
            found += list(faults(file.read_text(), str(file.relative_to(ROOT))))
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import a, dill", "torch.load(p)",
        "torch.load(p, weights_only=False)", "eval(x)", "exec(x)", "yaml.load(f)", "os.system('ls')",
        "subprocess.run(x, shell=True)", "np.load(f, allow_pickle=True)", "requests.get(u, verify=False)",
        "ElementTree.fromstring(x)", "torch.hub.load(x)",
    ],
)  # fmt: skip
def test_each_of_these_would_be_found(text: str) -> None:
    assert list(faults(text, "x.py"))


def test_what_is_fine_is_not_found() -> None:
    fine = "torch.load(p, weights_only=True)\nnetwork.eval()\nre.compile('x')\nsubprocess.run(['ls'])"
    assert list(faults(fine, "x.py")) == []


EXCUSED = re.compile(r"# noqa: [A-Z0-9, ]*\bS\d+")


def test_each_exception_from_the_security_rules_says_why() -> None:
    silent = [
        f"{file.relative_to(ROOT)}:{number}"
        for room in ROOMS
        for file in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if EXCUSED.search(line) and not re.search(r"# noqa: [A-Z0-9, ]+ - \w", line)
    ]
    assert silent == []


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped models, which stands for them."""
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(modelfile.SHIPPED / "srresnet.safetensors", folder)
    monkeypatch.setattr(modelfile, "SHIPPED", folder)
    return folder


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_one_flipped_bit_of_the_weights_is_refused_in_words(shipped: Path, where: float) -> None:
    file = shipped / "srresnet.safetensors"
    assert modelfile.read_model(file).name == "srresnet"
    content = bytearray(file.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ModelFileError, match="not the file that was shipped"):
        modelfile.read_model(file)
    with pytest.raises(ModelFileError, match="not the file that was shipped"):
        modelfile.read_label(file)


def test_a_model_that_nobody_shipped_has_no_place_among_the_shipped(shipped: Path) -> None:
    other = shipped / "mine.safetensors"
    shutil.copy(shipped / "srresnet.safetensors", other)
    with pytest.raises(ModelFileError, match="not the file that was shipped"):
        modelfile.read_model(other)
