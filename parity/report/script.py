"""A stand-alone script that shows a failure again, to be kept with a bug report."""

from pathlib import Path

from parity.report.findings import Report
from parity.report.text import number, verdict_line
from parity.verdict import Verdict

TEMPLATE = '''\
"""{title}

Exits with 1 while the fault is there, with 0 when it is gone.
{known}"""

import sys

sys.path.insert(0, {folder!r})  # what was the working folder

{imports}

pair = load({target!r})
judgement = {call}
left = [phase for phase in judgement.phases if phase.verdict in (Verdict.FAIL, Verdict.ERROR)]
for phase in left:
    worst = phase.worst
    print(phase.name, phase.error or f"{{worst.name}}: error {{worst.error:.3g}}, allowed {{worst.limit:.3g}}")
expected = {failed!r}
if any(phase.name in expected for phase in left):
    sys.exit(f"{{judgement.pair}}: still there, {{left[0].name}} fails")
sys.exit(f"{{judgement.pair}}: another failure, in {{left[0].name}}" if left else 0)
'''
MODULES = {"prove": "prove", "measure": "measure", "check": "initial"}


def script(report: Report) -> str | None:
    """The source; None where nothing failed, or nothing can be run again (two dumps)."""
    if report.judgement.verdict not in (Verdict.FAIL, Verdict.ERROR) or not report.call:
        return None
    function = report.call.partition("(")[0]
    imports = [f"from parity.{MODULES[function]} import {function}", "from parity.pair import load"]
    imports += ["from parity.verdict import Verdict"]
    known = []
    for finding in report.findings:
        known.append(f"  {finding.title}, error {number(finding.error)}: {finding.name or finding.detail}")
        known += [f"    fix: {finding.fix}"] if finding.fix else []
    return TEMPLATE.format(
        title=_quoted(f"{report.target}: {verdict_line(report)}."),
        known=_quoted("\nFound so far:\n" + "\n".join(known) + "\n" if known else ""),
        folder=str(Path.cwd()),
        imports="\n".join(sorted(imports)),
        target=_absolute(report.target),
        call=report.call,
        failed=report.failed,
    )


def _absolute(target: str) -> str:
    place, colon, name = target.rpartition(":")
    return f"{Path(place).resolve()}{colon}{name}" if place.endswith(".py") else target


def _quoted(words: str) -> str:
    return words.replace("\\", "\\\\").replace('"""', "'''")
