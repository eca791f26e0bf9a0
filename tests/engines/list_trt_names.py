"""Write tests/data/tensorrt_names.json from wheels of TensorRT's real Python bindings.

    pip download --no-deps -d wheels tensorrt-bindings==8.6.1 tensorrt-cu12-bindings==10.0.1 ...
    python tests/engines/list_trt_names.py wheels/*.whl

The bindings import without TensorRT itself once empty libraries stand in for those that they are
linked to; nothing of them is called. Needs gcc and wheels for the running Python.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

OUTPUT = Path(__file__).parent.parent / "data" / "tensorrt_names.json"
CLASSES = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "EngineInspector",
    "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IParserError",
    "IProfiler",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "PreviewFeature",
    "ProfilingVerbosity",
    "Runtime",
    "TacticSource",
    "TensorIOMode",
]
LIBRARIES = r"\[(libnv(?:infer|onnxparser|infer_plugin|parsers)\.so[.\d]*)\]"
FUNCTIONS = r"\b(\w+_INTERNAL|get\w*Registry|getNvOnnxParserVersion|_ZN\d+nv\w+parser\w+)\b"

INTROSPECT = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("tensorrt", sys.argv[1])
trt = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trt)
names = {name for name in dir(trt) if not name.startswith("_")}
for owner in sys.argv[2:]:
    if hasattr(trt, owner):
        members = dir(getattr(trt, owner))
        names |= {f"{owner}.{member}" for member in members if not member.startswith("_")}
print(json.dumps(sorted(names)))
"""


def stub_libraries(module: Path, folder: Path) -> None:
    dynamic = subprocess.run(
        ["readelf", "-d", str(module)], check=True, capture_output=True, text=True
    ).stdout
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", str(module)], check=True, capture_output=True, text=True
    ).stdout
    functions = sorted(
        set(re.findall(FUNCTIONS, symbols))
        | {"initLibNvInferPlugins", "getLogger", "getInferLibVersion"}
    )
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
    for library in re.findall(LIBRARIES, dynamic):
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-o", str(folder / library), str(source)], check=True
        )


def names_of(wheel: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        module = next(folder.rglob("tensorrt.so"))
        stub_libraries(module, folder)
        done = subprocess.run(
            [sys.executable, "-c", INTROSPECT, str(module), *CLASSES],
            env={"LD_LIBRARY_PATH": str(folder)},
            check=True,
            capture_output=True,
            text=True,
        )
        found: list[str] = json.loads(done.stdout)
        return found


def main(wheels: list[str]) -> None:
    versions = {re.split("-", Path(wheel).name)[1]: names_of(Path(wheel)) for wheel in wheels}
    order = sorted(versions, key=lambda version: [int(part) for part in version.split(".")[:3]])
    everything = sorted(set().union(*versions.values()))
    masks = {
        name: "".join("x" if name in versions[version] else "." for version in order)
        for name in everything
        if "." in name or name in CLASSES or name.islower()
    }
    OUTPUT.write_text(json.dumps({"versions": order, "names": masks}, indent=0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
