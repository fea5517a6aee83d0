// SPDX-License-Identifier: GPL-3.0-or-later
#include "config/config.h"

#include <fcntl.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "config/keys.h"
#include "config/notation.h"

// From text to Config in three steps, each of which goes on after a problem so that all of them are
// reported at once: toml++ makes a tree of the text (and stops at the first error, as parsers must);
// Reader takes the tree through the descriptions of keys.h into the structs; check() looks at what
// no key can know alone. In the end the problems are put into the order of the file.

namespace ringmx::config {
namespace {

using Place = toml::source_position;

std::string_view kind(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating-point number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

Fault wrong_kind(const toml::node& node, std::string_view wanted, const Key& key) {
  return {std::string(kind(node)).append(", not ").append(wanted),
          "write " + example_text(key) + ", for example"};
}

class Reader {
 public:
  Reader(const std::string& file, std::vector<Problem>& problems)
      : file_(file), folder_(std::filesystem::path(file).parent_path()), problems_(problems) {}

  void report(Place at, std::string key, Fault fault) {
    problems_.push_back(
        {file_, at.line, at.column, std::move(key), std::move(fault.message), std::move(fault.mend)});
  }

  // Names at the top that are not tables of the language.
  void unknown_sections(const toml::table& root) {
    std::vector<std::string_view> names;
    std::vector<std::string> headings;
    for (const Section& section : language_.sections()) {
      names.push_back(section.name);
      headings.push_back(section.heading());
    }
    for (auto&& [key, node] : root) {
      if (std::find(names.begin(), names.end(), key.str()) != names.end()) continue;
      Fault fault{"unknown", ""};
      const bool is_table = node.is_table() || node.is_array_of_tables();
      if (const auto homes = homes_of(key.str()); !homes.empty() && !is_table) {
        fault = {"not in a table", "put it below " + enumerate(homes, "or")};
      } else if (const auto near = nearest(key.str(), names); !near.empty()) {
        const auto index = std::find(names.begin(), names.end(), near) - names.begin();
        fault.mend = "did you mean " + headings[static_cast<std::size_t>(index)] + "?";
      } else {
        fault.mend = "the tables are " + enumerate(headings, "and");
      }
      report(key.source().begin, printable(key.str()), std::move(fault));
    }
  }

  // [name]; null if it is not there.
  template <class T>
  const toml::table* single(const toml::table& root, std::string_view name, T& out) {
    const toml::node* node = root.get(name);
    if (node == nullptr) return nullptr;
    if (const toml::table* table = node->as_table()) {
      read(*table, name, out);
      return table;
    }
    report(node->source().begin, std::string(name),
           {std::string(kind(*node)) + ", not a table", "write [" + std::string(name) + "], once"});
    return nullptr;
  }

  // [[name]], `at_least` so many. The result is parallel to `out`.
  template <class T>
  std::vector<const toml::table*> repeated(const toml::table& root, std::string_view name,
                                           std::vector<T>& out, std::size_t at_least) {
    std::vector<const toml::table*> tables;
    const std::string heading = "[[" + std::string(name) + "]]";
    const auto take = [&](const toml::table& table) {
      tables.push_back(&table);
      read(table, name, out.emplace_back());
    };
    const toml::node* node = root.get(name);
    const toml::array* array = node == nullptr ? nullptr : node->as_array();
    if (node == nullptr || (array != nullptr && array->empty())) {
      if (at_least == 0) return tables;
      report(node == nullptr ? Place{} : node->source().begin, std::string(name),
             {"missing", "write at least one " + heading + " with a name and an address"});
    } else if (array != nullptr) {
      for (const toml::node& element : *array) {
        if (const toml::table* table = element.as_table())
          take(*table);
        else
          report(element.source().begin, std::string(name),
                 {std::string(kind(element)) + ", not a table", "write " + heading});
      }
    } else {
      report(node->source().begin, std::string(name),
             {std::string(kind(*node)) + ", not an array of tables", "write " + heading});
      if (const toml::table* table = node->as_table()) take(*table);
    }
    return tables;
  }

 private:
  // A key of the file, as it may be shown.
  static std::string printable(std::string_view key) {
    const std::string safe = in_quotes(key);
    return safe.size() == key.size() + 2 ? std::string(key) : safe;
  }

  // The tables that have a key of this name.
  std::vector<std::string> homes_of(std::string_view name) const {
    std::vector<std::string> homes;
    for (const Section& section : language_.sections()) {
      if (std::any_of(section.keys.begin(), section.keys.end(),
                      [&](const Key& key) { return key.name == name; }))
        homes.push_back(section.heading());
    }
    return homes;
  }

  template <class T>
  void read(const toml::table& table, std::string_view section, T& out) {
    const std::vector<Key> known = keys(out);
    const std::string prefix = std::string(section) + ".";
    for (auto&& [name, node] : table) {
      const std::string_view word = name.str();
      const auto key = std::find_if(known.begin(), known.end(), [&](const Key& k) { return k.name == word; });
      if (key == known.end()) {
        report(name.source().begin, prefix + printable(word), {"unknown", mend_unknown(word, known)});
      } else {
        path_ = prefix + std::string(word);
        std::visit([&, &value = node](const auto& field) { take(value, *key, field); }, key->field);
      }
    }
    for (const Key& key : known) {
      if (key.required && !table.contains(key.name)) {
        report(table.source().begin, prefix + std::string(key.name),
               {"missing", "write " + example_text(key) + ", for example"});
      }
    }
  }

  std::string mend_unknown(std::string_view name, const std::vector<Key>& known) const {
    if (const auto homes = homes_of(name); !homes.empty()) return "put it below " + enumerate(homes, "or");
    std::vector<std::string_view> names;
    for (const Key& key : known) names.push_back(key.name);
    if (const auto near = nearest(name, names); !near.empty())
      return "did you mean " + std::string(near) + "?";
    return "the keys here are " + enumerate({names.begin(), names.end()}, "and");
  }

  void report(const toml::node& at, Fault fault) { report(at.source().begin, path_, std::move(fault)); }
  void report_range(const toml::node& at, const std::string& written, const Field& field) {
    report(at, {written + " is out of range", "write " + range_text(field)});
  }

  void take(const toml::node& node, const Key& key, const Count& field) {
    const auto* value = node.as_integer();
    if (value == nullptr) return report(node, wrong_kind(node, "an integer", key));
    if (value->get() < field.min || value->get() > field.max)
      return report_range(node, std::to_string(value->get()), field);
    *field.to = static_cast<std::uint32_t>(value->get());
  }

  void take(const toml::node& node, const Key& key, const Size& field) {
    std::uint64_t octets = 0;
    std::string written;
    if (const auto* number = node.as_integer()) {
      written = std::to_string(number->get());
      if (number->get() < 0) return report_range(node, written, field);
      octets = static_cast<std::uint64_t>(number->get());
    } else if (const auto* text = node.as_string()) {
      written = in_quotes(text->get());
      if (auto fault = parse_size(text->get(), octets)) return report(node, std::move(*fault));
    } else {
      return report(node, wrong_kind(node, "a size", key));
    }
    if (octets < field.min || octets > field.max) return report_range(node, written, field);
    std::visit([&](auto* to) { *to = static_cast<std::remove_pointer_t<decltype(to)>>(octets); }, field.to);
  }

  void take(const toml::node& node, const Key& key, const Duration& field) {
    if (const auto* number = node.as_integer()) {
      const std::string digits = std::to_string(std::max<std::int64_t>(number->get(), 0));
      return report(node, {std::to_string(number->get()) + " has no unit",
                           "write " + in_quotes(digits + "s") + " if seconds are meant"});
    }
    const auto* text = node.as_string();
    if (text == nullptr) return report(node, wrong_kind(node, "a duration", key));
    std::chrono::milliseconds value{};
    if (auto fault = parse_duration(text->get(), value)) return report(node, std::move(*fault));
    if (value < field.min || value > field.max) return report_range(node, in_quotes(text->get()), field);
    *field.to = value;
  }

  void take(const toml::node& node, const Key& key, const Flag& field) {
    const auto* value = node.as_boolean();
    if (value == nullptr) return report(node, wrong_kind(node, "a boolean", key));
    *field.to = value->get();
  }

  void take(const toml::node& node, const Key& key, const OptionalFlag& field) {
    bool value = false;
    take(node, key, Flag{&value});
    if (node.is_boolean()) *field.to = value;
  }

  void take(const toml::node& node, const Key& key, const Steps& field) {
    policy::Steps steps;
    const auto take_step = [&](const toml::node& at, const std::string& word) {
      for (std::size_t i = 0; i < policy::step_count; ++i) {
        const auto step = static_cast<policy::Step>(i);
        if (!field.known.has(step) || policy::name_of(step) != word) continue;
        if (steps.has(step)) return report_twice(at, word);
        return steps.add(step);
      }
      report(at, {in_quotes(word) + " is not a step here", "write " + range_text(field)});
    };
    if (const auto* text = node.as_string()) {
      take_step(node, text->get());
    } else if (!node.is_array()) {
      return report(node, wrong_kind(node, "a step or a list of steps", key));
    } else {
      each_string(node, key, take_step);
      if (node.as_array()->empty())
        report(node, {"names no step", "write " + example_text(key) + ", for example"});
    }
    *field.to = steps;
  }

  void take(const toml::node& node, const Key& key, const Text& field) {
    const auto* text = node.as_string();
    if (text == nullptr) return report(node, wrong_kind(node, "a string", key));
    if (auto fault = field.check(text->get())) return report(node, std::move(*fault));
    *field.to = text->get();
  }

  void take(const toml::node& node, const Key& key, const Address& field) {
    const auto* text = node.as_string();
    if (text == nullptr) return report(node, wrong_kind(node, "an address", key));
    Endpoint value;
    if (auto fault = parse_endpoint(text->get(), value)) return report(node, std::move(*fault));
    if (value.family == Endpoint::Family::unix_socket && !field.unix_allowed) {
      return report(node, {in_quotes(text->get()) + " is a unix socket, which only an upstream can have",
                           "write " + example_text(key) + ", for example"});
    }
    *field.to = std::move(value);
  }

  void take(const toml::node& node, const Key& key, const Url& field) {
    const auto* text = node.as_string();
    if (text == nullptr) return report(node, wrong_kind(node, "a URL or an address", key));
    if (auto fault = parse_service_address(text->get(), *field.to)) report(node, std::move(*fault));
  }

  void take(const toml::node& node, const Key& key, const Choice& field) {
    const auto* text = node.as_string();
    if (text == nullptr) return report(node, wrong_kind(node, "a string", key));
    const auto found = std::find(field.words.begin(), field.words.end(), text->get());
    if (found != field.words.end()) return field.set(static_cast<std::size_t>(found - field.words.begin()));
    // All of them, not the nearest: that of "on" would be "off".
    report(node, {in_quotes(text->get()) + " is not a choice here", "write " + range_text(field)});
  }

  void take(const toml::node& node, const Key& key, const Extensions& field) {
    smtp::ExtensionSet set;
    each_string(node, key, [&](const toml::node& at, const std::string& keyword) {
      smtp::Extension extension{};
      if (!smtp::parse_extension(keyword, extension) || !smtp::ExtensionSet::all().has(extension)) {
        const auto known = extension_keywords(smtp::ExtensionSet::all());
        const auto near = nearest(keyword, known);
        return report(at,
                      {in_quotes(keyword) + " is not an extension that ringmx offers",
                       near.empty() ? "the extensions are " + enumerate({known.begin(), known.end()}, "and")
                                    : "did you mean " + in_quotes(near) + "?"});
      }
      if (set.has(extension)) return report_twice(at, keyword);
      set.add(extension);
    });
    *field.to = set;
  }

  void take(const toml::node& node, const Key& key, const Mechanisms& field) {
    smtp::MechanismSet set;
    each_string(node, key, [&](const toml::node& at, const std::string& word) {
      const auto mechanism = smtp::parse_mechanism(word);
      if (!mechanism) {
        return report(at, {in_quotes(word) + " is not a mechanism that ringmx has",
                           "the mechanisms are " + range_text(field)});
      }
      if (set.has(*mechanism)) return report_twice(at, word);
      set.add(*mechanism);
    });
    *field.to = set;
  }

  void take(const toml::node& node, const Key& key, const Names& field) {
    std::vector<std::string> names;
    each_string(node, key, [&](const toml::node& at, const std::string& name) {
      if (std::find(names.begin(), names.end(), name) != names.end()) return report_twice(at, name);
      if (field.check != nullptr) {
        if (auto fault = field.check(name)) return report(at, std::move(*fault));
      }
      names.push_back(name);
    });
    *field.to = std::move(names);
  }

  void take(const toml::node& node, const Key& key, const Path& field) {
    const auto* text = node.as_string();
    if (text == nullptr) return report(node, wrong_kind(node, "a path", key));
    if (text->get().empty()) return field.to->clear();
    if (auto fault = check_path(text->get())) return report(node, std::move(*fault));
    *field.to = resolved(text->get());
  }

  void take(const toml::node& node, const Key& key, const Paths& field) {
    std::vector<std::string> paths;
    const auto take_path = [&](const toml::node& at, const std::string& path) {
      if (auto fault = check_path(path)) return report(at, std::move(*fault));
      paths.push_back(resolved(path));
    };
    if (const auto* text = node.as_string()) {
      take_path(node, text->get());
    } else if (!node.is_array()) {
      return report(node, wrong_kind(node, "a path or a list of paths", key));
    } else {
      each_string(node, key, take_path);
      if (key.required && node.as_array()->empty())
        report(node, {"names no file", "write " + example_text(key) + ", for example"});
    }
    *field.to = std::move(paths);
  }

  std::string resolved(const std::string& path) const { return (folder_ / path).string(); }

  void report_twice(const toml::node& at, const std::string& word) {
    report(at, {in_quotes(word) + " is listed twice", "list it once"});
  }

  template <class Take>
  void each_string(const toml::node& node, const Key& key, Take take_string) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return report(node, wrong_kind(node, "an array of strings", key));
    for (const toml::node& element : *array) {
      if (const auto* text = element.as_string())
        take_string(element, text->get());
      else
        report(element, wrong_kind(element, "a string", key));
    }
  }

  const std::string& file_;
  std::filesystem::path folder_;
  std::vector<Problem>& problems_;
  Language language_;
  std::string path_;  // of the key that is being read: "listener.address"
};

Place place_of(const toml::table* table, std::string_view key) {
  if (table == nullptr) return {};
  const toml::node* node = table->get(key);
  return (node == nullptr ? table->source() : node->source()).begin;
}

// A key that could not be read has left its Endpoint empty.
bool given(const Endpoint& e) {
  return e.port != 0 || !e.path.empty();
}

bool is_wildcard(const Endpoint& e) {
  return e.host == "0.0.0.0" || e.host == "::";
}

// Both can't be listened at.
bool collide(const Endpoint& a, const Endpoint& b) {
  return a == b ||
         (a.family == b.family && a.port == b.port && given(a) && (is_wildcard(a) || is_wildcard(b)));
}

// Whoever connects to `to` ends up at `listener`.
bool leads_to(const Endpoint& to, const Endpoint& listener) {
  return to == listener ||
         (to.family == listener.family && to.port == listener.port && is_wildcard(listener) && to.local());
}

// The tables that the parts of a Config were read from.
struct Origin {
  const toml::table* server;
  std::vector<const toml::table*> listeners;
  std::vector<const toml::table*> upstreams;
  std::vector<const toml::table*> certificates;
  std::vector<const toml::table*> rules;
  std::vector<const toml::table*> services;
  const toml::table* metrics;
};

std::string line_of(const toml::table* table, std::string_view key) {
  return " in line " + std::to_string(place_of(table, key).line);
}

// Two of a kind with one name.
template <class T>
void check_unique_names(Reader& reader, const std::vector<T>& parts,
                        const std::vector<const toml::table*>& tables, const std::string& section) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto before = parts.begin() + static_cast<std::ptrdiff_t>(i);
    const auto same =
        std::find_if(parts.begin(), before, [&](const T& p) { return p.name == parts[i].name; });
    if (same == before || parts[i].name.empty()) continue;
    reader.report(place_of(tables[i], "name"), section + ".name",
                  {in_quotes(parts[i].name) + " is already the name of the " + section +
                       line_of(tables[static_cast<std::size_t>(same - parts.begin())], "name"),
                   "write another name"});
  }
}

// Or with one address.
template <class T>
void check_unique(Reader& reader, const std::vector<T>& parts, const std::vector<const toml::table*>& tables,
                  const std::string& section) {
  check_unique_names(reader, parts, tables, section);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto before = parts.begin() + static_cast<std::ptrdiff_t>(i);
    const auto same_address =
        std::find_if(parts.begin(), before, [&](const T& p) { return p.address == parts[i].address; });
    if (same_address != before && given(parts[i].address)) {
      reader.report(place_of(tables[i], "address"), section + ".address",
                    {in_quotes(parts[i].address.text()) + " is already the address of the " + section +
                         line_of(tables[static_cast<std::size_t>(same_address - parts.begin())], "address"),
                     "write another address, or remove one of the two"});
    }
  }
}

// In the list `key` of a table: names that nobody of `parts`, which are of the section `kind`, has.
template <class T>
void check_names_in(Reader& reader, const toml::table* table, const std::string& section,
                    const std::string& key, const std::vector<std::string>& names,
                    const std::vector<T>& parts, const std::string& kind) {
  std::vector<std::string> known;
  for (const T& part : parts) {
    if (!part.name.empty()) known.push_back(in_quotes(part.name));
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), in_quotes(name)) != known.end()) continue;
    Place at = place_of(table, key);
    for (const toml::node& element : *table->get_as<toml::array>(key)) {
      if (element.value_exact<std::string>() == name) at = element.source().begin;
    }
    reader.report(at, section + "." + key,
                  {"there is no " + kind + " " + in_quotes(name),
                   known.empty() ? "write a [[" + kind + "]] with this name"
                                 : "write one of those there are: " + enumerate(known, "or")});
  }
}

void check_addresses(Reader& reader, const Config& config, const Origin& origin) {
  for (std::size_t i = 0; i < config.upstreams.size(); ++i) {
    const Endpoint& address = config.upstreams[i].address;
    const Place at = place_of(origin.upstreams[i], "address");
    if (is_wildcard(address)) {
      reader.report(
          at, "upstream.address",
          {in_quotes(address.text()) + " is not one host's address", "write the mail server's own address"});
    }
    for (const Listener& listener : config.listeners) {
      if (!given(address) || !leads_to(address, listener.address)) continue;
      reader.report(at, "upstream.address",
                    {in_quotes(address.text()) + " is where the listener " + in_quotes(listener.name) +
                         " takes mail: it would go round in circles",
                     "write the mail server's address"});
    }
  }
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    if (!config.metrics.enabled || !collide(config.metrics.address, config.listeners[i].address) ||
        !given(config.metrics.address))
      continue;
    reader.report(place_of(origin.metrics, "address"), "metrics.address",
                  {in_quotes(config.metrics.address.text()) + " collides with the listener" +
                       line_of(origin.listeners[i], "address"),
                   "write another port"});
  }
}

bool contains(const toml::table* table, std::string_view key) {
  return table != nullptr && table->contains(key);
}

// A list that is there, but is faulty, has been reported: nothing more can be said about it.
bool unreadable(const toml::table* table, std::string_view key, const std::vector<std::string>& paths) {
  if (!contains(table, key)) return false;
  const toml::array* array = table->get_as<toml::array>(key);
  return paths.size() < (array == nullptr ? 1 : array->size());
}

bool unreadable_path(const toml::table* table, std::string_view key) {
  if (!contains(table, key)) return false;
  const auto* text = table->get_as<std::string>(key);
  return text == nullptr || !text->get().empty();
}

// A key for each certificate.
template <class T>
void check_keys(Reader& reader, const T& part, const toml::table* table, const std::string& section) {
  if (unreadable(table, "certificate", part.certificate) ||
      unreadable(table, "private_key", part.private_key))
    return;
  const std::size_t certificates = part.certificate.size();
  const std::size_t private_keys = part.private_key.size();
  if (certificates == private_keys) return;
  // There both are required, and have been missed already.
  if (section == "certificate" && std::min(certificates, private_keys) == 0) return;
  const std::string key = private_keys == 0 ? "certificate" : "private_key";
  const auto counted = [](std::size_t n, std::string_view what) {
    return (n == 0 ? "no" : std::to_string(n)) + " " + std::string(what) + (n == 1 ? "" : "s");
  };
  reader.report(place_of(table, key), section + "." + key,
                {counted(certificates, "certificate") + " and " + counted(private_keys, "private key"),
                 "write a private_key for each certificate, in the same order; both may be in one file"});
}

std::string_view tls_key(bool implicit_tls) {
  return implicit_tls ? "implicit_tls" : "starttls";
}

// Of listeners and upstreams.
template <class T>
void check_tls(Reader& reader, const T& part, const toml::table* table, const std::string& section,
               bool with_tls) {
  if (!part.uses_tls()) return;
  const std::string key(tls_key(part.implicit_tls));
  if (!with_tls) {
    reader.report(place_of(table, key), section + "." + key,
                  {"this ringmx was built without TLS",
                   "build one with it (meson setup build -Dtls=enabled), or remove the key"});
  }
  if (part.implicit_tls && part.starttls != smtp::StartTls::off) {
    reader.report(place_of(table, "starttls"), section + ".starttls",
                  {"there is nothing left to start with implicit_tls",
                   R"(remove one of the two: implicit_tls is for port 465, starttls for port 25)"});
  }
}

void check_listener_tls(Reader& reader, const Config& config, const Listener& listener,
                        const toml::table* table, bool with_tls) {
  check_tls(reader, listener, table, "listener", with_tls);
  check_keys(reader, listener, table, "listener");
  const bool readable = !unreadable(table, "certificate", listener.certificate);
  if (listener.uses_tls() && readable && listener.certificate.empty() && config.certificates.empty()) {
    const std::string key(tls_key(listener.implicit_tls));
    reader.report(place_of(table, key), "listener." + key,
                  {"TLS needs a certificate",
                   R"(write certificate = "mx.pem" and private_key = "mx.key", or a [[certificate]])"});
  }
  const bool asks = listener.client_certificates != tls::ClientCertificates::none;
  if (asks && !listener.uses_tls()) {
    reader.report(place_of(table, "client_certificates"), "listener.client_certificates",
                  {"there are no certificates without TLS", R"(write starttls = "required", for example)"});
  }
  if (asks && listener.client_ca_file.empty() && !unreadable_path(table, "client_ca_file")) {
    reader.report(place_of(table, "client_certificates"), "listener.client_certificates",
                  {"there is nothing to verify them with", R"(write client_ca_file = "client-ca.pem")"});
  }
  if (!asks && !listener.client_ca_file.empty() && !contains(table, "client_certificates")) {
    reader.report(place_of(table, "client_ca_file"), "listener.client_ca_file",
                  {"clients are not asked for certificates",
                   R"(write client_certificates = "request" or "require", or remove the key)"});
  }
}

// Of upstreams and services: what a certificate is verified with. `tls_key` is what asks for TLS.
template <class T>
void check_verification(Reader& reader, const T& part, const toml::table* table, const std::string& section,
                        const std::string& tls_key) {
  using Verify = tls::ClientSettings::Verify;
  const bool by_file = part.verify == Verify::ca_file;
  if (by_file && part.ca_file.empty() && !unreadable_path(table, "ca_file")) {
    reader.report(
        place_of(table, "verify"), section + ".verify",
        {"there is no ca_file to verify with", R"(write ca_file = "ca.pem", or verify = "system")"});
  }
  if (!by_file && !part.ca_file.empty()) {
    reader.report(place_of(table, "ca_file"), section + ".ca_file",
                  {"it is not used", R"(write verify = "ca_file", or remove the key)"});
  }
  if (part.uses_tls() && part.verify != Verify::none && part.tls_name.empty() &&
      !unreadable_path(table, "tls_name")) {
    const std::string key = contains(table, "verify") ? "verify" : tls_key;
    reader.report(place_of(table, key), section + "." + key,
                  {"a certificate is verified by name, and the address has none",
                   R"(write tls_name = "mta.example.com", the name in the certificate, or verify = "none")"});
  }
}

void check_upstream_tls(Reader& reader, const Upstream& upstream, const toml::table* table, bool with_tls) {
  check_tls(reader, upstream, table, "upstream", with_tls);
  check_verification(reader, upstream, table, "upstream", std::string(tls_key(upstream.implicit_tls)));
}

void check_service(Reader& reader, const Service& service, const toml::table* table, bool with_tls) {
  const auto report = [&](std::string_view key, Fault fault) {
    reader.report(place_of(table, key), "service." + std::string(key), std::move(fault));
  };
  const bool http = service.protocol == Service::Protocol::auth_http;
  const bool address_known = given(service.address.endpoint);
  if (address_known && http && !service.address.http) {
    report("address", {in_quotes(service.address.text()) + " is no URL, which auth_http needs",
                       R"(write "http://127.0.0.1:9000/auth", for example, or protocol = "policy")"});
  } else if (address_known && !http && service.address.http) {
    report("address",
           {in_quotes(service.address.text()) + " is a URL, and Postfix's policy protocol has none",
            R"(write "127.0.0.1:10023", for example, or protocol = "auth_http")"});
  }
  if (is_wildcard(service.address.endpoint)) {
    report("address", {in_quotes(service.address.endpoint.text()) + " is not one host's address",
                       "write the service's own address"});
  }
  if (service.uses_tls() && !with_tls) {
    report("address", {"this ringmx was built without TLS",
                       "build one with it (meson setup build -Dtls=enabled), or write http://"});
  }
  check_verification(reader, service, table, "service", "address");
  if (service.steps.has(policy::Step::auth) && service.on_failure == Service::OnFailure::allow) {
    report("on_failure", {R"(while it is down, "allow" would let anybody in as anybody at AUTH)",
                          R"(write on_failure = "tempfail", or another [[service]] with steps = "auth")"});
  }
  if (http) return;
  for (const std::string_view key : {"headers", "extra_headers", "pass_certificate", "close_after_refusal"}) {
    if (contains(table, key)) report(key, {"Postfix's policy protocol has no such thing", "remove the key"});
  }
  if (service.steps.has(policy::Step::auth)) {
    report("steps", {"Postfix's policy protocol is not asked at AUTH", R"(remove "auth")"});
  }
}

void check_auth(Reader& reader, const Config& config, const Listener& listener, const toml::table* table) {
  using policy::Step;
  const auto asked_at_auth = [&](const std::string& name) {
    return std::any_of(config.services.begin(), config.services.end(), [&](const Service& service) {
      return service.name == name && service.steps.has(Step::auth);
    });
  };
  if (listener.auth.empty()) {
    if (listener.auth_required) {
      reader.report(place_of(table, "auth_required"), "listener.auth_required",
                    {"there is no AUTH, so nobody could send anything",
                     R"(write auth = ["plain", "login"], or remove the key)"});
    }
    return;
  }
  if (std::none_of(listener.services.begin(), listener.services.end(), asked_at_auth)) {
    reader.report(place_of(table, "auth"), "listener.auth",
                  {"there is nobody to ask whether credentials are good",
                   R"(write a [[service]] with protocol = "auth_http" and steps = "auth", and its name into )"
                   R"(services here)"});
  }
  if (listener.auth.has(smtp::Mechanism::external) &&
      listener.client_certificates == tls::ClientCertificates::none) {
    reader.report(place_of(table, "auth"), "listener.auth",
                  {R"("external" is by client certificate, and clients are not asked for one)",
                   R"(write client_certificates = "request", or remove "external")"});
  }
}

void check_authenticate(Reader& reader, const Upstream& upstream, const toml::table* table) {
  const bool plain = upstream.authenticate == Upstream::Authenticate::plain;
  if (!plain && upstream.authenticate_in_clear_text) {
    reader.report(place_of(table, "authenticate_in_clear_text"), "upstream.authenticate_in_clear_text",
                  {"no password is told", R"(write authenticate = "plain", or remove the key)"});
  }
  if (plain && !upstream.uses_tls() && given(upstream.address) && !upstream.address.local() &&
      !upstream.authenticate_in_clear_text) {
    reader.report(
        place_of(table, "authenticate"), "upstream.authenticate",
        {"passwords would leave this host in clear text",
         R"(write starttls = "required", or authenticate_in_clear_text = true if that network may see )"
         R"(them)"});
  }
}

// Of a rule that can't be kept, or in which a key says nothing.
void check_rule(Reader& reader, const Config& config, const Rule& rule, const toml::table* table) {
  using policy::Otherwise;
  using policy::Step;
  const auto report = [&](std::string_view key, Fault fault) {
    reader.report(place_of(table, key), "rule." + std::string(key), std::move(fault));
  };
  check_names_in(reader, table, "rule", "listeners", rule.listeners, config.listeners, "listener");
  // The first of two keys that is there.
  const auto given_one = [&](std::string_view list, std::string_view file) {
    return contains(table, list) ? list : file;
  };
  for (const Step step : {Step::auth, Step::mail, Step::data}) {
    if (!rule.names_recipients() || !rule.steps.has(step)) continue;
    report(given_one("recipient_domains", "recipient_domains_file"),
           {"at the step " + in_quotes(policy::name_of(step)) + " there is no one recipient",
            R"(write steps = "rcpt", or remove the key)"});
    break;
  }
  if (rule.names_senders() && rule.steps.has(Step::auth)) {
    report(given_one("sender_domains", "sender_domains_file"),
           {R"(at the step "auth" there is no sender)", R"(write steps = "mail", or remove the key)"});
  }
  if (rule.authenticated.value_or(false) && rule.steps.has(Step::auth)) {
    report("authenticated", {R"(at the step "auth" nobody has said yet who it is)",
                             R"(write steps = "mail", or remove the key)"});
  }

  const bool lets_pass = rule.otherwise == Otherwise::mark || rule.otherwise == Otherwise::next;
  if (!rule.requires_tls() && contains(table, "otherwise")) {
    report("otherwise", {"nothing is required, so nobody can lack it",
                         R"(write tls = "required", for example, or remove the key)"});
  }
  if (rule.reply.empty()) {
    // The one that fits.
  } else if (!rule.requires_tls()) {
    report("reply", {"nothing is required, so nobody is told this",
                     R"(write tls = "required", for example, or remove the key)"});
  } else if (lets_pass) {
    report("reply", {"nobody is told this: the rule refuses nothing",
                     R"(write otherwise = "refuse" or "tempfail", or remove the key)"});
  } else if ((rule.reply.front() == '5') != (rule.otherwise == Otherwise::refuse)) {
    const bool refuses = rule.otherwise == Otherwise::refuse;
    report("reply", {in_quotes(rule.reply.substr(0, 3)) + " is not the code of " +
                         (refuses ? "a refusal" : "a temporary failure"),
                     refuses ? R"(write a code of the form 5xx, or otherwise = "tempfail")"
                             : R"(write a code of the form 4xx, or otherwise = "refuse")"});
  }

  // What a listener that it names can't give it.
  for (const Listener& listener : config.listeners) {
    const bool named =
        std::find(rule.listeners.begin(), rule.listeners.end(), listener.name) != rule.listeners.end();
    if (!named || !rule.requires_tls()) continue;
    if (!listener.uses_tls()) {
      report("listeners",
             {"the listener " + in_quotes(listener.name) + " has no TLS, which the rule requires",
              R"(write starttls = "optional" there, or remove its name here)"});
    } else if (rule.requires_certificate() && listener.client_certificates == tls::ClientCertificates::none) {
      report("listeners", {"the listener " + in_quotes(listener.name) +
                               " asks for no certificates, and the rule requires one",
                           R"(write client_certificates = "request" there, or remove its name here)"});
    }
  }
}

// What no key can know alone.
void check(Reader& reader, const Config& config, const Origin& origin, bool with_tls) {
  const Server& server = config.server;
  if (server.session_memory > server.receive_memory / 2) {
    reader.report(
        place_of(origin.server, "session_memory"), "server.session_memory",
        {"more than half of receive_memory for one session", "write at most half of receive_memory"});
  }
  check_unique(reader, config.listeners, origin.listeners, "listener");
  check_unique(reader, config.upstreams, origin.upstreams, "upstream");
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    check_names_in(reader, origin.listeners[i], "listener", "upstreams", config.listeners[i].upstreams,
                   config.upstreams, "upstream");
    check_names_in(reader, origin.listeners[i], "listener", "services", config.listeners[i].services,
                   config.services, "service");
  }
  check_addresses(reader, config, origin);
  for (std::size_t i = 0; i < config.listeners.size(); ++i)
    check_listener_tls(reader, config, config.listeners[i], origin.listeners[i], with_tls);
  for (std::size_t i = 0; i < config.listeners.size(); ++i)
    check_auth(reader, config, config.listeners[i], origin.listeners[i]);
  for (std::size_t i = 0; i < config.upstreams.size(); ++i)
    check_upstream_tls(reader, config.upstreams[i], origin.upstreams[i], with_tls);
  for (std::size_t i = 0; i < config.upstreams.size(); ++i)
    check_authenticate(reader, config.upstreams[i], origin.upstreams[i]);
  for (std::size_t i = 0; i < config.certificates.size(); ++i)
    check_keys(reader, config.certificates[i], origin.certificates[i], "certificate");
  check_unique_names(reader, config.rules, origin.rules, "rule");
  for (std::size_t i = 0; i < config.rules.size(); ++i)
    check_rule(reader, config, config.rules[i], origin.rules[i]);
  check_unique_names(reader, config.services, origin.services, "service");
  for (std::size_t i = 0; i < config.services.size(); ++i)
    check_service(reader, config.services[i], origin.services[i], with_tls);
}

// Whoever could do without TLS gains nothing by verifying.
void default_verification(std::vector<Upstream>& upstreams, const std::vector<const toml::table*>& tables) {
  for (std::size_t i = 0; i < upstreams.size(); ++i) {
    if (upstreams[i].starttls == smtp::StartTls::optional && !contains(tables[i], "verify"))
      upstreams[i].verify = tls::ClientSettings::Verify::none;
  }
}

void default_steps(std::vector<Rule>& rules, const std::vector<const toml::table*>& tables) {
  using policy::Step;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (!contains(tables[i], "steps"))
      rules[i].steps = {rules[i].names_recipients() ? Step::rcpt : Step::mail};
  }
}

void default_hostname(Reader& reader, Server& server, const toml::table* table) {
  if (table != nullptr && table->contains("hostname")) return;
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  server.hostname = name.data();
  if (auto fault = check_domain(server.hostname)) {
    reader.report(place_of(table, "hostname"), "server.hostname",
                  {"missing, and the host's own name can't stand in: " + fault->message,
                   R"(write hostname = "mx.example.com", for example)"});
  }
}

std::optional<std::string> read_file(const std::string& file, std::string& error) {
  // A configuration has some kilobytes; a device or a log would go on and on.
  constexpr std::size_t limit = 1024 * 1024;
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text;
  ssize_t n = fd < 0 ? -1 : 1;
  while (n > 0 && text.size() <= limit) {
    std::array<char, 16384> block;
    n = ::read(fd, block.data(), block.size());
    if (n > 0) text.append(block.data(), static_cast<std::size_t>(n));
  }
  if (n < 0) error = std::generic_category().message(errno);
  if (n > 0) error = "it has more than 1 MiB";
  if (fd >= 0) ::close(fd);
  if (n == 0) return text;
  return std::nullopt;
}

// Pairs of files, for the clients that ask for one of `names`.
void append_certificates(std::vector<tls::CertificateFiles>& to, const std::vector<std::string>& certificates,
                         const std::vector<std::string>& private_keys,
                         const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < certificates.size(); ++i)
    to.push_back({certificates[i], private_keys[i], names});
}

}  // namespace

const bool built_with_tls = RINGMX_WITH_TLS != 0;

std::string Endpoint::text() const {
  switch (family) {
    case Family::ipv4:
      return host + ":" + std::to_string(port);
    case Family::ipv6:
      return "[" + host + "]:" + std::to_string(port);
    case Family::unix_socket:
      return "unix:" + path;
  }
  return {};
}

std::string ServiceAddress::text() const {
  if (!http) return endpoint.text();
  return (tls ? "https://" : "http://") + endpoint.text() +
         (endpoint.family == Endpoint::Family::unix_socket ? ":" : "") + target;
}

bool Endpoint::local() const {
  return family == Family::unix_socket || host == "::1" || host.starts_with("127.");
}

std::string Problem::text() const {
  std::string out = file + ":";
  if (line != 0) out += std::to_string(line) + ":" + std::to_string(column) + ":";
  if (!key.empty()) out += " " + key + ":";
  out += " " + message;
  return mend.empty() ? out : out + "; " + mend;
}

bool parse(std::string_view text, const std::string& file, Config& out, std::vector<Problem>& problems,
           bool with_tls) {
  const std::size_t before = problems.size();
  Reader reader(file, problems);
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& error) {
    const std::string_view description = error.description();
    reader.report(error.source().begin, "",
                  {"not TOML: " + on_one_line(description),
                   description.find("redefine") != description.npos
                       ? "write each key once, and a [[listener]] or [[upstream]] for each one of several"
                       : R"(write key = value, with text and units in quotes: hostname = "mx.example.com")"});
    return false;
  }

  Config config;
  Origin origin{};
  reader.unknown_sections(root);
  origin.server = reader.single(root, "server", config.server);
  origin.listeners = reader.repeated(root, "listener", config.listeners, 1);
  origin.upstreams = reader.repeated(root, "upstream", config.upstreams, 1);
  origin.certificates = reader.repeated(root, "certificate", config.certificates, 0);
  origin.rules = reader.repeated(root, "rule", config.rules, 0);
  reader.single(root, "tls", config.tls);
  origin.metrics = reader.single(root, "metrics", config.metrics);
  config.metrics.enabled = origin.metrics != nullptr;
  default_hostname(reader, config.server, origin.server);
  origin.services = reader.repeated(root, "service", config.services, 0);
  default_verification(config.upstreams, origin.upstreams);
  default_steps(config.rules, origin.rules);
  check(reader, config, origin, with_tls);

  if (problems.size() == before) {
    out = std::move(config);
    return true;
  }
  std::stable_sort(problems.begin() + static_cast<std::ptrdiff_t>(before), problems.end(),
                   [](const Problem& a, const Problem& b) {
                     return std::pair(a.line, a.column) < std::pair(b.line, b.column);
                   });
  return false;
}

bool load(const std::string& file, Config& out, std::vector<Problem>& problems) {
  std::string error;
  if (const auto text = read_file(file, error)) return parse(*text, file, out, problems);
  problems.push_back({file, 0, 0, "", "can't be read: " + error, "name a readable TOML file"});
  return false;
}

smtp::SessionRules session_rules(const Listener& listener) {
  return {.message_size_limit = listener.message_size_limit,
          .recipient_limit = listener.recipient_limit,
          .command_line_limit = listener.command_line_limit,
          .error_limit = listener.error_limit,
          .junk_command_limit = listener.junk_command_limit,
          .bare_lf_ends_line = listener.bare_lf_in_commands,
          .starttls = listener.starttls,
          .auth = listener.auth,
          .auth_failure_limit = listener.auth_failure_limit,
          .auth_required = listener.auth_required};
}

tls::ServerSettings server_settings(const Config& config, const Listener& listener) {
  tls::ServerSettings settings;
  std::vector<tls::CertificateFiles>& files = settings.certificates;
  append_certificates(files, listener.certificate, listener.private_key, {});
  const bool own = !files.empty();
  for (const Certificate& c : config.certificates) {
    if (own && c.names.empty()) continue;  // its own go first
    append_certificates(files, c.certificate, c.private_key, c.names);
  }
  // All have names: then the first are also for whoever asks for none.
  if (std::all_of(files.begin(), files.end(), [](const auto& f) { return !f.names.empty(); }) &&
      !config.certificates.empty()) {
    const Certificate& first = config.certificates.front();
    append_certificates(files, first.certificate, first.private_key, {});
  }
  settings.minimum = listener.minimum_tls_version;
  settings.client_certificates = listener.client_certificates;
  settings.client_ca_file = listener.client_ca_file;
  settings.tickets.enabled = config.tls.session_tickets;
  settings.tickets.lifetime = std::chrono::duration_cast<std::chrono::seconds>(config.tls.ticket_lifetime);
  settings.tickets.key_files = config.tls.ticket_key_files;
  settings.offload = config.tls.ktls;
  return settings;
}

namespace {
// Of upstreams and services.
template <class T>
tls::ClientSettings settings_of(const Config& config, const T& part) {
  tls::ClientSettings settings;
  settings.verify = part.verify;
  settings.ca_file = part.ca_file;
  settings.name = part.tls_name;
  settings.offload = config.tls.ktls;
  return settings;
}
}  // namespace

tls::ClientSettings client_settings(const Config& config, const Upstream& upstream) {
  return settings_of(config, upstream);
}

tls::ClientSettings client_settings(const Config& config, const Service& service) {
  return settings_of(config, service);
}

}  // namespace ringmx::config
