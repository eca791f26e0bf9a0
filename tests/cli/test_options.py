"""Options that commands share: one declaration, finite numbers, what runs an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from hrnet_deploy.cli import COMMANDS, load_command, main
from hrnet_deploy.cli.options import MAX_PIXELS
from hrnet_deploy.runtime import image
from tests.world import make_world

Cli = Callable[..., tuple[int, str, str]]
SHARED = ("--device", "--threads", "--max-pixels", "--force", "--recipe", "--input-size")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run


def _options() -> Iterator[tuple[str, click.Option]]:
    """Every option of every command with the command's words."""

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Option]]:
        for word, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {word}", inner)
        for item in command.params:
            if isinstance(item, click.Option):
                yield name, item

    for name in COMMANDS:
        yield from walk(name, load_command(name))


FLOATS = sorted(
    (name, option.opts[0])
    for name, option in _options()
    if isinstance(option.type, (click.types.FloatParamType, click.FloatRange))
)


def test_numbers_of_the_commands_are_found() -> None:
    assert {("predict", "--start"), ("view", "--max-pixels"), ("eval", "--min-ap")} <= set(FLOATS)


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(("name", "option"), FLOATS)
def test_no_command_takes_nan_or_infinity(name: str, option: str, value: str) -> None:
    chosen = next(o for n, o in _options() if n == name and option in o.opts)
    with pytest.raises(click.BadParameter):
        chosen.type.convert(value, chosen, None)


@pytest.mark.parametrize("option", SHARED)
def test_an_option_says_the_same_in_every_command(option: str) -> None:
    others = {("build", "--device"), ("demo", "--force"), ("adopt", "--recipe")}
    found = [(name, chosen.help) for name, chosen in _options() if option in chosen.opts]
    assert len({text for name, text in found if (name, option) not in others}) == 1


def test_the_limit_on_pictures_is_that_of_the_runtime() -> None:
    assert MAX_PIXELS == image.MAX_PIXELS


def test_verify_compares_a_backend_with_the_proven_one(tiny_onnx: Path, cli: Cli) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    code, out, err = cli("verify", tiny_onnx, tiny_onnx, "--backend", "openvino", "--json")
    assert (code, json.loads(out)["passed"]) == (0, True), err
    assert f"{tiny_onnx}: OpenVINO in fp32, asked for" in err.splitlines()


def test_verify_takes_no_backend_for_a_checkpoint(
    tiny_onnx: Path, small_checkpoint: Path, cli: Cli
) -> None:
    for option, value in (("--backend", "auto"), ("--precision", "bf16")):
        code, _, err = cli("verify", tiny_onnx, small_checkpoint, option, value)
        assert code == 2
        assert f"{option}: is given, but {small_checkpoint} is a checkpoint" in err


def test_verify_names_a_backend_that_is_not_possible(tiny_onnx: Path, cli: Cli) -> None:
    code, _, err = cli("verify", tiny_onnx, tiny_onnx, "--backend", "tensorrt")
    assert code == 2
    assert "is no plan, TensorRT was asked for" in err


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_predict_says_what_it_chose(
    tiny_onnx: Path, tmp_path: Path, cli: Cli, devices: str
) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    world = make_world(tmp_path / "world", images=2)
    words = ("predict", world.images, "--engine", tiny_onnx, "--boxes", world.annotations)
    code, out, err = cli(*words, "--backend", "openvino", "--device", devices)
    assert (code, len(out.splitlines())) == (0, 2), err
    assert err.splitlines()[0] == f"{tiny_onnx}: OpenVINO in fp32, asked for"
