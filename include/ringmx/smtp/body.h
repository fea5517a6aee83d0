// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ringmx/smtp/scanner.h"

namespace ringmx::smtp {

// How message bytes are delimited on one side of the relay.
enum class Framing : std::uint8_t {
  dot,     // DATA: lines, dots stuffed, ended by CRLF.CRLF (RFC 5321 4.1.1.4, 4.5.2)
  octets,  // BDAT: counted octets (RFC 3030)
};

// What a message held that SMTP does not allow in one (RFC 5321 2.3.8).
struct BodyFaults {
  bool bare_lf = false;
  bool bare_cr = false;
  bool nul = false;
};

// Translates a message, as it streams by, from the client's framing to the upstream's, and makes
// it unambiguous on the way (SECURITY: SMTP smuggling, CVE-2023-51764/5/6):
//
//   - the end of data is CRLF.CRLF and nothing else;
//   - a bare LF leaves as CRLF, and a dot behind it is stuffed (towards Framing::dot), since it now
//     stands at the start of a line;
//   - a bare CR leaves as a space, a NUL leaves as a space (never dropped: that could make a dot
//     stand at the start of a line);
//   - all else leaves as it came.
//
// What to do about a fault, pass on the mended bytes or refuse the message, is the caller's
// business: faults() says what has been seen so far.
//
// The filter never copies: it hands out pieces of its input, and constant text to go between them.
// It holds back at most one byte, a CR whose successor has not come yet, so that the caller may
// stop at any boundary without having sent a bare CR.
//
// Sink: any type with
//   void slice(std::string_view piece);   // a part of the input of this call
//   void text(std::string_view constant); // bytes with static storage duration
class BodyFilter {
 public:
  BodyFilter(Framing from, Framing to) noexcept : from_(from), to_(to) {}

  // Framing::dot input: consumes up to and including the CRLF.CRLF, and returns the number of bytes
  // of `input` consumed; ended() tells whether that was the end. Towards Framing::dot the final
  // ".CRLF" is handed out too: a caller that must not complete the message has to stop before it
  // calls, or look at ended() before it sends. Towards Framing::octets dots are unstuffed.
  // Framing::octets input: consumes everything; the caller calls finish() after the last octet.
  template <class Sink>
  std::size_t feed(std::string_view input, Sink&& sink);

  // Framing::octets input only: the last octet has been fed. Hands out what was held back and,
  // towards Framing::dot, a CRLF if the message did not end with one, and ".CRLF".
  template <class Sink>
  void finish(Sink&& sink);

  [[nodiscard]] bool ended() const noexcept { return ended_; }
  [[nodiscard]] const BodyFaults& faults() const noexcept { return faults_; }
  // Octets of message so far as RFC 1870 counts them: line ends as CRLF, after dots are unstuffed,
  // without the end of data.
  [[nodiscard]] std::uint64_t message_size() const noexcept { return size_; }

 private:
  // filled in by the implementer
  Framing from_;
  Framing to_;
  bool ended_ = false;
  BodyFaults faults_;
  std::uint64_t size_ = 0;
};

}  // namespace ringmx::smtp
