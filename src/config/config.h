// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/rules.h"
#include "ringmx/smtp/capabilities.h"
#include "ringmx/smtp/session.h"
#include "tls/settings.h"

namespace ringmx::config {

// Where a socket is: "127.0.0.1:25", "[::1]:25" or "unix:/run/mta.sock". Numeric only: ringmx
// resolves no names, so it can't be stalled by a resolver.
struct Endpoint {
  enum class Family : std::uint8_t { ipv4, ipv6, unix_socket };
  Family family = Family::ipv4;
  std::string host;  // numeric, without brackets; empty for unix_socket
  std::uint16_t port = 0;
  std::string path;                        // unix_socket only
  [[nodiscard]] std::string text() const;  // as a configuration writes it
  // What is sent there does not leave this host: a unix socket or a loopback address.
  [[nodiscard]] bool local() const;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// Where a service is: a URL of HTTP, "http://127.0.0.1:9000/auth", "https://[::1]/auth" or
// "http://unix:/run/auth.sock:/auth", as nginx writes it; or an Endpoint.
struct ServiceAddress {
  Endpoint endpoint;
  bool http = false;
  bool tls = false;
  std::string target;                      // of HTTP: path and query
  [[nodiscard]] std::string text() const;  // as a configuration writes it
  friend bool operator==(const ServiceAddress&, const ServiceAddress&) = default;
};

// What to do about bytes that RFC 5321 2.3.8 forbids in a message.
enum class FaultPolicy : std::uint8_t {
  normalize,  // bare LF -> CRLF (dot behind it stuffed); bare CR, NUL -> space
  reject,     // 550 5.6.11 after the end of data; the upstream never gets the message whole
};

struct Server {
  std::string hostname;                             // greeting, HELO and EHLO replies; default: gethostname()
  unsigned reactors = 0;                            // 0: one per core
  std::uint32_t max_sessions = 20000;               // per reactor
  std::uint64_t receive_memory = 64 * 1024 * 1024;  // bytes of receive buffers per reactor, used as needed
  std::uint64_t session_memory =
      1024 * 1024;  // bytes of them that one session may hold before its client must wait
  std::chrono::milliseconds drain_timeout{30000};  // SIGTERM: running transactions may take so long
  friend bool operator==(const Server&, const Server&) = default;
};

struct Listener {
  std::string name;
  Endpoint address;
  std::uint32_t backlog = 4096;
  std::vector<std::string> upstreams;                         // names; empty: all, in the order of the file
  std::vector<std::string> services;                          // names, in the order in which they are asked
  smtp::ExtensionSet extensions = smtp::ExtensionSet::all();  // may be offered if the upstreams do
  std::string banner = "ESMTP";                               // behind the host name in the 220 greeting
  FaultPolicy bare_newline = FaultPolicy::normalize;
  FaultPolicy nul = FaultPolicy::normalize;
  bool bare_lf_in_commands = false;       // a command may end in LF alone
  bool forbid_unauth_pipelining = false;  // input behind EHLO, DATA, ... before their reply: 554 5.5.0, close
  std::chrono::milliseconds greeting_delay{0};          // whoever talks earlier: 554 5.5.0, close
  std::uint64_t message_size_limit = 50 * 1024 * 1024;  // octets, 0: none
  std::uint32_t recipient_limit = 1000;
  std::uint32_t command_line_limit = 512;
  std::uint32_t error_limit = 20;
  std::uint32_t junk_command_limit = 100;
  std::chrono::milliseconds command_timeout{300000};  // RFC 5321 4.5.3.2.7; bytes do not extend it
  std::chrono::milliseconds data_timeout{180000};     // silence and slowness allowed in a message ...
  std::uint64_t min_data_rate = 1000;  // ... beyond octets received / this (octets per second; 0: off)
  std::chrono::milliseconds close_timeout{
      10000};  // after the last reply: to read it and to end the connection
  smtp::StartTls starttls = smtp::StartTls::off;
  bool implicit_tls = false;  // TLS before the greeting (port 465)
  // PEM files; a key for each certificate. Several are an RSA and an ECDSA one.
  std::vector<std::string> certificate;
  std::vector<std::string> private_key;
  tls::ClientCertificates client_certificates = tls::ClientCertificates::none;
  std::string client_ca_file;
  tls::Version minimum_tls_version = tls::Version::tls12;
  std::chrono::milliseconds handshake_timeout{30000};
  std::uint32_t handshake_rate = 0;  // a minute, for each client network and reactor; 0: any
  smtp::MechanismSet auth = {};      // empty: no AUTH
  bool auth_required = false;        // for MAIL
  std::uint32_t auth_failure_limit = 3;
  std::chrono::milliseconds auth_failure_delay{1000};
  [[nodiscard]] bool uses_tls() const { return implicit_tls || starttls != smtp::StartTls::off; }
  friend bool operator==(const Listener&, const Listener&) = default;
};

struct Upstream {
  std::string name;
  Endpoint address;
  bool reuse = true;             // false: a connection of its own for every session
  std::uint32_t max_idle = 100;  // idle connections kept per reactor
  std::chrono::milliseconds idle_timeout{60000};
  std::uint32_t error_limit = 5;          // so many 4xx and 5xx since its last message: not kept for reuse
  std::uint32_t reply_limit = 16 * 1024;  // bytes of one reply, all lines
  std::chrono::milliseconds retry_after{5000};  // after a failed connect the others are preferred for so long
  std::chrono::milliseconds connect_timeout{10000};
  std::chrono::milliseconds greeting_timeout{60000};  // greeting, EHLO
  std::chrono::milliseconds command_timeout{300000};  // MAIL, RCPT (RFC 5321 4.5.3.2.2, .3), RSET
  std::chrono::milliseconds data_timeout{120000};     // the reply to DATA (4.5.3.2.4)
  std::chrono::milliseconds send_timeout{180000};     // a block of the message (4.5.3.2.5)
  std::chrono::milliseconds message_timeout{600000};  // the reply after the end of data (4.5.3.2.6)
  smtp::StartTls starttls = smtp::StartTls::off;
  bool implicit_tls = false;
  // If nothing is said, none where STARTTLS is optional: see the manual.
  tls::ClientSettings::Verify verify = tls::ClientSettings::Verify::system_cas;
  std::string ca_file;
  std::string tls_name;  // to verify and to ask for; there whenever something is verified
  // How it is told who a client is that has authenticated: by Postfix's XCLIENT, or by AUTH PLAIN.
  enum class Authenticate : std::uint8_t { none, xclient, plain };
  Authenticate authenticate = Authenticate::none;
  bool authenticate_in_clear_text = false;  // AUTH PLAIN without TLS, to another host
  [[nodiscard]] bool uses_tls() const { return implicit_tls || starttls != smtp::StartTls::off; }
  friend bool operator==(const Upstream&, const Upstream&) = default;
};

// For all listeners with TLS: by SNI, or without names for those that have none of their own.
struct Certificate {
  std::vector<std::string> names;
  std::vector<std::string> certificate;  // as a listener's
  std::vector<std::string> private_key;
  friend bool operator==(const Certificate&, const Certificate&) = default;
};

// As it is written; load_policies() makes a policy::Rule of it.
struct Rule {
  std::string name;
  std::vector<std::string> listeners;  // names; empty: all
  policy::Steps steps;                 // once loaded never empty
  std::vector<std::string> clients;    // networks
  std::string clients_file;
  std::vector<std::string> helo;
  std::optional<bool> authenticated;
  std::vector<std::string> sender_domains;
  std::string sender_domains_file;
  std::vector<std::string> recipient_domains;
  std::string recipient_domains_file;
  policy::Encryption tls = policy::Encryption::optional;
  policy::ClientCertificate client_certificate = policy::ClientCertificate::optional;
  std::vector<std::string> fingerprints;
  std::string fingerprints_file;
  policy::Otherwise otherwise = policy::Otherwise::refuse;
  std::string reply;  // without CRLF
  [[nodiscard]] bool names_recipients() const {
    return !recipient_domains.empty() || !recipient_domains_file.empty();
  }
  [[nodiscard]] bool names_senders() const { return !sender_domains.empty() || !sender_domains_file.empty(); }
  [[nodiscard]] bool names_fingerprints() const {
    return !fingerprints.empty() || !fingerprints_file.empty();
  }
  [[nodiscard]] bool requires_certificate() const {
    return client_certificate != policy::ClientCertificate::optional || names_fingerprints();
  }
  [[nodiscard]] bool requires_tls() const {
    return tls != policy::Encryption::optional || requires_certificate();
  }
  friend bool operator==(const Rule&, const Rule&) = default;
};

// Somebody who is asked what a session may do.
struct Service {
  enum class Protocol : std::uint8_t { auth_http, policy };
  enum class OnFailure : std::uint8_t { tempfail, refuse, allow };
  std::string name;
  Protocol protocol = Protocol::auth_http;
  ServiceAddress address;
  policy::Steps steps;
  bool skip_authenticated = true;
  std::vector<std::string> headers;  // "X-Key: value"
  bool extra_headers = false;
  bool pass_certificate = false;
  bool close_after_refusal = false;
  OnFailure on_failure = OnFailure::tempfail;
  std::chrono::milliseconds timeout{30000};  // of a question, from asking to the answer
  std::chrono::milliseconds connect_timeout{5000};
  std::uint32_t max_connections = 32;  // per reactor, as the next one
  std::uint32_t max_idle = 8;
  std::chrono::milliseconds idle_timeout{60000};
  std::vector<std::string> cache;  // names of policy::CacheField; empty: nothing is kept
  std::chrono::milliseconds cache_time{60000};
  std::uint32_t cache_size = 10000;  // per reactor
  // Of https.
  tls::ClientSettings::Verify verify = tls::ClientSettings::Verify::system_cas;
  std::string ca_file;
  std::string tls_name;
  [[nodiscard]] bool uses_tls() const { return address.tls; }
  friend bool operator==(const Service&, const Service&) = default;
};

struct Tls {
  tls::Offload ktls = tls::Offload::automatic;
  bool session_tickets = true;
  std::chrono::milliseconds ticket_lifetime{std::chrono::hours{2}};
  std::vector<std::string> ticket_key_files;
  friend bool operator==(const Tls&, const Tls&) = default;
};

struct Metrics {
  bool enabled = false;  // true if [metrics] is there
  Endpoint address;
  std::uint32_t max_connections = 64;
  friend bool operator==(const Metrics&, const Metrics&) = default;
};

// Everything a running ringmx was told. Paths begin where the program runs: those of the file, which
// begin in the file's folder, have been resolved. Immutable once loaded.
struct Config {
  Server server;
  std::vector<Listener> listeners;  // at least one
  std::vector<Upstream> upstreams;  // at least one
  std::vector<Certificate> certificates;
  std::vector<Rule> rules;
  std::vector<Service> services;
  Tls tls;
  Metrics metrics;
  friend bool operator==(const Config&, const Config&) = default;
};

// One thing wrong with a configuration.
struct Problem {
  std::string file;
  std::uint32_t line = 0;  // 1-based; 0: the file as a whole
  std::uint32_t column = 0;
  std::string key;      // "listener.address"; empty: syntax, or the file as a whole
  std::string message;  // what is wrong
  std::string mend;     // what to write instead
  // "ringmx.toml:12:11: listener.address: "mx:25" is not ...; write "127.0.0.1:25", ..."
  [[nodiscard]] std::string text() const;
};

// Whether this ringmx has TLS.
extern const bool built_with_tls;

// Reads `file`. True: `out` is complete and consistent. False: `problems` says everything that is
// wrong, in the order of the file, not only the first thing.
[[nodiscard]] bool load(const std::string& file, Config& out, std::vector<Problem>& problems);
// The same from text; `file` is for the messages only.
[[nodiscard]] bool parse(std::string_view text, const std::string& file, Config& out,
                         std::vector<Problem>& problems, bool with_tls = built_with_tls);

// The rules of `config`, with the sets that stand in files of their own. False: `problems` says what is wrong
// in those.
[[nodiscard]] bool load_policies(const Config& config, policy::Policies& out, std::vector<Problem>& problems);

// What the room smtp is to be told.
[[nodiscard]] smtp::SessionRules session_rules(const Listener& listener);
// What the room tls is to be told; for a listener, an upstream or a service with uses_tls().
[[nodiscard]] tls::ServerSettings server_settings(const Config& config, const Listener& listener);
[[nodiscard]] tls::ClientSettings client_settings(const Config& config, const Upstream& upstream);
[[nodiscard]] tls::ClientSettings client_settings(const Config& config, const Service& service);

}  // namespace ringmx::config
