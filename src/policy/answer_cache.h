// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "policy/answer.h"

namespace ringmx::policy {

// What a cached answer may depend on; the step, and whether there is TLS, always are a part of it.
enum class CacheField : std::uint8_t {
  listener,
  client,
  helo,
  user,
  tls,  // the version; "none" included
  certificate,
  sender,
  sender_domain,
  recipient,
  recipient_domain,
};
inline constexpr std::size_t cache_field_count = 10;
constexpr std::string_view name_of(CacheField field) noexcept {
  constexpr std::array<std::string_view, cache_field_count> names = {
      "listener",    "client", "helo",          "user",      "tls",
      "certificate", "sender", "sender_domain", "recipient", "recipient_domain"};
  return names[static_cast<std::size_t>(field)];
}

// One string for all questions that have the same step and the same `fields`, and are in TLS or are not.
// Letters of domains count in any case.
[[nodiscard]] std::string cache_key(const std::vector<CacheField>& fields, const Question& question);

// Answers of one service, for a time; the one that was not asked for longest goes first. The owner knows the
// clock: times are milliseconds of whatever begins.
class AnswerCache {
 public:
  AnswerCache(std::size_t capacity, std::int64_t lifetime) noexcept
      : capacity_(capacity), lifetime_(lifetime) {}

  // Null: there is none. Stays until the cache is called again.
  [[nodiscard]] const Answer* find(const std::string& key, std::int64_t now);
  void insert(std::string key, Answer answer, std::int64_t now);
  [[nodiscard]] std::size_t size() const noexcept { return by_key_.size(); }

 private:
  struct Entry {
    std::string key;
    Answer answer;
    std::int64_t expires;
  };
  using Entries = std::list<Entry>;

  std::size_t capacity_;
  std::int64_t lifetime_;
  Entries entries_;                                                 // the one asked for last comes first
  std::unordered_map<std::string_view, Entries::iterator> by_key_;  // of text in entries_
};

}  // namespace ringmx::policy
