// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"
#include "config/notation.h"

namespace ringmx::config {

// Every key of a configuration is described once, in keys.cc: its name, what it may be and where
// its value goes. Reading, the messages, the suggestions for unknown keys and the proof that the
// reference manual is complete all follow from that description.

// What a value may be, and where it goes. What `to` points at before reading is the default.
struct Count {  // an integer
  std::uint32_t* to;
  std::uint32_t min, max;
};
struct Size {  // octets
  std::variant<std::uint32_t*, std::uint64_t*> to;
  std::uint64_t min, max;
};
struct Duration {
  std::chrono::milliseconds* to;
  std::chrono::milliseconds min, max;
};
struct Flag {
  bool* to;
};
struct OptionalFlag {  // nothing: either
  std::optional<bool>* to;
};
struct Steps {  // one, or a list
  policy::Steps* to;
  policy::Steps known;
};
struct Text {
  std::string* to;
  std::optional<Fault> (*check)(std::string_view);
  std::string_view range;
};
struct Address {
  Endpoint* to;
  bool unix_allowed;
};
struct Url {  // an address, or a URL of HTTP
  ServiceAddress* to;
};
struct Choice {  // one of some words
  std::span<const std::string_view> words;
  std::function<std::size_t()> get;  // the index of the present one
  std::function<void(std::size_t)> set;
};
struct Extensions {  // EHLO keywords
  smtp::ExtensionSet* to;
};
struct Mechanisms {  // of SASL
  smtp::MechanismSet* to;
};
struct Names {
  std::vector<std::string>* to;
  std::optional<Fault> (*check)(std::string_view);  // may be null
  std::string_view range;
};
struct Path {  // of a file; "" is none
  std::string* to;
};
struct Paths {  // one, or a list
  std::vector<std::string>* to;
};
using Field = std::variant<Count, Size, Duration, Flag, OptionalFlag, Steps, Text, Address, Url, Choice,
                           Extensions, Mechanisms, Names, Path, Paths>;

struct Key {
  std::string_view name;
  std::string_view about;  // one sentence; the manual repeats it
  Field field;
  bool required = false;
  std::string_view example = {};        // TOML; where the default is nothing that could be shown
  std::string_view default_about = {};  // likewise
};

[[nodiscard]] std::vector<Key> keys(Server& server);
[[nodiscard]] std::vector<Key> keys(Listener& listener);
[[nodiscard]] std::vector<Key> keys(Upstream& upstream);
[[nodiscard]] std::vector<Key> keys(Certificate& certificate);
[[nodiscard]] std::vector<Key> keys(Rule& rule);
[[nodiscard]] std::vector<Key> keys(Service& service);
[[nodiscard]] std::vector<Key> keys(Tls& tls);
[[nodiscard]] std::vector<Key> keys(Metrics& metrics);

// A table of the file.
struct Section {
  std::string_view name;
  bool repeated;  // [[name]]
  std::vector<Key> keys;
  [[nodiscard]] std::string heading() const;  // "[[listener]]"
};

// The whole language, bound to values that hold the defaults.
class Language {
 public:
  Language();
  Language(const Language&) = delete;
  Language& operator=(const Language&) = delete;
  [[nodiscard]] const std::vector<Section>& sections() const { return sections_; }

 private:
  Server server_;
  Listener listener_;
  Upstream upstream_;
  Certificate certificate_;
  Rule rule_;
  Service service_;
  Tls tls_;
  Metrics metrics_;
  std::vector<Section> sections_;
};

// "size", "list of names"
[[nodiscard]] std::string type_text(const Field& field);
// What a value may be: "1 to 65535".
[[nodiscard]] std::string range_text(const Field& field);
// The value as TOML: "\"50MiB\"".
[[nodiscard]] std::string value_text(const Field& field);
// For the manual: value_text(), "required", or where the default comes from.
[[nodiscard]] std::string default_text(const Key& key);
// A line to write: "backlog = 4096".
[[nodiscard]] std::string example_text(const Key& key);

// The names of steps, in their order.
[[nodiscard]] std::vector<std::string_view> step_names(policy::Steps steps);

// The words for mechanisms: "cram-md5".
[[nodiscard]] std::vector<std::string> mechanism_words(smtp::MechanismSet set);
[[nodiscard]] smtp::MechanismSet all_mechanisms() noexcept;

// The EHLO keywords that ringmx can offer.
[[nodiscard]] std::vector<std::string_view> extension_keywords(smtp::ExtensionSet set);

}  // namespace ringmx::config
