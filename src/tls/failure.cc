// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/failure.h"

namespace ringmx::tls {

std::string_view label(Reason reason) {
  switch (reason) {
    case Reason::none:
      return "none";
    case Reason::not_tls:
      return "not_tls";
    case Reason::no_shared_version:
      return "no_shared_version";
    case Reason::no_shared_cipher:
      return "no_shared_cipher";
    case Reason::no_shared_group:
      return "no_shared_group";
    case Reason::no_shared_signature:
      return "no_shared_signature";
    case Reason::alpn:
      return "alpn";
    case Reason::decode:
      return "decode";
    case Reason::bad_record:
      return "bad_record";
    case Reason::no_certificate:
      return "no_certificate";
    case Reason::unknown_ca:
      return "unknown_ca";
    case Reason::expired_certificate:
      return "expired_certificate";
    case Reason::wrong_name:
      return "wrong_name";
    case Reason::bad_certificate:
      return "bad_certificate";
    case Reason::alert_from_peer:
      return "alert_from_peer";
    case Reason::internal:
      return "internal";
  }
  return "";
}

}  // namespace ringmx::tls
