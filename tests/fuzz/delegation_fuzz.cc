// SPDX-License-Identifier: GPL-3.0-or-later
#include "answer_invariants.h"
#include "policy/delegation.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return ringmx::policy::read_in_pieces<ringmx::policy::DelegationReader>(data, size);
}
