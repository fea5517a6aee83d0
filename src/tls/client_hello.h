// SPDX-License-Identifier: GPL-3.0-or-later
// What a ClientHello says, as far as a server has to choose by it before it begins.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "tls/settings.h"

namespace ringmx::tls {

// A vector of 16-bit numbers in network order, as it stands in the message.
class Numbers {
 public:
  Numbers() = default;
  explicit Numbers(std::string_view octets) : octets_(octets) {}
  bool contains(unsigned number) const;
  bool empty() const { return octets_.empty(); }

 private:
  std::string_view octets_;
};

// Views into the message that was parsed.
struct ClientHello {
  bool tls12 = false;
  bool tls13 = false;
  Numbers suites;
  Numbers groups;              // empty: the client does not say
  Numbers signatures;          // signature_algorithms; empty: it does not say
  std::string_view name;       // SNI host name, without the final dot; empty: none
  bool has_protocols = false;  // ALPN
  std::string_view protocols;  // the list, each with its length in front

  bool offers_protocol(std::string_view protocol) const;
};

// `body` is the handshake message without its header. nullopt: it is not well-formed.
std::optional<ClientHello> parse_client_hello(std::string_view body);

}  // namespace ringmx::tls
