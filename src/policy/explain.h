// SPDX-License-Identifier: GPL-3.0-or-later
// Rules in plain words.
#pragma once

#include <string_view>

#include "policy/rules.h"

namespace ringmx::policy {

// Behind "because": "the client is in none of its networks".
[[nodiscard]] std::string_view text_of(Mismatch mismatch) noexcept;
// What is missing: "there is no TLS".
[[nodiscard]] std::string_view text_of(Lack lack) noexcept;

}  // namespace ringmx::policy
