// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>

#include "load/histogram.h"
#include "ring/counter.h"
#include "ringmx/smtp/dialogue.h"

namespace ringmx::load {

// What time is measured for.
enum class Span : std::uint8_t {
  connect,   // to the connection
  greeting,  // from there to 220
  ehlo,      // (or HELO) to its reply
  starttls,
  handshake,  // TLS, from its first octet to its last
  mail,       // MAIL to its reply
  rcpt,
  data,         // DATA to 354
  bdat,         // a chunk that is not the last, to its reply
  body,         // the last octet of the message was handed to the system, to 250
  transaction,  // MAIL to 250
  message,  // open loop: due, else: taken up, to 250; with connecting and EHLO, if it was a session's first
  session,  // connecting to the reply to QUIT
};
inline constexpr std::size_t span_count = static_cast<std::size_t>(Span::session) + 1;
[[nodiscard]] std::string_view span_name(Span span) noexcept;

// Why a session ended before its time.
enum class Failure : std::uint8_t {
  refused,      // no connection: refused, unreachable
  timeout,      // nothing came, or nothing went, for too long
  closed,       // the server closed or reset the connection
  dismissed,    // the server said 421, or refused the greeting, EHLO or STARTTLS
  bad_reply,    // what came is no SMTP reply
  unsolicited,  // a reply to nothing
  no_chunking,  // BDAT was asked for, and the server does not offer it
  no_starttls,  // likewise
  tls,          // the handshake failed; or a record made no sense
  system,       // this machine: no descriptor, no port, ...
};
inline constexpr std::size_t failure_count = static_cast<std::size_t>(Failure::system) + 1;
[[nodiscard]] std::string_view failure_name(Failure failure) noexcept;

// Where: a stage of the dialogue; connecting; in a TLS handshake; or with nothing under way.
inline constexpr std::size_t connecting = smtp::stage_count;
inline constexpr std::size_t at_rest = smtp::stage_count + 1;
inline constexpr std::size_t shaking_hands = smtp::stage_count + 2;
inline constexpr std::size_t place_count = smtp::stage_count + 3;
[[nodiscard]] std::string_view place_name(std::size_t place) noexcept;

inline constexpr std::uint16_t first_code = 200;
inline constexpr std::size_t code_count = 400;

// What a TLS handshake came to. (Names are constants.)
struct TlsKind {
  std::string_view version;
  std::string_view suite;
  std::string_view group;  // empty: a resumed session of TLS 1.2
  bool resumed = false;
  auto operator<=>(const TlsKind&) const = default;
};
using TlsCounts = std::map<TlsKind, std::uint64_t>;

struct Totals {
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;     // by a reply
  std::uint64_t failed = 0;      // with its session
  std::uint64_t unfinished = 0;  // still under way when the run was cut off
  std::uint64_t missed = 0;      // open loop: due, and never begun, since no session was free
  std::uint64_t recipients_accepted = 0;
  std::uint64_t recipients_refused = 0;
  std::uint64_t octets = 0;  // of accepted messages
  std::uint64_t sessions_opened = 0;
  std::uint64_t sessions_closed = 0;
  std::uint64_t sessions_failed = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  [[nodiscard]] std::uint64_t messages() const noexcept { return accepted + refused + failed + unfinished; }
};

// What one thread counts. It alone writes; the live display reads meanwhile.
struct Statistics {
  std::array<Histogram, span_count> spans;
  std::array<std::array<ring::Counter, code_count>, smtp::stage_count> replies;
  std::array<std::array<ring::Counter, place_count>, failure_count> failures;
  ring::Counter accepted, refused, failed, unfinished, missed;
  ring::Counter recipients_accepted, recipients_refused;
  ring::Counter octets;
  ring::Counter sessions_opened, sessions_closed, sessions_failed;
  ring::Counter bytes_sent, bytes_received;
  TlsCounts tls;           // sessions; to be read when the thread has ended
  ring::Counter last_end;  // ns from the start to the end of the last message

  Histogram& span(Span s) noexcept { return spans[static_cast<std::size_t>(s)]; }
  ring::Counter& reply(smtp::Stage stage, std::uint16_t code) noexcept {
    return replies[static_cast<std::size_t>(stage)][code - first_code];
  }
  ring::Counter& failure(Failure f, std::size_t place) noexcept {
    return failures[static_cast<std::size_t>(f)][place];
  }
  void add_to(Totals& totals) const noexcept;
};

}  // namespace ringmx::load
