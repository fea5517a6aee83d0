// SPDX-License-Identifier: GPL-3.0-or-later
// Control records, as the kernel hands them out: any type and content, in any portions. Input: a first octet
// with version and role, then for each record its type, its size and its content.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tls/control.h"

namespace tls = ringmx::tls;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  const bool tls13 = (input[0] & 1) != 0;
  tls::ControlReader reader(tls13 ? tls::Version::tls13 : tls::Version::tls12,
                            (input[0] & 2) != 0 ? tls::Role::client : tls::Role::server);
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
