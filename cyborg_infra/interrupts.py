"""What Ctrl-C, SIGTERM and SIGHUP do to a command. A closed terminal, a cancelled CI job and an evicted pod end it as Ctrl-C does.

As long as nothing is under way they end the process at once and without a word, as any other's: the importing of a
library that is interrupted may end in a traceback, or in a panic of the language that it is written in. From the
first moment on in which there is something to be ended in order, they raise KeyboardInterrupt. Who was started so that
one of them is ignored, goes on.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # built in: no import of it can be interrupted

_NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_ours: list[int] = []  # of these a command decides; none where somebody else runs the process


def end_at_once() -> None:
    """Let each of these signals end the process from now on."""
    for number in _NUMBERS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, signal.SIG_DFL)
            _ours.append(number)


def end_in_order() -> None:
    """Let each of these signals raise KeyboardInterrupt from now on, if `end_at_once` was called before."""
    while _ours:
        signal.signal(_ours.pop(), signal.default_int_handler)
