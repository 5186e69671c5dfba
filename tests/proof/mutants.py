"""Small mistakes, planted one by one: would a test notice?

``python -m tests.proof.mutants --sample 60 states ledger`` (Python 3.12 or newer).
Nothing on the disk is changed. The tests run once, and it is noted which functions
each of them enters. Then a process is forked for each mistake: it changes the code of
one function in its memory, and runs the tests that enter it, the quickest first, until
one fails. Tables and constants of a module are not changed, only functions.
"""

from __future__ import annotations

import argparse
import ast
import copy
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("mutants.json")

TARGETS: Mapping[str, Sequence[str]] = {
    "states": ["django_multipay.states"],
    "ledger": ["django_multipay.ledger"],
    "flows": [
        f"django_multipay.flows.{name}"
        for name in (
            "checkout",
            "guards",
            "links",
            "notices",
            "operations",
            "reconcile",
            "review",
            "sync",
            "webhooks",
        )
    ],
    "callback views": ["django_multipay.views.webhooks"],
}

TESTS = [
    "tests/test_states.py",
    "tests/test_ledger.py",
    *(
        f"tests/flows/test_{name}.py"
        for name in (
            "attacks",
            "batches",
            "belief",
            "crash",
            "create_payment",
            "eximbay_corridor",
            "notices",
            "operation_races",
            "operations",
            "races",
            "reconcile",
            "tokens",
        )
    ),
    "tests/views/test_checkout.py",
    "tests/views/test_outcome.py",
    "tests/views/test_webhooks.py",
]
TOO_SLOW = "not thousand and not hundred and not kill_9 and not flood"
PATIENCE = 60
"""Seconds for the tests of one mistake; a test that hangs has noticed it, too."""

# Mistakes -----------------------------------------------------------------------------------

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


@dataclass(frozen=True)
class Mutant:
    """One mistake: in which function, on which line, and what it is."""

    module: str
    function: str
    line: int
    what: str
    code: types.CodeType

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.function}: {self.what}"


def mistakes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Return what ``node`` may be mistaken for, with a word for it."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        other = copy.deepcopy(node)
        other.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
        yield f"{ast.unparse(node)} -> {ast.unparse(other)}", other
    elif isinstance(node, (ast.BoolOp, ast.BinOp)) and type(node.op) in SWAPS:
        other = copy.deepcopy(node)
        other.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
        yield f"{ast.unparse(node)} -> {ast.unparse(other)}", other
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"{ast.unparse(node)} -> without not", node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in {bool, int}:
        value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield f"{node.value} -> {value}", ast.Constant(value)
    elif isinstance(node, (ast.If, ast.IfExp)):
        other = copy.deepcopy(node)
        other.test = ast.UnaryOp(ast.Not(), other.test)
        yield f"if {ast.unparse(node.test)} -> if not", other
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        said = ast.unparse(node)
        if not said.startswith("logger."):
            yield f"{said} -> nothing", ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None:
        if not isinstance(node.value, ast.Constant):
            yield f"{ast.unparse(node)} -> None", ast.Return(ast.Constant(None))


class Plant(ast.NodeTransformer):
    """Replaces the node number ``wanted`` by its mistake number ``which``."""

    def __init__(self, wanted: ast.AST, mistake: ast.AST) -> None:
        self.wanted = wanted
        self.mistake = mistake

    def visit(self, node: ast.AST) -> Any:
        if node is self.wanted:
            return ast.copy_location(self.mistake, node)
        return self.generic_visit(node)


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Return every function, method and function inside of one, by qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node
            yield from functions(node, f"{prefix}{node.name}.<locals>.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        elif not isinstance(node, ast.expr):
            yield from functions(node, prefix)


def inside(node: ast.AST) -> Iterator[ast.AST]:
    """Return what a function does: no annotation, assertion or function inside of it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.Assert, ast.arguments)):
            continue
        if isinstance(child, ast.AnnAssign):
            child = child.value or ast.Pass()
        yield child
        yield from inside(child)


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from codes_in(constant)


def mutants_of(module: str) -> Iterator[Mutant]:
    """Return every mistake that can be made in the functions of ``module``."""
    path = importlib.import_module(module).__file__
    assert path is not None
    source = Path(path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    for name, function in functions(tree):
        body = ast.Module(function.body, [])
        for node in inside(body):
            for what, mistake in mistakes(node):
                kept = Plant(node, mistake)
                planted = kept.visit(copy_around(tree, node))
                ast.fix_missing_locations(planted)
                compiled = compile(planted, path, "exec")
                line = getattr(node, "lineno", function.lineno)
                for code in codes_in(compiled):
                    if code.co_qualname == name:
                        yield Mutant(module, name, line, what, code)
                        break


def copy_around(tree: ast.Module, kept: ast.AST) -> ast.Module:
    """Return a copy of ``tree`` that holds ``kept`` itself."""
    copied: ast.Module = copy.deepcopy(tree, {id(kept): kept})
    return copied


def plant(mutant: Mutant) -> None:
    """Give every living function of this name the mistaken code."""
    planted = 0
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType):
            code = thing.__code__
            is_it = code.co_qualname == mutant.function
            if is_it and code.co_filename == mutant.code.co_filename:
                thing.__code__ = mutant.code
                planted += 1
    assert planted, f"nothing to change: {mutant}"


# The run ------------------------------------------------------------------------------------


class Hunt:
    """A pytest plugin: runs the tests once, then some of them for each mistake."""

    def __init__(self, names: Sequence[str], size: int, seed: int) -> None:
        self.names = names
        self.size = size
        self.seed = seed
        self.entered: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self.seconds: list[float] = []
        self.results: dict[str, Any] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.session = session
        self.look_around()
        assert not session.testsfailed, "the tests must pass before the hunt"
        for name in self.names:
            self.results[name] = self.hunt(name)
        return True

    def run(self, number: int, following: int) -> None:
        items = self.session.items
        item, nextitem = items[number], items[following]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)

    def look_around(self) -> None:
        """Run each test once and note what it enters."""
        monitoring = sys.monitoring
        tool, event = monitoring.PROFILER_ID, monitoring.events.PY_START
        current: set[types.CodeType] = set()

        def started(code: types.CodeType, offset: int) -> None:
            if "django_multipay" in code.co_filename:
                current.add(code)

        monitoring.use_tool_id(tool, "mutants")
        monitoring.register_callback(tool, event, started)
        monitoring.set_events(tool, event)
        count = len(self.session.items)
        for number in range(count):
            current.clear()
            begun = time.monotonic()
            self.run(number, (number + 1) % count)
            self.seconds.append(time.monotonic() - begun)
            for code in current:
                self.entered[code.co_filename, code.co_qualname].add(number)
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)

    def hunt(self, name: str) -> dict[str, Any]:
        """Plant a sample of mistakes; return how many there are and what lives."""
        found = [one for module in TARGETS[name] for one in mutants_of(module)]
        chance = random.Random(self.seed)
        tried = chance.sample(found, min(self.size, len(found)))
        fates: Counter[str] = Counter()
        alive = []
        for number, mutant in enumerate(tried):
            fate = self.try_out(mutant)
            fates[fate] += 1
            if fate in {"alive", "not entered"}:
                alive.append(f"{mutant} ({fate})")
            print(f"{name} {number + 1}/{len(tried)} {fate}: {mutant}", file=sys.__stderr__)
        killed = fates["killed"] + fates["timed out"]
        return {
            "possible": len(found),
            "tried": len(tried),
            "killed": killed,
            "alive": sorted(alive),
        }

    def try_out(self, mutant: Mutant) -> str:
        key = mutant.code.co_filename, mutant.function
        numbers = sorted(self.entered[key], key=lambda number: self.seconds[number])
        if not numbers:
            return "not entered"
        from django.db import connections

        connections.close_all()
        database = Path(connections["default"].settings_dict["NAME"])
        kept = database.with_suffix(".kept")
        shutil.copy(database, kept)
        child = os.fork()
        if not child:
            self.child(mutant, numbers)
        deadline = time.monotonic() + PATIENCE
        status = None
        while status is None:
            done, waited = os.waitpid(child, os.WNOHANG)
            if done:
                status = waited
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                status = -1
            else:
                time.sleep(0.02)
        for suffix in ("-wal", "-shm", "-journal"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        shutil.move(kept, database)
        if status == -1:
            return "timed out"
        return "alive" if status == 0 else "killed"

    def child(self, mutant: Mutant, numbers: Sequence[int]) -> None:
        """Run the tests on the mistake until one fails; does not return."""
        code = 1
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            for output in (1, 2):
                os.dup2(sink, output)
            plant(mutant)
            for place, number in enumerate(numbers):
                following = numbers[min(place + 1, len(numbers) - 1)]
                self.run(number, following)
                if self.session.testsfailed:
                    break
            else:
                code = 0
        finally:
            os._exit(code)


def table() -> str:
    """Return the table of the last hunt."""
    results = json.loads(FILE.read_text(encoding="utf-8"))
    lines = ["| | possible | tried | killed | |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {one['possible']:,} | {one['tried']} | {one['killed']} | "
        f"{100 * one['killed'] // one['tried']} % |"
        for name, one in results.items()
    ]
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Hunt, print the scores, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*TARGETS], metavar="NAME")
    parser.add_argument("--sample", type=int, default=60, help="mistakes of each")
    parser.add_argument("--seed", type=int, default=20261121)
    options = parser.parse_args()
    hunt = Hunt(options.names, options.sample, options.seed)
    arguments = ["-p", "no:randomly", "-p", "no:cacheprovider", "-q", "-k", TOO_SLOW]
    pytest.main([*arguments, "-o", "timeout=0", *TESTS], plugins=[hunt])
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps({**known, **hunt.results}, indent=1) + "\n")
    for name, result in hunt.results.items():
        print(f"{name}: {result['killed']} of {result['tried']} were noticed")
        print("".join(f"  {line}\n" for line in result["alive"]), end="")


if __name__ == "__main__":
    main()
