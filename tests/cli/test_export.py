"""``hrnet-deploy export``, ``verify`` and ``adopt`` as a user meets them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from hrnet_deploy.cli import main  # noqa: E402
from hrnet_deploy.engines import load_engine  # noqa: E402
from hrnet_deploy.export import gates  # noqa: E402

COMMAND = [sys.executable, "-m", "hrnet_deploy"]
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process: exit code, stdout, stderr."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return run


@pytest.fixture
def checkpoint(small_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(small_checkpoint, tmp_path / "small.pth"))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


SIZE = ("--input-size", "96x64")


def test_export_writes_both_precisions_with_cards(cli: Cli, checkpoint: Path) -> None:
    code, out, err = cli("export", checkpoint, *SIZE)
    assert code == 0, err
    written = {"small.onnx", "small.fp16.onnx"}
    assert names_in(checkpoint.parent) == {
        "small.pth",
        *written,
        *(f"{name}.json" for name in written),
    }
    assert "passed" in out
    assert "keypoints coco_17 (not ap10k_17) are assumed" in err
    card = json.loads((checkpoint.parent / "small.onnx.json").read_text())
    assert card["passed"] is True
    assert card["parity"]["heatmap_max"] <= 1e-4
    with load_engine(checkpoint.parent / "small.fp16.onnx") as engine:
        assert engine.spec.precision == "fp16"
        assert engine.info.sha256 != card["sha256"]


def test_options_reach_the_file(cli: Cli, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x.onnx"
    words = ("--precision", "fp16", "--no-flip", "--decode", "dark", "--batch", "2")
    code, out, err = cli(
        "export", checkpoint, *SIZE, *words, "--no-heatmaps", "-o", target, "--json"
    )
    assert code == 0, err
    (facts,) = json.loads(out)
    assert facts["path"] == str(target)
    with load_engine(target) as engine:
        spec = engine.spec
    assert (spec.precision, spec.flip_test, spec.shift_heatmap) == ("fp16", False, True)
    assert (spec.decode, spec.static_batch, spec.has_heatmaps) == ("dark", 2, False)


def test_same_checkpoint_gives_the_same_bytes(cli: Cli, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        code, _, err = cli("export", checkpoint, *SIZE, "-o", tmp_path / f"{name}.onnx")
        assert code == 0, err
    for suffix in (".onnx", ".fp16.onnx"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_existing_output_needs_force(cli: Cli, checkpoint: Path) -> None:
    old = checkpoint.with_suffix(".onnx")
    old.write_text("old")
    code, _, err = cli("export", checkpoint, *SIZE)
    assert code == 2
    assert last_line(err).endswith(f"{old}: exists. Pass --force to replace it.")
    assert old.read_text() == "old"
    code, _, err = cli("export", checkpoint, *SIZE, "--force")
    assert code == 0, err
    assert old.read_bytes() != b"old"


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("", "is a directory"),
        ("small.pth", "is not an .onnx name"),
        ("x.txt", "is not an .onnx name"),
    ],
)
def test_unusable_output_is_refused_before_work(
    cli: Cli, checkpoint: Path, output: str, sentence: str
) -> None:
    target = checkpoint.parent / output if output else checkpoint.parent / "d.onnx"
    if not output:
        target.mkdir()
    code, _, err = cli("export", checkpoint, *SIZE, "-o", target)
    assert code == 2
    assert sentence in err


def test_failed_parity_writes_nothing(
    cli: Cli, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tolerance that no rounding meets stands in for a miscompiled graph."""
    monkeypatch.setitem(gates.HEATMAP_TOLERANCE, "fp16", 1e-12)
    code, _, err = cli("export", checkpoint, *SIZE)
    assert code == 1
    assert "parity failed, heatmap error max diff" in last_line(err)
    assert "try --precision fp32, or report it" in last_line(err)
    assert names_in(checkpoint.parent) == {"small.pth"}
    code, _, err = cli("export", checkpoint, *SIZE, "--keep-rejected")
    assert code == 1
    assert names_in(checkpoint.parent) == {"small.pth", "small.fp16.rejected.onnx"}


def test_unknown_flip_pairs_are_refused(cli: Cli, small: ModuleType, tmp_path: Path) -> None:
    path = small.write_small_checkpoint(tmp_path / "own.pth", joints=20)
    code, _, err = cli("export", path, *SIZE)
    assert code == 2
    assert "the flip pairs of its 20 keypoints are unknown" in last_line(err)
    code, _, err = cli("export", path, *SIZE, "--no-flip")
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--input-size", "100x64"), "multiples of 32"),
        (("--input-size", "0x0"), "multiples of 32"),
        (("--input-size", "big"), "is not a size"),
        (("--keypoints", "coco17"), "coco_17"),
        (("--keypoints", "mpii_16"), "has 16 keypoints"),
        (("--batch", "0"), "--batch"),
        (("--precision", "int4"), "--precision"),
    ],
)
def test_bad_options(cli: Cli, checkpoint: Path, words: tuple[str, ...], sentence: str) -> None:
    code, _, err = cli("export", checkpoint, *words)
    assert code == 2
    assert sentence in last_line(err)
    assert names_in(checkpoint.parent) == {"small.pth"}


def test_verify_compares_any_two(cli: Cli, checkpoint: Path) -> None:
    assert cli("export", checkpoint, *SIZE)[0] == 0
    fp32, fp16 = checkpoint.with_suffix(".onnx"), checkpoint.with_suffix(".fp16.onnx")
    for pair in ((checkpoint, fp32), (fp32, fp16), (fp16, checkpoint), (checkpoint, checkpoint)):
        code, out, err = cli("verify", *pair, "--limit", "4", "--json")
        assert code == 0, err
        assert json.loads(out)["crops"] == 4


def test_verify_finds_other_weights(
    cli: Cli, checkpoint: Path, small: ModuleType, tmp_path: Path
) -> None:
    other = small.write_small_checkpoint(tmp_path / "other.pth", seed=1)
    assert cli("export", checkpoint, *SIZE, "--precision", "fp32")[0] == 0
    code, out, err = cli("verify", other, checkpoint.with_suffix(".onnx"))
    assert code == 1
    assert "heatmap error max diff" in out
    assert "another sha256" in err


def test_verify_refuses_other_promises(cli: Cli, checkpoint: Path, tmp_path: Path) -> None:
    targets = tmp_path / "flip.onnx", tmp_path / "single.onnx"
    for target, flag in zip(targets, ("--flip", "--no-flip"), strict=True):
        words = (*SIZE, "--precision", "fp32", flag, "-o", target)
        assert cli("export", checkpoint, *words)[0] == 0
    code, _, err = cli("verify", *targets)
    assert code == 2
    assert "has flip_test False" in last_line(err)


def test_interrupted_export_leaves_nothing(checkpoint: Path) -> None:
    """SIGTERM while the first file is being proven: 143, one line, no file."""
    started = subprocess.Popen(
        [*COMMAND, "export", str(checkpoint), *SIZE], stderr=subprocess.PIPE, text=True
    )
    assert started.stderr is not None
    while "proving" not in started.stderr.readline():
        assert started.poll() is None
    started.send_signal(signal.SIGTERM)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 143, err
    assert "Traceback" not in err
    assert names_in(checkpoint.parent) == {"small.pth"}


def test_full_disk_leaves_the_old_file(checkpoint: Path) -> None:
    old = checkpoint.with_suffix(".onnx")
    old.write_text("old")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*COMMAND, "export", str(checkpoint), *SIZE, "--force"],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 3, done.stderr
    assert "disk full while writing it" in last_line(done.stderr)
    assert old.read_text() == "old"
    assert names_in(checkpoint.parent) == {"small.pth", "small.onnx"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_card_that_is_there_is_not_replaced(cli: Cli, checkpoint: Path, kind: str) -> None:
    card = checkpoint.with_suffix(".onnx.json")
    card.mkdir() if kind == "folder" else card.write_text("mine")
    code, _, err = cli("export", checkpoint, *SIZE)
    problem = "is a directory. " if kind == "folder" else "exists. Pass --force"
    assert (code, f"small.onnx.json: {problem}" in err) == (2, True)
    assert names_in(checkpoint.parent) == {"small.pth", "small.onnx.json"}
    assert kind == "folder" or card.read_text() == "mine"


def test_a_name_that_is_not_utf8(checkpoint: Path) -> None:
    named = checkpoint.with_name(os.fsdecode(b"caf\xe9.pth"))
    try:
        checkpoint.rename(named)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    words = [*COMMAND, "export", str(named), *SIZE, "--json", "--precision", "fp32"]
    done = subprocess.run(words, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    (exported,) = json.loads(done.stdout)
    assert exported["path"] == str(named.with_suffix(".onnx"))
    assert json.loads(named.with_suffix(".onnx.json").read_bytes())["passed"] is True


def test_a_plan_that_cannot_be_built_is_said_before_the_export(
    cli: Cli, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, _, err = cli("export", checkpoint, *SIZE, "--plan")
    assert (code, "--plan: no NVIDIA GPU visible" in err) == (3, True)
    assert "proving" not in err
    assert names_in(checkpoint.parent) == {"small.pth"}


def test_two_exports_to_one_target(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "both.onnx"
    words = [*COMMAND, "export", str(checkpoint), *SIZE, "--force", "-o", str(target)]
    running = [
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in running:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    with load_engine(target) as engine:
        assert engine.spec.architecture == "hrnet_w8_m111"
    assert names_in(tmp_path) == {
        *("small.pth", "both.onnx", "both.onnx.json", "both.fp16.onnx", "both.fp16.onnx.json")
    }


def foreign_network(path: Path, *, batch: int | str = 1, opset: int = 13) -> Path:
    """A one-convolution heatmap network as other exporters write it: fixed batch, NCHW."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(17, 3, 4, 4, generator=generator).numpy()
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("Conv", ["image", "w"], ["maps"], strides=[4, 4])
    graph = helper.make_graph(
        [node],
        "foreign",
        [helper.make_tensor_value_info("image", kind, [batch, 3, 96, 64])],
        [helper.make_tensor_value_info("maps", kind, [batch, 17, 24, 16])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.save(model, str(path))
    return path


RECIPE = """
[network]
kind = "onnx"
input_size_hw = [96, 64]
[keypoints]
set = "coco_17"
"""


def test_adopt_makes_a_foreign_network_ours(cli: Cli, tmp_path: Path) -> None:
    network = foreign_network(tmp_path / "foreign.onnx")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE)
    code, out, err = cli("adopt", network, "--recipe", recipe)
    assert code == 0, err
    with load_engine(tmp_path / "foreign.adopted.onnx") as engine:
        assert engine.spec.static_batch is None
        assert engine.spec.flip_test
    code, out, err = cli("verify", network, tmp_path / "foreign.adopted.onnx", "--json")
    assert code == 0, err
    assert json.loads(out)["heatmap_max"] <= 1e-4


def test_a_network_that_is_not_adopted_rightly_is_no_fault_of_its_precision(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = foreign_network(tmp_path / "foreign.onnx")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE)
    monkeypatch.setitem(gates.HEATMAP_TOLERANCE, "fp32", 1e-12)
    code, _, err = cli("adopt", network, "--recipe", recipe)
    assert code == 1
    assert last_line(err).endswith("Nothing was written in its place; please report it.")


def test_a_foreign_network_of_another_size_is_no_match(
    cli: Cli, checkpoint: Path, tmp_path: Path
) -> None:
    assert cli("export", checkpoint, "--input-size", "64x64", "--precision", "fp32")[0] == 0
    network = foreign_network(tmp_path / "foreign.onnx")
    code, _, err = cli("verify", checkpoint.with_suffix(".onnx"), network)
    problem = (
        "goes from 96x64 to 24x16 with 17 keypoints, the other one from 64x64 to 16x16 with 17"
    )
    assert (code, f"foreign.onnx: {problem}" in err) == (2, True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("[96, 64]", "[64, 64]"), "its input size is 64x64, foreign.onnx has 96x64"),
        (('"coco_17"', '"mpii_16"'), "its number of keypoints is 16, foreign.onnx has 17"),
        (("input_size_hw", "input_size"), "input_size_hw"),
    ],
)
def test_adopt_refuses_another_recipe(
    cli: Cli, tmp_path: Path, change: tuple[str, str], sentence: str
) -> None:
    network = foreign_network(tmp_path / "foreign.onnx")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE.replace(*change))
    code, _, err = cli("adopt", network, "--recipe", recipe)
    assert code == 2
    assert sentence in last_line(err)
    assert not (tmp_path / "foreign.adopted.onnx").exists()


def test_adopt_refuses_damaged_files(cli: Cli, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE)
    whole = foreign_network(tmp_path / "whole.onnx").read_bytes()
    for name, content in (("cut", whole[:-100]), ("page", b"<html></html>"), ("noise", b"\0" * 99)):
        bad = tmp_path / f"{name}.onnx"
        bad.write_bytes(content)
        code, _, err = cli("adopt", bad, "--recipe", recipe)
        assert code == 2, name
        assert "is not a valid ONNX file" in last_line(err), name
