// SPDX-License-Identifier: GPL-3.0-or-later
#include "config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/keys.h"
#include "config/notation.h"

namespace ringmx::config {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// What a configuration cannot do without, in one line each so that the lines of a test count from 1
// when its text comes first. [server] and [metrics] are the tests'.
constexpr std::string_view listener = "[[listener]]\nname = 'mx'\naddress = '127.0.0.1:25'\n";
constexpr std::string_view upstream = "[[upstream]]\nname = 'mta'\naddress = '127.0.0.1:2525'\n";
constexpr std::string_view hostname = "server.hostname = 'mx.example.com'\n";

std::vector<std::string> problems_of(std::string_view text) {
  Config config;
  std::vector<Problem> problems;
  const bool good = parse(text, "f", config, problems, true);
  EXPECT_EQ(good, problems.empty());
  std::vector<std::string> out;
  for (const Problem& p : problems) out.push_back(p.text());
  return out;
}

Config parsed(const std::string& text) {
  Config config;
  std::vector<Problem> problems;
  EXPECT_TRUE(parse(text, "f", config, problems, true)) << text;
  for (const Problem& p : problems) ADD_FAILURE() << p.text();
  return config;
}

// Text in which `line` stands in the given table, and all else is as short as can be.
std::string with(const std::string& table, const std::string& line) {
  const auto named = [&](const std::string& l) {
    return ("\n" + line).find("\n" + l.substr(0, l.find(' ') + 1)) != std::string::npos;
  };
  const auto part = [&](const std::string& heading, std::vector<std::string> lines) {
    if (heading == table) {
      std::erase_if(lines, named);
      lines.push_back(line);
    }
    std::string out = heading + "\n";
    for (const std::string& l : lines) out += l + "\n";
    return out;
  };
  return part("[server]", {"hostname = 'mx.example.com'"}) +
         part("[[listener]]", {"name = 'mx'", "address = '127.0.0.1:25'"}) +
         part("[[upstream]]", {"name = 'mta'", "address = '127.0.0.1:2525'"}) +
         part("[[certificate]]", {"certificate = 'x.pem'", "private_key = 'x.key'"}) +
         part("[[rule]]", {"name = 'partners'", "tls = 'required'"}) +
         part("[[service]]", {"name = 'auth'", "address = 'http://127.0.0.1:9000/auth'", "steps = 'rcpt'"}) +
         part("[tls]", {}) + part("[metrics]", {"address = '127.0.0.1:9925'"});
}

// The problems of a line in a table, without their place.
std::vector<std::string> faults(const std::string& table, const std::string& line) {
  std::vector<std::string> out;
  for (std::string text : problems_of(with(table, line))) out.push_back(text.substr(text.find(' ') + 1));
  return out;
}

// ---------------------------------------------------------------- every key

struct Happy {
  std::string table;
  std::string line;
  std::function<bool(const Config&)> arrived;
};

const std::vector<Happy>& happy_lines() {
  static const std::vector<Happy> lines = [] {
    const std::string s = "[server]";
    const std::string l = "[[listener]]";
    const std::string u = "[[upstream]]";
    const std::string n = "[[certificate]]";
    const std::string r = "[[rule]]";
    const std::string v = "[[service]]";
    const std::string t = "[tls]";
    const std::string m = "[metrics]";
    const auto server = [](auto member, auto value) {
      return [=](const Config& c) { return c.server.*member == value; };
    };
    const auto lis = [](auto member, auto value) {
      return [=](const Config& c) { return c.listeners.at(0).*member == value; };
    };
    const auto up = [](auto member, auto value) {
      return [=](const Config& c) { return c.upstreams.at(0).*member == value; };
    };
    const auto cert = [](auto member, auto value) {
      return [=](const Config& config) { return config.certificates.at(0).*member == value; };
    };
    const auto rule = [](auto member, auto value) {
      return [=](const Config& config) { return config.rules.at(0).*member == value; };
    };
    const auto service = [](auto member, auto value) {
      return [=](const Config& config) { return config.services.at(0).*member == value; };
    };
    using policy::Step;
    const std::string digest(64, 'a');
    const auto in_tls = [](auto member, auto value) {
      return [=](const Config& config) { return config.tls.*member == value; };
    };
    using Paths = std::vector<std::string>;
    using Verify = tls::ClientSettings::Verify;
    const auto met = [](auto member, auto value) {
      return [=](const Config& c) { return c.metrics.enabled && c.metrics.*member == value; };
    };
    const auto ipv4 = [](const char* host, std::uint16_t port) {
      return Endpoint{Endpoint::Family::ipv4, host, port, ""};
    };
    smtp::ExtensionSet two;
    two.add(smtp::Extension::size);
    two.add(smtp::Extension::chunking);
    return std::vector<Happy>{
        {s, "hostname = 'a.example'", server(&Server::hostname, "a.example")},
        {s, "reactors = 3", server(&Server::reactors, 3U)},
        {s, "max_sessions = 7", server(&Server::max_sessions, 7U)},
        {s, "receive_memory = '2MiB'", server(&Server::receive_memory, 2097152U)},
        {s, "session_memory = '64KiB'", server(&Server::session_memory, 65536U)},
        {s, "drain_timeout = '1m'", server(&Server::drain_timeout, 60s)},
        {l, "name = 'in.put_1-x'", lis(&Listener::name, "in.put_1-x")},
        {l, "address = '[2001:DB8:0:0::1]:26'",
         lis(&Listener::address, Endpoint{Endpoint::Family::ipv6, "2001:db8::1", 26, ""})},
        {l, "backlog = 9", lis(&Listener::backlog, 9U)},
        {l, "upstreams = ['mta']", lis(&Listener::upstreams, std::vector<std::string>{"mta"})},
        {l, "extensions = ['size', 'CHUNKING']", lis(&Listener::extensions, two)},
        {l, "banner = 'ESMTP hello'", lis(&Listener::banner, "ESMTP hello")},
        {l, "bare_newline = 'reject'", lis(&Listener::bare_newline, FaultPolicy::reject)},
        {l, "nul = 'reject'", lis(&Listener::nul, FaultPolicy::reject)},
        {l, "bare_lf_in_commands = true", lis(&Listener::bare_lf_in_commands, true)},
        {l, "forbid_unauth_pipelining = true", lis(&Listener::forbid_unauth_pipelining, true)},
        {l, "greeting_delay = '1500ms'", lis(&Listener::greeting_delay, 1500ms)},
        {l, "message_size_limit = '5GiB'", lis(&Listener::message_size_limit, 5ULL << 30)},
        {l, "recipient_limit = 100", lis(&Listener::recipient_limit, 100U)},
        {l, "command_line_limit = 1000", lis(&Listener::command_line_limit, 1000U)},
        {l, "error_limit = 5", lis(&Listener::error_limit, 5U)},
        {l, "junk_command_limit = 6", lis(&Listener::junk_command_limit, 6U)},
        {l, "command_timeout = '1h'", lis(&Listener::command_timeout, 1h)},
        {l, "data_timeout = '7s'", lis(&Listener::data_timeout, 7s)},
        {l, "min_data_rate = 0", lis(&Listener::min_data_rate, 0U)},
        {l, "close_timeout = '8s'", lis(&Listener::close_timeout, 8s)},
        {l,
         "auth = ['cram-md5']\nservices = ['a']\n[[service]]\n\"name\" = 'a'\nsteps = 'auth'\n"
         "\"address\" = 'http://127.0.0.1:9000/'",
         lis(&Listener::auth, smtp::MechanismSet{smtp::Mechanism::cram_md5})},
        {l,
         "auth_required = true\nauth = ['plain']\nservices = ['a']\n[[service]]\n\"name\" = 'a'\nsteps = "
         "'auth'\n"
         "\"address\" = 'http://127.0.0.1:9000/'",
         lis(&Listener::auth_required, true)},
        {l, "auth_failure_limit = 7", lis(&Listener::auth_failure_limit, 7U)},
        {l, "auth_failure_delay = '0s'", lis(&Listener::auth_failure_delay, 0ms)},
        {u, "authenticate = 'xclient'", up(&Upstream::authenticate, Upstream::Authenticate::xclient)},
        {u, "authenticate = 'plain'", up(&Upstream::authenticate, Upstream::Authenticate::plain)},
        {u, "authenticate_in_clear_text = true\nauthenticate = 'plain'",
         up(&Upstream::authenticate_in_clear_text, true)},
        {l, "starttls = 'required'", lis(&Listener::starttls, smtp::StartTls::required)},
        {l, "starttls = 'optional'", lis(&Listener::starttls, smtp::StartTls::optional)},
        {l, "starttls = 'required-for-auth'", lis(&Listener::starttls, smtp::StartTls::required_for_auth)},
        {l, "implicit_tls = true", lis(&Listener::implicit_tls, true)},
        {l, "certificate = ['a.pem', '/b']\nprivate_key = ['c', 'd']",
         lis(&Listener::certificate, Paths{"a.pem", "/b"})},
        {l, "private_key = 'c.key'\ncertificate = 'a.pem'", lis(&Listener::private_key, Paths{"c.key"})},
        {l, "client_certificates = 'request'\nimplicit_tls = true\nclient_ca_file = 'ca'",
         lis(&Listener::client_certificates, tls::ClientCertificates::request)},
        {l, "client_certificates = 'require'\nimplicit_tls = true\nclient_ca_file = 'ca'",
         lis(&Listener::client_certificates, tls::ClientCertificates::require)},
        {l, "client_ca_file = 'ca'\nclient_certificates = 'require'\nimplicit_tls = true",
         lis(&Listener::client_ca_file, "ca")},
        {l, "minimum_tls_version = 'TLSv1.3'", lis(&Listener::minimum_tls_version, tls::Version::tls13)},
        {l, "handshake_timeout = '9s'", lis(&Listener::handshake_timeout, 9s)},
        {l, "handshake_rate = 6000", lis(&Listener::handshake_rate, 6000U)},
        {u, "starttls = 'required'\ntls_name = 'a.b'", up(&Upstream::starttls, smtp::StartTls::required)},
        {u, "starttls = 'optional'", up(&Upstream::starttls, smtp::StartTls::optional)},
        {u, "starttls = 'optional'", up(&Upstream::verify, Verify::none)},
        {u, "implicit_tls = true\ntls_name = 'a.b'", up(&Upstream::implicit_tls, true)},
        {u, "verify = 'none'", up(&Upstream::verify, Verify::none)},
        {u, "verify = 'ca_file'\nca_file = 'ca'", up(&Upstream::verify, Verify::ca_file)},
        {u, "ca_file = 'ca'\nverify = 'ca_file'", up(&Upstream::ca_file, "ca")},
        {u, "tls_name = 'mta.example'", up(&Upstream::tls_name, "mta.example")},
        {n, "names = ['a.example', '*.b.example']",
         cert(&Certificate::names, Paths{"a.example", "*.b.example"})},
        {n, "certificate = ['y.pem']", cert(&Certificate::certificate, Paths{"y.pem"})},
        {n, "private_key = 'y.key'", cert(&Certificate::private_key, Paths{"y.key"})},
        {r, "name = 'all'", rule(&Rule::name, "all")},
        {r, "listeners = ['mx']\ntls = 'optional'", rule(&Rule::listeners, Paths{"mx"})},
        {r, "steps = 'data'", rule(&Rule::steps, policy::Steps{Step::data})},
        {r, "steps = ['rcpt', 'auth', 'data']",
         rule(&Rule::steps, policy::Steps{Step::auth, Step::rcpt, Step::data})},
        {r, "clients = ['192.0.2.0/24', '2001:db8::1']",
         rule(&Rule::clients, Paths{"192.0.2.0/24", "2001:db8::1"})},
        {r, "clients_file = '/c'", rule(&Rule::clients_file, "/c")},
        {r, "helo = ['a_b.example', '*.c.example']", rule(&Rule::helo, Paths{"a_b.example", "*.c.example"})},
        {r, "authenticated = false", rule(&Rule::authenticated, std::optional(false))},
        {r, "authenticated = true", rule(&Rule::authenticated, std::optional(true))},
        {r, "sender_domains = ['<>', '.a.example']", rule(&Rule::sender_domains, Paths{"<>", ".a.example"})},
        {r, "sender_domains_file = '/s'", rule(&Rule::sender_domains_file, "/s")},
        {r, "recipient_domains = ['a.example']", rule(&Rule::recipient_domains, Paths{"a.example"})},
        {r, "recipient_domains = ['a.example']", rule(&Rule::steps, policy::Steps{Step::rcpt})},
        {r, "recipient_domains_file = '/r'", rule(&Rule::recipient_domains_file, "/r")},
        {r, "recipient_domains_file = '/r'", rule(&Rule::steps, policy::Steps{Step::rcpt})},
        {r, "tls = 'TLSv1.3'", rule(&Rule::tls, policy::Encryption::tls13)},
        {r, "tls = 'optional'", rule(&Rule::tls, policy::Encryption::optional)},
        {r, "client_certificate = 'presented'",
         rule(&Rule::client_certificate, policy::ClientCertificate::presented)},
        {r, "client_certificate = 'verified'",
         rule(&Rule::client_certificate, policy::ClientCertificate::verified)},
        {r, "fingerprints = ['" + digest + "']", rule(&Rule::fingerprints, Paths{digest})},
        {r, "fingerprints_file = '/f'", rule(&Rule::fingerprints_file, "/f")},
        {r, "otherwise = 'tempfail'", rule(&Rule::otherwise, policy::Otherwise::tempfail)},
        {r, "otherwise = 'mark'", rule(&Rule::otherwise, policy::Otherwise::mark)},
        {r, "otherwise = 'next'", rule(&Rule::otherwise, policy::Otherwise::next)},
        {r, "reply = '550 5.7.1 No'", rule(&Rule::reply, "550 5.7.1 No")},
        {l, "services = ['auth']", lis(&Listener::services, Paths{"auth"})},
        {v, "name = 'other'", service(&Service::name, "other")},
        {v, "protocol = 'policy'\naddress = '127.0.0.1:10023'",
         service(&Service::protocol, Service::Protocol::policy)},
        {v, "address = 'https://[::1]/x'\ntls_name = 'a.example'",
         service(&Service::address,
                 ServiceAddress{{Endpoint::Family::ipv6, "::1", 443, ""}, true, true, "/x"})},
        {v, "address = 'http://unix:/run/a.sock:/x?y'",
         service(&Service::address,
                 ServiceAddress{{Endpoint::Family::unix_socket, "", 0, "/run/a.sock"}, true, false, "/x?y"})},
        {v, "address = 'unix:/run/a.sock'\nprotocol = 'policy'",
         service(&Service::address,
                 ServiceAddress{{Endpoint::Family::unix_socket, "", 0, "/run/a.sock"}, false, false, ""})},
        {v, "steps = ['connect', 'auth']",
         service(&Service::steps, policy::Steps{Step::connect, Step::auth})},
        {v, "skip_authenticated = false", service(&Service::skip_authenticated, false)},
        {v, "headers = ['X-Key: 1']", service(&Service::headers, Paths{"X-Key: 1"})},
        {v, "extra_headers = true", service(&Service::extra_headers, true)},
        {v, "pass_certificate = true", service(&Service::pass_certificate, true)},
        {v, "close_after_refusal = true", service(&Service::close_after_refusal, true)},
        {v, "on_failure = 'allow'", service(&Service::on_failure, Service::OnFailure::allow)},
        {v, "on_failure = 'refuse'", service(&Service::on_failure, Service::OnFailure::refuse)},
        {v, "timeout = '1s'", service(&Service::timeout, 1s)},
        {v, "connect_timeout = '2s'", service(&Service::connect_timeout, 2s)},
        {v, "max_connections = 3", service(&Service::max_connections, 3U)},
        {v, "max_idle = 0", service(&Service::max_idle, 0U)},
        {v, "idle_timeout = '4s'", service(&Service::idle_timeout, 4s)},
        {v, "cache = ['client', 'tls']", service(&Service::cache, Paths{"client", "tls"})},
        {v, "cache_time = '5s'", service(&Service::cache_time, 5s)},
        {v, "cache_size = 6", service(&Service::cache_size, 6U)},
        {v, "verify = 'none'", service(&Service::verify, tls::ClientSettings::Verify::none)},
        {v, "ca_file = '/ca.pem'\nverify = 'ca_file'", service(&Service::ca_file, "/ca.pem")},
        {v, "tls_name = 'a.example'", service(&Service::tls_name, "a.example")},
        {t, "ktls = 'require'", in_tls(&Tls::ktls, tls::Offload::require)},
        {t, "ktls = 'off'", in_tls(&Tls::ktls, tls::Offload::off)},
        {t, "ktls = 'upstreams'", in_tls(&Tls::ktls, tls::Offload::upstreams)},
        {t, "session_tickets = false", in_tls(&Tls::session_tickets, false)},
        {t, "ticket_lifetime = '1m'", in_tls(&Tls::ticket_lifetime, 60s)},
        {t, "ticket_key_files = ['1', '2']", in_tls(&Tls::ticket_key_files, Paths{"1", "2"})},
        {u, "name = 'other'", up(&Upstream::name, "other")},
        {u, "address = 'unix:/run/mta.sock'",
         up(&Upstream::address, Endpoint{Endpoint::Family::unix_socket, "", 0, "/run/mta.sock"})},
        {u, "reuse = false", up(&Upstream::reuse, false)},
        {u, "max_idle = 0", up(&Upstream::max_idle, 0U)},
        {u, "idle_timeout = '11s'", up(&Upstream::idle_timeout, 11s)},
        {u, "error_limit = 19", up(&Upstream::error_limit, 19U)},
        {u, "reply_limit = '512B'", up(&Upstream::reply_limit, 512U)},
        {u, "retry_after = '0s'", up(&Upstream::retry_after, 0s)},
        {u, "connect_timeout = '12s'", up(&Upstream::connect_timeout, 12s)},
        {u, "greeting_timeout = '13s'", up(&Upstream::greeting_timeout, 13s)},
        {u, "command_timeout = '14s'", up(&Upstream::command_timeout, 14s)},
        {u, "data_timeout = '15s'", up(&Upstream::data_timeout, 15s)},
        {u, "send_timeout = '16s'", up(&Upstream::send_timeout, 16s)},
        {u, "message_timeout = '17s'", up(&Upstream::message_timeout, 17s)},
        {m, "address = '127.0.0.2:99'", met(&Metrics::address, ipv4("127.0.0.2", 99))},
        {m, "max_connections = 18", met(&Metrics::max_connections, 18U)},
    };
  }();
  return lines;
}

TEST(Config, EveryKeyArrivesWhereItBelongs) {
  std::set<std::pair<std::string, std::string>> tried;
  const Config plain = parsed(with("", " "));
  for (const Happy& h : happy_lines()) {
    EXPECT_FALSE(h.arrived(plain)) << h.line << " proves nothing";
    EXPECT_TRUE(h.arrived(parsed(with(h.table, h.line)))) << h.table << " " << h.line;
    tried.emplace(h.table, h.line.substr(0, h.line.find(' ')));
  }
  const Language language;
  for (const Section& section : language.sections()) {
    for (const Key& key : section.keys)
      EXPECT_TRUE(tried.contains({section.heading(), std::string(key.name)}))
          << "no happy line for " << key.name;
  }
}

TEST(Config, KeysArriveNowhereElse) {
  // Taking a key's value back to its default must leave a Config equal to the plain one.
  const Config plain = parsed(with("", " "));
  const Language language;
  for (const Section& section : language.sections()) {
    for (const Key& key : section.keys) {
      if (key.required || !key.example.empty()) continue;
      EXPECT_EQ(parsed(with(section.heading(), example_text(key))), plain) << example_text(key);
    }
  }
}

TEST(Config, DefaultsLieInTheirRanges) {
  // Were a default out of its own range, writing it out would be refused.
  const Language language;
  for (const Section& section : language.sections())
    for (const Key& key : section.keys) EXPECT_THAT(faults(section.heading(), example_text(key)), IsEmpty());
}

TEST(Config, WrongKindIsSaidOfEveryKey) {
  const Language language;
  for (const Section& section : language.sections()) {
    for (const Key& key : section.keys) {
      const std::string path = std::string(section.name) + "." + std::string(key.name);
      const auto found = faults(section.heading(), std::string(key.name) + " = 1979-05-27");
      ASSERT_EQ(found.size(), 1U) << path;
      EXPECT_THAT(found[0], testing::StartsWith(path + ": a date or time, not a")) << path;
      EXPECT_THAT(found[0], HasSubstr("; write " + example_text(key) + ", for example"));
    }
  }
}

TEST(Config, TheEndsOfEveryRangeHold) {
  const auto refused = [](const std::string& table, const std::string& key, const std::string& value,
                          const std::string& range) {
    EXPECT_THAT(faults(table, key + " = " + value),
                ElementsAre(testing::EndsWith(": " + value + " is out of range; write " + range)))
        << key;
  };
  const Language language;
  for (const Section& section : language.sections()) {
    for (const Key& key : section.keys) {
      const std::string table = section.heading();
      const std::string name(key.name);
      const std::string range = range_text(key.field);
      const auto accepted = [&](const std::string& value) {
        // Only its own problem counts: some values at the ends disagree with another key's default.
        for (const std::string& fault : faults(table, name + " = " + value))
          EXPECT_THAT(fault, testing::Not(HasSubstr("out of range"))) << name;
      };
      if (const auto* count = std::get_if<Count>(&key.field)) {
        accepted(std::to_string(count->min));
        accepted(std::to_string(count->max));
        refused(table, name, std::to_string(std::int64_t{count->min} - 1), range);
        refused(table, name, std::to_string(std::int64_t{count->max} + 1), range);
        refused(table, name, "9223372036854775807", range);
      } else if (const auto* size = std::get_if<Size>(&key.field)) {
        accepted(std::to_string(size->min));
        accepted(std::to_string(size->max));
        refused(table, name, size->min == 0 ? "-1" : std::to_string(size->min - 1), range);
        refused(table, name, std::to_string(size->max + 1), range);
        refused(table, name, "\"99999999999999999999TiB\"", range);
      } else if (const auto* duration = std::get_if<Duration>(&key.field)) {
        accepted(in_quotes(format_duration(duration->min)));
        accepted(in_quotes(format_duration(duration->max)));
        if (duration->min > 0ms) refused(table, name, in_quotes(format_duration(duration->min - 1ms)), range);
        refused(table, name, in_quotes(format_duration(duration->max + 1ms)), range);
        refused(table, name, "\"99999999999999999999h\"", range);
      }
    }
  }
}

// ---------------------------------------------------------------- what can be wrong

TEST(Config, PlacesAreLineAndColumnOfTheValue) {
  EXPECT_THAT(
      problems_of(std::string(hostname) + std::string(upstream) +
                  "[[listener]]\nname = 'mx'\n  address =   'mx:25'\n"),
      ElementsAre("f:7:15: listener.address: \"mx:25\" is not a numeric address (names are not resolved); "
                  "write \"127.0.0.1:25\", \"[::1]:25\" or \"unix:/run/mta.sock\", for example"));
}

TEST(Config, ProblemsCarryTheirParts) {
  Config config;
  std::vector<Problem> problems;
  EXPECT_FALSE(parse(std::string(hostname) + std::string(listener) + std::string(upstream) + "reuse = 1\n",
                     "dir/x.toml", config, problems));
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].file, "dir/x.toml");
  EXPECT_EQ(problems[0].line, 8U);
  EXPECT_EQ(problems[0].column, 9U);
  EXPECT_EQ(problems[0].key, "upstream.reuse");
  EXPECT_EQ(problems[0].message, "an integer, not a boolean");
  EXPECT_EQ(problems[0].mend, "write reuse = true, for example");
}

TEST(Config, AllProblemsInTheOrderOfTheFile) {
  EXPECT_THAT(
      problems_of("[metrics]\n"
                  "max_connections = 0\n"
                  "[[upstream]]\n"
                  "name = 5\n"
                  "[server]\n"
                  "hostname = 'x'\n"
                  "reactors = 1025\n"
                  "drain_timeout = 30\n"
                  "colour = 'red'\n"),
      ElementsAre("f: listener: missing; write at least one [[listener]] with a name and an address",
                  "f:1:1: metrics.address: missing; write address = \"127.0.0.1:9925\", for example",
                  "f:2:19: metrics.max_connections: 0 is out of range; write 1 to 10000",
                  "f:3:1: upstream.address: missing; write address = \"127.0.0.1:2525\", for example",
                  "f:4:8: upstream.name: an integer, not a string; write name = \"mta\", for example",
                  "f:7:12: server.reactors: 1025 is out of range; write 0 to 1024",
                  "f:8:17: server.drain_timeout: 30 has no unit; write \"30s\" if seconds are meant",
                  "f:9:1: server.colour: unknown; the keys here are hostname, reactors, max_sessions, "
                  "receive_memory, session_memory and drain_timeout"));
}

TEST(Config, AnEmptyFileLacksItsTables) {
  // Whether the host's own name will do depends on the host.
  const auto found = problems_of("");
  EXPECT_THAT(found,
              testing::IsSupersetOf(
                  {"f: listener: missing; write at least one [[listener]] with a name and an address",
                   "f: upstream: missing; write at least one [[upstream]] with a name and an address"}));
  EXPECT_THAT(
      problems_of(std::string(hostname) + "listener = []\n" + std::string(upstream)),
      ElementsAre("f:2:12: listener: missing; write at least one [[listener]] with a name and an address"));
}

TEST(Config, TablesOfTheWrongShape) {
  const std::string rest = std::string(hostname) + std::string(upstream);
  EXPECT_THAT(
      problems_of(rest + "[listener]\nname = 'mx'\naddress = '127.0.0.1'\n"),
      ElementsAre(
          "f:5:1: listener: a table, not an array of tables; write [[listener]]",
          "f:7:11: listener.address: \"127.0.0.1\" has no port; write \"127.0.0.1:25\", for example"));
  EXPECT_THAT(problems_of("listener = 'mx'\n" + rest),
              ElementsAre("f:1:12: listener: a string, not an array of tables; write [[listener]]"));
  EXPECT_THAT(problems_of("listener = [1.5]\n" + rest),
              ElementsAre("f:1:13: listener: a floating-point number, not a table; write [[listener]]"));
  EXPECT_THAT(problems_of(rest + std::string(listener) + "[[metrics]]\naddress = '127.0.0.1:1'\n"),
              ElementsAre("f:8:1: metrics: an array, not a table; write [metrics], once"));
}

TEST(Config, OtherNotationsOfTomlAreAsGood) {
  EXPECT_EQ(parsed("server = {hostname = 'mx.example.com'}\n"
                   "listener = [{name = 'mx', address = '127.0.0.1:25'}]\n"
                   "upstream = [{name = 'mta', address = '127.0.0.1:2525'}]\n"),
            parsed(std::string(hostname) + std::string(listener) + std::string(upstream)));
}

TEST(Config, UnknownKeysGetTheNearestKnownOne) {
  EXPECT_THAT(faults("[[listener]]", "adress = 'x'"),
              ElementsAre("listener.adress: unknown; did you mean address?"));
  EXPECT_THAT(faults("[[listener]]", "smtpd_recipient_limit = 5"),
              ElementsAre("listener.smtpd_recipient_limit: unknown; did you mean recipient_limit?"));
  EXPECT_THAT(faults("[[listener]]", "size_limit = 5"),
              ElementsAre("listener.size_limit: unknown; did you mean message_size_limit?"));
  EXPECT_THAT(faults("[server]", "Hostname = 5"),
              ElementsAre("server.Hostname: unknown; did you mean hostname?"));
  EXPECT_THAT(faults("[server]", "recipient_limit = 5"),
              ElementsAre("server.recipient_limit: unknown; put it below [[listener]]"));
  EXPECT_THAT(faults("[server]", "data_timeout = 5"),
              ElementsAre("server.data_timeout: unknown; put it below [[listener]] or [[upstream]]"));
  EXPECT_THAT(faults("[metrics]", "\"a\\nb\" = 5"),
              ElementsAre("metrics.\"a\\u000Ab\": unknown; the keys here are address and max_connections"));
}

TEST(Config, UnknownTablesGetTheNearestKnownOne) {
  const std::string rest = std::string(listener) + std::string(upstream);
  EXPECT_THAT(problems_of(std::string(hostname) + rest + "[[listeners]]\n"),
              ElementsAre("f:8:3: listeners: unknown; did you mean [[listener]]?"));
  EXPECT_THAT(problems_of(std::string(hostname) + rest + "[log]\n"),
              ElementsAre("f:8:2: log: unknown; the tables are [server], [[listener]], [[upstream]], "
                          "[[certificate]], [[rule]], [[service]], [tls] and [metrics]"));
  EXPECT_THAT(problems_of("reactors = 2\n" + std::string(hostname) + rest),
              ElementsAre("f:1:1: reactors: not in a table; put it below [server]"));
}

TEST(Config, Services) {
  const auto found = [](const std::string& line) { return faults("[[service]]", line); };
  EXPECT_THAT(
      found("address = '127.0.0.1:9000'"),
      ElementsAre(HasSubstr("is no URL, which auth_http needs; write \"http://127.0.0.1:9000/auth\"")));
  EXPECT_THAT(found("protocol = 'policy'"),
              ElementsAre(HasSubstr("is a URL, and Postfix's policy protocol has none")));
  EXPECT_THAT(found("address = 'https://127.0.0.1/'"),
              ElementsAre(HasSubstr("a certificate is verified by name")));
  EXPECT_THAT(found("address = 'http://localhost/'"), ElementsAre(HasSubstr("names are not resolved")));
  EXPECT_THAT(found("address = 'http://0.0.0.0/'"), ElementsAre(HasSubstr("is not one host's address")));
  EXPECT_THAT(found("address = 'http://127.0.0.1/a b'"), ElementsAre(HasSubstr("has no valid path")));
  EXPECT_THAT(found("address = \"http://127.0.0.1/a\\u0001b\""), ElementsAre(HasSubstr("has no valid path")));
  EXPECT_THAT(found("address = 'http://unix:/run/a.sock:x'"), ElementsAre(HasSubstr("has no valid path")));
  for (const char* header : {"X-Key", ": 1", "X Key: 1", "X-Key: a\\r\\nb", "X-Key: \u00fc"}) {
    EXPECT_THAT(found("headers = [\"" + std::string(header) + "\"]"),
                ElementsAre(HasSubstr("is not a field of HTTP; write \"X-Key: value\"")))
        << header;
  }
  EXPECT_THAT(found("headers = ['HOST: x']"), ElementsAre(HasSubstr("is said by ringmx itself; remove it")));
  EXPECT_THAT(found("cache = ['certifcate']"), ElementsAre(HasSubstr("did you mean \"certificate\"?")));
  EXPECT_THAT(found("steps = 'quit'"), ElementsAre(HasSubstr("is not a step here")));
  const std::string policy = "protocol = 'policy'\naddress = 'unix:/run/x'\n";
  EXPECT_THAT(found(policy), IsEmpty());
  for (const char* line : {"headers = ['X-Key: 1']", "extra_headers = true", "pass_certificate = true",
                           "close_after_refusal = true", "steps = ['rcpt', 'auth']"})
    EXPECT_EQ(found(policy + line).size(), 1U) << line;
  EXPECT_THAT(
      faults("[[listener]]", "services = ['auht']"),
      ElementsAre("listener.services: there is no service \"auht\"; write one of those there are: \"auth\""));
}

TEST(Config, Hostnames) {
  const auto fault = [](const std::string& name) {
    return faults("[server]", "hostname = \"" + name + "\"");
  };
  const auto bad = [](const std::string& shown, const std::string& why) {
    return ElementsAre("server.hostname: \"" + shown + "\" is not a host name: " + why +
                       "; write the name that the MX record gives, as \"mx.example.com\"");
  };
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + label.substr(2);
  for (const std::string& good :
       std::vector<std::string>{"mx.example.com", "localhost", "a-1.xn--bcher-kva.example", "1.a", longest})
    EXPECT_THAT(fault(good), IsEmpty()) << good;
  EXPECT_THAT(fault(""), bad("", "a label is empty"));
  EXPECT_THAT(fault("mx.example.com."), bad("mx.example.com.", "a label is empty"));
  EXPECT_THAT(fault("a..b"), bad("a..b", "a label is empty"));
  EXPECT_THAT(fault("-a.b"), bad("-a.b", "a label starts or ends with a hyphen"));
  EXPECT_THAT(fault("a-.b"), bad("a-.b", "a label starts or ends with a hyphen"));
  EXPECT_THAT(fault("192.0.2.1"), bad("192.0.2.1", "the last label is a number"));
  for (const std::string& odd :
       std::vector<std::string>{"m x.example", "mx_1.example", "bücher.example", "[192.0.2.1]"})
    EXPECT_THAT(fault(odd), bad(odd, "labels are made of letters, digits and hyphens (xn--... for others)"));
  EXPECT_THAT(
      fault("x\\r\\nEHLO"),
      bad("x\\u000D\\u000AEHLO", "labels are made of letters, digits and hyphens (xn--... for others)"));
  EXPECT_THAT(fault(label + "a.b"), bad(label + "a.b", "a label has more than 63 characters"));
  EXPECT_THAT(fault(longest + "a"),
              bad((longest + "a").substr(0, 80) + "...", "it has more than 253 characters"));
}

TEST(Config, HostnameDefaultsToTheHostsOwn) {
  std::array<char, 256> name{};
  ASSERT_EQ(gethostname(name.data(), name.size() - 1), 0);
  const std::string text = std::string(listener) + std::string(upstream);
  if (const auto fault = check_domain(name.data())) {
    EXPECT_THAT(problems_of(text),
                ElementsAre("f: server.hostname: missing, and the host's own name can't stand in: " +
                            fault->message + "; write hostname = \"mx.example.com\", for example"));
  } else {
    EXPECT_EQ(parsed(text).server.hostname, name.data());
    EXPECT_EQ(parsed("[server]\nreactors = 1\n" + text).server.hostname, name.data());
  }
}

TEST(Config, Names) {
  EXPECT_THAT(faults("[[listener]]", "name = ''"),
              ElementsAre("listener.name: \"\" is not a name; "
                          "write 1 to 64 letters, digits, hyphens, underscores and dots"));
  EXPECT_THAT(faults("[[upstream]]", "name = 'a b'"),
              ElementsAre("upstream.name: \"a b\" is not a name; "
                          "write 1 to 64 letters, digits, hyphens, underscores and dots"));
  EXPECT_THAT(faults("[[upstream]]", "name = '" + std::string(64, 'x') + "'"), IsEmpty());
  EXPECT_EQ(faults("[[upstream]]", "name = '" + std::string(65, 'x') + "'").size(), 1U);
}

TEST(Config, Banners) {
  EXPECT_THAT(faults("[[listener]]", "banner = \"ESMTP\\r\\n250 evil\""),
              ElementsAre("listener.banner: \"ESMTP\\u000D\\u000A250 evil\" does not fit into the greeting; "
                          "write at most 250 printable ASCII characters"));
  EXPECT_THAT(faults("[[listener]]", "banner = '" + std::string(250, 'x') + "'"), IsEmpty());
  EXPECT_EQ(faults("[[listener]]", "banner = '" + std::string(251, 'x') + "'").size(), 1U);
  EXPECT_EQ(faults("[[listener]]", "banner = 'ESMTP é'").size(), 1U);
}

TEST(Config, Addresses) {
  const auto fault = [](const std::string& address) {
    return faults("[[upstream]]", "address = \"" + address + "\"");
  };
  const auto is = [](const std::string& text) { return ElementsAre("upstream.address: " + text); };
  const std::string examples = R"(write "127.0.0.1:25", "[::1]:25" or "unix:/run/mta.sock", for example)";

  for (const char* good :
       {"192.0.2.1:1", "192.0.2.1:65535", "[2001:db8::1]:25", "[::ffff:192.0.2.1]:25", "unix:/a"})
    EXPECT_THAT(fault(good), IsEmpty()) << good;

  EXPECT_THAT(fault("mx.example.com:25"),
              is("\"mx.example.com:25\" is not a numeric address (names are not resolved); " + examples));
  EXPECT_THAT(fault(""), is("\"\" is not a numeric address (names are not resolved); " + examples));
  EXPECT_THAT(fault("25"), is("\"25\" is not a numeric address (names are not resolved); " + examples));
  EXPECT_THAT(fault("127.1:25"),
              is("\"127.1:25\" is not a numeric address (names are not resolved); " + examples));
  EXPECT_THAT(fault("127.0.0.256:25"),
              is("\"127.0.0.256:25\" is not a numeric address (names are not resolved); " + examples));
  EXPECT_THAT(fault("192.0.2.1"), is("\"192.0.2.1\" has no port; write \"192.0.2.1:25\", for example"));
  EXPECT_THAT(fault("[::1]"), is("\"[::1]\" has no port; write \"[::1]:25\", for example"));
  EXPECT_THAT(fault("[::1]x"), is("\"[::1]x\" has no port; write \"[::1]:25\", for example"));
  EXPECT_THAT(fault("[::1"),
              is("\"[::1\" is not an IPv6 address with a port; write \"[::1]:25\", for example"));
  EXPECT_THAT(fault("[127.0.0.1]:25"),
              is("\"[127.0.0.1]:25\" is not an IPv6 address with a port; write \"[::1]:25\", for example"));
  EXPECT_THAT(
      fault("2001:db8::1"),
      is("\"2001:db8::1\" has an IPv6 address without brackets; write \"[2001:db8::1]:25\", with its port, "
         "for example"));
  EXPECT_THAT(fault("2001:db8:0:0:0:0:0:1:25"),
              is("\"2001:db8:0:0:0:0:0:1:25\" has an IPv6 address without brackets; "
                 "write \"[2001:db8:0:0:0:0:0:1]:25\", for example"));
  EXPECT_THAT(fault(":25"), is("\":25\" names no address; "
                               "write \"0.0.0.0:25\" or \"[::]:25\" for every address of this host"));
  EXPECT_THAT(fault("*:25"), is("\"*:25\" names no address; "
                                "write \"0.0.0.0:25\" or \"[::]:25\" for every address of this host"));
  for (const std::string port :
       {"0", "65536", "smtp", "", "-1", "+25", "25 ", "2 5", "99999999999999999999"}) {
    const std::string message =
        "\"" + port + "\" is not a port; write a number from 1 to 65535 behind the last colon";
    EXPECT_THAT(fault("192.0.2.1:" + port), is(message)) << port;
    EXPECT_THAT(fault("[2001:db8::1]:" + port), is(message)) << port;
  }
  EXPECT_THAT(fault("127.0.0.1\\u0000:25"),
              is("\"127.0.0.1\\u0000:25\" is not an address; write \"127.0.0.1:25\", for example"));
  EXPECT_THAT(fault("0.0.0.0:2525"),
              is("\"0.0.0.0:2525\" is not one host's address; write the mail server's own address"));
}

TEST(Config, UnixSockets) {
  const auto fault = [](const std::string& address) {
    return faults("[[upstream]]", "address = \"" + address + "\"");
  };
  EXPECT_THAT(fault("unix:/" + std::string(106, 'x')), IsEmpty());
  EXPECT_THAT(fault("unix:/" + std::string(107, 'x')),
              ElementsAre("upstream.address: the path of the socket has 108 bytes; "
                          "write a path of at most 107 bytes"));
  for (const std::string path : {"", "run/mta", "@mta"}) {
    EXPECT_THAT(fault("unix:" + path), ElementsAre("upstream.address: \"" + path +
                                                   "\" is not an absolute path; "
                                                   "write \"unix:/run/mta.sock\", for example"));
  }
  EXPECT_EQ(fault("unix:/a\\u0000b").size(), 1U);
  EXPECT_THAT(
      faults("[[listener]]", "address = 'unix:/run/x'"),
      ElementsAre("listener.address: \"unix:/run/x\" is a unix socket, which only an upstream can have; "
                  "write address = \"0.0.0.0:25\", for example"));
  EXPECT_EQ(faults("[metrics]", "address = 'unix:/run/x'").size(), 1U);
}

TEST(Config, SizesAndDurations) {
  EXPECT_THAT(faults("[[listener]]", "message_size_limit = '50MB'"),
              ElementsAre("listener.message_size_limit: \"50MB\" is not a size; "
                          "write a number of octets, or one with B, KiB, MiB, GiB or TiB: \"64KiB\""));
  for (const char* odd : {"''", "'KiB'", "'5'", "'5 KiB'", "'-5KiB'", "'5KiB '", "'1.5KiB'", "'5kib'"})
    EXPECT_EQ(faults("[[listener]]", "message_size_limit = " + std::string(odd)).size(), 1U) << odd;
  EXPECT_THAT(faults("[[listener]]", "data_timeout = '30 sec'"),
              ElementsAre("listener.data_timeout: \"30 sec\" is not a duration; "
                          "write a number with ms, s, m or h: \"30s\""));
  for (const char* odd : {"''", "'s'", "'30'", "'1h30m'", "'-5s'", "'1.5s'", "'5S'"})
    EXPECT_EQ(faults("[[listener]]", "data_timeout = " + std::string(odd)).size(), 1U) << odd;
  EXPECT_THAT(faults("[[listener]]", "data_timeout = -5"),
              ElementsAre("listener.data_timeout: -5 has no unit; write \"0s\" if seconds are meant"));
}

TEST(Config, Choices) {
  EXPECT_THAT(
      faults("[[listener]]", "nul = 'Reject'"),
      ElementsAre("listener.nul: \"Reject\" is not a choice here; write \"normalize\" or \"reject\""));
  for (const std::string word : {"may", "on", "require", "Off", ""}) {
    EXPECT_THAT(faults("[[listener]]", "starttls = '" + word + "'"),
                ElementsAre("listener.starttls: \"" + word +
                            "\" is not a choice here; write \"off\", \"optional\", \"required\" or "
                            "\"required-for-auth\""));
  }
  EXPECT_THAT(faults("[[listener]]", "minimum_tls_version = 'TLS1.3'"),
              ElementsAre("listener.minimum_tls_version: \"TLS1.3\" is not a choice here; "
                          "write \"TLSv1.2\" or \"TLSv1.3\""));
  EXPECT_THAT(
      faults("[[listener]]", "starttls = true"),
      ElementsAre("listener.starttls: a boolean, not a string; write starttls = \"off\", for example"));
}

TEST(Config, ExtensionLists) {
  EXPECT_EQ(parsed(with("[[listener]]", "extensions = []")).listeners[0].extensions, smtp::ExtensionSet());
  EXPECT_THAT(
      faults("[[listener]]", "extensions = ['PIPELINE', 'STARTTLS', 5, 'dsn', 'DSN']"),
      ElementsAre(
          "listener.extensions: \"PIPELINE\" is not an extension that ringmx offers; "
          "did you mean \"PIPELINING\"?",
          "listener.extensions: \"STARTTLS\" is not an extension that ringmx offers; the extensions "
          "are PIPELINING, SIZE, 8BITMIME, SMTPUTF8, CHUNKING, DSN, ENHANCEDSTATUSCODES and REQUIRETLS",
          testing::StartsWith("listener.extensions: an integer, not a string; write extensions = ["),
          "listener.extensions: \"DSN\" is listed twice; list it once"));
}

TEST(Config, UpstreamLists) {
  EXPECT_THAT(
      faults("[[listener]]", "upstreams = ['mta', 'mta', 'mat']"),
      ElementsAre("listener.upstreams: \"mta\" is listed twice; list it once",
                  "listener.upstreams: there is no upstream \"mat\"; write one of those there are: \"mta\""));
  EXPECT_THAT(problems_of(std::string(hostname) + std::string(listener) + "upstreams = [\n  'a',\n  'x']\n" +
                          std::string(upstream) + "[[upstream]]\nname = 'a'\naddress = '127.0.0.2:25'\n"),
              ElementsAre("f:7:3: listener.upstreams: there is no upstream \"x\"; "
                          "write one of those there are: \"mta\" or \"a\""));
}

TEST(Config, NamesAndAddressesAreUnique) {
  const std::string base = std::string(hostname) + std::string(listener) + std::string(upstream);
  EXPECT_THAT(
      problems_of(base + std::string(listener)),
      ElementsAre("f:9:8: listener.name: \"mx\" is already the name of the listener in line 3; "
                  "write another name",
                  "f:10:11: listener.address: \"127.0.0.1:25\" is already the address of the listener in "
                  "line 4; write another address, or remove one of the two"));
  EXPECT_THAT(
      problems_of(base + std::string(upstream)),
      ElementsAre("f:9:8: upstream.name: \"mta\" is already the name of the upstream in line 6; "
                  "write another name",
                  "f:10:11: upstream.address: \"127.0.0.1:2525\" is already the address of the upstream in "
                  "line 7; write another address, or remove one of the two"));
  // The same address in another notation.
  EXPECT_THAT(problems_of(base + "[[listener]]\nname = 'b'\naddress = '[0:0::1]:25'\n"
                                 "[[listener]]\nname = 'c'\naddress = '[::1]:25'\n"),
              ElementsAre("f:13:11: listener.address: \"[::1]:25\" is already the address of the listener in "
                          "line 10; write another address, or remove one of the two"));
  // A name of one kind may be one of the other kind too.
  EXPECT_THAT(problems_of(base + "[[upstream]]\nname = 'mx'\naddress = 'unix:/x'\n"), IsEmpty());
}

TEST(Config, MailMustNotGoRoundInCircles) {
  const std::string message =
      " is where the listener \"mx\" takes mail: it would go round in circles; "
      "write the mail server's address";
  EXPECT_THAT(faults("[[upstream]]", "address = '127.0.0.1:25'"),
              ElementsAre("upstream.address: \"127.0.0.1:25\"" + message));
  EXPECT_THAT(faults("[[listener]]", "address = '0.0.0.0:2525'"),
              ElementsAre("upstream.address: \"127.0.0.1:2525\"" + message));
  EXPECT_THAT(faults("[[listener]]", "address = '[::]:2525'"), IsEmpty());
  EXPECT_THAT(faults("[[listener]]", "address = '127.0.0.2:2525'"), IsEmpty());
}

TEST(Config, MetricsMustNotCollideWithAListener) {
  const std::string message = " collides with the listener in line 5; write another port";
  EXPECT_THAT(faults("[metrics]", "address = '127.0.0.1:25'"),
              ElementsAre("metrics.address: \"127.0.0.1:25\"" + message));
  EXPECT_THAT(faults("[metrics]", "address = '0.0.0.0:25'"),
              ElementsAre("metrics.address: \"0.0.0.0:25\"" + message));
  EXPECT_THAT(faults("[metrics]", "address = '127.0.0.2:25'"), IsEmpty());
  EXPECT_THAT(faults("[metrics]", "address = '[::]:25'"), IsEmpty());
}

TEST(Config, OneSessionCannotHoldAllMemory) {
  EXPECT_THAT(faults("[server]", "receive_memory = '2MiB'\nsession_memory = '1025KiB'"),
              ElementsAre("server.session_memory: more than half of receive_memory for one session; "
                          "write at most half of receive_memory"));
  EXPECT_THAT(faults("[server]", "receive_memory = '2MiB'\nsession_memory = '1MiB'"), IsEmpty());
}

// ---------------------------------------------------------------- TLS

TEST(Config, PathsBeginInTheFolderOfTheFile) {
  const std::string text =
      with("[[listener]]",
           "certificate = ['a.pem', '/etc/b.pem']\nprivate_key = ['keys/a', '../b']\nimplicit_tls = true\n"
           "client_certificates = 'request'\nclient_ca_file = 'ca.pem'");
  const auto in_folder = [&](const std::string& file) {
    Config config;
    std::vector<Problem> problems;
    EXPECT_TRUE(parse(text, file, config, problems, true));
    return config;
  };
  const Config config = in_folder("/etc/ringmx/ringmx.toml");
  EXPECT_THAT(config.listeners.at(0).certificate, ElementsAre("/etc/ringmx/a.pem", "/etc/b.pem"));
  EXPECT_THAT(config.listeners.at(0).private_key, ElementsAre("/etc/ringmx/keys/a", "/etc/ringmx/../b"));
  EXPECT_EQ(config.listeners.at(0).client_ca_file, "/etc/ringmx/ca.pem");
  EXPECT_THAT(config.certificates.at(0).certificate, ElementsAre("/etc/ringmx/x.pem"));
  EXPECT_THAT(in_folder("conf/ringmx.toml").listeners.at(0).certificate,
              ElementsAre("conf/a.pem", "/etc/b.pem"));
  EXPECT_THAT(in_folder("ringmx.toml").listeners.at(0).certificate, ElementsAre("a.pem", "/etc/b.pem"));
}

TEST(Config, PathsThatAreNone) {
  const std::string mend = " is not the name of a file; write a path, as \"mx.pem\"";
  EXPECT_THAT(faults("[[certificate]]", "certificate = ''"),
              ElementsAre("certificate.certificate: \"\"" + mend));
  EXPECT_THAT(faults("[[certificate]]", "certificate = ['a', \"b\\u0000\", 5]"),
              ElementsAre("certificate.certificate: \"b\\u0000\"" + mend,
                          testing::StartsWith("certificate.certificate: an integer, not a string")));
  EXPECT_THAT(
      faults("[[certificate]]", "private_key = []"),
      ElementsAre("certificate.private_key: names no file; write private_key = \"mx.key\", for example"));
  EXPECT_THAT(faults("[[listener]]", "certificate = 5\nprivate_key = 'x'\nimplicit_tls = true"),
              ElementsAre("listener.certificate: an integer, not a path or a list of paths; "
                          "write certificate = [], for example"));
  EXPECT_THAT(faults("[[certificate]]", "certificate = 'ä ö.pem'"), IsEmpty());
}

TEST(Config, CertificatesHaveKeys) {
  const std::string mend =
      "; write a private_key for each certificate, in the same order; both may be in one file";
  EXPECT_THAT(faults("[[listener]]", "certificate = 'a'"),
              ElementsAre("listener.certificate: 1 certificate and no private keys" + mend));
  EXPECT_THAT(faults("[[listener]]", "private_key = 'a'"),
              ElementsAre("listener.private_key: no certificates and 1 private key" + mend));
  EXPECT_THAT(faults("[[certificate]]", "certificate = ['a', 'b']"),
              ElementsAre("certificate.private_key: 2 certificates and 1 private key" + mend));
  // What is missing altogether is said once.
  const std::string base = std::string(hostname) + std::string(listener) + std::string(upstream);
  EXPECT_THAT(
      problems_of(base + "[[certificate]]\ncertificate = 'a'\n"),
      ElementsAre("f:8:1: certificate.private_key: missing; write private_key = \"mx.key\", for example"));
}

TEST(Config, TlsNeedsACertificate) {
  const std::string base = std::string(hostname) + std::string(upstream) + std::string(listener);
  const std::string message =
      ": TLS needs a certificate; write certificate = \"mx.pem\" and private_key = \"mx.key\", or a "
      "[[certificate]]";
  EXPECT_THAT(problems_of(base + "starttls = 'optional'\n"),
              ElementsAre("f:8:12: listener.starttls" + message));
  EXPECT_THAT(problems_of(base + "implicit_tls = true\n"),
              ElementsAre("f:8:16: listener.implicit_tls" + message));
  EXPECT_THAT(problems_of(base + "implicit_tls = true\ncertificate = 'a'\nprivate_key = 'a'\n"), IsEmpty());
  EXPECT_THAT(problems_of(base + "starttls = 'required'\n[[certificate]]\ncertificate = 'a'\n"
                                 "private_key = 'a'\nnames = ['mx.example']\n"),
              IsEmpty());
  EXPECT_THAT(faults("[[listener]]", "starttls = 'optional'\nimplicit_tls = true"),
              ElementsAre("listener.starttls: there is nothing left to start with implicit_tls; "
                          "remove one of the two: implicit_tls is for port 465, starttls for port 25"));
}

TEST(Config, ClientCertificatesNeedCas) {
  EXPECT_THAT(faults("[[listener]]", "client_certificates = 'require'\nstarttls = 'required'"),
              ElementsAre("listener.client_certificates: there is nothing to verify them with; "
                          "write client_ca_file = \"client-ca.pem\""));
  EXPECT_THAT(faults("[[listener]]", "client_certificates = 'request'\nclient_ca_file = 'ca'"),
              ElementsAre("listener.client_certificates: there are no certificates without TLS; "
                          "write starttls = \"required\", for example"));
  EXPECT_THAT(faults("[[listener]]", "client_ca_file = 'ca'\nstarttls = 'required'"),
              ElementsAre("listener.client_ca_file: clients are not asked for certificates; "
                          "write client_certificates = \"request\" or \"require\", or remove the key"));
}

TEST(Config, ServerNames) {
  const auto fault = [](const std::string& name) {
    return faults("[[certificate]]", "names = ['" + name + "']");
  };
  for (const char* good : {"mx.example.com", "MX.example.com", "*.example.com", "localhost", "*.local"})
    EXPECT_THAT(fault(good), IsEmpty()) << good;
  for (const char* bad :
       {"", "*", "*.", "a.*.b", "*a.example", "*.*.example", "192.0.2.1", "mx.example.com."})
    EXPECT_THAT(fault(bad),
                ElementsAre(testing::EndsWith("; write a name as \"mx.example.com\", or \"*.example.com\"")))
        << bad;
  EXPECT_THAT(faults("[[certificate]]", "names = ['a.b', 'a.b']"),
              ElementsAre("certificate.names: \"a.b\" is listed twice; list it once"));
}

TEST(Config, VerificationOfUpstreamsNeedsANameAndCas) {
  const std::string mend =
      ": a certificate is verified by name, and the address has none; write tls_name = "
      "\"mta.example.com\", the name in the certificate, or verify = \"none\"";
  EXPECT_THAT(faults("[[upstream]]", "starttls = 'required'"), ElementsAre("upstream.starttls" + mend));
  EXPECT_THAT(faults("[[upstream]]", "implicit_tls = true"), ElementsAre("upstream.implicit_tls" + mend));
  EXPECT_THAT(faults("[[upstream]]", "starttls = 'optional'\nverify = 'system'"),
              ElementsAre("upstream.verify" + mend));
  for (const char* good : {"starttls = 'optional'", "starttls = 'required'\nverify = 'none'",
                           "implicit_tls = true\ntls_name = 'a.b'", "verify = 'system'"})
    EXPECT_THAT(faults("[[upstream]]", good), IsEmpty()) << good;
  EXPECT_THAT(faults("[[upstream]]", "starttls = 'required'\ntls_name = '192.0.2.1'"),
              ElementsAre("upstream.tls_name: \"192.0.2.1\" is not a host name: the last label is a number; "
                          "write the name in the certificate, as \"mx.example.com\""));
  EXPECT_THAT(faults("[[upstream]]", "verify = 'ca_file'"),
              ElementsAre("upstream.verify: there is no ca_file to verify with; "
                          "write ca_file = \"ca.pem\", or verify = \"system\""));
  EXPECT_THAT(faults("[[upstream]]", "ca_file = 'x'"),
              ElementsAre("upstream.ca_file: it is not used; write verify = \"ca_file\", or remove the key"));
}

TEST(Config, WithoutTlsInTheProgramNoneCanBeHad) {
  const auto without = [](const std::string& table, const std::string& line) {
    Config config;
    std::vector<Problem> problems;
    (void)parse(with(table, line), "f", config, problems, false);
    std::vector<std::string> keys;
    for (const Problem& p : problems) {
      EXPECT_EQ(p.message, "this ringmx was built without TLS");
      EXPECT_EQ(p.mend, "build one with it (meson setup build -Dtls=enabled), or remove the key");
      keys.push_back(p.key);
    }
    return keys;
  };
  EXPECT_THAT(without("[[listener]]", "starttls = 'optional'"), ElementsAre("listener.starttls"));
  EXPECT_THAT(without("[[listener]]", "implicit_tls = true"), ElementsAre("listener.implicit_tls"));
  EXPECT_THAT(without("[[upstream]]", "starttls = 'optional'"), ElementsAre("upstream.starttls"));
  EXPECT_THAT(without("[[upstream]]", "implicit_tls = true\ntls_name = 'a.b'"),
              ElementsAre("upstream.implicit_tls"));
  // What asks for nothing may stay.
  EXPECT_THAT(without("[[listener]]", "starttls = 'off'"), IsEmpty());
  EXPECT_THAT(without("[[listener]]", "certificate = 'a'\nprivate_key = 'b'"), IsEmpty());
  EXPECT_THAT(without("[tls]", "ktls = 'off'"), IsEmpty());

  Config config;
  std::vector<Problem> problems;
  EXPECT_EQ(parse(with("[[listener]]", "implicit_tls = true"), "f", config, problems), built_with_tls);
}

std::vector<std::string> files_of(const std::string& text, std::size_t of_listener = 0) {
  const Config config = parsed(text);
  std::vector<std::string> out;
  for (const auto& f : server_settings(config, config.listeners.at(of_listener)).certificates) {
    std::string line = f.certificate + " " + f.private_key;
    for (const std::string& name : f.names) line += " " + name;
    out.push_back(line);
  }
  return out;
}

TEST(TlsSettings, EveryListenerHasADefault) {
  const std::string start =
      std::string(hostname) + std::string(upstream) + std::string(listener) + "starttls = 'optional'\n";
  const std::string own = "certificate = ['e.pem', 'r.pem']\nprivate_key = ['e.key', 'r.key']\n";
  const std::string named =
      "[[certificate]]\nnames = ['a.b', 'c.d']\ncertificate = ['1', '2']\nprivate_key = ['3', '4']\n";
  const std::string nameless = "[[certificate]]\ncertificate = 'n.pem'\nprivate_key = 'n.key'\n";
  EXPECT_THAT(files_of(start + own), ElementsAre("e.pem e.key", "r.pem r.key"));
  EXPECT_THAT(files_of(start + own + named + nameless),
              ElementsAre("e.pem e.key", "r.pem r.key", "1 3 a.b c.d", "2 4 a.b c.d"));
  EXPECT_THAT(files_of(start + named + nameless), ElementsAre("1 3 a.b c.d", "2 4 a.b c.d", "n.pem n.key"));
  // The first is for those who ask for no name: all of its kinds.
  EXPECT_THAT(files_of(start + named), ElementsAre("1 3 a.b c.d", "2 4 a.b c.d", "1 3", "2 4"));
}

TEST(TlsSettings, EverythingArrives) {
  const Config config =
      parsed(std::string(hostname) + std::string(listener) +
             "implicit_tls = true\ncertificate = 'a'\nprivate_key = 'b'\nclient_certificates = 'require'\n"
             "client_ca_file = 'ca'\nminimum_tls_version = 'TLSv1.3'\n" +
             std::string(upstream) +
             "starttls = 'required'\nverify = 'ca_file'\nca_file = 'uca'\ntls_name = 'mta.example'\n"
             "[tls]\nktls = 'require'\nsession_tickets = false\nticket_lifetime = '90s'\nticket_key_files = "
             "['k']\n");
  const tls::ServerSettings server = server_settings(config, config.listeners.at(0));
  EXPECT_EQ(server.minimum, tls::Version::tls13);
  EXPECT_EQ(server.client_certificates, tls::ClientCertificates::require);
  EXPECT_EQ(server.client_ca_file, "ca");
  EXPECT_FALSE(server.tickets.enabled);
  EXPECT_EQ(server.tickets.lifetime, 90s);
  EXPECT_THAT(server.tickets.key_files, ElementsAre("k"));
  EXPECT_EQ(server.offload, tls::Offload::require);
  const tls::ClientSettings client = client_settings(config, config.upstreams.at(0));
  EXPECT_EQ(client.verify, tls::ClientSettings::Verify::ca_file);
  EXPECT_EQ(client.ca_file, "uca");
  EXPECT_EQ(client.name, "mta.example");
  EXPECT_EQ(client.offload, tls::Offload::require);
}

TEST(TlsSettings, DefaultsAreThoseOfTheRoom) {
  // Told nothing, it would do the same.
  const Config config = parsed(with("", " "));
  const tls::ServerSettings server = server_settings(config, config.listeners.at(0));
  const tls::ServerSettings plain;
  EXPECT_EQ(server.minimum, plain.minimum);
  EXPECT_EQ(server.client_certificates, plain.client_certificates);
  EXPECT_EQ(server.tickets.enabled, plain.tickets.enabled);
  EXPECT_EQ(server.tickets.lifetime, plain.tickets.lifetime);
  EXPECT_EQ(server.offload, plain.offload);
  EXPECT_EQ(client_settings(config, config.upstreams.at(0)).verify, tls::ClientSettings{}.verify);
}

TEST(Config, MetricsAreOffUnlessAsked) {
  EXPECT_FALSE(parsed(std::string(hostname) + std::string(listener) + std::string(upstream)).metrics.enabled);
}

TEST(Config, SyntaxErrors) {
  const std::string mend = "write key = value, with text and units in quotes: hostname = \"mx.example.com\"";
  EXPECT_THAT(
      problems_of("[server]\nhostname = mx.example.com\n"),
      ElementsAre("f:2:12: not TOML: Error while parsing value: could not determine value type; " + mend));
  EXPECT_THAT(
      problems_of("[server]\nreactors = 1\nreactors = 2\n"),
      ElementsAre(testing::AllOf(testing::StartsWith("f:3:"), HasSubstr("cannot redefine existing integer"),
                                 testing::EndsWith("; write each key once, and a [[listener]] or "
                                                   "[[upstream]] for each one of several"))));
  EXPECT_THAT(
      problems_of("reuse = fals\n"),
      ElementsAre("f:1:13: not TOML: Error while parsing boolean: expected 'false', saw 'fals\\u000A'; " +
                  mend));
  for (const std::string& text : std::vector<std::string>{"[server", "a", "a = \"x", "a = 5 5", "a = \xff",
                                                          std::string("a = 1\0", 6), "a = [[[[", "\x01"})
    EXPECT_THAT(problems_of(text), ElementsAre(HasSubstr(": not TOML: "))) << text;
}

TEST(Config, ProblemsAddToThoseThereAre) {
  Config config;
  std::vector<Problem> problems{{"z", 99, 1, "k", "m", ""}};
  EXPECT_FALSE(parse("[server", "f", config, problems));
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems[0].text(), "z:99:1: k: m");
  EXPECT_TRUE(parse(with("", " "), "f", config, problems));
  EXPECT_EQ(problems.size(), 2U);
}

TEST(Config, ARefusedTextLeavesTheConfigAlone) {
  Config config = parsed(with("[server]", "reactors = 5"));
  const Config before = config;
  std::vector<Problem> problems;
  EXPECT_FALSE(parse(with("[server]", "reactors = 2000"), "f", config, problems));
  EXPECT_EQ(config, before);
}

TEST(Config, FilesThatCannotBeRead) {
  const auto load_problem = [](const std::string& file) {
    Config config;
    std::vector<Problem> problems;
    EXPECT_FALSE(load(file, config, problems));
    return problems.size() == 1 ? problems[0].text() : "";
  };
  EXPECT_EQ(load_problem("/nowhere/ringmx.toml"),
            "/nowhere/ringmx.toml: can't be read: No such file or directory; name a readable TOML file");
  EXPECT_EQ(load_problem("/"), "/: can't be read: Is a directory; name a readable TOML file");
  EXPECT_EQ(load_problem("/dev/zero"),
            "/dev/zero: can't be read: it has more than 1 MiB; name a readable TOML file");
}

// ---------------------------------------------------------------- AUTH

TEST(Auth, Mechanisms) {
  const std::string service = "[[service]]\nname = 's'\naddress = 'http://127.0.0.1:9000/'\nsteps = 'auth'\n";
  const auto auth = [&](const std::string& line) {
    return parsed(with("[[listener]]", "services = ['s']\n" + line) + service).listeners[0].auth;
  };
  using smtp::Mechanism;
  EXPECT_TRUE(auth("auth = []").empty());
  EXPECT_EQ(auth("auth = ['plain', 'CRAM-MD5', 'XOAuth2']"),
            (smtp::MechanismSet{Mechanism::plain, Mechanism::cram_md5, Mechanism::xoauth2}));
  const auto wrong = [&](const std::string& lines, const std::string& services) {
    std::vector<std::string> out;
    for (std::string text : problems_of(with("[[listener]]", lines) + services)) {
      out.push_back(text.substr(text.find(' ') + 1));
    }
    return out;
  };
  EXPECT_THAT(
      wrong("services = ['s']\nauth = ['ntlm', 'login', 'LOGIN', 5]", service),
      ElementsAre(HasSubstr("listener.auth: \"ntlm\" is not a mechanism that ringmx has; the mechanisms "
                            "are \"plain\", \"login\", "),
                  "listener.auth: \"LOGIN\" is listed twice; list it once",
                  HasSubstr("listener.auth: an integer, not a string")));
  EXPECT_THAT(
      wrong("auth_required = true", ""),
      ElementsAre("listener.auth_required: there is no AUTH, so nobody could send anything; write auth = "
                  "[\"plain\", \"login\"], or remove the key"));
  // Somebody has to decide.
  const auto nobody =
      ElementsAre(HasSubstr("listener.auth: there is nobody to ask whether credentials are good"));
  EXPECT_THAT(wrong("auth = ['plain']", ""), nobody);
  EXPECT_THAT(wrong("auth = ['plain']", service), nobody);
  EXPECT_THAT(wrong("services = ['s']\nauth = ['plain']",
                    "[[service]]\nname = 's'\naddress = 'http://127.0.0.1:9000/'\nsteps = 'mail'\n"),
              nobody);
  EXPECT_THAT(wrong("services = ['s']\nauth = ['plain']", service + "on_failure = 'allow'\n"),
              ElementsAre(HasSubstr("service.on_failure: while it is down, \"allow\" would let anybody in")));
  EXPECT_THAT(wrong("services = ['s']\nauth = ['external']", service),
              ElementsAre(HasSubstr("listener.auth: \"external\" is by client certificate")));
}

TEST(Auth, PasswordsStayOnThisHostOrInTls) {
  const std::string refused = "upstream.authenticate: passwords would leave this host in clear text";
  EXPECT_THAT(faults("[[upstream]]", "address = '192.0.2.1:25'\nauthenticate = 'plain'"),
              ElementsAre(HasSubstr(refused)));
  for (const char* good :
       {"address = '192.0.2.1:25'\nauthenticate = 'xclient'", "address = '[::1]:25'\nauthenticate = 'plain'",
        "address = 'unix:/run/mta.sock'\nauthenticate = 'plain'"}) {
    EXPECT_THAT(faults("[[upstream]]", good), ElementsAre()) << good;
  }
  if (built_with_tls) {
    EXPECT_THAT(
        faults("[[upstream]]", "address = '192.0.2.1:25'\nauthenticate = 'plain'\nstarttls = 'optional'"),
        ElementsAre());
  }
  EXPECT_THAT(faults("[[upstream]]", "authenticate_in_clear_text = true"),
              ElementsAre(HasSubstr("upstream.authenticate_in_clear_text: no password is told")));
}

// ---------------------------------------------------------------- what people read

std::string read_doc(const std::string& name) {
  std::ifstream file(std::string(RINGMX_DOCS) + "/" + name);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_FALSE(text.str().empty()) << name;
  return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(Manual, DescribesEveryKeyAndNoOther) {
  const Language language;
  std::vector<std::string> expected;
  for (const Section& section : language.sections()) {
    expected.push_back("## `" + section.heading() + "`");
    for (const Key& key : section.keys) {
      std::string value = default_text(key);
      if (!key.required && key.default_about.empty()) value = "`" + value + "`";
      expected.push_back("### `" + std::string(key.name) + "`");
      expected.push_back("Type: " + type_text(key.field) + ". Default: " + value +
                         ". Range: " + range_text(key.field) + ".");
      expected.emplace_back(key.about);
    }
  }
  // Of the manual, the lines that say such things: headings of code, facts, and what follows facts.
  std::vector<std::string> found;
  const auto lines = lines_of(read_doc("configuration.md"));
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].rfind("## `", 0) == 0 || lines[i].rfind("### ", 0) == 0) found.push_back(lines[i]);
    if (lines[i].rfind("Type: ", 0) == 0 && i + 2 < lines.size()) {
      found.push_back(lines[i]);
      found.push_back(lines[i + 2]);
    }
  }
  EXPECT_EQ(found, expected);
}

TEST(Manual, ItsShortestConfigurationLoads) {
  const std::string text = read_doc("configuration.md");
  const std::string fence = "```toml\n";
  const std::size_t begin = text.find(fence) + fence.size();
  ASSERT_GT(text.size(), begin);
  parsed(text.substr(begin, text.find("```", begin) - begin));
}

TEST(Example, LoadsAndIsAllDefaults) {
  Config config;
  std::vector<Problem> problems;
  ASSERT_TRUE(load(std::string(RINGMX_DOCS) + "/ringmx.toml", config, problems))
      << (problems.empty() ? "" : problems[0].text());

  Config defaults;
  defaults.server.hostname = "mx.example.com";
  defaults.listeners.emplace_back();
  defaults.listeners[0].name = "mx";
  defaults.listeners[0].address = {Endpoint::Family::ipv4, "0.0.0.0", 25, ""};
  defaults.upstreams.emplace_back();
  defaults.upstreams[0].name = "mta";
  defaults.upstreams[0].address = {Endpoint::Family::ipv4, "127.0.0.1", 2525, ""};
  defaults.metrics.enabled = true;
  defaults.metrics.address = {Endpoint::Family::ipv4, "127.0.0.1", 9925, ""};
  EXPECT_EQ(config, defaults);

  // With the comments in front of the keys taken away it says the same.
  std::string uncommented;
  for (const std::string& line : lines_of(read_doc("ringmx.toml"))) {
    const bool key = line.size() > 1 && line[0] == '#' && line[1] != ' ';
    uncommented += (key ? line.substr(1) : line) + "\n";
  }
  // [[certificate]] asks for files that nobody has, so it is commented out whole; [[rule]] and [[service]]
  // likewise: there is none by default.
  defaults.services.emplace_back();
  defaults.services[0].name = "auth";
  defaults.services[0].address = {{Endpoint::Family::ipv4, "127.0.0.1", 9000, ""}, true, false, "/auth"};
  defaults.services[0].steps = {policy::Step::rcpt};
  defaults.rules.emplace_back();
  defaults.rules[0].name = "partners";
  defaults.rules[0].steps = {policy::Step::mail};
  defaults.rules[0].authenticated = true;
  defaults.rules[0].tls = policy::Encryption::required;
  defaults.certificates.push_back({{}, {"mx.pem"}, {"mx.key"}});
  EXPECT_EQ(parsed(uncommented), defaults);
  const Language language;
  for (const Section& section : language.sections()) {
    const std::size_t begin = uncommented.find("\n" + section.heading() + "\n");
    ASSERT_NE(begin, std::string::npos) << section.heading();
    const std::string part = uncommented.substr(begin, uncommented.find("\n[", begin + 1) - begin);
    for (const Key& key : section.keys) {
      EXPECT_THAT(part, HasSubstr("\n# " + std::string(key.about) + "\n" + example_text(key) + "\n"));
    }
  }
}

// ---------------------------------------------------------------- notation

TEST(Notation, FormatsSayWhatTheyMean) {
  EXPECT_EQ(format_size(0), "0");
  EXPECT_EQ(format_size(1000), "1000");
  EXPECT_EQ(format_size(1024), "1KiB");
  EXPECT_EQ(format_size(1536), "1536");
  EXPECT_EQ(format_size(50ULL << 20), "50MiB");
  EXPECT_EQ(format_size(1ULL << 40), "1TiB");
  EXPECT_EQ(format_duration(0ms), "0s");
  EXPECT_EQ(format_duration(1500ms), "1500ms");
  EXPECT_EQ(format_duration(90s), "90s");
  EXPECT_EQ(format_duration(5min), "5m");
  EXPECT_EQ(format_duration(2h), "2h");
}

TEST(Notation, EndpointsReadBackAsTheyAreWritten) {
  for (const std::string text : {"127.0.0.1:25", "[::1]:25", "unix:/run/mta.sock"}) {
    Endpoint endpoint;
    EXPECT_FALSE(parse_endpoint(text, endpoint)) << text;
    EXPECT_EQ(endpoint.text(), text);
  }
}

TEST(Notation, QuotesStayOnOneLine) {
  EXPECT_EQ(in_quotes("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(in_quotes(std::string_view("\n\0\x7f", 3)), "\"\\u000A\\u0000\\u007F\"");
  EXPECT_EQ(in_quotes(std::string(80, 'x')), "\"" + std::string(80, 'x') + "\"");
  EXPECT_EQ(in_quotes(std::string(79, 'x') + "é"), "\"" + std::string(79, 'x') + "...\"");
  EXPECT_EQ(in_quotes(std::string(81, 'x')), "\"" + std::string(80, 'x') + "...\"");
}

}  // namespace
}  // namespace ringmx::config
