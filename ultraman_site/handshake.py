"""The protocol class that `uvicorn --ws` is given: a handshake that cannot be read is answered.

The websockets library bounds a line at 8 KiB and the headers at 128, and has its refusal ready; uvicorn's own
class never sends it, and the client waits on a connection that nobody will speak on again.
"""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

UNREADABLE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class AnsweringProtocol(WebSocketsSansIOProtocol):
    """As uvicorn's, but sends what the library answers to a handshake it refuses: 414, 431, else 400."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.handshake_initiated or self.conn.handshake_exc is None:
            return
        self.handshake_complete = self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()) or UNREADABLE)
        self.transport.close()
