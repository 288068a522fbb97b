"""A bare connection to a broker, for bytes that no client would send.

    raw = Raw(server.address); raw.send(request(API_VERSIONS, 0, b"")); raw.receive()
"""

import contextlib
import socket
import struct
import time
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data" / "wire"
PRODUCE, FETCH, METADATA, OFFSET_COMMIT, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, SYNC_GROUP, DESCRIBE_GROUPS, API_VERSIONS, INIT_PRODUCER_ID = \
    0, 1, 3, 8, 10, 11, 12, 14, 15, 18, 22


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def text(s) -> bytes:
    data = s if isinstance(s, bytes) else s.encode()
    return struct.pack(">h", len(data)) + data


def data(b: bytes) -> bytes:
    return struct.pack(">i", len(b)) + b


def array(items) -> bytes:
    items = list(items)
    return struct.pack(">i", len(items)) + b"".join(items)


def header(key, version, correlation=7, flexible=False) -> bytes:
    return struct.pack(">hhi", key, version, correlation) + text("raw") + b"\0" * flexible


def varint(n) -> bytes:
    """Zigzag, of a number that is not negative."""
    n, out = 2 * n, b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7f | 0x80]), n >> 7
    return out + bytes([n])


def crc32c(of: bytes) -> int:
    crc = 0xffffffff
    for byte in of:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def batch(values, producer_id=-1, epoch=-1, sequence=-1) -> bytes:
    """A record batch, as a client writes it, of now: what is old of a producer is forgotten with a restart."""
    now = int(time.time() * 1000)
    records = b""
    for n, value in enumerate(values):
        record = b"\0\0" + varint(n) + b"\1" + varint(len(value)) + value + b"\0"
        records += varint(len(record)) + record
    body = struct.pack(">hiqqqhii", 0, len(values) - 1, now, now, producer_id, epoch, sequence, len(values)) + records
    return struct.pack(">qiib", 0, len(body) + 9, -1, 2) + struct.pack(">I", crc32c(body)) + body


def request(key, version, body=b"", correlation=7, flexible=False) -> bytes:
    """A whole frame."""
    return frame(header(key, version, correlation, flexible) + body)


def recorded():
    """Requests as Kafka's own classes encoded them: (name, key, version, header version, body), of every API and version."""
    keys, headers = {}, {}
    for line in (DATA / "apis.txt").read_text().splitlines():
        key, name, _, _, *versions = line.split()
        keys[name] = int(key)
        for version in versions:
            number, of_request, _ = map(int, version.split(":"))
            headers[name, number] = of_request
    found = []
    for line in (DATA / "messages.txt").read_text().splitlines():
        name, version, body = line.split(" ", 3)[:3]
        api = name.removesuffix("Request")
        if name.endswith("Request") and (api, int(version)) in headers:
            found.append((api, keys[api], int(version), headers[api, int(version)], bytes.fromhex(body)))
    return found


class Raw:
    def __init__(self, address, timeout_s=30, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout_s)
        self.socket.connect(address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closed as by a process that was killed with unread data."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, what: bytes):
        self.socket.sendall(what)

    def _read(self, n):
        found = b""
        while len(found) < n:
            more = self.socket.recv(n - len(found))
            if not more:
                return None
            found += more
        return found

    def receive(self):
        """The next frame without its length, None where the broker has closed the connection."""
        with contextlib.suppress(ConnectionError):
            size = self._read(4)
            return size and self._read(struct.unpack(">i", size)[0])

    def call(self, key, version, body=b"", correlation=7):
        """Of an API without flexible headers: the response behind its correlation id."""
        self.send(request(key, version, body, correlation))
        answer = self.receive()
        assert answer is not None, "the connection was closed"
        assert answer[:4] == struct.pack(">i", correlation)
        return answer[4:]

    def is_closed(self):
        """Waits for what comes next, which must be the end."""
        with contextlib.suppress(ConnectionError):
            return self.socket.recv(1) == b""
        return True
