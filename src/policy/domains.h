// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ringmx::policy {

// A set of domains, in any case of letters. A pattern is "example.org", the domain itself and no other, or
// ".example.org" (also written "*.example.org"), its sub-domains at any depth and not itself; as in
// Postfix's tables. "<>" is a name like others: what stands for the null sender.
//
// The text lies in one piece, and a table of 32-bit offsets into it is hashed: 1,000,000 domains take their
// letters and 8 MiB. A look-up probes the table for the name, and for what is left of it from each dot on.
class Domains {
 public:
  Domains() = default;
  // Throws std::length_error beyond 4 GiB of text.
  explicit Domains(std::span<const std::string_view> patterns);
  [[nodiscard]] bool contains(std::string_view domain) const noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return size_; }  // without what was there twice
  [[nodiscard]] std::size_t memory() const noexcept;                 // bytes

 private:
  [[nodiscard]] std::size_t find(std::string_view pattern) const noexcept;

  std::string text_;                  // a NUL, and each pattern in lower case and a NUL
  std::vector<std::uint32_t> slots_;  // where one begins; 0: nothing. Never more than half full
  std::size_t size_ = 0;
  std::size_t shortest_ = std::numeric_limits<std::size_t>::max();  // octets of a pattern; if there is none
  std::size_t longest_ = 0;
  unsigned shift_ = 64;  // of a hash, so that what is left is a slot
};

}  // namespace ringmx::policy
