"""A report for code review: SARIF 2.1.0, one result a fault (https://docs.oasis-open.org/sarif/sarif/v2.1.0/)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jaxdl
from parity.report.findings import Finding, Report
from parity.report.json import plain
from parity.report.sources import Place
from parity.report.text import number
from parity.verdict import Verdict

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(report: Report) -> str:
    """The log of one run. Where nothing was located, a result for every phase that failed."""
    results = [_fault(report, finding) for finding in report.findings] or _phases(report)
    rules = list(dict.fromkeys((result["ruleId"], text) for result, text in results))
    for result, _ in results:
        result["ruleIndex"] = next(place for place, (name, _) in enumerate(rules) if name == result["ruleId"])
    run = {
        "tool": {
            "driver": {"name": "parity", "version": jaxdl.__version__, "rules": [_rule(*rule) for rule in rules]}
        },
        "columnKind": "unicodeCodePoints",
        "results": [result for result, _ in results],
        "properties": {"target": report.target, "verdict": report.judgement.verdict.value},
    }
    return (
        json.dumps(plain({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}), indent=1, allow_nan=False) + "\n"
    )


def _fault(report: Report, finding: Finding) -> tuple[dict[str, Any], str]:
    name = finding.name or finding.kind
    message = f"{finding.title}: {finding.detail} (relative error {number(finding.error)})."
    message += f" Likely cause: {finding.name}." if finding.name else ""
    message += f" Fix: {finding.fix}." if finding.fix else ""
    result = _result(report, name, message, finding.source or report.source, finding.place or finding.kind)
    result["properties"] = {"error": finding.error, "fix": finding.fix, "port": finding.port}
    return result, f"The port differs from the original: {name}"


def _phases(report: Report) -> list[tuple[dict[str, Any], str]]:
    found = []
    for phase in report.judgement.phases:
        if phase.verdict in (Verdict.FAIL, Verdict.ERROR):
            worst = phase.worst
            what = f"{worst.name} has relative error {number(worst.error)}" if worst else phase.error
            result = _result(report, phase.name, f"{phase.name}: {what}.", report.source, phase.name)
            found.append((result, f"The port differs from the original in {phase.name}"))
    return found


def _result(report: Report, name: str, message: str, place: Place | None, where: str) -> dict[str, Any]:
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": where, "kind": "member"}]}
    if place:
        region = {"startLine": place.line}
        location["physicalLocation"] = {"artifactLocation": {"uri": _uri(place.file)}, "region": region}
    identity = hashlib.sha256(f"{report.target}|{name}|{where}".encode()).hexdigest()[:16]
    return {
        "ruleId": "parity/" + "-".join(name.lower().split()),
        "level": "error",
        "message": {"text": message},
        "locations": [location],
        "partialFingerprints": {"parity/v1": identity},
    }


def _rule(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "shortDescription": {"text": text}, "defaultConfiguration": {"level": "error"}}


def _uri(file: Path) -> str:
    """Relative to the working folder, as a review tool wants it; of a file elsewhere the whole URI."""
    file = file.resolve()
    return file.relative_to(Path.cwd()).as_posix() if file.is_relative_to(Path.cwd()) else file.as_uri()
