// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/mail.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace ringmx::nginx {
namespace {

// As nginx guesses it where `protocol` says nothing.
Protocol protocol_of_port(unsigned port) {
  switch (port) {
    case 25:
    case 465:
    case 587:
      return Protocol::smtp;
    case 143:
    case 993:
      return Protocol::imap;
    case 110:
    case 995:
      return Protocol::pop3;
    default:
      return Protocol::unknown;
  }
}

std::optional<Problem> read_server(const Directive& block, const Directive& mail, MailServer& out) {
  out.block = &block;
  for (const Directive& directive : block.children) out.settings[directive.name].push_back(&directive);
  for (const Directive& directive : mail.children) {
    if (directive.name == "server") continue;
    auto& here = out.settings[directive.name];
    // A server's own stand in its place.
    const bool own = std::any_of(block.children.begin(), block.children.end(),
                                 [&](const Directive& d) { return d.name == directive.name; });
    if (!own) here.push_back(&directive);
  }

  for (const Directive& directive : block.children) {
    if (directive.name == "listen" && !directive.arguments.empty() && out.protocol == Protocol::unknown)
      out.protocol = protocol_of_port(port_of(directive.arguments[0]));
  }
  const auto said = out.settings.find("protocol");
  if (said == out.settings.end()) {
    if (out.protocol != Protocol::unknown) return std::nullopt;
    return Problem{block.place, "the protocol of this server can't be told by its port",
                   "write `protocol smtp;`, if that is what it speaks"};
  }
  constexpr std::array<std::pair<std::string_view, Protocol>, 3> protocols = {
      {{"smtp", Protocol::smtp}, {"imap", Protocol::imap}, {"pop3", Protocol::pop3}}};
  const Directive& directive = *said->second.back();
  for (const auto& [name, protocol] : protocols) {
    if (directive.arguments.size() != 1 || directive.arguments[0] != name) continue;
    out.protocol = protocol;
    return std::nullopt;
  }
  return Problem{directive.place, "this is no protocol that nginx knows", "write smtp, imap or pop3"};
}

// Auth-Server and Auth-Port, where both are constant. As nginx has it, a block inherits the headers of the
// one around it unless it adds its own.
void find_upstreams(const std::vector<Directive>& directives, NamedUpstream inherited,
                    std::vector<NamedUpstream>& out) {
  NamedUpstream here;
  bool adds = false;
  for (const Directive& directive : directives) {
    if (directive.name != "add_header" || directive.arguments.size() < 2) continue;
    adds = true;
    std::string name = directive.arguments[0];
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
    const std::string& value = directive.arguments[1];
    if (value.find('$') != value.npos) continue;
    if (name == "auth-server") {
      here.host = value;
      here.directive = &directive;
    }
    if (name == "auth-port") here.port = value;
  }
  if (adds) inherited = here;
  const bool known = std::any_of(out.begin(), out.end(), [&](const NamedUpstream& one) {
    return one.host == inherited.host && one.port == inherited.port;
  });
  if (!inherited.host.empty() && (!inherited.port.empty() || inherited.host.starts_with("unix:")) && !known)
    out.push_back(inherited);
  for (const Directive& directive : directives) {
    if (directive.is_block) find_upstreams(directive.children, inherited, out);
  }
}

}  // namespace

unsigned port_of(std::string_view listen) {
  if (listen.starts_with("unix:")) return 0;
  const std::size_t colon = listen.rfind(':');
  const std::size_t bracket = listen.rfind(']');
  if (bracket != listen.npos && (colon == listen.npos || colon < bracket)) return 0;
  const std::string_view digits = colon == listen.npos ? listen : listen.substr(colon + 1);
  unsigned port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  const bool complete = end == digits.data() + digits.size() || *end == '-';
  return error == std::errc() && complete && port <= 65535 ? port : 0;
}

std::optional<Problem> find_mail(const std::string& file, const std::vector<Directive>& directives,
                                 Mail& out) {
  for (const Directive& directive : directives) {
    if (directive.name == "http" && directive.is_block) find_upstreams(directive.children, {}, out.upstreams);
    if (directive.name != "mail" || !directive.is_block) continue;
    if (out.block != nullptr)
      return Problem{directive.place, "there is a mail {} already, in " + out.block->place.text(),
                     "put all servers into one"};
    out.block = &directive;
  }
  if (out.block == nullptr) {
    return Problem{{file, 0}, "there is no mail {} in it", "name the nginx.conf that has it, or includes it"};
  }
  for (const Directive& directive : out.block->children) {
    if (directive.name != "server" || !directive.is_block) continue;
    if (auto problem = read_server(directive, *out.block, out.servers.emplace_back())) return problem;
  }
  return std::nullopt;
}

}  // namespace ringmx::nginx
