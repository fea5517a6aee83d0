# SPDX-License-Identifier: GPL-3.0-or-later
"""A random walk: many sessions at once, upstreams that fail at random stages, clients that pipeline,
split their bytes, half-close and vanish. What must hold of every run:

    each command gets one reply, in order, or the connection is closed;
    250 behind the end of data if, and only if, the upstream took that message: once, whole and as it
        was sent; without the 250 it may have been taken only where nobody could tell the client;
    nothing waits for ever;
    at the end ringmx lives, and every gauge is back at zero.

The plan of each session and of each upstream connection comes from the seed, which is printed; how
they interleave does not. RINGMX_MODEL_SEED repeats one, RINGMX_MODEL_SECONDS walks longer.
"""

import asyncio
import collections
import contextlib
import logging
import os
import random
import re
import socket
import struct
import time

import harness

SEED = os.environ.get("RINGMX_MODEL_SEED") or str(random.SystemRandom().randrange(10**9))
SECONDS = float(os.environ.get("RINGMX_MODEL_SECONDS", "8"))
SESSIONS = 48  # at the same time
PATIENCE = {key: harness.duration(1)
            for key in ("connect_timeout", "greeting_timeout", "command_timeout", "data_timeout", "send_timeout",
                        "message_timeout")}
IDENTITY = re.compile(rb"Id: (\d+)\r\n")
# Markers: each reply says which command it answers.
MARKERS = {b"VRFY someone": 252, b"HELP": 214, b"NOOP": 250, b"NONSENSE": 500, b"EXPN list": 502}


def reset(writer):
    with contextlib.suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Over(Exception):
    """The connection is over, and may be."""


# ------------------------------------------------------------------------------------- upstreams

class Upstream:
    """An SMTP server that keeps to the protocol until the dice say otherwise."""

    def __init__(self, name, extensions, faults, failures):
        self.name = name
        self.failures = failures
        self.extensions = extensions
        self.faults = faults  # the probability of one, at each stage
        self.address = harness.free_address()
        self.taken = collections.defaultdict(list)  # identity: contents
        self.untold = set()  # taken, and the 250 may not have come through
        self.connections = 0
        self.seen = collections.Counter()  # (stage, fault)

    async def start(self):
        host, _, port = self.address.rpartition(":")
        self.server = await asyncio.start_server(self.serve, host, int(port), backlog=1024)

    async def serve(self, reader, writer):
        self.connections += 1
        dice = random.Random(f"{SEED}/{self.name}/{self.connections}")
        try:
            await UpstreamSession(self, reader, writer, dice).run()
        except (OSError, EOFError, Over, asyncio.CancelledError):
            pass
        except AssertionError as error:
            self.failures.append(f"{self.name}: {error}")
        finally:
            writer.close()


class UpstreamSession:
    def __init__(self, upstream, reader, writer, dice):
        self.upstream, self.reader, self.writer, self.dice = upstream, reader, writer, dice
        self.input = bytearray()
        self.reset()

    def reset(self):
        self.sender, self.recipients, self.chunks = None, 0, None

    async def more(self):
        octets = await self.reader.read(self.dice.choice((100, 5000, 1 << 20)))
        if not octets:
            raise EOFError
        self.input += octets

    async def until(self, end):
        searched = 0
        while (at := self.input.find(end, max(0, searched - len(end) + 1))) < 0:
            searched = len(self.input)
            await self.more()
        octets = bytes(self.input[:at])
        del self.input[:at + len(end)]
        return octets

    async def octets(self, size):
        while len(self.input) < size:
            await self.more()
        octets = bytes(self.input[:size])
        del self.input[:size]
        return octets

    async def send(self, octets):
        if self.dice.random() < 0.1:  # torn
            for n in range(0, len(octets), 3):
                self.writer.write(octets[n:n + 3])
                await asyncio.sleep(0)
        else:
            self.writer.write(octets)
        await self.writer.drain()

    def fault(self, stage, *special):
        """What goes wrong here, or None."""
        if self.dice.random() >= self.upstream.faults:
            return None
        fault = self.dice.choice(("close", "reset", "421", "421 stays", "late", "late", "4xx", "4xx", "5xx", "5xx",
                                  "garbage", "half", "many lines", "many lines", *special))
        if fault in ("half", "garbage") and self.dice.random() < 0.2:
            fault = "silent"
        self.upstream.seen[stage, fault] += 1
        return fault

    async def answer(self, stage, text, tag=b"", *special):
        """Replies `text`, or has an accident. Whether it was positive."""
        if self.input and b"PIPELINING" not in self.upstream.extensions:
            raise AssertionError(f"did not wait for the reply to {stage}: {bytes(self.input[:80])}")
        fault = self.fault(stage, *special)
        if fault == "close":
            raise Over
        if fault == "reset":
            reset(self.writer)
            raise Over
        if fault == "silent":
            while True:
                await self.more()
                self.input.clear()
        if fault in ("421", "421 stays"):
            await self.send(b"421 4.3.2 Going down " + tag + b"\r\n")
            if fault == "421":
                raise Over
            return False
        if fault == "late":
            await asyncio.sleep(self.dice.uniform(0, 0.05))
        if fault in ("4xx", "5xx"):
            await self.send(b"%d%s %s\r\n" % (450 if fault == "4xx" else 550, b" no", tag))
            return False
        if fault == "garbage":
            await self.send(self.dice.choice((b"what?\r\n", b"250 a\nb\r\n", b"250-a\r\n251 b\r\n", b"999 x\r\n")))
            return False
        if fault == "half":
            await self.send(text[:4])
            raise Over
        if fault == "many lines":
            await self.send(b"".join(b"%s-line %d\r\n" % (text[:3], n) for n in range(self.dice.choice((1, 5, 200)))))
        if fault == "twice":  # at once: later, it could not be told from the answer to the next command
            self.writer.write(2 * (text + tag + b"\r\n"))
        else:
            await self.send(text + tag + b"\r\n")
        return True

    async def run(self):
        await self.answer("greeting", b"220 upstream ESMTP ")
        while True:
            line = await self.until(b"\r\n")
            verb, _, argument = line.partition(b" ")
            tag = b"".join(re.findall(rb"<([^@>]*)", argument))
            if verb == b"EHLO":
                self.reset()
                lines = [b"upstream", *self.upstream.extensions]
                await self.answer("ehlo", b"".join(b"250-%s\r\n" % one for one in lines[:-1]) + b"250 " + lines[-1])
            elif verb == b"HELO":
                await self.answer("helo", b"250 upstream ")
            elif verb == b"MAIL":
                ok = self.sender is None and await self.answer("mail", b"250 2.1.0 ", tag)
                self.sender = tag if ok else None
            elif verb == b"RCPT":
                if self.sender is None:
                    await self.send(b"503 5.5.1 MAIL first\r\n")
                elif await self.answer("rcpt", b"250 2.1.5 ", tag):
                    self.recipients += 1
            elif verb == b"DATA":
                if self.sender is None or not self.recipients:
                    await self.send(b"503 5.5.1 RCPT first\r\n")
                elif await self.answer("data", b"354 Go ahead "):
                    await self.data()
            elif verb == b"BDAT" and b"CHUNKING" in self.upstream.extensions:
                await self.bdat(argument)
            elif verb == b"RSET":
                self.reset()
                await self.answer("rset", b"250 2.0.0 Ok ")
            elif verb == b"QUIT":
                await self.answer("quit", b"221 2.0.0 Bye ")
                return
            else:
                raise AssertionError(f"{self.upstream.name} was told {line!r}")

    async def interrupt(self):
        """In the middle of a message."""
        if self.dice.random() >= self.upstream.faults:
            return
        fault = self.dice.choice(("close", "reset", "stall", "stall", "refuse", "refuse and close"))
        self.upstream.seen["body", fault] += 1
        if fault == "reset":
            reset(self.writer)
        if fault == "stall":
            return await asyncio.sleep(self.dice.choice((0.01, 0.3)))
        if fault.startswith("refuse"):
            await self.send(b"552 5.3.4 Enough\r\n")
        if fault == "refuse":  # this body is nobody's any more
            while True:
                await self.more()
                self.input.clear()
        raise Over

    async def data(self):
        self.input[:0] = b"\r\n"
        while b"\r\n.\r\n" not in self.input and len(self.input) < 3:
            await self.more()
        await self.interrupt()
        content = (await self.until(b"\r\n.\r\n") + b"\r\n").replace(b"\r\n.", b"\r\n")[2:]
        await self.message(content)

    async def bdat(self, argument):
        words = argument.split()
        octets = await self.octets(int(words[0]))
        if self.sender is None or not self.recipients:
            return await self.send(b"503 5.5.1 RCPT first\r\n")
        self.chunks = (self.chunks or b"") + octets
        if words[1:]:
            await self.message(self.chunks)
        elif not await self.answer("chunk", b"250 2.0.0 octets "):
            self.reset()

    async def message(self, content):
        identity = IDENTITY.match(content)[1]
        # Nobody knows whether a reply arrives, so it is in the books first.
        taken = self.upstream.taken[identity]
        taken.append(content)
        self.upstream.untold.add(identity)
        self.reset()
        if not await self.answer("message", b"250 2.0.0 ", b"id" + identity, "twice"):
            taken.remove(content)  # it said so
        self.upstream.untold.discard(identity)


# ------------------------------------------------------------------------------------- clients

class Session:
    def __init__(self, walk, number):
        self.walk, self.number = walk, number
        self.dice = random.Random(f"{SEED}/client/{number}")
        self.input = b""
        self.trace = []
        self.cut_off = False  # it may be, as it does not wait

    async def run(self):
        address = self.dice.choice(self.walk.listeners)
        host, _, port = address.rpartition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port), limit=1 << 22)
        try:
            await self.session()
        except Over:
            pass
        except TimeoutError:
            raise AssertionError("no reply")
        except OSError as error:
            assert self.cut_off, f"lost: {error!r}"
        finally:
            reset(self.writer)

    async def session(self):
        await self.expect(220)
        await self.send(b"EHLO client\r\n")
        self.chunking = b"CHUNKING" in await self.expect(250)
        for _ in range(self.dice.randint(1, 4)):
            transaction = self.dice.choice((self.lock_step, self.pipelined, self.pipelined, self.in_chunks,
                                            self.in_chunks, self.given_up, self.markers, self.blind))
            self.trace.append(transaction.__name__)
            await transaction()
        end = self.dice.choice(("quit", "quit and half-close", "half-close", "close"))
        self.trace.append(end)
        if end == "close":
            raise Over
        if end.startswith("quit"):
            await self.send(b"QUIT\r\n")
        if end.endswith("half-close"):
            self.writer.write_eof()
        if end.startswith("quit"):
            await self.expect(221)
        await self.expect_end()

    # Octets.

    async def send(self, octets):
        if self.dice.random() < 0.03:
            keep = octets[:self.dice.randint(0, len(octets))]
            self.trace.append(f"vanish after {len(keep)} of {len(octets)} octets")
            self.writer.write(keep)
            if self.dice.random() < 0.5:
                reset(self.writer)
            raise Over
        pieces = self.dice.choice((1, 1, 1, 2, 7))
        cuts = sorted(self.dice.randrange(len(octets) + 1) for _ in range(pieces - 1))
        for start, end in zip([0, *cuts], [*cuts, len(octets)]):
            self.writer.write(octets[start:end])
            await asyncio.sleep(self.dice.choice((0, 0, 0.001)))
        # Not awaited to drain: replies must be read meanwhile, or both sides wait for each other.

    async def reply(self):
        while not (found := harness.Client.REPLY.match(self.input)):
            octets = await asyncio.wait_for(self.reader.read(1 << 16), harness.PATIENCE)
            if not octets:
                return None
            self.input += octets
        self.input = self.input[found.end():]
        self.trace.append(found[0][:60])
        return found[0]

    async def expect(self, *codes):
        reply = await self.reply()
        assert reply, f"closed, expected {codes}"
        assert int(reply[:3]) in codes, f"expected {codes}, got {reply[:200]}"
        return reply

    async def expect_end(self):
        reply = await self.reply()
        assert reply is None and not self.input, f"expected the end, got {reply} {self.input}"

    # Transactions.

    def content(self):
        self.walk.messages += 1
        identity = b"%d" % self.walk.messages
        lines = [b"Id: " + identity, b""]
        for _ in range(self.dice.choice((0, 3, 30, 300))):
            lines.append(self.dice.choice((b".", b"..", b".x", b"", b"RSET", b"QUIT", b"x" * self.dice.randint(1, 900))))
        content = b"\r\n".join(lines) + b"\r\n"
        if self.dice.random() < 0.05:
            content += (b"y" * 1000 + b"\r\n") * self.dice.choice((500, 2000))
        self.walk.sent[identity] = content
        return identity, content

    def envelope(self):
        """Commands, and what their replies may be."""
        self.walk.tags += 1
        self.sender = b"s%d" % self.walk.tags
        commands = [b"MAIL FROM:<%s@example.test>\r\n" % self.sender]
        self.recipients = []
        for n in range(self.dice.choice((1, 1, 2, 5, 150 if self.dice.random() < 0.1 else 3))):
            self.recipients.append(b"%sr%d" % (self.sender, n))
            commands.append(b"RCPT TO:<%s@example.test>\r\n" % self.recipients[-1])
        return commands

    async def read_recipient(self, recipient):
        """Whether it was accepted."""
        reply = await self.expect(250, 450, 550, 451)
        if not reply.startswith(b"451"):  # ringmx's own
            # The upstream's word on this one, or on the sender.
            last = reply.rstrip().rpartition(b" ")[2]
            assert last in (recipient, self.sender), f"{reply} answers {recipient}"
        return reply.startswith(b"250")

    async def read_recipients(self):
        return [r for r in self.recipients if await self.read_recipient(r)]

    async def read_message(self, identity):
        reply = await self.reply()
        assert reply, "closed in place of the reply to a message"
        code = int(reply[:3])
        assert code in (250, 450, 550, 552, 451), reply
        if code == 250:
            assert reply.endswith(b" id" + identity + b"\r\n"), f"{reply} answers {identity}"
            self.walk.accepted.add(identity)
        elif b"is too slow" not in reply:
            # (Of one that took a second, on a busy machine, the answer can be on its way: RFC 5321 4.5.3.2.6.)
            self.walk.denied.add(identity)

    async def read_data(self, accepted):
        """Whether the message may come."""
        reply = await self.expect(354, 450, 550, 451, 554)
        if reply.startswith(b"354"):
            assert accepted, "354 without a recipient"
        return reply.startswith(b"354")

    async def start_over(self):
        await self.send(b"RSET\r\n")
        await self.expect(250)

    async def lock_step(self):
        identity, content = self.content()
        mail, *rcpts = self.envelope()
        await self.send(mail)
        await self.expect(250)
        accepted = []
        for recipient, rcpt in zip(self.recipients, rcpts):
            await self.send(rcpt)
            accepted += [recipient] if await self.read_recipient(recipient) else []
        await self.send(b"DATA\r\n")
        if not await self.read_data(accepted):
            return await self.start_over()
        await self.send(harness.stuffed(content) + b".\r\n")
        await self.read_message(identity)

    async def pipelined(self):
        identity, content = self.content()
        await self.send(b"".join(self.envelope()) + b"DATA\r\n")
        await self.expect(250)
        if not await self.read_data(await self.read_recipients()):
            return await self.start_over()
        marker = self.dice.choice(list(MARKERS))
        await self.send(harness.stuffed(content) + b".\r\n" + marker + b"\r\n")
        await self.read_message(identity)
        await self.expect(MARKERS[marker])

    async def in_chunks(self):
        if not self.chunking:
            return
        identity, content = self.content()
        cuts = sorted(self.dice.randrange(len(content) + 1) for _ in range(self.dice.choice((0, 0, 1, 4))))
        chunks = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)])]
        commands = [b"BDAT %d%s\r\n%s" % (len(c), b" LAST" if n + 1 == len(chunks) else b"", c)
                    for n, c in enumerate(chunks)]
        at_once = self.dice.random() < 0.5
        await self.send(b"".join(self.envelope() + (commands if at_once else [])))
        await self.expect(250)
        accepted = await self.read_recipients()
        failed = not accepted
        for n, command in enumerate(commands):
            last = n + 1 == len(commands)
            if not at_once:
                await self.send(command)
            if failed:
                await self.expect(503, 554)
            elif last:
                await self.read_message(identity)
            else:
                failed = not (await self.expect(250, 450, 550, 552, 451)).startswith(b"250")
        if failed:
            await self.start_over()

    async def given_up(self):
        await self.send(b"".join(self.envelope()) + self.dice.choice((b"RSET", b"EHLO again")) + b"\r\nHELP\r\n")
        await self.expect(250)
        await self.read_recipients()
        await self.expect(250)
        await self.expect(214)

    async def markers(self):
        chosen = [self.dice.choice(list(MARKERS)) for _ in range(self.dice.randint(1, 8))]
        await self.send(b"\r\n".join(chosen) + b"\r\n")
        for marker in chosen:
            await self.expect(MARKERS[marker])

    async def blind(self):
        """Waits for nothing, and ends its side; its message must not be taken for commands."""
        self.cut_off = True
        identity, content = self.content()
        await self.send(b"".join(self.envelope()) + b"DATA\r\n" + harness.stuffed(content) + b".\r\nHELP\r\nQUIT\r\n")
        if self.dice.random() < 0.5:
            self.writer.write_eof()
        await self.expect(250)
        accepted = await self.read_recipients()
        if await self.read_data(accepted):
            await self.read_message(identity)
            await self.expect(214)
            await self.expect(221)
        else:
            reply = await self.reply()
            assert reply is None or int(reply[:3]) in (421, 500, 554), f"{reply} behind a refused DATA"
        raise Over


# ------------------------------------------------------------------------------------- the walk

class Walk(harness.TestCase):
    async def walk(self, upstreams, proxy):
        self.listeners = [proxy.address(n) for n in range(len(proxy.listeners))]
        self.messages = self.tags = self.sessions = 0
        self.sent = {}  # identity: content
        self.accepted, self.denied = set(), set()
        deadline = time.monotonic() + SECONDS * harness.TIMEOUT_SCALE ** 0.5

        async def go_on():
            while time.monotonic() < deadline and not self.failures:
                self.sessions += 1
                session = Session(self, self.sessions)
                try:
                    await session.run()
                except AssertionError as error:
                    self.failures.append(f"session {session.number}: {error!r}; so far {session.trace[-12:]}")

        await asyncio.gather(*(go_on() for _ in range(SESSIONS)))
        if self.failures:
            self.fail("\n".join(self.failures[:5]))
        # Whoever vanished may have left a message on its way.
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, harness.eventually, lambda: self.at_rest(proxy), "ringmx to come to rest")

    def at_rest(self, proxy):
        metrics = proxy.metrics()
        return (metrics.total("ringmx_connections_current") == 0
                and metrics.total("ringmx_upstream_connections_current", state="leased") == 0
                and metrics.total("ringmx_upstream_connections_current", state="connecting") == 0)

    def test_random_walk(self):
        print(f"RINGMX_MODEL_SEED={SEED}", flush=True)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # sockets that break are what this is about
        self.failures = []
        offers = ([b"PIPELINING", b"CHUNKING", b"8BITMIME"], [b"PIPELINING"], [b"8BITMIME"], [b"CHUNKING"],
                  [b"PIPELINING", b"CHUNKING"])
        upstreams = [Upstream(f"up{n}", offer, 0.03, self.failures) for n, offer in enumerate(offers)]
        upstreams.append(Upstream("sound", offers[0], 0, self.failures))
        tables = [{"name": u.name, "address": u.address, "retry_after": harness.duration(0.2), **PATIENCE}
                  for u in upstreams]
        tables[4]["reuse"] = False
        tables[3]["max_idle"] = 2
        listeners = [{"upstreams": names, "error_limit": 10000, "junk_command_limit": 10000}
                     for names in (["up0"], ["up1"], ["up2"], ["up3"], ["up4"], ["sound", "up0"], ["up1", "up2", "up0"],
                                   ["sound", "up3"])]
        proxy = self.ringmx(tables, listeners=listeners, server={"session_memory": "64KiB", "receive_memory": "1MiB"})

        async def play():
            for upstream in upstreams:
                await upstream.start()
            await self.walk(upstreams, proxy)

        asyncio.run(play())
        self.assertIsNone(proxy.popen.poll())
        taken = collections.Counter()
        for upstream in upstreams:
            for identity, contents in upstream.taken.items():
                taken[identity] += len(contents)
                for content in contents:
                    self.assertEqual(content, self.sent[identity], "not as it was sent")
        untold = set().union(*(upstream.untold for upstream in upstreams))
        self.assertEqual([i for i, n in taken.items() if n > 1], [], "taken twice")
        self.assertEqual([i for i in self.accepted if taken[i] != 1], [], "accepted, and nobody has it")
        self.assertEqual([i for i in self.denied - untold if taken[i]], [], "denied, and taken")
        metrics = proxy.metrics()
        counted = metrics.total("ringmx_messages_total", result="accepted")
        self.assertLessEqual(len(self.accepted), counted)
        self.assertLessEqual(counted, sum(taken.values()))
        faults = sum((u.seen for u in upstreams), collections.Counter())
        print(f"{self.sessions} sessions, {len(self.accepted)} messages accepted, {len(self.denied)} denied, "
              f"{sum(faults.values())} upstream faults of {len(faults)} kinds", flush=True)
        self.assertGreater(len(self.accepted), 0)


if __name__ == "__main__":
    harness.main()
