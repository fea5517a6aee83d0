// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ringmx/smtp/mechanism.h"

namespace ringmx::smtp {

// The ESMTP extensions that ringmx knows, as a set.
enum class Extension : std::uint16_t {
  pipelining = 1 << 0,             // RFC 2920
  size = 1 << 1,                   // RFC 1870
  eight_bit_mime = 1 << 2,         // RFC 6152
  smtputf8 = 1 << 3,               // RFC 6531
  chunking = 1 << 4,               // RFC 3030
  dsn = 1 << 5,                    // RFC 3461
  enhanced_status_codes = 1 << 6,  // RFC 2034
  starttls = 1 << 7,               // RFC 3207; see ExtensionSet::all()
  auth = 1 << 8,                   // RFC 4954: MAIL may have AUTH=; its EHLO keyword is Capabilities::auth
  requiretls = 1 << 9,             // RFC 8689; offered to sessions in TLS only
};

class ExtensionSet {
 public:
  constexpr ExtensionSet() noexcept = default;
  constexpr explicit ExtensionSet(std::uint16_t bits) noexcept : bits_(bits) {}
  // What can be offered to whoever asks. STARTTLS and AUTH are not among them: they depend on the session.
  static constexpr ExtensionSet all() noexcept { return ExtensionSet(0x27f); }
  [[nodiscard]] constexpr bool has(Extension e) const noexcept {
    return (bits_ & static_cast<std::uint16_t>(e)) != 0;
  }
  constexpr void add(Extension e) noexcept {
    bits_ = static_cast<std::uint16_t>(bits_ | static_cast<std::uint16_t>(e));
  }
  constexpr void remove(Extension e) noexcept {
    bits_ = static_cast<std::uint16_t>(bits_ & ~static_cast<std::uint16_t>(e));
  }
  [[nodiscard]] constexpr std::uint16_t bits() const noexcept { return bits_; }
  friend constexpr ExtensionSet operator&(ExtensionSet a, ExtensionSet b) noexcept {
    return ExtensionSet(static_cast<std::uint16_t>(a.bits_ & b.bits_));
  }
  friend constexpr ExtensionSet operator|(ExtensionSet a, ExtensionSet b) noexcept {
    return ExtensionSet(static_cast<std::uint16_t>(a.bits_ | b.bits_));
  }
  friend constexpr bool operator==(ExtensionSet, ExtensionSet) noexcept = default;

 private:
  std::uint16_t bits_ = 0;
};

// The EHLO keyword of an extension ("8BITMIME"), and back (any case). parse_extension returns false
// for a keyword that is not one of ours.
[[nodiscard]] std::string_view extension_keyword(Extension e) noexcept;
[[nodiscard]] bool parse_extension(std::string_view keyword, Extension& e) noexcept;

// What an EHLO reply offers.
struct Capabilities {
  ExtensionSet extensions;
  std::uint64_t size_limit = 0;  // octets; 0: none stated (RFC 1870 section 4)
  MechanismSet auth = {};        // RFC 4954; of others', those that ringmx knows
  bool xclient_login = false;    // Postfix's XCLIENT, with the attribute LOGIN; never offered by ringmx
  friend bool operator==(const Capabilities&, const Capabilities&) noexcept = default;
};

// Reads a whole reply to EHLO, in wire form ("250-mx.example\r\n250-SIZE 1000\r\n250 DSN\r\n").
// Unknown keywords are skipped.
[[nodiscard]] Capabilities parse_ehlo_reply(std::string_view reply) noexcept;

// The 250 reply to EHLO, in wire form.
[[nodiscard]] std::string format_ehlo_reply(std::string_view hostname, const Capabilities& offered);

}  // namespace ringmx::smtp
