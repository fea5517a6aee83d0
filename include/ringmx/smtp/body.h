// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

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
// Behind a bare LF a dot is message data, not the client's stuffing, and so is a dot at the start of
// a line that a bare LF ends ("CRLF . LF": never the end of data).
//
// What to do about a fault, pass on the mended bytes or refuse the message, is the caller's
// business: faults() says what has been seen so far.
//
// The filter never copies: it hands out pieces of its input, and constant text to go between them;
// at most input.size() + 1 pieces per call, and one for clean data (towards Framing::octets, one
// more for each stuffed dot).
// It holds back at most one byte, a CR whose successor has not come yet, so that the caller may
// stop at any boundary without having sent a bare CR. So what one call hands out may be one byte
// shorter or longer than its input even if nothing was mended.
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
  // Octets of message handed out so far, as RFC 1870 counts them: line ends as CRLF, after dots are
  // unstuffed, without the end of data.
  [[nodiscard]] std::uint64_t message_size() const noexcept { return size_; }

 private:
  // What the bytes so far end with, as far as the next one cares.
  enum class After : std::uint8_t {
    other,
    line,     // the start of the message or CRLF
    bare_lf,  // a bare LF of Framing::dot input: a line starts for the upstream, but the client has
              // not stuffed its dot
    cr,
    dot,     // Framing::dot input: a dot at the start of a line
    dot_cr,  // and a CR
  };

  // The part of the input between `done` and the byte at hand is still to be handed out.
  template <class Sink>
  struct Pass {
    std::string_view input;
    Sink& sink;
    std::size_t done = 0;
  };

  template <class Sink>
  void flush(Pass<Sink>& pass, std::size_t end);
  template <class Sink>
  void text(Sink& sink, std::string_view constant);
  template <class Sink>
  void replace(Pass<Sink>& pass, std::size_t at, std::string_view constant);
  template <class Sink>
  void step(Pass<Sink>& pass, std::size_t at);

  [[nodiscard]] bool cr_pending() const noexcept { return after_ == After::cr || after_ == After::dot_cr; }
  // The last byte so far, as find_mark() wants it.
  [[nodiscard]] char last_byte() const noexcept {
    return cr_pending() ? '\r' : after_ == After::line || after_ == After::bare_lf ? '\n' : 'x';
  }

  std::uint64_t size_ = 0;
  Framing from_;
  Framing to_;
  After after_ = After::line;
  bool ended_ = false;
  BodyFaults faults_;
};

template <class Sink>
std::size_t BodyFilter::feed(std::string_view input, Sink&& sink) {
  if (input.empty()) return 0;

  if (cr_pending()) {  // held back by the last call, so step() can't find it in `input`
    if (input[0] != '\n') {
      faults_.bare_cr = true;
      text(sink, " ");
      after_ = After::other;
    } else if (after_ == After::cr || to_ == Framing::dot) {
      text(sink, "\r");
    }
  }

  Pass<std::remove_reference_t<Sink>> pass{input, sink};
  std::size_t i = 0;
  while (i < input.size() && !ended_) {
    // Marks come alone or in runs; within a run the kernel is not worth its call. A CR or LF behind
    // a dot that may be the end of data is no mark, but has to be looked at all the same.
    if (after_ == After::dot || after_ == After::dot_cr || is_mark(last_byte(), input[i])) {
      step(pass, i++);
      continue;
    }
    i += find_mark(input.substr(i), last_byte());
    const char last = input[i - 1];
    after_ = last == '\r' ? After::cr : last == '\n' ? After::line : After::other;
  }
  // An end of data towards octets has handed out all it had to: `done` is at its end.
  flush(pass, cr_pending() ? i - 1 : i);
  return i;
}

template <class Sink>
void BodyFilter::finish(Sink&& sink) {
  assert(from_ == Framing::octets);
  if (ended_) return;
  if (cr_pending()) {
    faults_.bare_cr = true;
    text(sink, " ");
    after_ = After::other;
  }
  if (to_ == Framing::dot) {
    if (after_ == After::other) text(sink, "\r\n");
    sink.text(".\r\n");
  }
  ended_ = true;
}

// Hands out the input up to `end`.
template <class Sink>
void BodyFilter::flush(Pass<Sink>& pass, std::size_t end) {
  if (end <= pass.done) return;
  pass.sink.slice(pass.input.substr(pass.done, end - pass.done));
  size_ += end - pass.done;
  pass.done = end;
}

template <class Sink>
void BodyFilter::text(Sink& sink, std::string_view constant) {
  sink.text(constant);
  size_ += constant.size();
}

// Hands out `constant`, which may be empty, in place of the byte at `at`.
template <class Sink>
void BodyFilter::replace(Pass<Sink>& pass, std::size_t at, std::string_view constant) {
  flush(pass, at);
  if (!constant.empty()) text(pass.sink, constant);
  pass.done = at + 1;
}

// The whole rule, byte by byte.
template <class Sink>
void BodyFilter::step(Pass<Sink>& pass, std::size_t at) {
  const char c = pass.input[at];
  if (cr_pending() && c != '\n') {
    faults_.bare_cr = true;
    replace(pass, at - 1, " ");
    after_ = After::other;
  }
  switch (c) {
    case '\r':
      after_ = after_ == After::dot ? After::dot_cr : After::cr;
      return;
    case '\n':
      if (after_ == After::cr) {
        after_ = After::line;
      } else if (after_ == After::dot_cr) {
        after_ = After::line;
        ended_ = true;
        if (to_ == Framing::dot) {
          size_ -= 2;  // CRLF of the end of data; its dot is not in size_ either
        } else {
          pass.done = at + 1;
        }
      } else {
        faults_.bare_lf = true;
        // The dot alone on such a line is no stuffing: dropped, or passed on as it came, it would
        // leave an empty line or an end of data. It stays as what it is, a line of one dot.
        replace(pass, at, after_ == After::dot ? ".\r\n" : "\r\n");
        after_ = from_ == Framing::dot ? After::bare_lf : After::line;
      }
      return;
    case '\0':
      faults_.nul = true;
      replace(pass, at, " ");
      break;
    case '.':
      if (after_ == After::line && from_ == Framing::dot) {
        if (to_ == Framing::dot) {
          --size_;
        } else {
          replace(pass, at, "");
        }
        after_ = After::dot;
        return;
      }
      if ((after_ == After::line || after_ == After::bare_lf) && to_ == Framing::dot) {
        replace(pass, at, "..");
        --size_;
      }
      break;
    default:
      break;
  }
  after_ = After::other;
}

}  // namespace ringmx::smtp
