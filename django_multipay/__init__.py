"""One integration, many payment providers: money that moves exactly once."""

__version__ = "0.1.0"
