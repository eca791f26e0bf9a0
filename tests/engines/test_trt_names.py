"""Every TensorRT name in the code exists in the real Python bindings of 8.6, 10 and 11."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import hrnet_deploy.engines

FOLDER = Path(hrnet_deploy.engines.__file__).parent
FILES = (
    "build.py",
    "tensorrt.py",
    "trt_module.py",
    "trt_plan.py",
    "trt_replay.py",
    "trt_tensors.py",
)

OBJECTS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "dimensions": "IOptimizationProfile",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "self.engine": "ICudaEngine",
    "self._context": "IExecutionContext",
    "self._runtime": "Runtime",
}
"""The names under which these files hold objects of TensorRT."""

GUARDED = {
    "ExecutionContextAllocationStrategy": "hasattr",
    "ExecutionContextAllocationStrategy.USER_MANAGED": "behind the one above",
    "IBuilderConfig.progress_monitor": "only with a monitor, which needs IProgressMonitor",
    "ICudaEngine.create_execution_context_without_device_memory": "hasattr of the strategy",
    "ICudaEngine.device_memory_size": "hasattr of the v2",
    "ICudaEngine.device_memory_size_v2": "hasattr",
    "IExecutionContext.set_device_memory": "hasattr",
    "ILayer.precision": "only where nothing is strongly typed: 8.6",
    "ILayer.set_output_type": "only where nothing is strongly typed: 8.6",
    "BuilderFlag.FP16": "only where nothing is strongly typed: 8.6",
    "BuilderFlag.INT8": "only where nothing is strongly typed: 8.6",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": "only where nothing is strongly typed: 8.6",
    "IProgressMonitor": "hasattr",
    "PreviewFeature.PROFILE_SHARING_0806": "8.6 alone",
}
"""Names that some versions lack, and what keeps the code from using them there."""

WEAKLY_TYPED = "8.6.1"
CONSTRUCTORS = {"Builder", "OnnxParser", "Runtime"}


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def names_used(source: str) -> Iterator[str]:
    """``Class.member`` and top-level names of TensorRT that ``source`` mentions."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        path = dotted(node)
        owner = dotted(node.value)
        for prefix in ("self._trt.", "trt."):
            if path.startswith(prefix) and not node.attr.startswith("__"):
                yield path[len(prefix) :]
        if owner in OBJECTS and not node.attr.startswith("__"):
            yield f"{OBJECTS[owner]}.{node.attr}"


@pytest.fixture(scope="module")
def table(data: Path) -> dict[str, dict[str, bool]]:
    """Name -> version -> whether it is there."""
    value = json.loads((data / "tensorrt_names.json").read_text())
    return {
        name: dict(zip(value["versions"], (mark == "x" for mark in mask), strict=True))
        for name, mask in value["names"].items()
    }


USED = sorted({name for file in FILES for name in names_used((FOLDER / file).read_text())})


def test_the_scan_sees_the_calls() -> None:
    assert {
        "Builder.build_serialized_network",
        "IExecutionContext.execute_async_v3",
        "Runtime.deserialize_cuda_engine",
        "BuilderFlag.TF32",
        "OnnxParser.parse",
        "ILayer.set_output_type",
    } <= set(USED)
    assert "Builder.bild" in set(names_used("builder.bild()"))
    assert "BuilderFlag.F16" in set(names_used("self._trt.BuilderFlag.F16"))


@pytest.mark.parametrize("name", USED)
def test_the_real_bindings_have_the_name(name: str, table: dict[str, dict[str, bool]]) -> None:
    if name.startswith("ILogger.Severity."):
        name = "ILogger.Severity"
    assert name in table, f"no version of TensorRT has {name}"
    lacking = [version for version, there in table[name].items() if not there]
    if name in GUARDED:
        assert lacking, f"{name} is in every version: take it off GUARDED"
    else:
        assert not lacking, f"TensorRT {', '.join(lacking)} lacks {name}"


def test_what_only_the_weakly_typed_version_needs_is_there(
    table: dict[str, dict[str, bool]],
) -> None:
    for name, reason in GUARDED.items():
        if "8.6" in reason:
            assert table[name][WEAKLY_TYPED]
    assert not table["NetworkDefinitionCreationFlag.STRONGLY_TYPED"][WEAKLY_TYPED]
    assert not table["ExecutionContextAllocationStrategy"][WEAKLY_TYPED]


def test_one_of_two_ways_to_lend_memory_exists_everywhere(
    table: dict[str, dict[str, bool]],
) -> None:
    for version in table["Builder"]:
        assert (
            table["IExecutionContext.set_device_memory"][version]
            or (table["IExecutionContext.device_memory"][version])
        )
        assert (
            table["ICudaEngine.device_memory_size"][version]
            or (table["ICudaEngine.device_memory_size_v2"][version])
        )
        assert (
            table["ExecutionContextAllocationStrategy"][version]
            or (table["ICudaEngine.create_execution_context_without_device_memory"][version])
        )


def test_host_code_in_plans_is_never_allowed() -> None:
    for file in FOLDER.rglob("*.py"):
        assert "engine_host_code_allowed" not in file.read_text()
