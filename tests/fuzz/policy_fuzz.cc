// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/notation.h"
#include "policy/domains.h"
#include "policy/networks.h"

// Lines: what a list may hold is taken or refused with a reason; sets hold what was taken, and a client may
// say whatever it likes.

using namespace ringmx;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void fault_is_sound(const std::optional<config::Fault>& fault) {
  require(!fault || (!fault->message.empty() && !fault->mend.empty()));
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return out;
}

bool matches(std::string_view pattern, std::string_view domain) {
  if (domain.ends_with('.')) domain.remove_suffix(1);
  if (domain.empty() || domain.size() > 255 || domain.front() == '.') return false;
  const std::string p = lower(pattern.starts_with("*.") ? pattern.substr(1) : pattern);
  const std::string d = lower(domain);
  return p.starts_with('.') ? d.size() > p.size() && d.ends_with(p) : d == p;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string_view> lines;
  for (std::string_view rest = input; !rest.empty() && lines.size() < 64;) {
    lines.push_back(rest.substr(0, rest.find('\n')));
    rest.remove_prefix(std::min(lines.back().size() + 1, rest.size()));
  }
  std::vector<std::string_view> patterns;
  std::vector<policy::Network> networks;
  for (const std::string_view line : lines) {
    policy::Network network;
    const auto no_network = config::parse_network(line, network);
    fault_is_sound(no_network);
    if (!no_network) networks.push_back(network);
    policy::Fingerprint fingerprint;
    fault_is_sound(config::parse_fingerprint(line, fingerprint));
    fault_is_sound(config::check_rule_reply(line));
    const auto no_pattern = config::check_sender_pattern(line);
    fault_is_sound(no_pattern);
    if (!no_pattern) patterns.push_back(line);
  }
  const policy::Networks network_set(networks);
  for (const policy::Network& network : networks) {
    require(network_set.contains(network.address) ||
            (policy::is_ipv4(network.address) && network.bits < policy::mapped_bits));
    require(config::parse_client_address(config::format_address(network.address)) == network.address);
  }
  const policy::Domains domain_set(patterns);
  for (const std::string_view line : lines) {
    bool in = false;
    for (const std::string_view pattern : patterns) in = in || matches(pattern, line);
    require(domain_set.contains(line) == in);
  }
  return 0;
}
