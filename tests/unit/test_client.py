"""What our client does where nats-py's would go on in silence."""

from __future__ import annotations

import asyncio

from cyborg_infra.live.client import SafeClient


class _Gone:
    """The transport of a peer that has reset the connection."""

    def writelines(self, _data: object) -> None:
        """Accepted, as a socket does."""

    async def drain(self) -> None:
        raise ConnectionResetError

    def close(self) -> None:
        """Nothing left to close."""


def test_a_connection_that_is_reset_with_data_pending_is_told_of() -> None:
    """Whoever waits for an answer must hear that none will come."""
    told = []

    async def main() -> None:
        client = SafeClient(tls_wanted=False)

        async def disconnected() -> None:
            told.append("disconnected")

        client._flush_queue = asyncio.Queue()  # noqa: SLF001
        client._disconnected_cb = disconnected  # noqa: SLF001 - as connect() sets it
        client._transport = _Gone()  # type: ignore[assignment] # noqa: SLF001
        client._current_server = object()  # type: ignore[assignment] # noqa: SLF001
        client._pending, client._pending_data_size = [b"PUB x 0"], 7  # noqa: SLF001
        client._status = SafeClient.CONNECTED  # noqa: SLF001
        await client._close(SafeClient.CLOSED, do_cbs=True)  # noqa: SLF001

    asyncio.run(main())
    assert told == ["disconnected"]
