// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ringmx::nginx {

struct Token {
  enum class Kind : std::uint8_t { word, semicolon, open, close, end, fault };
  Kind kind = Kind::end;
  std::uint32_t line = 0;  // where it begins, from 1 on
  std::string text;        // word: without quotes and escapes; fault: what is wrong
};

// nginx's configuration language: words, which may be in quotes, ';', '{' and '}'. Comments are left out.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}
  // After the end or a fault the same again.
  Token next();
  // Behind the '{' of a block that holds Lua: everything up to its '}'. False if there is none.
  bool skip_lua();

 private:
  [[nodiscard]] bool more() const { return position_ < text_.size(); }
  char take();
  void skip_space();
  Token word();

  std::string_view text_;
  std::size_t position_ = 0;
  std::uint32_t line_ = 1;
};

}  // namespace ringmx::nginx
