// SPDX-License-Identifier: GPL-3.0-or-later
// A session that has said everything, as services are asked about it.
#pragma once

#include "policy/answer.h"

namespace ringmx::policy {

struct Asked {
  Certificate certificate{.verified = true,
                          .sha256 = {0xc2, 0x9d},
                          .subject = "CN=client.example.org,O=Example\\, Inc.",
                          .issuer = "O=Example,CN=Wietse Venema",
                          .serial = "0A1B",
                          .sha1 = "ABCDEF0123456789ABCDEF0123456789ABCDEF01",
                          .der = {}};
  Facts facts{.listener = "mx",
              .client = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1},
              .client_port = 4711,
              .server = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x25},
              .server_port = 25,
              .helo = "client.example.org",
              .esmtp = true,
              .user = {},
              .mechanism = {},
              .tls = {},
              .sender = {"a@example.org", "a", "example.org"},
              .mail_argument = "FROM:<a@example.org> SIZE=100",
              .size = 100,
              .recipient = {"b@example.net", "b", "example.net"},
              .rcpt_argument = "TO:<b@example.net>",
              .recipients = 3};
  Question question{.step = Step::rcpt, .facts = facts, .credentials = nullptr, .instance = "7b.1.2"};

  Asked() = default;
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;

  void with_tls(std::string_view protocol, std::string_view suite) {
    facts.tls = {.version = static_cast<std::uint16_t>(protocol == "TLSv1.3" ? 0x0304 : 0x0303),
                 .resumed = false,
                 .protocol = protocol,
                 .suite = suite,
                 .group = "X25519",
                 .certificate = nullptr};
  }
};

}  // namespace ringmx::policy
