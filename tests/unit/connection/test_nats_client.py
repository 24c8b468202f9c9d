"""What our client does where nats-py's would go on in silence."""

from __future__ import annotations

import asyncio

from cyborg_infra.live.connection.nats_client import SafeClient


class _Gone:
    """The transport of a peer that resets the connection, once it has."""

    reset = False

    def writelines(self, _data: object) -> None:
        """Accepted, as a socket does."""

    async def drain(self) -> None:
        if self.reset:
            raise ConnectionResetError

    def close(self) -> None:
        """Nothing left to close."""


def test_a_connection_that_is_reset_with_data_pending_is_told_of() -> None:
    """Whoever waits for an answer must hear that none will come, and nobody waits for messages any more."""
    told = []

    async def main() -> None:
        client = SafeClient(tls_wanted=False)

        async def disconnected() -> None:
            told.append("disconnected")

        async def ignored(_message: object) -> None:
            """Stand for a callback that is never called."""

        client._flush_queue = asyncio.Queue()  # noqa: SLF001
        client._disconnected_cb = disconnected  # noqa: SLF001 - as connect() sets it
        client._transport = gone = _Gone()  # type: ignore[assignment] # noqa: SLF001
        client._current_server = object()  # type: ignore[assignment] # noqa: SLF001
        client._status = SafeClient.CONNECTED  # noqa: SLF001
        await client.subscribe("inbox.*", cb=ignored)
        client._pending, client._pending_data_size = [b"PUB x 0"], 7  # noqa: SLF001
        gone.reset = True
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        assert waiting
        await client._close(SafeClient.CLOSED, do_cbs=True)  # noqa: SLF001
        await asyncio.sleep(0)
        assert all(task.done() for task in waiting)

    asyncio.run(main())
    assert told == ["disconnected"]
