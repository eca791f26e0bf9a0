"""``hrnet-deploy eval`` as a user runs it: real processes, files, signals and full disks."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needs the onnx package")

from hrnet_deploy.cli import main
from tests.tiny import write_tiny_onnx
from tests.world import NAMES, SIGMAS, World, make_world

KILLS = int(os.environ.get("HRNET_DEPLOY_KILLS", "6"))
OUTPUTS = ("tiny.eval.json", "tiny.eval.keypoints.json")

SLOW = """
import time
import hrnet_deploy.engines.onnxruntime as backend
infer = backend.OnnxRuntimeEngine._infer
def slowly(self, crops, *, heatmaps):
    time.sleep(DELAY)
    return infer(self, crops, heatmaps=heatmaps)
backend.OnnxRuntimeEngine._infer = slowly
from hrnet_deploy.cli import main
main()
"""


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    former = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(former)


class Command:
    """The eval command in a folder of its own, with a small engine and data set."""

    def __init__(self, folder: Path, images: int) -> None:
        self.folder = folder
        self.world: World = make_world(folder, images=images)
        self.engine = write_tiny_onnx(
            folder / "tiny.onnx", sigmas=SIGMAS, keypoint_names=NAMES, flip_test=False
        )

    def words(self, *options: str) -> list[str]:
        fixed = ("--engine", "tiny.onnx", "--annotations", "kp.json", "--images", "images")
        return ["eval", *fixed, *options]

    def __call__(self, *options: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hrnet_deploy", *self.words(*options)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **kwargs,
        )

    def here(self, *options: str) -> subprocess.CompletedProcess[str]:
        """The same within this process, which is quicker."""
        out, err = io.StringIO(), io.StringIO()
        with (
            working_in(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main(self.words(*options))
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(
            self.words(*options), code, out.getvalue(), err.getvalue()
        )

    def start(self, *options: str, delay: float = 0.05) -> subprocess.Popen[str]:
        """The same with an engine that waits before each batch."""
        return subprocess.Popen(
            [sys.executable, "-c", SLOW.replace("DELAY", str(delay)), *self.words(*options)],
            cwd=self.folder,
            # pytest may have been started in the background, with SIGINT ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def journal(self) -> Path:
        return self.folder / "tiny.eval.json.journal"

    def wait_for_lines(self, count: int, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if self.journal.exists() and self.journal.read_bytes().count(b"\n") >= count:
                return
            time.sleep(0.01)
        raise AssertionError(f"no {count} lines in the journal: {process.communicate()}")

    def outputs(self) -> list[bytes]:
        return [(self.folder / name).read_bytes() for name in OUTPUTS]

    def leftovers(self) -> set[str]:
        known = {"kp.json", "boxes.json", "images", "tiny.onnx", *OUTPUTS}
        return {path.name for path in self.folder.iterdir()} - known


@pytest.fixture
def make(tmp_path: Path) -> Callable[[int], Command]:
    return lambda images: Command(tmp_path / "here", images)


@pytest.fixture
def command(make: Callable[[int], Command]) -> Command:
    return make(8)


def test_table_files_and_a_second_run(command: Command) -> None:
    done = command()
    assert done.returncode == 0, done.stderr
    for word in ("AP", "AP50", "AP75", "APm", "APl", "AR", "n/a", "8 images, 12 person boxes"):
        assert word in done.stdout
    assert "written: tiny.eval.json, tiny.eval.keypoints.json" in done.stderr
    assert command.leftovers() == set()
    first = command.outputs()
    facts = json.loads(first[0])
    assert facts["AP"] > 0.8
    assert facts["label"] == "full"
    assert len(json.loads(first[1])) == facts["counts"]["detections"] == 12

    again = command()
    assert again.returncode == 0
    assert "tiny.eval.json: done already; --fresh evaluates again" in again.stderr
    assert again.stdout == done.stdout
    assert command.outputs() == first

    fresh = command("--fresh")
    assert "done already" not in fresh.stderr
    assert command.outputs() == first


def test_json_is_all_that_stdout_holds(command: Command) -> None:
    done = command.here("--json", "--boxes", "boxes.json", "-o", "deep/er/out.json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    for name in ("AP", "AP50", "AP75", "APm", "AR"):
        assert 0 < facts[name] <= 1
    assert facts["APl"] is None
    assert facts["files"]["detections"] == "deep/er/out.keypoints.json"
    assert facts["failed"] == []
    written = json.loads((command.folder / "deep/er/out.json").read_text())
    assert {key: facts[key] for key in written} == written


def test_min_ap(command: Command) -> None:
    done = command.here("--min-ap", "0.999")
    assert done.returncode == 1
    ap = json.loads(command.outputs()[0])["AP"]
    assert f"failed: AP {ap:.3f} < 0.999" in done.stderr
    assert "AP50" in done.stdout
    assert command.here("--min-ap", "0.5").returncode == 0
    as_json = command.here("--min-ap", "0.999", "--json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["failed"] == [f"AP {ap:.3f} < 0.999"]


def test_limit_is_said_everywhere(command: Command) -> None:
    label = "subset (the first 3 of 8 images), not comparable"
    done = command.here("--limit", "3")
    assert done.returncode == 0
    assert label in done.stdout
    assert json.loads(command.here("--limit", "3", "--json").stdout)["label"] == label
    assert json.loads(command.outputs()[0])["subset"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch", "0"), "--batch: 0 is not in the range 1<=x<=1024"),
        (("--batch", "abc"), "--batch: 'abc' is not a whole number in the range 1<=x<=1024. See: "),
        (("--limit", "-1"), "--limit: -1 is not in the range x>=1"),
        (("--explain", "--seed", "-1"), "--seed: -1 is not in the range x>=0"),
        (("--min-ap", "76.5"), "--min-ap: 76.5 is not in the range 0<=x<=1"),
        (("--oks-nms", "fast"), "--oks-nms: 'fast' is not one of"),
        (("--flip", "exact"), "tiny.onnx: has no flip-test in its graph, exact was asked for. Exp"),
        (("--flip", "adaptive"), "tiny.onnx: has no threshold for an adaptive flip-test"),
        (("--flip", "adaptive", "--flip-threshold", "2"), "2.0 is not in the range 0<=x<=1"),
        (("--flip-threshold", "0.5"), "--flip-threshold: belongs to the adaptive flip-test"),
        (("--annotations", "none.json"), "none.json: no such file"),
        (("--images", "nowhere"), "nowhere: no such folder"),
        (("--engine", "none.onnx"), "none.onnx: no such file"),
        (("--boxes", "kp.json"), "kp.json: is not a list of boxes"),
        (("--annotations", "boxes.json"), "boxes.json: is a list (a results or boxes file)"),
        (("-o", "images"), "images: is a directory"),
        (("-o", "kp.json/out.json"), "kp.json: cannot be created"),
        (("-o", "kp.json"), "kp.json: is the input file itself"),
    ],
)
def test_wrong_usage(command: Command, options: tuple[str, ...], message: str) -> None:
    done = command.here(*options)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("hrnet-deploy: error: ")
    assert message in line
    assert command.leftovers() == set()


def test_what_is_missing_is_said(command: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hrnet_deploy", "eval"],
        capture_output=True,
        text=True,
        check=False,
        cwd=command.folder,
    )
    assert done.returncode == 2
    assert "--engine: is missing" in done.stderr


def test_no_flip_of_an_engine_without_flip_test(command: Command) -> None:
    assert command.here("--flip", "off").returncode == 0


def test_adaptive_flip_test(command: Command) -> None:
    """The share stands in table and result; another threshold is another run."""
    words = ("--flip", "adaptive", "--flip-threshold")
    done = command.here(*words, "0")
    assert done.returncode == 0, done.stderr
    assert "100.0% looked at twice (doubt >= 0)" in done.stdout
    facts = json.loads((command.folder / "tiny.eval.json").read_text())
    assert (facts["flip"]["mode"], facts["flip"]["share"]) == ("adaptive", 1)
    assert facts["fingerprint"]["flip"]["threshold"] == 0
    assert facts["AP"] is not None
    for other in ((), (*words, "0.25")):
        again = command.here(*other)
        assert again.returncode == 2
        assert "belongs to another run; it differs in flip" in again.stderr
    done = command.here(*words, "1", "--fresh", "--json")
    assert json.loads(done.stdout)["flip"]["second_passes"] == 0


def test_errors_as_json(command: Command) -> None:
    (command.folder / "images" / "picture 3.png").unlink()
    done = command("--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == 2
    assert error["problem"] == "1 of 6 images are missing: picture 3.png"


def test_skipped_images_make_exit_code_one(command: Command) -> None:
    broken = command.folder / "images" / "picture 3.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:300])
    refused = command.here()
    assert refused.returncode == 2
    assert "picture 3.png" in refused.stderr
    done = command.here("--keep-going")
    assert done.returncode == 1
    assert "partial (1 images left out), not comparable" in done.stdout
    assert "failed: 1 images were left out, e.g. picture 3.png: " in done.stderr
    assert command.journal.exists()
    kept = f"kept: {command.journal.name}; the same command again tries only what was left out"
    assert kept in done.stderr

    broken.write_bytes(content)
    again = command.here("--keep-going")
    assert again.returncode == 0
    assert "going on after 5 of 6 images" in again.stderr
    assert json.loads(command.outputs()[0])["label"] == "full"
    assert command.leftovers() == set()


def test_another_run_is_not_overwritten(command: Command) -> None:
    assert command.here().returncode == 0
    before = command.outputs()
    other = command.here("--oks-nms", "soft")
    assert other.returncode == 2
    assert "another run; it differs in settings.nms: hard -> soft. Pass --fresh" in other.stderr
    assert command.outputs() == before
    assert command.here("--oks-nms", "soft", "--fresh").returncode == 0


def test_a_foreign_file_is_not_overwritten(command: Command) -> None:
    path = command.folder / "mine.json"
    for content in ("my thesis", '{"AP": 1}'):
        path.write_text(content)
        done = command.here("-o", "mine.json")
        assert done.returncode == 2
        assert "mine.json: exists and is no result of an evaluation" in done.stderr
        assert path.read_text() == content


def test_journal_of_another_opencv(command: Command) -> None:
    process = command.start("--batch", "1", delay=0.2)
    command.wait_for_lines(2, process)
    process.kill()
    process.communicate()
    journal = command.journal
    journal.write_text(journal.read_text().replace(cv2.__version__, "5.0.0"))
    before = journal.read_bytes()
    done = command.here()
    assert done.returncode == 2
    assert f"it differs in versions.opencv: 5.0.0 -> {cv2.__version__}" in done.stderr
    assert journal.read_bytes() == before
    assert command.here("--fresh").returncode == 0


def test_two_runs_on_one_journal(command: Command) -> None:
    process = command.start("--batch", "1", delay=0.5)
    try:
        command.wait_for_lines(1, process)
        second = command()
        assert second.returncode == 2
        assert f"process {process.pid} is working on this output" in second.stderr
    finally:
        process.kill()
        process.communicate()
    assert command().returncode == 0


def test_killed_at_random_times(make: Callable[[int], Command]) -> None:
    """However often it is killed, it goes on and the files are the same to the last byte."""
    command = make(20 * KILLS)
    assert command("--batch", "3").returncode == 0
    expected = command.outputs()
    for name in OUTPUTS:
        (command.folder / name).unlink()
    rng, before, went_on = random.Random(0), 0, 0
    for _ in range(KILLS):
        process = command.start("--batch", "3", delay=0.1)
        if rng.random() < 0.8 and before < 14 * KILLS:
            command.wait_for_lines(before + 1, process)
            time.sleep(rng.uniform(0, 0.3))
        else:
            time.sleep(rng.uniform(0, 1))
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        if command.journal.exists():
            lines = command.journal.read_bytes().count(b"\n")
            assert lines >= before, "nothing that was finished is lost"
            went_on += lines > before > 0
            before = lines
    assert went_on >= KILLS // 3
    done = command("--batch", "3")
    assert done.returncode == 0, done.stderr
    assert command.outputs() == expected
    assert command.leftovers() == set()


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_batch_and_says_how_to_go_on(
    make: Callable[[int], Command], signal_number: signal.Signals, code: int
) -> None:
    command = make(40)
    process = command.start("--batch", "2", "--fresh", delay=0.1)
    command.wait_for_lines(4, process)
    process.send_signal(signal_number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert stdout == ""
    assert "stopping after this batch" in stderr
    assert "images are done. To go on: hrnet-deploy eval --engine tiny.onnx" in stderr
    assert "--fresh" not in stderr.split("To go on:")[1]
    assert "Traceback" not in stderr
    assert not (command.folder / OUTPUTS[0]).exists()
    done = command("--batch", "2")
    assert "going on after" in done.stderr
    assert done.returncode == 0
    interrupted = command.outputs()
    assert command("--batch", "2", "--fresh").returncode == 0
    assert command.outputs() == interrupted


def test_a_second_signal_stops_at_once(make: Callable[[int], Command]) -> None:
    command = make(40)
    process = command.start("--batch", "1", delay=3)
    command.wait_for_lines(1, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - begin < 1.5, "the batch would take three seconds"


def test_progress_where_somebody_watches(make: Callable[[int], Command]) -> None:
    """With a terminal as stderr a bar shows persons and the time left; stdout stays the same."""
    command = make(24)
    quiet = command("--json")
    assert "time left" not in quiet.stderr
    watcher, terminal = os.openpty()
    with os.fdopen(watcher, "rb", buffering=0) as screen, os.fdopen(terminal, "wb") as stderr:
        done = subprocess.run(
            [sys.executable, "-m", "hrnet_deploy", *command.words("--json", "--fresh")],
            cwd=command.folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "TERM": "xterm"},
            text=True,
            timeout=60,
            check=True,
        )
        shown = screen.read(100_000)
    assert done.stdout == quiet.stdout
    assert b"36/36" in shown
    assert b"time left" in shown


def limit_file_size(size: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_disk_full_while_journalling(make: Callable[[int], Command]) -> None:
    command = make(120)
    done = command(preexec_fn=limit_file_size(6000))
    assert done.returncode == 3, done.stderr
    assert "tiny.eval.json.journal: disk full while writing it. Free some space" in done.stderr
    assert command.leftovers() == {"tiny.eval.json.journal"}
    content = command.journal.read_bytes()
    assert content.endswith(b"\n")
    assert 4 < content.count(b"\n") < 90
    again = command()
    assert again.returncode == 0, again.stderr
    assert "going on after" in again.stderr


def test_disk_full_while_writing_results(make: Callable[[int], Command]) -> None:
    """The journal fits, the detections do not: the old result stays and nothing is lost."""
    command = make(24)
    assert command().returncode == 0
    before = command.outputs()
    size = len(before[1]) - 100
    done = command("--fresh", preexec_fn=limit_file_size(size))
    assert done.returncode == 3, done.stderr
    assert "tiny.eval.keypoints.json: disk full while writing it" in done.stderr
    assert command.outputs() == before
    assert command.leftovers() == {"tiny.eval.json.journal"}
    again = command()
    assert "going on after 18 of 18 images" in again.stderr
    assert command.outputs() == before
    assert command.leftovers() == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(command: Command) -> None:
    command.folder.chmod(0o555)
    try:
        done = command()
    finally:
        command.folder.chmod(0o755)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['hrnet-deploy', 'eval', '--help']\n"
        "from hrnet_deploy.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print({'numpy', 'cv2', 'pycocotools', 'onnxruntime', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--annotations" in done.stdout
    assert done.stdout.endswith("set()\n")
