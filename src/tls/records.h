// SPDX-License-Identifier: GPL-3.0-or-later
// Records in user space, where the kernel does not do them: a connection after its handshake. It needs no
// memory but its keys (and 16 KiB while a record has come in part), and allocates nothing per record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "tls/alert.h"
#include "tls/control.h"
#include "tls/record_keys.h"

namespace ringmx::tls {

class Records {
 public:
  static constexpr std::size_t max_plain = 16384;          // octets of one record
  static constexpr std::size_t max_overhead = 5 + 8 + 17;  // what protection adds to one, at most

  Records(const SessionKeys& keys, Role role, std::unique_ptr<TicketTaker> tickets = nullptr);
  ~Records();
  Records(Records&&) noexcept;
  Records& operator=(Records&&) noexcept;

  enum class Event : std::uint8_t {
    want_input,  // nothing more can be made of what came
    data,
    closed,  // close_notify: the peer sends no more. An end of the stream without it is a truncation
    failed,  // `failure` says why; if it is ours, seal_alert(failure) is the last thing to send
  };
  struct Opened {
    Event event;
    std::string_view data;  // valid until the next call, and as long as `wire`'s octets
    Alert failure = Alert::none;
    bool from_peer = false;  // the peer's alert, not ours
  };
  // Takes records off the front of `wire` until there is something to say. They are decrypted where they
  // stand (so `data` lies in what `wire` pointed to), but for one that came in pieces. What KeyUpdates need
  // is done inside, and tickets are handed over. Call it again until it says want_input.
  Opened open(std::span<char>& wire);

  // The octets that a call of seal() with so many needs.
  std::size_t sealed_size(std::size_t plain) const;
  struct Sealed {
    std::size_t taken;    // of the pieces, put together
    std::size_t written;  // to `out`
  };
  // Writes records, full ones as long as there is enough, with as much of the pieces as `out` has room for:
  // all, if that is sealed_size() octets. A KeyUpdate that the peer has asked for goes first.
  Sealed seal(std::span<const std::string_view> pieces, std::span<char> out);
  // Writes an alert record; Alert::close_notify says that we send no more. `out` has 2 + max_overhead octets
  // and, because a KeyUpdate may be due before, 5 + max_overhead more.
  std::size_t seal_alert(Alert alert, std::span<char> out);
  static constexpr std::size_t alert_size = 2 + 5 + 2 * max_overhead;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace ringmx::tls
