// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/domains.h"

#include <array>
#include <bit>
#include <limits>
#include <stdexcept>

#include "smtp/ascii.h"

namespace ringmx::policy {
namespace {

constexpr std::size_t longest_domain = 255;  // RFC 5321 4.5.3.1.2

// FNV-1a of a name from its end, so that the hash of a parent is on the way to its child's.
constexpr std::uint64_t seed = 0xcbf2'9ce4'8422'2325;
constexpr std::uint64_t add(std::uint64_t hash, char c) noexcept {
  return (hash ^ static_cast<unsigned char>(c)) * 0x0000'0100'0000'01b3;
}
std::uint64_t hash_of(std::string_view pattern) noexcept {
  std::uint64_t hash = seed;
  for (std::size_t at = pattern.size(); at-- > 0;) hash = add(hash, pattern[at]);
  return hash;
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
    const std::size_t begin = text_.size();
    for (const char c : pattern) text_ += smtp::lower_case(c);
    const std::string_view added = std::string_view(text_).substr(begin);
    const std::size_t slot = find(added, hash_of(added));
    if (added.empty() || slots_[slot] != 0) {  // it is there already
      text_.resize(begin);
      continue;
    }
    slots_[slot] = static_cast<std::uint32_t>(begin);
    longest_ = std::max(longest_, added.size());
    text_ += '\0';
    ++size_;
  }
  text_.shrink_to_fit();
}

bool Domains::contains(std::string_view domain) const noexcept {
  if (domain.ends_with('.')) domain.remove_suffix(1);
  if (size_ == 0 || domain.empty() || domain.size() > longest_domain || domain.front() == '.') return false;
  std::array<char, longest_domain> lower;
  std::uint64_t hash = seed;
  for (std::size_t at = domain.size(); at-- > 0;) {
    if (domain.size() - at > longest_) return false;
    lower[at] = smtp::lower_case(domain[at]);
    hash = add(hash, lower[at]);
    if (lower[at] == '.' && has({&lower[at], domain.size() - at}, hash)) return true;
  }
  return has({lower.data(), domain.size()}, hash);
}

bool Domains::has(std::string_view pattern, std::uint64_t hash) const noexcept {
  return slots_[find(pattern, hash)] != 0;
}

// Where the pattern is, or would be.
std::size_t Domains::find(std::string_view pattern, std::uint64_t hash) const noexcept {
  const std::size_t mask = slots_.size() - 1;
  // The upper half of a product is stirred best.
  std::size_t slot = static_cast<std::size_t>((hash * 0x9e37'79b9'7f4a'7c15) >> shift_);
  while (slots_[slot] != 0 && !stands_at(slots_[slot], pattern)) slot = (slot + 1) & mask;
  return slot;
}

bool Domains::stands_at(std::uint32_t offset, std::string_view pattern) const noexcept {
  // A NUL ends what stands there, and no pattern has one: so one that is shorter differs there.
  return text_.compare(offset, pattern.size(), pattern) == 0 && text_[offset + pattern.size()] == '\0';
}

std::size_t Domains::memory() const noexcept {
  return text_.capacity() + slots_.capacity() * sizeof(std::uint32_t);
}

}  // namespace ringmx::policy
