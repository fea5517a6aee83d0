// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/draft.h"

#include <cstddef>
#include <cstdint>

#include "config/notation.h"

namespace ringmx::nginx {
namespace {

constexpr std::size_t width = 100;

bool is_continuation(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
}

// How long the character at `at` is in UTF-8 (RFC 3629); 0: there is none.
std::size_t character_length(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(text, at + i)) return 0;
  }
  // Too long for what it says, a surrogate, or above U+10FFFF.
  const auto second = static_cast<unsigned char>(text[at + 1]);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = character_length(text, at);
    if (length == 0)
      out += '?';
    else
      out += text.substr(at, length);
    at += length == 0 ? 1 : length;
  }
  return out;
}

}  // namespace

std::string toml(std::string_view text) {
  std::string out = "\"";
  for (const char c : valid_utf8(text)) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return config::on_one_line(out) + "\"";
}

std::string toml(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const std::string& text : texts) out += (out.size() > 1 ? ", " : "") + toml(text);
  return out + "]";
}

std::string printable(std::string_view text) {
  return config::on_one_line(valid_utf8(text));
}

void append_wrapped(std::vector<std::string>& to, std::string_view text, std::string_view indent) {
  std::string line(indent);
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (line.size() > indent.size() && line.size() + 1 + word.size() > width) {
      to.push_back(line);
      line = indent;
    }
    if (line.size() > indent.size()) line += ' ';
    line += word;
    text.remove_prefix(space == text.npos ? text.size() : space + 1);
  }
  to.push_back(line);
}

void append_remarks(std::string& to, const std::vector<std::string>& remarks) {
  for (const std::string& remark : remarks) to += remark.empty() ? "#\n" : "# " + printable(remark) + "\n";
}

void append_table(std::string& to, const Table& table) {
  const std::string_view before = table.off ? "#" : "";
  append_remarks(to, table.remarks);
  to.append(before).append(table.heading).append("\n");
  for (const Entry& entry : table.entries) {
    append_remarks(to, entry.remarks);
    for (const std::string& line : entry.lines) to.append(before).append(line).append("\n");
  }
  to += '\n';
}

}  // namespace ringmx::nginx
