"""``python -m parity COMMAND TARGET``: exit status 0 pass, 1 fail, 2 abstain, 3 error."""

import argparse
import difflib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from parity.report.findings import Report

PASS, FAIL, ABSTAIN, ERROR = range(4)
EXITS = {"PASS": PASS, "FAIL": FAIL, "ABSTAIN": ABSTAIN, "SKIP": ABSTAIN, "ERROR": ERROR}
TARGET = "a shipped pair (see list), module:function or file.py:function"


class UsageError(ValueError):
    """A command line that cannot be obeyed."""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and what was probably meant."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0] if "unrecognized" in message else ""
        raise UsageError(message + _nearest(unknown.partition("=")[0], list(self.known())))

    def known(self) -> Iterator[str]:
        """All options, those of subcommands included."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action.choices, Mapping):
                for command in action.choices.values():
                    yield from command.known()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: without the program's name; ``sys.argv`` by default.

    Returns:
      The exit status.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the marks still gets a report
    try:
        if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
            near = _nearest(argv[0], COMMANDS) or f": expected {', '.join(COMMANDS)}"
            raise UsageError(f"no command {argv[0]!r}{near}")
        options = _parser().parse_args(argv)
        return options.run(options)
    except KeyboardInterrupt:
        return _complain("interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left; say no more
        return ERROR
    except Exception as error:
        if os.environ.get("PARITY_TRACEBACK"):
            raise
        return _complain(_sentence(error))


def _complain(message: str) -> int:
    print(f"parity: {message}", file=sys.stderr)
    return ERROR


def _sentence(error: Exception) -> str:
    """What went wrong in a line; of an error that is not parity's own also its type and where it arose."""
    words = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if type(error).__module__.split(".")[0] in ("parity", "__main__"):
        return words
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = (
        f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}; PARITY_TRACEBACK=1 shows all)" if trace else ""
    )
    return f"{type(error).__name__}: {words[:400]}{where}"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1) if name else []
    return f", did you mean {close[0]}?" if close else ""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m parity", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for name, (run, about, *parts) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        command.set_defaults(run=run, command=name)
        for part in parts:
            part(command)
    return parser


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help=TARGET)


def _seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=_natural, default=0, help="of weights, batches and masks (default %(default)s)"
    )


def _steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=_natural, default=5, help="updates in lockstep (default %(default)s)")


def _forms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, for programs")
    parser.add_argument("--html", type=Path, metavar="FILE", help="one self-contained page")
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="SARIF 2.1.0, for code review")
    parser.add_argument("--script", type=Path, metavar="FILE", help="on a failure: a script that shows it again")
    choices = ("auto", "always", "never")
    parser.add_argument(
        "--color", choices=choices, nargs="?", const="always", default="auto", help="(default auto)"
    )


def _narrow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--k", type=float, help="how many times torch's own error is allowed (default: measured)")
    parser.add_argument(
        "--seeds", type=_natural, metavar="N", help="instead: the k that N seeds would have needed"
    )


def _epochs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=10, help="of MNIST, 10 by default")
    parser.add_argument("--data-dir", type=Path, help="where MNIST is, if not at hand")


def _draws(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds", type=_natural, default=100, help="how many initialisations (default %(default)s)"
    )


def _planted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", metavar="TARGET", nargs="+", help=TARGET)
    parser.add_argument(
        "--seeds", type=_natural, default=3, metavar="N", help="for false alarms: proofs of each correct pair (3)"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables, written there as well")
    parser.add_argument("--faults", nargs="+", default=(), metavar="NAME", help="only these (default: all)")


def _sides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("side", choices=("torch", "flax"))
    _target(parser)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--from", type=Path, dest="source", metavar="TORCH_FOLDER", help="flax: what torch dumped")
    parser.add_argument(
        "--hold", nargs="+", default=(), metavar="KEY", help="torch: parameters that no update changes"
    )


def _two(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A", help="torch's folder")
    parser.add_argument("b", type=Path, metavar="B", help="the port's folder")


def _rows(parser: argparse.ArgumentParser) -> None:
    about = "a row, which is then shown in full, or a word (default: all rows)"
    parser.add_argument("words", nargs="*", metavar="ROW", help=about)
    parser.add_argument("--markdown", action="store_true", help="the table for a page")


def _natural(words: str) -> int:
    if not words.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {words!r}")
    return int(words)


def _list(_: argparse.Namespace) -> int:
    from parity.twins import PAIRS

    width = max(map(len, PAIRS))
    for name, make in PAIRS.items():
        print(f"{name:<{width}}  {(make.__doc__ or '').splitlines()[0]}")
    return PASS


def _prove(options: argparse.Namespace) -> int:
    from parity.pair import load
    from parity.report.findings import examine

    report = examine(
        load(options.target),
        options.target,
        options.command,
        seed=options.seed,
        steps=options.steps,
        layers=options.command != "prove" or options.html is not None,
        diagnosing=options.command != "locate",
    )
    return _finish(report, options)


def _measure(options: argparse.Namespace) -> int:
    from parity.measure import FACTOR, measure
    from parity.pair import load
    from parity.report.findings import Report
    from parity.report.sources import place_of

    if options.seeds:
        return _needed(options)
    given = {"dtype": options.dtype, "device": options.device, "seed": options.seed, "steps": options.steps}
    given["k"] = FACTOR if options.k is None else options.k
    judgement = measure(load(options.target), **given)
    call = f"measure(pair, {', '.join(f'{name}={value!r}' for name, value in given.items())})"
    return _finish(Report("measure", options.target, judgement, call, source=place_of(options.target)), options)


def _needed(options: argparse.Namespace) -> int:
    """How far a correct pair is from torch's own error, over many seeds."""
    from parity.measure import FACTOR, factors
    from parity.pair import load

    given = {"dtype": options.dtype, "device": options.device, "seeds": options.seeds, "steps": options.steps}
    found = factors(load(options.target), **given)
    print(f"{'phase':<20} {'tensors':>8} {'median':>8} {'largest':>8}")
    for phase, values in found.items():
        middle = sorted(values)[len(values) // 2]
        print(f"{phase:<20} {len(values):>8} {middle:>8.2f} {max(values):>8.2f}")
    return PASS if max(map(max, found.values())) <= (options.k or FACTOR) else FAIL


def _init(options: argparse.Namespace) -> int:
    from parity.initial import check
    from parity.pair import load
    from parity.report.findings import initial

    return _finish(
        initial(check(load(options.target), seeds=options.seeds), options.target, options.seeds), options
    )


def _mutate(options: argparse.Namespace) -> int:
    from parity import score
    from parity.pair import load

    results, alarms = [], {}
    for target in options.targets:
        pair = load(target)
        alarms[pair.name] = score.false_alarms(pair, seeds=options.seeds, steps=options.steps)
        for result in score.score(pair, options.faults, seed=options.seed, steps=options.steps):
            results.append(result)
            print(f"{'caught' if result.caught else 'MISSED':<7} {target}: {result.fault}", file=sys.stderr)
    if not results:
        _complain(f"no place for {', '.join(options.faults) or 'any known fault'} in {', '.join(options.targets)}")
        return ABSTAIN
    tables = score.text(results, alarms, options.seeds)
    print(tables)
    if options.markdown:
        options.markdown.write_text(score.page(tables, options.targets, options.seeds), encoding="utf-8")
    return PASS if all(result.caught for result in results) and not any(alarms.values()) else FAIL


def _lockstep(options: argparse.Namespace) -> int:
    from parity.lockstep import lockstep
    from parity.pair import load

    inside = True
    for run in lockstep(load(options.target), options.data_dir, epochs=options.epochs, seed=options.seed):
        print(run.text(), flush=True)
        inside = inside and run.inside
    return PASS if inside else FAIL


def _dump(options: argparse.Namespace) -> int:
    from parity.pair import load

    if (options.side == "flax") != (options.source is not None):
        raise UsageError("dump flax wants --from TORCH_FOLDER, dump torch does not")
    pair = load(options.target)
    if options.side == "torch":
        from parity.dump import dump_torch

        dump_torch(pair, options.folder, seed=options.seed, steps=options.steps, hold=tuple(options.hold))
    else:
        from parity.dump import dump_flax

        dump_flax(pair, options.source, options.folder)
    print(f"{options.side}'s side of {options.target} is in {options.folder}")
    return PASS


def _compare(options: argparse.Namespace) -> int:
    from parity.dump import compare
    from parity.report.findings import Report

    return _finish(Report("compare", f"{options.a} {options.b}", compare(options.a, options.b)), options)


def _catalogue(options: argparse.Namespace) -> int:
    # Read when JAX looks for its devices: some rows are about two of them.
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    from parity.catalogue import find, report

    entries, found = find(options.words), []
    form = "markdown" if options.markdown else "full" if any(map(str.isdecimal, options.words)) else "table"
    head, show = report.FORMS[form]
    print(head, end="\n" if head else "")
    for entry in entries:
        found.append(entry.check())
        print(show(entry, found[-1]), flush=True)
    print(f"\n{report.summary(found)}", file=sys.stderr if options.markdown else sys.stdout)
    return FAIL if any(measured.verdict == "changed" for measured in found) else PASS


def _finish(report: "Report", options: argparse.Namespace) -> int:
    """Prints the report, writes the forms that were asked for."""
    from parity.report.text import text, verdict_line

    print(text(report, color=_colored(options.color)))
    for form, write in FORMS.items():
        path: Path | None = getattr(options, form)
        made = write(report) if path else None
        if path and made is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made, encoding="utf-8")
            print(f"  {form:<6} {path}")
        elif path:
            print(f"  {form:<6} not written: there is no failure that could be run again")
    status = EXITS[report.judgement.verdict.value]
    return _complain(verdict_line(report)) if status == ERROR else status


def _colored(choice: str) -> bool:
    # https://no-color.org
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def _json(report: "Report") -> str:
    from parity.report.json import json_of

    return json_of(report)


def _html(report: "Report") -> str:
    from parity.report.html import html

    return html(report)


def _sarif(report: "Report") -> str:
    from parity.report.sarif import sarif

    return sarif(report)


def _script(report: "Report") -> str | None:
    from parity.report.script import script

    return script(report)


FORMS: dict[str, Callable[["Report"], str | None]] = {
    "json": _json,
    "html": _html,
    "sarif": _sarif,
    "script": _script,
}
COMMANDS = {
    "list": (_list, "the shipped pairs"),
    "prove": (
        _prove,
        "compare every phase in float64; on a failure say where and why",
        _target,
        _seed,
        _steps,
        _forms,
    ),
    "measure": (
        _measure,
        "compare in a narrow type with torch's own error",
        _target,
        _narrow,
        _seed,
        _steps,
        _forms,
    ),
    "locate": (_prove, "the tree of layers, and every one that differs", _target, _seed, _steps, _forms),
    "diagnose": (_prove, "every fault, its likeliest cause and the fix", _target, _seed, _steps, _forms),
    "mutate": (_mutate, "plant known bugs and count which are caught", _planted, _seed, _steps),
    "lockstep": (_lockstep, "train both on MNIST to the end and compare every step", _target, _seed, _epochs),
    "init": (_init, "compare the distributions of initial parameters", _target, _draws, _forms),
    "dump": (_dump, "write what one side computes, for another machine", _sides, _seed, _steps),
    "compare": (_compare, "judge two dumps", _two, _forms),
    "catalogue": (_catalogue, "known differences between the frameworks, measured again", _rows),
}

if __name__ == "__main__":
    sys.exit(main())
