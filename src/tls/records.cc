// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/records.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <utility>

#include "tls/aead.h"
#include "tls/control.h"

namespace ringmx::tls {
namespace {

constexpr std::size_t header_size = 5;
// RFC 8446 5.2: the plain text, its type, padding and the tag.
constexpr std::size_t max_length = Records::max_plain + 256;
constexpr std::uint8_t max_empty_records = 32;  // in a row: they cost work and bring nothing
// RFC 8446 5.5: AES-GCM wants new keys before 2^24.5 full records.
constexpr std::uint64_t max_sealed_records = std::uint64_t{1} << 24;

unsigned octet(std::span<const char> s, std::size_t i) {
  return static_cast<unsigned char>(s[i]);
}

}  // namespace

class Records::State {
 public:
  State(const SessionKeys& keys, Role role, std::unique_ptr<TicketTaker> tickets)
      : version_(keys.receive.version()),
        control_(version_, role, std::move(tickets)),
        secrets_(keys.secrets) {
    receive_.emplace(keys.receive);
    transmit_.emplace(keys.transmit);
  }

  Opened open(std::span<char>& wire);
  std::size_t sealed_size(std::size_t plain) const {
    const std::size_t records = (plain + max_plain - 1) / max_plain;
    return plain + records * overhead() + (key_update_due_ ? key_update_content.size() + overhead() : 0);
  }
  Sealed seal(std::span<const std::string_view> pieces, std::span<char> out);
  std::size_t seal_alert(Alert alert, std::span<char> out);

 private:
  Version version_;
  std::uint8_t empty_records_ = 0;
  bool key_update_due_ = false;
  ControlReader control_;
  std::optional<TrafficSecrets> secrets_;
  std::optional<Aead> receive_;
  std::optional<Aead> transmit_;
  // A record that has come in part, from its header on; max_length + header_size octets while there is one.
  std::unique_ptr<char[]> partial_;
  std::size_t partial_size_ = 0;

  std::size_t overhead() const { return transmit_->head() + transmit_->tail(); }
  std::span<char> next_record(std::span<char>& wire, Alert& failure);
  Opened open_record(std::span<char> record);
  std::size_t seal_key_update(std::span<char> out);
  std::size_t seal_record(RecordType type, std::string_view plain, char* to) {
    if (!transmit_->seal(type, plain, to)) throw std::runtime_error("encryption failed");
    return overhead() + plain.size();
  }
};

// A whole record, or an empty span: more input is needed, or it can't be one (`failure`).
std::span<char> Records::State::next_record(std::span<char>& wire, Alert& failure) {
  const auto check = [&](std::span<const char> header) -> std::size_t {
    const std::size_t length = octet(header, 3) << 8 | octet(header, 4);
    if (octet(header, 1) != 3) failure = Alert::decode_error;
    if (length > max_length) failure = Alert::record_overflow;
    return header_size + length;
  };
  if (partial_size_ == 0) {
    if (wire.size() >= header_size) {
      const std::size_t size = check(wire);
      if (failure != Alert::none) return {};
      if (wire.size() >= size) {
        const std::span<char> record = wire.first(size);
        wire = wire.subspan(size);
        return record;
      }
    }
    if (wire.empty()) {
      partial_.reset();
      return {};
    }
    if (partial_ == nullptr) partial_ = std::make_unique_for_overwrite<char[]>(header_size + max_length);
  }
  const auto add_up_to = [&](std::size_t size) {
    const std::size_t n = std::min(size - partial_size_, wire.size());
    std::memcpy(partial_.get() + partial_size_, wire.data(), n);
    partial_size_ += n;
    wire = wire.subspan(n);
    return partial_size_ == size;
  };
  if (partial_size_ < header_size && !add_up_to(header_size)) return {};
  const std::size_t size = check({partial_.get(), header_size});
  if (failure != Alert::none || !add_up_to(size)) return {};
  partial_size_ = 0;
  return {partial_.get(), size};
}

Records::Opened Records::State::open(std::span<char>& wire) {
  for (;;) {
    Alert failure = Alert::none;
    const std::span<char> record = next_record(wire, failure);
    if (failure != Alert::none) return {Event::failed, {}, failure};
    if (record.empty()) return {Event::want_input, {}};
    const Opened opened = open_record(record);
    if (opened.event != Event::want_input) return opened;
  }
}

Records::Opened Records::State::open_record(std::span<char> record) {
  const auto fail = [](Alert alert) { return Opened{Event::failed, {}, alert}; };
  RecordType type{static_cast<std::uint8_t>(record[0])};
  if (version_ == Version::tls13 && type != RecordType::application_data)
    return fail(Alert::unexpected_message);
  std::string_view plain;
  if (!receive_->open(record.data(), record.size(), plain)) return fail(Alert::bad_record_mac);
  if (version_ == Version::tls13) {
    const std::size_t last = plain.find_last_not_of('\0');  // behind it is padding
    if (last == std::string_view::npos) return fail(Alert::unexpected_message);
    type = RecordType{static_cast<std::uint8_t>(plain[last])};
    plain = plain.substr(0, last);
  }
  if (plain.size() > max_plain) return fail(Alert::record_overflow);
  if (type == RecordType::application_data) {
    if (!plain.empty()) {
      empty_records_ = 0;
      return {Event::data, plain};
    }
    if (++empty_records_ > max_empty_records) return fail(Alert::unexpected_message);
    return {Event::want_input, {}};
  }
  const Control control = control_.read(type, plain);
  switch (control.kind) {
    case Control::Kind::nothing:
      break;
    case Control::Kind::close_notify:
      return {Event::closed, {}};
    case Control::Kind::alert:
      return {Event::failed, {}, control.alert, true};
    case Control::Kind::error:
      return fail(control.alert);
    case Control::Kind::key_update_requested:
      key_update_due_ = true;
      [[fallthrough]];
    case Control::Kind::key_update:
      receive_.emplace(secrets_->next(Direction::receive));
      break;
  }
  return {Event::want_input, {}};
}

std::size_t Records::State::seal_key_update(std::span<char> out) {
  if (!key_update_due_ || out.size() < key_update_content.size() + overhead()) return 0;
  const std::size_t written = seal_record(RecordType::handshake, key_update_content, out.data());
  transmit_.emplace(secrets_->next(Direction::transmit));
  key_update_due_ = false;
  return written;
}

Records::Sealed Records::State::seal(std::span<const std::string_view> pieces, std::span<char> out) {
  std::size_t left = 0;
  for (const std::string_view piece : pieces) left += piece.size();
  Sealed done{0, 0};
  std::size_t offset = 0;  // into the first piece
  while (left > 0) {
    if (transmit_->sequence() >= max_sealed_records && secrets_) key_update_due_ = true;
    done.written += seal_key_update(out.subspan(done.written));
    const std::size_t room = out.size() - done.written;
    if (key_update_due_ || room <= overhead()) break;
    const std::size_t size = std::min({left, max_plain, room - overhead()});
    // No short record for want of room, unless there is nothing else to hand over.
    if (size < std::min(left, max_plain) && done.taken > 0) break;
    while (offset == pieces.front().size()) {
      pieces = pieces.subspan(1);
      offset = 0;
    }
    char* const to = out.data() + done.written;
    std::string_view plain = pieces.front().substr(offset, size);
    if (plain.size() == size) {
      offset += size;
    } else {
      char* const text = to + transmit_->head();
      for (std::size_t gathered = 0; gathered < size;) {
        if (offset == pieces.front().size()) {
          pieces = pieces.subspan(1);
          offset = 0;
        }
        const std::size_t n = pieces.front().copy(text + gathered, size - gathered, offset);
        gathered += n;
        offset += n;
      }
      plain = {text, size};
    }
    done.written += seal_record(RecordType::application_data, plain, to);
    done.taken += size;
    left -= size;
  }
  return done;
}

std::size_t Records::State::seal_alert(Alert alert, std::span<char> out) {
  assert(out.size() >= alert_size);
  const std::size_t written = seal_key_update(out);
  const auto content = alert_content(alert);
  return written + seal_record(RecordType::alert, {content.data(), content.size()}, out.data() + written);
}

Records::Records(const SessionKeys& keys, Role role, std::unique_ptr<TicketTaker> tickets)
    : state_(std::make_unique<State>(keys, role, std::move(tickets))) {}
Records::~Records() = default;
Records::Records(Records&&) noexcept = default;
Records& Records::operator=(Records&&) noexcept = default;

Records::Opened Records::open(std::span<char>& wire) {
  return state_->open(wire);
}
std::size_t Records::sealed_size(std::size_t plain) const {
  return state_->sealed_size(plain);
}
Records::Sealed Records::seal(std::span<const std::string_view> pieces, std::span<char> out) {
  return state_->seal(pieces, out);
}
std::size_t Records::seal_alert(Alert alert, std::span<char> out) {
  return state_->seal_alert(alert, out);
}

}  // namespace ringmx::tls
