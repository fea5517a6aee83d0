// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/answer.h"

#include <algorithm>

#include "policy/reply_code.h"

namespace ringmx::policy {

namespace {

constexpr std::size_t longest_line = 512;  // RFC 5321 4.5.3.1.5, with CRLF
constexpr std::size_t longest_remark = 200;

constexpr bool is_control(char c) noexcept {
  return (c >= 0 && c < ' ') || c == 0x7f;
}

}  // namespace

std::string make_reply(std::string_view code, std::string_view text) {
  const std::string_view status = code.substr(std::min<std::size_t>(code.size(), 4));
  if (!is_refusal_code(code.substr(0, 3)) || (code.size() > 3 && code[3] != ' ')) return {};
  if (code.size() > 3 && (!is_status_code(status) || status.front() != code.front())) return {};
  std::string reply(code);
  reply += ' ';
  for (const char c : text) {
    if (c != '\t' && is_control(c)) return {};
    reply += c == '\t' ? ' ' : (c & 0x80) != 0 ? '?' : c;
  }
  reply.resize(std::min(reply.size(), longest_line - 2));
  return reply += "\r\n";
}

bool AnswerReader::ends_line(char c, std::string_view control) {
  if (c == '\n') {
    carriage_return_ = false;
    return true;
  }
  if (carriage_return_) {
    fail("a CR without LF");
  } else if (c == '\r') {
    carriage_return_ = true;
  } else if (c != '\t' && is_control(c)) {
    fail(control);
  } else {
    line_ += c;
  }
  return false;
}

std::string printable(std::string_view text) {
  std::string out(text.substr(0, longest_remark));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return is_control(c) || (c & 0x80) != 0; }, '?');
  return text.size() > longest_remark ? out += "..." : out;
}

}  // namespace ringmx::policy
