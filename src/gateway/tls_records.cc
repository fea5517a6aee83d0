// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/tls_records.h"

#include <cerrno>
#include <utility>

#include "net/kernel_tls.h"

namespace ringmx::gateway {

namespace {

metrics::BadRecord bad_record(tls::Alert alert) noexcept {
  using metrics::BadRecord;
  switch (alert) {
    case tls::Alert::bad_record_mac:
      return BadRecord::bad_record_mac;
    case tls::Alert::record_overflow:
      return BadRecord::record_overflow;
    case tls::Alert::unexpected_message:
      return BadRecord::unexpected_message;
    case tls::Alert::illegal_parameter:
      return BadRecord::illegal_parameter;
    case tls::Alert::no_renegotiation:
      return BadRecord::no_renegotiation;
    default:
      return BadRecord::decode_error;
  }
}

}  // namespace

net::UserRecords::Opened UserTlsRecords::open(std::span<char>& wire) {
  const tls::Records::Opened opened = records_.open(wire);
  switch (opened.event) {
    case tls::Records::Event::want_input:
      break;
    case tls::Records::Event::data:
      return {Event::data, opened.data};
    case tls::Records::Event::closed:
      return {Event::end, {}};
    case tls::Records::Event::failed:
      bad_records_[opened.from_peer ? metrics::BadRecord::alert_from_peer : bad_record(opened.failure)].add();
      // To an alert of the peer's there is nothing to be said.
      last_ = opened.from_peer ? tls::Alert::close_notify : opened.failure;
      return {Event::failed, {}};
  }
  return {Event::want_input, {}};
}

net::UserRecords::Sealed UserTlsRecords::seal(std::span<const std::string_view> pieces, std::span<char> out) {
  const tls::Records::Sealed sealed = records_.seal(pieces, out);
  return {sealed.taken, sealed.written};
}

std::size_t UserTlsRecords::seal_end(std::span<char> out) {
  return records_.seal_alert(last_, out);
}

net::KernelRecords::Event KernelTlsRecords::received(std::uint8_t type, std::string_view content) {
  const tls::Control control = reader_.read(tls::RecordType{type}, content);
  switch (control.kind) {
    case tls::Control::Kind::nothing:
      return Event::none;
    case tls::Control::Kind::close_notify:
      return Event::end;
    case tls::Control::Kind::alert:
      bad_records_[metrics::BadRecord::alert_from_peer].add();
      return Event::failed;
    case tls::Control::Kind::key_update:
    case tls::Control::Kind::key_update_requested:
      if (!rekey(net::TlsDirection::receive)) return failed(tls::Alert::internal_error);
      key_update_due_ |= control.kind == tls::Control::Kind::key_update_requested;
      return Event::none;
    case tls::Control::Kind::error:
      bad_records_[bad_record(control.alert)].add();
      return failed(control.alert);
  }
  return Event::none;
}

// A kernel older than 6.14 can't.
bool KernelTlsRecords::rekey(net::TlsDirection direction) {
  const bool receiving = direction == net::TlsDirection::receive;
  const tls::RecordKeys keys = secrets_->next(receiving ? tls::Direction::receive : tls::Direction::transmit);
  const bool done = net::set_kernel_tls_keys(fd_, direction, keys.crypto_info()) == 0;
  // What the peer did is counted, not our answer.
  if (receiving || !done) key_updates_[done ? metrics::KeyUpdate::rekeyed : metrics::KeyUpdate::closed].add();
  return done;
}

net::KernelRecords::Event KernelTlsRecords::failed(tls::Alert alert) {
  last_ = alert;
  return Event::failed;
}

void KernelTlsRecords::rejected(int error) {
  last_ = error == EBADMSG    ? tls::Alert::bad_record_mac
          : error == EMSGSIZE ? tls::Alert::record_overflow
                              : tls::Alert::decode_error;
  bad_records_[bad_record(last_)].add();
}

net::KernelRecords::Record KernelTlsRecords::due() {
  if (key_update_due_ && last_ == tls::Alert::close_notify) {
    return {static_cast<std::uint8_t>(tls::RecordType::handshake), tls::key_update_content};
  }
  if (!ending_ || ended_) return {};
  last_content_ = tls::alert_content(last_);
  return {static_cast<std::uint8_t>(tls::RecordType::alert), {last_content_.data(), last_content_.size()}};
}

bool KernelTlsRecords::sent() {
  if (std::exchange(key_update_due_, false)) return rekey(net::TlsDirection::transmit);
  ended_ = true;
  return true;
}

}  // namespace ringmx::gateway
