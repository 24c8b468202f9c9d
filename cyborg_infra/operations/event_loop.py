"""Run a coroutine for the command line: it handles interrupts. What a program imports does not come by here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from cyborg_infra.interrupts import end_in_order

_Result = TypeVar("_Result")

INTERRUPTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; what a cancelled CI job and an evicted pod get; what a closed terminal sends."""


def run_coroutine(
    work: Coroutine[Any, Any, _Result], on_interrupt: Callable[[], bool] = lambda: False
) -> _Result:
    """Return what `work` returns, in an event loop of its own. Raises what it raises.

    The first of INTERRUPTS calls `on_interrupt`, which says whether `work` comes to its end by itself; if not, it is cancelled,
    and KeyboardInterrupt raised. The second one raises that at once. Only those that would raise it anyway are heard: who was
    started without Ctrl-C, as by nohup, goes on.

    Not by way of asyncio.run's own result: that is turned into text, and thrown away, while the handler of Ctrl-C
    is put back (Python 3.11 to 3.13); of a plan with 40,000 changes it takes seconds.
    """
    end_in_order()
    done: list[_Result] = []
    cancelled = False

    async def main() -> None:
        task = asyncio.current_task()

        def first() -> None:
            nonlocal cancelled
            if not on_interrupt() and task is not None:
                cancelled = task.cancel()

        _call_once(heard, first)
        done.append(await work)

    with _interrupt_signals() as heard:
        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            if not cancelled:
                raise
            raise KeyboardInterrupt from None
    return done[0]


@contextlib.contextmanager
def _interrupt_signals() -> Iterator[list[signal.Signals]]:
    """Return those of INTERRUPTS that raise KeyboardInterrupt; they do so again after the block, whatever a loop has made of them."""
    found = [number for number in INTERRUPTS if signal.getsignal(number) is signal.default_int_handler]
    try:
        yield found
    finally:
        _raise_interrupt(found)


def _call_once(signals: list[signal.Signals], then: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def first() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        _raise_interrupt(signals)
        then()

    with contextlib.suppress(
        NotImplementedError, RuntimeError, ValueError
    ):  # not the main thread, or not POSIX
        for number in signals:
            loop.add_signal_handler(number, first)


def _raise_interrupt(signals: list[signal.Signals]) -> None:
    with contextlib.suppress(ValueError):  # not the main thread
        for number in signals:
            signal.signal(number, signal.default_int_handler)
