# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a guest (guest.py): clients and upstreams for whom the kernel seals and opens the records."""

import concurrent.futures
import ctypes
import ctypes.util
import functools
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import harness  # noqa: E402

CERTIFICATES = harness.SOURCE_ROOT / "tests" / "tls" / "certificates"
TLS_LISTENER = {"implicit_tls": True, "certificate": str(CERTIFICATES / "p256.pem"),
                "private_key": str(CERTIFICATES / "p256.key")}
TLS_UPSTREAM = {"implicit_tls": True, "verify": "ca_file", "ca_file": str(CERTIFICATES / "root.pem"),
                "tls_name": "mx.example.org"}
TLS12, TLS13 = 0x0303, 0x0304
# By OpenSSL's names: the version, and what ringmx counts them as.
SUITES = {
    "TLS_AES_128_GCM_SHA256": (TLS13, "aes_128_gcm"),
    "TLS_AES_256_GCM_SHA384": (TLS13, "aes_256_gcm"),
    "TLS_CHACHA20_POLY1305_SHA256": (TLS13, "chacha20_poly1305"),
    "ECDHE-ECDSA-AES128-GCM-SHA256": (TLS12, "aes_128_gcm"),
    "ECDHE-ECDSA-AES256-GCM-SHA384": (TLS12, "aes_256_gcm"),
    "ECDHE-ECDSA-CHACHA20-POLY1305": (TLS12, "chacha20_poly1305"),
}
LARGEST_RECORD = 16384
KERNEL = tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups()))
REKEYS = KERNEL >= (6, 14)
MODPROBE = pathlib.Path("/run/modprobe")  # the guest's

# ------------------------------------------------------------------------------------- the peers

# OpenSSL itself: Python's ssl can't choose a suite of TLS 1.3, pad, or change keys.
LIBSSL = ctypes.CDLL(ctypes.util.find_library("ssl") or "libssl.so.3")
for _name, _result, *_arguments in (
        ("TLS_client_method", ctypes.c_void_p),
        ("TLS_server_method", ctypes.c_void_p),
        ("SSL_CTX_new", ctypes.c_void_p, ctypes.c_void_p),
        ("SSL_CTX_ctrl", ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p),
        ("SSL_CTX_set_ciphersuites", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p),
        ("SSL_CTX_set_cipher_list", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p),
        ("SSL_CTX_set_block_padding", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t),
        ("SSL_CTX_use_certificate_chain_file", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p),
        ("SSL_CTX_use_PrivateKey_file", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int),
        ("SSL_new", ctypes.c_void_p, ctypes.c_void_p),
        ("SSL_free", None, ctypes.c_void_p),
        ("SSL_set_fd", ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
        ("SSL_set0_rbio", None, ctypes.c_void_p, ctypes.c_void_p),
        ("BIO_new_mem_buf", ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int),
        ("SSL_connect", ctypes.c_int, ctypes.c_void_p),
        ("SSL_accept", ctypes.c_int, ctypes.c_void_p),
        ("SSL_do_handshake", ctypes.c_int, ctypes.c_void_p),
        ("SSL_read", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int),
        ("SSL_write", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int),
        ("SSL_shutdown", ctypes.c_int, ctypes.c_void_p),
        ("SSL_key_update", ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
        ("SSL_get_error", ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
        ("ERR_get_error", ctypes.c_ulong),
        ("ERR_clear_error", None),
        ("ERR_error_string_n", None, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_size_t)):
    _function = getattr(LIBSSL, _name)
    _function.restype, _function.argtypes = _result, _arguments
SSL_CTRL_SET_MIN_PROTO_VERSION, SSL_CTRL_SET_MAX_PROTO_VERSION = 123, 124
SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN = 2, 6
SSL_FILETYPE_PEM = 1


@functools.lru_cache(maxsize=None)
def context_of(suite, padding, server):
    version, _ = SUITES[suite]
    context = LIBSSL.SSL_CTX_new(LIBSSL.TLS_server_method() if server else LIBSSL.TLS_client_method())
    for bound in (SSL_CTRL_SET_MIN_PROTO_VERSION, SSL_CTRL_SET_MAX_PROTO_VERSION):
        LIBSSL.SSL_CTX_ctrl(context, bound, version, None)
    choose = LIBSSL.SSL_CTX_set_ciphersuites if version == TLS13 else LIBSSL.SSL_CTX_set_cipher_list
    assert choose(context, suite.encode()) == 1
    if server:
        chain, key = (TLS_LISTENER[name].encode() for name in ("certificate", "private_key"))
        assert LIBSSL.SSL_CTX_use_certificate_chain_file(context, chain) == 1
        assert LIBSSL.SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1
    if padding:
        assert LIBSSL.SSL_CTX_set_block_padding(context, padding) == 1
    return context


class TlsSocket:
    """What harness wants of a socket, in TLS. One write is one record, up to the largest."""

    def __init__(self, connected, suite, padding=0, server=False):
        self.tcp = connected
        self.ended_by = None  # how the peer ended: "close_notify", or an error of OpenSSL's
        self.settimeout(harness.PATIENCE)
        self.ssl = LIBSSL.SSL_new(context_of(suite, padding, server))
        LIBSSL.SSL_set_fd(self.ssl, self.tcp.fileno())
        self._call(LIBSSL.SSL_accept if server else LIBSSL.SSL_connect)

    def _call(self, function, *arguments):
        """What a function of OpenSSL's returned; 0 after a close_notify."""
        LIBSSL.ERR_clear_error()
        result = function(self.ssl, *arguments)
        if result > 0:
            return result
        error = LIBSSL.SSL_get_error(self.ssl, result)
        if error == SSL_ERROR_WANT_READ:
            raise TimeoutError
        if error == SSL_ERROR_ZERO_RETURN:
            self.ended_by = "close_notify"
            return 0
        text = ctypes.create_string_buffer(256)
        LIBSSL.ERR_error_string_n(LIBSSL.ERR_get_error(), text, len(text))
        self.ended_by = text.value.decode()
        raise ConnectionResetError(self.ended_by)

    def settimeout(self, seconds):
        self.tcp.setblocking(True)
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._timeout = seconds

    def gettimeout(self):
        return self._timeout

    def sendall(self, octets):
        if octets:
            self._call(LIBSSL.SSL_write, bytes(octets), len(octets))

    def recv(self, limit):
        buffer = ctypes.create_string_buffer(limit)
        received = self._call(LIBSSL.SSL_read, buffer, limit)
        return buffer.raw[:received]

    def key_update(self, requested):
        assert LIBSSL.SSL_key_update(self.ssl, 1 if requested else 0) == 1
        self._call(LIBSSL.SSL_do_handshake)

    def setsockopt(self, *arguments):
        self.tcp.setsockopt(*arguments)

    def shutdown(self, how):
        self.tcp.shutdown(how)

    def close_notify(self):
        LIBSSL.SSL_shutdown(self.ssl)

    def fatal_alert(self):
        """Makes OpenSSL read what is no record, which it answers."""
        LIBSSL.SSL_set0_rbio(self.ssl, LIBSSL.BIO_new_mem_buf(NO_RECORD, len(NO_RECORD)))
        buffer = ctypes.create_string_buffer(1)
        assert LIBSSL.SSL_read(self.ssl, buffer, 1) < 0

    def close(self):
        if self.ssl:
            LIBSSL.SSL_free(self.ssl)
            self.ssl = None
        self.tcp.close()


NO_RECORD = b"\x17\x03\x03\x00\x40" + bytes(64)


class TlsClient(harness.Client):
    def __init__(self, address, suite="TLS_AES_128_GCM_SHA256", padding=0, starttls=False, **options):
        super().__init__(address, greeting=starttls, **options)
        if starttls:
            self.ehlo()
            self.command("STARTTLS", 220)
        try:
            self.socket = TlsSocket(self.socket, suite, padding)
            if not starttls:
                self.expect(220)
        except BaseException:
            self.socket.close()
            raise

    def send_in_records(self, octets, size):
        for begin in range(0, len(octets), size):
            self.send(octets[begin:begin + size])

    def ended_by(self):
        """How the peer ended, once it has; it says nothing before."""
        self.expect_close()
        return self.socket.ended_by


# ------------------------------------------------------------------------------------- the tests

def lines(octets):
    """A message of that many octets; no dot begins a line."""
    if octets < 2:
        return b""
    line = bytes(range(48, 122)) + b"\r\n"
    return (line * (octets // len(line) + 1))[:octets - 2].rstrip(b"\r\n").ljust(octets - 2, b"x") + b"\r\n"


def kernel_counters():
    return dict((name, int(value)) for name, value in
                map(str.split, pathlib.Path("/proc/net/tls_stat").read_text(encoding="ascii").splitlines()))


class TestCase(harness.TestCase):
    def setUp(self):
        if not pathlib.Path("/proc/net/tls_stat").exists():
            self.skipTest("this kernel has no TLS")
        self.before = kernel_counters()
        self.errors_expected = 0
        self.began = time.monotonic()

    def tearDown(self):
        print(f"{time.monotonic() - self.began:.1f} s ", end="", flush=True)
        self.assertEqual(self.kernel_counted("TlsDecryptError"), self.errors_expected)

    def kernel_counted(self, name):
        return kernel_counters().get(name, 0) - self.before.get(name, 0)

    def start(self, upstreams=None, ktls="require", listener=None, **options):
        self.sink_ = None if upstreams else self.sink()
        self.proxy = self.ringmx(upstreams or [self.sink_], listeners=[listener or TLS_LISTENER],
                                 tls={"ktls": ktls}, **options)
        return self.proxy

    def client(self, *arguments, listener=0, **options):
        client = TlsClient(self.proxy.address(listener), *arguments, **options)
        self.addCleanup(client.close)
        return client

    def delivered(self, count):
        return [message.content for message in self.sink_.wait_for(count)]

    def settled(self, sessions=0):
        harness.eventually(lambda: self.proxy.metrics().total("ringmx_connections_current") == sessions,
                           f"{sessions} sessions")

    def violations(self, kind):
        return self.proxy.metrics().total("ringmx_protocol_violations_total", type=kind, action="rejected")

    def in_data(self, suite="TLS_AES_128_GCM_SHA256", listener=0):
        """A client in the middle of a message."""
        client = self.client(suite, listener=listener)
        client.ehlo()
        client.begin()
        client.command("DATA", 354)
        client.send(b"Subject: x\r\n\r\nall that came\r\n")
        return client

    def key_updates(self, result):
        return self.proxy.metrics().total("ringmx_tls_key_updates_total", result=result)


class Required(TestCase):
    def test_every_suite(self):
        self.start()
        expected = []
        for n, suite in enumerate(SUITES, 1):
            with self.subTest(suite=suite):
                client = self.client(suite)
                client.ehlo()
                for size in (0, 2, 100, LARGEST_RECORD, 100_000):
                    client.deliver(lines(size))
                    expected.append(lines(size))
                client.quit()
                self.assertEqual(client.socket.ended_by, "close_notify")
                version, cipher = SUITES[suite]
                self.assertEqual(self.proxy.metrics().total(
                    "ringmx_tls_connections_total", side="client", ktls="true", cipher=cipher,
                    version="TLSv1.3" if version == TLS13 else "TLSv1.2"), 1)
        self.assertEqual(self.delivered(len(expected)), expected)
        self.assertEqual(self.proxy.metrics().total("ringmx_tls_connections_total", ktls="false"), 0)
        for direction in ("TlsRxSw", "TlsTxSw"):  # the probe at start tries each cipher
            self.assertEqual(self.kernel_counted(direction), len(SUITES) + 3)

    def test_starttls(self):
        listener = {name: value for name, value in TLS_LISTENER.items() if name != "implicit_tls"}
        self.start(listener={**listener, "starttls": "required"})
        client = self.client(starttls=True)
        client.ehlo()
        client.deliver(lines(1000))
        client.quit()
        self.assertEqual(self.delivered(1), [lines(1000)])
        self.assertEqual(self.proxy.metrics().total("ringmx_tls_connections_total", ktls="true"), 1)

    def test_much(self):
        self.start()
        client = self.client()
        client.ehlo()
        content = lines(8 << 20)
        began = time.monotonic()
        client.deliver(content)
        print(f"8 MiB in {time.monotonic() - began:.1f} s ", end="")
        self.assertTrue(self.delivered(1) == [content])

    def test_few_buffers(self):
        """Clients that are paused again and again, with records between that are no data."""
        self.start(server={"receive_memory": "1MiB", "session_memory": "64KiB"})
        clients = [self.client() for _ in range(12)]
        contents = [b"%d\r\n" % n + lines(300_000) for n in range(len(clients))]

        def deliver(client, content):
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            for begin in range(0, len(content), 50_000):
                client.send(content[begin:begin + 50_000])
                if REKEYS:
                    client.socket.key_update(False)
            client.send(b".\r\n")
            client.socket.close_notify()
            client.expect(250)
            self.assertEqual(client.ended_by(), "close_notify")

        with concurrent.futures.ThreadPoolExecutor(len(clients)) as threads:
            list(threads.map(deliver, clients, contents))
        self.assertEqual(sorted(self.delivered(len(contents))), sorted(contents))

    def test_records_of_every_size(self):
        self.start()
        sizes = (1, 2, 15, 16, 17, 31, 255, 256, 257, 1023, 1024, 4096, LARGEST_RECORD - 1, LARGEST_RECORD)
        expected = []
        for padding in (0, 512):
            client = self.client(padding=padding)
            client.ehlo()
            for size in sizes:
                content = lines(min(size * 40, 3 * LARGEST_RECORD + 100))
                client.send_in_records(b"MAIL FROM:<sender@example.test>\r\n", size)
                client.expect(250)
                client.send_in_records(b"RCPT TO:<recipient@example.test>\r\n", size)
                client.expect(250)
                client.send_in_records(b"DATA\r\n", size)
                client.expect(354)
                client.send_in_records(content + b".\r\n", size)
                client.expect(250)
                expected.append(content)
            client.quit()
            self.assertEqual(self.kernel_counted("TlsRxNoPadViolation") > 0, padding > 0)
        self.assertEqual(self.delivered(len(expected)), expected)

    def test_pipelining_and_chunks(self):
        self.start(listener={**TLS_LISTENER, "junk_command_limit": 1000})
        client = self.client()
        client.ehlo()
        client.send(b"NOOP\r\n" * 500)
        for _ in range(500):
            client.expect(250)
        client.send(b"MAIL FROM:<sender@example.test>\r\n" + b"RCPT TO:<recipient@example.test>\r\n" * 20
                    + b"DATA\r\n")
        for _ in range(21):
            client.expect(250)
        client.expect(354)
        client.send(b"one\r\n.\r\nMAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\n"
                    b"BDAT 5\r\ntwo\r\nBDAT 70000\r\n" + lines(70000) + b"BDAT 0 LAST\r\n")
        for _ in range(6):
            client.expect(250)
        client.quit()
        self.assertEqual(self.delivered(2), [b"one\r\n", b"two\r\n" + lines(70000)])

    def memory(self):
        """Octets of ringmx's private memory that is not a file's."""
        with open(f"/proc/{self.proxy.pid}/smaps_rollup", encoding="ascii") as rollup:
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup.readlines()[1:]}
        return max(sizes["Anonymous"], sizes["Private_Dirty"])

    def test_many_sessions(self):
        """At a time. What each costs in user memory while it is idle: at most 1.5 KiB."""
        self.start()
        for suite in SUITES:  # what is allocated once, receive buffers above all
            with self.client(suite) as client:
                client.ehlo()
                for _ in range(20):
                    client.deliver()
                client.quit()
        self.settled()
        self.sink_.messages.clear()
        before = self.memory()
        sessions = 200
        clients = [self.client(list(SUITES)[n % len(SUITES)]) for n in range(sessions)]
        contents = [b"%d\r\n" % n + lines(20 * n) for n in range(sessions)]
        for client in clients:
            client.send(b"EHLO client.example.test\r\n")
        for client in clients:
            client.expect(250)
        cost = (self.memory() - before) / sessions
        print(f"{cost:.0f} octets for each of {sessions} sessions ", end="")
        self.assertLessEqual(cost, 1.5 * 1024)
        for client in clients:
            client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\nDATA\r\n")
        for client, content in zip(clients, contents):
            for code in (250, 250, 354):
                client.expect(code)
            client.send(content)
        for client in clients:
            client.send(b".\r\nQUIT\r\n")
        for client in clients:
            client.expect(250)
            client.expect(221)
            self.assertEqual(client.ended_by(), "close_notify")
        self.assertEqual(sorted(self.delivered(sessions)), sorted(contents))
        self.assertEqual(self.proxy.metrics().total("ringmx_tls_connections_total", ktls="true"),
                         len(SUITES) + sessions)

    def test_the_client_says_that_it_closes(self):
        self.start()
        for suite in SUITES:
            with self.subTest(suite=suite):
                client = self.client(suite)
                client.ehlo()
                client.socket.close_notify()
                self.assertEqual(client.ended_by(), "close_notify")
        self.settled()
        self.assertEqual(self.violations("tls_truncation"), 0)

    def test_the_client_says_that_it_closes_behind_a_message(self):
        self.start()
        client = self.client()
        client.ehlo()
        client.begin()
        client.command("DATA", 354)
        client.send(b"x\r\n.\r\n")
        client.socket.close_notify()
        client.expect(250)
        self.assertEqual(client.ended_by(), "close_notify")
        self.assertEqual(self.delivered(1), [b"x\r\n"])

    def test_truncated_messages(self):
        upstream = self.upstream()
        self.start([upstream])
        for suite in SUITES:
            client = self.in_data(suite)
            client.socket.tcp.shutdown(socket.SHUT_WR)
            client.ended_by()
        client = self.in_data()
        client.socket.tcp.sendall(NO_RECORD[:20])  # in the middle of a record
        client.socket.tcp.shutdown(socket.SHUT_WR)
        client.ended_by()
        client = self.in_data()
        client.reset()
        self.settled()
        self.assertEqual(self.violations("tls_truncation"), len(SUITES) + 1)
        self.assertEqual(upstream.accepted, [])

    def test_a_record_that_is_none(self):
        upstream = self.upstream()
        self.start([upstream])
        for suite in SUITES:
            with self.subTest(suite=suite):
                client = self.in_data(suite)
                client.socket.tcp.sendall(NO_RECORD)
                self.assertIn("alert bad record mac", client.ended_by())
        self.settled()
        # The kernel may try a record twice: when it arrives, and when it is read.
        self.errors_expected = self.kernel_counted("TlsDecryptError")
        self.assertIn(self.errors_expected, range(len(SUITES), 2 * len(SUITES) + 1))
        self.assertEqual(upstream.accepted, [])

    def test_octets_that_are_no_record(self):
        upstream = self.upstream()
        self.start([upstream])
        for octets, alert in ((b"QUIT\r\n", "record overflow"),  # its length would be 0x540d
                              (b"\x17\x03\x03\x48\x00" + bytes(64), "record overflow"),
                              (b"\x17\x02\x00\x00\x40" + bytes(64), "decode error")):
            client = self.in_data()
            client.socket.tcp.sendall(octets)
            self.assertIn(f"alert {alert}", client.ended_by())
        self.settled()
        self.assertEqual(upstream.accepted, [])

    def test_a_fatal_alert(self):
        upstream = self.upstream()
        self.start([upstream])
        for suite in SUITES:
            self.in_data(suite).socket.fatal_alert()
        self.settled()
        self.assertEqual(upstream.accepted, [])
        self.assertEqual(self.violations("tls_truncation"), 0)

    def test_key_updates(self):
        if not REKEYS:
            self.skipTest("this kernel can't replace keys")
        self.start()
        contents, updates = [], 0
        for suite, (version, _) in SUITES.items():
            if version != TLS13:
                continue
            client = self.client(suite)
            client.ehlo()
            for requested in (False, True, True, False):
                client.socket.key_update(requested)
                client.command("NOOP", 250)
                client.begin()
                client.command("DATA", 354)
                client.send(lines(40_000))
                client.socket.key_update(requested)
                client.send(lines(40_000))
                client.socket.key_update(not requested)
                client.send(b".\r\n")
                client.expect(250)
                contents.append(lines(40_000) * 2)
                updates += 3
            client.quit()
            self.assertEqual(client.socket.ended_by, "close_notify")
        self.assertEqual(self.delivered(len(contents)), contents)
        self.assertEqual((self.key_updates("rekeyed"), self.key_updates("closed")), (updates, 0))

    def test_key_updates_of_an_old_kernel(self):
        if REKEYS:
            self.skipTest("this kernel replaces keys")
        upstream = self.upstream()
        self.start([upstream])
        for requested in (False, True):
            client = self.in_data()
            client.socket.key_update(requested)
            self.assertIn("alert internal error", client.ended_by())
        self.settled()
        self.assertEqual((self.key_updates("rekeyed"), self.key_updates("closed")), (0, 2))
        self.assertEqual(upstream.accepted, [])

    def test_drain(self):
        self.start()
        idle, busy = self.client(), self.client("ECDHE-ECDSA-AES128-GCM-SHA256")
        busy.ehlo()
        busy.begin()
        busy.command("DATA", 354)
        self.proxy.signal(signal.SIGTERM)
        idle.expect(421)
        self.assertEqual(idle.ended_by(), "close_notify")
        busy.send(b"x\r\n.\r\n")
        busy.expect(250)
        busy.expect(421)
        self.assertEqual(busy.ended_by(), "close_notify")
        self.assertEqual(self.proxy.wait(), 0)
        self.assertEqual(self.delivered(1), [b"x\r\n"])


class Upstreams(TestCase):
    """The kernel's records on both sides of ringmx."""

    def secured(self, suite="TLS_AES_128_GCM_SHA256", faults=None, padding=0):
        def handshake(connection, _):
            connection.socket = TlsSocket(connection.socket, suite, padding, server=True)
        return self.upstream({"handshake": handshake, **(faults or {})}, implicit_tls=True,
                             extensions=("PIPELINING", "CHUNKING", "8BITMIME"))

    def start(self, upstreams, **options):
        return super().start([{"address": upstream.address, "retry_after": "0ms", **TLS_UPSTREAM}
                              for upstream in upstreams], **options)

    def start_each(self, upstreams):
        """A listener for each."""
        self.proxy = self.ringmx([{"address": one.address, "retry_after": "0ms", **TLS_UPSTREAM} for one in upstreams],
                                 listeners=[{**TLS_LISTENER, "upstreams": [f"mta{n}"]} for n in range(len(upstreams))],
                                 tls={"ktls": "require"})

    def delivers(self, upstream, sizes, suite="TLS_AES_128_GCM_SHA256"):
        before = len(upstream.accepted)
        client = self.client(suite)
        client.ehlo()
        for size in sizes:
            client.deliver(lines(size))
        client.quit()
        self.assertTrue(upstream.accepted[before:] == [lines(size) for size in sizes])

    def test_every_suite(self):
        for suite, (version, cipher) in SUITES.items():
            with self.subTest(suite=suite):
                upstream = self.secured(suite)
                self.start([upstream])
                self.delivers(upstream, (0, 2, 100, LARGEST_RECORD, 100_000), suite)
                self.assertEqual(len(upstream.connections), 1)
                metrics = self.proxy.metrics()
                for side in ("client", "upstream"):
                    self.assertEqual(metrics.total(
                        "ringmx_tls_connections_total", side=side, ktls="true", cipher=cipher,
                        version="TLSv1.3" if version == TLS13 else "TLSv1.2"), 1)
                self.assertEqual(metrics.total("ringmx_tls_connections_total", ktls="false"), 0)
                self.proxy.stop()
                self.assertEqual(upstream.connections[0].commands[-1], b"QUIT")
        for direction in ("TlsRxSw", "TlsTxSw"):  # the probe at start tries each cipher
            self.assertEqual(self.kernel_counted(direction), len(SUITES) * (2 + 3))

    def test_alone(self):
        """Of clients ringmx does the records, where it can count those without content."""
        upstream = self.secured()
        self.start([upstream], ktls="upstreams")
        self.delivers(upstream, (100_000,))
        metrics = self.proxy.metrics()
        for side, ktls in (("client", "false"), ("upstream", "true")):
            self.assertEqual(metrics.total("ringmx_tls_connections_total", side=side), 1)
            self.assertEqual(metrics.total("ringmx_tls_connections_total", side=side, ktls=ktls), 1)
        self.assertEqual(metrics.total("ringmx_ktls_fallback_total"), 0)

    def test_much(self):
        upstream = self.secured()
        self.start([upstream])
        self.delivers(upstream, [8 << 20])

    def test_chunks(self):
        upstream = self.secured()
        self.start([upstream])
        client = self.client()
        client.ehlo()
        client.begin()
        content = lines(100_000)
        for begin in range(0, len(content), 30_000):
            chunk = content[begin:begin + 30_000]
            client.send(b"BDAT %d\r\n" % len(chunk) + chunk)
            client.expect(250)
        client.send(b"BDAT 0 LAST\r\n")
        client.expect(250)
        self.assertEqual(upstream.accepted, [content])

    def test_records_of_every_size(self):
        """What upstreams say: octet by octet, and in one record of ten thousand; padded or not."""
        def octets(connection, usual):
            for n in range(len(usual)):
                connection.send(usual[n:n + 1])
            return usual

        def much(connection, usual):
            connection.send(b"".join(b"250-%06d\r\n" % n for n in range(1000)) + usual)
            return usual

        for padding in (0, 512):
            upstream = self.secured(faults={stage: octets for stage in ("greeting", "mail", "rcpt", "data")} |
                                    {"ehlo": much}, padding=padding)
            self.start([upstream])
            self.delivers(upstream, (100, 100_000))
            self.assertEqual(self.kernel_counted("TlsRxNoPadViolation") > 0, padding > 0)

    def test_many_at_once(self):
        upstreams = [self.secured(suite) for suite in SUITES]
        self.start_each(upstreams)
        sessions = 100
        clients = []
        for n in range(sessions):
            which = n % len(upstreams)
            clients.append(self.client(list(SUITES)[which], listener=which))
            clients[-1].ehlo()
            clients[-1].send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\nDATA\r\n")
        contents = [b"%d\r\n" % n + lines(20 * n) for n in range(sessions)]
        for client, content in zip(clients, contents):
            for code in (250, 250, 354):
                client.expect(code)
            client.send(content)
        self.assertEqual(self.proxy.metrics().total("ringmx_tls_connections_total", ktls="true"), 2 * sessions)
        for client in clients:
            client.send(b".\r\nQUIT\r\n")
        for client in clients:
            client.expect(250)
            client.expect(221)
            self.assertEqual(client.ended_by(), "close_notify")
        self.assertEqual(sorted(content for one in upstreams for content in one.accepted), sorted(contents))

    def test_replies_that_are_cut_off(self):
        accepts = b"250 2.0.0 Ok\r\n"
        faults = {
            "FIN": lambda c: c.socket.shutdown(socket.SHUT_WR),
            "close_notify": lambda c: c.socket.close_notify(),
            "half a reply, then close_notify": lambda c: (c.send(accepts[:-1]), c.socket.close_notify()),
            "half a record": lambda c: (c.socket.tcp.sendall(NO_RECORD[:20]), c.close()),
            "a fatal alert": lambda c: c.socket.fatal_alert(),
            "a record that is none": lambda c: c.socket.tcp.sendall(NO_RECORD),
            "clear text": lambda c: c.socket.tcp.sendall(accepts),
            "a reset": lambda c: c.reset(),
        }
        def instead(fault):
            return lambda connection, _: (fault(connection), connection.until_peer_closes())

        cells = [(suite, what) for suite in ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256")
                 for what in faults]
        upstreams = [self.secured(suite, {"message": instead(faults[what])}) for suite, what in cells]
        self.start_each(upstreams)
        for n, ((suite, what), upstream) in enumerate(zip(cells, upstreams)):
            with self.subTest(what, suite=suite):
                client = self.in_data(listener=n)
                client.send(b".\r\n")
                client.expect(451)
                self.assertEqual(upstream.accepted, [])
                del upstream.faults["message"]
                client.deliver(b"x\r\n")
                self.assertEqual(upstream.accepted, [b"x\r\n"])
                client.quit()
        self.errors_expected = self.kernel_counted("TlsDecryptError")
        self.assertIn(self.errors_expected, (2, 3, 4))  # the kernel may try a record twice

    def test_key_updates(self):
        def update(connection, usual):
            for requested in (False, True, True):
                connection.socket.key_update(requested)
            connection.send(usual)
            return usual
        update.accepts = True
        for suite, (version, _) in SUITES.items():
            if version != TLS13:
                continue
            with self.subTest(suite=suite):
                upstream = self.secured(suite, {stage: update for stage in ("mail", "data", "body", "message")})
                self.start([upstream])
                client = self.client()
                client.ehlo()
                if REKEYS:
                    for _ in range(3):
                        client.deliver(lines(40_000))
                    self.assertEqual(upstream.accepted, [lines(40_000)] * 3)
                    self.assertEqual(len(upstream.connections), 1)
                    self.assertEqual((self.key_updates("rekeyed"), self.key_updates("closed")), (3 * 4 * 3, 0))
                else:
                    client.command("MAIL FROM:<sender@example.test>", 250)
                    client.command("RCPT TO:<recipient@example.test>", 451)
                    self.assertEqual((self.key_updates("rekeyed"), self.key_updates("closed")), (0, 1))
                    self.assertEqual(upstream.accepted, [])


class Choice(TestCase):
    def one_session(self, ktls):
        self.start(ktls=ktls)
        client = self.client()
        client.ehlo()
        client.deliver(lines(50_000))
        client.quit()
        self.assertEqual(self.delivered(1), [lines(50_000)])
        metrics = self.proxy.metrics()
        return (metrics.total("ringmx_tls_connections_total", ktls="true"),
                metrics.total("ringmx_tls_connections_total", ktls="false"),
                metrics.total("ringmx_ktls_fallback_total"))

    def test_automatic(self):
        self.assertEqual(self.one_session("auto"), (1, 0, 0))

    def test_off(self):
        self.assertEqual(self.one_session("off"), (0, 1, 0))
        self.assertEqual(self.kernel_counted("TlsRxSw"), 0)

    def test_slow_ciphers(self):
        """Without the processor's instructions for AES ringmx does it itself, unless told otherwise."""
        if not MODPROBE.exists():
            self.skipTest("not in a guest")
        removed = subprocess.run([MODPROBE, "-r", "aesni-intel"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if removed.returncode != 0:
            self.skipTest(removed.stdout.decode())
        self.addCleanup(subprocess.run, [MODPROBE, "aesni-intel"], check=True)
        self.assertEqual(self.one_session("auto"), (0, 1, 1))
        self.assertEqual(self.proxy.metrics().total("ringmx_ktls_fallback_total", reason="slow"), 1)
        self.assertEqual(self.one_session("require"), (1, 0, 0))


if __name__ == "__main__":
    harness.main()
