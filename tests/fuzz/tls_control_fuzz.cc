// SPDX-License-Identifier: GPL-3.0-or-later
// Control records, as the kernel hands them out: any type and content, in any portions. Input: a first octet
// with version, role and whether tickets are wanted, then for each record its type, its size and its content.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "tls/control.h"

namespace tls = ringmx::tls;

namespace {

// Each ticket is one whole message.
class Taken final : public tls::TicketTaker {
 public:
  bool take(std::string_view message) override {
    const auto octet = [&](std::size_t i) {
      return static_cast<std::size_t>(static_cast<std::uint8_t>(message[i]));
    };
    if (message.size() < 4 || octet(0) != 4 ||
        message.size() != 4 + (octet(1) << 16 | octet(2) << 8 | octet(3))) {
      std::abort();
    }
    return ++count_ == 3;
  }

 private:
  int count_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  const bool tls13 = (input[0] & 1) != 0;
  tls::ControlReader reader(tls13 ? tls::Version::tls13 : tls::Version::tls12,
                            (input[0] & 2) != 0 ? tls::Role::client : tls::Role::server,
                            (input[0] & 4) != 0 ? std::make_unique<Taken>() : nullptr);
  input.remove_prefix(1);
  int taken = 0;
  while (input.size() >= 2) {
    const tls::RecordType type{static_cast<std::uint8_t>(input[0])};
    const std::string_view content = input.substr(2, static_cast<std::uint8_t>(input[1]));
    input.remove_prefix(2 + content.size());
    const tls::Control control = reader.read(type, content);
    const auto kind = control.kind;
    using Kind = tls::Control::Kind;
    // There is an alert where there is to be one, and nothing in TLS 1.2 changes keys.
    if (((kind == Kind::alert || kind == Kind::error) && control.alert == tls::Alert::none) ||
        (!tls13 && (kind == Kind::key_update || kind == Kind::key_update_requested)) || ++taken > 1000) {
      std::abort();
    }
    if (kind == Kind::error || kind == Kind::alert || kind == Kind::close_notify) break;
  }
  return 0;
}
