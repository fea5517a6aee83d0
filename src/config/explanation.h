// SPDX-License-Identifier: GPL-3.0-or-later
// What a configuration means for those who deliver mail, in plain words.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/notation.h"
#include "policy/rules.h"

namespace ringmx::config {

// For each listener: what a client without TLS can and can't do there, and who is asked. Lines of text.
[[nodiscard]] std::string explain_listeners(const Config& config, const policy::Policies& policies);

// What is legal but hardly meant, a sentence each.
[[nodiscard]] std::vector<std::string> policy_warnings(const Config& config,
                                                       const policy::Policies& policies);

// A session that somebody asks about.
struct Question {
  std::string listener;  // empty: the only one
  policy::Address client{};
  std::uint16_t tls = 0;  // as policy::Tls::version
  std::optional<policy::Certificate> certificate;
  std::string helo = "client.example.com";
  std::string user;
  std::string sender;  // without <>
  std::vector<std::string> recipients;
};
extern const std::string_view question_usage;
// From the command line: "--client", "192.0.2.1", ...
[[nodiscard]] std::optional<Fault> parse_question(std::span<const std::string_view> words, Question& out);

// Its commands, one after the other, which rule decides each, and why, and which services are asked.
[[nodiscard]] std::optional<Fault> explain(const Config& config, const policy::Policies& policies,
                                           const Question& question, std::string& out);

}  // namespace ringmx::config
