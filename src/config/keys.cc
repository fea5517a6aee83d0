// SPDX-License-Identifier: GPL-3.0-or-later
#include "config/keys.h"

#include <cstddef>

namespace ringmx::config {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t KiB = 1024;
constexpr std::uint64_t MiB = 1024 * KiB;
constexpr std::uint64_t GiB = 1024 * MiB;
constexpr std::uint64_t TiB = 1024 * GiB;

// Long enough that a timer may fire at all, and no longer than any peer would wait.
Duration timeout(std::chrono::milliseconds& to) {
  return {&to, 100ms, 1h};
}

// The words of the enumerators, from `first` on.
constexpr std::string_view policy_words[] = {"normalize", "reject"};
constexpr std::string_view starttls_words[] = {"off", "optional", "required"};
constexpr std::string_view listener_starttls_words[] = {"off", "optional", "required", "required-for-auth"};
constexpr std::string_view client_certificate_words[] = {"none", "request", "require"};
constexpr std::string_view version_words[] = {"TLSv1.2", "TLSv1.3"};
constexpr std::string_view offload_words[] = {"auto", "upstreams", "require", "off"};
constexpr std::string_view authenticate_words[] = {"none", "xclient", "plain"};
constexpr std::string_view verify_words[] = {"none", "system", "ca_file"};
constexpr std::string_view encryption_words[] = {"optional", "required", "TLSv1.3"};
constexpr std::string_view rule_certificate_words[] = {"optional", "presented", "verified"};
constexpr std::string_view protocol_words[] = {"auth_http", "policy"};
constexpr std::string_view on_failure_words[] = {"tempfail", "refuse", "allow"};
constexpr std::string_view otherwise_words[] = {"refuse", "tempfail", "mark", "next"};

template <class Enum>
Choice choice(Enum& to, std::span<const std::string_view> words, Enum first = Enum{}) {
  const auto base = static_cast<std::size_t>(first);
  return {words, [&to, base] { return static_cast<std::size_t>(to) - base; },
          [&to, base](std::size_t index) { to = static_cast<Enum>(base + index); }};
}

template <class Words>
std::string quoted(const Words& words, std::string_view conjunction) {
  std::vector<std::string> out;
  for (const std::string_view word : words) out.push_back(in_quotes(word));
  return enumerate(out, conjunction);
}

// check_cache_field() knows them by policy's own list.
constexpr std::string_view cache_fields =
    R"("listener", "client", "helo", "user", "tls", "certificate", "sender", "sender_domain", "recipient" )"
    R"(and "recipient_domain", each once)";
constexpr std::string_view a_path = "path, relative to the folder of the configuration";

Text name(std::string& to) {
  return {&to, check_name, "1 to 64 letters, digits, hyphens, underscores and dots"};
}

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

std::string size_text(std::uint64_t octets) {
  const std::string text = format_size(octets);
  return text.find('B') == text.npos ? text : in_quotes(text);
}
std::string duration_text(std::chrono::milliseconds d) {
  return in_quotes(format_duration(d));
}

template <class Words>
std::string list_text(const Words& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + in_quotes(word);
  return "[" + out + "]";
}

}  // namespace

std::vector<Key> keys(Server& s) {
  return {
      {"hostname", "The name that ringmx greets clients and upstreams with.",
       Text{&s.hostname, check_domain, "a domain of at most 253 characters"}, false, R"("mx.example.com")",
       "the host's own name, gethostname(2)"},
      {"reactors", "How many threads serve, each with its own ring; 0 means one per core.",
       Count{&s.reactors, 0, 1024}},
      {"max_sessions", "How many clients one reactor serves at once; further ones get 421.",
       Count{&s.max_sessions, 1, 1'000'000}},
      {"receive_memory", "How much memory one reactor may use to receive from clients.",
       Size{&s.receive_memory, MiB, 4096 * MiB}},
      {"session_memory", "How much of it one session may hold before its client has to wait.",
       Size{&s.session_memory, 64 * KiB, 64 * MiB}},
      {"drain_timeout", "How long running transactions may take after SIGTERM.",
       Duration{&s.drain_timeout, 0ms, 1h}},
  };
}

std::vector<Key> keys(Listener& l) {
  return {
      {"name", "What the listener is called in metrics and messages.", name(l.name), true, R"("mx")"},
      {"address", "Where clients connect.", Address{&l.address, false}, true, R"("0.0.0.0:25")"},
      {"backlog", "How many connections the kernel may hold before they are accepted.",
       Count{&l.backlog, 1, 65535}},
      {"upstreams", "The upstreams that serve this listener's clients; none named means all of them.",
       Names{&l.upstreams, nullptr, "names of upstreams, each once"}},
      {"services", "The services that are asked about this listener's clients, in their order.",
       Names{&l.services, nullptr, "names of services, each once"}},
      {"extensions", "The ESMTP extensions that may be offered, where the upstreams offer them too.",
       Extensions{&l.extensions}},
      {"banner", "What stands behind the host name in the 220 greeting.",
       Text{&l.banner, check_banner, "at most 250 printable ASCII characters"}},
      {"bare_newline", "What happens to a CR or LF that stands alone in a message.",
       choice(l.bare_newline, policy_words)},
      {"nul", "What happens to a NUL in a message.", choice(l.nul, policy_words)},
      {"bare_lf_in_commands", "Whether a command may end in LF alone.", Flag{&l.bare_lf_in_commands}},
      {"forbid_unauth_pipelining",
       "Whether a client that does not wait where RFC 2920 says it must is turned away.",
       Flag{&l.forbid_unauth_pipelining}},
      {"greeting_delay", "How long the greeting is held back; who talks earlier is turned away.",
       Duration{&l.greeting_delay, 0ms, 1min}},
      {"message_size_limit", "The largest message that is let pass; 0 means any.",
       Size{&l.message_size_limit, 0, TiB}},
      {"recipient_limit", "How many recipients one transaction may have.",
       Count{&l.recipient_limit, 1, 100'000}},
      {"command_line_limit", "The longest command line, with its CRLF; extensions add to it.",
       Size{&l.command_line_limit, 512, 64 * KiB}},
      {"error_limit", "After so many errors a session ends with 421.", Count{&l.error_limit, 1, 10'000}},
      {"junk_command_limit",
       "After so many NOOP, RSET, VRFY or HELP without a message in between a session ends with 421.",
       Count{&l.junk_command_limit, 1, 10'000}},
      {"command_timeout", "How long a client may take to send a whole command.", timeout(l.command_timeout)},
      {"data_timeout", "How long a message may be silent or slow beyond what min_data_rate allows.",
       timeout(l.data_timeout)},
      {"min_data_rate", "How many octets per second a message must bring on average; 0 means any pace.",
       Size{&l.min_data_rate, 0, GiB}},
      {"close_timeout", "How long a client may take to read the last reply and to close.",
       timeout(l.close_timeout)},
      {"starttls", "Whether clients can, or must, begin TLS by the command STARTTLS.",
       choice(l.starttls, listener_starttls_words)},
      {"implicit_tls", "Whether TLS begins with the connection, before the greeting.", Flag{&l.implicit_tls}},
      {"certificate", "The certificate chains that clients are shown, in PEM.", Paths{&l.certificate}},
      {"private_key", "The private keys of these certificates, in PEM and in the same order.",
       Paths{&l.private_key}},
      {"client_certificates", "Whether clients are asked for certificates of their own.",
       choice(l.client_certificates, client_certificate_words)},
      {"client_ca_file", "The CAs that clients' certificates are verified with, in PEM.",
       Path{&l.client_ca_file}},
      {"minimum_tls_version", "The oldest version of TLS that clients may use.",
       choice(l.minimum_tls_version, version_words, tls::Version::tls12)},
      {"handshake_timeout", "How long a client may take for the TLS handshake.",
       timeout(l.handshake_timeout)},
      {"handshake_rate",
       "How many TLS handshakes a minute the clients of one network may begin; 0 means any number.",
       Count{&l.handshake_rate, 0, 1'000'000}},
      {"auth", "The mechanisms by which clients can authenticate; without any there is no AUTH.",
       Mechanisms{&l.auth}},
      {"auth_required", "Whether a client must have authenticated to send mail.", Flag{&l.auth_required}},
      {"auth_failure_limit", "After so many failed authentications a session ends with 421.",
       Count{&l.auth_failure_limit, 1, 100}},
      {"auth_failure_delay", "How long a client waits for the reply that refuses its credentials.",
       Duration{&l.auth_failure_delay, 0ms, 1min}},
  };
}

std::vector<Key> keys(Upstream& u) {
  return {
      {"name", "What the upstream is called in metrics, messages and listeners.", name(u.name), true,
       R"("mta")"},
      {"address", "Where the mail server listens.", Address{&u.address, true}, true, R"("127.0.0.1:2525")"},
      {"reuse", "Whether a connection serves the transactions of many clients, one after the other.",
       Flag{&u.reuse}},
      {"max_idle", "How many idle connections one reactor keeps for the next transactions.",
       Count{&u.max_idle, 0, 100'000}},
      {"idle_timeout", "How long an idle connection is kept.", timeout(u.idle_timeout)},
      {"error_limit", "How many refusals in a row a connection may have given and still be kept.",
       Count{&u.error_limit, 0, 100'000}},
      {"reply_limit", "The longest reply, all its lines together.", Size{&u.reply_limit, 512, MiB}},
      {"retry_after", "For how long other upstreams are preferred after a failed connect.",
       Duration{&u.retry_after, 0ms, 1h}},
      {"connect_timeout", "How long a connect may take.", timeout(u.connect_timeout)},
      {"greeting_timeout", "How long the greeting and the reply to EHLO may take, each.",
       timeout(u.greeting_timeout)},
      {"command_timeout", "How long the reply to MAIL, RCPT or RSET may take.", timeout(u.command_timeout)},
      {"data_timeout", "How long the reply to DATA may take.", timeout(u.data_timeout)},
      {"send_timeout", "How long the upstream may take to accept a block of a message.",
       timeout(u.send_timeout)},
      {"message_timeout", "How long the reply after the end of data may take.", timeout(u.message_timeout)},
      {"starttls", "Whether ringmx begins TLS by the command STARTTLS.", choice(u.starttls, starttls_words)},
      {"implicit_tls", "Whether TLS begins with the connection, before the greeting.", Flag{&u.implicit_tls}},
      {"verify",
       "What the mail server's certificate is verified with.",
       choice(u.verify, verify_words),
       false,
       {},
       R"(`"system"`, but `"none"` with `starttls = "optional"`)"},
      {"ca_file", "The CAs that the mail server's certificate is verified with, in PEM.", Path{&u.ca_file}},
      {"tls_name", "The name that the mail server's certificate must have.",
       Text{&u.tls_name, check_optional_domain, "a domain of at most 253 characters, or \"\" for none"}},
      {"authenticate", "How the mail server is told who an authenticated client is.",
       choice(u.authenticate, authenticate_words)},
      {"authenticate_in_clear_text", "Whether it may be told the password without TLS, on another host.",
       Flag{&u.authenticate_in_clear_text}},
  };
}

std::vector<Key> keys(Certificate& c) {
  return {
      {"names", "The names by which clients ask for the certificate; without any it is a default.",
       Names{&c.names, check_server_name, R"(host names, or "*." and a domain, each once)"}},
      {"certificate", "The certificate chains that clients are shown, in PEM.", Paths{&c.certificate}, true,
       R"("mx.pem")"},
      {"private_key", "The private keys of these certificates, in PEM and in the same order.",
       Paths{&c.private_key}, true, R"("mx.key")"},
  };
}

std::vector<Key> keys(Rule& r) {
  using policy::Step;
  constexpr std::string_view domains = R"(domains, or "." and a domain for its sub-domains, each once)";
  constexpr std::string_view senders =
      R"(domains, or "." and a domain for its sub-domains, or "<>" for the null sender, each once)";
  return {
      {"name", "What the rule is called in metrics and messages.", name(r.name), true, R"("partners")"},
      {"listeners", "The listeners whose clients the rule concerns; none named means all of them.",
       Names{&r.listeners, nullptr, "names of listeners, each once"}},
      {"steps", "The commands at which the rule is asked.",
       Steps{&r.steps, {Step::auth, Step::mail, Step::rcpt, Step::data}}, false, R"("mail")",
       R"(`"mail"`, but `"rcpt"` if recipients are named)"},
      {"clients", "The networks that the client must be in.",
       Names{&r.clients, check_network, R"(networks, as "192.0.2.0/24" and "2001:db8::/32", each once)"}},
      {"clients_file", "A file of such networks, one in a line.", Path{&r.clients_file}},
      {"helo", "The names that the client must have said in HELO or EHLO.",
       Names{&r.helo, check_domain_pattern, domains}},
      {"authenticated", "Whether the client must have said who it is, by AUTH, or must not.",
       OptionalFlag{&r.authenticated}, false, "true", "either"},
      {"sender_domains", "The domains that the sender's address must be in.",
       Names{&r.sender_domains, check_sender_pattern, senders}},
      {"sender_domains_file", "A file of such domains, one in a line.", Path{&r.sender_domains_file}},
      {"recipient_domains", "The domains that the recipient's address must be in.",
       Names{&r.recipient_domains, check_domain_pattern, domains}},
      {"recipient_domains_file", "A file of such domains, one in a line.", Path{&r.recipient_domains_file}},
      {"tls", "Whether the session must be encrypted.", choice(r.tls, encryption_words), false,
       R"("required")", R"(`"optional"`)"},
      {"client_certificate", "Whether the client must have shown a certificate.",
       choice(r.client_certificate, rule_certificate_words)},
      {"fingerprints", "The certificates of which it must have shown one, by SHA-256.",
       Names{&r.fingerprints, check_fingerprint, "64 hexadecimal digits, each once"}},
      {"fingerprints_file", "A file of such fingerprints, one in a line.", Path{&r.fingerprints_file}},
      {"otherwise", "What happens to a client that does not have what is required.",
       choice(r.otherwise, otherwise_words)},
      {"reply", "What it is told.",
       Text{&r.reply, check_rule_reply, R"(a reply code and a text, or "" for what fits)"}},
  };
}

std::vector<Key> keys(Service& s) {
  using policy::Step;
  return {
      {"name", "What the service is called in metrics, messages and listeners.", name(s.name), true,
       R"("auth")"},
      {"protocol", "How it is spoken to.", choice(s.protocol, protocol_words)},
      {"address", "Where it is.", Url{&s.address}, true, R"("http://127.0.0.1:9000/auth")"},
      {"steps", "When it is asked.",
       Steps{&s.steps, {Step::connect, Step::auth, Step::mail, Step::rcpt, Step::data}}, true, R"("rcpt")"},
      {"skip_authenticated", "Whether it is not asked about clients that have authenticated.",
       Flag{&s.skip_authenticated}},
      {"headers", "Further fields of the request.",
       Names{&s.headers, check_http_header, R"(each as "Name: value", in printable ASCII, each once)"}},
      {"extra_headers", "Whether it is told what nginx does not tell.", Flag{&s.extra_headers}},
      {"pass_certificate", "Whether it is told the client's certificate.", Flag{&s.pass_certificate}},
      {"close_after_refusal", "Whether a refusal without an Auth-Wait ends the session.",
       Flag{&s.close_after_refusal}},
      {"on_failure", "What happens if there is no valid answer.", choice(s.on_failure, on_failure_words)},
      {"timeout", "How long an answer may take.", timeout(s.timeout)},
      {"connect_timeout", "How long a connect may take, with its TLS handshake.", timeout(s.connect_timeout)},
      {"max_connections", "How many connections one reactor has at most; further questions wait.",
       Count{&s.max_connections, 1, 10'000}},
      {"max_idle", "How many idle connections one reactor keeps for the next questions.",
       Count{&s.max_idle, 0, 10'000}},
      {"idle_timeout", "How long an idle connection is kept.", timeout(s.idle_timeout)},
      {"cache", "What an answer depends on; if anything is named, answers are kept.",
       Names{&s.cache, check_cache_field, cache_fields}},
      {"cache_time", "How long an answer is kept.", Duration{&s.cache_time, 1s, 24h}},
      {"cache_size", "How many answers one reactor keeps.", Count{&s.cache_size, 1, 10'000'000}},
      {"verify", "What the certificate of a service with https is verified with.",
       choice(s.verify, verify_words)},
      {"ca_file", "The CAs that the service's certificate is verified with, in PEM.", Path{&s.ca_file}},
      {"tls_name", "The name that the service's certificate must have.",
       Text{&s.tls_name, check_optional_domain, "a domain of at most 253 characters, or \"\" for none"}},
  };
}

std::vector<Key> keys(Tls& t) {
  return {
      {"ktls", "Whether the kernel encrypts and decrypts, once hands are shaken.",
       choice(t.ktls, offload_words)},
      {"session_tickets", "Whether clients can resume sessions by tickets.", Flag{&t.session_tickets}},
      {"ticket_lifetime", "How long a ticket is good for.", Duration{&t.ticket_lifetime, 1min, 7 * 24h}},
      {"ticket_key_files", "The keys that tickets are sealed with; none named means that ringmx makes them.",
       Paths{&t.ticket_key_files}},
  };
}

std::vector<Key> keys(Metrics& m) {
  return {
      {"address", "Where GET /metrics, /healthz and /readyz are answered.", Address{&m.address, false}, true,
       R"("127.0.0.1:9925")"},
      {"max_connections", "How many scrapers and probes are served at once.",
       Count{&m.max_connections, 1, 10'000}},
  };
}

std::string Section::heading() const {
  return std::string(repeated ? "[[" : "[").append(name).append(repeated ? "]]" : "]");
}

Language::Language()
    : sections_{{"server", false, keys(server_)},    {"listener", true, keys(listener_)},
                {"upstream", true, keys(upstream_)}, {"certificate", true, keys(certificate_)},
                {"rule", true, keys(rule_)},         {"service", true, keys(service_)},
                {"tls", false, keys(tls_)},          {"metrics", false, keys(metrics_)}} {}

std::string type_text(const Field& field) {
  return std::visit(Overloaded{
                        [](const Count&) { return "integer"; },
                        [](const Size&) { return "size"; },
                        [](const Duration&) { return "duration"; },
                        [](const Flag&) { return "boolean"; },
                        [](const OptionalFlag&) { return "boolean"; },
                        [](const Steps&) { return "step or list of steps"; },
                        [](const Text&) { return "string"; },
                        [](const Address&) { return "address"; },
                        [](const Url&) { return "URL or address"; },
                        [](const Choice&) { return "choice"; },
                        [](const Extensions&) { return "list of EHLO keywords"; },
                        [](const Mechanisms&) { return "list of mechanisms"; },
                        [](const Names&) { return "list of names"; },
                        [](const Path&) { return "path"; },
                        [](const Paths&) { return "path or list of paths"; },
                    },
                    field);
}

std::string range_text(const Field& field) {
  return std::visit(
      Overloaded{
          [](const Count& f) { return std::to_string(f.min) + " to " + std::to_string(f.max); },
          [](const Size& f) { return size_text(f.min) + " to " + size_text(f.max); },
          [](const Duration& f) { return duration_text(f.min) + " to " + duration_text(f.max); },
          [](const Flag&) { return std::string("true or false"); },
          [](const OptionalFlag&) { return std::string("true or false"); },
          [](const Steps& f) { return quoted(step_names(f.known), "and"); },
          [](const Text& f) { return std::string(f.range); },
          [](const Address& f) {
            return std::string(f.unix_allowed ? R"("a.b.c.d:port", "[ipv6]:port" or "unix:/path")"
                                              : R"("a.b.c.d:port" or "[ipv6]:port")");
          },
          [](const Url&) {
            return std::string(
                R"("http://a.b.c.d:port/path", "https://[ipv6]:port/path", "http://unix:/socket:/path", )"
                R"("a.b.c.d:port", "[ipv6]:port" or "unix:/path")");
          },
          [](const Choice& f) { return quoted(f.words, "or"); },
          [](const Extensions&) {
            const auto all = extension_keywords(smtp::ExtensionSet::all());
            return enumerate({all.begin(), all.end()}, "and");
          },
          [](const Mechanisms&) { return quoted(mechanism_words(all_mechanisms()), "and"); },
          [](const Names& f) { return std::string(f.range); },
          [](const Path&) { return "a " + std::string(a_path) + "; \"\" for none"; },
          [](const Paths&) { return "each a " + std::string(a_path); },
      },
      field);
}

std::string value_text(const Field& field) {
  return std::visit(
      Overloaded{
          [](const Count& f) { return std::to_string(*f.to); },
          [](const Size& f) { return std::visit([](const auto* to) { return size_text(*to); }, f.to); },
          [](const Duration& f) { return duration_text(*f.to); },
          [](const Flag& f) { return std::string(*f.to ? "true" : "false"); },
          [](const OptionalFlag& f) { return std::string(f.to->value_or(false) ? "true" : "false"); },
          [](const Steps& f) { return list_text(step_names(*f.to)); },
          [](const Text& f) { return in_quotes(*f.to); },
          [](const Address& f) { return in_quotes(f.to->text()); },
          [](const Url& f) { return in_quotes(f.to->text()); },
          [](const Choice& f) { return in_quotes(f.words[f.get()]); },
          [](const Extensions& f) { return list_text(extension_keywords(*f.to)); },
          [](const Mechanisms& f) { return list_text(mechanism_words(*f.to)); },
          [](const Names& f) { return list_text(*f.to); },
          [](const Path& f) { return in_quotes(*f.to); },
          [](const Paths& f) { return list_text(*f.to); },
      },
      field);
}

std::string default_text(const Key& key) {
  if (key.required) return "none; required";
  return key.default_about.empty() ? value_text(key.field) : std::string(key.default_about);
}

std::string example_text(const Key& key) {
  return std::string(key.name) + " = " +
         (key.example.empty() ? value_text(key.field) : std::string(key.example));
}

std::vector<std::string_view> step_names(policy::Steps steps) {
  std::vector<std::string_view> out;
  for (std::size_t i = 0; i < policy::step_count; ++i) {
    const auto step = static_cast<policy::Step>(i);
    if (steps.has(step)) out.push_back(policy::name_of(step));
  }
  return out;
}

smtp::MechanismSet all_mechanisms() noexcept {
  smtp::MechanismSet set;
  for (std::size_t i = 0; i < smtp::mechanism_count; ++i) set.add(static_cast<smtp::Mechanism>(i));
  return set;
}

std::vector<std::string> mechanism_words(smtp::MechanismSet set) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < smtp::mechanism_count; ++i) {
    const auto mechanism = static_cast<smtp::Mechanism>(i);
    if (!set.has(mechanism)) continue;
    std::string& word = out.emplace_back(smtp::mechanism_name(mechanism));
    for (char& c : word) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
  }
  return out;
}

std::vector<std::string_view> extension_keywords(smtp::ExtensionSet set) {
  std::vector<std::string_view> out;
  for (unsigned bit = 1; bit <= smtp::ExtensionSet::all().bits(); bit <<= 1) {
    const auto extension = static_cast<smtp::Extension>(bit);
    if (set.has(extension)) out.push_back(smtp::extension_keyword(extension));
  }
  return out;
}

}  // namespace ringmx::config
