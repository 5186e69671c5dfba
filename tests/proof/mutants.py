"""Small mistakes, planted one by one: would a test notice?

``python -m tests.proof.mutants --sample 100`` (SQLite; Python 3.12 or newer).
The tests run once, and it is noted which lines of ours each of them reaches. Then, for
each mistake of the sample, a process is forked that gives one function the mistaken
code, in its memory alone, and runs the tests that reach the line, the quickest first,
until one fails. ``mutants.json`` keeps what came of it, and why a survivor may live:
that is written there by hand, and kept by the next run.
"""

from __future__ import annotations

import argparse
import ast
import copy
import dataclasses
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

ERRORS = sys.__stderr__
FILE = Path(__file__).with_name("mutants.json")
PACKAGE = FILE.parents[2] / "django_multipay"

ROOMS: Mapping[str, str] = {
    "states": "states.py",
    "ledger": "ledger/*.py",
    "flows": "flows/*.py",
    "callback views": "views/webhooks.py",
}

TESTS = [
    *(f"tests/test_{name}.py" for name in ("claims", "customers", "ledger", "states")),
    *(f"tests/admin/test_{name}.py" for name in ("endpoints", "overview", "payments")),
    *(f"tests/api/test_{name}.py" for name in ("idempotency", "payments", "plans")),
    *(f"tests/{folder}" for folder in ("flows", "management", "views")),
    "--ignore=tests/flows/test_provider_corridors.py",
    "--ignore=tests/flows/test_provider_fuzz.py",
]
TOO_SLOW = " and ".join(
    f"not {name}"
    for name in (
        *("a_year", "any_history", "died_anywhere", "every_field", "flood"),
        *("hostile", "hundred", "kill_9", "thousand"),
    )
)
ENOUGH = 20.0
"""Seconds of tests, as measured without a mistake, after which one counts as alive."""

# Mistakes -----------------------------------------------------------------------------

SWAPS: Mapping[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}
QUERIES = {"exclude", "filter", "get", "update"}


def mistakes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Return what ``node`` may be mistaken for, with a word for it."""
    match node:
        case ast.Compare(ops=[first, *others]) if type(first) in SWAPS:
            wrong = copy.copy(node)
            wrong.ops = [SWAPS[type(first)](), *others]  # type: ignore[list-item]
            yield f"{ast.unparse(node)} -> {ast.unparse(wrong)}", wrong
        case ast.BoolOp() | ast.BinOp() if type(node.op) in SWAPS:
            other = copy.copy(node)
            other.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
            yield f"{ast.unparse(node)} -> {ast.unparse(other)}", other
        case ast.UnaryOp(op=ast.Not()):
            yield f"{ast.unparse(node)} -> without not", node.operand
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield f"{value} -> {value + 1}", ast.Constant(value + 1)
        case ast.If() | ast.IfExp():
            turned = copy.copy(node)
            turned.test = ast.UnaryOp(ast.Not(), node.test)
            yield f"if {ast.unparse(node.test)} -> if not", turned
        case ast.Raise() | ast.Expr(value=ast.Call()):
            said = ast.unparse(node)
            if not said.startswith("logger."):
                yield f"{said} -> nothing", ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(
            value, ast.Constant
        ):
            yield f"{ast.unparse(node)} -> None", ast.Return(ast.Constant(None))
        case ast.Call(func=ast.Attribute(attr=name)) if name in QUERIES:
            for keyword in node.keywords:
                wider = copy.copy(node)
                wider.keywords = [one for one in node.keywords if one is not keyword]
                yield f".{name}({ast.unparse(keyword)}) -> without", wider


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Return each function and method, with those inside of it, by qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", ast.Module(node.body, [])
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        elif not isinstance(node, ast.expr):
            yield from functions(node, prefix)


def inside(node: ast.AST) -> Iterator[ast.AST]:
    """Return what runs when a function runs: no annotation, no assertion."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.Assert, ast.arguments)):
            continue
        if isinstance(child, ast.AnnAssign):
            child = child.value or ast.Pass()
        yield child
        yield from inside(child)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """The mistake number ``number`` of a file: in which function, and what it is."""

    room: str
    path: Path
    number: int
    function: str
    lines: range
    what: str

    def __str__(self) -> str:
        name = self.path.relative_to(PACKAGE.parent)
        return f"{name} {self.function}: {self.what}"


def possible(path: Path, tree: ast.Module) -> Iterator[tuple[str, Any, str, ast.AST]]:
    """Return every mistake of a file, always in the same order."""
    for name, function in functions(tree):
        for node in inside(function):
            for what, mistake in mistakes(node):
                yield name, node, what, mistake


def mutants() -> Iterator[Mutant]:
    """Return every mistake that can be made in the rooms."""
    for room, pattern in ROOMS.items():
        for path in sorted(PACKAGE.glob(pattern)):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            alike: Counter[tuple[str, str]] = Counter()
            for number, (name, node, what, _) in enumerate(possible(path, tree)):
                alike[name, what] += 1
                if alike[name, what] > 1:
                    what += f" ({alike[name, what]})"
                # What is wrong with an "if" is what it asks.
                place = getattr(node, "test", node)
                lines = range(place.lineno, place.end_lineno + 1)
                yield Mutant(room, path, number, name, lines, what)


class Plant(ast.NodeTransformer):
    """Puts ``mistake`` in the place of the node ``right``."""

    def __init__(self, right: ast.AST, mistake: ast.AST) -> None:
        self.right = right
        self.mistake = mistake

    def visit(self, node: ast.AST) -> Any:
        if node is self.right:
            return ast.copy_location(self.mistake, node)
        return self.generic_visit(node)


# Code ---------------------------------------------------------------------------------

Place = tuple[str, str, int]


def place_of(code: types.CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Return the code of each function in ``code``, and of those inside of them."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from codes_in(constant)


def mistaken(mutant: Mutant) -> dict[Place, types.CodeType]:
    """Return the code of what the mistake changes; nothing if it changes nothing."""
    tree = ast.parse(mutant.path.read_text(encoding="utf-8"))
    right = compile(tree, str(mutant.path), "exec")
    _, node, _, mistake = list(possible(mutant.path, tree))[mutant.number]
    planted = ast.fix_missing_locations(Plant(node, mistake).visit(tree))
    wrong = compile(planted, str(mutant.path), "exec")
    known = {place_of(code): code for code in codes_in(right)}
    changed = {
        place_of(code): code
        for code in codes_in(wrong)
        if code != known.get(place_of(code))
    }
    # A function cannot be given code that closes over other names.
    fits = all(
        place in known and known[place].co_freevars == code.co_freevars
        for place, code in changed.items()
    )
    return changed if fits else {}


def living() -> dict[Place, list[types.FunctionType]]:
    """Return the functions of the rooms, as the modules and their decorators hold them."""
    paths = set()
    for pattern in ROOMS.values():
        for path in PACKAGE.glob(pattern):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            importlib.import_module(".".join(parts).removesuffix(".__init__"))
            paths.add(str(path))
    found: defaultdict[Place, list[types.FunctionType]] = defaultdict(list)
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType):
            place = place_of(thing.__code__)
            if place[0] in paths:
                found[place].append(thing)
    return found


# The run ------------------------------------------------------------------------------


class Hunt:
    """A pytest plugin: runs the tests once, then some of them for each mistake."""

    def __init__(self, size: int | None, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.seconds: list[float] = []
        self.reached: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        self.failed: list[str] = []
        self.is_sound: dict[int, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = session.items
        self.functions = living()
        self.look_around()
        connections.close_all()
        self.database = Path(connections["default"].settings_dict["NAME"])
        self.said = self.database.with_suffix(".said")
        shutil.copy(self.database, self.database.with_suffix(".kept"))
        self.hunt()
        return True

    def run(self, number: int, following: int) -> None:
        item, nextitem = self.items[number], self.items[following]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)

    def look_around(self) -> None:
        """Run each test once; note how long it takes, and which lines it reaches."""
        monitoring = vars(sys)["monitoring"]  # since Python 3.12
        tool, lines = monitoring.COVERAGE_ID, monitoring.events.LINE
        current: set[tuple[str, int]] = set()

        def note(code: types.CodeType, line: int) -> object:
            current.add((code.co_filename, line))
            return monitoring.DISABLE

        monitoring.use_tool_id(tool, "mutants")
        monitoring.register_callback(tool, lines, note)
        for found in self.functions.values():
            for function in found:
                for code in (function.__code__, *codes_in(function.__code__)):
                    monitoring.set_local_events(tool, code, lines)
        count = len(self.items)
        for number in range(count):
            current.clear()
            monitoring.restart_events()
            begun = time.monotonic()
            # The last one keeps the sandbox and the test database for the hunt.
            self.run(number, (number + 1) % count)
            self.seconds.append(time.monotonic() - begun)
            if self.failed:
                print("fails without any mistake:", self.failed, file=ERRORS)
                self.is_sound[number] = False
                self.failed.clear()
            for line in current:
                self.reached[line].add(number)
        monitoring.free_tool_id(tool)

    def hunt(self) -> None:
        """Plant the mistakes, and keep what came of each."""
        self.figures = Figures()
        for tried, mutant in enumerate(self.chosen(), 1):
            codes = mistaken(mutant)
            if not any(place in self.functions for place in codes):
                continue
            fate = self.fate_of(mutant, codes)
            where = f"{mutant.path.name}:{mutant.lines.start}"
            print(tried, fate, where, mutant, file=ERRORS)
            self.figures.note(mutant, fate)

    def chosen(self) -> Iterator[Mutant]:
        """Return the mistakes to plant: a sample of each room, by turns.

        So a hunt that is stopped has tried some of each.
        """
        rooms: dict[str, list[Mutant]] = {room: [] for room in ROOMS}
        for mutant in mutants():
            rooms[mutant.room].append(mutant)
        if self.size is None:
            for mutant in chain.from_iterable(rooms.values()):
                if str(mutant) in self.figures.rooms[mutant.room]["survivors"]:
                    yield mutant
            return
        chance = random.Random(self.seed)
        samples = []
        for room, found in rooms.items():
            self.figures.begin(room, len(found))
            samples.append(chance.sample(found, min(self.size, len(found))))
        yield from filter(None, chain.from_iterable(zip_longest(*samples)))

    def tests_of(self, mutant: Mutant) -> list[int]:
        """Return the tests that reach the mistake, the quickest first, not for ever.

        First those of a file that is named like the changed one. Of a test with many
        parameters the others come when each test had its turn.
        """
        path = mutant.path
        namesake = (
            f"test_{path.parent.name if path.stem == '__init__' else path.stem}.py"
        )
        tests: set[int] = set()
        for line in mutant.lines:
            tests |= self.reached[str(mutant.path), line]
        turns: Counter[str] = Counter()
        order: list[tuple[bool, int, float, int]] = []
        for number in sorted(tests, key=self.seconds.__getitem__):
            if not self.is_sound.get(number, True):
                continue
            name = self.items[number].nodeid.partition("[")[0]
            is_elsewhere = f"/{namesake}::" not in name
            order.append((is_elsewhere, turns[name], self.seconds[number], number))
            turns[name] += 1
        chosen: list[int] = []
        seconds = 0.0
        for *_, needed, number in sorted(order):
            seconds += needed
            if chosen and seconds > ENOUGH:
                break
            chosen.append(number)
        return chosen

    def fate_of(self, mutant: Mutant, codes: Mapping[Place, types.CodeType]) -> str:
        """Return what came of a mistake; who reports it must not fail without it."""
        while tests := self.tests_of(mutant):
            fate = self.fate_in_a_fork(codes, tests)
            if fate != "killed":
                return fate
            witness = int(self.said.read_text())
            if witness not in self.is_sound:
                alone = self.fate_in_a_fork({}, [witness])
                self.is_sound[witness] = alone == "alive"
            if self.is_sound[witness]:
                return fate
        return "not reached"

    def fate_in_a_fork(
        self, codes: Mapping[Place, types.CodeType], tests: Sequence[int]
    ) -> str:
        """Run ``tests`` in a process that has ``codes``; say what came of it."""
        usual = sum(self.seconds[number] for number in tests)
        deadline = time.monotonic() + 60 + 5 * usual
        child = os.fork()
        if not child:
            self.live(codes, tests)
        status = None
        while status is None:
            done, waited = os.waitpid(child, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(waited)
            elif time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                status = FATES.index("hung")
            else:
                time.sleep(0.02)
        for suffix in ("-wal", "-shm", "-journal"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)
        shutil.copy(self.database.with_suffix(".kept"), self.database)
        return FATES[status] if 0 <= status < len(FATES) else "broken"

    def live(self, codes: Mapping[Place, types.CodeType], tests: Sequence[int]) -> None:
        """Run the tests on the mistake until one fails, say which; does not return."""
        fate = "broken"
        try:
            os.setpgid(0, 0)
            sink = os.open(os.devnull, os.O_WRONLY)
            for output in (1, 2):
                os.dup2(sink, output)
            for place, code in codes.items():
                for function in self.functions.get(place, ()):
                    function.__code__ = code
            # The last one keeps the sandbox, which is not the child's to stop.
            for number, following in zip(tests, [*tests[1:], tests[-1]], strict=True):
                self.run(number, following)
                if self.failed:
                    self.said.write_text(str(number))
                    break
            fate = "killed" if self.failed else "alive"
        finally:
            os._exit(FATES.index(fate))


FATES = ["alive", "killed", "hung", "broken"]
"""What a process says of its mistake by its exit code."""
NOTICED = {"killed", "hung"}

# What is kept -------------------------------------------------------------------------


class Figures:
    """The scores of each room, and its survivors with what was written about them."""

    def __init__(self) -> None:
        self.rooms: dict[str, dict[str, Any]] = {}
        if FILE.exists():
            self.rooms = json.loads(FILE.read_text(encoding="utf-8"))
        self.reasons = {
            mistake: why
            for room in self.rooms.values()
            for mistake, why in room["survivors"].items()
        }

    def begin(self, room: str, possible: int) -> None:
        """Forget the last hunt through ``room``."""
        self.rooms[room] = {"possible": possible, "tried": 0, "survivors": {}}

    def note(self, mutant: Mutant, fate: str) -> None:
        """Keep what came of ``mutant``; one that survived before is tried again."""
        room = self.rooms[mutant.room]
        name = str(mutant)
        room["tried"] += name not in room["survivors"]
        room["survivors"].pop(name, None)
        if fate not in NOTICED:
            room["survivors"][name] = self.reasons.get(name, "")
        FILE.write_text(json.dumps(self.rooms, indent=1) + "\n", encoding="utf-8")


def table() -> str:
    """Return the scores of the last hunt."""
    scores = {
        name: (room["possible"], room["tried"], len(room["survivors"]))
        for name, room in Figures().rooms.items()
    }
    possible, tried, alive = map(sum, zip(*scores.values(), strict=True))
    scores["together"] = possible, tried, alive
    lines = ["| | possible | tried | noticed | |", "|---|---:|---:|---:|---:|"]
    for name, (possible, tried, alive) in scores.items():
        share = 100 * (tried - alive) // max(tried, 1)
        lines.append(
            f"| {name} | {possible:,} | {tried} | {tried - alive} | {share} % |"
        )
    return "".join(f"{line}\n" for line in lines)


def survivors() -> str:
    """Return what was not noticed, with the reasons."""
    reasons = defaultdict(list)
    for room in Figures().rooms.values():
        for mistake, why in room["survivors"].items():
            reasons[why].append(mistake)
    lines = []
    for why, alike in sorted(reasons.items()):
        lines.append(f"- {why}")
        lines += [f"  - `` {mistake} ``" for mistake in alike]
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Hunt, and keep the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--sample", type=int, metavar="N", help="mistakes of each room")
    size.add_argument("--again", action="store_true", help="only the last survivors")
    parser.add_argument("--seed", type=int, default=20261121)
    options = parser.parse_args()
    hunt = Hunt(options.sample, options.seed)
    arguments = ["-p", "no:randomly", "-p", "no:cacheprovider", "-q", "-k", TOO_SLOW]
    # We are a module of the tests, and imported before pytest could rewrite it.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    pytest.main([*arguments, "-o", "timeout=0", *TESTS], plugins=[hunt])
    sys.stdout.write(table())


if __name__ == "__main__":
    main()
