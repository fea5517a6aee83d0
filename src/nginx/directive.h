// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace ringmx::nginx {

struct Place {
  std::string file;
  std::uint32_t line = 0;  // 0: the file as a whole
  [[nodiscard]] std::string text() const { return line == 0 ? file : file + ":" + std::to_string(line); }
};

struct Directive {
  std::string name;
  std::vector<std::string> arguments;
  Place place;
  bool is_block = false;
  std::vector<Directive> children;
};

// Why a file can't be used, and what to do.
struct Problem {
  Place place;
  std::string message;
  std::string mend;
  [[nodiscard]] std::string text() const;  // on one line
};

// Where files come from.
struct Files {
  // The text of a file; nothing if it can't be read, and `error` says why.
  std::function<std::optional<std::string>(const std::string& path, std::string& error)> read;
  // The files that a pattern stands for (glob(7)), in their order; none is no error.
  std::function<std::vector<std::string>(const std::string& pattern)> match;
};

// The folder of a file with its "/", where relative names in nginx.conf begin; "" for the present one.
[[nodiscard]] std::string folder_of(const std::string& file);
// `path` as a configuration in `folder` means it.
[[nodiscard]] std::string resolved(const std::string& folder, const std::string& path);

// Everything that stands in `file`, with what it includes in the place of the include.
[[nodiscard]] std::optional<Problem> read_directives(const std::string& file, const Files& files,
                                                     std::vector<Directive>& out);

}  // namespace ringmx::nginx
