// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/control.h"

#include <algorithm>
#include <utility>

namespace ringmx::tls {
namespace {

// A peer needs a handful: tickets at the beginning, a KeyUpdate each some hundred gigabytes.
constexpr std::uint8_t max_control_records = 64;
// Those that carry a client's certificate have a few thousand octets.
constexpr std::uint32_t max_ticket = 16000;

enum Message : std::uint8_t { new_session_ticket = 4, key_update = 24 };

Control error(Alert alert) {
  return {Control::Kind::error, alert};
}

bool is_warning(Alert alert) {
  return alert == Alert::close_notify || alert == Alert::user_canceled || alert == Alert::no_renegotiation;
}

}  // namespace

std::array<char, 2> alert_content(Alert alert) {
  return {is_warning(alert) ? '\1' : '\2', static_cast<char>(alert)};
}

Control ControlReader::read(RecordType type, std::string_view content) {
  if (++control_records_ > max_control_records) return error(Alert::unexpected_message);
  switch (type) {
    case RecordType::alert:
      return read_alert(content);
    case RecordType::handshake:
      return read_handshake(content);
    default:
      return error(Alert::unexpected_message);
  }
}

Control ControlReader::read_alert(std::string_view content) {
  if (content.size() != 2) return error(Alert::decode_error);
  switch (const Alert alert{static_cast<std::uint8_t>(content[1])}) {
    case Alert::close_notify:
      return {Control::Kind::close_notify, alert};
    case Alert::user_canceled:
      return {};  // close_notify follows
    default:
      return {Control::Kind::alert, alert};
  }
}

Control ControlReader::read_handshake(std::string_view content) {
  // In TLS 1.2 only a renegotiation begins so.
  if (version_ == Version::tls12) return error(Alert::no_renegotiation);
  if (content.empty()) return error(Alert::unexpected_message);
  while (!content.empty()) {
    if (skip_ > 0) {
      const std::size_t skipped = std::min<std::size_t>(skip_, content.size());
      skip_ -= static_cast<std::uint32_t>(skipped);
      if (tickets_ != nullptr && !tickets_->message_.empty()) gather_ticket(content.substr(0, skipped));
      content.remove_prefix(skipped);
      continue;
    }
    message_[begun_++] = content.front();
    content.remove_prefix(1);
    if (begun_ < 4) continue;
    if (begun_ == 5) {
      begun_ = 0;
      // The keys change here: nothing may follow in the record.
      if (!content.empty()) return error(Alert::unexpected_message);
      if (message_[4] == 0) return {Control::Kind::key_update, Alert::none};
      if (message_[4] == 1) return {Control::Kind::key_update_requested, Alert::none};
      return error(Alert::illegal_parameter);
    }
    const auto octet = [this](std::size_t i) {
      return static_cast<std::uint32_t>(static_cast<std::uint8_t>(message_[i]));
    };
    const std::uint32_t size = octet(1) << 16 | octet(2) << 8 | octet(3);
    if (octet(0) == new_session_ticket && role_ == Role::client) {
      skip_ = size;
      begun_ = 0;
      // One that is too long is read and forgotten, as all are of a client that wants none.
      if (tickets_ != nullptr && size <= max_ticket) gather_ticket({message_.data(), 4});
    } else if (octet(0) != key_update) {
      return error(Alert::unexpected_message);
    } else if (size != 1) {
      return error(Alert::decode_error);
    }
  }
  return {};
}

void ControlReader::gather_ticket(std::string_view octets) {
  tickets_->message_ += octets;
  if (skip_ == 0 && tickets_->take(std::exchange(tickets_->message_, {}))) tickets_.reset();
}

}  // namespace ringmx::tls
