// SPDX-License-Identifier: GPL-3.0-or-later
// Records that are no application data, after the handshake: what the kernel hands out with a control message
// when it does the records, and what `Records` meets.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tls/alert.h"
#include "tls/record_keys.h"

namespace ringmx::tls {

enum class RecordType : std::uint8_t {
  change_cipher_spec = 20,
  alert = 21,
  handshake = 22,
  application_data = 23
};

struct Control {
  enum class Kind : std::uint8_t {
    nothing,               // read on
    close_notify,          // the peer sends no more
    alert,                 // it gives up, and says why: `alert`
    key_update,            // the next record comes under the next keys
    key_update_requested,  // and the peer wants ours to change too, before our next data
    error,                 // close, and tell it why: `alert`
  };
  Kind kind = Kind::nothing;
  Alert alert = Alert::none;
};

// Where the NewSessionTickets of a server go.
class TicketTaker {
 public:
  virtual ~TicketTaker() = default;
  // One message, whole, with its header. True: no further one is wanted.
  virtual bool take(std::string_view message) = 0;

 private:
  friend class ControlReader;
  std::string message_;  // what has come of one
};

// One for each connection: it knows what may come, and how often.
class ControlReader {
 public:
  // `tickets`: of a client that wants them. Gone as soon as they are not wanted any more.
  ControlReader(Version version, Role role, std::unique_ptr<TicketTaker> tickets = nullptr)
      : version_(version), role_(role), tickets_(std::move(tickets)) {}
  Control read(RecordType type, std::string_view content);

 private:
  Version version_;
  Role role_;
  std::uint8_t control_records_ = 0;
  std::uint8_t begun_ = 0;       // octets in message_
  std::array<char, 5> message_;  // a handshake message's header, and the body of a KeyUpdate
  std::uint32_t skip_ = 0;       // octets left of a ticket
  std::unique_ptr<TicketTaker> tickets_;

  Control read_alert(std::string_view content);
  Control read_handshake(std::string_view content);
  void gather_ticket(std::string_view octets);
};

// What we say ourselves. close_notify, user_canceled and no_renegotiation are warnings, all others fatal.
std::array<char, 2> alert_content(Alert alert);
// KeyUpdate, update_not_requested: the answer to a request, and the last record under the old keys.
inline constexpr std::string_view key_update_content{"\x18\0\0\1\0", 5};

}  // namespace ringmx::tls
