# SPDX-License-Identifier: GPL-3.0-or-later
"""What the end-to-end tests stand on: ringmx as a process, upstreams that do as they are told, a
client that sends exact bytes, and peers that are skipped when they are not installed.

Environment:
    RINGMX                the binary under test
    RINGMX_REACTORS       reactors of every ringmx started here (default 1)
    RINGMX_TIMEOUT_SCALE  multiplies every time (default 1; more for sanitizers and valgrind)
    RINGMX_LOAD_SCALE     multiplies the number of messages of load tests (default 1)
    RINGMX_KTLS           tls.ktls where a test does not care: "auto", "require", "off"

Nothing here sleeps to let something happen: every wait is for a condition, with a deadline.
"""

import argparse
import asyncio
import atexit
import contextlib
import ctypes
import http.client
import itertools
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SOURCE_ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE_ROOT / "tools"))

import message_sink  # noqa: E402

RINGMX = os.environ.get("RINGMX", str(SOURCE_ROOT / "build" / "ringmx"))
REACTORS = int(os.environ.get("RINGMX_REACTORS", "1"))
TIMEOUT_SCALE = float(os.environ.get("RINGMX_TIMEOUT_SCALE", "1"))
LOAD_SCALE = float(os.environ.get("RINGMX_LOAD_SCALE", "1"))
KTLS = os.environ.get("RINGMX_KTLS")
PATIENCE = 10 * TIMEOUT_SCALE  # how long anything may take that ought to happen at once

# Thousands of sessions are opened from here.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(_most, 20000), _most))


def duration(seconds):
    """A time of the configuration, as TOML; scaled, since what happens within it is."""
    return f"{round(seconds * TIMEOUT_SCALE * 1000)}ms"


def changed(record):
    """A TLS record whose last octet is another one."""
    return record[:-1] + bytes([record[-1] ^ 1])


def load(messages):
    return max(1, round(messages * LOAD_SCALE))


def eventually(condition, what, seconds=None):
    """Waits until `condition()` is true, and returns what it returned. `what`: text, or what makes it at the end."""
    deadline = time.monotonic() + (PATIENCE if seconds is None else seconds * TIMEOUT_SCALE)
    pause = threading.Event()
    delay = 0.001
    while not (result := condition()):
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"waited in vain for {text}; last seen: {result!r}")
        pause.wait(delay)
        delay = min(delay * 2, 0.05)
    return result


# ------------------------------------------------------------------------------------- programs

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def program(name):
    """The path of a peer program; the test is skipped where it is not installed."""
    found = shutil.which(name, path=SEARCH_PATH)
    if not found:
        raise unittest.SkipTest(f"{name} is not installed")
    return found


# ------------------------------------------------------------------------------------- addresses

# Every test process has a loopback address of its own, made of its process id, so no port is ever
# contended for. The ports lie below those that the kernel gives to outgoing connections.
_ports = itertools.count(20000)
HOST = "127.{}.{}.{}".format(64 + (os.getpid() >> 16) % 64, (os.getpid() >> 8) & 255, os.getpid() & 255)


def free_address():
    return f"{HOST}:{next(_ports)}"


def free_ipv6_address():
    """There is one ::1 only. The port stays reserved by a socket that is bound and never listens:
    it does not hinder others with SO_REUSEPORT (ringmx, the sinks)."""
    reserved = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind(("::1", 0))
    except OSError:
        reserved.close()
        raise unittest.SkipTest("no IPv6 loopback")
    atexit.register(reserved.close)
    return f"[::1]:{reserved.getsockname()[1]}"


_temporary = None


def temporary_directory():
    """A new directory, gone when the test process ends. Its path is short enough for unix sockets."""
    global _temporary
    if _temporary is None:
        _temporary = tempfile.mkdtemp(prefix="ringmx-e2e-")
        os.chmod(_temporary, 0o711)  # peers that drop privileges must get through
        atexit.register(shutil.rmtree, _temporary, ignore_errors=True)
    return pathlib.Path(tempfile.mkdtemp(dir=_temporary))


# ------------------------------------------------------------------------------------- processes

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child process whose output is collected, and which does not outlive the test."""

    def __init__(self, command, before_exec=None, **options):
        def prepare():
            _die_with_parent()
            if before_exec:
                before_exec()

        self.command = [str(word) for word in command]
        self.errors = []  # lines of standard error
        self._changed = threading.Condition()
        self._ended = False
        self.popen = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                      stdout=options.pop("stdout", subprocess.DEVNULL),
                                      stderr=subprocess.PIPE, preexec_fn=prepare, **options)
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        atexit.register(self.kill)

    def _read_errors(self):
        for line in self.popen.stderr:
            with self._changed:
                self.errors.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def pid(self):
        return self.popen.pid

    def wait_for_error_line(self, line):
        with self._changed:
            self._changed.wait_for(lambda: line in self.errors or self._ended, PATIENCE)
            if line not in self.errors:
                raise AssertionError(f"{self.command} did not say {line!r} but {self.errors}")

    def wait_for_listener(self, address):
        family, where = message_sink.endpoint(address)

        def accepts():
            if self.popen.poll() is not None:
                raise AssertionError(f"{self.command} ended: {self.errors}")
            with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
                probe.connect(where)
                return True
        eventually(accepts, f"{self.command[0]} to listen on {address}")

    def wait(self, seconds=None):
        status = self.popen.wait(PATIENCE if seconds is None else seconds * TIMEOUT_SCALE)
        self._reader.join(PATIENCE)
        self.popen.stderr.close()
        return status

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        atexit.unregister(self.kill)
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._reader.join(PATIENCE)
        if self.popen.stdout:
            self.popen.stdout.close()
        self.popen.stderr.close()


def run(command, seconds=60, **options):
    """Runs a command to its end: (status, output, errors)."""
    done = subprocess.run([str(word) for word in command], stdin=options.pop("stdin", subprocess.DEVNULL),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds * TIMEOUT_SCALE,
                          preexec_fn=_die_with_parent, **options)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


# ------------------------------------------------------------------------------------- ringmx

def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def config_text(server=None, listeners=(), upstreams=(), metrics=None, tls=None, certificates=(), rules=(),
                services=()):
    def table(head, keys):
        return [head] + [f"{key} = {toml(value)}" for key, value in keys.items()]

    lines = table("[server]", {"hostname": "mx.example.test", "reactors": REACTORS, **(server or {})})
    for keys in listeners:
        lines += table("[[listener]]", keys)
    for keys in upstreams:
        lines += table("[[upstream]]", keys)
    for keys in certificates:
        lines += table("[[certificate]]", keys)
    for keys in rules:
        lines += table("[[rule]]", keys)
    for keys in services:
        lines += table("[[service]]", keys)
    if metrics:
        lines += table("[metrics]", metrics)
    if tls or any(one.get("implicit_tls") or one.get("starttls", "off") != "off" for one in (*listeners, *upstreams)):
        lines += table("[tls]", {**({"ktls": KTLS} if KTLS else {}), **(tls or {})})
    return "\n".join(lines) + "\n"


class Ringmx(Process):
    """A running ringmx. Listeners and upstreams are given as address strings or as tables; what is
    left out (names, addresses of listeners) is filled in."""

    def __init__(self, upstreams, listeners=None, server=None, tls=None, certificates=(), rules=(),
                 services=(), before_exec=None):
        def tables(given, kind):
            given = [{"address": one} if isinstance(one, str) else dict(one) for one in given]
            return [{"name": f"{kind}{n}", "address": None, **one} for n, one in enumerate(given)]

        self.upstreams = tables(upstreams, "mta")
        self.listeners = tables(listeners or [{}], "mx")
        for one in self.listeners:
            one["address"] = one["address"] or free_address()
        self.metrics_address = free_address()
        self.directory = temporary_directory()
        self.config = self.directory / "ringmx.toml"
        self.config.write_text(config_text(server, self.listeners, self.upstreams,
                                           {"address": self.metrics_address}, tls, certificates, rules,
                                           services))
        if not os.access(RINGMX, os.X_OK):
            raise AssertionError(f"RINGMX: {RINGMX} is no program")
        super().__init__([RINGMX, "run", "--config", self.config], before_exec=before_exec)
        self.wait_for_error_line("ready")

    def address(self, listener=0):
        return self.listeners[listener]["address"]

    def client(self, listener=0, **options):
        return Client(self.address(listener), **options)

    def metrics(self):
        return Metrics.scrape(self.metrics_address)

    def stop(self):
        """Ends it as an operator would, and checks that it ends well."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        status = self.wait(35)
        sanitizer = [line for line in self.errors if "Sanitizer" in line or "runtime error" in line]
        if status != 0 or sanitizer:
            raise AssertionError(f"ringmx ended with {status}: " + "\n".join(self.errors[-80:]))


class Metrics:
    """One scrape of a Prometheus text page."""

    SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
    LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')

    def __init__(self, page):
        self.page = page
        self.samples = []  # (name, labels, value)
        for line in page.splitlines():
            if not line or line.startswith("#"):
                continue
            name, labels, value = self.SAMPLE.fullmatch(line).groups()
            self.samples.append((name, dict(self.LABEL.findall(labels or "")), float(value)))

    @classmethod
    def scrape(cls, address):
        status, _, body = http_get(address, "/metrics")
        if status != 200:
            raise AssertionError(f"GET /metrics: {status}")
        return cls(body.decode())

    def total(self, name, **labels):
        """The sum of the samples of that name with those labels; KeyError if there is none."""
        found = [value for n, l, value in self.samples if n == name and labels.items() <= l.items()]
        if not found:
            raise KeyError(f"{name}{labels}")
        return sum(found)


def http_get(address, path, headers=None):
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


# ------------------------------------------------------------------------------------- the client

class Closed(AssertionError):
    """The peer closed where a reply was due."""


class Reply:
    def __init__(self, raw):
        self.raw = raw
        self.lines = [line[4:].decode("utf-8", "replace") for line in raw.split(b"\r\n")[:-1]]
        self.code = int(raw[:3])

    def __repr__(self):
        return repr(self.raw)


class Client:
    """An SMTP client that sends the bytes it is given, when it is told to, and nothing else."""

    REPLY = re.compile(rb"(?:\d{3}-[^\r\n]*\r\n)*\d{3}(?: [^\r\n]*)?\r\n")

    def __init__(self, address, source=None, receive_buffer=None, greeting=True):
        family, where = message_sink.endpoint(address)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        try:
            self.socket.connect(where)
            if greeting:
                self.expect(220)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, octets):
        self.socket.sendall(octets)

    def send_bytewise(self, octets):
        """One segment for each octet."""
        for n in range(len(octets)):
            self.socket.sendall(octets[n:n + 1])

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def _receive(self):
        try:
            octets = self.socket.recv(65536)
        except ConnectionResetError:
            octets = b""
        except TimeoutError:
            raise AssertionError(f"no reply within {self.socket.gettimeout()} s; so far {self.input!r}")
        self.input += octets
        return bool(octets)

    def reply(self, seconds=None):
        """The next reply, whole; `Closed` if the peer closes instead."""
        self.socket.settimeout(PATIENCE if seconds is None else seconds * TIMEOUT_SCALE)
        while True:
            if found := self.REPLY.match(self.input):
                self.input = self.input[found.end():]
                codes = {line[:3] for line in found[0].split(b"\r\n")[:-1]}
                if len(codes) != 1:
                    raise AssertionError(f"codes differ in one reply: {found[0]!r}")
                return Reply(found[0])
            if not self._receive():
                raise Closed(f"closed after {self.input!r}")

    def expect(self, *codes, seconds=None):
        reply = self.reply(seconds)
        if reply.code not in codes:
            raise AssertionError(f"expected {codes}, got {reply}")
        return reply

    def command(self, line, *codes):
        """Sends a command line, and returns its reply (whose code must be one of `codes`, if any)."""
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.expect(*codes) if codes else self.reply()

    def ehlo(self, name="client.example.test"):
        """EHLO; the keywords offered, with their parameters."""
        lines = self.command(f"EHLO {name}", 250).lines[1:]
        return {line.split()[0].upper(): line.split()[1:] for line in lines}

    def begin(self, sender="sender@example.test", recipient="recipient@example.test"):
        """MAIL and RCPT, both accepted."""
        self.command(f"MAIL FROM:<{sender}>", 250)
        self.command(f"RCPT TO:<{recipient}>", 250)

    def deliver(self, content=b"Subject: x\r\n\r\nx\r\n", sender="sender@example.test",
                recipient="recipient@example.test"):
        """A whole transaction in lock step, from MAIL on; accepted. `content` ends with CRLF, or is
        empty."""
        self.begin(sender, recipient)
        self.command("DATA", 354)
        self.send(stuffed(content) + b".\r\n")
        return self.expect(250)

    def ready_within(self, seconds):
        """Whether the peer says something, or closes, within so many seconds (not scaled)."""
        return bool(self.input) or bool(select.select([self.socket], [], [], seconds)[0])

    def expect_close(self, seconds=None):
        """The peer closes, and says nothing before."""
        self.socket.settimeout(PATIENCE if seconds is None else seconds * TIMEOUT_SCALE)
        while self._receive():
            pass
        if self.input:
            raise AssertionError(f"expected a close, got {self.input!r}")

    def replies_until_close(self):
        replies = []
        with contextlib.suppress(Closed):
            while True:
                replies.append(self.reply())
        if self.input:
            raise AssertionError(f"closed within a reply: {self.input!r}")
        return replies

    def quit(self):
        self.command("QUIT", 221)
        self.expect_close()
        self.close()


def stuffed(content):
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]


# ------------------------------------------------------------------------------------- upstreams

class Sink(message_sink.MessageSink):
    """The message sink, on a thread of its own, so that a test can be written top to bottom."""

    def __init__(self, address=None, **options):
        super().__init__(on_message=self._arrived, **options)
        self.address = address or free_address()
        self._arrival = threading.Condition()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._call(self.listen(self.address))

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def _arrived(self, _):
        with self._arrival:
            self._arrival.notify_all()

    def wait_for(self, count):
        """The messages, once there are `count` of them."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self.messages) >= count, PATIENCE):
                raise AssertionError(f"{len(self.messages)} of {count} messages came")
        return self.messages

    def drop_connections(self):
        """Closes every connection, idle or not; goes on listening."""
        async def drop():
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._call(drop())

    def stop(self):
        if self._loop.is_running():
            self._call(self.close())
            self._loop.call_soon_threadsafe(self._loop.stop)


class Gone(Exception):
    """This connection of a scripted upstream is over."""


class UpstreamConnection:
    def __init__(self, upstream, connected, number):
        self.upstream = upstream
        self.socket = connected
        self.number = number
        self.input = b""
        self.octets_sent = 0
        self.commands = []
        self.tls = None  # once the handshake is done
        self.handshake_error = None
        self.said_goodbye = False  # ringmx, by close_notify

    def send(self, octets):
        self.octets_sent += len(octets)
        self.socket.sendall(self.sealed(octets) if self.tls else octets)

    def receive(self):
        octets = self._opened() if self.tls else self.socket.recv(65536)
        if not octets:
            raise Gone
        self.input += octets

    # The records are made by hand, so that a test can cut them, or send what is none.

    def handshake(self, send=None):
        """The server's side of it; each flight, as octets, goes to `send`."""
        assert not self.input, f"in clear text behind STARTTLS: {self.input!r}"
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.upstream.tls.wrap_bio(self.incoming, self.outgoing, server_side=True)
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self.handshake_error = error.reason
                self.socket.sendall(self.outgoing.read())
                raise
            if flight := self.outgoing.read():
                (send or self.socket.sendall)(flight)
            if not done:
                self._feed()
        self.tls = tls

    def sealed(self, octets):
        self.tls.write(octets)
        return self.outgoing.read()

    def close_notify(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.socket.sendall(self.outgoing.read())

    def _feed(self):
        octets = self.socket.recv(65536)
        if not octets:
            raise Gone
        self.incoming.write(octets)

    def _opened(self):
        while True:
            try:
                octets = self.tls.read(65536)
                self.said_goodbye = not octets
                return octets
            except ssl.SSLWantReadError:
                self._feed()

    def line(self):
        while b"\r\n" not in self.input:
            self.receive()
        line, _, self.input = self.input.partition(b"\r\n")
        self.commands.append(line)
        return line

    def close(self):
        self.socket.close()
        raise Gone

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def until_peer_closes(self):
        while True:
            self.receive()


class ScriptedUpstream:
    """An SMTP server that keeps to the protocol except where the test says otherwise.

    `faults` maps a stage to what happens in place of the usual reply: a function of the connection
    and the usual reply (see the ones below). Stages: greeting, ehlo, helo, starttls, handshake (no reply
    is due), xclient and auth (where `extensions` offer them), mail, rcpt, bdat, data, body (the first octets of a message are here, no reply is due), message
    (all of it is here), rset. A message is in `accepted` if, and only if, its 250 was sent.

    `tls` is an ssl.SSLContext: TLS from the start if `implicit_tls`, else by STARTTLS, which is offered
    in clear text besides `extensions`; `tls_extensions` is what is offered after it, if that differs.
    """

    def __init__(self, faults=None, extensions=("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"),
                 receive_buffer=None, tls=None, implicit_tls=False, tls_extensions=None, address=None):
        self.faults = dict(faults or {})
        self.extensions = extensions
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.tls_extensions = extensions if tls_extensions is None else tls_extensions
        self.receive_buffer = receive_buffer  # of each socket; the kernel's choice grows
        self.address = address or free_address()
        self.accepted = []  # contents, as transmitted, dots un-stuffed
        self.connections = []
        self.begun = set()  # stages at which a fault is happening
        self.reached = set()  # or has happened
        self._changed = threading.Condition()
        self._listener = None
        self.start()

    def start(self):
        family, where = message_sink.endpoint(self.address)
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self._listener.bind(where)
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self):
        """Nobody listens any more, and every connection is closed."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self.close_connections()

    def close_connections(self):
        for connection in list(self.connections):  # not those that come while this goes on
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def wait_until_begun(self, stage):
        with self._changed:
            if not self._changed.wait_for(lambda: stage in self.begun, PATIENCE):
                raise AssertionError(f"the upstream never began to fail at {stage}")

    def wait_until_reached(self, stage):
        with self._changed:
            if not self._changed.wait_for(lambda: stage in self.reached, PATIENCE):
                raise AssertionError(f"the upstream never failed at {stage}")

    def _accept(self, listener):
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            if connected.family != socket.AF_UNIX:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = UpstreamConnection(self, connected, len(self.connections) + 1)
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(Gone, OSError):
            self._session(connection)
        connection.socket.close()

    def _at(self, connection, stage, usual):
        fault = self.faults.get(stage)
        if fault:
            with self._changed:
                self.begun.add(stage)
                self._changed.notify_all()
            try:
                return fault(connection, usual)
            finally:
                with self._changed:
                    self.reached.add(stage)
                    self._changed.notify_all()
        connection.send(usual)
        return usual

    def _secure(self, connection):
        if "handshake" in self.faults:
            self._at(connection, "handshake", b"")
        else:
            connection.handshake()

    def _session(self, connection):
        if self.implicit_tls:
            self._secure(connection)
        self._at(connection, "greeting", b"220 upstream.example.test ESMTP\r\n")
        chunks = bytearray()
        while True:
            verb = connection.line()[:4].upper()
            if verb == b"EHLO":
                offer = self.tls_extensions if connection.tls else self.extensions
                if self.tls and not connection.tls:
                    offer = (*offer, "STARTTLS")
                keywords = [b"upstream.example.test", *(e.encode() for e in offer)]
                lines = [b"250-" + keyword for keyword in keywords[:-1]] + [b"250 " + keywords[-1]]
                self._at(connection, "ehlo", b"\r\n".join(lines) + b"\r\n")
            elif verb == b"HELO":
                self._at(connection, "helo", b"250 upstream.example.test\r\n")
            elif verb == b"STAR" and self.tls and not connection.tls:
                sent = self._at(connection, "starttls", b"220 2.0.0 Ready\r\n")
                if sent and sent.startswith(b"220"):
                    self._secure(connection)
            elif verb == b"XCLI" and any(e.startswith("XCLIENT ") for e in self.extensions):
                self._at(connection, "xclient", b"220 upstream.example.test ESMTP\r\n")
            elif verb == b"AUTH" and any(e.startswith("AUTH ") for e in self.extensions):
                self._at(connection, "auth", b"235 2.7.0 Ok\r\n")
            elif verb == b"NOOP":
                connection.send(b"250 2.0.0 Ok\r\n")
            elif verb == b"MAIL":
                chunks.clear()
                self._at(connection, "mail", b"250 2.1.0 Ok\r\n")
            elif verb == b"RCPT":
                self._at(connection, "rcpt", b"250 2.1.5 Ok\r\n")
            elif verb == b"RSET":
                self._at(connection, "rset", b"250 2.0.0 Ok\r\n")
            elif verb == b"QUIT":
                connection.send(b"221 2.0.0 Bye\r\n")
                if connection.tls:
                    connection.until_peer_closes()
                return
            elif verb == b"DATA":
                sent = self._at(connection, "data", b"354 Go ahead\r\n")
                if sent and sent.startswith(b"354"):
                    self._body(connection)
            elif verb == b"BDAT":
                self._chunk(connection, chunks)
            else:
                connection.send(b"500 5.5.2 Not understood\r\n")

    def _body(self, connection):
        if "body" in self.faults:
            while not connection.input:
                connection.receive()
            self._at(connection, "body", b"")
        received = bytearray(b"\r\n" + connection.input)
        connection.input = b""
        searched = 0
        while (end := received.find(b"\r\n.\r\n", max(0, searched - 4))) < 0:
            searched = len(received)
            connection.receive()
            received += connection.input
            connection.input = b""
        connection.input = bytes(received[end + 5:])
        content = bytes(received[:end + 2]).replace(b"\r\n.", b"\r\n")[2:]
        # Into the list before the reply leaves: whoever has the 250 must find the message.
        fault = self.faults.get("message")
        if not fault or getattr(fault, "accepts", False):
            self.accepted.append(content)
        self._at(connection, "message", b"250 2.0.0 Ok\r\n")


    def _chunk(self, connection, chunks):
        size, *last = connection.commands[-1].split()[1:]
        while len(connection.input) < int(size):
            connection.receive()
        chunks += connection.input[:int(size)]
        connection.input = connection.input[int(size):]
        if last:
            self.accepted.append(bytes(chunks))
            chunks.clear()
        self._at(connection, "bdat", b"250 2.0.0 Ok\r\n")


def closes(connection, _):
    connection.close()


def resets(connection, _):
    connection.reset()


def is_silent(connection, _):
    connection.until_peer_closes()


def says(octets):
    """Says this instead of the usual reply."""
    def fault(connection, _):
        connection.send(octets)
        return octets
    fault.accepts = bool(re.fullmatch(rb"(?:250-[^\r\n\0]*\r\n)*250(?: [^\r\n\0]*)?\r\n", octets))
    return fault


def says_and_closes(octets):
    def fault(connection, _):
        connection.send(octets)
        connection.close()
    return fault


def says_twice(connection, usual):
    connection.send(usual + usual)
    return usual


says_twice.accepts = True


# ------------------------------------------------------------------------------------- the tests

def sanitized():
    """Whether ringmx was built with a sanitizer, whose memory is not ringmx's."""
    binary = pathlib.Path(RINGMX)
    return binary.exists() and any(name in binary.read_bytes() for name in (b"__asan_init", b"__tsan_init"))


class TestCase(unittest.TestCase):
    def ringmx(self, upstreams, **options):
        """A ringmx of this test's own, stopped (and its end checked) behind it."""
        upstreams = [getattr(one, "address", one) for one in upstreams]
        process = Ringmx(upstreams, **options)
        self.addCleanup(process.kill)
        self.addCleanup(process.stop)
        return process

    def sink(self, **options):
        sink = Sink(**options)
        self.addCleanup(sink.stop)
        return sink

    def upstream(self, *arguments, **options):
        upstream = ScriptedUpstream(*arguments, **options)
        self.addCleanup(upstream.stop)
        return upstream

    def process(self, command, **options):
        process = Process(command, **options)
        self.addCleanup(process.kill)
        return process


def main():
    """Runs the tests of the calling file. Status 77 if every one of them was skipped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="*", help="only CLASS, or CLASS.TEST")
    parser.add_argument("--without", metavar="NAME", action="append", default=[], help="all but this")
    arguments = parser.parse_args()

    def each(suite):
        for one in suite:
            yield from each(one) if isinstance(one, unittest.TestSuite) else [one]

    def named(name):
        return [test for test in everything if f"{test.id()}.".startswith(f"__main__.{name}.")]

    everything = list(each(unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])))
    chosen = [test for name in arguments.name for test in named(name)] if arguments.name else everything
    for name in arguments.without:
        if not named(name):  # it has another name now
            parser.error(f"there is no test {name}")
        chosen = [test for test in chosen if test not in named(name)]
    if not chosen:
        parser.error("there is no such test")
    suite = unittest.TestSuite(chosen)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    for test, reason in result.skipped:
        print(f"SKIP: {test}: {reason}")

    def tests(*outcomes):  # a subtest stands for its test
        return {getattr(test, "test_case", test) for outcome in outcomes for test, _ in outcome}

    failed = tests(result.failures, result.errors)
    skipped = tests(result.skipped) - failed
    passed = result.testsRun - len(failed | skipped)
    print(f"{passed} of {result.testsRun} tests passed, {len(skipped)} skipped, "
          f"{REACTORS} reactor{'s' if REACTORS > 1 else ''}", flush=True)
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if skipped and passed == 0 else 0)
