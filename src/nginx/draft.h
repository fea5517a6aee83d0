// SPDX-License-Identifier: GPL-3.0-or-later
// A configuration of ringmx that is being written: tables, keys, and what is to be said about them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ringmx::nginx {

struct Entry {
  std::vector<std::string> remarks;  // comments, without "# "
  std::vector<std::string> lines;    // "key = value"
};

struct Table {
  std::string heading;  // "[[listener]]"
  std::vector<std::string> remarks;
  std::vector<Entry> entries;
  bool off = false;  // written as a comment, and without effect
};

// As a string, as a list of strings in TOML, whatever the octets.
[[nodiscard]] std::string toml(std::string_view text);
[[nodiscard]] std::string toml(const std::vector<std::string>& texts);
// As it can stand in a comment: on one line, and valid UTF-8.
[[nodiscard]] std::string printable(std::string_view text);

// Broken between words into lines that are not much longer than the others, each behind `indent`.
void append_wrapped(std::vector<std::string>& to, std::string_view text, std::string_view indent = "");
void append_remarks(std::string& to, const std::vector<std::string>& remarks);
void append_table(std::string& to, const Table& table);

}  // namespace ringmx::nginx
