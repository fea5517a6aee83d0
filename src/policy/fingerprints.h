// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "policy/facts.h"

namespace ringmx::policy {

// A set of certificates, by their fingerprints.
class Fingerprints {
 public:
  Fingerprints() = default;
  explicit Fingerprints(std::vector<Fingerprint> fingerprints) : sorted_(std::move(fingerprints)) {
    std::sort(sorted_.begin(), sorted_.end());
  }
  [[nodiscard]] bool contains(const Fingerprint& fingerprint) const noexcept {
    return std::binary_search(sorted_.begin(), sorted_.end(), fingerprint);
  }

 private:
  std::vector<Fingerprint> sorted_;
};

}  // namespace ringmx::policy
