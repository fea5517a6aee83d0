// SPDX-License-Identifier: GPL-3.0-or-later
// The main() of tests that run a reactor.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>

#include "ring/probe.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const ringmx::ring::Probe probe = ringmx::ring::probe();
  if (!probe.usable) {
    std::printf("SKIP: %s\n", probe.summary.c_str());
    return 77;
  }
  std::signal(SIGPIPE, SIG_IGN);  // the tests' own writes to peers that have gone
  return RUN_ALL_TESTS();
}
