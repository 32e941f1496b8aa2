"""A report for programs: strict JSON, what is not finite as null."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parity.report.findings import Finding, Layer, Report
from parity.verdict import Leaf, Phase

FORMAT = 1


def json_of(report: Report) -> str:
    """Everything that is known; ``format`` grows when a field changes its meaning."""
    judgement = report.judgement
    values = {
        "format": FORMAT,
        "command": report.command,
        "target": report.target,
        "pair": judgement.pair,
        "verdict": judgement.verdict.value,
        "failed": report.failed,
        "facts": judgement.facts,
        "phases": [_phase(phase) for phase in judgement.phases],
        "faults": [_finding(finding) for finding in report.findings],
        "layers": [_layer(layer) for layer in report.layers],
        "unmatched": report.unmatched,
        "warnings": judgement.warnings,
        "bridge": judgement.bridge,
        "source": report.source and {"file": str(report.source.file), "line": report.source.line},
    }
    return json.dumps(plain(values), indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """The same of JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Path) or not hasattr(value, "__float__"):
        return str(value)
    return float(value) if math.isfinite(float(value)) else None


def _phase(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "verdict": phase.verdict.value,
        "skipped": phase.skipped,
        "error": phase.error,
        "worst": phase.worst and phase.worst.name,
        "tensors": [_leaf(leaf) for leaf in phase.leaves],
    }


def _leaf(leaf: Leaf) -> dict[str, Any]:
    return dataclasses.asdict(leaf) | {"verdict": leaf.verdict.value}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "place": finding.place,
        "port": finding.port,
        "train": finding.train,
        "error": finding.error,
        "detail": finding.detail,
        "explanation": finding.name,
        "fix": finding.fix,
        "left": finding.left,
        "others": [{"explanation": name, "fix": fix} for name, fix in finding.others],
        "tried": finding.tried,
        "source": finding.source and {"file": str(finding.source.file), "line": finding.source.line},
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "place": layer.place,
        "port": layer.port,
        "torch": layer.classes[0],
        "flax": layer.classes[1],
        "verdict": layer.verdict.value,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "gradient": layer.gradient,
        "fault": layer.fault,
    }
