"""A small RTSP server of its own process: Motion JPEG as RTP (RFC 2435) inside the connection.

``python rtsp_server.py PORT``; frames carry their number as stripes (tests/predict/videos.py).
"""

from __future__ import annotations

import socketserver
import struct
import sys
import time

import cv2

from tests.predict.videos import SIZE_WH, frame_image

FRAMES_A_SECOND = 15
CLOCK_HZ = 90_000
PAYLOAD_TYPE, SSRC = 26, 7
TABLES_FOLLOW, SUBSAMPLED = 255, 1
PACKET_BYTES = 1200
DQT, SOS = 0xFFDB, 0xFFDA
SDP = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=clip\r\nt=0 0\r\nm=video 0 RTP/AVP {PAYLOAD_TYPE}\r\n"


def jpeg_parts(content: bytes) -> tuple[bytes, bytes]:
    """The quantisation tables and the entropy-coded data of a baseline JPEG."""
    tables, place = b"", 2
    while True:
        mark, length = struct.unpack_from(">HH", content, place)
        segment = content[place + 4 : place + 2 + length]
        place += 2 + length
        if mark == DQT:
            while segment:
                tables, segment = tables + segment[1:65], segment[65:]
        if mark == SOS:
            return tables, content[place:-2]


def packets(number: int, first: int) -> list[bytes]:
    """The RTP packets of one frame, the first with the sequence number ``first``."""
    tables, data = jpeg_parts(cv2.imencode(".jpg", frame_image(number))[1].tobytes())
    made = []
    for offset in range(0, len(data), PACKET_BYTES):
        part = data[offset : offset + PACKET_BYTES]
        last = offset + PACKET_BYTES >= len(data)
        stamp = number * CLOCK_HZ // FRAMES_A_SECOND
        sequence = (first + len(made)) % (1 << 16)
        kind = PAYLOAD_TYPE | (128 if last else 0)
        head = struct.pack(">BBHII", 128, kind, sequence, stamp, SSRC)
        head += struct.pack(">I", offset)
        head += bytes([SUBSAMPLED, TABLES_FOLLOW, SIZE_WH[0] // 8, SIZE_WH[1] // 8])
        if offset == 0:
            head += struct.pack(">BBH", 0, 0, len(tables)) + tables
        made.append(head + part)
    return made


class Session(socketserver.StreamRequestHandler):
    """One viewer: the four requests of the protocol, then frames until it goes away."""

    def handle(self) -> None:
        while request := self.rfile.readline().decode().split():
            fields = {}
            while line := self.rfile.readline().decode().strip():
                name, _, value = line.partition(":")
                fields[name.lower()] = value.strip()
            self.answer(request[0], fields)
            if request[0] == "PLAY":
                self.play()
                return

    def answer(self, method: str, fields: dict[str, str]) -> None:
        lines = ["RTSP/1.0 200 OK", f"CSeq: {fields['cseq']}", "Session: 1"]
        body = ""
        if method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = SDP
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        self.wfile.write("\r\n".join([*lines, "", body]).encode())

    def play(self) -> None:
        sequence, number = 0, 0
        while True:
            for packet in packets(number, sequence):
                self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)
                sequence += 1
            number += 1
            time.sleep(1 / FRAMES_A_SECOND)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A viewer that goes away is no error."""


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Session) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
