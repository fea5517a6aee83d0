// SPDX-License-Identifier: GPL-3.0-or-later
// TLS alerts (RFC 8446, section 6).
#pragma once

#include <cstdint>
#include <string_view>

namespace ringmx::tls {

enum class Alert : std::uint16_t {
  close_notify = 0,
  unexpected_message = 10,
  bad_record_mac = 20,
  record_overflow = 22,
  handshake_failure = 40,
  bad_certificate = 42,
  unsupported_certificate = 43,
  certificate_revoked = 44,
  certificate_expired = 45,
  certificate_unknown = 46,
  illegal_parameter = 47,
  unknown_ca = 48,
  access_denied = 49,
  decode_error = 50,
  decrypt_error = 51,
  protocol_version = 70,
  insufficient_security = 71,
  internal_error = 80,
  inappropriate_fallback = 86,
  user_canceled = 90,
  no_renegotiation = 100,
  missing_extension = 109,
  unsupported_extension = 110,
  unrecognized_name = 112,
  bad_certificate_status_response = 113,
  unknown_psk_identity = 115,
  certificate_required = 116,
  no_application_protocol = 120,
  none = 256,  // there is none: no number that can be on the wire
};

// As the RFC writes it; "unknown" for a number that it does not have, "" for none.
std::string_view name_of(Alert alert);

}  // namespace ringmx::tls
