// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/explain.h"

namespace ringmx::policy {

std::vector<Finding> findings(const Policy& policy, Step step, const Facts& facts) {
  std::vector<Finding> out;
  const Rule* const decides = policy.decide(step, facts).rule;
  for (const Rule* rule : policy.rules_at(step)) {
    const Mismatch mismatch = rule->mismatch(facts);
    const Lack lack = mismatch == Mismatch::none ? rule->lack(facts) : Lack::nothing;
    out.push_back({rule, mismatch, lack, rule->in_doubt(facts), rule == decides});
    if (rule == decides) break;
  }
  return out;
}

std::string_view text_of(Mismatch mismatch) noexcept {
  switch (mismatch) {
    case Mismatch::none:
      break;
    case Mismatch::client:
      return "the client is in none of its networks";
    case Mismatch::helo:
      return "the name in HELO or EHLO is none of its names";
    case Mismatch::authenticated:
      return "it is for clients that are authenticated, or for those that are not";
    case Mismatch::sender:
      return "the sender is in none of its domains";
    case Mismatch::recipient:
      return "the recipient is in none of its domains";
  }
  return {};
}

std::string_view text_of(Lack lack) noexcept {
  switch (lack) {
    case Lack::nothing:
      break;
    case Lack::tls:
      return "there is no TLS";
    case Lack::tls13:
      return "it is not TLS 1.3";
    case Lack::certificate:
      return "there is no client certificate";
    case Lack::verification:
      return "the client certificate is not verified";
    case Lack::fingerprint:
      return "the client certificate is none of those expected";
  }
  return {};
}

}  // namespace ringmx::policy
