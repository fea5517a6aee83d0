// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/lexer.h"

#include <utility>

// What nginx does, where one would not expect it: a quote, '#' or '}' counts only where a word could begin. A
// word without quotes ends at white space, ';' or '{', but "${" is the start of a variable. A backslash takes
// any octet along; it disappears before a quote or another one, and with t, r and n it makes a control
// character.

namespace ringmx::nginx {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// What a backslash and `c` stand for.
std::string unescaped(char c) {
  switch (c) {
    case '"':
    case '\'':
    case '\\':
      return {c};
    case 't':
      return "\t";
    case 'r':
      return "\r";
    case 'n':
      return "\n";
    default:
      return {'\\', c};
  }
}

}  // namespace

char Lexer::take() {
  const char c = text_[position_++];
  if (c == '\n') ++line_;
  return c;
}

void Lexer::skip_space() {
  while (more() && (is_space(text_[position_]) || text_[position_] == '#')) {
    if (take() != '#') continue;
    while (more() && text_[position_] != '\n') take();
  }
}

Token Lexer::next() {
  skip_space();
  if (!more()) return {Token::Kind::end, line_, {}};
  const std::uint32_t line = line_;
  switch (text_[position_]) {
    case ';':
      take();
      return {Token::Kind::semicolon, line, {}};
    case '{':
      take();
      return {Token::Kind::open, line, {}};
    case '}':
      take();
      return {Token::Kind::close, line, {}};
    default:
      return word();
  }
}

Token Lexer::word() {
  Token token{Token::Kind::word, line_, {}};
  const std::size_t start = position_;
  const auto fault = [&](std::string what) {
    position_ = start;
    line_ = token.line;
    return Token{Token::Kind::fault, token.line, std::move(what)};
  };
  const char first = text_[position_];
  const bool quoted = first == '"' || first == '\'';
  if (quoted) take();
  for (char before = 0;; before = text_[position_ - 1]) {
    if (!more()) {
      if (quoted) return fault(std::string("the quote ") + first + " is never closed");
      return token;
    }
    const char c = text_[position_];
    if (!quoted && (is_space(c) || c == ';' || (c == '{' && before != '$'))) return token;
    take();
    if (quoted && c == first) break;
    if (c == '\\' && more())
      token.text += unescaped(take());
    else
      token.text += c;
  }
  if (!more() || is_space(text_[position_])) return token;
  const char behind = text_[position_];
  if (behind != ';' && behind != '{' && behind != ')')
    return fault(std::string("there is no space behind the quote ") + first);
  return token;
}

bool Lexer::skip_lua() {
  std::size_t depth = 1;
  while (more()) {
    const char c = take();
    if (c == '{') ++depth;
    if (c == '}' && --depth == 0) return true;
    if (c == '-' && more() && text_[position_] == '-') {
      while (more() && text_[position_] != '\n') take();
    }
    if (c != '"' && c != '\'') continue;
    while (more()) {
      const char inner = take();
      if (inner == c) break;
      if (inner == '\\' && more()) take();
    }
  }
  return false;
}

}  // namespace ringmx::nginx
