"""What the quickstart tells a stranger to type ends in a paid order."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from django_multipay.models import Payment
from tests.flows.buyer import EximbayBuyer

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TESTING = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
FILE_NAME = re.compile(r"^(?:#|<!--) (myshop/[\w/.]+)(?: -->)?\n")
INSTALLATION = ("python -m venv ", "source ", "python -m pip install ")
SERVERS = {
    "python manage.py multipay_sandbox": (" --port {port}", "Sandbox ready on "),
    "python manage.py runserver": (" --noreload {port}", "Quit the server with"),
}
"""What runs on, how it is told another port, and what it says when it is ready."""
PORTS = ("8100", "8000")
MOST_LINES = 30


def own_lines() -> list[str]:
    """What the reader writes: neither blank nor a comment."""
    return [
        line
        for language, text in BLOCKS
        if language in {"python", "html"}
        for line in text.splitlines()
        if line.strip() and not line.startswith(("#", "<!--"))
    ]


def environment() -> dict[str, str]:
    """That of a reader who activated the environment which runs these tests."""
    ours = {"DATABASE_URL", "DJANGO_SETTINGS_MODULE", "PYTHONPATH"}
    return {
        **{name: value for name, value in os.environ.items() if name not in ours},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }


def free_ports() -> list[str]:
    nowhere = ("127.0.0.1", 0)
    with socket.create_server(nowhere) as one, socket.create_server(nowhere) as other:
        return [str(each.getsockname()[1]) for each in (one, other)]


def write(folder: Path, text: str) -> None:
    """Add a block to the file that its first line names."""
    named = FILE_NAME.match(text)
    assert named, text
    path = folder / named[1]
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def run(folder: Path, commands: str) -> None:
    lines = [
        line for line in commands.splitlines() if not line.startswith(INSTALLATION)
    ]
    subprocess.run(
        ["bash", "-euc", "\n".join(lines)], cwd=folder, env=environment(), check=True
    )


@contextmanager
def serving(folder: Path, command: str, port: str) -> Iterator[subprocess.Popen[str]]:
    more, ready = SERVERS[command]
    process = subprocess.Popen(
        ["bash", "-c", command + more.format(port=port)],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        read_until(process, ready)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
        assert process.stdout
        process.stdout.close()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return
    raise AssertionError(f"{words!r} was not said:\n{''.join(said)}")


def hidden_fields(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)"', page))


def test_the_quickstart_takes_a_payment_in_thirty_lines(tmp_path):
    assert len(own_lines()) <= MOST_LINES
    ports = free_ports()
    servers = []
    for language, text in BLOCKS:
        for port, free in zip(PORTS, ports, strict=True):
            text = text.replace(port, free)
        if text.strip() in SERVERS:
            servers.append(text.strip())
        elif language == "bash":
            run(tmp_path, text)
        else:
            write(tmp_path, text)
    assert servers == list(SERVERS)

    shop = f"http://127.0.0.1:{ports[1]}"
    with (
        serving(tmp_path, servers[0], ports[0]),
        serving(tmp_path, servers[1], ports[1]) as runserver,
        httpx.Client(base_url=shop, follow_redirects=True, trust_env=False) as browser,
    ):
        front = browser.get("/")
        assert "Buy the teapot" in front.text
        paying = browser.post("/", data=hidden_fields(front.text))
        leaving = browser.post(paying.url, data=hidden_fields(paying.text))
        (action,) = re.findall(r'type="application/json">(.*?)</script>', leaving.text)
        buyer = EximbayBuyer(Payment(next_action=json.loads(action)))
        with closing(buyer.client):
            came_back = buyer.pay()
        assert came_back
        url, form = came_back
        outcome = browser.post(
            url,
            content=form,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        (thanks,) = re.findall(r"\*(Thank you, .*?)\*", PAGE)
        assert thanks in html.unescape(outcome.text)
        (shipped,) = re.findall(r"`(Order 1001 .*?)`", PAGE)
        read_until(runserver, shipped)

        (password,) = re.findall(r"^export \w+PASSWORD=(\S+)$", PAGE, re.MULTILINE)
        listed = "/admin/multipay/payment/"
        assert f"{PORTS[1]}{listed}" in PAGE
        fields = hidden_fields(browser.get(listed).text)
        staff = browser.post(
            f"/admin/login/?next={listed}",
            data={**fields, "username": "ann", "password": password},
        )
        (link,) = set(re.findall(rf"{listed}\d+/change/", staff.text))
        story = browser.get(link).text
        for words in re.findall(r"\*(The whole story|Refund)\*", PAGE):
            assert words in story

    first_test = TESTING.partition("## The first test")[2].partition("\n## ")[0]
    settings, test = re.findall(r"^```\w+\n(.*?)^```$", first_test, re.M | re.S)
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    (tmp_path / "test_first.py").write_text(test, encoding="utf-8")
    run(tmp_path, "python -m pytest -q")
