# SPDX-License-Identifier: GPL-3.0-or-later
"""ringmx-load in every mode: against the message sink, octet for octet; against smtp-sink, through ringmx
and through nginx; and against servers that fail, whose failures it must count right.

RINGMX_LOAD is the binary under test.
"""

import collections
import email
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import threading
import unittest

import harness

RINGMX_LOAD = os.environ.get("RINGMX_LOAD", str(harness.SOURCE_ROOT / "build" / "ringmx-load"))
HEADER = re.compile(
    rb"From: <(?P<sender>[^>\r\n]*)>\r\nTo: (?:<(?P<recipient>[^>\r\n]+)>|undisclosed-recipients:;)\r\n"
    rb"Date: (?P<date>[^\r\n]+)\r\nSubject: ringmx-load message (?P<number>\d+)\r\n"
    rb"Message-ID: <(?P<id>[^>\r\n]+)>\r\nMIME-Version: 1\.0\r\nContent-Type: text/plain; charset=us-ascii\r\n"
    rb"(?:Content-Transfer-Encoding: base64\r\n)?\r\n")


class LoadTest(harness.TestCase):
    def load(self, target, *options, status=0):
        """Runs it to its end; its JSON report."""
        address = getattr(target, "address", target)
        code, output, errors = harness.run([RINGMX_LOAD, "-q", "--json", "-", *options, address], seconds=60)
        self.assertEqual(code, status, errors + output)
        self.assertNotIn("Sanitizer", errors)
        self.assertNotIn("runtime error", errors)
        report = json.loads(output)
        self.assertEqual(report["satisfied"], status == 0)
        return report

    def start(self, *options):
        return self.process([RINGMX_LOAD, *options], stdout=subprocess.PIPE)

    def failures(self, report):
        return {(one["at"], one["failure"]): one["sessions"] for one in report["failures"]}

    def messages(self, report):
        counts = dict(report["messages"])
        counts.pop("accepted_per_s")
        return {key: n for key, n in counts.items() if n}


class Octets(LoadTest):
    """What the sink got is what should have been sent, each message once."""

    def check(self, sink, report, count, size=None):
        self.assertEqual(self.messages(report), {"accepted": count})
        self.assertEqual(report["failures"], [])
        messages = sink.wait_for(count)
        self.assertEqual(len(messages), count)
        self.assertEqual(sink.refused, [])
        numbers, identities = set(), set()
        for message in messages:
            header = HEADER.match(message.content)
            self.assertTrue(header, message.content[:400])
            numbers.add(int(header["number"]))
            identities.add(header["id"])
            self.assertEqual(header["sender"].decode(), message.sender)
            if size:
                self.assertEqual(len(message.content), size)
            parameters = [p for p in message.sender_parameters if p.startswith("SIZE=")]
            self.assertEqual(parameters, [f"SIZE={len(message.content)}"] if "SIZE" in sink.extensions else [])
        self.assertEqual(numbers, set(range(count)))
        self.assertEqual(len(identities), count)
        octets = sum(len(m.content) for m in messages)
        self.assertEqual(report["octets"]["accepted"], octets)
        return messages

    def test_every_way_to_speak(self):
        count = 60
        for pipelining, framing, keep, threads in itertools.product(
                ("offered", "never"), ([], ["--bdat"], ["--chunk", "1000"]), ([], ["-k"], ["-m", "7"]), ("1", "2")):
            with self.subTest(pipelining=pipelining, framing=framing, keep=keep, threads=threads):
                sink = self.sink()
                report = self.load(sink, "-n", count, "-s", 6, "-p", pipelining, *framing, *keep,
                                   "--threads", threads)
                messages = self.check(sink, report, count, 4096)
                self.assertEqual({m.framing for m in messages}, {"BDAT" if framing else "DATA"})
                self.assertEqual(report["sessions"], {"opened": sink.sessions, "closed": sink.sessions, "failed": 0})
                if keep == ["-k"]:
                    self.assertLessEqual(sink.sessions, 6)
                elif keep:
                    self.assertLessEqual(max(collections.Counter(m.session for m in messages).values()), 7)
                else:
                    self.assertEqual(sink.sessions, count)
                spans = report["latency_ms"]
                self.assertEqual({name: one["count"] for name, one in spans.items()},
                                 {"connect": sink.sessions, "greeting": sink.sessions, "ehlo": sink.sessions,
                                  "mail": count, "rcpt": count, "body": count, "transaction": count,
                                  "message": count, "session": sink.sessions,
                                  **({} if framing else {"data": count}),
                                  **({"bdat": 4 * count} if len(framing) == 2 else {})})
                for one in spans.values():
                    self.assertLessEqual(one["p50"], one["p99.9"])
                    self.assertLessEqual(one["p99.9"], one["max"])

    def test_dots_in_data_and_bdat(self):
        for framing in ([], ["--bdat"]):
            sink = self.sink()
            report = self.load(sink, "-n", 5, "--size", 200_001, *framing)
            for message in self.check(sink, report, 5, 200_001):
                self.assertIn(b"\r\n.\r\n", message.content)
            contents = {m.content.partition(b"\r\n\r\n")[2] for m in sink.messages}
            # The same text, but for what makes a message as long as it is to be.
            self.assertEqual(len({c[:190_000] for c in contents}), 1)

    def test_sizes(self):
        sink = self.sink()
        report = self.load(sink, "-n", 300, "-k", "--size", "1KiB*50,10KiB*45,300KiB*5")
        sizes = collections.Counter(len(m.content) for m in self.check(sink, report, 300))
        self.assertEqual(set(sizes), {1024, 10240, 307200})
        self.assertGreater(sizes[1024], 100)
        again = self.sink()
        self.load(again, "-n", 300, "-k", "--threads", 2, "--size", "1KiB*50,10KiB*45,300KiB*5")
        self.assertEqual(collections.Counter(len(m.content) for m in again.wait_for(300)), sizes)
        mail = self.sink()
        self.check(mail, self.load(mail, "-n", 100, "--size", "mail"), 100)

    def test_base64_is_base64(self):
        sink = self.sink()
        report = self.load(sink, "-n", 2, "--size", 5000, "--body", "base64")
        for message in self.check(sink, report, 2, 5000):
            parsed = email.message_from_bytes(message.content)
            self.assertTrue(parsed["Date"] and parsed.get_payload(decode=True))

    def test_envelopes(self):
        sink = self.sink()
        report = self.load(sink, "-n", 20, "--helo", "c%s.example.test", "-f", "s%4n@d%2n.test", "--recipients", 3,
                           "-t", "a%n.%r@one.test", "-t", "b%r@two.test")
        self.assertEqual(report["recipients"], {"accepted": 60, "refused": 0})
        for message in self.check(sink, report, 20):
            n = int(HEADER.match(message.content)["number"])
            self.assertRegex(message.helo, r"^c\d+\.example\.test$")
            self.assertEqual(message.sender, f"s{n % 4}@d{n % 2}.test")
            recipients = [a for a, _ in message.recipients]
            self.assertEqual(recipients, [f"a{n}.{r}@one.test" if (n + r) % 2 == 0 else f"b{r}@two.test"
                                          for r in range(3)])
        self.assertEqual(len({m.helo for m in sink.messages}), 20)

    def test_null_sender(self):
        sink = self.sink()
        self.check(sink, self.load(sink, "-n", 3, "-f", ""), 3)

    def test_more_recipients_than_a_group_holds(self):
        for pipelining in ("offered", "never"):
            sink = self.sink()
            report = self.load(sink, "-n", 3, "--recipients", 300, "-p", pipelining)
            self.assertEqual(report["replies"]["rcpt"], {"250": 900})
            self.assertEqual({len(m.recipients) for m in self.check(sink, report, 3)}, {300})

    def test_a_server_of_few_words(self):
        sink = self.sink(extensions=())
        self.check(sink, self.load(sink, "-n", 10, "-k"), 10)
        self.check(sink := self.sink(extensions=()), self.load(sink, "-n", 10, "-p", "always"), 10)
        report = self.load(self.sink(extensions=()), "-n", 3, "--bdat", status=1)
        self.assertEqual(self.failures(report), {("idle", "no_chunking"): 3})
        self.assertEqual(self.messages(report), {"failed": 3})

    def test_targets(self):
        path = harness.temporary_directory() / "sink"
        for address in (f"unix:{path}", harness.free_ipv6_address()):
            with self.subTest(address=address):
                sink = self.sink(address=address)
                report = self.load(sink, "-n", 10)
                self.assertEqual(report["target"], address)
                self.check(sink, report, 10)

    def test_a_name_is_resolved(self):
        sink = self.sink(address="127.0.0.1:" + harness.free_address().rpartition(":")[2])
        self.load("localhost:" + sink.address.rpartition(":")[2], "-n", 2)
        self.assertEqual(len(sink.wait_for(2)), 2)

    def test_sources(self):
        peers = set()
        server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.addCleanup(server.close)

        def refuse():
            while True:
                try:
                    connected, peer = server.accept()
                except OSError:
                    return
                peers.add(peer[0])
                connected.sendall(b"554 no\r\n")
                connected.close()

        threading.Thread(target=refuse, daemon=True).start()
        report = self.load(f"127.0.0.1:{server.getsockname()[1]}", "-n", 8, "-r", 1000, "--source", "127.9.8.0/30", status=1)
        self.assertEqual(self.failures(report), {("greeting", "dismissed"): 8})
        self.assertEqual(peers, {"127.9.8.1", "127.9.8.2"})


class Modes(LoadTest):
    def test_open_loop_is_on_time(self):
        sink = self.sink()
        report = self.load(sink, "-r", 50, "-n", 50)
        self.assertEqual(self.messages(report), {"accepted": 50})
        # The last is due after 0.98 s; and it is not in a hurry either.
        self.assertGreater(report["elapsed_s"], 0.97)
        self.assertEqual(self.messages(self.load(self.sink(), "-r", 50, "-d", "1s", "-k")), {"accepted": 50})

    def test_ramp(self):
        report = self.load(self.sink(), "-r", 60, "--ramp", "1s", "-d", "1s")
        self.assertEqual(self.messages(report), {"accepted": 30})

    def test_late_at_its_end(self):
        """The machine has no time for it when the end comes: what was due before has sessions, and is sent."""
        sink = self.sink()
        path = harness.temporary_directory() / "report.json"
        load = self.start("-q", "--json", path, "-r", "60", "-d", "1s", "-s", "60", sink.address)
        sink.wait_for(1)
        load.signal(signal.SIGSTOP)
        threading.Event().wait(1.2)
        load.signal(signal.SIGCONT)
        self.assertEqual(load.wait(), 0, load.errors)
        self.assertEqual(self.messages(json.loads(path.read_text())), {"accepted": 60})

    def test_latency_of_an_open_loop_knows_no_mercy(self):
        """One session, and a server that sleeps once: all that were due meanwhile have waited."""
        calls = itertools.count()
        stall = 0.5 * harness.TIMEOUT_SCALE

        def sleeps_once(connection, usual):
            if next(calls) == 0:
                threading.Event().wait(stall)
            connection.send(usual)
            return usual
        sleeps_once.accepts = True

        upstream = self.upstream({"message": sleeps_once})
        report = self.load(upstream, "-r", 100, "-n", 100, "-s", 1, "-k")
        spans = report["latency_ms"]
        self.assertGreater(spans["message"]["p90"], stall * 1000 * 0.5)
        self.assertLess(spans["transaction"]["p90"], spans["message"]["p90"])
        # The same in closed loop: one slow message among a hundred.
        calls = itertools.count()
        closed = self.load(upstream, "-n", 100, "-s", 1, "-k")["latency_ms"]
        self.assertLess(closed["message"]["p90"], stall * 1000 * 0.5)
        self.assertGreater(closed["message"]["max"], stall * 1000 * 0.9)

    def test_what_no_session_was_free_for_is_told(self):
        upstream = self.upstream({"greeting": harness.is_silent})
        report = self.load(upstream, "-r", 100, "-d", "1s", "-s", 2, "--drain", 0, status=1)
        self.assertEqual(self.messages(report), {"unfinished": 2, "missed": 98})

    def test_idle(self):
        sink = self.sink()
        report = self.load(sink, "--idle", "-s", 200, "-d", "1s", "--ramp", "200ms", "--threads", 2)
        self.assertEqual(report["sessions"], {"opened": 200, "closed": 200, "failed": 0})
        self.assertEqual({tuple(c.split()[0] for c in commands) for commands in sink.commands.values()},
                         {(b"EHLO", b"QUIT")})
        self.assertGreater(report["elapsed_s"], 0.9)

    def test_idle_sessions_that_are_lost(self):
        def says_ok_and_closes(connection, usual):
            connection.send(usual)
            connection.close()

        upstream = self.upstream({"ehlo": says_ok_and_closes})
        report = self.load(upstream, "--idle", "-s", 5, "-d", "500ms", status=1)
        self.assertEqual(self.failures(report), {("idle", "closed"): 5})

    def test_slow_clients(self):
        sink = self.sink()
        report = self.load(sink, "-n", 4, "-s", 4, "--size", 1000, "--slow", 3000)
        self.assertEqual(self.messages(report), {"accepted": 4})
        for message in sink.wait_for(4):
            self.assertEqual(len(message.content), 1000)
        self.assertGreater(report["latency_ms"]["session"]["p50"], 350)
        # Of many, some.
        sink = self.sink()
        report = self.load(sink, "-n", 40, "-s", 40, "--size", 1000, "--slow", 3000, "--slow-share", 25)
        self.assertEqual(len(sink.wait_for(40)), 40)
        self.assertGreater(report["latency_ms"]["session"]["max"], 350)
        self.assertLess(report["latency_ms"]["session"]["p50"], 350 * harness.TIMEOUT_SCALE)

    def test_closed_loop_ends_in_time(self):
        report = self.load(self.sink(), "-k", "-d", "500ms", "-s", 2)
        self.assertGreater(report["messages"]["accepted"], 0)
        self.assertEqual(report["messages"]["unfinished"], 0)

    def test_interrupted(self):
        sink = self.sink()
        for options, status in ((["-d", "1h"], 0), (["-n", "100000000"], 1)):
            path = harness.temporary_directory() / "report.json"
            load = self.start("-k", *options, "--json", path, "--progress", sink.address)
            before = len(sink.messages)
            harness.eventually(lambda: len(sink.messages) > before, "messages")
            harness.eventually(lambda: len(load.errors) >= 2, "progress")
            load.signal(signal.SIGINT)
            text = load.popen.stdout.read().decode()
            self.assertEqual(load.wait(), status, load.errors)
            self.assertIn("the run was interrupted", text)
            self.assertRegex(load.errors[0], r"^ +time +messages/s")
            self.assertRegex(load.errors[1], r"^ +1s +\d+ ")
            report = json.loads(path.read_text())
            self.assertTrue(report["interrupted"])
            self.assertEqual(report["messages"]["accepted"], len(sink.messages) - before)

    def test_interrupted_twice(self):
        upstream = self.upstream({"message": harness.is_silent})
        load = self.start("-d", "1h", "-s", "3", upstream.address)
        harness.eventually(lambda: [c.commands[-1:] for c in upstream.connections] == [[b"DATA"]] * 3, "DATA")
        load.signal(signal.SIGINT)
        load.signal(signal.SIGTERM)
        text = load.popen.stdout.read().decode()
        self.assertEqual(load.wait(), 1)
        self.assertRegex(text, r"3 cut off at the end of the run")


class Failures(LoadTest):
    def test_nobody_listens(self):
        report = self.load(harness.free_address(), "-n", 20, status=1)
        self.assertEqual(self.failures(report), {("connect", "refused"): 20})
        self.assertEqual(self.messages(report), {"failed": 20})
        self.assertEqual(report["sessions"], {"opened": 20, "closed": 0, "failed": 20})
        self.assertEqual(len(report["first_errors"]), 3)
        self.assertEqual(report["first_errors"][0], {"kind": "connect refused", "text": "Connection refused"})
        report = self.load(f"unix:{harness.temporary_directory()}/none", "-n", 2, "-r", 100, status=1)
        self.assertEqual(self.failures(report), {("connect", "refused"): 2})

    def test_refusals(self):
        for stage, code, reset in (("mail", 452, 0), ("rcpt", 550, 1), ("data", 451, 1), ("message", 554, 0)):
            for pipelining in ("never", "offered"):
                with self.subTest(stage=stage, pipelining=pipelining):
                    # smtp servers refuse what follows a refusal, too.
                    faults = {stage: harness.says(f"{code} 4.0.0 no\r\n".encode())}
                    if stage == "mail":
                        faults["rcpt"] = harness.says(b"503 5.5.1 no\r\n")
                    if stage in ("mail", "rcpt"):
                        faults["data"] = harness.says(b"503 5.5.1 no\r\n")
                    upstream = self.upstream(faults)
                    report = self.load(upstream, "-n", 6, "-s", 2, "-k", "-p", pipelining, status=1)
                    self.assertEqual(self.messages(report), {"refused": 6})
                    self.assertEqual(report["replies"][stage], {str(code): 6})
                    self.assertEqual(report["failures"], [])
                    self.assertEqual(report["sessions"], {"opened": 2, "closed": 2, "failed": 0})
                    self.assertEqual(report["replies"].get("rset"), {"250": 6} if reset else None)
                    self.assertIn({"kind": f"{stage} {code}", "text": f"{code} 4.0.0 no"}, report["first_errors"])
                    self.assertEqual(upstream.accepted, [])

    def test_some_recipients_are_refused(self):
        calls = itertools.count()

        def every_other(connection, usual):
            connection.send(usual if next(calls) % 2 else b"550 5.1.1 no\r\n")
        upstream = self.upstream({"rcpt": every_other})
        report = self.load(upstream, "-n", 4, "-s", 1, "--recipients", 2, status=1)
        self.assertEqual(self.messages(report), {"accepted": 4})
        self.assertEqual(report["recipients"], {"accepted": 4, "refused": 4})

    def test_sessions_that_are_lost(self):
        for stage, fault, at, failure in (
                ("greeting", harness.says(b"554 no\r\n"), "greeting", "dismissed"),
                ("greeting", harness.closes, "greeting", "closed"),
                ("ehlo", harness.says(b"421 busy\r\n"), "ehlo", "dismissed"),
                ("mail", harness.resets, "mail", "closed"),
                ("rcpt", harness.says_and_closes(b"421 bye\r\n"), "rcpt", "dismissed"),
                ("data", harness.says(b"gibberish\r\n"), "data", "bad_reply"),
                ("rcpt", harness.says_twice, "rcpt", "unsolicited"),
                ("body", harness.resets, "message", "closed"),
                ("message", harness.closes, "message", "closed")):
            with self.subTest(stage=stage, failure=failure):
                upstream = self.upstream({stage: fault})
                report = self.load(upstream, "-n", 5, "-k", "-p", "never", "-s", 1, "--size", "300KiB", status=1)
                if failure == "unsolicited":  # where it is noticed, depends on how it comes
                    self.assertEqual({f for _, f in self.failures(report)}, {"unsolicited"})
                else:
                    self.assertEqual(self.failures(report), {(at, failure): 5})
                kind = "refused" if failure == "dismissed" else "failed"
                self.assertEqual(self.messages(report), {kind: 5})
                self.assertEqual(report["sessions"], {"opened": 5, "closed": 0, "failed": 5})

    def test_silence(self):
        for stage, at in (("greeting", "greeting"), ("rcpt", "rcpt"), ("message", "message")):
            with self.subTest(stage=stage):
                upstream = self.upstream({stage: harness.is_silent})
                report = self.load(upstream, "-n", 3, "-s", 3, "-p", "never", "--timeout", "300ms", status=1)
                self.assertEqual(self.failures(report), {(at, "timeout"): 3})
                self.assertEqual(self.messages(report), {"failed": 3})

    def test_a_server_that_does_not_read(self):
        upstream = self.upstream({"body": harness.is_silent}, receive_buffer=4096)
        upstream.faults["body"] = lambda connection, _: threading.Event().wait(harness.PATIENCE)
        report = self.load(upstream, "-n", 1, "--size", "20MiB", "--timeout", "500ms", status=1)
        self.assertEqual(self.failures(report), {("message", "timeout"): 1})
        self.assertIn("took nothing", report["first_errors"][0]["text"])

    def test_the_server_dies_and_comes_back(self):
        upstream = self.upstream()
        path = harness.temporary_directory() / "report.json"
        load = self.start("-k", "-s", "4", "-d", "1h", "--json", path, upstream.address)
        harness.eventually(lambda: len(upstream.accepted) > 20, "messages")
        upstream.stop()
        seen = len(upstream.accepted)
        upstream.start()
        harness.eventually(lambda: len(upstream.accepted) > seen + 20, "messages after the restart")
        load.signal(signal.SIGINT)
        load.popen.stdout.read()
        self.assertEqual(load.wait(), 1)
        report = json.loads(path.read_text())
        self.assertGreaterEqual(report["sessions"]["failed"], 4)
        self.assertEqual(report["sessions"]["failed"],
                         sum(one["sessions"] for one in report["failures"]))
        # A message that the server took may have lost its 250; none was invented.
        self.assertLessEqual(report["messages"]["accepted"], len(upstream.accepted))
        self.assertLessEqual(len(upstream.accepted), report["messages"]["accepted"] + report["messages"]["failed"])

    def test_tolerance(self):
        calls = itertools.count()

        def one_in_ten(connection, usual):
            connection.send(usual if next(calls) % 10 else b"451 later\r\n")
        one_in_ten.accepts = True
        upstream = self.upstream({"message": one_in_ten})
        self.load(upstream, "-n", 50, "-s", 1, "-k", "--tolerate", 9, status=1)
        self.load(upstream, "-n", 50, "-s", 1, "-k", "--tolerate", 10)

    def test_what_it_refuses_to_do(self):
        for options, complaint in ((["192.0.2.1:25"], "--allow-remote"), ([], "no target"),
                                   (["--size", "x", "127.0.0.1"], "--size"),
                                   (["name.invalid:25"], "name.invalid"),
                                   (["--source", "::1", "127.0.0.1:25"], "--source"),
                                   (["--json", "/nonexistent/x", "127.0.0.1:25"], "/nonexistent/x")):
            status, output, errors = harness.run([RINGMX_LOAD, *options])
            self.assertEqual((status, output), (2, ""), errors)
            self.assertIn(complaint, errors)
            self.assertEqual(errors.count("\n"), 1)
        status, output, errors = harness.run([RINGMX_LOAD, "--help"])
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("usage: ringmx-load", output)


class Tls(LoadTest):
    CERTIFICATES = harness.SOURCE_ROOT / "tests" / "tls" / "certificates"

    def server(self, sink, certificate="p256", **listener):
        files = {"certificate": [str(self.CERTIFICATES / f"{certificate}.pem")],
                 "private_key": [str(self.CERTIFICATES / f"{certificate}.key")]}
        return self.ringmx([sink], listeners=[{"starttls": "required", **files, **listener},
                                              {"implicit_tls": True, **files, **listener}])

    def kinds(self, report):
        for one in report["tls"]:
            self.assertRegex(one["suite"], "^TLS_")
        return {(one["version"], one["group"], one["resumed"]): one["sessions"] for one in report["tls"]}

    def test_every_way(self):
        sink = self.sink()
        ringmx = self.server(sink)
        sent = full = resumed = 0
        for n, way in enumerate(("--starttls", "--tls")):
            for version, options, keep in itertools.product(("1.2", "1.3"), ([], ["--resume"]), ([], ["-k"])):
                with self.subTest(way=way, version=version, options=options, keep=keep):
                    report = self.load(ringmx.address(n), way, "--tls-version", version, "-n", 12, "-s", 1,
                                       *options, *keep)
                    self.assertEqual(self.messages(report), {"accepted": 12})
                    self.assertEqual(report["failures"], [])
                    sessions = 1 if keep else 12
                    self.assertEqual(report["sessions"], {"opened": sessions, "closed": sessions, "failed": 0})
                    # The first one makes the session that the others resume.
                    again = sessions - 1 if options else 0
                    # In TLS 1.2 a resumed session exchanges no keys.
                    shared = "X25519MLKEM768" if version == "1.3" else "X25519"
                    kinds = {(f"TLSv{version}", shared, False): sessions - again,
                             (f"TLSv{version}", shared if version == "1.3" else "", True): again}
                    self.assertEqual(self.kinds(report), {kind: count for kind, count in kinds.items() if count})
                    spans = {name: one["count"] for name, one in report["latency_ms"].items()}
                    starttls = way == "--starttls"
                    self.assertEqual(spans["handshake"], sessions)
                    self.assertEqual(spans.get("starttls"), sessions if starttls else None)
                    self.assertEqual(spans["ehlo"], 2 * sessions if starttls else sessions)
                    self.assertEqual(spans["greeting"], sessions)
                    self.assertEqual(report["replies"].get("starttls"), {"220": sessions} if starttls else None)
                    sent, full, resumed = sent + 12, full + sessions - again, resumed + again
        metrics = ringmx.metrics()
        self.assertEqual(metrics.total("ringmx_tls_handshakes_total", result="ok", resumed="false"), full)
        self.assertEqual(metrics.total("ringmx_tls_handshakes_total", result="ok", resumed="true"), resumed)
        self.assertEqual(metrics.total("ringmx_protocol_violations_total", type="tls_truncation"), 0)
        self.assertEqual(len(sink.wait_for(sent)), sent)

    def test_nothing_to_resume(self):
        """A server that sends no ticket, in TLS 1.3: nobody waits for one, all handshakes are full, and it is said."""
        for way in ("--tls", "--starttls"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.CERTIFICATES / "p256.pem", self.CERTIFICATES / "p256.key")
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
            with self.subTest(way):
                upstream = self.upstream(tls=context, implicit_tls=way == "--tls")
                report = self.load(upstream.address, way, "--resume", "-n", 6, "-s", 2)
                self.assertEqual(self.messages(report), {"accepted": 6})
                self.assertEqual(report["failures"], [])
                self.assertEqual({resumed for _, _, resumed in self.kinds(report)}, {False})
                self.assertEqual(report["latency_ms"]["greeting"]["count"], 6)
                self.assertEqual(report["latency_ms"]["handshake"]["count"], 6)

    def test_many_at_once(self):
        sink = self.sink()
        ringmx = self.server(sink)
        report = self.load(ringmx.address(), "--starttls", "--resume", "-n", 400, "-s", 20, "--threads", 2,
                           "--size", "100KiB*5,4KiB*95", "--bdat")
        self.assertEqual(self.messages(report), {"accepted": 400})
        self.assertEqual(sum(self.kinds(report).values()), 400)
        # One of each thread; the others wait for it.
        self.assertEqual(self.kinds(report)[("TLSv1.3", "X25519MLKEM768", False)], 2)
        self.assertEqual(len(sink.wait_for(400)), 400)

    def test_large_messages(self):
        sink = self.sink()
        report = self.load(self.server(sink).address(1), "--tls", "-n", 6, "-s", 2, "-k", "--size", "3MiB")
        self.assertEqual(self.messages(report), {"accepted": 6})
        self.assertEqual({len(m.content) for m in sink.wait_for(6)}, {3 << 20})

    def test_choices(self):
        ringmx = self.server(self.sink(), "rsa")
        for options, suite, group in (
                (["--ciphers", "chacha20-poly1305"], "TLS_CHACHA20_POLY1305_SHA256", "X25519MLKEM768"),
                (["--ciphers", "aes-256-gcm", "--groups", "P-256"], "TLS_AES_256_GCM_SHA384", "P-256"),
                (["--ciphers", "aes-128-gcm", "--groups", "X25519", "--tls-version", "1.2"],
                 "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "X25519")):
            with self.subTest(options=options):
                report = self.load(ringmx.address(), "--starttls", "-n", 2, *options)
                self.assertEqual([(one["suite"], one["group"]) for one in report["tls"]], [(suite, group)])

    def test_verification(self):
        ringmx = self.server(self.sink())
        root, other = self.CERTIFICATES / "root.pem", self.CERTIFICATES / "other.pem"
        self.load(ringmx.address(), "--starttls", "-n", 1, "--ca-file", root, "--sni", "mx.example.org")
        for ca, name in ((other, "mx.example.org"), (root, "mx.example.net")):
            with self.subTest(ca=ca.name, name=name):
                report = self.load(ringmx.address(), "--starttls", "-n", 2, "-s", 1, "--ca-file", ca,
                                   "--sni", name, status=1)
                self.assertEqual(self.failures(report), {("handshake", "tls"): 2})
                self.assertEqual(self.messages(report), {"failed": 2})
        code, _, errors = harness.run([RINGMX_LOAD, "--tls", "--ca-file", "/nowhere", "127.0.0.1:25"], seconds=20)
        self.assertEqual(code, 2)
        self.assertIn("/nowhere", errors)

    def test_failures(self):
        sink = self.sink()
        report = self.load(sink, "--starttls", "-n", 2, "-s", 1, status=1)
        self.assertEqual(self.failures(report), {("idle", "no_starttls"): 2})
        # The greeting of a server in clear text is no record.
        report = self.load(sink, "--tls", "-n", 2, "-s", 1, status=1)
        self.assertEqual(self.failures(report), {("handshake", "tls"): 2})
        ringmx = self.server(sink)
        report = self.load(ringmx.address(), "-n", 1, status=1)  # TLS is required
        self.assertEqual(report["replies"]["mail"], {"530": 1})
        for last, failure in ((b"220 go\r\n250 injected\r\n", "unsolicited"), (b"454 not now\r\n", "dismissed")):
            with self.subTest(last=last), socket.create_server(("127.0.0.1", 0)) as listener:
                def serve(listener=listener, last=last):
                    connection, _ = listener.accept()
                    with connection:
                        for reply in (b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", last):
                            connection.sendall(reply)
                            connection.recv(1000)
                threading.Thread(target=serve, daemon=True).start()
                report = self.load("127.0.0.1:%d" % listener.getsockname()[1], "--starttls", "-n", 1, status=1)
                self.assertEqual([one["failure"] for one in report["failures"]], [failure])
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
            report = self.load("127.0.0.1:%d" % silent.getsockname()[1], "--tls", "-n", 2, "-s", 2,
                               "--timeout", "300ms", status=1)
            self.assertEqual(self.failures(report), {("handshake", "timeout"): 2})


class Peers(LoadTest):
    def smtp_sink(self):
        address = harness.free_address()
        drop = ["-u", "nobody"] if os.geteuid() == 0 else []
        sink = self.process([harness.program("smtp-sink"), *drop, "-m", "1000", address, "1000"])
        sink.wait_for_listener(address)
        sink.address = address
        return sink

    def test_smtp_sink(self):
        sink = self.smtp_sink()
        count = harness.load(2000)
        for options in ([], ["-k"], ["-p", "never"]):
            report = self.load(sink, "-n", count, "-s", 50, *options)
            self.assertEqual(self.messages(report), {"accepted": count})

    def test_through_ringmx(self):
        sink = self.sink()
        ringmx = self.ringmx([sink.address])
        count = harness.load(1000)
        for options in (["-k"], ["--bdat"], ["--chunk", "3000", "-k"], ["-p", "never", "--source", "127.5.0.0/24"]):
            before = len(sink.messages)
            report = self.load(ringmx.address(), "-n", count, "-s", 20, "--size", "uniform:600-20000", *options)
            self.assertEqual(self.messages(report), {"accepted": count})
            self.assertEqual(len(sink.messages) - before, count)
        self.assertEqual(ringmx.metrics().total("ringmx_messages_total", result="accepted"), 4 * count)
        self.assertEqual(sink.refused, [])

    def test_through_nginx(self):
        nginx = harness.program("nginx")
        about = harness.run([nginx, "-V"])[2]
        modules = re.search(r"--modules-path=(\S+)", about)
        module = modules and pathlib.Path(modules[1], "ngx_mail_module.so")
        if not (module and module.exists()) and not re.search(r"--with-mail(?![\w=])", about):
            raise unittest.SkipTest("nginx has no mail module")
        sink = self.sink()
        address, auth = harness.free_address(), harness.free_address()
        host, _, port = sink.address.rpartition(":")
        directory = harness.temporary_directory()
        directory.chmod(0o755)
        config = directory / "nginx.conf"
        config.write_text(f"""
{f"load_module {module};" if module and module.exists() else ""}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  server {{
    listen {auth};
    location / {{
      add_header Auth-Status OK;
      add_header Auth-Server {host};
      add_header Auth-Port {port};
      return 204;
    }}
  }}
}}
mail {{
  server_name mx.example.test;
  auth_http {auth}/;
  server {{ listen {address}; protocol smtp; smtp_auth none; xclient off; smtp_capabilities PIPELINING; }}
}}
""")
        proxy = self.process([nginx, "-p", directory, "-e", "stderr", "-c", config])
        self.addCleanup(proxy.wait)  # its worker, too: a killed master would leave it behind
        self.addCleanup(proxy.signal, signal.SIGTERM)
        proxy.wait_for_listener(address)
        # nginx passes on what follows the first recipient blindly, and doesn't pipeline up to there.
        for n, options in enumerate((["-p", "never"], ["-p", "never", "-k"], [])):
            report = self.load(address, "-n", 100, "-s", 10, *options)
            self.assertEqual(self.messages(report), {"accepted": 100})
            self.assertEqual(len(sink.wait_for(100 * (n + 1))), 100 * (n + 1))


if __name__ == "__main__":
    harness.main()
