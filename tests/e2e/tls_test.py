# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS towards clients: programs that do it, what attackers do with it, certificates, tickets, memory.

The certificates are those of tests/tls/certificates: leaves for mx.example.org and *.mail.example.org of
an intermediate of a root."""

import contextlib
import ctypes
import ctypes.util
import functools
import hashlib
import hmac
import os
import random
import re
import shutil
import signal
import smtplib
import socket
import ssl
import struct
import subprocess

import harness
import memory_test
import postfix_test
import security_test
from harness import Closed

CERTIFICATES = harness.SOURCE_ROOT / "tests" / "tls" / "certificates"
ROOT = CERTIFICATES / "root.pem"
NAME = "mx.example.org"
CONTENT = b"Subject: x\r\n\r\n.dot\r\n..\r\n\xff" + b"x" * 990 + b"\r\nend\r\n"
ALERT = 21  # type of a record
HANDSHAKE = 22
DATA = 23
UNEXPECTED_MESSAGE = 10  # an alert
NO_RENEGOTIATION = 100


def shows(*names, folder=CERTIFICATES):
    """The keys of a listener or [[certificate]] that has these certificates."""
    return {"certificate": [str(folder / f"{name}.pem") for name in names],
            "private_key": [str(folder / f"{name}.key") for name in names]}


STARTTLS = {"starttls": "optional", **shows("p256", "rsa")}
REQUIRED = {"starttls": "required", **shows("p256", "rsa")}
IMPLICIT = {"implicit_tls": True, **shows("p256", "rsa")}


def leaf(name):
    """The host's own certificate in a file, in DER."""
    return ssl.PEM_cert_to_DER_cert((CERTIFICATES / f"{name}.pem").read_text().partition("-----END")[0] +
                                    "-----END CERTIFICATE-----\n")


def client_context(version=None, ciphers=None, certificate=None, alpn=None):
    context = ssl.create_default_context(cafile=ROOT)
    if version:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    if certificate:
        context.load_cert_chain(CERTIFICATES / f"{certificate}.pem", CERTIFICATES / f"{certificate}.key")
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


# A kernel before 6.14 can't replace the keys of its TLS.
REKEYS = tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups())) >= (6, 14)


class Client(harness.Client):
    """A client that is in TLS, at once or by STARTTLS. An end without close_notify is an error."""

    def __init__(self, address, source=None, implicit=False, context=None, name=NAME, session=None, before=None):
        super().__init__(address, source, greeting=not implicit)
        try:
            if not implicit:
                self.ehlo()
                if before:
                    before(self)
                self.command("STARTTLS", 220)
                if self.input:
                    raise AssertionError(f"in clear text behind 220: {self.input!r}")
            self.socket = (context or client_context()).wrap_socket(
                self.socket, server_hostname=name, session=session, suppress_ragged_eofs=False)
            if implicit:
                self.expect(220)
        except BaseException:
            self.socket.close()
            raise

    def cut_off(self):
        """A FIN without close_notify."""
        self.socket.shutdown(socket.SHUT_WR)  # of the TCP connection, and the object is plain from now on

    def close_notify(self):
        """The half-close of TLS. The peer has to answer with its own, and nothing before."""
        self.socket.unwrap()


class TestCase(harness.TestCase):
    def setUp(self):
        self.sink_ = self.sink()

    def start(self, *listeners, upstreams=None, **options):
        self.proxy = self.ringmx(upstreams or [self.sink_], listeners=list(listeners) or [STARTTLS, IMPLICIT],
                                 **options)
        return self.proxy

    def client(self, listener=0, **options):
        implicit = self.proxy.listeners[listener].get("implicit_tls", False)
        client = Client(self.proxy.address(listener), implicit=implicit, **options)
        self.addCleanup(client.close)
        return client

    def total(self, name, **labels):
        return self.proxy.metrics().total(f"ringmx_{name}", **labels)

    def in_kernel(self):
        """Whether the kernel does the records."""
        return self.total("tls_connections_total", side="client", ktls="true") > 0

    def counted(self, count, name, **labels):
        harness.eventually(lambda: self.total(name, **labels) == count, f"{name}{labels} to be {count}")

    def serves(self, listener=0, **options):
        """Whatever was done to it: the next client gets its message through."""
        with self.client(listener, **options) as client:
            client.ehlo()
            client.deliver(CONTENT)
            client.quit()
        self.assertEqual(self.sink_.messages[-1].content, CONTENT)

    def no_session_left(self):
        self.counted(0, "connections_current")

    def refused_handshake(self, reason, listener=0, says=None, **options):
        """The client's handshake fails, by an alert."""
        before = self.total("tls_handshakes_total", result=reason)
        with self.assertRaises(ssl.SSLError) as caught:
            with self.client(listener, **options) as client:
                client.ehlo()  # of a certificate TLS 1.3 learns only then what became of it
        self.assertNotIsInstance(caught.exception, ssl.SSLEOFError)
        if says:
            self.assertIn(says, str(caught.exception).upper().replace("_", " "))
        self.counted(before + 1, "tls_handshakes_total", result=reason)


# ------------------------------------------------------------------------------------- programs

class Program(harness.Client):
    """An SMTP session through a program that does TLS on its standard input and output."""

    def __init__(self, command):
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen([str(word) for word in command], stdin=theirs, stdout=theirs,
                                        stderr=subprocess.PIPE, preexec_fn=harness._die_with_parent)
        theirs.close()
        self.socket = ours
        self.input = b""

    def close(self):
        """Ends the session; what the program said on standard error."""
        self.socket.close()
        said = self.process.communicate(timeout=harness.PATIENCE)[1].decode()
        return said

    def kill(self):
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Programs(TestCase):
    def setUp(self):
        super().setUp()
        self.start(tls={"ktls": "auto"})

    def where(self, listener=0):
        return self.proxy.address(listener).rpartition(":")[::2]

    def s_client(self, *options, listener=0):
        mode = ["-starttls", "smtp"] if listener == 0 else []
        client = Program([harness.program("openssl"), "s_client", *mode, "-connect", self.proxy.address(listener),
                          "-quiet", "-brief", "-CAfile", ROOT, "-verify_return_error", "-verify_hostname", NAME,
                          "-servername", NAME, *options])
        self.addCleanup(client.kill)
        if listener == 1:
            client.expect(220)
        return client

    def check_s_client(self, *options, listener=0):
        client = self.s_client(*options, listener=listener)
        client.ehlo()
        client.deliver(CONTENT)
        client.command("QUIT", 221)
        said = client.close()
        self.assertEqual(self.sink_.messages.pop().content, CONTENT)
        return said

    def test_openssl_suites(self):
        for version, suites in (
                ("TLSv1.2", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                             "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256",
                             "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"]),
                ("TLSv1.3", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])):
            for suite in suites:
                with self.subTest(suite):
                    options = ["-tls1_2", "-cipher"] if version == "TLSv1.2" else ["-tls1_3", "-ciphersuites"]
                    said = self.check_s_client(*options, suite)
                    self.assertRegex(said, f"Protocol version: {version}\n")
                    self.assertRegex(said, f"Ciphersuite: {suite}\n")
        for version, count in (("TLSv1.2", 2), ("TLSv1.3", 1)):
            for cipher in ("aes_128_gcm", "aes_256_gcm", "chacha20_poly1305"):
                self.assertEqual(self.total("tls_connections_total", side="client", version=version, cipher=cipher),
                                 count)
        self.assertEqual(self.total("tls_handshakes_total", result="ok", version="TLSv1.2"), 6)
        self.assertEqual(self.total("tls_handshakes_total", result="ok", version="TLSv1.3"), 3)

    def test_openssl_groups(self):
        for version in ("-tls1_2", "-tls1_3"):
            for group, known_as in (("X25519", "X25519"), ("P-256", "prime256v1|ECDH, P-256")):
                with self.subTest(version=version, group=group):
                    self.assertRegex(self.check_s_client(version, "-groups", group), known_as)

    def test_openssl_hybrid_group(self):
        if "X25519MLKEM768" not in harness.run([harness.program("openssl"), "list", "-kem-algorithms"])[1]:
            self.skipTest("this openssl has no X25519MLKEM768")
        self.assertRegex(self.check_s_client("-tls1_3", "-groups", "X25519MLKEM768"), "X25519MLKEM768")

    def test_openssl_implicit(self):
        for version in ("-tls1_2", "-tls1_3"):
            self.check_s_client(version, listener=1)

    def test_smtplib(self):
        context = client_context()
        context.check_hostname = False  # of the address, it would be
        host, port = self.where(0)
        with smtplib.SMTP(host, int(port), timeout=harness.PATIENCE) as client:
            client.starttls(context=context)
            self.assertEqual(client.sendmail("a@example.test", ["b@example.test"], CONTENT, ["BODY=8BITMIME"]), {})
            self.assertNotIn("starttls", client.esmtp_features)
        host, port = self.where(1)
        with smtplib.SMTP_SSL(host, int(port), timeout=harness.PATIENCE, context=context) as client:
            self.assertEqual(client.sendmail("a@example.test", ["b@example.test"], CONTENT, ["BODY=8BITMIME"]), {})
        self.assertEqual([message.content for message in self.sink_.wait_for(2)], [CONTENT] * 2)

    def test_swaks(self):
        host, port = self.where()
        command = [harness.program("swaks"), "--server", host, "--port", port, "--tls",
                   "--from", "a@example.test", "--to", "b@example.test", "--data",
                   "Subject: swaks\\n\\n.dot\\n..\\nend"]
        if not re.search(r"^(?!.*not ).*\bTLS\b", harness.run([command[0], "--support"])[1], re.MULTILINE):
            self.skipTest("swaks lacks Net::SSLeay")
        status, output, errors = harness.run(command)
        self.assertEqual(status, 0, output + errors)
        self.assertRegex(output, r"TLS started with cipher TLSv1\.[23]")
        message, = self.sink_.wait_for(1)
        self.assertTrue(message.content.startswith(b"Subject: swaks\r\n\r\n.dot\r\n..\r\nend\r\n"), message.content)

    def test_posttls_finger(self):
        """Postfix's own word for it: the suite, and that the name is right."""
        configuration = harness.temporary_directory()  # it wants a main.cf, and Debian 13 installs none
        (configuration / "main.cf").touch()
        for protocols, found in ((">=TLSv1.3", r"TLSv1\.3 with cipher TLS_AES_128_GCM_SHA256"),
                                 ("<=TLSv1.2", r"TLSv1\.2 with cipher ECDHE-ECDSA-AES\d+-GCM-SHA\d+")):
            host, port = self.where()
            status, output, errors = harness.run([harness.program("posttls-finger"), "-c", "-l", "secure", "-p",
                                                  protocols, "-F", ROOT, f"[{host}]:{port}", NAME],
                                                 env={**os.environ, "MAIL_CONFIG": configuration})
            self.assertEqual(status, 0, output + errors)
            self.assertRegex(output + errors, f"Verified TLS connection established to .*{found}")

    def test_msmtp(self):
        if not os.access("/tmp", os.W_OK):
            self.skipTest("msmtp writes to /tmp, which is read-only here")
        host, port = self.where()
        for listener, starttls in ((0, "on"), (1, "off")):
            host, port = self.where(listener)
            with subprocess.Popen(
                    [harness.program("msmtp"), f"--host={host}", f"--port={port}", "--tls=on",
                     f"--tls-starttls={starttls}", f"--tls-trust-file={ROOT}", f"--tls-host-override={NAME}",
                     "--auth=off", "--set-from-header=off", "--set-date-header=off", "--from=a@example.test",
                     "b@example.test"], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                    preexec_fn=harness._die_with_parent) as process:
                _, errors = process.communicate(CONTENT.replace(b"\r\n", b"\n"), harness.PATIENCE)
            self.assertEqual((process.returncode, errors), (0, b""))
            content = self.sink_.messages.pop().content
            self.assertTrue(content.endswith(CONTENT), content)  # below a Message-ID

    @contextlib.contextmanager
    def postal(self, tls):
        """It sends to the first listener meanwhile, with TLS in each session or in none. Gives its log's path."""
        users = harness.temporary_directory() / "users"
        users.write_text("one@example.test\ntwo@example.test\n")
        host, port = self.where()
        log = users.with_name("log")
        process = subprocess.Popen(
            [harness.program("postal"), "-t", "2", "-m", "20", "-M", "1", "-c", "3", "-r", "6000", "-s",
              "100" if tls else "0", "-z", log, "-p", port, host, users], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=users.parent, preexec_fn=harness._die_with_parent)
        try:
            yield log
        finally:
            process.kill()
            process.wait()

    def test_postal(self):
        """In clear text its mail passes. Its TLS knows no key exchange but an anonymous one, which shows no certificate:
        it is told so, and the next client is served."""
        with self.postal(tls=False) as log:
            self.sink_.wait_for(100)
        self.no_session_left()
        self.counted(len(self.sink_.messages), "messages_total", result="accepted")
        said = b"".join(path.read_bytes() for path in log.parent.glob("log*"))
        unknown = [message.content for message in self.sink_.messages if message.content not in said]
        self.assertLessEqual(len(unknown), 2, unknown)  # each thread may have ended before it wrote its log
        self.sink_.messages.clear()
        with self.postal(tls=True):
            harness.eventually(lambda: self.total("tls_handshakes_total", result="no_shared_cipher") >= 2, "two refusals")
        self.no_session_left()
        self.assertEqual(self.total("tls_handshakes_total"), self.total("tls_handshakes_total", result="no_shared_cipher"))
        harness.eventually(lambda: any(re.search(
            "no_shared_cipher: the client has none of our cipher suites; alert handshake_failure sent", line)
            for line in self.proxy.errors), "the log to say so")
        self.assertEqual(self.sink_.messages, [])
        self.serves()

    def test_postfix(self):
        """Postfix as the sending MTA: it must encrypt, and must know whom it talks to."""
        host, port = self.where()

        class Sending(postfix_test.Postfix):
            SERVICES = postfix_test.Postfix.SERVICES + (
                "smtp      unix  -  -  n  -  -   smtp\n"
                "relay     unix  -  -  n  -  -   smtp\n"
                "tlsmgr    unix  -  -  n  1000? 1 tlsmgr\n")

        sender = Sending(virtual_mailbox_domains="", relayhost=f"[{host}]:{port}",
                         smtpd_relay_restrictions="permit_mynetworks,reject", smtp_tls_security_level="secure",
                         smtp_tls_secure_cert_match=NAME, smtp_tls_CAfile=ROOT, smtp_tls_loglevel="1")
        self.addCleanup(sender.stop)
        with harness.Client(sender.address) as client:
            client.ehlo()
            for _ in range(5):
                client.deliver(CONTENT.replace(b"\xff", b"y"))
            client.quit()
        for message in self.sink_.wait_for(5):
            self.assertEqual(message.content.partition(b"\r\n\r\n")[2],
                             CONTENT.replace(b"\xff", b"y").partition(b"\r\n\r\n")[2])
        self.assertRegex(sender.log.read_text(), r"Verified TLS connection established to .*TLSv1\.3")


# ------------------------------------------------------------------------------------- messages

class Messages(TestCase):
    def check(self, content, client):
        client.deliver(content)
        self.assertEqual(self.sink_.messages.pop().content, content)

    def test_sizes(self):
        self.start()
        line = b"." + b"y" * 76 + b"\r\n"
        for version in VERSIONS.values():
            for listener in (0, 1):
                client = self.client(listener, context=client_context(version))
                client.ehlo()
                for size in (0, 2, 3, 100, 1000, 4095, 4096, 4097, 16383, 16384, 16385, 70_000, 1 << 20):
                    content = (line * (size // len(line) + 1))[:size]
                    content = content if size < 2 else content[:-2] + b"\r\n"
                    self.check(content, client)
                if listener == 0:
                    self.check(line * ((8 << 20) // len(line)), client)
                client.quit()

    def test_records_of_one_octet(self):
        self.start()
        for version in VERSIONS.values():
            client = self.client(context=client_context(version))
            client.send_bytewise(b"EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")
            for code in (250, 250, 250, 354):
                client.expect(code)
            client.send_bytewise(harness.stuffed(CONTENT) + b".\r\n")
            client.expect(250)
            self.assertEqual(self.sink_.messages.pop().content, CONTENT)
            client.quit()

    def test_pipelining_and_chunks(self):
        self.start()
        for listener in (0, 1):
            client = self.client(listener)
            self.assertLessEqual({"PIPELINING", "CHUNKING"}, set(client.ehlo()))
            client.send(b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")
            for code in (250, 250, 354):
                client.expect(code)
            client.send(harness.stuffed(CONTENT) + b".\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n"
                        b"BDAT 10\r\n0123456789BDAT %d LAST\r\n" % len(CONTENT) + CONTENT + b"NOOP\r\n")
            for _ in range(6):
                client.expect(250)
            self.assertEqual([message.content for message in self.sink_.messages[-2:]],
                             [CONTENT, b"0123456789" + CONTENT])
            client.quit()

    def test_records_split_by_tcp(self):
        """Segments that end within headers, tags and texts of records."""
        self.start()
        dialogue = (b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n"
                    b"BDAT %d LAST\r\n" % (3 * len(CONTENT)) + 3 * CONTENT)
        chance = random.Random(1)
        for most in (1, 7, 1000, 9000):
            for version in VERSIONS.values():
                wire = Wire(self.proxy, 0, version)
                self.addCleanup(wire.close)
                wire.shake_hands()
                wire.write(b"EHLO x\r\n")
                wire.flush()
                wire.expect(250)
                at = 0
                while at < len(dialogue):  # records of odd sizes
                    size = chance.randint(1, 3000)
                    wire.write(dialogue[at:at + size])
                    at += size
                octets = wire.outgoing.read()
                while octets:
                    size = chance.randint(1, most)
                    wire.socket.sendall(octets[:size])
                    octets = octets[size:]
                for _ in range(3):
                    wire.expect(250)
                self.assertEqual(self.sink_.messages.pop().content, 3 * CONTENT)

    def test_many_sessions_at_once(self):
        for reactors in (1, 2):
            self.start(STARTTLS, IMPLICIT, server={"reactors": reactors})
            context = client_context()
            clients = [self.client(n % 2, context=context, source=f"127.0.1.{n % 50 + 1}") for n in range(200)]
            self.counted(200, "connections_current")
            for round in range(2):
                for n, client in enumerate(clients):
                    client.send(b"EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b%d@example.test>\r\n" % n)
                for client in clients:
                    for code in (250, 250, 250):
                        client.expect(code)
                    client.send(b"DATA\r\n")
                for n, client in enumerate(clients):
                    client.expect(354)
                    client.send(b"%d\r\n" % n + b"x" * n + b"\r\n.\r\n")
                for client in clients:
                    client.expect(250)
            self.assertEqual(sorted(message.content for message in self.sink_.messages),
                             sorted([b"%d\r\n" % n + b"x" * n + b"\r\n" for n in range(200)] * 2))
            for client in clients:
                client.quit()
            self.no_session_left()
            self.sink_.messages.clear()


# ------------------------------------------------------------------------------------- the wire

class Wire(harness.Client):
    """A client whose handshake is in the test's hands, flight by flight."""

    done = False  # the handshake
    heard = b""  # in it, beginning with a ServerHello

    def __init__(self, proxy, listener=0, version=None, context=None):
        implicit = proxy.listeners[listener].get("implicit_tls", False)
        super().__init__(proxy.address(listener), greeting=not implicit)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or client_context(version)).wrap_bio(self.incoming, self.outgoing, server_hostname=NAME)
        if not implicit:
            self.ehlo()
            self.command("STARTTLS", 220)

    def flight(self):
        """What this side sends next in the handshake."""
        while True:
            try:
                self.tls.do_handshake()
                self.done = True
            except ssl.SSLWantReadError:
                if not self.outgoing.pending:
                    octets = self.socket.recv(65536)
                    if not octets:
                        raise Closed("closed within the handshake") from None
                    self.heard += octets
                    self.incoming.write(octets)
                    continue
            return self.outgoing.read()

    def shake_hands(self):
        while not self.done:
            self.socket.sendall(self.flight())

    def write(self, octets):
        self.tls.write(octets)

    def flush(self):
        self.socket.sendall(self.outgoing.read())

    def _receive(self):
        if not self.done:
            return super()._receive()
        while True:
            try:
                octets = self.tls.read(65536)
                self.input += octets
                return bool(octets)
            except ssl.SSLWantReadError:
                arrived = self.socket.recv(65536)
                if not arrived:
                    return False
                self.incoming.write(arrived)


class Records:
    """One direction of TLS 1.3, by hand (RFC 8446 5.2, 7.1 to 7.3), for records that no library sends."""

    SUITES = {"TLS_AES_128_GCM_SHA256": ("sha256", 16), "TLS_AES_256_GCM_SHA384": ("sha384", 32)}
    SET_TAG, GET_TAG = 0x11, 0x10  # EVP_CTRL_AEAD_*

    def __init__(self, suite, secret):
        name = ctypes.util.find_library("crypto")
        if not name:
            raise harness.unittest.SkipTest("no libcrypto to make records with")
        self.crypto = ctypes.CDLL(name)
        for function in ("EVP_CIPHER_CTX_new", "EVP_aes_128_gcm", "EVP_aes_256_gcm"):
            getattr(self.crypto, function).restype = ctypes.c_void_p
        self.hash, self.key_size = self.SUITES[suite]
        self.context = ctypes.c_void_p(self.crypto.EVP_CIPHER_CTX_new())
        self.use(secret)

    def expand(self, label, size):
        label = b"tls13 " + label
        info = struct.pack("!HB", size, len(label)) + label + b"\0\1"
        return hmac.digest(self.secret, info, self.hash)[:size]

    def use(self, secret):
        self.secret = secret
        self.key, self.iv, self.sequence = self.expand(b"key", self.key_size), self.expand(b"iv", 12), 0

    def next_keys(self):
        self.use(self.expand(b"traffic upd", hashlib.new(self.hash).digest_size))

    def _nonce(self):
        return (int.from_bytes(self.iv, "big") ^ self.sequence).to_bytes(12, "big")

    def _crypt(self, encrypt, header, text, tag=b""):
        nonce = self._nonce()
        self.sequence += 1
        crypto, context, size = self.crypto, self.context, ctypes.c_int()
        cipher = ctypes.c_void_p(crypto.EVP_aes_128_gcm() if self.key_size == 16 else crypto.EVP_aes_256_gcm())
        out = ctypes.create_string_buffer(len(text) + 16)
        crypto.EVP_CipherInit_ex(context, cipher, None, self.key, nonce, encrypt)
        crypto.EVP_CipherUpdate(context, None, ctypes.byref(size), header, len(header))
        crypto.EVP_CipherUpdate(context, out, ctypes.byref(size), text, len(text))
        if encrypt:
            crypto.EVP_CipherFinal_ex(context, ctypes.byref(out, len(text)), ctypes.byref(size))
            tag = ctypes.create_string_buffer(16)
            crypto.EVP_CIPHER_CTX_ctrl(context, self.GET_TAG, 16, tag)
            return out.raw[:len(text)] + tag.raw
        crypto.EVP_CIPHER_CTX_ctrl(context, self.SET_TAG, 16, tag)
        if crypto.EVP_CipherFinal_ex(context, ctypes.byref(out, len(text)), ctypes.byref(size)) != 1:
            raise AssertionError("a record that does not decrypt")
        return out.raw[:len(text)]

    def seal(self, kind, content):
        header = struct.pack("!BHH", DATA, 0x303, len(content) + 17)
        return header + self._crypt(1, header, content + bytes([kind]))

    def open(self, header, body):
        plain = self._crypt(0, header, body[:-16], body[-16:]).rstrip(b"\0")
        return plain[-1], plain[:-1]


class Records12(Records):
    """Likewise of TLS 1.2 (RFC 5246 6.3, RFC 5288 3)."""

    SUITES = {"ECDHE-ECDSA-AES128-GCM-SHA256": ("sha256", 16), "ECDHE-ECDSA-AES256-GCM-SHA384": ("sha384", 32)}

    def __init__(self, suite, secret, randoms, side):
        self.randoms, self.side = randoms, side
        super().__init__(suite, secret)

    def use(self, secret):
        size, seed = self.key_size, b"key expansion" + self.randoms
        block, a = b"", seed
        while len(block) < 2 * size + 8:
            a = hmac.digest(secret, a, self.hash)
            block += hmac.digest(secret, a + seed, self.hash)
        self.key = block[self.side * size:][:size]
        self.iv = block[2 * size + 4 * self.side:][:4]
        self.sequence = 1  # Finished was the first

    def _nonce(self):
        return self.iv + self.sequence.to_bytes(8, "big")

    def seal(self, kind, content):
        explicit = self.sequence.to_bytes(8, "big")
        sealed = self._crypt(1, explicit + struct.pack("!BHH", kind, 0x303, len(content)), content)
        return struct.pack("!BHH", kind, 0x303, 8 + len(sealed)) + explicit + sealed

    def open(self, header, body):
        authenticated = self.sequence.to_bytes(8, "big") + header[:3] + struct.pack("!H", len(body) - 24)
        return header[0], self._crypt(0, authenticated, body[8:-16], body[-16:])


class ByHand(Wire):
    """In TLS 1.3, with what follows the handshake by hand. `send` seals data; `input` is what was opened."""

    VERSION = ssl.TLSVersion.TLSv1_3
    wire = None  # what came, sealed

    def __init__(self, proxy, listener=0):
        log = harness.temporary_directory() / "keys"
        context = client_context(self.VERSION)
        context.keylog_filename = str(log)
        super().__init__(proxy, listener, context=context)
        self.shake_hands()
        self.use({words[0]: [bytes.fromhex(word) for word in words[1:]]
                  for words in map(str.split, log.read_text().splitlines()) if words[0] != "#"})
        log.unlink()
        self.wire = self.incoming.read()
        self.key_updates = 0  # of the peer
        self.alerts = []
        if proxy.listeners[listener].get("implicit_tls"):
            self.expect(220)

    def use(self, secrets):
        self.transmit = Records(self.tls.cipher()[0], secrets["CLIENT_TRAFFIC_SECRET_0"][1])
        self.receive = Records(self.tls.cipher()[0], secrets["SERVER_TRAFFIC_SECRET_0"][1])

    def record(self, kind, content):
        return self.transmit.seal(kind, content)

    def send(self, octets):
        self.socket.sendall(octets if self.wire is None else self.record(DATA, octets))

    def key_update(self, requested):
        octets = self.record(HANDSHAKE, b"\x18\0\0\1" + bytes([requested]))
        self.transmit.next_keys()
        return octets

    def _receive(self):
        if self.wire is None:
            return super()._receive()
        while True:
            if len(self.wire) >= 5 and len(self.wire) >= (end := 5 + int.from_bytes(self.wire[3:5], "big")):
                kind, content = self.receive.open(self.wire[:5], self.wire[5:end])
                self.wire = self.wire[end:]
                if kind == DATA:
                    self.input += content
                    return True
                if kind == ALERT:
                    self.alerts.append(content[1])
                elif content[0] == 24:
                    self.key_updates += 1
                    self.receive.next_keys()
                continue
            try:
                octets = self.socket.recv(65536)
            except ConnectionResetError:
                octets = b""
            if not octets:
                return False
            self.wire += octets


class ByHand12(ByHand):
    VERSION = ssl.TLSVersion.TLSv1_2

    def use(self, secrets):
        client_random, secret = secrets["CLIENT_RANDOM"]
        randoms = self.heard[11:43] + client_random
        self.transmit = Records12(self.tls.cipher()[0], secret, randoms, 0)
        self.receive = Records12(self.tls.cipher()[0], secret, randoms, 1)


def fatal_alert(octets):
    """Whether these are nothing but one alert in clear text (RFC 8446 B.2)."""
    return len(octets) == 7 and octets[0] == ALERT and octets[1] == 3 and octets[3:6] == b"\0\2\2"


class Injection(security_test.Split):
    """CVE-2011-0411: what stands behind STARTTLS is never run, and never dropped in silence."""

    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_], listeners=[STARTTLS, REQUIRED])

    def outcomes(self):
        metrics = self.proxy.metrics()
        return (metrics.total("ringmx_protocol_violations_total", type="starttls_injection"),
                metrics.total("ringmx_tls_handshakes_total", result="not_tls"))

    def check_refused(self, client, what):
        """True: before 220. False: after it, as something that is no ClientHello."""
        with contextlib.suppress(Closed):
            reply = client.reply()
            if reply.code == 554:
                client.expect_close()
                return True
            self.assertEqual(reply.code, 220, what)
            with contextlib.suppress(OSError):  # a record's header has five octets
                client.send(b"NOOP\r\n")
            while client._receive():
                pass
        self.assertTrue(not client.input or fatal_alert(client.input), (what, client.input))
        return False

    EXTRA = [b"NOOP\r\n", b"EHLO x\r\n", b"EH", b"MAIL FROM:<a@example.test>\r\nRCPT TO:<smuggled@example.test>\r\n",
             b"\r\n", b"\0", b"QUIT\r\n", b"STARTTLS\r\n", b"\x16\x03\x01"]

    def test_split_at_every_place(self):
        for listener in (0, 1):
            # A ClientHello that is not waited for is refused as well where it is not by itself.
            sequences = [b"STARTTLS\r\n" + extra for extra in self.EXTRA[:-1]]
            ways = [(sequence, [(sequence,), *security_test.cuts(sequence, 2)[:-1], (sequence[:10], sequence[10:]),
                                (sequence[:10], *(sequence[n:n + 1] for n in range(10, 12)))])
                    for sequence in sequences]
            before, early, late = self.outcomes(), 0, 0
            for sequence, segments, client in self.sessions(self.proxy, listener, security_test.GREETED, ways):
                was_early = self.check_refused(client, segments)
                if len(segments) == 1 or len(segments[0]) > 10:
                    self.assertTrue(was_early, segments)  # in one segment: always seen as what it is
                if segments[0] == b"STARTTLS\r\n":
                    self.assertFalse(was_early, segments)
                early += was_early
                late += not was_early
            after = self.outcomes()
            self.assertEqual((after[0] - before[0], after[1] - before[1]), (early, late))
            self.assertGreater(early, 0)
            self.assertGreater(late, 0)
        self.assertEqual(self.sink_.commands, {}, "the upstream was told")
        self.assertEqual(self.proxy.metrics().total("ringmx_commands_total", verb="noop"), 0)

    def test_in_a_second_segment_that_does_not_wait(self):
        count = 0
        for extra in self.EXTRA[:-1] * 20:
            with self.proxy.client() as client:
                client.ehlo()
                client.send(b"STARTTLS\r\n")
                client.send(extra)
                count += 1
                self.check_refused(client, extra)
        harness.eventually(lambda: sum(self.outcomes()) == count, "each to be counted")
        self.assertEqual(self.sink_.commands, {})

    def test_before_the_client_hello(self):
        """Behind 220, and a good ClientHello behind it in the same segment."""
        for extra in self.EXTRA[:-1]:
            wire = Wire(self.proxy)
            self.addCleanup(wire.close)
            wire.socket.sendall(extra + wire.flight())
            with self.assertRaises(Closed, msg=extra):
                wire.reply()
            self.assertTrue(not wire.input or fatal_alert(wire.input), wire.input)
        self.assertEqual(self.outcomes(), (0, len(self.EXTRA) - 1))

    def test_client_hello_that_does_not_wait(self):
        hello = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            client_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=NAME).do_handshake()
        with self.proxy.client() as client:
            client.ehlo()
            client.send(b"STARTTLS\r\n" + hello.read())
            client.expect(554)
            client.expect_close()
        self.assertEqual(self.outcomes(), (1, 0))


class State(TestCase):
    def test_everything_before_tls_is_forgotten(self):
        self.start()
        client = self.client(before=lambda client: client.command("MAIL FROM:<a@example.test>", 250))
        client.command("MAIL FROM:<a@example.test>", 503)  # no EHLO
        client.command("RCPT TO:<b@example.test>", 503)
        self.assertNotIn("STARTTLS", client.ehlo())
        client.command("RCPT TO:<b@example.test>", 503)
        client.command("DATA", 503)
        client.deliver(CONTENT)
        self.assertEqual(self.sink_.messages[0].recipients, [("recipient@example.test", [])])

    def test_within_a_transaction(self):
        self.start()
        client = self.client(before=lambda client: client.begin(recipient="forgotten@example.test"))
        client.ehlo()
        client.command("RCPT TO:<b@example.test>", 503)
        client.deliver(CONTENT)
        client.quit()
        message, = self.sink_.messages
        self.assertEqual(message.recipients, [("recipient@example.test", [])])
        self.assertEqual(self.sink_.refused, [])

    def test_twice(self):
        self.start()
        for listener in (0, 1):
            client = self.client(listener)
            client.ehlo()
            client.command("STARTTLS", 503)
            client.deliver(CONTENT)

    def test_off_and_with_a_parameter(self):
        self.start({}, STARTTLS)
        with self.proxy.client() as client:
            self.assertNotIn("STARTTLS", client.ehlo())
            client.command("STARTTLS", 502)
        with self.proxy.client(1) as client:
            self.assertIn("STARTTLS", client.ehlo())
            client.command("STARTTLS now", 501)
            client.deliver(CONTENT)

    def test_required(self):
        self.start(REQUIRED)
        with self.proxy.client() as client:
            self.assertIn("STARTTLS", client.ehlo())
            for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA", "VRFY a", "EXPN a",
                         "MAIL nonsense", "AUTH PLAIN AGEAYg==", "BDAT 0 LAST"):
                self.assertIn("5.7.0", client.command(line, 530).lines[0])
            client.send(b"BDAT 10\r\nDATA\r\nRSET")  # its octets are no commands
            client.expect(530)
            client.command("NOOP", 250)
            client.command("RSET", 250)
            client.command("HELP", 214)
            client.command("HELO x", 250)
            client.command("MAIL FROM:<a@example.test>", 530)
            client.quit()
        self.assertEqual(self.sink_.commands, {}, "the upstream was told")
        self.serves()


class Misuse(TestCase):
    """SECURITY: old versions, renegotiation, truncation, floods; and other protocols."""

    def test_old_versions(self):
        self.start(STARTTLS, IMPLICIT, {**IMPLICIT, "minimum_tls_version": "TLSv1.3"})
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            for listener in (0, 1):
                context = client_context()
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = version
                context.set_ciphers("ALL:@SECLEVEL=0")
                self.refused_handshake("no_shared_version", listener, "ALERT PROTOCOL VERSION", context=context)
        self.refused_handshake("no_shared_version", 2, "ALERT PROTOCOL VERSION",
                               context=client_context(ssl.TLSVersion.TLSv1_2))
        self.serves(2)

    def test_sslv3_and_sslv2(self):
        self.start()
        suites = bytes.fromhex("0004002f0035")
        body = b"\x03\x00" + bytes(32) + b"\0" + suites + b"\x01\0"
        message = b"\x01" + len(body).to_bytes(3, "big") + body
        sslv3 = b"\x16\x03\x00" + len(message).to_bytes(2, "big") + message
        sslv2 = b"\x80\x1c\x01\x03\x01\x00\x03\x00\x00\x00\x10\x01\x00\x80" + bytes(16)
        for hello, reason in ((sslv3, "no_shared_version"), (sslv2, "no_shared_version")):
            for listener in (0, 1):
                before = self.total("tls_handshakes_total", result=reason)
                with Wire(self.proxy, listener) as wire:
                    wire.socket.sendall(hello)
                    with self.assertRaises(Closed):
                        wire.reply()
                    self.assertTrue(fatal_alert(wire.input), wire.input)
                self.counted(before + 1, "tls_handshakes_total", result=reason)

    def test_renegotiation(self):
        """Asked for by the client in TLS 1.2: there is none."""
        self.start()
        process = subprocess.Popen(
            [harness.program("openssl"), "s_client", "-starttls", "smtp", "-tls1_2", "-connect", self.proxy.address(),
             "-CAfile", ROOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=harness._die_with_parent)
        self.addCleanup(process.kill)
        said = b""
        self.counted(1, "tls_handshakes_total", result="ok")
        process.stdin.write(b"R\n")
        process.stdin.flush()
        while octets := process.stdout.read1(65536):  # it ends, since ringmx ends the session
            said += octets
        process.stdin.close()
        process.stdout.close()
        process.wait(harness.PATIENCE)
        self.assertIn(b"RENEGOTIATING", said)
        self.assertRegex(said, rb"(?i)no.renegotiation|unexpected.message")
        self.no_session_left()
        self.assertEqual(self.total("tls_handshakes_total"), 1)

    def begin_message(self, listener, chunk=False, **options):
        client = self.client(listener, **options)
        client.ehlo()
        client.begin()
        if chunk:
            client.send(b"BDAT 100 LAST\r\n" + b"x" * 99)
        else:
            client.command("DATA", 354)
            client.send(CONTENT + b".\r")
        return client

    def test_truncation(self):
        """A FIN without close_notify, in the middle of a message, may be anybody's."""
        self.start()
        count = 0
        for version in VERSIONS.values():
            for listener in (0, 1):
                for chunk in (False, True):
                    client = self.begin_message(listener, chunk, context=client_context(version))
                    client.cut_off()
                    count += 1
                    self.counted(count, "protocol_violations_total", type="tls_truncation")
                    client.close()
                    with self.begin_message(listener, chunk, context=client_context(version)) as client:
                        with contextlib.suppress(OSError):
                            client.close_notify()  # the client's own word; still no message
                    client = self.begin_message(listener, chunk, context=client_context(version))
                    client.reset()
        self.no_session_left()
        self.assertEqual(self.sink_.messages, [])
        self.assertEqual(self.total("protocol_violations_total", type="tls_truncation"), count)
        self.serves()

    def test_bad_records(self):
        self.start()
        for octets in (b"MAIL FROM:<a@example.test>\r\n", b"\x17\x03\x03\x00\x20" + bytes(32),
                       b"\x17\x03\x03\x48\x01", b"\x15\x03\x03\x00\x02\x02\x28", b"\x17\x03\x03\x00\x00",
                       b"\x17\x04\x03\x00\x20" + bytes(32)):
            for version in VERSIONS.values():
                with self.subTest(octets=octets, version=version), Wire(self.proxy, 0, version) as wire:
                    wire.shake_hands()
                    wire.socket.sendall(octets + bytes(17))  # the kernel does not look at a header alone
                    with self.assertRaises((ssl.SSLError, Closed, ConnectionResetError)):
                        wire.reply()
        self.no_session_left()
        self.serves()

    def test_floods(self):
        """By the thousand, each is the end of the session, and the alert says why."""
        self.start()
        for listener in (0, 1):
            for what, flood in (("empty", lambda hand: hand.record(DATA, b"")),
                                ("alerts", lambda hand: hand.record(ALERT, b"\1\x5a")),
                                ("keys", lambda hand: hand.key_update(1)), ("keys", lambda hand: hand.key_update(0))):
                hand = ByHand(self.proxy, listener)
                self.addCleanup(hand.close)
                hand.ehlo()
                if what == "keys" and self.in_kernel() and not REKEYS:
                    hand.close()
                    continue
                for _ in range(3):  # a few are no offence
                    hand.socket.sendall(flood(hand))
                    hand.command("NOOP", 250)
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    hand.socket.sendall(b"".join(flood(hand) for _ in range(5000)))
                if what == "empty" and self.in_kernel():  # it drops them, and ringmx sees none
                    hand.command("NOOP", 250)
                    hand.quit()
                    continue
                with self.assertRaises(Closed):
                    hand.reply()
            # Of TLS 1.2 there are two kinds.
            for what, flood in (("empty", lambda hand: hand.record(DATA, b"")),
                                ("alerts", lambda hand: hand.record(ALERT, b"\1\x5a"))):
                hand = ByHand12(self.proxy, listener)
                self.addCleanup(hand.close)
                hand.ehlo()
                for _ in range(3):
                    hand.socket.sendall(flood(hand))
                    hand.command("NOOP", 250)
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    hand.socket.sendall(b"".join(flood(hand) for _ in range(5000)))
                if what == "empty" and self.in_kernel():
                    hand.command("NOOP", 250)
                    hand.quit()
                    continue
                with self.assertRaises(Closed):
                    hand.reply()
        self.no_session_left()
        self.serves()

    def test_renegotiations(self):
        """The first attempt is the end, however many there are and whatever part of one comes."""
        self.start(STARTTLS, IMPLICIT, tls={"ktls": "off"})
        hello = b"\1\0\0\x2b\3\3" + bytes(32) + b"\0\0\2\xc0\x2b\1\0\0\0"
        count = 0
        for listener in (0, 1):
            for content in (hello, hello[:1], b"\0\0\0\0", b""):  # HelloRequest; an empty record
                hand = ByHand12(self.proxy, listener)
                self.addCleanup(hand.close)
                hand.ehlo()
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    hand.socket.sendall(b"".join(hand.record(HANDSHAKE, content) for _ in range(1000)))
                with self.assertRaises(Closed):
                    hand.reply()
                self.assertIn(hand.alerts, ([NO_RENEGOTIATION], []))  # unless the reset was faster
                count += 1
                self.counted(count, "tls_bad_records_total", side="client", reason="no_renegotiation")
            hand = ByHand12(self.proxy, listener)
            self.addCleanup(hand.close)
            hand.ehlo()
            hand.socket.sendall(hand.record(HANDSHAKE, hello))
            hand.expect_close()
            self.assertEqual(hand.alerts, [NO_RENEGOTIATION])
            count += 1
        self.counted(2 * 5, "tls_handshakes_total", result="ok")
        self.no_session_left()
        self.serves()

    def test_bad_records_are_counted(self):
        """By reason, whoever does the records; and the client is told."""
        for ktls in ("off", "auto"):
            self.start(STARTTLS, IMPLICIT, tls={"ktls": ktls})
            expected = {}
            for kind in (ByHand, ByHand12):
                for listener in (0, 1):
                    for reason, alert, octets in (
                            ("bad_record_mac", 20, lambda hand: harness.changed(hand.record(DATA, b"NOOP\r\n"))),
                            ("record_overflow", 22, lambda hand: b"\x17\3\3\x48\1" + bytes(0x4801)),
                            ("decode_error", 50, lambda hand: b"\x17\4\3\0\x20" + bytes(32)),
                            ("unexpected_message", 10, lambda hand: hand.record(99, b"?")),
                            ("alert_from_peer", None, lambda hand: hand.record(ALERT, b"\2\x50"))):
                        hand = kind(self.proxy, listener)
                        self.addCleanup(hand.close)
                        hand.ehlo()
                        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                            hand.socket.sendall(octets(hand))
                        with self.assertRaises(Closed):
                            hand.reply()
                        if ktls == "off":
                            if hand.alerts or alert is None:
                                self.assertEqual(hand.alerts, [alert] if alert else [0])
                            expected[reason] = expected.get(reason, 0) + 1
                            self.counted(expected[reason], "tls_bad_records_total", side="client", reason=reason)
            self.counted(20, "tls_bad_records_total", side="client")
            self.assertEqual(self.total("tls_bad_records_total", side="upstream"), 0)

    def test_empty_records(self):
        """32 in a row, and any number between others (RFC 8446 5.4)."""
        self.start(STARTTLS, IMPLICIT, tls={"ktls": "off"})
        for listener, kind in ((0, ByHand), (1, ByHand), (0, ByHand12), (1, ByHand12)):
            hand = kind(self.proxy, listener)
            self.addCleanup(hand.close)
            hand.ehlo()
            for _ in range(10):
                hand.socket.sendall(b"".join(hand.record(DATA, b"") for _ in range(32)))
                hand.command("NOOP", 250)
            hand.socket.sendall(b"".join(hand.record(DATA, b"") for _ in range(33)))
            hand.expect_close()
            self.assertEqual(hand.alerts, [UNEXPECTED_MESSAGE])

    def test_key_updates(self):
        """They are followed; a flood of requests is answered once, not a thousand times."""
        self.start(STARTTLS, IMPLICIT, tls={"ktls": "off"})
        for listener in (0, 1):
            hand = ByHand(self.proxy, listener)
            self.addCleanup(hand.close)
            hand.ehlo()
            for requested in (0, 1, 0, 0, 1, 1):
                seen = hand.key_updates
                hand.socket.sendall(hand.key_update(requested))
                hand.command("NOOP", 250)
                self.assertEqual(hand.key_updates - seen, requested)
            # No honest client needs more than 64 records of this kind.
            for n in range(64 - 6):
                hand.socket.sendall(hand.key_update(1))
            hand.deliver(CONTENT)
            self.assertEqual(self.sink_.messages.pop().content, CONTENT)
            self.assertEqual(hand.key_updates, 3 + 1)
            hand.socket.sendall(hand.key_update(1))
            hand.expect_close()
            self.assertEqual(hand.alerts, [UNEXPECTED_MESSAGE])
        self.serves()

    def test_key_update_of_openssl(self):
        self.start()
        process = subprocess.Popen(
            [harness.program("openssl"), "s_client", "-tls1_3", "-connect", self.proxy.address(1), "-CAfile", ROOT,
             "-crlf"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=harness._die_with_parent)
        self.addCleanup(process.kill)
        said = b""
        def until(what):
            nonlocal said
            while what not in said:
                octets = process.stdout.read1(65536)
                self.assertTrue(octets, said)
                said += octets
        until(b"220 mx.example.test")
        if self.in_kernel() and not REKEYS:
            self.skipTest("this kernel can't replace keys")
        for n, letter in enumerate((b"k", b"K", b"K", b"k")):
            process.stdin.write(letter + b"\n")
            process.stdin.flush()
            said = said.replace(b"KEYUPDATE", b"")
            until(b"KEYUPDATE")
            process.stdin.write(b"HELO x%d\n" % n)
            process.stdin.flush()
            said = b""
            until(b"250 mx.example.test")
        process.stdin.write(b"quit\n")  # Q would be s_client's own
        process.stdin.flush()
        until(b"221 ")
        process.stdin.close()
        process.stdout.close()
        process.wait(harness.PATIENCE)

    def test_alpn(self):
        self.start()
        for listener in (0, 1):
            for version in VERSIONS.values():
                self.refused_handshake("alpn", listener, "NO APPLICATION PROTOCOL",
                                       context=client_context(version, alpn=["h2", "http/1.1"]))
                for protocols in (["smtp"], ["h2", "smtp"]):
                    self.serves(listener, context=client_context(version, alpn=protocols))
                with self.client(listener, context=client_context(version, alpn=["h2", "smtp"])) as client:
                    self.assertEqual(client.socket.selected_alpn_protocol(), "smtp")

    def test_no_shared_suite(self):
        self.start()
        self.refused_handshake("no_shared_cipher", 0, "HANDSHAKE FAILURE",
                               context=client_context(ssl.TLSVersion.TLSv1_2, "AES128-SHA:ECDHE-RSA-AES128-SHA"))

    def test_other_protocols(self):
        """HTTP on a port whose TLS begins at once, and SMTP in clear text there."""
        self.start()
        for octets in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"EHLO x\r\n", b"\0" * 100, b"SSH-2.0-x\r\n"):
            with harness.Client(self.proxy.address(1), greeting=False) as client:
                client.send(octets)
                with contextlib.suppress(Closed):
                    client.reply()
                self.assertTrue(not client.input or fatal_alert(client.input), client.input)
        self.counted(4, "tls_handshakes_total", result="not_tls")


class Log(TestCase):
    """One line for each handshake that fails; and not more than anybody can read."""

    def said(self, pattern):
        def found():
            return any(re.fullmatch(pattern, line) for line in self.proxy.errors)
        harness.eventually(found, lambda: f"{pattern} in {self.proxy.errors}")

    def test_why_and_which_alert(self):
        for listener in (0, 1):
            self.start({**STARTTLS, "handshake_timeout": harness.duration(0.5)}, IMPLICIT)  # ten lines each
            self.refused_handshake("alpn", listener, context=client_context(alpn=["h2"]))
            self.refused_handshake("no_shared_cipher", listener,
                                   context=client_context(VERSIONS["TLSv1.2"], "AES128-SHA"))
            handshake = rf"ringmx: listener mx{listener}: TLS handshake with "
            where = handshake + r"127\.0\.0\.1:\d+ failed: "
            self.said(where + r"alpn: .*; alert no_application_protocol sent")
            self.said(where + r"no_shared_cipher: .*; alert handshake_failure sent")
            context = ssl.create_default_context(cafile=CERTIFICATES / "other.pem")  # the client gives up
            for context.maximum_version in VERSIONS.values():
                with self.assertRaises(ssl.SSLError):
                    self.client(listener, context=context, name="mx.example.net")
            self.counted(2, "tls_handshakes_total", listener=f"mx{listener}", result="alert_from_peer")
            self.said(where + r"alert_from_peer: the peer gave up; alert unknown_ca received")
            with Wire(self.proxy, listener) as wire:
                wire.socket.sendall(b"\x15\3\3\0\2\2\x28")
                wire.expect_close()
            self.said(where + r"alert_from_peer: the client began with it; alert handshake_failure received")
            with Wire(self.proxy, listener) as wire:
                wire.socket.sendall(b"GE\n\x1b[2")
                while wire._receive():
                    pass
            self.said(where + r'not_tls: this is not TLS: "GE\.\.\["; alert unexpected_message sent')
            with Wire(self.proxy, listener) as wire:
                wire.socket.sendall(wire.flight()[:100])
                wire.reset()
            # Its address is gone too, if ringmx has not asked for it by then.
            self.said(handshake + r"(127\.0\.0\.1:\d+|a client that has gone) failed: "
                                  r"peer_lost: Connection reset by peer")
        with Wire(self.proxy) as wire:
            wire.expect_close()
        self.said(r"ringmx: listener mx0: TLS handshake with .* failed: timeout: it took too long")

    def test_octets_that_are_no_header(self):
        """Found out at the first one: who sends fewer than five may wait for an answer."""
        self.start()
        for listener in (0, 1):
            for octets in (b"\n", b"\r\n", b"2", b"GET", b"\x16\x16", b"QUIT"):
                with Wire(self.proxy, listener) as wire:
                    wire.socket.sendall(octets)
                    while wire._receive():
                        pass
                    self.assertTrue(fatal_alert(wire.input), wire.input)
        self.counted(12, "tls_handshakes_total", result="not_tls")

    def test_rate(self):
        self.start()
        count = 100
        for _ in range(count):
            with Wire(self.proxy, 1) as wire:
                wire.socket.sendall(b"\n")
        self.counted(count, "tls_handshakes_total", result="not_tls")

        def lines():
            return sum("not_tls" in line for line in self.proxy.errors)

        def left_out():
            found = [re.fullmatch(r"ringmx: (\d+) further lines? (was|were) left out: more than 10 a second", line)
                     for line in self.proxy.errors]
            return sum(int(match[1]) for match in found if match)

        harness.eventually(lambda: lines() + left_out() == count, "all to be told or counted")
        self.assertGreaterEqual(lines(), 10)
        self.assertGreater(left_out(), 0)

    def test_nobody_reads_it(self):
        """Mail goes on."""
        self.start()
        config = self.proxy.config
        self.proxy.stop()
        errors, full = os.pipe()
        self.addCleanup(os.close, errors)
        process = subprocess.Popen([harness.RINGMX, "run", "--config", config], stderr=full,
                                   preexec_fn=harness._die_with_parent)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        said = b""
        while b"ready\n" not in said:
            said += os.read(errors, 65536)
        os.set_blocking(full, False)  # ringmx's, too, until it is full
        with contextlib.suppress(BlockingIOError):
            while os.write(full, bytes(4096)):
                pass
        os.set_blocking(full, True)
        os.close(full)
        for _ in range(2):
            with Wire(self.proxy, 1) as wire:
                wire.socket.sendall(b"\n")
                while wire._receive():
                    pass
        self.serves()


class Rate(TestCase):
    """handshake_rate: SECURITY, the flood of handshakes."""

    RATE = 3

    def test_starttls(self):
        self.start({**STARTTLS, "handshake_rate": self.RATE}, {**REQUIRED, "handshake_rate": self.RATE}, STARTTLS)
        for listener in (0, 1):
            for _ in range(self.RATE):
                self.serves(listener, source="127.0.1.1")
            for _ in range(2):
                with self.proxy.client(listener, source="127.0.1.1") as client:
                    client.ehlo()
                    if listener == 0:
                        client.begin()
                    self.assertIn("4.7.0", client.command("STARTTLS", 454).lines[0])
                    client.command("STARTTLS", 454)
                    if listener == 1:
                        client.command("MAIL FROM:<a@example.test>", 530)
                    else:  # in clear text, and the transaction is what it was
                        client.command("DATA", 354)
                        client.send(harness.stuffed(CONTENT) + b".\r\n")
                        client.expect(250)
                        self.assertEqual(self.sink_.messages.pop().content, CONTENT)
                    client.quit()
            with self.proxy.client(listener, source="127.0.1.1") as client:
                client.ehlo()  # an injection is one all the same
                client.send(b"STARTTLS\r\nNOOP\r\n")
                client.expect(554)
            self.serves(listener, source="127.0.2.1")  # another network
            self.counted(4, "tls_handshakes_total", listener=f"mx{listener}", result="rate_limited")
        for _ in range(2 * self.RATE):
            self.serves(2, source="127.0.1.1")
        self.assertEqual(self.total("connections_rejected_total"), 0)
        self.assertTrue(any(re.fullmatch(r"ringmx: listener mx0: TLS handshake with 127\.0\.1\.1:\d+ refused: "
                                         "rate_limited: more than 3 a minute from its network", line)
                            for line in self.proxy.errors), self.proxy.errors)

    def test_implicit(self):
        self.start({**IMPLICIT, "handshake_rate": self.RATE})
        for _ in range(self.RATE):
            self.serves(source="127.0.1.1")
        for _ in range(2):
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                self.client(source="127.0.1.1")
        self.serves(source="127.0.2.1")
        self.counted(2, "tls_handshakes_total", result="rate_limited")
        self.counted(2, "connections_rejected_total", reason="handshake_rate")
        self.counted(self.RATE + 1, "connections_accepted_total")

    def test_networks(self):
        """A /24 has one share, on each reactor; and so has what a client of IPv6 owns."""
        self.start({**STARTTLS, "handshake_rate": self.RATE},
                   {**STARTTLS, "handshake_rate": self.RATE, "address": harness.free_ipv6_address()},
                   server={"reactors": 1})

        def served(listener, source):
            with self.proxy.client(listener, source=source) as client:
                client.ehlo()
                client.send(b"STARTTLS\r\n")
                return client.reply().code == 220

        self.assertEqual([served(0, f"127.0.1.{n}") for n in range(1, 6)], [True] * self.RATE + [False] * 2)
        self.assertEqual([served(0, f"127.0.{n}.1") for n in range(2, 6)], [True] * 4)
        self.assertEqual([served(1, None) for n in range(1, 6)], [True] * self.RATE + [False] * 2)


class Time(TestCase):
    def test_handshake_timeout(self):
        patience = harness.duration(0.3)
        self.start({**STARTTLS, "handshake_timeout": patience}, {**IMPLICIT, "handshake_timeout": patience})
        for listener in (0, 1):
            with Wire(self.proxy, listener) as silent, Wire(self.proxy, listener) as slow, \
                    Wire(self.proxy, listener) as halfway:
                halfway.socket.sendall(halfway.flight())
                halfway.flight()  # the server's has come, and is not answered
                flight = slow.flight()
                closed = False
                for n in range(len(flight) - 1):  # it would take a hundred times as long
                    slow.socket.sendall(flight[n:n + 1])
                    if closed := slow.ready_within(0.1 * harness.TIMEOUT_SCALE):
                        break
                self.assertTrue(closed)
                for wire in (silent, slow):
                    wire.expect_close()
                while halfway.socket.recv(65536):
                    pass
        self.counted(6, "tls_handshakes_total", result="timeout")
        self.serves()

    def test_early_disconnects(self):
        """In the middle of each flight, with FIN and with RST, at every so many octets."""
        self.start()
        lost = 0
        for version in VERSIONS.values():
            for listener in (0, 1):
                for second in (False, True):
                    for fraction in (0, 0.01, 0.3, 0.5, 0.97, 1):
                        for close in (Wire.close, Wire.reset, Wire.half_close):
                            wire = Wire(self.proxy, listener, version)
                            self.addCleanup(wire.close)
                            if second:
                                wire.socket.sendall(wire.flight())
                            flight = wire.flight()
                            if second and fraction == 1:
                                fraction = 0.99  # all of it, and the handshake is done
                            wire.socket.sendall(flight[:int(len(flight) * fraction)])
                            close(wire)
                            lost += 1
        self.no_session_left()
        self.assertEqual(self.total("tls_handshakes_total", result="peer_lost"), lost)
        self.serves()

    def draining(self):
        self.proxy.signal(signal.SIGTERM)
        self.proxy.wait_for_error_line("ringmx: draining")

    def test_draining(self):
        """Sessions that are idle, in a message and in each step of a handshake."""
        for version in VERSIONS.values():
            self.start()
            context = client_context(version)
            idle = [self.client(listener, context=context) for listener in (0, 1)]
            busy = [self.client(listener, context=context) for listener in (0, 1)]
            for client in busy:
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
            wires = [Wire(self.proxy, listener, version) for listener in (0, 1, 0, 1)]
            for wire in wires[2:]:
                wire.socket.sendall(wire.flight())
            self.draining()
            for client in idle:
                client.expect(421)
                client.expect_close()
                client.close()
            for wire in wires:
                with wire:
                    wire.shake_hands()
                    wire.expect(421)  # and not a word before
                    wire.expect_close()
            for client in busy:
                client.send(harness.stuffed(CONTENT) + b".\r\n")
                client.expect(250)
                client.expect(421)
                client.expect_close()
                client.close()
            self.assertEqual(self.proxy.wait(), 0)

    def test_draining_ends_a_handshake_that_does_not(self):
        self.start(server={"drain_timeout": harness.duration(0.3)})
        wires = [Wire(self.proxy, listener) for listener in (0, 1)]
        wires[0].socket.sendall(wires[0].flight()[:20])
        self.draining()
        for wire in wires:
            with wire:
                wire.expect_close()
        self.assertEqual(self.proxy.wait(), 0)


# ------------------------------------------------------------------------------------- certificates

class Certificates(TestCase):
    RSA_ONLY = functools.partial(client_context, ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-GCM-SHA256")
    ECDSA_ONLY = functools.partial(client_context, ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256")

    def shown(self, listener=0, context=None, name=NAME):
        context = context or client_context()
        context.check_hostname = False
        with self.client(listener, context=context, name=name) as client:
            return client.socket.getpeercert(binary_form=True)

    def test_each_client_gets_one_it_can_verify(self):
        self.start()
        for context, name in ((self.RSA_ONLY(), "rsa"), (self.ECDSA_ONLY(), "p256"), (client_context(), "p256")):
            for listener in (0, 1):
                self.assertEqual(self.shown(listener, context), leaf(name))

    def test_names(self):
        keyless = {"starttls": "optional"}
        self.start(keyless, {**keyless, **shows("p256")},
                   certificates=[{"names": ["*.mail.example.org"], **shows("p384")},
                                 {"names": ["mx.example.org", "a.mail.example.org"], **shows("p256", "rsa")},
                                 shows("rsa")])
        for listener, name, wanted in ((0, "mx.example.org", "p256"), (0, "MX.Example.ORG", "p256"),
                                       (0, "b.mail.example.org", "p384"), (0, "a.mail.example.org", "p256"),
                                       (0, "mail.example.org", "rsa"), (0, "c.b.mail.example.org", "rsa"),
                                       (0, "other.example.org", "rsa"), (0, None, "rsa"),
                                       (1, "b.mail.example.org", "p384"), (1, None, "p256")):
            with self.subTest(listener=listener, name=name):
                self.assertEqual(self.shown(listener, name=name), leaf(wanted))
        self.assertEqual(self.shown(0, self.RSA_ONLY(), "mx.example.org"), leaf("rsa"))

    def test_of_clients(self):
        ca = {"client_ca_file": str(ROOT)}
        self.start(STARTTLS, {**STARTTLS, **ca, "client_certificates": "request"},
                   {**STARTTLS, **ca, "client_certificates": "require"},
                   {**IMPLICIT, **ca, "client_certificates": "require"})
        for version in VERSIONS.values():
            for listener in (0, 1):
                for certificate in (None, "client", "stranger"):
                    self.serves(listener, context=client_context(version, certificate=certificate))
            for listener in (2, 3):
                self.serves(listener, context=client_context(version, certificate="client"))
                self.refused_handshake("no_certificate", listener, context=client_context(version))
                self.refused_handshake("unknown_ca", listener,
                                       context=client_context(version, certificate="stranger"))

    def copy(self, folder, source, name):
        for suffix in (".pem", ".key"):
            shutil.copy(CERTIFICATES / (source + suffix), folder / (name + suffix))

    def reload(self, line):
        count = self.proxy.errors.count(line)
        self.proxy.signal(signal.SIGHUP)
        harness.eventually(lambda: self.proxy.errors.count(line) > count, f"{line!r}; said: {self.proxy.errors}")

    def test_when_they_expire(self):
        """As a metric, and as a warning, at the start and after a reload."""
        folder = harness.temporary_directory()
        self.copy(folder, "p256", "mx")
        self.copy(folder, "expired", "old")
        own = {"starttls": "optional", **shows("mx", folder=folder)}
        self.start(own, own, {}, certificates=[{"names": ["old.example.org"], **shows("old", folder=folder)}])
        self.assertTrue([line for line in self.proxy.errors
                         if line.startswith("ringmx: warning:") and "old.pem" in line and "has expired" in line])

        def expiry():
            return {(labels["listener"], labels["certificate"].rpartition("/")[2]): int(value)
                    for name, labels, value in self.proxy.metrics().samples
                    if name == "ringmx_tls_certificate_not_after_seconds"}

        def not_after(name):
            return ssl.cert_time_to_seconds(ssl._ssl._test_decode_cert(str(CERTIFICATES / f"{name}.pem"))["notAfter"])

        expected = {(listener, file): not_after(name) for listener in ("mx0", "mx1")
                    for file, name in (("mx.pem", "p256"), ("old.pem", "expired"))}
        self.assertEqual(expiry(), expected)
        self.assertLess(expected["mx0", "old.pem"], expected["mx0", "mx.pem"])
        lines = len(self.proxy.errors)
        self.copy(folder, "expired", "mx")
        self.reload("ringmx: reloaded certificates and ticket keys")
        self.assertTrue([line for line in self.proxy.errors[lines:] if "mx.pem" in line and "has expired" in line])
        harness.eventually(lambda: expiry()["mx1", "mx.pem"] == not_after("expired"), "the new one's")

    def test_reload(self):
        folder = harness.temporary_directory()
        self.copy(folder, "p256", "mx")
        self.start({"starttls": "optional", **shows("mx", folder=folder)},
                   {"implicit_tls": True, **shows("mx", folder=folder)}, server={"reactors": 2})
        running = [self.client(listener, source=f"127.0.0.{n}") for listener in (0, 1) for n in range(1, 5)]
        begun = [Wire(self.proxy, listener) for listener in (0, 1)]
        for wire in begun:
            wire.socket.sendall(wire.flight())
        for client in running:
            client.ehlo()
            client.begin()
        self.copy(folder, "p384", "mx")
        self.reload("ringmx: reloaded certificates and ticket keys")
        # A reactor has its message at the latest when it has done what was sent to it behind the signal.
        for listener in (0, 1):
            harness.eventually(lambda listener=listener: self.shown(listener) == leaf("p384"), "the new certificate")
        for wire in begun:
            wire.shake_hands()
            self.assertEqual(wire.tls.getpeercert(True), leaf("p256"))
            wire.close()
        for client in running:
            client.command("DATA", 354)
            client.send(b".\r\n")
            client.expect(250)
            client.quit()
        # Broken in each way: the old ones stay, and standard error says why.
        for name, text, said in (("mx.pem", b"nonsense\n", "mx.pem"), ("mx.key", b"", "mx.key"),
                                 ("mx.key", (CERTIFICATES / "p256.key").read_bytes(), "mx.key"),
                                 ("mx.pem", None, "mx.pem")):
            with self.subTest(name=name, text=text):
                self.copy(folder, "p384", "mx")
                lines = len(self.proxy.errors)
                if text is None:
                    (folder / name).unlink()
                else:
                    (folder / name).write_bytes(text)
                self.reload("ringmx: SIGHUP: the certificates and ticket keys stay as they were")
                said_now = self.proxy.errors[lines:]
                self.assertTrue([line for line in said_now if said in line], said_now)
                for listener in (0, 1):
                    self.assertEqual(self.shown(listener), leaf("p384"))
        self.copy(folder, "rsa", "mx")
        self.reload("ringmx: reloaded certificates and ticket keys")
        harness.eventually(lambda: self.shown(0) == leaf("rsa"), "the newest certificate")

    def test_cas_that_can_not_be_used(self):
        """Are left out; and if there are no others, nothing changes."""
        folder = harness.temporary_directory()
        cas = folder / "ca.pem"

        def write(*names):
            cas.write_bytes(b"".join((CERTIFICATES / f"{name}.pem").read_bytes() for name in names))

        verifies = {"verify": "ca_file", "ca_file": str(cas), "tls_name": NAME}
        service = {"name": "s", "address": f"https://{harness.free_address()}/auth", "steps": "auth", **verifies}
        asks = {"client_certificates": "request", "client_ca_file": str(cas)}
        left_out = f"ringmx: warning: {cas}: CA certificate %d of %d (CN=%s Root) is left out: "
        none = f"ringmx: {cas}: none of its CA certificates can be used; "
        for place, listener, upstreams, services in (
                ("listener", asks, [], []),
                ("upstream", {}, [{"address": harness.free_address(), "starttls": "required", **verifies}], []),
                ("service", {"services": ["s"], "auth": ["plain"]}, [], [service])):
            with self.subTest(place):
                write("expired_ca", "root")
                sinks = {"upstreams": ["mta0"]}
                proxy = self.start({**STARTTLS, **sinks, **listener}, upstreams=[self.sink_, *upstreams],
                                   services=services, server={"reactors": 2})

                def says(*lines, since=0):
                    return [[line for line in proxy.errors[since:] if line.startswith(start)] for start in lines]

                self.assertEqual([len(said) for said in says(left_out % (1, 2, "Expired"))], [1])
                for usable, names in ((True, ("root", "ed25519_ca", "expired_ca")), (False, ("expired_ca",)),
                                      (False, ("ed25519_ca",)), (False, ("expired_ca", "ed25519_ca")), (True, ("root",))):
                    write(*names)
                    since = len(proxy.errors)
                    self.reload("ringmx: reloaded certificates and ticket keys" if usable else
                                "ringmx: SIGHUP: the certificates and ticket keys stay as they were")
                    for n, name in enumerate(names, 1):
                        if name != "root":
                            kind = {"expired_ca": "Expired", "ed25519_ca": "Ed25519"}[name]
                            self.assertEqual([len(said) for said in says(left_out % (n, len(names), kind), since=since)], [1])
                    self.assertEqual([len(said) for said in says(none, since=since)], [0 if usable else 1])
                    for source in range(1, 9):  # each reactor has its turn
                        self.serves(0, source=f"127.0.0.{source}",
                                    context=client_context(certificate="client"))
                write("ed25519_ca")
                status, _, errors = harness.run([harness.RINGMX, "check", "--config", proxy.config])
                self.assertEqual(status, 1)
                self.assertIn(left_out % (1, 1, "Ed25519"), errors)
                self.assertIn(none, errors)
                write("ed25519_ca", "root")
                status, output, errors = harness.run([harness.RINGMX, "check", "--config", proxy.config])
                self.assertEqual((status, output.splitlines()[0]), (0, f"{proxy.config}: ok"))
                self.assertIn(left_out % (1, 2, "Ed25519"), errors)
                write("expired_ca")
                status, _, errors = harness.run([harness.RINGMX, "run", "--config", proxy.config])
                self.assertEqual(status, 1)
                self.assertIn(none, errors)

    def test_check(self):
        folder = harness.temporary_directory()
        config = folder / "ringmx.toml"

        def check(certificate, key):
            config.write_text(harness.config_text(
                listeners=[{"name": "mx", "address": harness.free_address(), "starttls": "optional",
                            "certificate": str(CERTIFICATES / certificate), "private_key": str(CERTIFICATES / key)}],
                upstreams=[{"name": "mta", "address": harness.free_address()}]))
            status, output, errors = harness.run([harness.RINGMX, "check", "--config", config])
            return status, output + errors

        status, said = check("p256.pem", "p256.key")
        self.assertEqual((status, said.splitlines()[0]), (0, f"{config}: ok"))
        for certificate, key, said in (("p256.pem", "none.key", "none.key.*No such file"),
                                       ("none.pem", "p256.key", "none.pem.*No such file"),
                                       ("p256.pem", "p384.key", "p384.key"), ("p256.key", "p256.key", "p256.key")):
            with self.subTest(certificate=certificate, key=key):
                status, output = check(certificate, key)
                self.assertEqual(status, 1)
                self.assertRegex(output, said)


# ------------------------------------------------------------------------------------- tickets

class Tickets(TestCase):
    def session(self, context, listener=0, session=None, source=None):
        """A session, whether it was resumed, and what the next may be resumed with."""
        with self.client(listener, context=context, session=session, source=source) as client:
            client.ehlo()
            client.deliver(CONTENT)
            self.assertEqual(self.sink_.messages.pop().content, CONTENT)
            outcome = client.socket.session_reused, client.socket.session
            client.quit()
            return outcome

    def test_on_every_reactor(self):
        self.start(server={"reactors": 2})
        for name, version in VERSIONS.items():
            with self.subTest(version=version):
                context = client_context(version)
                resumed, ticket = self.session(context)
                self.assertFalse(resumed)
                self.assertTrue(ticket.has_ticket)
                for n in range(1, 9):
                    resumed, ticket = self.session(context, session=ticket, source=f"127.0.0.{n}")
                    self.assertTrue(resumed, n)
                self.assertEqual(self.total("tls_handshakes_total", result="ok", version=name, resumed="true"), 8)
                self.assertEqual(self.total("tls_handshakes_total", result="ok", version=name, resumed="false"), 1)
                # Of another listener with the same certificates.
                self.session(context, 1, session=ticket)

    def test_after_a_reload(self):
        self.start()
        context = client_context()
        _, ticket = self.session(context)
        self.proxy.signal(signal.SIGHUP)
        self.proxy.wait_for_error_line("ringmx: reloaded certificates and ticket keys")
        self.assertTrue(self.session(context, session=ticket)[0])

    def test_after_a_restart(self):
        key = harness.temporary_directory() / "ticket.key"
        key.write_bytes(bytes(range(80)))
        for tls, survives in (({"ticket_key_files": str(key)}, True), ({}, False)):
            with self.subTest(tls):
                context = client_context()
                self.start(tls=tls)
                _, ticket = self.session(context)
                self.proxy.stop()
                self.start(tls=tls)
                self.assertEqual(self.session(context, session=ticket)[0], survives)

    def test_none(self):
        self.start(STARTTLS, tls={"session_tickets": False})
        for version in VERSIONS.values():
            context = client_context(version)
            _, ticket = self.session(context)
            self.assertFalse(self.session(context, session=ticket)[0])

    def test_early_data_is_not_offered(self):
        self.start()
        path = harness.temporary_directory() / "session"
        client = Program([harness.program("openssl"), "s_client", "-starttls", "smtp", "-connect",
                          self.proxy.address(), "-quiet", "-sess_out", path, "-tls1_3"])
        self.addCleanup(client.kill)
        client.ehlo()
        client.command("QUIT", 221)
        client.close()
        status, output, errors = harness.run([harness.program("openssl"), "sess_id", "-in", path, "-noout", "-text"])
        self.assertEqual(status, 0, errors)
        self.assertIn("Max Early Data: 0", output)


class Kernel(TestCase):
    def test_counted(self):
        """Whoever does the records, it is said; without kTLS, and why, if it was wanted."""
        self.start(STARTTLS, tls={"ktls": "off"})
        self.serves()
        self.assertEqual(self.total("tls_connections_total", side="client", ktls="false"), 1)
        self.assertEqual(self.total("tls_connections_total", ktls="true"), 0)
        self.assertEqual(self.total("ktls_fallback_total"), 0)  # not wanted
        self.start()
        for listener in (0, 1):
            self.serves(listener)
        in_kernel = self.total("tls_connections_total", side="client", ktls="true")
        self.assertEqual(in_kernel + self.total("tls_connections_total", side="client", ktls="false"), 2)
        self.assertEqual(in_kernel + self.total("ktls_fallback_total"), 2)
        summary = next(line for line in self.proxy.errors if line.startswith("ringmx: kernel TLS:"))
        if "none" in summary:
            self.assertEqual(self.total("ktls_fallback_total", reason="unavailable"), 2)


    def test_required(self):
        """Where there is none, ringmx does not start; else there are no other connections."""
        self.start()
        summary = next(line for line in self.proxy.errors if line.startswith("ringmx: kernel TLS:"))
        if "none" in summary:
            config = self.proxy.directory / "require.toml"
            config.write_text(self.proxy.config.read_text() + "[tls]\nktls = \"require\"\n")
            status, _, errors = harness.run([harness.RINGMX, "run", "--config", config])
            self.assertEqual(status, 1)
            self.assertIn("require", errors)
            return
        self.start(tls={"ktls": "require"})
        self.serves()
        self.assertEqual(self.total("tls_connections_total", side="client", ktls="false"), 0)


class Idle(memory_test.Idle):
    """With TLS and ringmx's own records, memory of all rooms and wolfSSL included: at most 8 KiB."""

    SESSIONS = 500
    LIMIT = 8 * 1024
    OPTIONS = {"listeners": [STARTTLS], "tls": {"ktls": "off"}}
    CONTEXT = client_context()

    def client(self, n):
        return Client(self.proxy.address(), source=f"127.0.0.{n % 16 + 1}", context=self.CONTEXT)


if __name__ == "__main__":
    harness.main()
