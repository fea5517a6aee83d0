// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/domains.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "smtp/ascii.h"

// A name is hashed from its end, in words of eight octets, so that the hash of a parent domain is on the way
// to its child's. Case does not matter: each octet counts with the bit that tells "A" from "a". What else
// falls together by that is told apart where the text is compared.

namespace ringmx::policy {
namespace {

constexpr std::size_t longest_domain = 255;  // RFC 5321 4.5.3.1.2

constexpr std::uint64_t each_octet = 0x0101'0101'0101'0101;
constexpr std::uint64_t case_bits = each_octet * 0x20;
constexpr std::uint64_t dots = each_octet * '.';

constexpr std::uint64_t add(std::uint64_t hash, std::uint64_t word) noexcept {
  hash = (hash ^ word) * 0x9e37'79b9'7f4a'7c15;
  return hash ^ hash >> 29;
}
// `word`: what is left beyond whole words, shifted to its low end.
constexpr std::uint64_t finish(std::uint64_t hash, std::uint64_t word, std::size_t length) noexcept {
  return (add(hash, word) + length) * 0xd6e8'feb8'6659'fd93;
}

// The octets before `end`, eight of them or as many as there are, the last one on top; 0 for those missing.
std::uint64_t word_before(const char* begin, const char* end) noexcept {
  const auto size = static_cast<std::size_t>(end - begin);
  std::uint64_t word = 0;
  if (size >= sizeof(word)) {
    std::memcpy(&word, end - sizeof(word), sizeof(word));
  } else {
    std::memcpy(reinterpret_cast<char*>(&word) + sizeof(word) - size, begin, size);
  }
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

// 0x80 in each octet that is a dot.
constexpr std::uint64_t dots_in(std::uint64_t word) noexcept {
  constexpr std::uint64_t low = each_octet * 0x7f;
  const std::uint64_t other = word ^ dots;
  return ~(((other & low) + low) | other | low);
}

// Calls found(suffix, hash) for each suffix of `name` that begins with a dot, and for the whole name,
// shortest first, until it says true; says whether it did.
template <class Found>
bool each_suffix(std::string_view name, Found found) noexcept {
  const char* const begin = name.data();
  const char* const name_end = begin + name.size();
  std::uint64_t hash = 0;
  for (const char* end = name_end;; end -= 8) {
    const std::uint64_t word = word_before(begin, end) | case_bits;
    const auto left = static_cast<std::size_t>(end - begin);
    for (std::uint64_t marks = dots_in(word); marks != 0;) {
      const auto octets = static_cast<unsigned>(std::countl_zero(marks)) / 8 + 1;  // of this word
      marks &= ~(std::uint64_t{0x80} << (64 - octets * 8));
      const std::size_t length = static_cast<std::size_t>(name_end - end) + octets;
      if (length == name.size()) break;  // the whole name, which is to come
      if (found({name_end - length, length}, finish(hash, word >> (64 - octets * 8), length))) return true;
    }
    if (left <= 8) {
      // All octets of the name, but for a word that is empty.
      const std::uint64_t rest = left == 0 ? 0 : word >> (64 - left * 8);
      return found(name, finish(hash, rest, name.size()));
    }
    hash = add(hash, word);
  }
}

}  // namespace

Domains::Domains(std::span<const std::string_view> patterns) {
  std::size_t letters = 1;
  for (const std::string_view pattern : patterns) letters += pattern.size() + 1;
  if (letters > std::numeric_limits<std::uint32_t>::max())
    throw std::length_error("more than 4 GiB of domains");
  text_.reserve(letters);
  text_ += '\0';
  slots_.resize(std::bit_ceil(patterns.size() * 2 + 2));
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(slots_.size()));
  for (std::string_view pattern : patterns) {
    if (pattern.starts_with("*.")) pattern.remove_prefix(1);
    if (pattern.empty()) continue;
    std::uint64_t hash = 0;
    each_suffix(pattern, [&](std::string_view suffix, std::uint64_t h) {
      hash = h;
      return suffix.size() == pattern.size();
    });
    std::uint32_t& slot = slots_[find(pattern, hash)];
    if (slot != 0) continue;  // it is there already
    slot = static_cast<std::uint32_t>(text_.size());
    for (const char c : pattern) text_ += smtp::lower_case(c);
    text_ += '\0';
    longest_ = std::max(longest_, pattern.size());
    ++size_;
  }
  text_.shrink_to_fit();
}

bool Domains::contains(std::string_view domain) const noexcept {
  if (domain.ends_with('.')) domain.remove_suffix(1);
  if (size_ == 0 || domain.empty() || domain.size() > longest_domain || domain.front() == '.') return false;
  return each_suffix(domain, [this](std::string_view suffix, std::uint64_t hash) {
    return suffix.size() <= longest_ && slots_[find(suffix, hash)] != 0;
  });
}

// Where the pattern is, or would be.
std::size_t Domains::find(std::string_view pattern, std::uint64_t hash) const noexcept {
  const auto stands_at = [&](std::size_t offset) {
    // A NUL ends what stands there, and no pattern has one.
    const std::size_t end = offset + pattern.size();
    return end < text_.size() && text_[end] == '\0' &&
           smtp::equal_ignoring_case({text_.data() + offset, pattern.size()}, pattern);
  };
  std::size_t slot = static_cast<std::size_t>(hash >> shift_);
  while (slots_[slot] != 0 && !stands_at(slots_[slot])) slot = (slot + 1) & (slots_.size() - 1);
  return slot;
}

std::size_t Domains::memory() const noexcept {
  return text_.capacity() + slots_.capacity() * sizeof(std::uint32_t);
}

}  // namespace ringmx::policy
