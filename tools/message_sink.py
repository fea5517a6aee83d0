#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""An SMTP server that keeps every message: the upstream of the demo and of the tests.

It is a strict witness. A line ends with CRLF and nothing else, the end of data is CRLF.CRLF and
nothing else, and bytes that RFC 5321 2.3.8 forbids in a message (bare CR, bare LF, NUL) have it
refused with 550. What it accepts it keeps as it was transmitted, dots un-stuffed.

As a command it writes each message to DIRECTORY/000001.eml and its envelope to 000001.json, prints
one line for each, and ends with status 0 on SIGINT or SIGTERM. As a module:

    sink = MessageSink()
    await sink.listen("127.0.0.1:2526")
    ...
    sink.messages[0].content
    await sink.close()
"""

import argparse
import asyncio
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import re
import signal
import socket
import sys

EXTENSIONS = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES")

# The parameters that an extension brings to MAIL and RCPT.
MAIL_PARAMETERS = {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN"}
RCPT_PARAMETERS = {"NOTIFY": "DSN", "ORCPT": "DSN"}

LINE_LIMIT = 16 * 1024
PATH = re.compile(rb'(?i)(?:FROM|TO):<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>(?: (.*))?', re.DOTALL)


def text(octets):
    """Octets as text that can be turned back into the same octets."""
    return octets.decode("utf-8", "surrogateescape")


def endpoint(written):
    """"127.0.0.1:25", "[::1]:25" or "unix:/path" as (family, address)."""
    if written.startswith("unix:"):
        return socket.AF_UNIX, written[len("unix:"):]
    host, _, port = written.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return socket.AF_INET6, (host[1:-1], int(port))
    return socket.AF_INET, (host, int(port))


@dataclasses.dataclass
class Message:
    content: bytes
    sender: str
    sender_parameters: list
    recipients: list  # of (address, parameters)
    helo: str
    framing: str  # "DATA" or "BDAT"
    session: int  # number of the connection, from 1
    commands: list  # of the transaction, raw, without CRLF

    @property
    def envelope(self):
        return {
            "helo": self.helo,
            "sender": self.sender,
            "sender_parameters": self.sender_parameters,
            "recipients": [{"address": a, "parameters": p} for a, p in self.recipients],
            "framing": self.framing,
            "octets": len(self.content),
            "session": self.session,
        }


class MessageSink:
    """Listens on any number of endpoints. Single-threaded: call it from its event loop."""

    def __init__(self, hostname="sink.example.test", extensions=EXTENSIONS, size_limit=0, strict=True,
                 on_message=None):
        self.hostname = hostname
        self.extensions = set(extensions)  # may be changed while running: the next EHLO offers them
        self.size_limit = size_limit  # octets; 0: none
        self.strict = strict
        self.on_message = on_message  # called with each Message before its 250
        self.messages = []
        self.refused = []  # contents that held bare CR, bare LF or NUL
        self.commands = {}  # session number: its command lines, raw, without CRLF
        self.sessions = 0
        self.accepted = 0
        self._servers = []
        self._tasks = set()

    async def listen(self, written):
        family, address = endpoint(written)
        listener = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_UNIX:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        self._servers.append(await asyncio.start_server(self._accepted, sock=listener, backlog=4096))

    async def close(self):
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self.sessions += 1
        try:
            await Session(self, self.sessions, reader, writer).run()
        except (ConnectionError, asyncio.CancelledError, EOFError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


class Session:
    def __init__(self, sink, number, reader, writer):
        self.sink = sink
        self.number = number
        self.commands = sink.commands.setdefault(number, [])
        self.reader = reader
        self.writer = writer
        self.input = bytearray()
        self.output = []
        self.helo = ""
        self.offered = set()
        self.reset()

    def reset(self):
        self.sender = None
        self.sender_parameters = []
        self.recipients = []
        self.chunks = None  # bytearray while a BDAT message comes
        self.first_command = len(self.commands)

    def reply(self, line):
        code, _, rest = line.partition(" ")
        if "ENHANCEDSTATUSCODES" not in self.offered:
            rest = re.sub(r"^[245]\.\d+\.\d+ ", "", rest)
        self.output.append(f"{code} {rest}\r\n".encode())

    async def read(self):
        """More input. Replies leave here, together: nobody can be waiting for one any earlier."""
        if self.output:
            self.writer.write(b"".join(self.output))
            self.output.clear()
            await self.writer.drain()
        octets = await self.reader.read(256 * 1024)
        if not octets:
            raise EOFError
        self.input += octets

    async def line(self):
        searched = 0
        while (end := self.input.find(b"\r\n", max(0, searched - 1))) < 0:
            if len(self.input) > LINE_LIMIT:
                self.reply("421 4.5.2 Line too long")
                await self.flush()
                raise EOFError
            searched = len(self.input)
            await self.read()
        line = bytes(self.input[:end])
        del self.input[:end + 2]
        return line

    async def flush(self):
        self.writer.write(b"".join(self.output))
        self.output.clear()
        await self.writer.drain()

    async def octets(self, size):
        while len(self.input) < size:
            await self.read()
        octets = bytes(self.input[:size])
        del self.input[:size]
        return octets

    async def run(self):
        self.reply(f"220 {self.sink.hostname} ESMTP message sink")
        while True:
            line = await self.line()
            self.commands.append(line)
            verb, _, argument = line.partition(b" ")
            verb = verb.upper()
            if any(octet in line for octet in b"\r\n\0"):
                self.reply("500 5.5.2 CR, LF or NUL in a command")
            elif verb == b"QUIT":
                self.reply("221 2.0.0 Bye")
                await self.flush()
                return
            elif verb in (b"EHLO", b"HELO") and argument:
                self.greet(verb, argument)
            elif verb == b"MAIL":
                self.mail(argument)
            elif verb == b"RCPT":
                self.rcpt(argument)
            elif verb == b"DATA":
                await self.data()
            elif verb == b"BDAT" and "CHUNKING" in self.offered:
                await self.bdat(argument)
            elif verb == b"RSET":
                self.reset()
                self.reply("250 2.0.0 Ok")
            elif verb == b"NOOP":
                self.reply("250 2.0.0 Ok")
            elif verb == b"VRFY":
                self.reply("252 2.5.2 Send it and see")
            else:
                self.reply("500 5.5.2 Not understood")

    def greet(self, verb, argument):
        self.reset()
        self.helo = text(argument)
        self.offered = set(self.sink.extensions) if verb == b"EHLO" else set()
        if verb == b"HELO":
            self.reply(f"250 {self.sink.hostname}")
            return
        lines = [self.sink.hostname]
        lines += [f"SIZE {self.sink.size_limit}" if e == "SIZE" else e for e in EXTENSIONS if e in self.offered]
        for line in lines[:-1]:
            self.output.append(f"250-{line}\r\n".encode())
        self.output.append(f"250 {lines[-1]}\r\n".encode())

    def path(self, prefix, argument, known):
        """(address, parameters), or None when the refusal has been sent."""
        found = PATH.fullmatch(argument)
        if not found or not argument.upper().startswith(prefix):
            self.reply("501 5.5.4 Syntax")
            return None
        parameters = text(found[2] or b"").split()
        for parameter in parameters:
            if known.get(parameter.partition("=")[0].upper()) not in self.offered:
                self.reply("555 5.5.4 Parameter not offered")
                return None
        return text(found[1]), parameters

    def mail(self, argument):
        if not self.helo or self.sender is not None:
            self.reply("503 5.5.1 Out of order")
            return
        path = self.path(b"FROM:", argument, MAIL_PARAMETERS)
        if path is None:
            return
        for parameter in path[1]:
            name, _, value = parameter.partition("=")
            if name.upper() == "SIZE" and self.too_big(int(value)):
                self.reply("552 5.3.4 Too big")
                return
        self.sender, self.sender_parameters = path
        self.first_command = len(self.commands) - 1
        self.reply("250 2.1.0 Ok")

    def rcpt(self, argument):
        if self.sender is None or self.chunks is not None:
            self.reply("503 5.5.1 Out of order")
            return
        path = self.path(b"TO:", argument, RCPT_PARAMETERS)
        if path is not None:
            self.recipients.append(path)
            self.reply("250 2.1.5 Ok")

    def too_big(self, octets):
        return 0 < self.sink.size_limit < octets

    async def data(self):
        if not self.recipients or self.chunks is not None:
            self.reply("503 5.5.1 Out of order")
            return
        self.reply("354 Go ahead")
        # With the CRLF that ended DATA in front, every line of the message begins behind a CRLF.
        self.input[:0] = b"\r\n"
        searched = 0
        while (end := self.input.find(b"\r\n.\r\n", max(0, searched - 4))) < 0:
            searched = len(self.input)
            await self.read()
        content = bytes(self.input[:end + 2]).replace(b"\r\n.", b"\r\n")[2:]
        del self.input[:end + 5]
        self.message(content, "DATA")

    async def bdat(self, argument):
        words = argument.upper().split()
        if not (words and words[0].isdigit() and words[1:] in ([], [b"LAST"])):
            self.reply("501 5.5.4 Syntax")
            return
        octets = await self.octets(int(words[0]))
        if not self.recipients:
            self.reply("503 5.5.1 Out of order")
            return
        self.chunks = self.chunks or bytearray()
        self.chunks += octets
        if words[1:]:
            self.message(bytes(self.chunks), "BDAT")
        else:
            self.reply(f"250 2.0.0 {len(octets)} octets")

    def message(self, content, framing):
        if self.too_big(len(content)):
            self.reply("552 5.3.4 Too big")
        elif self.sink.strict and re.search(rb"\0|\r(?!\n)|(?<!\r)\n", content):
            self.sink.refused.append(content)
            self.reply("550 5.6.11 Bare CR, bare LF or NUL in the message")
        else:
            message = Message(content, self.sender, self.sender_parameters, self.recipients, self.helo,
                              framing, self.number, self.commands[self.first_command:])
            self.sink.accepted += 1
            self.sink.messages.append(message)
            if self.sink.on_message:
                self.sink.on_message(message)
            self.reply(f"250 2.0.0 Ok: message {self.sink.accepted}")
        self.reset()


class Maildrop:
    """Writes messages to numbered files, and never over one that is there."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.number = max((int(p.stem) for p in self.directory.glob("[0-9]*.eml")), default=0)

    def store(self, message):
        self.number += 1
        name = self.directory / f"{self.number:06}"
        envelope = dict(message.envelope, received=datetime.datetime.now(datetime.timezone.utc).isoformat())
        # ASCII: it holds any octet sequence of the envelope, escaped, and can be read back.
        name.with_suffix(".json").write_text(json.dumps(envelope, indent=2) + "\n", encoding="ascii")
        # Whole or not there: who watches the directory sees no half message.
        partial = name.with_suffix(".partial")
        partial.write_bytes(message.content)
        partial.rename(name.with_suffix(".eml"))
        recipients = ", ".join(f"<{address}>" for address, _ in message.recipients)
        line = f"<{message.sender}> to {recipients}, {len(message.content)} octets: {name.with_suffix('.eml')}\n"
        sys.stdout.buffer.write(line.encode("ascii", "backslashreplace"))
        sys.stdout.buffer.flush()


async def command(arguments):
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # Messages are on disk; the list would only grow.
    sink = MessageSink(arguments.hostname, [e for e in EXTENSIONS if e not in arguments.without],
                       arguments.size_limit, not arguments.lenient)
    maildrop = Maildrop(arguments.directory)

    def store(message):
        maildrop.store(message)
        sink.messages.clear()
        sink.refused.clear()
        sink.commands.clear()

    sink.on_message = store
    for written in arguments.listen:
        await sink.listen(written)
    print("ready", file=sys.stderr, flush=True)
    await stopped.wait()
    await sink.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", help="where the messages go")
    parser.add_argument("--listen", action="append", required=True, metavar="ENDPOINT",
                        help="127.0.0.1:2526, [::1]:2526 or unix:/path; may be given several times")
    parser.add_argument("--hostname", default="sink.example.test")
    parser.add_argument("--without", action="append", default=[], choices=EXTENSIONS, help="do not offer this")
    parser.add_argument("--size-limit", type=int, default=0, metavar="OCTETS", help="0: none")
    parser.add_argument("--lenient", action="store_true", help="accept bare CR, bare LF and NUL in messages")
    asyncio.run(command(parser.parse_args()))


if __name__ == "__main__":
    main()
