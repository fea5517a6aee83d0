// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/options.h"

namespace ringmx::load {

std::string_view help_text() noexcept {
  return R"(ringmx-load: puts an SMTP server under load, and says how it took it.

usage: ringmx-load [OPTION]... TARGET
       TARGET is HOST:PORT, [IPV6]:PORT or unix:PATH; the port is 25 if left out,
       with --tls 465.

How much                           A run always ends; by default after 10 s.
  -n, --count N              so many messages in all
  -d, --duration TIME        for so long; what is under way then may finish
      --ramp TIME            begin slowly: sessions (with --rate, messages per second)
                             grow for so long to their full number
      --drain TIME           how long what is under way at the end may take (10s)

Sessions
  -s, --sessions N           at the same time, at most (10; with --rate 1000)
  -m, --messages N           per session (1); 0: no limit
  -k, --keep                 the same as --messages 0: sessions are kept
  -r, --rate N               open loop: N messages per second in all, on time, whatever
                             the server does, as the world's senders do. Latency counts
                             from the time a message was due, so a server that stalls
                             can't hide it. Without it, closed loop: a session sends its
                             next message when it has the reply to the last one
      --idle                 open the sessions, say EHLO, and hold them
      --source ADDRESS       connect from there; of an IPv4 network (127.1.0.0/16) each
                             session takes the next address
      --threads N            one reactor each (1); 0: one for each processor
      --allow-remote         a target that is not on this machine is refused without it.
                             Load is for servers that are yours

Protocol
  -p, --pipelining WHEN      offered: if the server offers it (default); never: lock step,
                             a command when the last is answered; always
      --bdat                 BDAT (CHUNKING) instead of DATA; the whole message in one
      --chunk SIZE           BDAT in chunks of so many octets
      --helo NAME            in EHLO (this host's name)
  -f, --from ADDRESS         in MAIL (sender@example.test); "" is the null sender
  -t, --to ADDRESS           in RCPT (recipient@example.test); may be given several times:
                             they take turns
      --recipients N         per message (1)
                             Names and addresses may hold %n, the number of the message,
                             %r, of the recipient in its message, %s, of the session;
                             %100n is %n modulo 100, %% a percent sign:
                             --to user%1000n@d%5n.example.test

TLS
      --starttls             say EHLO, STARTTLS, shake hands, and say EHLO again
      --tls                  shake hands before the greeting (implicit TLS)
      --resume               the first handshake of each thread is a full one; all others
                             wait for the server's ticket, or its first reply, and resume
                             the session if there was one
      --tls-version VERSION  1.2 or 1.3, and no other
      --ciphers LIST         best first, of aes-128-gcm, aes-256-gcm, chacha20-poly1305
      --groups LIST          best first, of X25519MLKEM768, X25519, P-256
      --sni NAME             the name to ask for (TARGET's HOST, unless it is an address),
                             and to verify
      --ca-file FILE         verify the server's certificate. Without it nothing is
                             verified: load goes to servers that are yours

Messages                           Each has its own Message-ID and Subject.
      --size SIZE            octets, header included (4KiB). Or, drawn for each message:
                               2KiB*70,20KiB*25,1MiB*5     a list with weights
                               uniform:1KiB-64KiB
                               lognormal:12KiB,1.2[,MAX]   median, sigma; MAX is 25MiB
                               mail                        a mix like that of an MX: 80%
                                   lognormal:12KiB,1.1, 20% lognormal:200KiB,1.5
      --body KIND            text (default): 76 columns, some lines begin with a dot, some
                             are a dot alone; base64: as an attachment looks
      --seed N               other sizes and texts; the same for the same N (0)

Patience and malice
      --connect-timeout TIME (10s)
      --timeout TIME         for each reply, and for each piece to be taken (60s)
      --slow BYTES           clients that send so many bytes per second
      --slow-share PERCENT   how many of the sessions are slow ones (100)

Result
      --json FILE            the report for machines; -: to standard output, and the one
                             for people to standard error
      --progress             a line per second even if standard error is no terminal
  -q, --quiet                neither progress nor report, only errors
      --tolerate PERCENT     how many messages may go unaccepted with status 0 (0)
  -h, --help, --version

SIZE: 4096, 4KiB, 1MiB. TIME: 30s, 250ms, 5m, 1h. Ctrl-C ends the run with its report; a
second one ends it without waiting for what is under way.

Exit status: 0 if every message was accepted, for all its recipients (with --idle: if every
session stood to the end); 1 if not; 2 if it could not be run.

Examples
  ringmx-load 127.0.0.1:2525                      ten sessions, one message each, for 10 s
  ringmx-load -k -s 50 -n 100000 127.0.0.1:2525   kept sessions, as fast as they go
  ringmx-load -r 500 --size mail -d 5m mx1.example.test:25 --allow-remote
                                                  500 messages per second, like real mail
  ringmx-load --idle -s 5000 --ramp 5s -d 1m 127.0.0.1:25
                                                  5000 sessions that do nothing
  ringmx-load --slow 100 -s 50 -d 1m 127.0.0.1:25 clients of 100 bytes per second
)";
}

}  // namespace ringmx::load
