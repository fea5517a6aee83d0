# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon: its command line, its start, its end, its sockets and its metrics page."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.parse

import harness
from harness import RINGMX, Client

GOOD = dict(listeners=[{"name": "mx", "address": "127.0.0.1:2525"}],
            upstreams=[{"name": "mta", "address": "127.0.0.1:2526"}])


def ringmx(*arguments):
    return harness.run([RINGMX, *arguments], seconds=10)


class CommandLine(harness.TestCase):
    def config(self, text):
        path = harness.temporary_directory() / "ringmx.toml"
        path.write_text(text)
        return path

    def test_version(self):
        status, output, errors = ringmx("--version")
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(output, r"^ringmx \d+\.\d+\.\d+ \((TLS: wolfSSL \d+\.\d+\.\d+|without TLS)\)\n$")

    def test_wrong_arguments(self):
        for arguments in ([], ["nonsense"], ["run"], ["check"], ["run", "--config"], ["--nonsense"],
                          ["check", "--config", "x", "more"]):
            with self.subTest(arguments):
                status, output, errors = ringmx(*arguments)
                self.assertNotEqual(status, 0)
                self.assertGreater(status, 0, "killed by a signal")
                self.assertIn("ringmx", errors)

    def test_check_good(self):
        status, _, errors = ringmx("check", "--config", self.config(harness.config_text(**GOOD)))
        self.assertEqual((status, errors), (0, ""))

    def test_check_names_file_line_key_and_mend(self):
        text = ("[server]\n"
                "hostname = \"mx.example.test\"\n"
                "recators = 2\n"
                "[[listener]]\n"
                "name = \"mx\"\n"
                "address = \"mx:smtp\"\n"
                "command_timeout = \"soon\"\n"
                "[[upstream]]\n"
                "name = \"mta\"\n"
                "address = \"127.0.0.1:2526\"\n")
        config = self.config(text)
        for command in ("check", "run"):  # run says the same, and does not start
            with self.subTest(command):
                status, output, errors = ringmx(command, "--config", config)
                self.assertEqual(status, 1)
                said = output + errors
                for line, key in ((3, "recators"), (6, "address"), (7, "command_timeout")):
                    self.assertRegex(said, rf"{re.escape(str(config))}:{line}:.*{key}")
                self.assertIn("reactors", said)  # the mend for line 3

    def test_check_what_is_no_toml(self):
        config = self.config("[server\nhostname = 1\n")
        status, output, errors = ringmx("check", "--config", config)
        self.assertEqual(status, 1)
        self.assertIn(f"{config}:1", output + errors)

    def test_check_a_file_that_is_not_there(self):
        status, output, errors = ringmx("check", "--config", "/nonexistent/ringmx.toml")
        self.assertEqual(status, 1)
        self.assertIn("/nonexistent/ringmx.toml", output + errors)

    def test_check_unknown_upstream(self):
        text = harness.config_text(listeners=[dict(GOOD["listeners"][0], upstreams=["nobody"])],
                                   upstreams=GOOD["upstreams"])
        status, output, errors = ringmx("check", "--config", self.config(text))
        self.assertEqual(status, 1)
        self.assertIn("nobody", output + errors)

    def test_run_where_the_address_is_taken(self):
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind((harness.HOST, 0))
        taken.listen()
        address = "{}:{}".format(*taken.getsockname())
        text = harness.config_text(listeners=[{"name": "mx", "address": address}], upstreams=GOOD["upstreams"])
        status, output, errors = ringmx("run", "--config", self.config(text))
        self.assertEqual(status, 1)
        self.assertIn(address, output + errors)
        self.assertNotIn("ready", errors.splitlines())


class Start(harness.TestCase):
    def test_ready_is_said_once_and_is_true(self):
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{}, {}, {}])
        for listener in range(3):
            with proxy.client(listener) as client:
                client.quit()
        proxy.stop()
        self.assertEqual(proxy.errors.count("ready"), 1)

    def test_reactors(self):
        sink = self.sink()
        proxy = self.ringmx([sink], server={"reactors": 2})
        reactors = {labels["reactor"] for name, labels, _ in proxy.metrics().samples
                    if name == "ringmx_uring_enters_total"}
        self.assertEqual(len(reactors), 2)
        # Steered by client address, so one client's sessions are together and many clients' are not.
        for n in range(1, 65):
            with proxy.client(source=f"127.0.0.{n}") as client:
                client.ehlo()
                client.deliver()
                client.quit()
        self.assertEqual(len(sink.messages), 64)
        # Each reactor has its own pool: two upstream connections served all.
        self.assertEqual(sink.sessions, 2)


    def test_any_amount_of_receive_memory(self):
        """The kernel wants a power of two; the operator need not."""
        for receive_memory in ("1MiB", "1100KiB", "65MiB"):
            with self.subTest(receive_memory):
                sink = self.sink()
                proxy = self.ringmx([sink], server={"receive_memory": receive_memory, "session_memory": "64KiB"})
                for n in range(2):
                    with proxy.client() as client:
                        client.ehlo()
                        client.deliver(b"x" * 1024 * 1024 + b"\r\n")
                        client.quit()
                self.assertEqual(len(sink.messages), 2)

    def test_whoever_read_standard_error_has_gone(self):
        """SIGPIPE must not end it: least of all while it drains."""
        sink = self.sink()
        proxy = self.ringmx([sink])
        proxy.stop()
        read, write = os.pipe()
        daemon = subprocess.Popen(proxy.command, stderr=write, stdin=subprocess.DEVNULL)
        self.addCleanup(daemon.kill)
        os.close(write)
        with open(read) as errors:
            while errors.readline() != "ready\n":
                pass
        client = proxy.client()
        daemon.send_signal(signal.SIGHUP)  # says something
        daemon.send_signal(signal.SIGTERM)
        client.expect(421)
        client.expect_close()
        client.close()
        self.assertEqual(daemon.wait(harness.PATIENCE), 0)


class Sockets(harness.TestCase):
    CONTENT = b"Subject: x\r\n\r\n.\r\n..\r\n"

    def deliver(self, proxy, sink):
        for _ in range(2):
            with proxy.client() as client:
                client.ehlo()
                client.deliver(self.CONTENT)
                client.quit()
        self.assertEqual([message.content for message in sink.messages], 2 * [self.CONTENT])
        self.assertEqual(sink.sessions, 1)

    def test_unix_socket_upstream(self):
        sink = self.sink(address=f"unix:{harness.temporary_directory()}/mta.sock")
        self.deliver(self.ringmx([sink]), sink)

    def test_ipv6(self):
        sink = self.sink(address=harness.free_ipv6_address())
        self.deliver(self.ringmx([sink], listeners=[{"address": harness.free_ipv6_address()}]), sink)

    def test_the_upstream_comes_later(self):
        address = harness.free_address()
        proxy = self.ringmx([address])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test>", 250)
            client.command("RCPT TO:<recipient@example.test>", 451)
            client.command("RSET", 250)
            sink = self.sink(address=address)
            client.deliver(self.CONTENT)
        self.assertEqual(len(sink.messages), 1)


class Drain(harness.TestCase):
    def test_idle_sessions_get_421(self):
        proxy = self.ringmx([self.sink()])
        clients = [proxy.client() for _ in range(10)]
        for client in clients:
            self.addCleanup(client.close)
        for client in clients[5:]:
            client.ehlo()
        proxy.signal(signal.SIGTERM)
        for client in clients:
            client.expect(421)
            client.expect_close()
            client.close()
        self.assertEqual(proxy.wait(5), 0)

    def test_with_nobody_there_it_ends_at_once(self):
        proxy = self.ringmx([self.sink()])
        proxy.signal(signal.SIGTERM)
        self.assertEqual(proxy.wait(5), 0)

    def test_an_idle_upstream_connection_gets_quit(self):
        sink = self.sink()
        proxy = self.ringmx([sink])
        with proxy.client() as client:
            client.ehlo()
            client.deliver()
            client.quit()
        proxy.signal(signal.SIGTERM)
        self.assertEqual(proxy.wait(5), 0)
        harness.eventually(lambda: sink.commands[1][-1] == b"QUIT", "QUIT to the upstream")

    def test_running_transactions_finish(self):
        sink = self.sink()
        proxy = self.ringmx([sink])
        idle, asked, sending = proxy.client(), proxy.client(), proxy.client()
        for client in (idle, asked, sending):
            self.addCleanup(client.close)
            client.ehlo()
        asked.begin()
        sending.begin()
        sending.command("DATA", 354)
        sending.send(b"first\r\n")
        proxy.signal(signal.SIGTERM)
        idle.expect(421)  # so the drain has begun
        with self.assertRaises((harness.Closed, ConnectionError, AssertionError)):
            Client(proxy.address()).close()  # no new sessions
        sending.send(b"second\r\n.\r\n")
        sending.expect(250)
        sending.expect(421)
        sending.expect_close()
        asked.command("DATA", 354)
        asked.send(b"x\r\n.\r\n")
        asked.expect(250)
        asked.expect(421)
        asked.expect_close()
        for client in (idle, asked, sending):
            client.close()
        self.assertEqual(proxy.wait(5), 0)
        self.assertEqual([message.content for message in sink.messages], [b"first\r\nsecond\r\n", b"x\r\n"])

    def test_a_transaction_that_is_given_up_ends_the_session(self):
        for command in ("RSET", "EHLO again", "HELO again"):
            with self.subTest(command):
                proxy = self.ringmx([self.sink()])
                with proxy.client() as idle, proxy.client() as client:
                    client.ehlo()
                    client.begin()
                    proxy.signal(signal.SIGTERM)
                    idle.expect(421)  # so the drain has begun
                    client.command(command, 250)
                    client.expect(421)
                    client.expect_close()
                self.assertEqual(proxy.wait(5), 0)

    def test_an_upstream_connection_that_nobody_waits_for(self):
        upstream = self.upstream({"greeting": harness.is_silent})
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\n")
            client.expect(250)
            harness.eventually(lambda: upstream.connections, "a connection to the upstream")
            client.reset()
        harness.eventually(
            lambda: proxy.metrics().total("ringmx_upstream_connections_current", state="connecting") == 0,
            "the connection to be given up")
        proxy.signal(signal.SIGTERM)
        self.assertEqual(proxy.wait(5), 0)

    def test_the_deadline_ends_the_rest(self):
        sink = self.sink()
        proxy = self.ringmx([sink], server={"drain_timeout": harness.duration(0.5)})
        clients = [proxy.client() for _ in range(2)]
        for client in clients:
            self.addCleanup(client.close)
            client.ehlo()
            client.begin()
        clients[0].command("DATA", 354)
        clients[0].send(b"never ends\r\n")
        proxy.signal(signal.SIGTERM)
        for client in clients:
            client.expect(421)
            client.expect_close()
        self.assertEqual(proxy.wait(5), 0)
        self.assertEqual((sink.messages, sink.refused), ([], []))

    def test_readyz_says_503(self):
        proxy = self.ringmx([self.sink()])
        self.assertEqual(harness.http_get(proxy.metrics_address, "/healthz")[0], 200)
        self.assertEqual(harness.http_get(proxy.metrics_address, "/readyz")[0], 200)
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            proxy.signal(signal.SIGTERM)
            harness.eventually(lambda: harness.http_get(proxy.metrics_address, "/readyz")[0] == 503, "503")
            self.assertEqual(harness.http_get(proxy.metrics_address, "/healthz")[0], 200)
            self.assertGreaterEqual(proxy.metrics().total("ringmx_draining"), 1)
            client.command("QUIT", 221)
        self.assertEqual(proxy.wait(5), 0)

    def test_under_load(self):
        """Nothing that a client was told is accepted gets lost."""
        sink = self.sink()
        proxy = self.ringmx([sink])
        told = []

        def deliver():
            with contextlib.suppress(AssertionError, ConnectionError):  # 421, or closed
                while True:
                    with proxy.client() as client:
                        client.ehlo()
                        client.deliver()
                        told.append(1)

        threads = [threading.Thread(target=deliver) for _ in range(8)]
        for thread in threads:
            thread.start()
        sink.wait_for(100)
        proxy.signal(signal.SIGTERM)
        self.assertEqual(proxy.wait(10), 0)
        for thread in threads:
            thread.join()
        self.assertEqual(len(told), len(sink.messages))


class MetricsPage(harness.TestCase):
    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_])
        with self.proxy.client() as client:
            client.ehlo()
            client.deliver()
            client.command("NONSENSE", 500)
            client.quit()

    def test_content(self):
        metrics = self.proxy.metrics()
        for name, labels, value in (
                ("ringmx_connections_accepted_total", {"listener": "mx0"}, 1),
                ("ringmx_messages_total", {"result": "accepted"}, 1),
                ("ringmx_commands_total", {"verb": "mail"}, 1),
                ("ringmx_commands_total", {"verb": "unknown"}, 1),
                ("ringmx_protocol_violations_total", {"type": "unknown_command"}, 1),
                ("ringmx_upstream_replies_total", {"upstream": "mta0", "stage": "message", "class": "2xx"}, 1),
                ("ringmx_build_info", {}, 1)):
            self.assertEqual(metrics.total(name, **labels), value, name)
        for name in ("process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total",
                     "process_start_time_seconds"):
            self.assertGreater(metrics.total(name), 0, name)
        harness.eventually(lambda: self.proxy.metrics().total("ringmx_connections_current") == 0, "the end")
        self.assertEqual(self.proxy.metrics().total("ringmx_connections_closed_total", reason="quit"), 1)

    def test_formats(self):
        status, headers, body = harness.http_get(self.proxy.metrics_address, "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"), headers)
        self.assertNotIn(b"# EOF", body)
        status, headers, body = harness.http_get(self.proxy.metrics_address, "/metrics",
                                                 {"Accept": "application/openmetrics-text;version=1.0.0"})
        self.assertTrue(headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0"), headers)
        self.assertTrue(body.endswith(b"# EOF\n"))
        self.assertEqual(harness.http_get(self.proxy.metrics_address, "/nonsense")[0], 404)

    def test_what_is_no_http_hurts_nobody(self):
        for octets in (b"\r\n\r\n", b"GET\r\n\r\n", b"\0" * 1000 + b"\r\n\r\n", b"GET /" + b"x" * 100_000,
                       b"EHLO x\r\n"):
            with Client(self.proxy.metrics_address, greeting=False) as client:
                with contextlib.suppress(ConnectionError):
                    client.send(octets)
                    client.half_close()
                    while client._receive():
                        pass
        self.proxy.metrics()

    def test_promtool(self):
        promtool = harness.program("promtool")
        page = harness.temporary_directory() / "page"
        page.write_bytes(harness.http_get(self.proxy.metrics_address, "/metrics")[2])
        with open(page, "rb") as opened:
            status, output, errors = harness.run([promtool, "check", "metrics"], stdin=opened)
        self.assertEqual((status, output, errors), (0, "", ""))

    def test_prometheus(self):
        prometheus = harness.program("prometheus")
        directory = harness.temporary_directory()
        config = directory / "prometheus.yml"
        config.write_text("global: {scrape_interval: 1s}\n"
                          "scrape_configs:\n"
                          "  - job_name: ringmx\n"
                          f"    static_configs: [{{targets: ['{self.proxy.metrics_address}']}}]\n")
        address = harness.free_address()
        server = self.process([prometheus, f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
                               f"--web.listen-address={address}", "--log.level=warn"])
        server.wait_for_listener(address)

        def values(expression):
            query = urllib.parse.urlencode({"query": expression})
            status, _, body = harness.http_get(address, f"/api/v1/query?{query}")
            return [one["value"][1] for one in json.loads(body)["data"]["result"]] if status == 200 else []

        harness.eventually(lambda: values("up") == ["1"], "Prometheus to see ringmx up", 30)
        harness.eventually(lambda: values('ringmx_messages_total{result="accepted"}') == ["1"], "the message", 30)


if __name__ == "__main__":
    harness.main()
