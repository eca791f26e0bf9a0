"""The whole way from ``build`` to poses, on a stand-in for the driver and for TensorRT.

Real: our code, ``cuda.bindings``, the crop kernel (compiled by the host compiler) and the names of
each TensorRT version. Not real: the GPU and TensorRT, whose plans ONNX Runtime runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.standin.build import REPOSITORY, build_driver, compiler, environment
from tests.world import NAMES, SIGMAS, make_world

VERSIONS = ["8.6.1", "10.9.0.34", "11.4.0.106"]
pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
pytest.importorskip("onnx", reason="needs the onnx package")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("needs g++ or clang++")
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_runner(driver: Path, version: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/standin"],
        cwd=REPOSITORY,
        env=environment(driver, version),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def command(driver: Path, version: str, *words: object, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hrnet_deploy", *map(str, words)],
        env=environment(driver, version, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def last_line(stderr: str) -> str:
    return stderr.rstrip().splitlines()[-1]


@pytest.mark.parametrize("version", VERSIONS)
def test_build_writes_a_plan_with_its_manifest(
    driver: Path, version: str, tiny_onnx: Path, tmp_path: Path
) -> None:
    plan, layers = tmp_path / "new" / "w.plan", tmp_path / "layers.json"
    words = ["build", tiny_onnx, "-o", plan, "--max-batch", 8, "--json", "--layers", layers]
    code, stdout, stderr = finished(command(driver, version, *words))
    assert code == 0, stderr
    manifest = json.loads(stdout)["manifest"]
    assert manifest == json.loads(plan.with_name("w.plan.json").read_text())
    assert (manifest["tensorrt"], manifest["compute_capability"]) == (version, [9, 0])
    assert manifest["profile"] == {"min": 1, "opt": 8, "max": 8}
    assert set(manifest["parity"]) == {"1", "8"}
    assert manifest["strongly_typed"] is (version != "8.6.1")
    assert "Layers" in json.loads(layers.read_text())
    caches = list(plan.parent.glob("*.timing-cache"))
    assert [cache.name for cache in caches] == [
        f"nvidia-stand-in-9000-sm90-trt{version}.timing-cache"
    ]
    assert ("Building Engine" in stderr) is (version != "8.6.1")


def test_what_the_builder_is_told(driver: Path, tmp_path: Path) -> None:
    from tests.tiny import write_tiny_onnx

    onnx = write_tiny_onnx(tmp_path / "h.fp16.onnx", precision="fp16")

    def head(version: str, *flags: object) -> dict[str, object]:
        code, _, stderr = finished(command(driver, version, "build", onnx, "--force", *flags))
        assert code == 0, stderr
        found: dict[str, object] = json.loads((tmp_path / "h.plan").read_bytes().split(b"\n")[1])
        return found

    old = head("8.6.1", "--workspace-mb", 64)
    assert old["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    assert old["pinned"] == ["HALF", None, None, "FLOAT", "FLOAT"]
    assert old["preview"] == ["PROFILE_SHARING_0806"]
    assert old["settings"]["workspace"] == 64 << 20
    new = head("11.4.0.106", "--tf32", "--version-compatible")
    assert new["flags"] == ["EXCLUDE_LEAN_RUNTIME", "TF32", "VERSION_COMPATIBLE"]
    assert new["pinned"] == [None] * 5
    assert new["preview"] == []
    code, _, stderr = finished(
        command(
            driver,
            "8.6.1",
            "build",
            onnx,
            "--force",
            "--hardware-compatibility",
            "same_compute_capability",
        )
    )
    assert code == 2
    assert "which TensorRT 8.6.1 does not have" in last_line(stderr)


@pytest.mark.parametrize(("version", "flags"), [("8.6.1", ["INT8"]), ("11.4.0.106", [])])
def test_int8_is_asked_for_where_types_are_not_strong(
    driver: Path, tmp_path: Path, version: str, flags: list[str]
) -> None:
    from tests.tiny import write_tiny_onnx

    onnx = write_tiny_onnx(tmp_path / "w.int8.onnx", precision="int8")
    plan = tmp_path / "w.int8.plan"
    code, _, stderr = finished(command(driver, version, "build", onnx, "-o", plan))
    assert code == 0, stderr
    assert json.loads(plan.read_bytes().split(b"\n")[1])["flags"] == flags
    assert json.loads(Path(f"{plan}.json").read_text())["precision"] == "int8"


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("build", 3, r"TensorRT built no plan ([builder] no implementation for node)"),
        ("memory", 3, "for want of GPU memory (this GPU has 8192 MiB)"),
        ("parse", 2, "cannot read it (In node 3 with name: decode.peak UNSUPPORTED_NODE)"),
        ("wrong", 1, "parity with tiny.onnx failed at batch 1, heatmap error"),
        ("deserialise", 3, "TensorRT cannot load it (Magic tag does not match)"),
        ("enqueue", 3, "could not enqueue a batch"),
        ("builder", 3, "cannot use the GPU (CUDA initialization failure with error: 35). Update"),
        ("runtime", 3, "cannot use the GPU (CUDA initialization failure with error: 35). Update"),
        ("shapes", 3, "refused the input {'crops': (1, 64, 48, 3)} (shapes contradict"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_the_old_plan(
    driver: Path, tiny_onnx: Path, tmp_path: Path, fault: str, code: int, message: str
) -> None:
    plan = tmp_path / "w.plan"
    plan.write_bytes(b"the old plan")
    words = ["build", tiny_onnx, "-o", plan, "--force", "--no-timing-cache", "--max-batch", 4]
    got, stdout, stderr = finished(command(driver, "10.9.0.34", *words, STANDIN_FAULT=fault))
    assert (got, stdout) == (code, "")
    assert message in last_line(stderr)
    assert "Traceback" not in stderr
    assert plan.read_bytes() == b"the old plan"
    left = {path.name for path in tmp_path.iterdir()} - {"w.plan"}
    assert left == ({"w.plan.log"} if fault in ("build", "memory", "builder") else set())


def test_a_rejected_plan_is_kept_on_request(driver: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    words = ["build", tiny_onnx, "-o", tmp_path / "w.plan", "--keep-rejected", "--max-batch", 2]
    code, _, stderr = finished(command(driver, "10.9.0.34", *words, STANDIN_FAULT="wrong"))
    assert code == 1
    assert "kept as" in last_line(stderr)
    assert (tmp_path / "w.rejected.plan").exists()
    assert not (tmp_path / "w.plan").exists()


def test_a_timing_cache_that_tensorrt_refuses_is_begun_anew(
    driver: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "x.timing-cache"
    words = ["build", tiny_onnx, "-o", tmp_path / "w.plan", "--timing-cache", cache, "--force"]
    for fault, learnt in (("", b"\nlearnt;"), ("", b"\nlearnt;learnt;"), ("cache", b"\nlearnt;")):
        code, _, stderr = finished(command(driver, "8.6.1", *words, STANDIN_FAULT=fault))
        assert code == 0, stderr
        assert cache.read_bytes().endswith(learnt)


def test_a_damaged_timing_cache_is_a_warning(driver: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    cache = tmp_path / "x.timing-cache"
    cache.write_bytes(b"rubbish")
    words = ["build", tiny_onnx, "-o", tmp_path / "w.plan", "--timing-cache", cache]
    code, _, stderr = finished(command(driver, "10.9.0.34", *words))
    assert code == 0
    assert "warning: " in stderr
    assert "x.timing-cache: is damaged" in stderr
    assert cache.read_bytes().endswith(b"learnt;")


@pytest.mark.parametrize("version", VERSIONS)
def test_ctrl_c_ends_a_long_build_and_leaves_nothing(
    driver: Path, tiny_onnx: Path, tmp_path: Path, version: str
) -> None:
    words = ["build", tiny_onnx, "-o", tmp_path / "w.plan"]
    process = command(driver, version, *words, STANDIN_FAULT="slow")
    assert process.stderr is not None
    assert "building" in process.stderr.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    code, _, stderr = finished(process)
    assert time.monotonic() - started < 10
    assert code == 130, stderr
    assert "the build was interrupted, nothing was written" in last_line(stderr)
    assert list(tmp_path.iterdir()) == []


def test_export_builds_the_plan_where_it_can(driver: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs PyTorch")
    from hrnet_deploy.demo import CHECKPOINT

    recipe = CHECKPOINT.with_suffix(".toml")
    words = ["export", CHECKPOINT, "--recipe", recipe, "-o", tmp_path / "s.onnx"]
    code, _, stderr = finished(command(driver, "10.9.0.34", *words, STANDIN_FAULT="build"))
    assert code == 0, stderr
    assert "warning: no plan was built: " in stderr
    for path in tmp_path.iterdir():
        path.unlink()
    code, _, stderr = finished(command(driver, "10.9.0.34", *words))
    assert code == 0, stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert {"s.onnx", "s.fp16.onnx", "s.plan", "s.plan.json"} <= names
    manifest = json.loads((tmp_path / "s.plan.json").read_text())
    assert (manifest["precision"], manifest["onnx_name"]) == ("fp16", "s.fp16.onnx")


def test_the_gpu_suite_measures_what_it_can(driver: Path, tmp_path: Path) -> None:
    """Its sections would else run for the first time on a GPU; tensorrt takes too long here."""
    pytest.importorskip("torch", reason="needs PyTorch")
    suite = REPOSITORY / "benchmarks" / "gpu.py"
    if not suite.exists():
        pytest.skip("not in a checkout")
    folders = [f"--{name}={tmp_path}" for name in ("work", "output", "cards")]
    done = subprocess.run(
        [sys.executable, suite, "--quick", *folders, "--sections", "prepare", "crops", "plain"],
        env=environment(driver, "8.6.1"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["crops"]["different_values"] == 0
    plain = found["plain"]["models"]["small-128x96"]
    assert set(plain["rates"]) == {"1", "2", "4", "8"}
    assert plain["layers_ms"]["everything"] > 0
    assert "| plain TensorRT fp16 |" in (tmp_path / "gpu.md").read_text()


def test_no_tensorrt_is_said_with_the_way_to_get_it(
    driver: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    settings = {**environment(driver, "10.9.0.34"), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", "build", str(tiny_onnx), "-o", "w.plan"],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "TensorRT" in os.environ.get("PYTHONPATH", ""):
        pytest.skip("TensorRT is on the path")
    assert done.returncode == 3
    assert "needs TensorRT. pip install 'hrnet-deploy[tensorrt]'" in last_line(done.stderr)


def test_a_plan_is_verified_like_any_engine(driver: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    plan = tmp_path / "w.plan"
    assert finished(command(driver, "11.4.0.106", "build", tiny_onnx, "-o", plan))[0] == 0
    code, stdout, stderr = finished(command(driver, "11.4.0.106", "verify", tiny_onnx, plan))
    assert code == 0, stderr
    assert "passed" in stdout


def test_a_plan_is_evaluated_like_any_engine_on_one_gpu_or_two(
    driver: Path, tmp_path: Path
) -> None:
    from tests.tiny import write_tiny_onnx

    onnx = write_tiny_onnx(tmp_path / "w.onnx", sigmas=SIGMAS, keypoint_names=NAMES)
    plan, world = onnx.with_suffix(".plan"), make_world(tmp_path / "world")
    assert finished(command(driver, "11.4.0.106", "build", onnx, "-o", plan))[0] == 0
    words = ["--annotations", world.annotations, "--images", world.images, "--json"]
    found = []
    for engine, device in ((onnx, "cpu"), (plan, "0"), (plan, "0,1")):
        output = tmp_path / f"{device}.eval.json"
        where = ["--engine", engine, "--devices", device, "-o", output]
        run = command(driver, "11.4.0.106", "eval", *where, *words, STANDIN_GPUS="2")
        code, stdout, stderr = finished(run)
        assert code == 0, stderr
        result = json.loads(stdout)
        found.append({name: result[name] for name in ("AP", "AR", "AP75")})
    assert found[0] == found[1] == found[2]
    assert found[0]["AP"] > 0.5


def test_doctor_sees_the_gpu(driver: Path) -> None:
    code, stdout, _ = finished(command(driver, "10.9.0.34", "doctor", "--json", STANDIN_GPUS="2"))
    assert code == 0
    gpu = json.loads(stdout)["gpu"]
    assert [device["name"] for device in gpu["devices"]] == ["NVIDIA Stand-In 9000"] * 2
    assert gpu["problem"] is None
    code, stdout, _ = finished(command(driver, "10.9.0.34", "doctor", STANDIN_GPUS="0"))
    assert code == 0
    assert "none: the NVIDIA driver reports CUDA_ERROR_NO_DEVICE" in stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_a_detector_becomes_a_plan_that_predict_takes(
    driver: Path, version: str, tiny_onnx: Path, tmp_path: Path
) -> None:
    from tests.predict import detectors

    world = make_world(tmp_path / "w", images=3)
    onnx, plan = detectors.yolox(tmp_path / "d.onnx"), tmp_path / "d.plan"
    code, stdout, stderr = finished(command(driver, version, "build", "--detector", onnx))
    assert code == 0, stderr
    assert "batch 1: differs from d.onnx in scores by 0, edges by 0 px" in stdout
    words = ["predict", world.images, "--engine", tiny_onnx, "--detector"]
    outputs = [finished(command(driver, version, *words, path)) for path in (onnx, plan)]
    assert [code for code, _, _ in outputs] == [0, 0], outputs[1][2]
    assert outputs[0][1] == outputs[1][1]
    code, _, stderr = finished(command(driver, version, "build", onnx, "--detector-config", "x"))
    assert (code, "needs --detector" in stderr) == (2, True)
