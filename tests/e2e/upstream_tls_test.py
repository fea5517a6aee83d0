# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS towards upstreams: what is sent arrives octet for octet, nothing that is said in clear text becomes
an answer, and an upstream whose handshake fails in whatever way is replaced by another one."""

import concurrent.futures
import contextlib
import os
import select
import signal
import socket
import ssl
import threading

import harness
import postfix_test
import tls_test
import upstream_failures_test
from harness import closes, is_silent, resets, says, says_and_closes

CERTIFICATES = harness.SOURCE_ROOT / "tests" / "tls" / "certificates"
NAME = "mx.example.org"  # what the certificates are for
CONTENT = upstream_failures_test.CONTENT
PATIENCE = upstream_failures_test.PATIENCE
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BLOCK = b"x" * 998 + b"\r\n"


def server(certificate="p256", version=None):
    """A context for ScriptedUpstream."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{certificate}.pem", CERTIFICATES / f"{certificate}.key")
    if version:
        context.minimum_version = context.maximum_version = version
    return context


VERIFIED = {"verify": "ca_file", "ca_file": str(CERTIFICATES / "root.pem"), "tls_name": NAME}
REQUIRED = {"starttls": "required", **VERIFIED}
IMPLICIT = {"implicit_tls": True, **VERIFIED}
OPTIONAL = {"starttls": "optional"}


class Base(harness.TestCase):
    def deliver_three(self, proxy, upstream):
        """Messages, each in a session of its own."""
        for _ in range(3):
            with proxy.client() as client:
                client.ehlo()
                client.deliver(CONTENT)
                client.quit()
        self.assertEqual(upstream.accepted, [CONTENT] * 3)

    def fails_over(self, cells, keys=REQUIRED):
        """Each of the upstreams `{what: (upstream, its keys)}` is used before a sink, fails, and is then
        avoided. Returns the metrics, where it is called by `what`."""
        sink = self.sink()
        names = [f"up{n}" for n in range(len(cells))]
        proxy = self.ringmx(
            [{"name": name, "address": upstream.address, **PATIENCE, **keys, **own, "retry_after": "1h"}
             for name, (upstream, own) in zip(names, cells.values())] + [{"name": "sink", "address": sink.address}],
            listeners=[{"name": f"mx-{name}", "upstreams": [name, "sink"]} for name in names])

        def cell(n, upstream):
            with proxy.client(n) as client:
                client.ehlo()
                for _ in range(3):
                    client.deliver(CONTENT)
                client.quit()
            self.assertEqual(upstream.accepted, [])
            self.assertEqual(len(upstream.connections), 1)
            for line in upstream.connections[0].commands:
                self.assertIn(line[:4].upper(), (b"EHLO", b"HELO", b"STAR"))

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            done = [pool.submit(cell, n, upstream) for n, (upstream, _) in enumerate(cells.values())]
            for what, one in zip(cells, done):
                with self.subTest(what):
                    one.result()
        self.assertEqual({message.content for message in sink.messages}, {CONTENT})
        self.assertEqual(len(sink.messages), 3 * len(cells))
        page = proxy.metrics()
        names = dict(zip(names, cells))
        for _, labels, _ in page.samples:
            labels["upstream"] = names.get(labels.get("upstream"), labels.get("upstream"))
        return page

    def failure(self, metrics, what):
        """The one result of a handshake; None if there was none."""
        results = [labels["result"] for name, labels, value in metrics.samples
                   if name == "ringmx_upstream_tls_handshakes_total" and labels["upstream"] == what and value]
        self.assertLessEqual(len(results), 1, what)
        return results[0] if results else None

    def connects(self, metrics, what):
        return {labels["result"]: value for name, labels, value in metrics.samples
                if name == "ringmx_upstream_connections_total" and labels["upstream"] == what and value}


class RequireTls(Base):
    """RFC 8689: offered where it can be honoured, and honoured wherever it was offered."""

    OFFERS = ("PIPELINING", "8BITMIME", "REQUIRETLS")

    def start(self, *upstreams, keys=REQUIRED):
        listener = {**tls_test.STARTTLS, "extensions": list(self.OFFERS)}
        self.proxy = self.ringmx([{"address": upstream.address, **keys} for upstream in upstreams],
                                 listeners=[listener])

    def offered(self, client):
        return "REQUIRETLS" in client.ehlo()

    def deliver(self):
        """By somebody in clear text; the upstream is known then."""
        with self.proxy.client() as client:
            self.assertFalse(self.offered(client))
            client.deliver(CONTENT)
            client.command("MAIL FROM:<a@example.org> REQUIRETLS", 555)

    def message(self, client):
        client.command("RCPT TO:<b@example.org>", 250)
        client.command("DATA", 354)
        client.send(harness.stuffed(CONTENT) + b".\r\n")
        client.expect(250)

    def in_tls(self):
        client = tls_test.Client(self.proxy.address())
        self.addCleanup(client.close)
        return client

    def test_from_end_to_end(self):
        upstream = self.upstream(tls=server(), extensions=("PIPELINING", "8BITMIME"), tls_extensions=self.OFFERS)
        self.start(upstream)
        client = self.in_tls()
        self.assertFalse(self.offered(client))  # nobody knows yet
        client.command("MAIL FROM:<a@example.org> REQUIRETLS", 555)
        self.deliver()
        self.assertTrue(self.offered(client))
        client.command("MAIL FROM:<a@example.org> REQUIRETLS=1", 501)
        client.command("MAIL FROM:<a@example.org> BODY=8BITMIME REQUIRETLS", 250)
        self.message(client)
        self.assertEqual(upstream.accepted, [CONTENT, CONTENT])
        mails = [line for one in upstream.connections for line in one.commands if line.startswith(b"MAIL")]
        self.assertEqual(mails[-1].split(b">")[1].split(), [b"BODY=8BITMIME", b"REQUIRETLS"])

    def test_where_it_can_not_be_honoured(self):
        for what, upstream, keys in (
                ("no TLS", self.upstream(extensions=self.OFFERS), {}),
                ("nobody's name is verified", self.upstream(tls=server(), extensions=self.OFFERS),
                 {"starttls": "required", "verify": "none"}),
                ("in clear text only", self.upstream(tls=server(), extensions=self.OFFERS,
                                                     tls_extensions=("PIPELINING",)), REQUIRED)):
            with self.subTest(what):
                self.start(upstream, keys=keys)
                self.deliver()
                self.assertFalse(self.offered(self.in_tls()))

    def test_every_upstream_must_have_it(self):
        with_it = self.upstream(tls=server(), extensions=self.OFFERS)
        without = self.upstream(tls=server())
        self.start(with_it, without)
        self.deliver()
        self.assertFalse(self.offered(self.in_tls()))  # the other is not known
        self.deliver()
        self.assertEqual((len(with_it.accepted), len(without.accepted)), (1, 1))
        self.assertFalse(self.offered(self.in_tls()))

    def test_an_upstream_that_has_it_no_more(self):
        """The next one serves; and if there is none, the mail can wait, but not go there."""
        fickle, other = (self.upstream(tls=server(), extensions=self.OFFERS) for _ in range(2))
        self.start(fickle, other)
        self.deliver()
        self.deliver()
        client = self.in_tls()
        self.assertTrue(self.offered(client))
        fickle.tls_extensions = ("PIPELINING",)
        fickle.close_connections()
        for _ in range(2):  # each has its turn
            client.command("MAIL FROM:<a@example.org> REQUIRETLS", 250)
            self.message(client)
        self.assertEqual((len(fickle.accepted), len(other.accepted)), (1, 3))
        other.tls_extensions = ()
        other.close_connections()
        client.command("MAIL FROM:<a@example.org> REQUIRETLS", 250)
        self.assertIn(b"4.7.30", client.command("RCPT TO:<b@example.org>", 451).raw)
        client.command("RSET", 250)
        client.deliver(CONTENT)
        self.assertFalse(self.offered(client))
        self.assertEqual(len(fickle.accepted) + len(other.accepted), 5)


class Messages(Base):
    WAYS = [(what, version, keys)
            for what, keys in (("required", REQUIRED), ("optional", OPTIONAL), ("implicit", IMPLICIT))
            for version in (TLS12, TLS13)]

    def secured(self, keys, version=None, certificate="p256", **options):
        return self.upstream(tls=server(certificate, version), implicit_tls=keys is IMPLICIT, **options)

    def test_every_size_in_every_way(self):
        """Around the size of a record, too; by DATA and by BDAT; one handshake for all of it."""
        sizes = [0, 2, 1000, 16380, 16382, 16384, 16386, 16388, 100_000, 8 * 1024 * 1024]
        for what, version, keys in self.WAYS:
            with self.subTest(what, version=version.name):
                upstream = self.secured(keys, version, extensions=("PIPELINING", "CHUNKING", "8BITMIME"))
                proxy = self.ringmx([{"address": upstream.address, **keys}])
                sent = []
                for size in sizes:
                    lines = (b".%d\r\n" % size + b"." * 76 + b"\r\n" + BLOCK) * (size // 1000 + 1)
                    content = lines[:max(0, size - 2)] + b"\r\n" if size else b""
                    content = content.replace(b"\r\r", b"x\r")  # where it was cut
                    with proxy.client() as client:
                        client.ehlo()
                        client.deliver(content)
                        client.begin()
                        half = size // 2
                        client.send(b"BDAT %d\r\n" % half + content[:half])
                        client.expect(250)
                        client.send(b"BDAT %d LAST\r\n" % (size - half) + content[half:])
                        client.expect(250)
                        client.quit()
                    sent += [content, content]
                self.assertEqual([len(content) for content in upstream.accepted], [len(content) for content in sent])
                self.assertTrue(upstream.accepted == sent)
                self.assertEqual(len(upstream.connections), 1)
                self.assertEqual(upstream.connections[0].tls.version(),
                                 "TLSv1.3" if version == TLS13 else "TLSv1.2")
                metrics = proxy.metrics()
                self.assertEqual(metrics.total("ringmx_upstream_tls_handshakes_total", result="ok"), 1)
                self.assertEqual(metrics.total("ringmx_tls_connections_total", side="upstream"), 1)
                self.assertEqual(metrics.total("ringmx_upstream_reused_total"), len(sent) - 1)
                self.assertEqual(self.connects(metrics, "mta0"), {"ok": 1})
                proxy.stop()
                harness.eventually(lambda: upstream.connections[0].said_goodbye, "close_notify")
                self.assertEqual(upstream.connections[0].commands[-1], b"QUIT")

    def test_every_kind_of_key(self):
        for certificate in ("p256", "p384", "rsa"):
            with self.subTest(certificate):
                upstream = self.secured(REQUIRED, certificate=certificate)
                proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
                with proxy.client() as client:
                    client.ehlo()
                    client.deliver(CONTENT)
                self.assertEqual(upstream.accepted, [CONTENT])

    def test_off(self):
        upstream = self.secured({})
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.deliver(CONTENT)
        self.assertEqual(upstream.accepted, [CONTENT])
        self.assertNotIn(b"STARTTLS", upstream.connections[0].commands)

    def test_a_transaction_that_is_given_up(self):
        """RSET, and the connection is the next one's."""
        upstream = self.secured(REQUIRED)
        proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
        for leave in (lambda c: c.quit(), lambda c: c.close(), lambda c: c.command("RSET", 250)):
            with proxy.client() as client:
                client.ehlo()
                client.begin("left@example.test")
                leave(client)
            harness.eventually(lambda: proxy.metrics().total("ringmx_upstream_connections_current", state="idle") == 1,
                               "the reply to RSET")
            with proxy.client() as client:
                client.ehlo()
                client.deliver(CONTENT)
        self.assertEqual(upstream.accepted, [CONTENT] * 3)
        self.assertEqual(len(upstream.connections), 1)
        self.assertEqual(upstream.connections[0].commands.count(b"RSET"), 3)

    def test_idle_connections_end_in_order(self):
        upstream = self.secured(REQUIRED)
        proxy = self.ringmx([{"address": upstream.address, **REQUIRED, "idle_timeout": harness.duration(0.3)}])
        with proxy.client() as client:
            client.ehlo()
            client.deliver()
        harness.eventually(lambda: upstream.connections[0].said_goodbye, "close_notify")
        self.assertEqual(upstream.connections[0].commands[-1], b"QUIT")
        harness.eventually(lambda: proxy.metrics().total("ringmx_upstream_connections_current") == 0, "its end")

    def test_the_upstream_ends_an_idle_connection(self):
        """With close_notify or without: nothing is lost by it, and the client does not notice."""
        for what, how in (("close_notify", lambda c: (c.close_notify(), c.close())), ("FIN", lambda c: c.socket.shutdown(socket.SHUT_RDWR))):
            with self.subTest(what):
                upstream = self.secured(REQUIRED)
                proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
                with proxy.client() as client:
                    client.ehlo()
                    client.deliver(CONTENT)
                    harness.eventually(
                        lambda: proxy.metrics().total("ringmx_upstream_connections_current", state="idle") == 1, "rest")
                    with contextlib.suppress(harness.Gone):
                        how(upstream.connections[0])
                    harness.eventually(
                        lambda: proxy.metrics().total("ringmx_upstream_connections_current", state="idle") == 0,
                        "the end to be seen")
                    client.deliver(CONTENT)
                    client.quit()
                self.assertEqual(upstream.accepted, [CONTENT] * 2)
                self.assertEqual(proxy.metrics().total("ringmx_upstream_lost_total"), 0)

    def test_what_is_offered_in_tls_counts(self):
        for what, before, behind in (("only before", ("CHUNKING", "8BITMIME"), ()),
                                     ("only behind", (), ("CHUNKING", "8BITMIME"))):
            with self.subTest(what):
                upstream = self.secured(REQUIRED, extensions=before, tls_extensions=behind)
                proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
                with proxy.client() as client:
                    client.ehlo()
                    client.command("MAIL FROM:<sender@example.test> BODY=8BITMIME", 250)
                    client.command("RCPT TO:<recipient@example.test>", 250)
                    client.send(b"BDAT %d LAST\r\n" % len(CONTENT) + CONTENT)
                    client.expect(250)
                    client.quit()
                self.assertEqual(upstream.accepted, [CONTENT])
                commands = upstream.connections[0].commands
                self.assertEqual(any(line.startswith(b"BDAT") for line in commands), bool(behind))
                self.assertEqual(any(b"BODY=8BITMIME" in line for line in commands), bool(behind))

    def test_a_server_that_forgets_ehlo_in_tls(self):
        """RFC 5321 3.2 holds there too, and what it offered in clear text is forgotten."""
        upstream = self.secured(REQUIRED, extensions=("8BITMIME",))
        upstream.faults["ehlo"] = lambda c, usual: c.send(b"502 5.5.1 No\r\n" if c.tls else usual)
        proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test> BODY=8BITMIME", 250)
            client.command("RCPT TO:<recipient@example.test>", 250)
            client.command("RSET", 250)
            client.deliver(CONTENT)
        self.assertEqual(upstream.accepted, [CONTENT])
        self.assertNotIn(b"BODY", b"".join(upstream.connections[0].commands))

    def test_an_upstream_that_stops_reading(self):
        """What waits for it is bounded, others are served, and the message is whole in the end."""
        may_read = threading.Event()
        self.addCleanup(may_read.set)
        slow = self.upstream({"body": lambda *_: may_read.wait(6 * harness.PATIENCE)}, tls=server(),
                             receive_buffer=16384)
        other = self.secured(REQUIRED)
        proxy = self.ringmx([{"name": "slow", "address": slow.address, **REQUIRED},
                             {"name": "other", "address": other.address, **REQUIRED}],
                            listeners=[{"upstreams": ["slow"], "message_size_limit": 0}, {"upstreams": ["other"]}])

        def resident():
            with open(f"/proc/{proxy.pid}/statm") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        block = BLOCK * 64
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            client.send(BLOCK)
            slow.wait_until_begun("body")
            before, sent = resident(), bytearray(BLOCK)
            client.socket.setblocking(False)
            while select.select([], [client.socket], [], 0.5 * harness.TIMEOUT_SCALE)[1]:
                self.assertLess(len(sent), 64 * 1024 * 1024, "nothing stops the client")
                with contextlib.suppress(BlockingIOError):
                    at = len(sent) % len(block)
                    sent += block[at:at + client.socket.send(block[at:])]
            if not harness.sanitized():
                self.assertLess(resident() - before, 8 * 1024 * 1024)
            with proxy.client(1) as served:
                served.ehlo()
                served.deliver(CONTENT)
            client.socket.settimeout(harness.PATIENCE)
            may_read.set()
            rest = block[len(sent) % len(block):]
            client.send(rest + b".\r\n")
            client.expect(250)
            self.assertTrue(slow.accepted == [bytes(sent + rest)])
        self.assertEqual(other.accepted, [CONTENT])


class Resumption(Base):
    """The last ticket is offered to the next connection; what was verified stays verified."""

    def deliver(self, proxy, count=1):
        for _ in range(count):
            with proxy.client() as client:
                client.ehlo()
                client.deliver(CONTENT)
                client.quit()

    def handshakes(self, proxy):
        metrics = proxy.metrics()
        return tuple(metrics.total("ringmx_upstream_tls_handshakes_total", result="ok", resumed=resumed)
                     for resumed in ("false", "true"))

    def test_each_connection_resumes_the_last(self):
        for version in (TLS12, TLS13):
            for what, keys in (("required", REQUIRED), ("optional", OPTIONAL), ("implicit", IMPLICIT)):
                with self.subTest(what, version=version.name):
                    upstream = self.upstream(tls=server(version=version), implicit_tls=keys is IMPLICIT)
                    proxy = self.ringmx([{"address": upstream.address, **keys, "reuse": False}])
                    self.deliver(proxy, 4)
                    self.assertEqual(self.handshakes(proxy), (1, 3))
                    self.assertEqual([one.tls.session_reused for one in upstream.connections], [False] + [True] * 3)
                    self.assertEqual(upstream.accepted, [CONTENT] * 4)
                    # EHLO was said once in TLS, wherever the ticket stood.
                    self.assertEqual([one.commands.count(b"EHLO mx.example.test") for one in upstream.connections],
                                     [1 if keys is IMPLICIT else 2] * 4)

    def test_a_server_without_tickets(self):
        """Nothing is waited for; what it says first is read."""
        for keys in (REQUIRED, IMPLICIT):
            for version in (TLS12, TLS13):
                context = server(version=version)
                context.num_tickets = 0
                context.options |= ssl.OP_NO_TICKET
                upstream = self.upstream(tls=context, implicit_tls=keys is IMPLICIT)
                proxy = self.ringmx([{"address": upstream.address, **keys, "reuse": False}])
                self.deliver(proxy, 3)
                if version == TLS13:
                    self.assertEqual(self.handshakes(proxy), (3, 0))
                self.assertEqual(upstream.accepted, [CONTENT] * 3)

    def test_a_server_that_has_forgotten(self):
        """Another key for tickets: a full handshake, and its ticket the next time."""
        for version in (TLS12, TLS13):
            upstream = self.upstream(tls=server(version=version))
            proxy = self.ringmx([{"address": upstream.address, **REQUIRED, "reuse": False}])
            self.deliver(proxy, 2)
            upstream.tls = server(version=version)
            self.deliver(proxy, 2)
            self.assertEqual(self.handshakes(proxy), (2, 2))
            self.assertEqual(upstream.accepted, [CONTENT] * 4)

    def test_not_across_a_reload(self):
        """What was verified by other CAs does not count."""
        ca = harness.temporary_directory() / "ca.pem"
        ca.write_bytes((CERTIFICATES / "root.pem").read_bytes())
        for version in (TLS12, TLS13):
            upstream = self.upstream(tls=server(version=version))
            proxy = self.ringmx([{"address": upstream.address, **REQUIRED, "ca_file": str(ca), "reuse": False}])
            self.deliver(proxy, 2)
            self.assertEqual(self.handshakes(proxy), (1, 1))
            ca.write_bytes((CERTIFICATES / "other.pem").read_bytes())
            proxy.signal(signal.SIGHUP)
            proxy.wait_for_error_line("ringmx: reloaded certificates and ticket keys")

            def refused():
                with proxy.client() as client:
                    client.ehlo()
                    client.command("MAIL FROM:<sender@example.test>", 250)
                    client.send(b"RCPT TO:<recipient@example.test>\r\n")
                    return client.reply().code == 451
            harness.eventually(refused, "the new CAs to be used")  # a reactor hears of them in a moment
            self.assertTrue(refused())
            ca.write_bytes((CERTIFICATES / "root.pem").read_bytes())

    def test_no_idle_connection_across_a_reload(self):
        """They were verified by the old CAs."""
        ca = harness.temporary_directory() / "ca.pem"
        for version in (TLS12, TLS13):
            for keys in (REQUIRED, IMPLICIT):
                ca.write_bytes((CERTIFICATES / "root.pem").read_bytes())
                upstream = self.upstream(tls=server(version=version), implicit_tls=keys is IMPLICIT)
                proxy = self.ringmx([{"address": upstream.address, **keys, "ca_file": str(ca)}])
                self.deliver(proxy, 2)
                self.assertEqual(len(upstream.connections), 1)
                ca.write_bytes((CERTIFICATES / "other.pem").read_bytes())
                proxy.signal(signal.SIGHUP)
                harness.eventually(lambda: upstream.connections[0].commands[-1] == b"QUIT", "the end of the old one")
                with proxy.client() as client:
                    client.ehlo()
                    client.command("MAIL FROM:<sender@example.test>", 250)
                    client.command("RCPT TO:<recipient@example.test>", 451)

    def test_no_busy_connection_beyond_a_reload(self):
        """It ends with the transaction that has it."""
        upstream = self.upstream(tls=server())
        proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            proxy.signal(signal.SIGHUP)
            harness.eventually(lambda: any("reload" in line for line in proxy.errors), "the reload")
            client.command("DATA", 354)
            client.send(b"x\r\n.\r\n")
            client.expect(250)
            harness.eventually(lambda: upstream.connections[0].commands[-1] == b"QUIT", "the end of the old one")
            self.deliver(proxy)
        self.assertEqual(len(upstream.connections), 2)


class Spoken:
    """What an upstream of TLS 1.3 says after the handshake, by hand: in the place of a connection's `tls`. The first
    words of it are `records(self)`."""

    session_reused = False

    def __init__(self, connection, records):
        log = harness.temporary_directory() / "keys"
        connection.upstream.tls.keylog_filename = str(log)
        flights = []

        def send(flight):
            flights.append(flight)
            if len(flights) == 1:
                connection.socket.sendall(flight)
        connection.handshake(send)
        secrets = {words[0]: bytes.fromhex(words[2]) for words in map(str.split, log.read_text().splitlines()[-5:])}
        suite = connection.tls.cipher()[0]
        self.transmit = tls_test.Records(suite, secrets["SERVER_TRAFFIC_SECRET_0"])
        self.receive = tls_test.Records(suite, secrets["CLIENT_TRAFFIC_SECRET_0"])
        # The library's ticket, to be sent in its time.
        self.ticket = None
        if len(flights) > 1:
            self.ticket = self.transmit.open(flights[1][:5], flights[1][5:])[1]
            self.transmit.sequence = 0
        self.session_reused = connection.tls.session_reused
        self.connection = connection
        self.wire = connection.incoming.read()
        self.key_updates = 0
        self.late = b""  # goes behind what is sent next
        connection.tls = self
        connection.sealed = self.sealed
        connection._opened = self.opened
        connection.close_notify = lambda: connection.socket.sendall(self.transmit.seal(tls_test.ALERT, b"\1\0"))
        connection.socket.sendall(records(self))

    def key_update(self, requested):
        octets = self.transmit.seal(tls_test.HANDSHAKE, b"\x18\0\0\1" + bytes([requested]))
        self.transmit.next_keys()
        return octets

    def message(self, content):
        return self.transmit.seal(tls_test.HANDSHAKE, content)

    def sealed(self, octets):
        octets = self.transmit.seal(tls_test.DATA, octets)
        if self.late:
            octets, self.late = octets + self.message(self.late), b""
        return octets

    def opened(self):
        while True:
            while len(self.wire) < 5 or len(self.wire) < (end := 5 + int.from_bytes(self.wire[3:5], "big")):
                octets = self.connection.socket.recv(65536)
                if not octets:
                    raise harness.Gone
                self.wire += octets
            kind, content = self.receive.open(self.wire[:5], self.wire[5:end])
            self.wire = self.wire[end:]
            if kind == tls_test.DATA:
                return content
            if kind == tls_test.ALERT:
                self.connection.said_goodbye = content == b"\1\0"
                return b""
            assert content == b"\x18\0\0\1\0", content
            self.key_updates += 1
            self.receive.next_keys()


def by_the_octet(spoken):
    """A ticket in more than forty records. A kernel that can do KeyUpdates takes any record of the handshake that
    begins with 24 for one: an octet of the ticket that is 24 by chance goes with the one before it."""
    ticket = spoken.ticket
    begins = [n for n in range(41) if ticket[n] != 24]  # 0, too: it is 4
    return b"".join(spoken.message(ticket[begin:end]) for begin, end in zip(begins, begins[1:] + [None]))


class FirstWords(Base):
    """Whatever an upstream of TLS 1.3 says first, and whenever its ticket comes: nobody waits, nothing is lost."""

    KEY_UPDATES = {
        "a KeyUpdate": (lambda spoken: spoken.key_update(0), 0),
        "a KeyUpdate, wants one": (lambda spoken: spoken.key_update(1), 1),
        "several": (lambda spoken: b"".join(spoken.key_update(n % 2) for n in range(9)), 1),
        "a KeyUpdate and a ticket": (lambda spoken: spoken.key_update(1) + spoken.message(spoken.ticket), 1),
        "a ticket and a KeyUpdate": (lambda spoken: spoken.message(spoken.ticket) + spoken.key_update(1), 1),
    }
    TICKETS = {
        "a ticket": lambda spoken: spoken.message(spoken.ticket),
        "three": lambda spoken: spoken.message(spoken.ticket * 3),
        "by the octet": by_the_octet,
        "in time": lambda spoken: setattr(spoken, "late", spoken.ticket) or b"",
    }
    NONE = {
        "nothing": lambda spoken: b"",
        "empty records": lambda spoken: b"".join(spoken.transmit.seal(tls_test.DATA, b"") for _ in range(20)),
        "a ticket of no use": lambda spoken: spoken.message(b"\4\0\0\5abcde"),
        "a ticket that is over": lambda spoken: spoken.message(spoken.ticket[:4] + bytes(4) + spoken.ticket[8:]),
        "a ticket of 17 kB": lambda spoken: spoken.message(b"\4\0\x42\x68" + bytes(16000)) + spoken.message(bytes(1000)),
    }

    def session(self, keys, records, resumed, tls):
        context = server(version=TLS13)
        context.num_tickets = 1
        spoken = []
        upstream = self.upstream({"handshake": lambda c, _: spoken.append(Spoken(c, records))}, tls=context,
                                 implicit_tls=keys is IMPLICIT)
        proxy = self.ringmx([{"address": upstream.address, **keys, "reuse": False}], tls=tls)
        self.deliver_three(proxy, upstream)
        self.assertEqual(self.connects(proxy.metrics(), "mta0"), {"ok": 3})
        self.assertEqual([one.session_reused for one in spoken], [False] + [resumed] * 2)
        self.assertEqual(proxy.metrics().total("ringmx_tls_bad_records_total"), 0)
        return spoken

    def test_key_updates(self):
        for keys in (REQUIRED, IMPLICIT):
            for what, (records, answers) in self.KEY_UPDATES.items():
                with self.subTest(what, implicit=keys is IMPLICIT):
                    spoken = self.session(keys, records, "ticket" in what, {"ktls": "off"})
                    self.assertEqual([one.key_updates for one in spoken], [answers] * 3)

    def test_tickets(self):
        for keys in (REQUIRED, IMPLICIT):
            for what, records in {**self.TICKETS, **self.NONE}.items():
                with self.subTest(what, implicit=keys is IMPLICIT):
                    self.session(keys, records, what in self.TICKETS, None)


class Injection(Base):
    """What an upstream, or somebody in between, says in clear text behind 220 (CVE-2021-38371). The upstream goes
    on as if nothing were wrong: a ringmx that overlooked the octets would deliver."""

    READY = b"220 ok\r\n"
    EVIL = b"250-evil.example.test\r\n250 PIPELINING\r\n"

    def test_behind_the_reply(self):
        def in_pieces(*pieces):
            def fault(connection, _):
                for piece in pieces:
                    connection.send(piece)
                return self.READY
            return fault

        def later(connection, _):
            connection.send(self.READY)
            select.select([connection.socket], [], [], harness.PATIENCE)  # its ClientHello
            connection.send(self.EVIL)
            return self.READY

        whole = self.READY + self.EVIL
        faults = {f"split at {n}": in_pieces(whole[:n], whole[n:]) for n in range(len(whole))}
        faults |= {f"{extra!r} {how}": in_pieces(self.READY + extra) if how == "at once" else
                   in_pieces(self.READY, extra)
                   for extra in (b"\r\n", b"2", b"250 evil\r\n", b"220 again\r\n", b"\0", self.EVIL * 500)
                   for how in ("at once", "right behind")}
        faults |= {"one at a time": in_pieces(*(whole[n:n + 1] for n in range(len(whole)))), "behind the hello": later}
        cells = {what: (self.upstream({"starttls": fault}, tls=server()), {}) for what, fault in faults.items()}
        metrics = self.fails_over(cells)
        for what, (upstream, _) in cells.items():
            with self.subTest(what):
                self.assertEqual(self.connects(metrics, what), {"tls": 1})
                self.assertEqual(metrics.total("ringmx_upstream_replies_total", upstream=what, stage="ehlo"), 1)
                self.assertEqual(metrics.total("ringmx_upstream_replies_total", upstream=what, stage="mail"), 0)
                self.assertIsNone(upstream.connections[0].tls)

    def test_before_the_reply(self):
        """Behind the reply to EHLO there is nothing due either."""
        self.assertEqual(
            self.connects(self.fails_over({"": (self.upstream(
                {"ehlo": lambda c, usual: c.send(usual + self.READY)}, tls=server()), {})}), ""), {"tls": 1})

    def test_optional(self):
        upstream = self.upstream({"starttls": says(self.READY + self.EVIL)}, tls=server())
        self.fails_over({"": (upstream, {})}, OPTIONAL)


class Failing(Base):
    def test_starttls_comes_to_nothing(self):
        cells = {
            "is not offered": (self.upstream(), {}),
            "is not known to HELO": (self.upstream({"ehlo": says(b"502 no\r\n")}, tls=server()), {}),
            **{f"gets {answer!r}": (self.upstream({"starttls": says(answer)}, tls=server()), {})
               for answer in (b"454 4.7.0 Not now\r\n", b"502 5.5.1 No\r\n", b"421 4.3.2 Going\r\n", b"354 Go\r\n",
                              b"nonsense\r\n", b"\x16\x03\x03\r\n")},
            "closes": (self.upstream({"starttls": closes}, tls=server()), {}),
            "resets": (self.upstream({"starttls": resets}, tls=server()), {}),
            "is silent": (self.upstream({"starttls": is_silent}, tls=server()), {}),
            "closes behind it": (self.upstream({"starttls": says_and_closes(b"220 Ready\r\n")}, tls=server()), {}),
        }
        metrics = self.fails_over(cells)
        for what, (upstream, _) in cells.items():
            with self.subTest(what):
                self.assertEqual(self.connects(metrics, what), {"tls": 1})
                self.assertIn(self.failure(metrics, what), (None, "peer_lost") if "behind" in what else (None,))

    def test_certificates(self):
        """The upstream hears why."""
        stranger = {"verify": "ca_file", "ca_file": str(CERTIFICATES / "other.pem"), "tls_name": NAME}
        cases = {
            "unknown CA": ("stranger", {}, "unknown_ca", "UNKNOWN_CA"),
            "another CA": ("p256", stranger, "unknown_ca", "UNKNOWN_CA"),
            "CA of the system": ("p256", {"verify": "system", "ca_file": ""}, "unknown_ca", "UNKNOWN_CA"),
            "wrong name": ("p256", {"tls_name": "mx.example.net"}, "wrong_name", "BAD_CERTIFICATE"),
            "no name": ("stranger", stranger, "wrong_name", "BAD_CERTIFICATE"),
            "expired": ("expired", {}, "expired_certificate", "CERTIFICATE_EXPIRED"),
            "for clients": ("client", {"tls_name": NAME}, None, None),
        }
        if not any(os.path.exists(path) for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki", "/etc/ssl/cert.pem")):
            cases.pop("CA of the system")
        for keys in (REQUIRED, IMPLICIT):
            for version in (TLS12, TLS13):
                cells = {what: (self.upstream(tls=server(certificate, version), implicit_tls=keys is IMPLICIT), own)
                         for what, (certificate, own, _, _) in cases.items()}
                metrics = self.fails_over(cells, keys)
                for what, (upstream, _) in cells.items():
                    with self.subTest(what, version=version.name, implicit=keys is IMPLICIT):
                        _, _, result, alert = cases[what]
                        self.assertEqual(self.connects(metrics, what), {"tls": 1})
                        heard = harness.eventually(lambda: upstream.connections[0].handshake_error, "the alert")
                        self.assertIn("ALERT", heard)
                        if result:
                            self.assertEqual(self.failure(metrics, what), result)
                            self.assertIn(alert, heard)

    def test_any_certificate_will_do_without_verification(self):
        for certificate in ("stranger", "expired", "p256"):
            for keys in ({"starttls": "required", "verify": "none"}, OPTIONAL):
                with self.subTest(certificate, **keys):
                    upstream = self.upstream(tls=server(certificate))
                    proxy = self.ringmx([{"address": upstream.address, **keys}])
                    with proxy.client() as client:
                        client.ehlo()
                        client.deliver(CONTENT)
                    self.assertEqual(upstream.accepted, [CONTENT])
                    self.assertTrue(upstream.connections[0].tls)

    def test_is_logged(self):
        upstream = self.upstream(tls=server("stranger"))
        silent = self.upstream({"handshake": is_silent}, tls=server())
        proxy = self.ringmx([{"address": upstream.address, **REQUIRED},
                             {"address": silent.address, **REQUIRED, **PATIENCE}])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test>", 250)
            client.command("RCPT TO:<recipient@example.test>", 451)
        harness.eventually(lambda: any("mta1" in line for line in proxy.errors), "the last line")
        said = "\n".join(proxy.errors)
        self.assertIn(f"\nringmx: upstream mta0 ({upstream.address}): TLS handshake failed: unknown_ca: ", said)
        self.assertRegex(said, r"; alert unknown_ca sent(\n|$)")
        self.assertIn(f"\nringmx: upstream mta1 ({silent.address}): TLS handshake failed: timeout: it took too long",
                      said)

    def test_there_is_no_other_upstream(self):
        """451, until it is mended."""
        for what, upstream in (("not offered", self.upstream()),
                               ("refused", self.upstream({"starttls": says(b"454 No\r\n")}, tls=server())),
                               ("unknown CA", self.upstream(tls=server("stranger")))):
            proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
            with self.subTest(what), proxy.client() as client:
                client.ehlo()
                for _ in range(2):
                    client.command("MAIL FROM:<sender@example.test>", 250)
                    client.command("RCPT TO:<recipient@example.test>", 451)
                    client.command("RSET", 250)
                upstream.faults.clear()
                upstream.tls = server()
                client.deliver(CONTENT)
                client.quit()
                self.assertEqual(upstream.accepted, [CONTENT])

    def test_optional_without_an_offer_or_refused(self):
        for what, faults, tls in (("not offered", {}, None), ("454", {"starttls": says(b"454 4.7.0 No\r\n")}, server()),
                                  ("502", {"starttls": says(b"502 5.5.1 No\r\n")}, server())):
            upstream = self.upstream(faults, tls=tls)
            proxy = self.ringmx([{"address": upstream.address, **OPTIONAL}])
            with self.subTest(what), proxy.client() as client:
                client.ehlo()
                client.deliver(CONTENT)
                client.deliver(CONTENT)
                self.assertEqual(upstream.accepted, [CONTENT] * 2)
                self.assertEqual(len(upstream.connections), 1)
                self.assertEqual(self.connects(proxy.metrics(), "mta0"), {"ok": 1})

    def test_optional_goes_on_in_clear_text_for_a_while(self):
        """Whichever way the beginning of TLS has failed; and then it is tried again."""
        def check(upstream, proxy):
            for _ in range(2):  # at once, by a second connection; by a third, since they are not reused
                with proxy.client() as client:
                    client.ehlo()
                    client.deliver(CONTENT)
                    client.quit()
            self.assertEqual(upstream.accepted, [CONTENT] * 2)
            self.assertEqual([b"STARTTLS" in one.commands for one in upstream.connections], [True, False, False])
            self.assertEqual(self.connects(proxy.metrics(), "mta0"), {"tls": 1, "ok": 2})
            upstream.faults.clear()

            def in_tls_again():
                with proxy.client() as client:
                    client.ehlo()
                    client.deliver(CONTENT)
                    client.quit()
                return upstream.connections[-1].tls
            harness.eventually(in_tls_again, "TLS to be tried again")

        def answers_in_clear(connection, _):
            select.select([connection.socket], [], [], harness.PATIENCE)  # its ClientHello; else it is an injection
            connection.send(b"250 ok\r\n")

        ways = [("handshake", "closes", closes), ("handshake", "resets", resets), ("handshake", "is silent", is_silent),
                ("handshake", "speaks SMTP", answers_in_clear), ("starttls", "closes", closes),
                ("starttls", "is silent", is_silent)]
        pairs = []
        for stage, _, fault in ways:
            upstream = self.upstream({stage: fault}, tls=server())
            pairs.append((upstream, self.ringmx([{"address": upstream.address, **OPTIONAL, **PATIENCE, "reuse": False,
                                                  "retry_after": harness.duration(1)}])))
        with concurrent.futures.ThreadPoolExecutor(len(ways)) as pool:
            done = [pool.submit(check, *pair) for pair in pairs]
            for (stage, what, _), one in zip(ways, done):
                with self.subTest(f"{what} at {stage}"):
                    one.result()

    def test_optional_and_nothing_remembered(self):
        """retry_after = 0: each transaction tries TLS, fails, and is delivered."""
        upstream = self.upstream({"handshake": closes}, tls=server())
        proxy = self.ringmx([{"address": upstream.address, **OPTIONAL, "reuse": False, "retry_after": "0s"}])
        self.deliver_three(proxy, upstream)
        self.assertEqual([b"STARTTLS" in one.commands for one in upstream.connections], [True, False] * 3)

    def test_optional_and_gone(self):
        """In clear text it can't be reached any more: the next one is taken, or 451 said."""
        for others in (True, False):
            upstream = self.upstream({"handshake": lambda c, _: (c.upstream.stop(), c.close())}, tls=server())
            sink = self.sink()
            proxy = self.ringmx([{"address": upstream.address, **OPTIONAL}] + [sink.address] * others)
            with proxy.client() as client:
                client.ehlo()
                if others:
                    client.deliver(CONTENT)
                    self.assertEqual(sink.messages[0].content, CONTENT)
                else:
                    client.command("MAIL FROM:<sender@example.test>", 250)
                    client.command("RCPT TO:<recipient@example.test>", 451)
                client.quit()
            self.assertEqual(self.connects(proxy.metrics(), "mta0"), {"tls": 1, "refused": 1})

    def test_optional_but_verified(self):
        """A certificate that is refused is no reason to do without TLS, now or later."""
        upstream = self.upstream(tls=server("stranger"))
        proxy = self.ringmx([{"address": upstream.address, **VERIFIED, **OPTIONAL}])
        with proxy.client() as client:
            client.ehlo()
            for _ in range(2):
                client.command("MAIL FROM:<sender@example.test>", 250)
                client.command("RCPT TO:<recipient@example.test>", 451)
                client.command("RSET", 250)
        self.assertEqual([one.commands[-1] for one in upstream.connections], [b"STARTTLS"] * 2)

    def test_optional_and_the_client_leaves(self):
        upstream = self.upstream({"handshake": is_silent}, tls=server())
        proxy = self.ringmx([{"address": upstream.address, **OPTIONAL, **PATIENCE}])
        with proxy.client() as client:
            client.ehlo()
            client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\n")
            client.expect(250)
            upstream.wait_until_begun("handshake")
            client.reset()
        harness.eventually(lambda: proxy.metrics().total("ringmx_upstream_connections_current") == 0, "its end")
        self.assertEqual(len(upstream.connections), 1)


def says_and_waits(octets):
    """Once the ClientHello has begun: before, they would stand behind the reply to STARTTLS."""
    def fault(connection, _):
        select.select([connection.socket], [], [], harness.PATIENCE)
        connection.send(octets)
        connection.until_peer_closes()
    return fault


def at_flight(number, act):
    """A handshake that ends where the upstream's flight of that number should leave: by `act`."""
    def fault(connection, _):
        flights = iter(range(number + 1))

        def send(flight):
            if next(flights) < number:
                return connection.socket.sendall(flight)
            act(connection, flight)
            connection.until_peer_closes()
        connection.handshake(send)
    return fault


FLIGHT = {  # what happens in its place: (act, the result of the handshake)
    "closes": (closes, "peer_lost"),
    "resets": (resets, "peer_lost"),
    "is silent": (is_silent, "timeout"),
    "sends half and closes": (lambda c, flight: (c.socket.sendall(flight[:len(flight) // 2]), c.close()), "peer_lost"),
    "sends half and is silent": (lambda c, flight: (c.socket.sendall(flight[:len(flight) // 2]), is_silent(c, b"")),
                                 "timeout"),
    "sends all but an octet": (lambda c, flight: (c.socket.sendall(flight[:-1]), is_silent(c, b"")), "timeout"),
    "gives up": (lambda c, _: c.socket.sendall(b"\x15\x03\x03\0\2\2\x28"), "alert_from_peer"),
    "speaks SMTP": (says(b"250-evil.example.test\r\n250 PIPELINING\r\n"), None),
    "floods": (lambda c, _: c.socket.sendall(b"\x16\x03\x03\x40\0" + b"\0" * 4_000_000), None),
    "flips a bit": (lambda c, flight: c.socket.sendall(flight[:-10] + bytes([flight[-10] ^ 1]) + flight[-9:]), None),
    "is killed": (lambda c, _: (c.upstream.stop(), c.close()), "peer_lost"),
}


class Flights(Base):
    def check(self, version, number, keys):
        cells = {what: (self.upstream({"handshake": at_flight(number, act)}, tls=server(version=version),
                                      implicit_tls=keys is IMPLICIT), {}) for what, (act, _) in FLIGHT.items()}
        metrics = self.fails_over(cells, keys)
        for what, (_, result) in FLIGHT.items():
            with self.subTest(what):
                self.assertEqual(self.connects(metrics, what), {"tls": 1})
                if result:
                    self.assertEqual(self.failure(metrics, what), result)
                else:
                    self.assertIn(self.failure(metrics, what), ("decode", "bad_record", "not_tls", "no_shared_version"))

    def test_tls_1_2_first(self):
        self.check(TLS12, 0, REQUIRED)

    def test_tls_1_2_second(self):
        self.check(TLS12, 1, REQUIRED)

    def test_tls_1_3(self):
        self.check(TLS13, 0, REQUIRED)

    def test_implicit(self):
        self.check(TLS13, 0, IMPLICIT)

    def test_nothing_at_all(self):
        """The ClientHello is never read."""
        cells = {f"{what}, {'implicit' if keys is IMPLICIT else 'STARTTLS'}":
                 (self.upstream({"handshake": fault}, tls=server(), implicit_tls=keys is IMPLICIT), keys)
                 for keys in (REQUIRED, IMPLICIT)
                 for what, fault in (("closes", closes), ("resets", resets), ("is silent", is_silent))}
        metrics = self.fails_over(cells, {})
        for what in cells:
            self.assertEqual(self.connects(metrics, what), {"tls": 1})
            # Behind STARTTLS it may be gone before the handshake begins.
            possible = ("timeout",) if "silent" in what else ("peer_lost", None) if "START" in what else ("peer_lost",)
            self.assertIn(self.failure(metrics, what), possible)

    def test_octets_that_are_no_header(self):
        """Found out at the first one: an upstream that sends fewer than five may have said all that it has to say."""
        def cells(version, **options):
            return {octets: (self.upstream({"handshake": says_and_waits(octets)}, tls=server(version=version), **options), {})
                    for octets in (b"\n", b"2", b"220", b"421 ", b"\x17", b"\x16\x16", b"\x15\x01", b"\x80\x80\1\3\1",
                                   b"220 upstream.example.test ESMTP\r\n")}
        for found, keys in ((cells(TLS12), REQUIRED), (cells(TLS13, implicit_tls=True), IMPLICIT)):
            metrics = self.fails_over(found, {**keys, "greeting_timeout": "1h"})
            for octets in found:
                with self.subTest(octets, implicit=keys is IMPLICIT):
                    self.assertEqual(self.failure(metrics, octets), "not_tls")
                    self.assertEqual(self.connects(metrics, octets), {"tls": 1})
        # In clear text at once, where that will do.
        upstream = self.upstream({"handshake": says_and_waits(b"2")}, tls=server())
        proxy = self.ringmx([{"address": upstream.address, **OPTIONAL, "greeting_timeout": "1h"}])
        with proxy.client() as client:
            client.ehlo()
            client.deliver(CONTENT)
        self.assertEqual(upstream.accepted, [CONTENT])
        self.assertEqual(self.connects(proxy.metrics(), "mta0"), {"tls": 1, "ok": 1})
        self.assertIn('TLS handshake failed: not_tls: this is not TLS: "2"', "\n".join(proxy.errors))

    def test_octet_by_octet(self):
        """A handshake that comes in the smallest of pieces is one."""
        for version in (TLS12, TLS13):
            def send(connection, flight):
                for n in range(len(flight)):
                    connection.socket.sendall(flight[n:n + 1])
            upstream = self.upstream({"handshake": lambda c, _: c.handshake(lambda flight: send(c, flight))},
                                     tls=server(version=version))
            proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
            with proxy.client() as client:
                client.ehlo()
                client.deliver(CONTENT)
            self.assertEqual(upstream.accepted, [CONTENT])

    def test_the_client_leaves(self):
        """Nobody waits for the handshake any more: it ends."""
        upstream = self.upstream({"handshake": is_silent}, tls=server())
        proxy = self.ringmx([{"address": upstream.address, **REQUIRED}])
        with proxy.client() as client:
            client.ehlo()
            client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\n")
            client.expect(250)
            upstream.wait_until_begun("handshake")
            client.reset()
        harness.eventually(lambda: proxy.metrics().total("ringmx_upstream_connections_current") == 0, "its end")

    def test_ringmx_is_stopped(self):
        """After drain_timeout, whatever is under way then."""
        proxies = []
        for keys, stage in ((REQUIRED, "starttls"), (REQUIRED, "handshake"), (IMPLICIT, "handshake")):
            upstream = self.upstream({stage: is_silent}, tls=server(), implicit_tls=keys is IMPLICIT)
            proxies.append(self.ringmx([{"address": upstream.address, **keys}],
                                       server={"drain_timeout": harness.duration(0.3)}))
            client = proxies[-1].client()
            self.addCleanup(client.close)
            client.ehlo()
            client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\n")
            client.expect(250)
            upstream.wait_until_begun(stage)
        for proxy in proxies:
            proxy.signal(signal.SIGTERM)
        for proxy in proxies:
            self.assertEqual(proxy.wait(5), 0)


class Truncated(Base):
    def test_is_never_an_acceptance(self):
        """Where the reply to the message is due: none of it counts unless its record is whole."""
        accepts = b"250 2.0.0 Ok\r\n"
        faults = {
            "FIN": closes,
            "close_notify": lambda c, _: (c.close_notify(), c.close()),
            "part of the reply, then FIN": lambda c, _: (c.send(accepts[:-1]), c.close()),
            "part of the reply, then close_notify": lambda c, _: (c.send(accepts[:-1]), c.close_notify(), c.close()),
            "the record but its last octet": lambda c, _: (c.socket.sendall(c.sealed(accepts)[:-1]), c.close()),
            "half of the record": lambda c, _: (c.socket.sendall(c.sealed(accepts)[:12]), c.close()),
            "a record that was changed": lambda c, _: (
                c.socket.sendall(harness.changed(c.sealed(accepts))), c.until_peer_closes()),
            "clear text": lambda c, _: (c.socket.sendall(accepts), c.until_peer_closes()),
            "close_notify before it": lambda c, _: (c.close_notify(), c.socket.sendall(accepts), c.close()),
        }
        for version in (TLS12, TLS13):
            upstreams = [self.upstream({"message": fault}, tls=server(version=version)) for fault in faults.values()]
            proxy = self.ringmx([{"name": f"up{n}", "address": upstream.address, **REQUIRED, **PATIENCE}
                                 for n, upstream in enumerate(upstreams)],
                                listeners=[{"name": f"mx{n}", "upstreams": [f"up{n}"]} for n in range(len(upstreams))])
            for n, (what, upstream) in enumerate(zip(faults, upstreams)):
                with self.subTest(what, version=version.name), proxy.client(n) as client:
                    client.ehlo()
                    client.begin()
                    client.command("DATA", 354)
                    client.send(harness.stuffed(CONTENT) + b".\r\n")
                    client.expect(451)
                    upstream.faults.clear()
                    client.deliver(CONTENT)
                    client.quit()
                    self.assertEqual(upstream.accepted, [CONTENT])


class EveryState(upstream_failures_test.EveryState):
    """All of it again, within TLS from the start."""
    KEYS = IMPLICIT
    VERSION = TLS13

    def upstream(self, faults=None, **options):
        return super().upstream(faults, tls=server(version=self.VERSION), implicit_tls=self.KEYS is IMPLICIT, **options)

    def ringmx(self, upstreams, **options):
        return super().ringmx([{**one, **self.KEYS} for one in upstreams], **options)


class EveryStateBehindStarttls(EveryState):
    KEYS = REQUIRED
    VERSION = TLS12

    def upstream(self, faults=None, **options):
        def behind(fault):
            def only(connection, usual):
                if connection.tls:
                    return fault(connection, usual)
                connection.send(usual)
                return usual
            only.accepts = getattr(fault, "accepts", False)
            return only
        return super().upstream({stage: fault if stage == "greeting" else behind(fault)
                                 for stage, fault in (faults or {}).items()}, **options)


class ARealPostfix(postfix_test.OctetForOctet):
    """What it has taken in TLS is what it delivers."""
    test_smtplib = None  # what it says to ringmx is the same

    def check(self, send, **parameters):
        files = ", ".join(str(CERTIFICATES / f"p256.{kind}") for kind in ("key", "pem"))
        super().check(send, smtpd_tls_security_level="encrypt", smtpd_tls_chain_files=files,
                      smtpd_tls_loglevel="1", **parameters)

    def ringmx(self, upstreams, **options):
        return super().ringmx([{"address": one, **REQUIRED} for one in upstreams], **options)


if __name__ == "__main__":
    harness.main()
