// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/options.h"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>

namespace ringmx::load {

namespace {

using Problem = std::optional<std::string>;

std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

Problem parse_target(std::string_view text, Target& out) {
  const auto wrong = [&] {
    return quoted(text) + " is no target: write HOST:PORT, [IPV6]:PORT or unix:PATH";
  };
  if (text.starts_with("unix:")) {
    out.path = text.substr(5);
    return out.path.empty() ? Problem(wrong()) : std::nullopt;
  }
  std::string_view host = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == text.npos) return wrong();
    host = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return wrong();
  } else if (const std::size_t colon = text.find(':'); colon != text.npos) {
    if (text.find(':', colon + 1) != text.npos) return wrong();  // IPv6 without brackets
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  if (host.empty() || host.find_first_of(" \t/@") != host.npos) return wrong();
  out.host = host;
  if (!port.empty()) {
    const auto number = parse_number(port.substr(1));
    if (!number || *number == 0 || *number > 65535) return wrong();
    out.port = static_cast<std::uint16_t>(*number);
  }
  return std::nullopt;
}

Problem parse_source(std::string_view text, Source& out) {
  const std::size_t slash = text.find('/');
  out.address = text.substr(0, slash);
  if (slash == text.npos) return std::nullopt;
  const auto bits = parse_number(text.substr(slash + 1));
  const bool v4 = out.address.find(':') == out.address.npos;
  if (!bits || !v4 || *bits < 8 || *bits > 30) {
    return quoted(text) + ": write an address, or an IPv4 network like 127.1.0.0/16 (/8 to /30)";
  }
  out.host_bits = static_cast<unsigned>(32 - *bits);
  return std::nullopt;
}

template <class Number>
Problem number(std::string_view text, Number& out, std::uint64_t least, std::uint64_t most) {
  const auto value = parse_number(text);
  if (!value || *value < least || *value > most) {
    return quoted(text) + " is no number from " + std::to_string(least) + " to " + std::to_string(most);
  }
  out = static_cast<Number>(*value);
  return std::nullopt;
}

Problem decimal(std::string_view text, double& out, double most) {
  const auto value = parse_decimal(text);
  if (!value || *value > most)
    return quoted(text) + " is no number from 0 to " + format_size(static_cast<std::uint64_t>(most));
  out = *value;
  return std::nullopt;
}

Problem duration(std::string_view text, Nanoseconds& out, Nanoseconds least = 1'000'000) {
  const auto value = parse_duration(text);
  if (!value || *value < least || *value > 7 * 24 * 3600 * second) {
    return quoted(text) + " is no time: write 30s, 250ms, 5m or 1h; " +
           (least == 0 ? "at most a week" : "1ms to a week");
  }
  out = *value;
  return std::nullopt;
}

Problem size(std::string_view text, std::uint64_t& out) {
  const auto value = parse_size(text);
  if (!value || *value == 0 || *value > Sizes::limit)
    return quoted(text) + " is no size: write 4096, 64KiB or 1MiB";
  out = *value;
  return std::nullopt;
}

// A list of names, each of a table, best first.
template <class Value, std::size_t n>
Problem names(std::string_view text, const std::array<std::pair<std::string_view, Value>, n>& table,
              std::vector<Value>& out) {
  out.clear();
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    const std::string_view name = text.substr(0, comma);
    const auto found =
        std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.first == name; });
    if (found == table.end()) {
      std::string problem = quoted(name) + " is none of";
      for (const auto& [known, value] : table)
        problem.append(known == table[0].first ? " " : ", ").append(known);
      return problem;
    }
    out.push_back(found->second);
    more = comma != text.npos;
    if (more) text.remove_prefix(comma + 1);
  }
  return std::nullopt;
}

constexpr std::array<std::pair<std::string_view, tls::Cipher>, 3> cipher_names{
    {{"aes-128-gcm", tls::Cipher::aes_128_gcm},
     {"aes-256-gcm", tls::Cipher::aes_256_gcm},
     {"chacha20-poly1305", tls::Cipher::chacha20_poly1305}}};
constexpr std::array<std::pair<std::string_view, tls::Group>, 3> group_names{
    {{tls::name_of(tls::Group::x25519_mlkem768), tls::Group::x25519_mlkem768},
     {tls::name_of(tls::Group::x25519), tls::Group::x25519},
     {tls::name_of(tls::Group::p256), tls::Group::p256}}};

struct Option {
  std::string_view name;
  char letter;  // 0: none
  bool takes_value;
  std::function<Problem(Options&, std::string_view)> set;
};

constexpr std::uint64_t most = std::uint64_t{1} << 50;

const std::vector<Option>& options() {
  static const std::vector<Option> all{
      {"count", 'n', true, [](Options& o, std::string_view v) { return number(v, o.count, 1, most); }},
      {"duration", 'd', true, [](Options& o, std::string_view v) { return duration(v, o.duration); }},
      {"ramp", 0, true, [](Options& o, std::string_view v) { return duration(v, o.ramp, 0); }},
      {"drain", 0, true, [](Options& o, std::string_view v) { return duration(v, o.drain, 0); }},
      {"sessions", 's', true,
       [](Options& o, std::string_view v) { return number(v, o.sessions, 1, 1'000'000); }},
      {"messages", 'm', true,
       [](Options& o, std::string_view v) { return number(v, o.per_session, 0, most); }},
      {"keep", 'k', false,
       [](Options& o, std::string_view) {
         o.per_session = 0;
         return Problem();
       }},
      {"rate", 'r', true,
       [](Options& o, std::string_view v) {
         if (Problem problem = decimal(v, o.rate, 10'000'000)) return problem;
         return o.rate > 0 ? Problem() : "a rate of 0 sends nothing";
       }},
      {"idle", 0, false,
       [](Options& o, std::string_view) {
         o.idle = true;
         return Problem();
       }},
      {"threads", 0, true, [](Options& o, std::string_view v) { return number(v, o.threads, 0, 1024); }},
      {"source", 0, true, [](Options& o, std::string_view v) { return parse_source(v, o.source); }},
      {"allow-remote", 0, false,
       [](Options& o, std::string_view) {
         o.allow_remote = true;
         return Problem();
       }},
      {"pipelining", 'p', true,
       [](Options& o, std::string_view v) {
         using Pipelining = Manners::Pipelining;
         constexpr std::array words{std::pair{"offered", Pipelining::offered},
                                    std::pair{"never", Pipelining::never},
                                    std::pair{"always", Pipelining::always}};
         for (const auto& [word, meaning] : words) {
           if (v != word) continue;
           o.manners.pipelining = meaning;
           return Problem();
         }
         return Problem(quoted(v) + " is none of offered, never, always");
       }},
      {"bdat", 0, false,
       [](Options& o, std::string_view) {
         o.manners.bdat = true;
         return Problem();
       }},
      {"chunk", 0, true,
       [](Options& o, std::string_view v) {
         o.manners.bdat = true;
         return size(v, o.manners.chunk_size);
       }},
      {"starttls", 0, false,
       [](Options& o, std::string_view) {
         o.manners.starttls = true;
         return Problem();
       }},
      {"tls", 0, false,
       [](Options& o, std::string_view) {
         o.tls.implicit = true;
         return Problem();
       }},
      {"resume", 0, false,
       [](Options& o, std::string_view) {
         o.tls.resume = true;
         return Problem();
       }},
      {"tls-version", 0, true,
       [](Options& o, std::string_view v) {
         if (v != "1.2" && v != "1.3") return Problem(quoted(v) + " is neither 1.2 nor 1.3");
         o.tls.client.minimum = o.tls.client.maximum = v == "1.2" ? tls::Version::tls12 : tls::Version::tls13;
         return Problem();
       }},
      {"ciphers", 0, true,
       [](Options& o, std::string_view v) { return names(v, cipher_names, o.tls.client.ciphers); }},
      {"groups", 0, true,
       [](Options& o, std::string_view v) { return names(v, group_names, o.tls.client.groups); }},
      {"sni", 0, true,
       [](Options& o, std::string_view v) {
         o.tls.client.name = v;
         return v.empty() ? Problem("it is empty") : Problem();
       }},
      {"ca-file", 0, true,
       [](Options& o, std::string_view v) {
         o.tls.client.verify = tls::ClientSettings::Verify::ca_file;
         o.tls.client.ca_file = v;
         return v.empty() ? Problem("it is empty") : Problem();
       }},
      {"helo", 0, true,
       [](Options& o, std::string_view v) {
         o.helo_given = true;
         return v.empty() ? Problem("it is empty") : Pattern::parse(v, o.mail.helo);
       }},
      {"from", 'f', true, [](Options& o, std::string_view v) { return Pattern::parse(v, o.mail.from); }},
      {"to", 't', true,
       [](Options& o, std::string_view v) { return Pattern::parse(v, o.mail.to.emplace_back()); }},
      {"recipients", 0, true,
       [](Options& o, std::string_view v) { return number(v, o.mail.recipients, 1, 100'000); }},
      {"size", 0, true, [](Options& o, std::string_view v) { return Sizes::parse(v, o.mail.sizes); }},
      {"body", 0, true,
       [](Options& o, std::string_view v) {
         o.mail.base64 = v == "base64";
         return v == "base64" || v == "text" ? Problem() : quoted(v) + " is neither text nor base64";
       }},
      {"seed", 0, true,
       [](Options& o, std::string_view v) { return number(v, o.mail.seed, 0, std::uint64_t{1} << 62); }},
      {"connect-timeout", 0, true,
       [](Options& o, std::string_view v) { return duration(v, o.connect_timeout); }},
      {"timeout", 0, true, [](Options& o, std::string_view v) { return duration(v, o.timeout); }},
      {"slow", 0, true, [](Options& o, std::string_view v) { return size(v, o.slow); }},
      {"slow-share", 0, true, [](Options& o, std::string_view v) { return decimal(v, o.slow_share, 100); }},
      {"json", 0, true,
       [](Options& o, std::string_view v) {
         o.json = v;
         return v.empty() ? Problem("write a file, or - for standard output") : Problem();
       }},
      {"progress", 0, false,
       [](Options& o, std::string_view) {
         o.progress = true;
         return Problem();
       }},
      {"quiet", 'q', false,
       [](Options& o, std::string_view) {
         o.quiet = true;
         return Problem();
       }},
      {"tolerate", 0, true, [](Options& o, std::string_view v) { return decimal(v, o.tolerate, 100); }},
  };
  return all;
}

// What can only be seen of all of it.
Problem check(Options& o) {
  if (o.slow_share < 100 && o.slow == 0) return "--slow-share without --slow";
  if (o.idle && (o.rate > 0 || o.count > 0))
    return "--idle sends no messages: --rate and --count mean nothing";
  if (o.tls.implicit && o.manners.starttls) return "--tls and --starttls: one of them";
  const tls::ClientSettings plain = TlsOptions{}.client;
  const tls::ClientSettings& tls = o.tls.client;
  if (!o.uses_tls() &&
      (o.tls.resume || !tls.name.empty() || tls.verify != plain.verify || !tls.ciphers.empty() ||
       !tls.groups.empty() || tls.minimum != plain.minimum || tls.maximum != plain.maximum)) {
    return "--resume, --tls-version, --ciphers, --groups, --sni and --ca-file mean nothing without "
           "--starttls or "
           "--tls";
  }
  if (o.target.port == 0) o.target.port = o.tls.implicit ? 465 : 25;
  if (o.quiet && o.progress) return "--quiet and --progress";
  if (o.count == 0 && o.duration == 0) o.duration = 10 * second;
  // With --rate the limit is not what is wanted, but what must not be passed.
  if (o.sessions == 0) o.sessions = o.rate > 0 ? 1000 : 10;
  return std::nullopt;
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string_view>& arguments) {
  using Wish = CommandLine::Wish;
  CommandLine line;
  line.options.mail.from = Pattern::literal("sender@example.test");
  const auto complain = [&](std::string problem) {
    line.wish = Wish::complain;
    line.problem = std::move(problem);
    return line;
  };
  bool target = false;
  bool only_targets = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view word = arguments[i];
    if (only_targets || !word.starts_with('-') || word == "-") {
      if (target) return complain("one target only: " + quoted(word) + " is a second one");
      if (Problem problem = parse_target(word, line.options.target)) return complain(*problem);
      target = true;
      continue;
    }
    if (word == "--") {
      only_targets = true;
      continue;
    }
    if (word == "--help" || word == "-h") return line.wish = Wish::help, line;
    if (word == "--version") return line.wish = Wish::version, line;
    const bool is_long = word.starts_with("--");
    std::optional<std::string_view> value;
    std::string_view name = word.substr(is_long ? 2 : 1);
    if (const std::size_t equals = name.find('='); is_long && equals != name.npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    } else if (!is_long && name.size() > 1) {
      value = name.substr(1);
      name = name.substr(0, 1);
    }
    const auto found = std::find_if(options().begin(), options().end(), [&](const Option& o) {
      return is_long ? o.name == name : o.letter != 0 && o.letter == name[0];
    });
    if (found == options().end()) return complain("no such option: " + std::string(word) + " (see --help)");
    const std::string shown = "--" + std::string(found->name);
    if (!found->takes_value && value) return complain(shown + " takes no value");
    if (found->takes_value && !value) {
      if (++i == arguments.size()) return complain(shown + " wants a value");
      value = arguments[i];
    }
    if (Problem problem = found->set(line.options, value.value_or("")))
      return complain(shown + ": " + *problem);
  }
  if (!target) return complain("no target: ringmx-load [OPTION]... HOST:PORT (see --help)");
  if (line.options.mail.to.empty())
    line.options.mail.to.push_back(Pattern::literal("recipient@example.test"));
  if (Problem problem = check(line.options)) return complain(*problem);
  return line;
}

}  // namespace ringmx::load
