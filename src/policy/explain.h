// SPDX-License-Identifier: GPL-3.0-or-later
// Rules in plain words.
#pragma once

#include <string_view>
#include <vector>

#include "policy/rules.h"

namespace ringmx::policy {

// What one rule says of a session, on the way to a verdict.
struct Finding {
  const Rule* rule;
  Mismatch mismatch;  // none: it concerns the session
  Lack lack;
  bool in_doubt;  // whether it does depends on how an address is read
  bool decides;
};
// The rules that Policy::decide() asks, in their order; the last one is that which decides, if one does.
[[nodiscard]] std::vector<Finding> findings(const Policy& policy, Step step, const Facts& facts);

// Behind "because": "the client is in none of its networks".
[[nodiscard]] std::string_view text_of(Mismatch mismatch) noexcept;
// What is missing: "there is no TLS".
[[nodiscard]] std::string_view text_of(Lack lack) noexcept;

}  // namespace ringmx::policy
