// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <liburing.h>

#include <string>

namespace ringmx::ring {

// How every reactor's ring is set up: one thread submits, and completions are worked on only when
// that thread asks for them, in a batch.
inline constexpr unsigned setup_flags =
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

// io_uring_params::features of kernel 6.12 and later: a wait may ask for several completions for a moment,
// and take what there is then. Not needed. liburing 2.3 has no name for it.
inline constexpr unsigned feature_min_wait = 1U << 15;

struct Probe {
  bool usable = false;
  std::string
      summary;  // usable: what was chosen, one line for the log; else: why not and what to do about it
};

// Tries on a ring of its own all that the reactor needs: the set-up flags, a multishot accept, a provided
// buffer ring and a multishot receive from it. Kernel 6.1 has it all.
[[nodiscard]] Probe probe();

}  // namespace ringmx::ring
