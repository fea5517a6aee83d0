// SPDX-License-Identifier: GPL-3.0-or-later
// What people want to know of a certificate. Verification is wolfSSL's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ringmx::tls {

enum class KeyKind : std::uint8_t { rsa, ecdsa_p256, ecdsa_p384, other };

// Views into the DER that was parsed.
struct CertificateView {
  std::string_view serial;   // octets, without a leading zero
  std::string_view issuer;   // DER
  std::string_view subject;  // DER
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
  KeyKind key = KeyKind::other;
};

std::optional<CertificateView> parse_certificate(std::string_view der);

// RFC 4514: "CN=mx.example.org,O=Example\, Inc.,C=DE", the most specific part first.
std::string distinguished_name(std::string_view der);
// Octets in upper case hexadecimal.
std::string hexadecimal(std::string_view octets);

}  // namespace ringmx::tls
