// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/pattern.h"

#include <array>
#include <charconv>

#include "load/quantity.h"

namespace ringmx::load {

std::optional<std::string> Pattern::parse(std::string_view text, Pattern& out) {
  const std::string_view whole = text;
  Pattern pattern;
  Piece piece;
  const auto wrong = [whole](std::string_view what) {
    return "'" + std::string(whole) + "': " + std::string(what) + "; there are %n, %r, %s, %100n and %%";
  };
  while (!text.empty()) {
    const char c = text.front();
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return wrong("no spaces or control characters");
    text.remove_prefix(1);
    if (c != '%') {
      piece.before += c;
      continue;
    }
    const std::size_t end = text.find_first_not_of("0123456789");
    if (end == text.npos) return wrong("a % without a letter");
    const char kind = text[end];
    if (kind == '%' && end == 0) {
      piece.before += '%';
    } else if (kind == 'n' || kind == 'r' || kind == 's') {
      piece.kind = kind;
      if (end > 0) {
        const auto modulo = parse_number(text.substr(0, end));
        if (!modulo || *modulo == 0) return wrong("a bad number behind %");
        piece.modulo = *modulo;
      }
      pattern.pieces_.push_back(std::move(piece));
      piece = {};
    } else {
      return wrong(std::string("unknown %").append(1, kind));
    }
    text.remove_prefix(end + 1);
  }
  if (!piece.before.empty()) pattern.pieces_.push_back(std::move(piece));
  out = std::move(pattern);
  return std::nullopt;
}

Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  pattern.pieces_.push_back({.before = std::move(text)});
  return pattern;
}

void Pattern::append(std::string& out, const Numbers& numbers) const {
  for (const Piece& piece : pieces_) {
    out += piece.before;
    if (piece.kind == 0) continue;
    const std::uint64_t number = piece.kind == 'n'   ? numbers.message
                                 : piece.kind == 'r' ? numbers.recipient
                                                     : numbers.session;
    append_number(out, piece.modulo == 0 ? number : number % piece.modulo);
  }
}

void append_number(std::string& out, std::uint64_t number) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  out.append(digits.data(), end);
}

}  // namespace ringmx::load
