// SPDX-License-Identifier: GPL-3.0-or-later
// The names of TLS as nginx and Postfix say them to services: OpenSSL's.
#pragma once

#include <string>
#include <string_view>

namespace ringmx::policy {

// "ECDHE-RSA-AES128-GCM-SHA256" for IANA's TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256; those of TLS 1.3 are the
// same.
[[nodiscard]] std::string_view openssl_name(std::string_view suite) noexcept;
// Bits of its key; 0 if it is not known.
[[nodiscard]] unsigned key_bits(std::string_view suite) noexcept;
// The first CN of a name as RFC 4514 writes it, its escapes undone; empty if there is none.
[[nodiscard]] std::string common_name(std::string_view distinguished_name);

}  // namespace ringmx::policy
