"""`python -m django_multipay.sandbox --port 8100` runs the sandbox until stopped."""

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from django_multipay.sandbox.server import SandboxServer


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m django_multipay.sandbox",
        description="Play every payment provider on this machine. No money moves.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=8100, help="default: 8100; 0 picks a free port"
    )
    parser.add_argument(
        "--provider",
        action="append",
        default=[],
        metavar="MODULE",
        help="dotted path of a module with a provider of yours; may be repeated",
    )
    options = parser.parse_args(arguments)
    # uvicorn stops cleanly and then raises the signal again for the handler that
    # was there before it: ours turns that into a normal exit.
    signal.signal(signal.SIGTERM, _exit_quietly)
    signal.signal(signal.SIGINT, _exit_quietly)
    try:
        server = SandboxServer(
            host=options.host,
            port=options.port,
            others=options.provider,
            on_ready=_announce,
        )
    except (ModuleNotFoundError, ValueError) as error:
        parser.error(f"--provider: {error}")
    except OSError as error:
        parser.error(f"cannot listen on {options.host}:{options.port}: {error}")
    server.run()
    return 0


def _announce(origin: str) -> None:
    sys.stdout.write(f"Sandbox ready on {origin}\n")
    sys.stdout.flush()


def _exit_quietly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
