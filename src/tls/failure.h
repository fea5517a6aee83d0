// SPDX-License-Identifier: GPL-3.0-or-later
// Why a handshake came to nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tls/alert.h"

namespace ringmx::tls {

enum class Reason : std::uint8_t {
  none,
  not_tls,            // the peer speaks something else
  no_shared_version,  // it is older than TLS 1.2, or than the minimum
  no_shared_cipher,
  no_shared_group,
  no_shared_signature,  // it can verify none of our certificates
  alpn,                 // it wants another protocol than SMTP
  decode,               // a message that is none, or comes out of order
  bad_record,           // a record that can't be decrypted, or a Finished that does not fit
  no_certificate,       // we require one of the peer
  unknown_ca,
  expired_certificate,
  wrong_name,
  bad_certificate,  // any other fault of the peer's certificate
  alert_from_peer,
  internal,
};
inline constexpr std::size_t reasons = static_cast<std::size_t>(Reason::internal) + 1;

// For a metric's label: the enumerator's name.
std::string_view label(Reason reason);

struct Failure {
  Reason reason = Reason::none;
  Alert alert = Alert::none;  // the peer's, or the one that we sent
  std::string text;           // one line for the log
};

}  // namespace ringmx::tls
