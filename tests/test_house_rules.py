"""Rules of the house that no tool of the shelf knows.

Each rule reads syntax trees. Beside it stand the examples it must catch, so that a
rule which has gone blind fails here, and the lookalikes it must let pass.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import django_multipay
from django_multipay import exceptions

PACKAGE = Path(django_multipay.__file__).parent
ROOT = Path(__file__).resolve().parent.parent
BESIDE_THE_TOWER = ("sandbox/", "testing/")

Finder = Callable[[ast.AST], Iterator[ast.AST]]


def floats(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float()) | ast.Name(id="float"):
                yield node


def json_floats(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="json"), attr="load" | "loads")
                | ast.Attribute(attr="json"),
                keywords=keywords,
            ) if not {"parse_float", "cls"} & {keyword.arg for keyword in keywords}:
                yield node


SECRET = re.compile(r"signature|hmac|digest|token|secret|fgkey")


def compared_secrets(tree: ast.AST) -> Iterator[ast.AST]:
    def is_secret(node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return bool(SECRET.search(name))
            case ast.Subscript(slice=ast.Constant(value=str() as name)):
                return bool(SECRET.search(name))
            case ast.Call(func=func, args=args):
                return is_secret(func) or any(map(is_secret, args))
        return isinstance(node, ast.Constant) and bool(
            SECRET.fullmatch(str(node.value))
        )

    def is_empty(node: ast.expr) -> bool:
        return isinstance(node, ast.Constant) and node.value in ("", b"")

    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Compare)
            and any(isinstance(sign, ast.Eq | ast.NotEq) for sign in node.ops)
            and any(map(is_secret, [node.left, *node.comparators]))
            and not any(map(is_empty, [node.left, *node.comparators]))
        ):
            yield node


def full_saves(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            # A positional argument is a stream or a file, which is not a model's.
            # Keyword None is **kwargs: an override hands on what it was given.
            case ast.Call(
                func=ast.Attribute(attr="save"), args=[], keywords=keywords
            ) if not {"update_fields", "force_insert", None} & {
                keyword.arg for keyword in keywords
            }:
                yield node


def raw_sql(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case (
                ast.Call(
                    func=ast.Attribute(
                        attr="cursor" | "execute" | "executemany" | "extra" | "raw"
                    )
                )
                | ast.Name(id="RawSQL")
                | ast.Attribute(attr="RawSQL")
            ):
                yield node


def marked_safe(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case (
                ast.Name(id="mark_safe" | "SafeString")
                | ast.Attribute(attr="mark_safe" | "SafeString")
                | ast.alias(name="mark_safe" | "SafeString")
            ):
                yield node


def unverified_tls(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case (
                ast.keyword(arg="verify", value=ast.Constant(value=False))
                | ast.Assign(
                    targets=[ast.Attribute(attr="verify")],
                    value=ast.Constant(value=False),
                )
                | ast.Attribute(attr="CERT_NONE" | "_create_unverified_context")
            ):
                yield node


def http_library(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) if any(
                alias.name.partition(".")[0] == "requests" for alias in names
            ):
                yield node
            case ast.ImportFrom(module=str() as module) if (
                module.partition(".")[0] == "requests"
            ):
                yield node


def missing_docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    """Public classes and functions of the module; methods speak by their names."""
    if not isinstance(tree, ast.Module):
        return
    if tree.body and not ast.get_docstring(tree):
        yield tree.body[0]
    for node in tree.body:
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            yield node


@dataclass(frozen=True)
class Rule:
    """What is looked for, where not, and the examples that keep the rule honest."""

    find: Finder
    remedy: str
    planted: Sequence[str]
    fine: Sequence[str]
    only: tuple[str, ...] = ("",)
    but: tuple[str, ...] = ()

    def covers(self, path: str) -> bool:
        """Whether the rule holds for the module at this path in the package."""
        return path.startswith(self.only) and not path.startswith(self.but)

    def findings(self, source: str) -> list[int]:
        """The lines that break the rule."""
        return sorted(
            {getattr(node, "lineno", 0) for node in self.find(ast.parse(source))}
        )


RULES = {
    "no float": Rule(
        find=floats,
        remedy="Money is whole minor units or Decimal; durations are whole seconds.",
        planted=["price = 0.1", "amount = float(text)", "def pay(amount: float): ..."],
        fine=["price = 1", "amount = Decimal('0.1')", "data.is_float = True"],
        but=BESIDE_THE_TOWER,
    ),
    "no float from JSON": Rule(
        find=json_floats,
        remedy="Read JSON with parse_float=Decimal, or an amount loses digits.",
        planted=["json.loads(body)", "json.load(file)", "response.json()"],
        fine=["json.loads(body, parse_float=Decimal)", "json.dumps(data)"],
        only=("providers/", "views/", "http.py", "signatures.py", "money.py"),
    ),
    "secrets compare in constant time": Rule(
        find=compared_secrets,
        remedy="Use django_multipay.signatures, which calls hmac.compare_digest.",
        planted=[
            "signature == expected",
            "expected != headers['signature']",
            "data['fgkey'] == fgkey(data)",
            "if self.webhook_secret == given: ...",
            "hmac.new(key, body).hexdigest() == given",
        ],
        fine=[
            "compare_digest(signature, expected)",
            "token.status == 'active'",
            "kind == EventKind.TOKEN_CREATED",
            "signature == ''",
            "signature is None",
        ],
        only=("providers/", "views/", "signatures.py", "crypto.py", "http.py"),
    ),
    "no full save": Rule(
        find=full_saves,
        remedy="Name update_fields; a full save overwrites what others just wrote.",
        planted=["payment.save()", "payment.save(using='default')"],
        fine=[
            "payment.save(update_fields=['status'])",
            "payment.save(force_insert=True)",
            "super().save(**kwargs)",
            "picture.save(stream, kind='svg')",
            "Payment.objects.create()",
        ],
        but=("admin/", "migrations/", *BESIDE_THE_TOWER),
    ),
    "no raw SQL": Rule(
        find=raw_sql,
        remedy="Use the ORM: three databases run this code.",
        planted=[
            "Payment.objects.raw('SELECT 1')",
            "Payment.objects.extra(where=['1'])",
            "with connection.cursor() as cursor: ...",
            "cursor.execute('SELECT 1')",
            "from django.db.models.expressions import RawSQL\nRawSQL('1', [])",
        ],
        fine=["request.raw", "Payment.objects.filter(pk=1)"],
        but=("migrations/", "ledger/conditions.py", "ledger/statements.py"),
    ),
    "no mark_safe": Rule(
        find=marked_safe,
        remedy="Use format_html or a template; both escape.",
        planted=[
            "from django.utils.safestring import mark_safe",
            "safestring.mark_safe(text)",
            "SafeString(text)",
        ],
        fine=["format_html('<b>{}</b>', text)"],
    ),
    "TLS is verified": Rule(
        find=unverified_tls,
        remedy="Trust the test system's certificate instead.",
        planted=[
            "session.get(url, verify=False)",
            "session.verify = False",
            "context.verify_mode = ssl.CERT_NONE",
        ],
        fine=["session.get(url, verify=True)", "verify = False"],
    ),
    "only http.py speaks HTTP": Rule(
        find=http_library,
        remedy="Use django_multipay.http: it has the time-outs and the error classes.",
        planted=["import requests", "from requests.adapters import HTTPAdapter"],
        fine=["from django_multipay.http import Transport", "requests = []"],
        but=("http.py",),
    ),
    "public things have a docstring": Rule(
        find=missing_docstrings,
        remedy="Say in one line what a caller must know.",
        planted=[
            "x = 1",
            "'''Module.'''\nclass Payment: ...",
            "'''Module.'''\ndef pay(): ...",
            "'''Module.'''\nasync def pay(): ...",
        ],
        fine=[
            "",
            "'''Module.'''\ndef _pay(): ...",
            "'''Module.'''\nclass Payment:\n    '''One.'''\n    def pay(self): ...",
        ],
        but=("migrations/", "management/", "sandbox/"),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_the_package_keeps_the_rule(name):
    rule = RULES[name]
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {name}. {rule.remedy}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if rule.covers(path.relative_to(PACKAGE).as_posix())
        for line in rule.findings(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("name", "source"),
    [(name, source) for name, rule in RULES.items() for source in rule.planted],
)
def test_the_rule_catches_a_planted_violation(name, source):
    assert RULES[name].findings(source)


@pytest.mark.parametrize(
    ("name", "source"),
    [(name, source) for name, rule in RULES.items() for source in rule.fine],
)
def test_the_rule_lets_a_lookalike_pass(name, source):
    assert not RULES[name].findings(source)


@pytest.mark.parametrize("name", RULES)
def test_the_rule_covers_modules_that_exist(name):
    modules = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    covered = [module for module in modules if RULES[name].covers(module)]
    assert covered
    for place in RULES[name].only:
        assert any(module.startswith(place) for module in covered), place


def sisters_missing(slugs: Sequence[str], package: Path, root: Path) -> list[str]:
    """The files which the providers of these slugs should have beside their class."""
    sisters = [
        sister
        for slug in slugs
        for sister in (
            package / "sandbox" / "providers" / slug,
            root / "docs" / "providers" / f"{slug}.md",
            root / "tests" / "providers" / f"test_{slug}.py",
        )
    ]
    # The sandbox's side of a large provider is a folder of its own.
    return [
        str(sister)
        for sister in sisters
        if not (
            sister.is_file() or sister.is_dir() or sister.with_suffix(".py").is_file()
        )
    ]


def provider_slugs(package: Path) -> list[str]:
    """The modules in ``providers/`` that are a provider."""
    return sorted(
        path.stem
        for path in (package / "providers").glob("*.py")
        if path.stem not in ("__init__", "base")
    )


def test_every_provider_has_its_sandbox_its_page_and_its_tests():
    slugs = provider_slugs(PACKAGE)
    assert slugs
    assert not sisters_missing(slugs, PACKAGE, ROOT)


def test_a_provider_without_sisters_is_noticed(tmp_path):
    (tmp_path / "providers").mkdir()
    for name in ("__init__", "base", "lonely"):
        (tmp_path / "providers" / f"{name}.py").touch()
    slugs = provider_slugs(tmp_path)
    assert slugs == ["lonely"]
    assert len(sisters_missing(slugs, tmp_path, tmp_path)) == 3


NO_QUESTION = {"utils", "helpers", "common", "misc", "manager"}


def rooms_without_a_question(package: Path) -> list[Path]:
    """Modules and folders whose names say nothing about what belongs in them."""
    return [path for path in package.rglob("*") if path.stem in NO_QUESTION]


def test_every_room_has_a_question():
    assert not rooms_without_a_question(PACKAGE)


def test_a_room_without_a_question_is_noticed(tmp_path):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "utils.py").touch()
    assert rooms_without_a_question(tmp_path)


def test_the_page_about_errors_knows_the_tree():
    tree, page = (
        re.findall(r"[├└]── (\w+)", text)
        for text in (
            exceptions.__doc__ or "",
            (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"),
        )
    )
    classes = {
        name
        for name, item in vars(exceptions).items()
        if isinstance(item, type) and item.__module__ == exceptions.__name__
    }
    assert tree == page
    assert {*tree, "MultipayError"} == classes


# What import-linter must report: contract, module, and the line planted there.
PLANTED_IMPORTS = [
    ("floors", "models/payment.py", "import django_multipay.flows"),
    ("floors", "enums.py", "import django_multipay.sandbox"),
    ("floors", "sandbox/books.py", "import django_multipay.enums"),
    ("floors", "flows/checkout.py", "import django_multipay.testing"),
    ("floors", "attic.py", "# a new room without a floor"),
    ("providers-apart", "providers/eximbay.py", "from . import neighbor"),
    ("providers-pure", "providers/base.py", "import django.conf"),
    ("providers-pure", "providers/eximbay.py", "import requests"),
    ("http-for-providers", "flows/checkout.py", "import django_multipay.http"),
    ("ledger-for-flows", "views/checkout.py", "import django_multipay.ledger"),
    ("drf-for-api", "views/checkout.py", "import rest_framework"),
    ("models-alone", "models/payment.py", "import django_multipay.registry"),
    ("sandbox-alone", "testing/plugin.py", "import django_multipay.sandbox.app"),
    ("outgoing-for-flows", "views/checkout.py", "import django_multipay.outgoing"),
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A copy of the package which a test may spoil, as import-linter sees it."""
    place = tmp_path_factory.mktemp("plan")
    python_only = shutil.ignore_patterns("static", "templates", "locale", "*.pyc")
    shutil.copytree(PACKAGE, place / "django_multipay", ignore=python_only)
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def import_linter(place: Path, contract: str) -> subprocess.CompletedProcess[str]:
    """What import-linter says about one contract."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--contract", contract],
        cwd=place,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("contract", "module", "line"), PLANTED_IMPORTS)
def test_the_plan_of_the_house_catches_a_planted_import(plan, contract, module, line):
    spoiled = plan / "django_multipay" / module
    neighbor = plan / "django_multipay" / "providers" / "neighbor.py"
    before = spoiled.read_bytes() if spoiled.exists() else None
    neighbor.touch()
    try:
        spoiled.write_bytes((before or b"") + f"\n{line}\n".encode())
        found = import_linter(plan, contract)
    finally:
        neighbor.unlink()
        if before is None:
            spoiled.unlink()
        else:
            spoiled.write_bytes(before)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "1 broken" in found.stdout or "attic" in found.stdout


def test_every_contract_has_a_planted_import():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    assert {item["id"] for item in contracts} == {item[0] for item in PLANTED_IMPORTS}
