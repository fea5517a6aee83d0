// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nginx/directive.h"

namespace ringmx::nginx {

enum class Protocol : std::uint8_t { smtp, imap, pop3, unknown };

// A server {} of mail {}.
struct MailServer {
  const Directive* block = nullptr;
  Protocol protocol = Protocol::unknown;
  // What holds in it, by name: what stands in it, else what stands in mail {}. All directives of one name
  // come from the same block: nginx inherits several only together.
  std::map<std::string, std::vector<const Directive*>, std::less<>> settings;
};

// An address that a server {} of http {} gives as an answer to auth_http, by add_header.
struct NamedUpstream {
  std::string host, port;
  const Directive* directive = nullptr;
};

// Points into the directives that it was made of.
struct Mail {
  const Directive* block = nullptr;
  std::vector<MailServer> servers;
  std::vector<NamedUpstream> upstreams;  // each address once
};

[[nodiscard]] std::optional<Problem> find_mail(const std::string& file,
                                               const std::vector<Directive>& directives, Mail& out);

// "25", "*:25", "mx:587": the port of a listen directive, or the first one of a range; 0: none.
[[nodiscard]] unsigned port_of(std::string_view listen);

}  // namespace ringmx::nginx
