// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/translation.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "config/keys.h"
#include "config/notation.h"
#include "nginx/draft.h"
#include "nginx/values.h"
#include "ringmx/smtp/capabilities.h"

// A server {} of nginx becomes a [[listener]] for each address that it listens at. What it says is walked
// through in the order of `known_`, which is the order of the keys in the result; each directive adds a key
// to one of the tables that are being written, or a remark that says why not. What was said about a directive
// that several servers inherit is said once.

namespace ringmx::nginx {
namespace {

using Kind = Finding::Kind;
using Directives = std::vector<const Directive*>;

constexpr std::string_view see_nginx = "see what `nginx -t` says, and mend it there";
// An address of RFC 5737: nobody is there, so no mail can go astray.
constexpr std::string_view placeholder_address = "192.0.2.1:25";

constexpr std::string_view title(Kind kind) {
  switch (kind) {
    case Kind::to_do:
      return "TO DO";
    case Kind::not_carried:
      return "Not carried over";
    case Kind::differs:
      return "Differs";
  }
  return {};
}

// As it may be shown: on one line, not too long, and no certificate or key.
std::string written(const Directive& directive) {
  std::string out = directive.name;
  for (const std::string& argument : directive.arguments) {
    out += ' ';
    if (argument.starts_with("data:"))
      out += "data:...";
    else if (argument.empty() || argument.find_first_of(" \t\r\n;{}\"'#\\") != argument.npos)
      out += config::in_quotes(argument);
    else
      out += argument;
  }
  out = printable(out.substr(0, 200));
  return out + (directive.is_block ? " {...}" : ";");
}

std::string key(std::string_view name, std::string_view value) {
  return std::string(name).append(" = ").append(value);
}

class Translator {
 public:
  Translator(const std::string& file, const Mail& mail)
      : file_(file), folder_(folder_of(file)), mail_(mail) {}
  Translation run();

  // One directive that nginx's mail modules have. Without a translation the reason stands for it.
  struct Known {
    std::string_view name;
    std::size_t least, most;  // arguments
    bool repeated;
    void (Translator::*translate)(const Directives&);
    Kind kind = Kind::not_carried;
    std::string_view reason = {};
  };
  static const std::vector<Known>& known();
  static const Known* find_known(std::string_view name);

 private:
  struct Listen {
    const Directive* directive;
    ListenAddress address;
    std::string backlog;
    bool ssl = false;
    bool proxy_protocol = false;
    bool both_families = false;
    std::vector<std::pair<Kind, std::string>> remarks;
  };

  void translate_server(const MailServer& server);
  void leave_out(const Directive& directive, std::string_view text, Kind kind = Kind::not_carried);
  bool read_listen(const Directive& directive, Listen& out);
  void add_listener(const Listen& listen, unsigned port, bool ipv4_too);
  void read_methods();
  void make_service();
  void tell_upstreams(std::string_view how, const Directive& by);
  void add_upstreams();
  void add_rules(std::string& to) const;
  [[nodiscard]] std::string header() const;

  // Of the present server.
  [[nodiscard]] const Directives& all(std::string_view name) const;
  [[nodiscard]] const Directive* one(std::string_view name) const;
  [[nodiscard]] bool inherited(const Directive& directive) const;
  // Of the clients with TLS.
  [[nodiscard]] bool asks_certificates() const {
    const std::string_view mode = value_of("ssl_verify_client");
    return uses_tls_ && !mode.empty() && mode != "off";
  }
  // The first argument; "" if there is no such directive.
  [[nodiscard]] std::string_view value_of(std::string_view name) const;

  // Something about directives, at the place `to`, with the keys that come of them.
  void say(Table& to, const Directives& of, std::vector<std::string> lines) {
    say(to, of, std::move(lines), Kind::differs, "");
  }
  void say(Table& to, const Directives& of, std::vector<std::string> lines, Kind kind, std::string_view text);
  // The same, where there is no directive.
  void say(Table& to, const Place& place, std::string_view subject, std::vector<std::string> lines, Kind kind,
           std::string_view text);
  // On standard error, too.
  void tell(Kind kind, const Place& at, std::string_view subject, std::string_view text);
  // For the process as a whole: the first server that says something decides.
  void say_once(Table& to, const Directives& of, std::string_view name, const std::string& value,
                std::string_view text = "");
  // nginx would not start with this.
  void refuse(const Directive& directive, std::string message) {
    if (!problem_) problem_ = Problem{directive.place, std::move(message), std::string(see_nginx)};
  }
  [[nodiscard]] std::string place(const Place& place) const;

  // The value as ringmx writes it, moved into the range of the key, and why.
  struct Fitted {
    std::string text, remark;
  };
  [[nodiscard]] Fitted fit(const Directive& directive, std::string_view section, std::string_view name);

  void nothing_to_say(const Directives&) {}  // what it says is done where it belongs
  void protocol(const Directives& of) { say(common_, of, {}); }
  void server_name(const Directives&);
  void smtp_auth(const Directives&);
  void smtp_capabilities(const Directives&);
  void smtp_client_buffer(const Directives&);
  void smtp_greeting_delay(const Directives&);
  void max_errors(const Directives&);
  void timeout(const Directives&);
  void resolver(const Directives&);
  void starttls(const Directives&);
  void ssl(const Directives&);
  void ssl_certificate(const Directives&);
  void ssl_password_file(const Directives&);
  void ssl_protocols(const Directives&);
  void ssl_session_tickets(const Directives&);
  void ssl_session_ticket_key(const Directives&);
  void ssl_session_timeout(const Directives&);
  void ssl_verify_client(const Directives&);
  void ssl_client_certificate(const Directives&);
  void ssl_trusted_certificate(const Directives&);
  void xclient(const Directives&);
  void proxy_pass_error_message(const Directives&);
  void proxy_protocol(const Directives&);
  void proxy_smtp_auth(const Directives&);

  // Says why a directive that is switched on is not carried over.
  void unless_off(const Directives& of, Table& to, Kind kind, std::string_view text);

  const std::string& file_;
  const std::string folder_;
  const Mail& mail_;
  config::Language language_;
  std::optional<Problem> problem_;
  std::vector<Finding> findings_;
  std::set<std::pair<const void*, std::string>> said_;
  std::set<const Directive*> used_;
  std::map<std::string, std::string, std::less<>> once_;

  // Of the present server.
  const MailServer* server_ = nullptr;
  Table common_;                   // keys of each of its listeners
  Table tls_keys_;                 // of those with TLS
  Table starttls_keys_;            // of those with STARTTLS
  bool uses_tls_ = false;          // one of them
  bool takes_anybody_ = false;     // who has not logged in may send
  std::vector<std::string> auth_;  // the methods of AUTH
  std::string service_;            // its name

  Table process_{"[server]", {}, {}, false};
  std::vector<Table> listeners_;
  std::vector<Table> services_;
  std::vector<std::string> service_keys_;  // what tells them apart
  std::vector<Table> upstreams_;
  Table upstream_remarks_;    // about how upstreams are spoken to
  std::string authenticate_;  // how they are told who has logged in
  Table tls_{"[tls]", {}, {}, false};
  std::vector<std::string> left_out_;  // remarks about servers
  std::set<std::string> names_, addresses_;
  std::vector<std::string> starttls_listeners_;
  std::size_t listeners_in_effect_ = 0;
};

constexpr std::string_view no_tls = "there is no TLS here.";
constexpr std::size_t any = 1000;
constexpr std::string_view pop3_only = "it is for POP3, which stays with nginx.";
constexpr std::string_view imap_only = "it is for IMAP, which stays with nginx.";

const std::vector<Translator::Known>& Translator::known() {
  using T = Translator;
  static const std::vector<Known> known = {
      // The core.
      {"listen", 1, any, true, &T::nothing_to_say},
      {"protocol", 1, 1, false, &T::protocol},
      {"server_name", 1, 1, false, &T::server_name},
      {"auth_http", 1, 1, false, &T::nothing_to_say},
      {"auth_http_header", 2, 2, true, &T::nothing_to_say},
      {"auth_http_timeout", 1, 1, false, &T::nothing_to_say},
      {"auth_http_pass_client_cert", 1, 1, false, &T::nothing_to_say},
      {"smtp_auth", 1, any, true, &T::smtp_auth},
      {"smtp_capabilities", 1, any, true, &T::smtp_capabilities},
      {"smtp_client_buffer", 1, 1, false, &T::smtp_client_buffer},
      {"smtp_greeting_delay", 1, 1, false, &T::smtp_greeting_delay},
      {"max_errors", 1, 1, false, &T::max_errors},
      {"timeout", 1, 1, false, &T::timeout},
      {"resolver", 1, any, false, &T::resolver},
      {"resolver_timeout", 1, 1, false, nullptr, Kind::not_carried,
       "ringmx resolves no names. There is nothing to do."},
      {"error_log", 1, any, true, nullptr, Kind::not_carried,
       "ringmx writes to standard error, one line for an event; under systemd that is the journal "
       "(journalctl -u ringmx). Its metrics count the rest: write [metrics]."},
      // TLS.
      {"starttls", 1, 1, false, &T::starttls},
      {"ssl", 1, 1, false, &T::ssl},
      {"ssl_certificate", 1, 1, true, &T::ssl_certificate},
      {"ssl_certificate_key", 1, 1, true, &T::nothing_to_say},
      {"ssl_password_file", 1, 1, false, &T::ssl_password_file},
      {"ssl_protocols", 1, any, true, &T::ssl_protocols},
      {"ssl_verify_client", 1, 1, false, &T::ssl_verify_client},
      {"ssl_client_certificate", 1, 1, false, &T::ssl_client_certificate},
      {"ssl_trusted_certificate", 1, 1, false, &T::ssl_trusted_certificate},
      {"ssl_verify_depth", 1, 1, false, nullptr, Kind::not_carried,
       "the length of clients' chains is not configurable. To let only some certificates in, name them in a "
       "[[rule]] by fingerprints."},
      {"ssl_crl", 1, 1, false, nullptr, Kind::to_do,
       "ringmx reads no lists of revoked certificates. Let the script look at Auth-SSL-Serial, or name the "
       "certificates that may come in a [[rule]] by fingerprints."},
      {"ssl_session_tickets", 1, 1, false, &T::ssl_session_tickets},
      {"ssl_session_ticket_key", 1, 1, true, &T::ssl_session_ticket_key},
      {"ssl_session_timeout", 1, 1, false, &T::ssl_session_timeout},
      {"ssl_session_cache", 1, any, false, nullptr, Kind::not_carried,
       "ringmx keeps no sessions: clients keep them, in tickets, which are good on all cores. There is "
       "nothing "
       "to do."},
      {"ssl_ciphers", 1, 1, false, nullptr, Kind::not_carried,
       "ringmx has only ciphers with forward secrecy and AEAD (AES-GCM, ChaCha20-Poly1305), and no choice. "
       "There is nothing to do."},
      {"ssl_prefer_server_ciphers", 1, 1, false, nullptr, Kind::not_carried,
       "all ciphers of ringmx are good ones, so the order matters little. There is nothing to do."},
      {"ssl_ecdh_curve", 1, 1, false, nullptr, Kind::not_carried,
       "ringmx's groups are fixed, X25519MLKEM768, X25519 and P-256 among them. There is nothing to do."},
      {"ssl_dhparam", 1, 1, false, nullptr, Kind::not_carried,
       "ringmx has no finite-field Diffie-Hellman, only elliptic curves and ML-KEM. There is nothing to do."},
      {"ssl_conf_command", 2, 2, true, nullptr, Kind::not_carried,
       "it is a command for OpenSSL, and ringmx uses wolfSSL. If it narrows versions down, write "
       "minimum_tls_version."},
      {"ssl_certificate_compression", 1, 1, false, nullptr, Kind::not_carried,
       "certificates are not compressed. There is nothing to do."},
      // Towards the mail server.
      {"proxy", 1, 1, false, nullptr, Kind::not_carried,
       "it does nothing in nginx either: whoever logs in is passed on. There is nothing to do."},
      {"xclient", 1, 1, false, &T::xclient},
      {"proxy_protocol", 1, 1, false, &T::proxy_protocol},
      {"proxy_smtp_auth", 1, 1, false, &T::proxy_smtp_auth},
      {"proxy_pass_error_message", 1, 1, false, &T::proxy_pass_error_message},
      {"proxy_timeout", 1, 1, false, nullptr, Kind::not_carried,
       "nginx has one time for all silence; ringmx has one for each step, as RFC 5321 section 4.5.3.2 wants: "
       "command_timeout, data_timeout and min_data_rate of the listener, greeting_timeout to message_timeout "
       "of the upstream. The defaults are good ones."},
      {"proxy_buffer", 1, 1, false, nullptr, Kind::not_carried,
       "ringmx sends from the buffers that it receives into; [server] receive_memory and session_memory say "
       "how much there may be. There is nothing to do."},
      {"set_real_ip_from", 1, 1, true, nullptr, Kind::not_carried,
       "it is of use with PROXY protocol only, which ringmx does not take yet: see listen."},
      // For the other protocols.
      {"pop3_auth", 1, any, true, nullptr, Kind::not_carried, pop3_only},
      {"pop3_capabilities", 1, any, true, nullptr, Kind::not_carried, pop3_only},
      {"imap_auth", 1, any, true, nullptr, Kind::not_carried, imap_only},
      {"imap_capabilities", 1, any, true, nullptr, Kind::not_carried, imap_only},
      {"imap_client_buffer", 1, 1, false, nullptr, Kind::not_carried, imap_only},
  };
  return known;
}

const Translator::Known* Translator::find_known(std::string_view name) {
  const auto found =
      std::find_if(known().begin(), known().end(), [&](const Known& k) { return k.name == name; });
  return found == known().end() ? nullptr : &*found;
}

// ---------------------------------------------------------------------------------------- what is said

std::string Translator::place(const Place& place) const {
  std::string text = place.text();
  if (text.starts_with(folder_)) text.erase(0, folder_.size());
  return printable(text);
}

void Translator::tell(Kind kind, const Place& at, std::string_view subject, std::string_view text) {
  const bool known = std::any_of(findings_.begin(), findings_.end(), [&](const Finding& f) {
    return f.place.line == at.line && f.place.file == at.file && f.subject == subject && f.text == text;
  });
  if (!known) findings_.push_back({kind, at, std::string(subject), std::string(text)});
}

void Translator::say(Table& to, const Directives& of, std::vector<std::string> lines, Kind kind,
                     std::string_view text) {
  Entry entry;
  for (const Directive* directive : of) {
    used_.insert(directive);
    entry.remarks.push_back(place(directive->place) + ": " + written(*directive));
  }
  const bool first = said_.emplace(of.front(), text).second;
  if (first && !text.empty()) {
    append_wrapped(entry.remarks, std::string(title(kind)).append(": ").append(text), "  ");
    tell(kind, of.front()->place, of.front()->name, text);
  }
  entry.lines = std::move(lines);
  if (first || !entry.lines.empty()) to.entries.push_back(std::move(entry));
}

void Translator::say(Table& to, const Place& at, std::string_view subject, std::vector<std::string> lines,
                     Kind kind, std::string_view text) {
  Entry entry;
  entry.lines = std::move(lines);
  append_wrapped(entry.remarks, std::string(title(kind)).append(": ").append(text));
  tell(kind, at, subject, text);
  to.entries.push_back(std::move(entry));
}

void Translator::say_once(Table& to, const Directives& of, std::string_view name, const std::string& value,
                          std::string_view text) {
  const auto [there, first] = once_.emplace(name, value);
  if (first) return say(to, of, {key(name, value)}, Kind::differs, text);
  if (there->second == value) return;
  say(common_, of, {}, Kind::not_carried,
      "ringmx has one " + std::string(name) + " for all listeners, and it is " + there->second +
          " already. Where this one matters, run a second ringmx with a configuration of its own.");
}

void Translator::unless_off(const Directives& of, Table& to, Kind kind, std::string_view text) {
  const auto on = parse_flag(of.front()->arguments[0]);
  if (!on) return refuse(*of.front(), R"(it takes "on" or "off")");
  say(to, of, {}, kind, *on ? text : "");
}

// ---------------------------------------------------------------------------------------- the server

const Directives& Translator::all(std::string_view name) const {
  static const Directives none;
  const auto found = server_->settings.find(name);
  return found == server_->settings.end() ? none : found->second;
}

const Directive* Translator::one(std::string_view name) const {
  const Directives& found = all(name);
  return found.empty() ? nullptr : found.front();
}

bool Translator::inherited(const Directive& directive) const {
  const std::vector<Directive>& around = mail_.block->children;
  return std::any_of(around.begin(), around.end(), [&](const Directive& d) { return &d == &directive; });
}

std::string_view Translator::value_of(std::string_view name) const {
  const Directive* directive = one(name);
  return directive == nullptr || directive->arguments.empty() ? std::string_view()
                                                              : directive->arguments.front();
}

Translator::Fitted Translator::fit(const Directive& directive, std::string_view section,
                                   std::string_view name) {
  for (const config::Section& s : language_.sections()) {
    if (s.name != section) continue;
    for (const config::Key& k : s.keys) {
      if (k.name != name) continue;
      const std::string& text = directive.arguments[0];
      const auto into = [&](std::uint64_t value, std::uint64_t min, std::uint64_t max, auto write) {
        const std::uint64_t fitted = std::clamp(value, min, max);
        return Fitted{write(fitted), fitted == value
                                         ? ""
                                         : std::string(name) + " can be " + config::range_text(k.field) +
                                               ". If the nearest is not what you want, change it."};
      };
      if (const auto* duration = std::get_if<config::Duration>(&k.field)) {
        const auto time = parse_time(text);
        if (!time) break;
        return into(*time, static_cast<std::uint64_t>(duration->min.count()),
                    static_cast<std::uint64_t>(duration->max.count()), [](std::uint64_t ms) {
                      using Milliseconds = std::remove_cvref_t<decltype(*config::Duration::to)>;
                      return toml(config::format_duration(Milliseconds(ms)));
                    });
      }
      if (const auto* size = std::get_if<config::Size>(&k.field)) {
        const auto octets = parse_size(text);
        if (!octets) break;
        return into(*octets, size->min, size->max, [](std::uint64_t n) { return std::to_string(n); });
      }
      if (const auto* count = std::get_if<config::Count>(&k.field)) {
        const auto number = parse_number(text);
        if (!number) break;
        return into(*number, count->min, count->max, [](std::uint64_t n) { return std::to_string(n); });
      }
    }
  }
  refuse(directive, config::in_quotes(directive.arguments[0]) + " is no value for " + directive.name);
  return {"\"\"", ""};
}

bool Translator::read_listen(const Directive& directive, Listen& out) {
  out.directive = &directive;
  const auto address = parse_listen(directive.arguments[0]);
  if (!address) {
    refuse(directive, config::in_quotes(directive.arguments[0]) + " is not an address with a port");
    return false;
  }
  out.address = *address;
  for (std::size_t i = 1; i < directive.arguments.size(); ++i) {
    const std::string& parameter = directive.arguments[i];
    const std::string_view name = std::string_view(parameter).substr(0, parameter.find('='));
    const std::string_view value =
        std::string_view(parameter).substr(std::min(parameter.size(), name.size() + 1));
    if (parameter == "ssl") {
      out.ssl = true;
    } else if (parameter == "proxy_protocol") {
      out.proxy_protocol = true;
    } else if (parameter == "bind") {
      // Each listener has a socket of its own.
    } else if (name == "backlog" && (parse_number(value) || value.starts_with('-'))) {
      const std::uint64_t backlog = parse_number(value).value_or(65535);
      out.backlog = std::to_string(std::clamp<std::uint64_t>(backlog, 1, 65535));
    } else if (parameter == "ipv6only=on" || parameter == "ipv6only=off") {
      out.both_families = value == "off" && address->host == "[::]";
    } else if (name == "rcvbuf" || name == "sndbuf") {
      out.remarks.emplace_back(Kind::not_carried, std::string(name) +
                                                      ": the kernel chooses the sizes of socket buffers "
                                                      "(sysctl net.ipv4.tcp_rmem, tcp_wmem).");
    } else if (name == "so_keepalive") {
      out.remarks.emplace_back(
          Kind::not_carried,
          "so_keepalive: the deadlines of the listener end dead sessions. There is nothing "
          "to do.");
    } else if (parameter == "multipath") {
      out.remarks.emplace_back(Kind::not_carried, "multipath: ringmx listens by TCP alone.");
    } else {
      refuse(directive, config::in_quotes(parameter) + " is no parameter of listen");
      return false;
    }
  }
  return true;
}

void Translator::leave_out(const Directive& directive, std::string_view text, Kind kind) {
  left_out_.push_back(place(directive.place) + ": " + written(directive));
  append_wrapped(left_out_, std::string(title(kind)).append(": ").append(text), "  ");
  tell(kind, directive.place, directive.name, text);
}

void Translator::translate_server(const MailServer& server) {
  server_ = &server;
  common_ = tls_keys_ = starttls_keys_ = {};
  takes_anybody_ = false;
  auth_.clear();
  service_.clear();
  if (server.protocol != Protocol::smtp) {
    const std::string name = server.protocol == Protocol::imap ? "IMAP" : "POP3";
    return leave_out(*server.block,
                     "this server speaks " + name + ", and ringmx is for SMTP. Keep it in nginx.");
  }

  for (const auto& [name, directives] : server.settings) {
    const Known* found = find_known(name);
    if (found == nullptr) continue;
    for (const Directive* directive : directives) {
      const std::size_t count = directive->arguments.size();
      if (count < found->least || count > found->most || directive->is_block)
        return refuse(*directive, name + " does not take these arguments");
    }
    if (directives.size() > 1 && !found->repeated) return refuse(*directives[1], name + " is there already");
  }
  std::vector<Listen> listens;
  for (const Directive* directive : all("listen")) {
    if (!read_listen(*directive, listens.emplace_back())) return;
  }
  if (listens.empty()) return refuse(*server.block, "the server listens nowhere");
  const std::string_view starttls_mode = value_of("starttls");
  uses_tls_ = value_of("ssl") == "on" || starttls_mode == "on" || starttls_mode == "only" ||
              std::any_of(listens.begin(), listens.end(), [](const Listen& l) { return l.ssl; });

  if (uses_tls_ && all("ssl_certificate").empty())
    return refuse(*server.block, "there is TLS, and no ssl_certificate for it");
  read_methods();
  make_service();
  if (all("smtp_capabilities").empty()) {
    common_.entries.push_back(
        {{"nginx offered no extensions without smtp_capabilities. ringmx offers what it does itself, and",
          "what all mail servers do. To offer none, remove the #. The mail server's limit on size holds."},
         {"#extensions = []", key("message_size_limit", "0")}});
  }
  for (const Known& known_one : known()) {
    const Directives& directives = all(known_one.name);
    if (directives.empty()) continue;
    const bool of_tls = known_one.name.starts_with("ssl_");
    if (of_tls && !uses_tls_) {
      // What other servers inherit as well is theirs.
      if (!inherited(*directives.front())) say(common_, directives, {}, Kind::not_carried, no_tls);
    } else if (known_one.translate != nullptr) {
      (this->*known_one.translate)(directives);
    } else {
      say(of_tls ? tls_keys_ : common_, directives, {}, known_one.kind, known_one.reason);
    }
  }
  if (all("xclient").empty()) xclient({});
  for (const auto& [name, directives] : server.settings) {
    if (find_known(name) == nullptr)
      say(common_, directives, {}, Kind::not_carried,
          "it is no directive of nginx's mail modules. If another module brought it, see what that does.");
  }
  for (const Listen& listen : listens) {
    if (listen.address.kind == ListenAddress::Kind::unix_socket) {
      leave_out(*listen.directive,
                "ringmx takes mail by TCP alone. Listen at 127.0.0.1 and a port of your choice.",
                Kind::to_do);
      continue;
    }
    if (listen.address.last - listen.address.first >= 100)
      return refuse(*listen.directive, "these are more than a hundred ports");
    for (unsigned port = listen.address.first; port <= listen.address.last; ++port) {
      add_listener(listen, port, false);
      if (listen.both_families) add_listener(listen, port, true);
    }
  }
}

void Translator::add_listener(const Listen& listen, unsigned port, bool ipv4_too) {
  const ListenAddress& address = listen.address;
  const bool named = address.kind == ListenAddress::Kind::name;
  const bool localhost = address.host == "localhost";
  const std::string host = ipv4_too ? "0.0.0.0" : named ? "127.0.0.1" : address.host;
  const std::string text = host + ":" + std::to_string(port);
  // nginx would have one socket for both families; another listen may have the IPv4 one already.
  if (ipv4_too && addresses_.contains(text)) return;
  addresses_.insert(text);

  std::string name = port == 25 ? "smtp" : port == 465 ? "submissions" : port == 587 ? "submission" : "";
  if (name.empty()) name = "smtp-" + std::to_string(port);
  if (host.starts_with('[')) name += "-ipv6";
  for (std::size_t i = 2; names_.contains(name); ++i) {
    if (i > 2) name.erase(name.rfind('-'));
    name += "-" + std::to_string(i);
  }
  names_.insert(name);

  Table table{"[[listener]]", {}, {}, false};
  const auto off = [&](std::string_view subject, const Place& at, std::string_view why) {
    table.off = true;
    append_wrapped(table.remarks, std::string("TO DO: ").append(why), "  ");
    tell(Kind::to_do, at, subject, why);
  };
  table.remarks.push_back(place(listen.directive->place) + ": " + written(*listen.directive));
  if (listen.proxy_protocol) {
    off("listen", listen.directive->place,
        "ringmx takes no PROXY header yet. Until it does this listener can't stand behind your balancer: "
        "either "
        "let that send none (then all clients have its address), and remove the # below, or stay with nginx "
        "here.");
  }
  if (!takes_anybody_ && auth_.empty()) {
    const Directive* auth = one("smtp_auth");
    off("smtp_auth", auth != nullptr ? auth->place : server_->block->place,
        "here nginx takes mail only from clients that have logged in, by certificate, and asks for none. "
        "Write "
        "client_certificates, client_ca_file, auth = [\"external\"] and auth_required = true, and remove the "
        "# "
        "below.");
  }
  table.entries.push_back({{}, {key("name", toml(name))}});
  Entry where{{}, {key("address", toml(text))}};
  if (named) {
    const std::string why = localhost ? "localhost is 127.0.0.1 here. For [::1] write another [[listener]]."
                                      : "PLACEHOLDER: ringmx resolves no names. Write the address of " +
                                            config::in_quotes(address.host) + ", or \"0.0.0.0\" for all.";
    const Kind kind = localhost ? Kind::differs : Kind::to_do;
    append_wrapped(where.remarks, std::string(title(kind)) + ": " + why, "  ");
    tell(kind, listen.directive->place, "listen", why);
  }
  if (ipv4_too)
    where.remarks.push_back(
        "  ipv6only=off: a socket of ringmx has one family, so this is a listener for IPv4.");
  table.entries.push_back(std::move(where));
  for (const auto& [kind, why] : listen.remarks) {
    if (ipv4_too || port != address.first) continue;
    Entry entry;
    append_wrapped(entry.remarks, std::string(title(kind)) + ": " + why, "  ");
    tell(kind, listen.directive->place, "listen", why);
    table.entries.push_back(std::move(entry));
  }
  if (!listen.backlog.empty()) table.entries.push_back({{}, {key("backlog", listen.backlog)}});
  table.entries.push_back({{}, {key("services", toml(std::vector{service_}))}});
  if (!auth_.empty()) table.entries.push_back({{}, {key("auth", toml(auth_))}});
  if (!auth_.empty() && !takes_anybody_) table.entries.push_back({{}, {key("auth_required", "true")}});

  const auto append = [&](const Table& from) {
    for (const Entry& entry : from.entries) {
      if (!entry.remarks.empty() || !entry.lines.empty()) table.entries.push_back(entry);
    }
  };
  append(common_);

  const bool implicit = listen.ssl || value_of("ssl") == "on";
  const std::string_view mode = value_of("starttls");
  const bool starts = mode == "on" || mode == "only";
  if (implicit)
    table.entries.push_back({{}, {key("implicit_tls", "true")}});
  else
    append(starttls_keys_);
  if (implicit || starts) append(tls_keys_);
  if (!implicit && starts && !table.off) starttls_listeners_.push_back(name);
  if (!table.off) ++listeners_in_effect_;
  listeners_.push_back(std::move(table));
  // Once is enough.
  for (Table* said : {&common_, &tls_keys_, &starttls_keys_}) {
    for (Entry& entry : said->entries) entry.remarks.clear();
  }
}

// ---------------------------------------------------------------------------------------- the script

void Translator::make_service() {
  const Directive* auth = one("auth_http");
  if (auth == nullptr) return refuse(*server_->block, "there is no auth_http");
  const auto http = parse_http(auth->arguments[0]);
  if (!http) {
    return refuse(*auth,
                  config::in_quotes(auth->arguments[0]) + " is not an address that auth_http can have");
  }
  Table table{"[[service]]", {}, {}, false};
  std::string address = http->address;
  if (!http->numeric) {
    const std::size_t colon = address.rfind(':');
    address = "127.0.0.1" + address.substr(colon);
  }
  const std::string url = address.starts_with("unix:") ? "http://" + address + ":" + http->target
                                                       : "http://" + address + http->target;
  const std::string_view chosen =
      "Auth-Server and Auth-Port must name an address that an [[upstream]] has: any other is answered 451.";
  const std::string_view once =
      "nginx asks once in a session, at the first recipient, and passes on unseen what follows. ringmx asks "
      "at "
      "each recipient. Auth-Server and Auth-Port must name an address that an [[upstream]] has: any other is "
      "answered 451.";
  say(table, {auth}, {key("protocol", toml("auth_http"))}, Kind::differs, takes_anybody_ ? once : chosen);
  const std::string where = key("address", toml(url));
  if (http->numeric) {
    table.entries.push_back({{}, {where}});
  } else if (http->host == "localhost") {
    say(table, {auth}, {where}, Kind::differs, "localhost is 127.0.0.1 here.");
  } else {
    say(table, {auth}, {where}, Kind::to_do,
        "PLACEHOLDER: ringmx resolves no names. Write the address of " + config::in_quotes(http->host) +
            " instead of 127.0.0.1. The request says Host: 127.0.0.1 then.");
  }
  const bool both = takes_anybody_ && !auth_.empty();
  table.entries.push_back({{},
                           {key("steps", both ? toml(std::vector<std::string>{"auth", "rcpt"})
                                              : toml(takes_anybody_ ? "rcpt" : "auth"))}});
  table.entries.push_back(
      {{"nginx closes after a refusal without Auth-Wait. To let the session go on, as other "
        "servers do,",
        "remove the next line."},
       {key("close_after_refusal", "true")}});
  if (const Directive* timeout = one("auth_http_timeout")) {
    const Fitted fitted = fit(*timeout, "service", "timeout");
    say(table, {timeout}, {key("timeout", fitted.text)}, Kind::differs, fitted.remark);
  }
  if (const Directives& headers = all("auth_http_header"); !headers.empty()) {
    std::vector<std::string> fields;
    std::string text;
    for (const Directive* header : headers) {
      const std::string field = header->arguments[0] + ": " + header->arguments[1];
      const bool repeated = std::find(fields.begin(), fields.end(), field) != fields.end();
      if (config::check_http_header(field))
        text =
            "a field of HTTP is \"Name: value\" in printable ASCII, and none that says what the request is. "
            "What is none is left out.";
      else if (!repeated)
        fields.push_back(field);
    }
    say(table, headers, {key("headers", toml(fields))}, Kind::to_do, text);
  }
  if (const Directive* pass = one("auth_http_pass_client_cert")) {
    const auto on = parse_flag(pass->arguments[0]);
    if (!on) return refuse(*pass, R"(it takes "on" or "off")");
    if (*on && asks_certificates())
      say(table, {pass}, {key("pass_certificate", "true")});
    else
      say(table, {pass}, {}, Kind::not_carried, *on ? "clients are not asked for certificates here." : "");
  }

  std::string identity;
  for (const Entry& entry : table.entries) {
    for (const std::string& line : entry.lines) identity += line + "\n";
  }
  const auto same = std::find(service_keys_.begin(), service_keys_.end(), identity);
  const auto index = same - service_keys_.begin();
  service_ = index == 0 ? "auth_http" : "auth_http-" + std::to_string(index + 1);
  if (same != service_keys_.end()) return;
  service_keys_.push_back(identity);
  table.entries.insert(table.entries.begin(), Entry{{}, {key("name", toml(service_))}});
  services_.push_back(std::move(table));
}

// ---------------------------------------------------------------------------------------- directives

void Translator::server_name(const Directives& of) {
  const std::string& name = of.front()->arguments[0];
  if (auto fault = config::check_domain(name))
    return say(common_, of, {}, Kind::to_do, fault->message + ". Write hostname in [server].");
  say_once(process_, of, "hostname", toml(name));
}

void Translator::read_methods() {
  for (const Directive* directive : all("smtp_auth")) {
    for (const std::string& method : directive->arguments) {
      if (method == "none")
        takes_anybody_ = true;
      else if (method != "plain" && method != "login" && method != "cram-md5" && method != "external")
        return refuse(*directive, config::in_quotes(method) + " is no method of smtp_auth");
      else if (std::find(auth_.begin(), auth_.end(), method) == auth_.end())
        auth_.push_back(method);
    }
  }
  if (all("smtp_auth").empty()) auth_ = {"plain", "login"};
  // A certificate says who the client is: ringmx wants to be told to ask for one.
  if (!asks_certificates()) std::erase(auth_, "external");
}

void Translator::smtp_auth(const Directives& of) {
  const bool external = std::any_of(of.begin(), of.end(), [](const Directive* directive) {
    return std::count(directive->arguments.begin(), directive->arguments.end(), "external") != 0;
  });
  say(common_, of, {}, Kind::not_carried,
      external && !asks_certificates()
          ? "external is by certificate, and ssl_verify_client asks for none. Write client_certificates and "
            "client_ca_file, and \"external\" in auth."
          : "");
}

void Translator::smtp_capabilities(const Directives& of) {
  std::vector<std::string> carried, lost;
  std::string size = "0";
  for (const Directive* directive : of) {
    for (const std::string& capability : directive->arguments) {
      const std::size_t space = capability.find(' ');
      const std::string keyword = capability.substr(0, space);
      smtp::Extension extension{};
      if (!smtp::parse_extension(keyword, extension) || !smtp::ExtensionSet::all().has(extension)) {
        lost.push_back(printable(keyword));
        continue;
      }
      const std::string name(smtp::extension_keyword(extension));
      if (std::find(carried.begin(), carried.end(), name) == carried.end()) carried.push_back(name);
      if (extension != smtp::Extension::size || space == capability.npos) continue;
      const auto octets = parse_number(std::string_view(capability).substr(space + 1));
      if (octets) size = std::to_string(std::min<std::uint64_t>(*octets, 1024ULL * 1024 * 1024 * 1024));
    }
  }
  std::string text;
  if (!lost.empty()) {
    text = config::enumerate(lost, "and") +
           (lost.size() == 1 ? " is nothing that ringmx offers." : " are nothing that ringmx offers.") +
           " There is nothing to do: clients do without.";
  }
  say(common_, of, {key("extensions", toml(carried))}, Kind::not_carried, text);
  Entry limit{{}, {key("message_size_limit", size)}};
  if (size == "0") limit.remarks = {"nginx had no limit of its own; the mail server's holds."};
  common_.entries.push_back(std::move(limit));
}

void Translator::smtp_client_buffer(const Directives& of) {
  const Fitted fitted = fit(*of.front(), "listener", "command_line_limit");
  say(common_, of, {key("command_line_limit", fitted.text)}, Kind::differs, fitted.remark);
}

void Translator::smtp_greeting_delay(const Directives& of) {
  const Fitted fitted = fit(*of.front(), "listener", "greeting_delay");
  say(common_, of, {key("greeting_delay", fitted.text)}, Kind::differs, fitted.remark);
}

void Translator::max_errors(const Directives& of) {
  const Fitted fitted = fit(*of.front(), "listener", "error_limit");
  say(common_, of, {key("error_limit", fitted.text)}, Kind::differs, fitted.remark);
}

void Translator::timeout(const Directives& of) {
  const Fitted fitted = fit(*of.front(), "listener", "command_timeout");
  say(common_, of, {key("command_timeout", fitted.text)}, Kind::differs, fitted.remark);
}

void Translator::resolver(const Directives& of) {
  if (of.front()->arguments[0] == "off") return say(common_, of, {});
  say(common_, of, {}, Kind::not_carried,
      "ringmx resolves no names. The script gets Client-Host: [UNAVAILABLE], as from nginx with resolver "
      "off; if "
      "it needs the name, let it look up Client-IP.");
}

void Translator::starttls(const Directives& of) {
  const std::string& mode = of.front()->arguments[0];
  if (mode == "off") return say(starttls_keys_, of, {});
  if (mode == "on") return say(starttls_keys_, of, {key("starttls", toml("optional"))});
  if (mode != "only") return refuse(*of.front(), R"(starttls takes "on", "off" or "only")");
  used_.insert(of.front());
  Entry entry{{place(of.front()->place) + ": " + written(*of.front())},
              {key("starttls", toml("required-for-auth"))}};
  if (said_.emplace(of.front(), "").second) {
    append_wrapped(entry.remarks,
                   "What nginx means by it: AUTH is refused before TLS, and mail is taken in clear text as "
                   "before. ringmx can demand TLS at MAIL, of everybody or of some: see [[rule]] below.",
                   "  ");
  }
  starttls_keys_.entries.push_back(std::move(entry));
}

void Translator::ssl(const Directives& of) {
  const auto on = parse_flag(of.front()->arguments[0]);
  if (!on) return refuse(*of.front(), R"(ssl takes "on" or "off")");
  say(common_, of, {});
}

void Translator::ssl_certificate(const Directives& of) {
  const Directives& keys = all("ssl_certificate_key");
  if (keys.size() < of.size()) return refuse(*of.back(), "there is no ssl_certificate_key for it");
  std::vector<std::string> certificates, private_keys;
  Directives both;
  bool in_files = true;
  const auto file = [&](const std::string& path) {
    if (!path.starts_with("data:") && !path.starts_with("engine:") && !path.starts_with("store:"))
      return resolved(folder_, path);
    in_files = false;
    return std::string("PLACEHOLDER.pem");
  };
  for (std::size_t i = 0; i < of.size(); ++i) {
    certificates.push_back(file(of[i]->arguments[0]));
    private_keys.push_back(file(keys[i]->arguments[0]));
    both.insert(both.end(), {of[i], keys[i]});
  }
  const auto list = [](const std::vector<std::string>& paths) {
    return paths.size() == 1 ? toml(paths[0]) : toml(paths);
  };
  say(tls_keys_, both, {key("certificate", list(certificates)), key("private_key", list(private_keys))},
      Kind::to_do,
      in_files ? ""
               : "ringmx reads certificates and keys from files in PEM alone. Write the file's name in place "
                 "of PLACEHOLDER.pem.");
}

void Translator::ssl_password_file(const Directives& of) {
  say(tls_keys_, of, {}, Kind::to_do,
      "ringmx asks nobody for the passphrase of a key. Write the key without one into a file that root alone "
      "can "
      "read (openssl pkey -in KEY -passin file:PASSWORDS -out NEWKEY), and name that as private_key.");
}

void Translator::ssl_protocols(const Directives& of) {
  std::set<std::string> versions;
  for (const Directive* directive : of)
    versions.insert(directive->arguments.begin(), directive->arguments.end());
  const bool tls12 = versions.contains("TLSv1.2");
  const bool tls13 = versions.contains("TLSv1.3");
  const bool older = versions.size() > (tls12 ? 1u : 0u) + (tls13 ? 1u : 0u);
  std::string text;
  if (older) {
    text =
        "ringmx has TLS 1.2 and 1.3 only (RFC 8996). Clients with older versions go on in clear text, where "
        "that is allowed.";
  } else if (!tls13) {
    text = "TLS 1.3 can't be switched off. There is nothing to do.";
  }
  say(tls_keys_, of, {key("minimum_tls_version", toml(tls13 && !tls12 && !older ? "TLSv1.3" : "TLSv1.2"))},
      Kind::differs, text);
}

void Translator::ssl_session_tickets(const Directives& of) {
  const auto on = parse_flag(of.front()->arguments[0]);
  if (!on) return refuse(*of.front(), R"(ssl_session_tickets takes "on" or "off")");
  say_once(tls_, of, "session_tickets", *on ? "true" : "false",
           *on ? "" : "without tickets there is no resumption: ringmx keeps no sessions.");
}

void Translator::ssl_session_ticket_key(const Directives& of) {
  std::vector<std::string> files;
  for (const Directive* directive : of) files.push_back(resolved(folder_, directive->arguments[0]));
  say_once(tls_, of, "ticket_key_files", toml(files));
}

void Translator::ssl_session_timeout(const Directives& of) {
  const Fitted fitted = fit(*of.front(), "tls", "ticket_lifetime");
  say_once(tls_, of, "ticket_lifetime", fitted.text, fitted.remark);
}

void Translator::ssl_verify_client(const Directives& of) {
  const std::string& mode = of.front()->arguments[0];
  if (mode == "off") return say(tls_keys_, of, {});
  if (mode != "on" && mode != "optional" && mode != "optional_no_ca")
    return refuse(*of.front(), config::in_quotes(mode) + " is nothing that ssl_verify_client takes");
  std::vector<std::string> lines = {key("client_certificates", toml(mode == "on" ? "require" : "request"))};
  std::string text;
  Kind kind = Kind::differs;
  if (mode == "on") {
    text = "the handshake fails where nginx said 421 after it.";
  } else if (mode == "optional") {
    text =
        "nginx closes on a client whose certificate can't be verified; ringmx lets it in as one without. The "
        "script sees Auth-SSL-Verify: FAILED; or write a [[rule]] with client_certificate = \"verified\".";
  }
  const bool trusts = !all("ssl_client_certificate").empty() || !all("ssl_trusted_certificate").empty();
  if (!trusts && mode != "optional_no_ca")
    return refuse(*of.front(), "there is no ssl_client_certificate to verify with");
  if (!trusts) {
    lines.push_back(key("client_ca_file", toml("PLACEHOLDER.pem")));
    kind = Kind::to_do;
    text =
        "ringmx wants CAs to verify with, even if it lets everybody in. Write a file in place of "
        "PLACEHOLDER.pem; any certificate in PEM will do.";
  }
  say(tls_keys_, of, lines, kind, text);
}

void Translator::ssl_client_certificate(const Directives& of) {
  if (!asks_certificates())
    return say(tls_keys_, of, {}, Kind::not_carried, "ssl_verify_client is off: clients are not asked.");
  const std::string path = toml(resolved(folder_, of.front()->arguments[0]));
  say(tls_keys_, of, {key("client_ca_file", path)});
}

void Translator::ssl_trusted_certificate(const Directives& of) {
  if (all("ssl_client_certificate").empty()) return ssl_client_certificate(of);
  say(tls_keys_, of, {}, Kind::to_do,
      "clients' certificates are verified with one file. Put these CAs into a file with those of "
      "ssl_client_certificate, and name it as client_ca_file. (As long as ssl_verify_client is off there is "
      "nothing to do.)");
}

void Translator::xclient(const Directives& of) {
  constexpr std::string_view text =
      "nginx tells the mail server by XCLIENT where the client is; ringmx does not yet. The mail server sees "
      "ringmx's address instead: take that out of its mynetworks and of all that trusts it, or it is an open "
      "relay for everybody. Whatever looks at the client's address (SPF, block lists, greylisting) has to "
      "wait, "
      "or to be asked by ringmx, as a [[service]].";
  if (!of.empty()) {
    unless_off(of, upstream_remarks_, Kind::to_do, text);
  } else if (said_.emplace(nullptr, "xclient").second) {
    say(upstream_remarks_, server_->block->place, "xclient", {}, Kind::to_do,
        "xclient is on unless it is switched off: " + std::string(text));
  }
  const bool on = of.empty() || value_of("xclient") == "on";
  if (on && !auth_.empty() && value_of("proxy_smtp_auth") != "on") tell_upstreams("xclient", *server_->block);
}

// How the mail server learns who has logged in.
void Translator::tell_upstreams(std::string_view how, const Directive& by) {
  if (authenticate_.empty()) authenticate_ = how;
  if (authenticate_ == how) return;
  say(common_, {&by}, {}, Kind::differs,
      "upstreams are told who has logged in by authenticate = " + toml(authenticate_) +
          ". Where it must be " + toml(how) +
          ", write an [[upstream]] of its own, and its name in upstreams here.");
}

void Translator::proxy_protocol(const Directives& of) {
  unless_off(of, upstream_remarks_, Kind::to_do,
             "ringmx sends no PROXY header yet. The mail server must not wait for one (Postfix: remove "
             "smtpd_upstream_proxy_protocol), and sees ringmx's address as the client's.");
}

void Translator::proxy_smtp_auth(const Directives& of) {
  unless_off(of, upstream_remarks_, Kind::differs, "");
  if (value_of("proxy_smtp_auth") == "on" && !auth_.empty()) tell_upstreams("plain", *of.front());
}

void Translator::proxy_pass_error_message(const Directives& of) {
  const auto on = parse_flag(of.front()->arguments[0]);
  if (!on) return refuse(*of.front(), R"(it takes "on" or "off")");
  say(common_, of, {}, Kind::differs,
      *on ? ""
          : "ringmx passes the mail server's replies on word for word, as with \"on\". There is nothing to "
            "do.");
}

// ---------------------------------------------------------------------------------------- the rest

void Translator::add_upstreams() {
  for (const NamedUpstream& known_one : mail_.upstreams) {
    const std::string& host = known_one.host;
    const bool bare_ipv6 =
        host.find(':') != host.npos && !host.starts_with('[') && !host.starts_with("unix:");
    const std::string address = host.starts_with("unix:") ? host
                                : bare_ipv6               ? "[" + host + "]:" + known_one.port
                                                          : host + ":" + known_one.port;
    Table table{"[[upstream]]", {}, {}, false};
    config::Endpoint endpoint;
    if (auto fault = config::parse_endpoint(address, endpoint)) {
      const std::string text = "this is no address of a mail server: " + fault->message + ".";
      leave_out(*known_one.directive, text, Kind::to_do);
      continue;
    }
    table.remarks.push_back(place(known_one.directive->place) + ": " + written(*known_one.directive));
    const std::string number = upstreams_.empty() ? "" : "-" + std::to_string(upstreams_.size() + 1);
    table.entries.push_back({{}, {key("name", toml("mta" + number)), key("address", toml(endpoint.text()))}});
    upstreams_.push_back(std::move(table));
  }
  const Directive* auth = mail_.block;
  for (const MailServer& server : mail_.servers) {
    const auto found = server.settings.find("auth_http");
    if (server.protocol != Protocol::smtp || found == server.settings.end()) continue;
    auth = found->second.front();
    break;
  }
  const bool guessed = !upstreams_.empty();
  const std::string text =
      guessed
          ? "these are the servers that this nginx.conf itself answers in Auth-Server and Auth-Port. If your "
            "script can answer others, write an [[upstream]] for each of them."
          : "PLACEHOLDER: with nginx the script says where the mail goes (Auth-Server, Auth-Port); with "
            "ringmx "
            "it chooses among those that are written here. Write an [[upstream]] for each server that it can "
            "answer, in place of this one.";
  const Kind kind = guessed ? Kind::differs : Kind::to_do;
  if (!guessed) {
    Table table{"[[upstream]]", {}, {}, false};
    table.entries.push_back({{}, {key("name", toml("mta")), key("address", toml(placeholder_address))}});
    upstreams_.push_back(std::move(table));
  }
  tell(kind, auth->place, auth->name, text);
  for (Table& table : upstreams_) {
    if (authenticate_.empty()) break;
    table.entries.push_back({{}, {key("authenticate", toml(authenticate_))}});
    if (authenticate_ != "plain") continue;
    table.entries.push_back(
        {{"nginx says passwords in clear text to the mail server. If it has TLS, better write",
          "starttls = \"required\" instead of the next line."},
         {key("authenticate_in_clear_text", "true")}});
  }
  std::vector<std::string> remarks;
  append_wrapped(remarks, std::string(title(kind)) + ": " + text);
  for (const Entry& entry : upstream_remarks_.entries)
    remarks.insert(remarks.end(), entry.remarks.begin(), entry.remarks.end());
  remarks.insert(remarks.end(), upstreams_.front().remarks.begin(), upstreams_.front().remarks.end());
  upstreams_.front().remarks = std::move(remarks);
}

void Translator::add_rules(std::string& to) const {
  if (starttls_listeners_.empty()) return;
  const std::string listeners = key("listeners", toml(starttls_listeners_));
  std::vector<std::string> remarks;
  append_wrapped(
      remarks,
      "Who must use TLS, at which step. nginx asks for it at AUTH alone; ringmx can at MAIL and RCPT, of "
      "whom you like. The first rule that concerns a client decides. To use one, remove the # in front "
      "of its keys; otherwise = \"mark\" only counts whom it would refuse.");
  remarks.emplace_back();
  append_wrapped(remarks, "TLS from one partner, and clear text from everybody else as before:");
  append_remarks(to, remarks);
  append_table(
      to, {"[[rule]]",
           {},
           {{{},
             {key("name", toml("partner")), listeners,
              key("sender_domains", toml(std::vector<std::string>{"partner.example", ".partner.example"})),
              key("tls", toml("required"))}}},
           true});
  remarks.clear();
  append_wrapped(
      remarks,
      "TLS before MAIL from everybody. RFC 3207 section 4: \"A publicly-referenced SMTP server MUST NOT "
      "require use of the STARTTLS extension in order to deliver mail locally.\" So not where an MX "
      "record points, but where only your own users or partners send.");
  append_remarks(to, remarks);
  append_table(to, {"[[rule]]",
                    {},
                    {{{}, {key("name", toml("tls-before-mail")), listeners, key("tls", toml("required"))}}},
                    true});
}

std::string Translator::header() const {
  const auto count = std::count_if(findings_.begin(), findings_.end(),
                                   [](const Finding& f) { return f.kind == Kind::to_do; });
  std::vector<std::string> remarks;
  append_wrapped(remarks,
                 "A configuration of ringmx, made of " + printable(file_) + " by ringmx import-nginx.");
  remarks.emplace_back();
  append_wrapped(remarks,
                 "Above each key stands the directive that it was made of. " +
                     (count == 0   ? std::string("Nothing waits for you.")
                      : count == 1 ? std::string("One thing waits for you: look for TO DO.")
                                   : std::to_string(count) + " things wait for you: look for TO DO.") +
                     " Then prove it: ringmx check --config FILE.");
  std::string out;
  append_remarks(out, remarks);
  return out + "\n";
}

Translation Translator::run() {
  for (const Directive& directive : mail_.block->children) {
    if (directive.name == "listen" || directive.name == "protocol")
      refuse(directive, directive.name + " belongs into a server {}");
  }
  for (const MailServer& server : mail_.servers) {
    if (!problem_) translate_server(server);
  }
  if (!problem_ && listeners_.empty()) {
    problem_ = Problem{mail_.block->place, "there is no server for SMTP in it",
                       "there is nothing for ringmx to do: stay with nginx"};
  }
  Translation out;
  if (problem_) {
    out.problem = std::move(problem_);
    return out;
  }
  for (const Directive& directive : mail_.block->children) {
    if (directive.name != "server" && !used_.contains(&directive))
      leave_out(directive, directive.name.starts_with("ssl_") ? no_tls : "no server for SMTP inherits it.");
  }
  add_upstreams();
  std::stable_sort(findings_.begin(), findings_.end(), [](const Finding& a, const Finding& b) {
    return std::pair(std::string_view(a.place.file), a.place.line) <
           std::pair(std::string_view(b.place.file), b.place.line);
  });
  if (listeners_in_effect_ == 0) {
    out.problem = Problem{mail_.block->place, "no server is left that ringmx could be",
                          "do what is said above, or stay with nginx"};
    out.findings = std::move(findings_);
    return out;
  }
  out.text = header();
  if (!process_.entries.empty()) append_table(out.text, process_);
  for (const Table& table : listeners_) append_table(out.text, table);
  if (!left_out_.empty()) {
    append_remarks(out.text, left_out_);
    out.text += '\n';
  }
  for (const Table& table : services_) append_table(out.text, table);
  for (const Table& table : upstreams_) append_table(out.text, table);
  if (!tls_.entries.empty()) append_table(out.text, tls_);
  add_rules(out.text);
  while (out.text.ends_with("\n\n")) out.text.pop_back();
  out.findings = std::move(findings_);
  return out;
}

}  // namespace

std::string Finding::line() const {
  return printable(place.text() + ": " + subject + ": " + std::string(title(kind)) + ": " + text);
}

Translation translate(const std::string& file, const Mail& mail) {
  return Translator(file, mail).run();
}

std::vector<std::string_view> known_directives() {
  std::vector<std::string_view> names;
  for (const Translator::Known& known : Translator::known()) names.push_back(known.name);
  return names;
}

Translation import_file(const std::string& file, const Files& files) {
  std::vector<Directive> directives;
  Mail mail;
  Translation out;
  out.problem = read_directives(file, files, directives);
  if (!out.problem) out.problem = find_mail(file, directives, mail);
  return out.problem ? out : translate(file, mail);
}

}  // namespace ringmx::nginx
