"""The wheel holds the package, recipes and build profiles, and what is installed from it runs."""

from __future__ import annotations

import email.message
import email.parser
import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import hrnet_deploy

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "hrnet_deploy"
VERSION = hrnet_deploy.__version__
INFO = f"hrnet_deploy-{VERSION}.dist-info"
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
SUFFIXES = {".css", ".cu", ".html", ".js", ".json", ".md", ".pth", ".py", ".toml", ".typed"}
MAX_CHECKPOINT_BYTES = 4_000_000
MAX_WHEEL_BYTES = 5_000_000
MAX_TREE_BYTES = 8 << 20
EXTRAS = {
    *("all", "cpu", "dev", "export", "gpu", "mpii", "openvino", "parquet", "report"),
    *("rtx", "supervision", "tensorrt", "view"),
}

needs_backend = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None,
    reason="hatchling is not installed (pip install 'hrnet-deploy[dev]')",
)


def run(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = run("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.parser.Parser().parsestr(archive.read(f"{INFO}/METADATA").decode())


def source_files() -> set[str]:
    """What a checkout has under hrnet_deploy/, as paths in the wheel."""
    files = (file for file in SOURCE.rglob("*") if file.is_file())
    return {
        str(file.relative_to(ROOT))
        for file in files
        if "__pycache__" not in file.parts and not file.name.startswith(".")
    }


@needs_backend
def test_the_wheel_holds_exactly_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    carried = {
        f"hrnet_deploy/{target}/{file.name}"
        for folder, target in (("export", "recipes"), ("engines", "profiles"))
        for file in (ROOT / folder).glob("*.toml")
    }
    assert {Path(name).parent.name for name in carried} == {"recipes", "profiles"}
    assert names == source_files() | carried | {f"{INFO}/{name}" for name in METADATA}


@needs_backend
def test_the_wheel_is_small_and_holds_no_unknown_kind_of_file(wheel: Path) -> None:
    assert wheel.stat().st_size <= MAX_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as archive:
        package = [entry for entry in archive.infolist() if not entry.filename.startswith(INFO)]
    assert {Path(entry.filename).suffix for entry in package} <= SUFFIXES
    checkpoints = [entry for entry in package if entry.filename.endswith(".pth")]
    assert [Path(entry.filename).parent for entry in checkpoints] == [Path("hrnet_deploy/demo")]
    assert checkpoints[0].file_size <= MAX_CHECKPOINT_BYTES


@needs_backend
def test_the_metadata_says_what_is_needed(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "hrnet-deploy"
    assert metadata["Version"] == VERSION
    assert set(metadata["Requires-Python"].split(",")) == {">=3.10", "<3.14"}
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS
    required = metadata.get_all("Requires-Dist", [])
    base = {line.split(";")[0].strip() for line in required if "extra ==" not in line}
    assert {name.split("<")[0].split(">")[0] for name in base} == {
        "click",
        "numpy",
        "opencv-python-headless",
        "rich",
        "tomli",
    }
    assert "opencv-python-headless<5,>=4.10" in base


@needs_backend
def test_the_extra_all_takes_nothing_that_needs_a_gpu(metadata: email.message.Message) -> None:
    lines = metadata.get_all("Requires-Dist", [])
    names = {line.split("<")[0].split(">")[0] for line in lines if "extra == 'all'" in line}
    assert names == {
        "matplotlib",
        "ml-dtypes",
        "onnx",
        "onnxruntime",
        "openvino",
        "safetensors",
        "starlette",
        "torch",
        "uvicorn",
    }


@needs_backend
def test_what_is_installed_from_the_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    words = ("-m", "pip", "install", "--no-deps", "--no-index", "--quiet")
    done = run(*words, "--target", str(target), str(wheel), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("-m", "hrnet_deploy", "--version", folder=tmp_path, PYTHONPATH=str(target))
    assert (done.returncode, done.stdout.split()) == (0, ["hrnet-deploy", VERSION])
    where = "import hrnet_deploy; print(hrnet_deploy.__file__)"
    done = run("-c", where, folder=tmp_path, PYTHONPATH=str(target))
    assert Path(done.stdout.strip()).is_relative_to(target)


@needs_backend
def test_the_source_archive_can_be_tested_and_built(tmp_path: Path) -> None:
    done = run("-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path), folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "tests/test_packaging.py"} <= names
    assert source_files() <= names
    assert not {name for name in names if name.endswith((".onnx", ".plan"))} - {
        name for name in names if name.startswith("tests/data/")
    }


def test_the_repository_stays_small() -> None:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    assert sum(file.stat().st_size for file in files if file.is_file()) < MAX_TREE_BYTES
