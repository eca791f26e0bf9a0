"""The AP doctor: why a measured AP is not the expected one, by undoing one cause after the other.

Every cause that can be undone from outside the engine is undone on a seeded sample, and the AP of
the same pictures compared. What stands inside the engine (flip-test, shift, pairs, input size) is
tried on the bare network where that can be taken out of the file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hrnet_deploy.evaluation.case import BareNetwork, DoctorSettings, Expected, examine
from hrnet_deploy.evaluation.causes import every_cause
from hrnet_deploy.evaluation.findings import Finding, ranked
from hrnet_deploy.evaluation.plan import EvalPlan
from hrnet_deploy.evaluation.resample import Interval, interval_of
from hrnet_deploy.talk import Say


@dataclass(frozen=True)
class Explanation:
    """What was expected, what was measured, and the causes, the most likely first.

    APs are in 0 to 1; ``sample_ap`` is that of the sample as the engine is, with its interval.
    """

    expected: float | None
    expected_from: str
    measured: float | None
    measured_from: str
    sample_images: int
    sample_persons: int
    sample_ap: Interval
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The content of the JSON output; no time and no path."""
        return {
            "kind": "hrnet-deploy explanation",
            "schema": 1,
            "expected": self.expected,
            "expected_from": self.expected_from,
            "measured": self.measured,
            "measured_from": self.measured_from,
            "sample": {
                "images": self.sample_images,
                "persons": self.sample_persons,
                "ap": self.sample_ap.as_json(),
            },
            "findings": [finding.as_json() for finding in self.findings],
            "notes": self.notes,
        }


def explain(
    plan: EvalPlan,
    *,
    network: BareNetwork | None = None,
    any_size: bool = False,
    settings: DoctorSettings | None = None,
    expected: Expected | None = None,
    measured: float | None = None,
    measured_from: str = "",
    trained_size_hw: tuple[int, int] | None = None,
    say: Say = lambda line: None,
) -> Explanation:
    """Look for the cause on a sample of ``plan`` (prepared with ``allow_missing``).

    ``network`` gives raw heatmaps without flip-test (None where they cannot be had), of crops of
    any size with ``any_size``. ``measured`` is the AP to explain, in 0 to 1, None for that of the
    sample; ``trained_size_hw`` is the recipe's input size. Raises InputError where no picture can
    be read.
    """
    settings, expected = settings or DoctorSettings(), expected or Expected()
    started = time.perf_counter()
    case = examine(plan, network, any_size, expected, settings, say)
    images, persons = len(case.sample.plan.images), case.sample.persons
    sample_ap = interval_of(case.base_ap)
    if measured is None:
        measured, measured_from = sample_ap.value, "the sample"
    findings: list[Finding] = []
    for finding in every_cause(case, measured, trained_size_hw):
        say(f"{finding.cause}: {finding.says}")
        findings.append(finding)
    if time.perf_counter() - started > settings.seconds:
        say(f"stopped new runs after {settings.seconds:g} s; the rest is marked 'cannot tell'")
    return Explanation(
        expected=expected.ap,
        expected_from=expected.source,
        measured=measured,
        measured_from=measured_from,
        sample_images=images,
        sample_persons=persons,
        sample_ap=sample_ap,
        findings=ranked(findings),
        notes=[
            f"the sample's AP is that of {persons} boxes in {images} images: only its changes tell"
            " something"
        ],
    )
