"""SIGTERM, as Slurm sends it, and Ctrl-C: a running chunk is saved at its next evaluation point,
then the sweep ends. A second signal stops at once.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

NOTICE = (
    "\nstopping at the next evaluation point, where a checkpoint is saved (a second signal stops "
    "immediately)\n"
)


class Terminated(SystemExit):
    """A sweep was stopped by SIGTERM. Uncaught, the process exits with status 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


@dataclasses.dataclass
class _State(threading.local):
    """The signals of a thread: `number` is that which asks for a stop, or 0.

    Python calls handlers in the main thread, so that those of other threads stay as they are: a
    signal stops no sweep of another thread, and its checkpoints defer none of the main thread's.
    """

    number: int = 0
    deferred: bool = False
    replaced: dict[int, Any] = dataclasses.field(default_factory=dict)  # handlers of before


_STATE = _State()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """A context in which SIGTERM and SIGINT stop a sweep with what is kept said, and, in
    `deferred`, not before a checkpoint.

    Signals that the program handles itself, and those of other threads, are left alone.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or _STATE.replaced:
        yield
        return
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    _STATE.number = 0
    for number, default in defaults.items():
        if signal.getsignal(number) == default:
            _STATE.replaced[number] = signal.signal(number, _handle)
    try:
        yield
    except Terminated as stop:
        notes: list[str] = vars(stop).get("__notes__", [])
        print("\n".join(["stopped by SIGTERM.", *notes]), file=sys.stderr)
        raise
    finally:
        _restore()


@contextlib.contextmanager
def deferred(defers: bool = True) -> Iterator[None]:
    """A context in which a signal is noted for `requested` in place of stopping at once; at its end
    it does. defers: False changes nothing.
    """
    before, _STATE.deferred = _STATE.deferred, defers
    try:
        yield
    finally:
        _STATE.deferred = before
    if requested():
        stop()


def requested() -> bool:
    """True where a signal asks for a stop."""
    return bool(_STATE.number)


def stop() -> None:
    """Stop, as the signal asks."""
    number, _STATE.number = _STATE.number, 0
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _handle(number: int, frame: FrameType | None) -> None:
    # a second signal stops at once: Python's own handler would wait for the running program, but
    # an interactive session must go on
    for other, handler in _STATE.replaced.items():
        signal.signal(other, handler if _is_interactive() else signal.SIG_DFL)
    _STATE.number = number
    if not _STATE.deferred:
        stop()
    if "ipykernel" in sys.modules:
        print(NOTICE.strip(), file=sys.stderr)  # a notebook does not show what os.write writes
        return
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # which a progress bar hides
    os.write(2, f"{show_cursor}{NOTICE}".encode())  # print is not safe in a handler


def _is_interactive() -> bool:
    return "ps1" in vars(sys) or "ipykernel" in sys.modules


def _restore() -> None:
    for number, handler in _STATE.replaced.items():
        signal.signal(number, handler)
    _STATE.replaced.clear()
