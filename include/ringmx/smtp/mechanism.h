// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

namespace ringmx::smtp {

// The SASL mechanisms (RFC 4422) that ringmx knows, in the order in which they are offered.
enum class Mechanism : std::uint8_t {
  plain,        // RFC 4616
  login,        // draft-murchison-sasl-login
  cram_md5,     // RFC 2195
  external,     // RFC 4422 appendix A: the client certificate says who it is
  oauthbearer,  // RFC 7628
  xoauth2,      // as Google documents it
};
inline constexpr std::size_t mechanism_count = static_cast<std::size_t>(Mechanism::xoauth2) + 1;

class MechanismSet {
 public:
  constexpr MechanismSet() noexcept = default;
  constexpr MechanismSet(std::initializer_list<Mechanism> mechanisms) noexcept {
    for (const Mechanism m : mechanisms) add(m);
  }
  [[nodiscard]] constexpr bool empty() const noexcept { return bits_ == 0; }
  [[nodiscard]] constexpr bool has(Mechanism m) const noexcept { return (bits_ & bit(m)) != 0; }
  constexpr void add(Mechanism m) noexcept { bits_ = static_cast<std::uint8_t>(bits_ | bit(m)); }
  constexpr void remove(Mechanism m) noexcept { bits_ = static_cast<std::uint8_t>(bits_ & ~bit(m)); }
  friend constexpr bool operator==(MechanismSet, MechanismSet) noexcept = default;

 private:
  static constexpr unsigned bit(Mechanism m) noexcept { return 1U << static_cast<unsigned>(m); }
  std::uint8_t bits_ = 0;
};

// "CRAM-MD5", and back (any case).
[[nodiscard]] std::string_view mechanism_name(Mechanism m) noexcept;
[[nodiscard]] std::optional<Mechanism> parse_mechanism(std::string_view name) noexcept;

}  // namespace ringmx::smtp
