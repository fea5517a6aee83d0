// SPDX-License-Identifier: GPL-3.0-or-later
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

// Whatever the text: parse() says yes to a configuration that can be run, or no with reasons.

using ringmx::config::Config;
using ringmx::config::Problem;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(data, data + size);
  Config config;
  std::vector<Problem> problems;
  const bool good = parse(text, "fuzz.toml", config, problems);
  require(good == problems.empty());
  if (good)
    require(!config.server.hostname.empty() && !config.listeners.empty() && !config.upstreams.empty());
  for (const auto& listener : config.listeners) require(!listener.name.empty() && listener.address.port != 0);
  std::uint32_t line = 0;
  for (const Problem& problem : problems) {
    require(!problem.message.empty() && !problem.mend.empty() && problem.line >= line);
    line = problem.line;
    // A message is one line of text, whatever was in the file.
    for (const char c : problem.text()) require(static_cast<unsigned char>(c) >= ' ');
  }
  return 0;
}
