// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/tls_names.h"

#include <array>
#include <charconv>
#include <utility>

#include "smtp/ascii.h"

namespace ringmx::policy {

namespace {

// What the suites of TLS 1.2 that ringmx has are called by OpenSSL.
constexpr std::array<std::pair<std::string_view, std::string_view>, 6> suites{{
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
}};

bool begins_with_cn(std::string_view name) noexcept {
  return name.size() >= 3 && smtp::equal_ignoring_case(name.substr(0, 3), "CN=");
}

}  // namespace

std::string_view openssl_name(std::string_view suite) noexcept {
  for (const auto& [iana, openssl] : suites) {
    if (suite == iana) return openssl;
  }
  return suite;
}

unsigned key_bits(std::string_view suite) noexcept {
  if (suite.find("_AES_128_") != suite.npos) return 128;
  return suite.find("_AES_256_") != suite.npos || suite.find("_CHACHA20_") != suite.npos ? 256 : 0;
}

std::string common_name(std::string_view name) {
  // Attributes are parted by commas, and by plus signs; a backslash takes the meaning from what follows.
  while (!begins_with_cn(name)) {
    std::size_t end = 0;
    while (end < name.size() && name[end] != ',' && name[end] != '+') end += name[end] == '\\' ? 2u : 1u;
    if (end >= name.size()) return {};
    name.remove_prefix(end + 1);
    while (name.starts_with(' ')) name.remove_prefix(1);
  }
  name.remove_prefix(3);
  std::string value;
  while (!name.empty() && name.front() != ',' && name.front() != '+') {
    if (name.front() == '\\' && name.size() > 1) {
      name.remove_prefix(1);
      unsigned char octet = 0;
      const char* const two = name.data() + 2;
      if (name.size() >= 2 && std::from_chars(name.data(), two, octet, 16).ptr == two) {
        value += static_cast<char>(octet);
        name.remove_prefix(2);
        continue;
      }
    }
    value += name.front();
    name.remove_prefix(1);
  }
  return value;
}

}  // namespace ringmx::policy
