// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nginx/directive.h"
#include "nginx/mail.h"

namespace ringmx::nginx {

// What the operator is to be told.
struct Finding {
  enum class Kind : std::uint8_t {
    to_do,        // the configuration waits for this
    not_carried,  // ringmx has nothing of the kind, or not yet
    differs,      // it is there, and not quite the same
  };
  Kind kind = Kind::to_do;
  Place place;
  std::string subject;  // a directive
  std::string text;     // why, and what to do
  [[nodiscard]] std::string line() const;
};

struct Translation {
  std::optional<Problem> problem;  // there is no configuration
  std::string text;                // TOML
  std::vector<Finding> findings;   // each also a comment in the text, where it belongs
};

// A configuration that does what `mail` does, of the file `file`.
[[nodiscard]] Translation translate(const std::string& file, const Mail& mail);

// The directives that have a translation, or a reason why not.
[[nodiscard]] std::vector<std::string_view> known_directives();

// All of it: reads, understands, translates.
[[nodiscard]] Translation import_file(const std::string& file, const Files& files);

}  // namespace ringmx::nginx
