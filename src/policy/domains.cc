// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/domains.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "smtp/ascii.h"

namespace ringmx::policy {
namespace {

constexpr std::size_t longest_domain = 255;  // RFC 5321 4.5.3.1.2

// Eight octets as they lie in memory, or fewer and NULs. Case does not matter: each octet counts with the bit
// that tells "A" from "a". What else falls together by that is told apart where the text is compared.
std::uint64_t word_at(const char* octets, std::size_t count = sizeof(std::uint64_t)) noexcept {
  constexpr std::uint64_t case_bits = 0x2020'2020'2020'2020;
  std::uint64_t word = 0;
  std::memcpy(&word, octets, count);
  return word | case_bits;
}

// Where the next label begins, with its dot; the end if this is the last one. Labels are short: memchr()
// would take longer.
std::size_t next_label(std::string_view name) noexcept {
  constexpr std::uint64_t dots = 0x2e2e'2e2e'2e2e'2e2e;
  constexpr std::uint64_t low = 0x7f7f'7f7f'7f7f'7f7f;
  std::size_t at = 1;
  if constexpr (std::endian::native == std::endian::little) {
    for (; at + 8 <= name.size(); at += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, name.data() + at, 8);
      const std::uint64_t other = word ^ dots;
      const std::uint64_t marks = ~(((other & low) + low) | other | low);  // 0x80 in each octet that is a dot
      if (marks != 0) return at + static_cast<unsigned>(std::countr_zero(marks)) / 8;
    }
  }
  while (at < name.size() && name[at] != '.') ++at;
  return std::min(at, name.size());
}

// Both halves of a product of 128 bits: each bit of it depends on all of one factor.
std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = Wide{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Sixteen octets at a time; the last of them may begin in those before.
[[gnu::always_inline]] inline std::uint64_t hash_of(std::string_view name) noexcept {
  constexpr std::uint64_t key = 0x9e37'79b9'7f4a'7c15;
  std::uint64_t hash = name.size() * key;
  const char* octets = name.data();
  const char* const end = octets + name.size();
  const auto add = [&](std::uint64_t first, std::uint64_t second) { hash = mix(first ^ hash, second ^ key); };
  if (name.size() < 8) {
    add(word_at(octets, name.size()), 0);
  } else if (name.size() <= 16) {
    add(word_at(octets), word_at(end - 8));
  } else {
    for (; octets < end - 16; octets += 16) add(word_at(octets), word_at(octets + 8));
    add(word_at(end - 16), word_at(end - 8));
  }
  return hash;
}

}  // namespace

// Where the pattern is, or would be. (Inlined, a look-up costs a third less.)
[[gnu::always_inline]] inline std::size_t Domains::find(std::string_view pattern) const noexcept {
  std::size_t slot = static_cast<std::size_t>(hash_of(pattern) >> shift_);
  while (const std::uint32_t offset = slots_[slot]) {
    // A NUL ends what stands there, and no pattern has one. Behind the last one there are enough.
    const char* const known = text_.data() + offset;
    // Most write it as it stands there.
    const auto same = [&] {
      return std::memcmp(known, pattern.data(), pattern.size()) == 0 ||
             smtp::equal_ignoring_case({known, pattern.size()}, pattern);
    };
    if (known[pattern.size()] == '\0' && same()) break;
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

Domains::Domains(std::span<const std::string_view> patterns) {
  // As many NULs at the end as find() may look beyond a pattern.
  std::size_t letters = 1 + longest_domain;
  for (const std::string_view pattern : patterns) letters += pattern.size() + 1;
  if (letters > std::numeric_limits<std::uint32_t>::max())
    throw std::length_error("more than 4 GiB of domains");
  text_.resize(letters);
  std::size_t used = 1;
  slots_.resize(std::bit_ceil(patterns.size() * 2 + 2));
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(slots_.size()));
  for (std::string_view pattern : patterns) {
    if (pattern.starts_with("*.")) pattern.remove_prefix(1);
    if (pattern.empty() || pattern.size() > longest_domain) continue;
    std::uint32_t& slot = slots_[find(pattern)];
    if (slot != 0) continue;  // it is there already
    slot = static_cast<std::uint32_t>(used);
    std::transform(pattern.begin(), pattern.end(), text_.data() + used, smtp::lower_case);
    used += pattern.size() + 1;
    shortest_ = std::min(shortest_, pattern.size());
    longest_ = std::max(longest_, pattern.size());
    ++size_;
  }
  text_.resize(used + longest_domain);
  text_.shrink_to_fit();
}

bool Domains::contains(std::string_view domain) const noexcept {
  if (domain.ends_with('.')) domain.remove_suffix(1);
  if (domain.size() > longest_domain || domain.starts_with('.')) return false;
  while (domain.size() >= shortest_) {
    if (domain.size() <= longest_ && slots_[find(domain)] != 0) return true;
    domain.remove_prefix(next_label(domain));
  }
  return false;
}

std::size_t Domains::memory() const noexcept {
  return text_.capacity() + slots_.capacity() * sizeof(std::uint32_t);
}

}  // namespace ringmx::policy
