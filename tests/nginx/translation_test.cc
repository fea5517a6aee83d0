// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/translation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "files_in_memory.h"

namespace ringmx::nginx {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Kind = Finding::Kind;
using config::Config;

Translation import_text(const std::string& text) {
  const std::map<std::string, std::string> texts = {{"/n/nginx.conf", text}};
  return import_file("/n/nginx.conf", files_of(texts));
}

// What every server here needs.
constexpr std::string_view always[] = {"server_name mx.example.org;", "xclient off;",
                                       "auth_http 127.0.0.1:9000/auth;"};

// mail {} with a server in which `own` stands, and `around` in front of it. Line 3 is the first of `own`.
std::string mail(std::string_view own, std::string_view around = "") {
  std::string out = "mail { ";
  for (const std::string_view one : always) {
    if (own.find(one.substr(0, one.find(' ') + 1)) == own.npos) out += one;
  }
  out += std::string(around) + "\nserver {\n" + std::string(own);
  if (own.find("listen") == own.npos) out += " listen 25;";
  if (own.find("smtp_auth") == own.npos && around.find("smtp_auth") == around.npos) out += " smtp_auth none;";
  return out + "\n}\n}\n";
}

constexpr std::string_view starttls = " starttls on; ssl_certificate a.pem; ssl_certificate_key a.key;";

Config config_of(const std::string& toml) {
  Config config;
  std::vector<config::Problem> problems;
  EXPECT_TRUE(config::parse(toml, "ringmx.toml", config, problems, true)) << toml;
  for (const config::Problem& problem : problems) ADD_FAILURE() << problem.text();
  return config;
}

Config imported(const std::string& text) {
  const Translation result = import_text(text);
  if (result.problem) {
    ADD_FAILURE() << result.problem->text();
    return {};
  }
  return config_of(result.text);
}

std::string problem_of(const std::string& text) {
  const Translation result = import_text(text);
  EXPECT_EQ(result.problem.has_value(), result.text.empty());
  return result.problem ? result.problem->text() : "none";
}

// Of the directives themselves, not of what every import has to say.
std::vector<std::string> findings_of(const Translation& result) {
  std::vector<std::string> out;
  for (const Finding& finding : result.findings) {
    if (finding.subject != "auth_http") out.push_back(finding.line());
  }
  return out;
}
std::vector<std::string> findings(const std::string& text) {
  return findings_of(import_text(text));
}

// ---------------------------------------------------------------------------- each directive of nginx

struct Case {
  std::string_view name;  // what stands in front of its first space
  std::string line;
  std::function<bool(const Config&)> carried = {};  // what comes of it
  std::string_view finding = {};                    // or is said of it
  bool tls = false;                                 // where there is TLS
};

bool of_listener(const Config& c, const std::function<bool(const config::Listener&)>& holds) {
  return !c.listeners.empty() && holds(c.listeners[0]);
}

std::vector<Case> cases() {
  using config::Listener;
  const auto listener = [](std::function<bool(const Listener&)> holds) {
    return [holds = std::move(holds)](const Config& c) { return of_listener(c, holds); };
  };
  const auto service = [](std::function<bool(const config::Service&)> holds) {
    return [holds = std::move(holds)](const Config& c) {
      return c.services.size() == 1 && holds(c.services[0]);
    };
  };
  const auto stays = [](const Config& c) { return !c.listeners.empty(); };
  return {
      {"listen", "listen 10.0.0.1:2525 backlog=77; protocol smtp;",
       listener([](const Listener& l) { return l.address.text() == "10.0.0.1:2525" && l.backlog == 77; })},
      {"protocol", "protocol smtp; listen 2525;", stays},
      {"server_name", "server_name a.example;",
       [](const Config& c) { return c.server.hostname == "a.example"; }},
      {"auth_http", "auth_http http://[::1]:81/x;", service([](const config::Service& s) {
         return s.address.text() == "http://[::1]:81/x" && s.close_after_refusal &&
                s.steps == policy::Steps{policy::Step::rcpt};
       })},
      {"auth_http_header", "auth_http_header X-Key \"a \\\"b\";", service([](const config::Service& s) {
         return s.headers == std::vector<std::string>{"X-Key: a \"b"};
       })},
      {"auth_http_timeout", "auth_http_timeout 7s;", service([](const auto& s) { return s.timeout == 7s; })},
      {"auth_http_pass_client_cert", "auth_http_pass_client_cert on;", stays, "not asked for certificates"},
      {"smtp_auth", "smtp_auth none login;",
       [=](const Config& c) {
         return of_listener(
                    c,
                    [](const Listener& l) { return l.auth == smtp::MechanismSet{smtp::Mechanism::login}; }) &&
                c.services.at(0).steps == policy::Steps{policy::Step::auth, policy::Step::rcpt};
       }},
      {"smtp_capabilities", "smtp_capabilities \"SIZE 1000000\" DSN ETRN;", listener([](const Listener& l) {
         return l.message_size_limit == 1'000'000 && l.extensions.has(smtp::Extension::size) &&
                l.extensions.has(smtp::Extension::dsn) && !l.extensions.has(smtp::Extension::pipelining);
       }),
       "ETRN is nothing that ringmx offers"},
      {"smtp_client_buffer", "smtp_client_buffer 8k;",
       listener([](const Listener& l) { return l.command_line_limit == 8192; })},
      {"smtp_greeting_delay", "smtp_greeting_delay 2500ms;",
       listener([](const Listener& l) { return l.greeting_delay == 2500ms; })},
      {"max_errors", "max_errors 3;", listener([](const Listener& l) { return l.error_limit == 3; })},
      {"timeout", "timeout 1m30s;", listener([](const Listener& l) { return l.command_timeout == 90s; })},
      {"resolver", "resolver 127.0.0.1 valid=30s;", stays, "ringmx resolves no names"},
      {"resolver_timeout", "resolver_timeout 5s;", stays, "ringmx resolves no names"},
      {"error_log", "error_log /var/log/mail.log info;", stays, "standard error"},
      {"starttls", "starttls only;",
       listener([](const Listener& l) { return l.starttls == smtp::StartTls::required_for_auth; }), "", true},
      {"ssl", "ssl on;", listener([](const Listener& l) { return l.implicit_tls; }), "", true},
      {"ssl_certificate", "ssl_certificate b.pem; ssl_certificate_key b.key;",
       listener([](const Listener& l) {
         return l.certificate == std::vector<std::string>{"/n/a.pem", "/n/b.pem"} &&
                l.private_key == std::vector<std::string>{"/n/a.key", "/n/b.key"};
       }),
       "", true},
      {"ssl_certificate_key", "ssl_certificate /b.pem; ssl_certificate_key data:secret;",
       listener([](const Listener& l) { return l.private_key[1].ends_with("PLACEHOLDER.pem"); }),
       "from files in PEM alone", true},
      {"ssl_password_file", "ssl_password_file p;", stays, "openssl pkey", true},
      {"ssl_protocols", "ssl_protocols TLSv1.3;",
       listener([](const Listener& l) { return l.minimum_tls_version == tls::Version::tls13; }), "", true},
      {"ssl_verify_client", "ssl_verify_client on; ssl_client_certificate ca.pem;",
       listener([](const Listener& l) { return l.client_certificates == tls::ClientCertificates::require; }),
       "421", true},
      {"ssl_client_certificate", "ssl_verify_client optional; ssl_client_certificate ca.pem;",
       listener([](const Listener& l) { return l.client_ca_file == "/n/ca.pem"; }), "Auth-SSL-Verify: FAILED",
       true},
      {"ssl_trusted_certificate", "ssl_trusted_certificate ca.pem; ssl_verify_client on;",
       listener([](const Listener& l) { return l.client_ca_file == "/n/ca.pem"; }), "421", true},
      {"ssl_verify_depth", "ssl_verify_depth 2;", stays, "fingerprints", true},
      {"ssl_crl", "ssl_crl crl.pem;", stays, "TO DO: ringmx reads no lists of revoked", true},
      {"ssl_session_tickets", "ssl_session_tickets off;",
       [](const Config& c) { return !c.tls.session_tickets; }, "no resumption", true},
      {"ssl_session_ticket_key", "ssl_session_ticket_key 1.key; ssl_session_ticket_key /2.key;",
       [](const Config& c) {
         return c.tls.ticket_key_files == std::vector<std::string>{"/n/1.key", "/2.key"};
       },
       "", true},
      {"ssl_session_timeout", "ssl_session_timeout 1h;",
       [](const Config& c) { return c.tls.ticket_lifetime == 1h; }, "", true},
      {"ssl_session_cache", "ssl_session_cache shared:m:10m;", stays, "in tickets", true},
      {"ssl_ciphers", "ssl_ciphers HIGH;", stays, "AEAD", true},
      {"ssl_prefer_server_ciphers", "ssl_prefer_server_ciphers on;", stays, "nothing to do", true},
      {"ssl_ecdh_curve", "ssl_ecdh_curve auto;", stays, "X25519MLKEM768", true},
      {"ssl_dhparam", "ssl_dhparam dh.pem;", stays, "Diffie-Hellman", true},
      {"ssl_conf_command", "ssl_conf_command Options PrioritizeChaCha;", stays, "wolfSSL", true},
      {"ssl_certificate_compression", "ssl_certificate_compression on;", stays, "not compressed", true},
      {"proxy", "proxy on;", stays, "does nothing in nginx"},
      {"xclient", "xclient on;", stays, "TO DO: nginx tells the mail server by XCLIENT"},
      {"proxy_protocol", "proxy_protocol on;", stays, "TO DO: ringmx sends no PROXY header"},
      {"proxy_smtp_auth", "proxy_smtp_auth on; smtp_auth none plain;",
       [](const Config& c) {
         return c.upstreams.at(0).authenticate == config::Upstream::Authenticate::plain;
       }},
      {"proxy_pass_error_message", "proxy_pass_error_message off;", stays, "word for word"},
      {"proxy_timeout", "proxy_timeout 1h;", stays, "RFC 5321 section 4.5.3.2"},
      {"proxy_buffer", "proxy_buffer 8k;", stays, "session_memory"},
      {"set_real_ip_from", "set_real_ip_from 10.0.0.0/8;", stays, "PROXY protocol"},
      {"pop3_auth", "pop3_auth plain;", stays, "POP3"},
      {"pop3_capabilities", "pop3_capabilities TOP;", stays, "POP3"},
      {"imap_auth", "imap_auth plain;", stays, "IMAP"},
      {"imap_capabilities", "imap_capabilities IDLE;", stays, "IMAP"},
      {"imap_client_buffer", "imap_client_buffer 8k;", stays, "IMAP"},
  };
}

TEST(Translation, EachDirective) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.line);
    const std::string name(one.name);
    const bool own_starttls = name == "starttls" || name == "ssl";
    const std::string tls = !one.tls       ? ""
                            : own_starttls ? " ssl_certificate a.pem; ssl_certificate_key a.key;"
                                           : std::string(starttls);
    const Translation result = import_text(mail(tls + one.line));
    ASSERT_FALSE(result.problem) << result.problem->text();
    EXPECT_TRUE(one.carried(config_of(result.text))) << result.text;
    // It is named where something comes of it.
    EXPECT_THAT(result.text, HasSubstr("# nginx.conf:3: " + one.line.substr(0, one.line.find(' ') + 1)));
    std::vector<std::string> said = findings_of(result);
    if (name == "auth_http" || one.finding.empty()) {
      EXPECT_THAT(said, IsEmpty());
    } else {
      ASSERT_EQ(said.size(), 1u) << result.text;
      EXPECT_THAT(said[0], HasSubstr("/n/nginx.conf:3: "));
      EXPECT_THAT(said[0], HasSubstr(std::string(one.finding)));
    }
    EXPECT_THAT(result.text, Not(HasSubstr("secret")));
  }
}

// The directives of nginx 1.31's mail modules that are documented, and those that older ones had.
constexpr std::string_view documented[] = {
    "listen",
    "protocol",
    "server_name",
    "timeout",
    "max_errors",
    "resolver",
    "resolver_timeout",
    "error_log",
    "smtp_auth",
    "smtp_capabilities",
    "smtp_client_buffer",
    "smtp_greeting_delay",
    "starttls",
    "ssl",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_certificate_compression",
    "ssl_ciphers",
    "ssl_client_certificate",
    "ssl_conf_command",
    "ssl_crl",
    "ssl_dhparam",
    "ssl_ecdh_curve",
    "ssl_password_file",
    "ssl_prefer_server_ciphers",
    "ssl_protocols",
    "ssl_session_cache",
    "ssl_session_ticket_key",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "ssl_trusted_certificate",
    "ssl_verify_client",
    "ssl_verify_depth",
    "auth_http",
    "auth_http_header",
    "auth_http_pass_client_cert",
    "auth_http_timeout",
    "proxy",
    "proxy_buffer",
    "proxy_pass_error_message",
    "proxy_protocol",
    "proxy_smtp_auth",
    "proxy_timeout",
    "xclient",
    "set_real_ip_from",
    "pop3_auth",
    "pop3_capabilities",
    "imap_auth",
    "imap_capabilities",
    "imap_client_buffer",
};

TEST(Translation, NoDirectiveIsForgotten) {
  std::set<std::string_view> tested;
  for (const Case& one : cases()) tested.insert(one.name);
  const std::vector<std::string_view> known = known_directives();
  EXPECT_EQ(tested, std::set<std::string_view>(known.begin(), known.end()));
  EXPECT_EQ(tested, std::set<std::string_view>(std::begin(documented), std::end(documented)));
}

// ---------------------------------------------------------------------------- what is more than a table

TEST(Translation, Inheritance) {
  const Config c = imported(
      "mail { server_name a.example; xclient off; auth_http 127.0.0.1; smtp_auth none; timeout 10s; "
      "max_errors 4;\n"
      "auth_http_header A 1; auth_http_header B 2;\n"
      "server { listen 25; timeout 20s; }\n"
      "server { listen 26; protocol smtp; auth_http_header C 3; max_errors 9; } }");
  ASSERT_EQ(c.listeners.size(), 2u);
  EXPECT_EQ(c.listeners[0].command_timeout, 20s);
  EXPECT_EQ(c.listeners[0].error_limit, 4u);
  EXPECT_EQ(c.listeners[1].command_timeout, 10s);
  EXPECT_EQ(c.listeners[1].error_limit, 9u);
  // Several of a name are inherited together, or not at all.
  ASSERT_EQ(c.services.size(), 2u);
  EXPECT_THAT(c.services[0].headers, ElementsAre("A: 1", "B: 2"));
  EXPECT_THAT(c.services[1].headers, ElementsAre("C: 3"));
  EXPECT_THAT(c.listeners[0].services, ElementsAre(c.services[0].name));
  EXPECT_THAT(c.listeners[1].services, ElementsAre(c.services[1].name));
}

TEST(Translation, OneServiceForAllThatAskTheSame) {
  const Config c =
      imported(mail("listen 25; listen 587; smtp_auth none; } server { listen 26; protocol smtp;",
                    ""
                    " smtp_auth none;"));
  ASSERT_EQ(c.listeners.size(), 3u);
  EXPECT_EQ(c.services.size(), 1u);
}

TEST(Translation, Listeners) {
  const Config c =
      imported(mail("listen 25; listen *:587; listen [::]:25; listen 127.0.0.1:465 ssl bind;"
                    "listen 2500-2501; smtp_auth none;" +
                    std::string(starttls)));
  ASSERT_EQ(c.listeners.size(), 6u);
  std::vector<std::string> all;
  for (const config::Listener& l : c.listeners) {
    all.push_back(l.name + " " + l.address.text());
    EXPECT_EQ(l.implicit_tls, l.address.port == 465);
    EXPECT_EQ(l.starttls, l.address.port == 465 ? smtp::StartTls::off : smtp::StartTls::optional);
    EXPECT_THAT(l.certificate, ElementsAre("/n/a.pem"));
  }
  EXPECT_THAT(all,
              ElementsAre("smtp 0.0.0.0:25", "submission 0.0.0.0:587", "smtp-ipv6 [::]:25",
                          "submissions 127.0.0.1:465", "smtp-2500 0.0.0.0:2500", "smtp-2501 0.0.0.0:2501"));
}

TEST(Translation, ListenersOfOnePortHaveNamesOfTheirOwn) {
  const Config c =
      imported(mail("listen 10.0.0.1:25; listen 10.0.0.2:25; listen 10.0.0.3:25; smtp_auth none;"));
  ASSERT_EQ(c.listeners.size(), 3u);
  EXPECT_EQ(c.listeners[1].name, "smtp-2");
  EXPECT_EQ(c.listeners[2].name, "smtp-3");
}

TEST(Translation, BothFamilies) {
  const Config both = imported(mail("listen [::]:25 ipv6only=off; smtp_auth none;"));
  ASSERT_EQ(both.listeners.size(), 2u);
  EXPECT_EQ(both.listeners[1].address.text(), "0.0.0.0:25");
  EXPECT_EQ(imported(mail("listen 25; listen [::]:25 ipv6only=off; smtp_auth none;")).listeners.size(), 2u);
  EXPECT_EQ(imported(mail("listen [::]:25 ipv6only=on; smtp_auth none;")).listeners.size(), 1u);
}

TEST(Translation, ParametersOfListen) {
  EXPECT_THAT(findings(mail("listen 25 rcvbuf=8k so_keepalive=30m::10 multipath; smtp_auth none;")),
              ElementsAre(HasSubstr("rcvbuf: the kernel"), HasSubstr("so_keepalive: the deadlines"),
                          HasSubstr("multipath: ringmx listens by TCP")));
  EXPECT_THAT(problem_of(mail("listen 25 reuseport;")), HasSubstr("\"reuseport\" is no parameter of listen"));
  EXPECT_THAT(problem_of(mail("listen 127.0.0.1; protocol smtp;")),
              HasSubstr("is not an address with a port"));
  EXPECT_THAT(problem_of(mail("listen 1000-2000; protocol smtp;")), HasSubstr("more than a hundred ports"));
  EXPECT_THAT(problem_of("mail { auth_http 127.0.0.1;\nserver { protocol smtp; } }"),
              HasSubstr("/n/nginx.conf:2: the server listens nowhere"));
}

TEST(Translation, NamesAreNotResolved) {
  const Translation result =
      import_text(mail("listen mx.example.org:25; smtp_auth none; auth_http a.example:81/x;"));
  const Config c = config_of(result.text);
  EXPECT_EQ(c.listeners.at(0).address.text(), "127.0.0.1:25");
  EXPECT_EQ(c.services.at(0).address.text(), "http://127.0.0.1:81/x");
  EXPECT_THAT(findings_of(result),
              ElementsAre(HasSubstr("PLACEHOLDER: ringmx resolves no names. Write the address of "
                                    "\"mx.example.org\"")));
  EXPECT_THAT(result.text, HasSubstr("Write the address of \"a.example\""));
  EXPECT_THAT(findings(mail("listen localhost:25; smtp_auth none;")),
              ElementsAre(HasSubstr("localhost is 127.0.0.1")));
}

// Never an open relay: who must log in with nginx can't send through ringmx.
TEST(Translation, ServersForLogins) {
  for (const std::string_view auth : {"smtp_auth plain login;", "smtp_auth cram-md5; smtp_auth login;"}) {
    const Translation result =
        import_text(mail("listen 25; smtp_auth none; } server { listen 587;" + std::string(auth)));
    const Config c = config_of(result.text);
    ASSERT_EQ(c.listeners.size(), 2u) << result.text;
    for (const config::Listener& listener : c.listeners)
      EXPECT_EQ(listener.auth_required, listener.address.port == 587);
    EXPECT_THAT(findings_of(result), testing::IsEmpty());
  }
  // What nginx does unless it is told otherwise.
  const Config c =
      config_of(import_text("mail { auth_http 127.0.0.1; xclient off;\nserver { listen 587; } }").text);
  ASSERT_EQ(c.listeners.size(), 1u);
  EXPECT_TRUE(c.listeners[0].auth_required);
}

// By a certificate that nobody is asked for.
TEST(Translation, ServersForNobodyAreSwitchedOff) {
  const std::string text =
      "mail { auth_http 127.0.0.1; xclient off;\nserver { listen 587; smtp_auth external; } }";
  EXPECT_EQ(
      problem_of(text),
      "/n/nginx.conf:1: no server is left that ringmx could be; do what is said above, or stay with nginx");
  EXPECT_THAT(findings(text), testing::Contains(HasSubstr("smtp_auth: TO DO: here nginx takes")));
}

TEST(Translation, ServersBehindBalancersAreSwitchedOff) {
  const Translation result = import_text(mail("listen 25; listen 26 proxy_protocol; smtp_auth none;"));
  EXPECT_EQ(config_of(result.text).listeners.size(), 1u);
  EXPECT_THAT(findings_of(result), ElementsAre(HasSubstr("ringmx takes no PROXY header yet")));
}

TEST(Translation, UnixSocketsAreLeftOut) {
  const Translation result = import_text(mail("listen 25; listen unix:/run/x; smtp_auth none;"));
  EXPECT_EQ(config_of(result.text).listeners.size(), 1u);
  EXPECT_THAT(findings_of(result), ElementsAre(HasSubstr("listen: TO DO: ringmx takes mail by TCP alone")));
}

TEST(Translation, OtherProtocolsAreLeftOut) {
  const Translation result = import_text(mail(
      "listen 25; smtp_auth none; }\nserver { listen 143; rubbish; }\nserver { listen 4711; protocol pop3;"));
  EXPECT_EQ(config_of(result.text).listeners.size(), 1u);
  EXPECT_THAT(findings_of(result),
              ElementsAre(HasSubstr("/n/nginx.conf:4: server: Not carried over: this server speaks IMAP"),
                          HasSubstr("/n/nginx.conf:5: server: Not carried over: this server speaks POP3")));
  EXPECT_THAT(problem_of("mail { server { listen 110; } }"),
              HasSubstr("no server for SMTP in it; there is nothing"));
  EXPECT_THAT(problem_of("mail {\nserver { listen 4711; } }"),
              HasSubstr("/n/nginx.conf:2: the protocol of this server"));
  EXPECT_THAT(problem_of("mail {\nserver { listen 25; protocol uucp; } }"), HasSubstr("this is no protocol"));
}

TEST(Translation, WhatNobodyKnows) {
  EXPECT_THAT(findings(mail("magic on;")),
              ElementsAre(HasSubstr("magic: Not carried over: it is no directive of nginx's")));
  EXPECT_THAT(findings(mail("magic { x; }")), ElementsAre(HasSubstr("magic: Not carried over")));
  // It stands in mail {}, and nobody inherits it.
  EXPECT_THAT(
      findings(mail("timeout 5s;", " timeout 6s;")),
      ElementsAre(HasSubstr("/n/nginx.conf:1: timeout: Not carried over: no server for SMTP inherits it")));
  EXPECT_THAT(findings(mail("", " ssl_ciphers HIGH;")),
              ElementsAre(HasSubstr("ssl_ciphers: Not carried over: there is no TLS")));
  EXPECT_THAT(findings(mail("ssl_ciphers HIGH;")),
              ElementsAre(HasSubstr("ssl_ciphers: Not carried over: there is no TLS")));
}

TEST(Translation, WhatIsInheritedIsSaidOnce) {
  const Translation result = import_text(mail(
      "listen 25; listen 26; smtp_auth none; } server { listen 587; smtp_auth none;", " proxy_timeout 1h;"));
  EXPECT_EQ(findings_of(result).size(), 1u);
  const std::string line = "# nginx.conf:1: proxy_timeout 1h;";
  EXPECT_EQ(result.text.find(line), result.text.rfind(line));
  EXPECT_NE(result.text.find(line), result.text.npos);
}

TEST(Translation, OneForTheWholeProcess) {
  EXPECT_THAT(
      findings(
          mail("listen 25; smtp_auth none; server_name mx.example.org; } server { listen 26; protocol smtp; "
               "server_name b.example; "
               "smtp_auth none;")),
      ElementsAre(
          HasSubstr("server_name: Not carried over: ringmx has one hostname for all listeners, and it is "
                    "\"mx.example.org\" already")));
  const std::string two = "listen 25; ssl_session_timeout 1h; smtp_auth none;" + std::string(starttls) +
                          "} server { listen 587; smtp_auth none; ssl_session_timeout 2h;" +
                          std::string(starttls);
  EXPECT_THAT(findings(mail(two)),
              ElementsAre(HasSubstr("one ticket_lifetime for all listeners, and it is \"1h\"")));
  EXPECT_THAT(findings(mail("server_name 'not a name';")), ElementsAre(HasSubstr("server_name: TO DO: ")));
}

TEST(Translation, ValuesBeyondTheRange) {
  EXPECT_EQ(imported(mail("timeout 2h;")).listeners.at(0).command_timeout, 1h);
  EXPECT_EQ(imported(mail("smtp_client_buffer 100;")).listeners.at(0).command_line_limit, 512u);
  EXPECT_EQ(imported(mail("max_errors 0;")).listeners.at(0).error_limit, 1u);
  EXPECT_THAT(findings(mail("timeout 2h;")),
              ElementsAre(HasSubstr("command_timeout can be \"100ms\" to \"1h\"")));
}

TEST(Translation, StartTlsMeansWhatNginxMeans) {
  for (const auto& [mode, meant] : {std::pair("off", smtp::StartTls::off),
                                    {"on", smtp::StartTls::optional},
                                    {"only", smtp::StartTls::required_for_auth}}) {
    const Config c =
        imported(mail(std::string("ssl_certificate a; ssl_certificate_key b; starttls ") + mode + ";"));
    EXPECT_EQ(c.listeners.at(0).starttls, meant);
  }
  const Translation only = import_text(mail("ssl_certificate a; ssl_certificate_key b; starttls only;"));
  EXPECT_THAT(only.text, HasSubstr("mail is taken in clear text"));
  EXPECT_THAT(
      only.text,
      HasSubstr("#[[rule]]\n#name = \"tls-before-mail\"\n#listeners = [\"smtp\"]\n#tls = \"required\""));
  EXPECT_THAT(only.text, HasSubstr("RFC 3207"));
  EXPECT_THAT(import_text(mail("")).text, Not(HasSubstr("[[rule]]")));
}

TEST(Translation, Versions) {
  const auto said = [](const std::string& versions) {
    return findings(mail("ssl_protocols " + versions + ";" + std::string(starttls)));
  };
  EXPECT_THAT(said("TLSv1.2 TLSv1.3"), IsEmpty());
  EXPECT_THAT(said("TLSv1.3"), IsEmpty());
  EXPECT_THAT(said("TLSv1.2"), ElementsAre(HasSubstr("TLS 1.3 can't be switched off")));
  EXPECT_THAT(said("TLSv1 TLSv1.2 TLSv1.3"), ElementsAre(HasSubstr("RFC 8996")));
}

TEST(Translation, ClientCertificates) {
  const auto listener = [](const std::string& own) {
    return imported(mail(own + std::string(starttls))).listeners.at(0);
  };
  EXPECT_EQ(listener("ssl_verify_client off; ssl_client_certificate c.pem;").client_certificates,
            tls::ClientCertificates::none);
  EXPECT_EQ(listener("ssl_verify_client optional_no_ca;").client_certificates,
            tls::ClientCertificates::request);
  EXPECT_EQ(listener("ssl_verify_client on; ssl_client_certificate c.pem; ssl_trusted_certificate t.pem;")
                .client_ca_file,
            "/n/c.pem");
  EXPECT_THAT(
      findings(mail("ssl_verify_client on; ssl_client_certificate c.pem; ssl_trusted_certificate t.pem;" +
                    std::string(starttls))),
      ElementsAre(HasSubstr("ssl_verify_client: Differs"), HasSubstr("ssl_trusted_certificate: TO DO")));
  EXPECT_THAT(problem_of(mail("ssl_verify_client on;" + std::string(starttls))),
              HasSubstr("no ssl_client_certificate"));
}

// Who logs in, and how the mail server learns of it.
TEST(Translation, Authentication) {
  using Authenticate = config::Upstream::Authenticate;
  const Config by_xclient = imported(mail("smtp_auth none plain cram-md5; xclient on;"));
  EXPECT_EQ(by_xclient.listeners.at(0).auth,
            (smtp::MechanismSet{smtp::Mechanism::plain, smtp::Mechanism::cram_md5}));
  EXPECT_EQ(by_xclient.upstreams.at(0).authenticate, Authenticate::xclient);
  const Config by_auth = imported(mail("smtp_auth none plain; proxy_smtp_auth on; xclient on;"));
  EXPECT_EQ(by_auth.upstreams.at(0).authenticate, Authenticate::plain);
  EXPECT_TRUE(by_auth.upstreams.at(0).authenticate_in_clear_text);
  EXPECT_EQ(imported(mail("smtp_auth none plain;")).upstreams.at(0).authenticate, Authenticate::none);
  EXPECT_EQ(imported(mail("smtp_auth none; xclient on;")).upstreams.at(0).authenticate, Authenticate::none);
  // One way for all.
  EXPECT_THAT(
      findings(mail("listen 25; smtp_auth none plain; xclient on; } server { listen 26; protocol smtp; "
                    "smtp_auth none plain; proxy_smtp_auth on; xclient off;")),
      testing::Contains(HasSubstr("proxy_smtp_auth: Differs: upstreams are told who has logged in by "
                                  "authenticate = \"xclient\"")));
}

TEST(Translation, ExternalIsByCertificate) {
  EXPECT_THAT(findings(mail("smtp_auth none external;")),
              ElementsAre(HasSubstr("external is by certificate")));
  const std::string asks =
      "smtp_auth none external; ssl_verify_client optional; ssl_client_certificate c.pem;"
      "auth_http_pass_client_cert on;";
  const Config c = imported(mail(asks + std::string(starttls)));
  EXPECT_EQ(c.listeners.at(0).auth, smtp::MechanismSet{smtp::Mechanism::external});
  EXPECT_TRUE(c.services.at(0).pass_certificate);
}

// Where mail goes.
TEST(Translation, Upstreams) {
  const Translation none = import_text(mail(""));
  EXPECT_EQ(config_of(none.text).upstreams.at(0).address.text(), "192.0.2.1:25");
  EXPECT_THAT(none.text, HasSubstr("# TO DO: PLACEHOLDER: with nginx the script says where the mail goes"));

  const std::string http =
      "http { server { add_header Auth-Server 10.0.0.9; add_header Auth-Port 26;\n"
      "location /a { add_header Auth-Status OK; add_header auth-server 10.0.0.1; add_header Auth-Port 25; }\n"
      "location /b { add_header Auth-Server $where; add_header Auth-Port 25; }\n"
      "location /c { add_header Auth-Server ::1; add_header Auth-Port 25; if ($x) { add_header Auth-Wait 1; "
      "} }\n"
      "location /d { add_header Auth-Server unix:/run/mta; }\n"
      "location /e { if ($x) { return 204; } }\n"
      "location /f { add_header Auth-Server 10.0.0.1; }\n"
      "location /g { add_header Auth-Server mta; add_header Auth-Port 25; } } }\n";
  const Translation some = import_text(http + mail(""));
  std::vector<std::string> addresses;
  for (const config::Upstream& upstream : config_of(some.text).upstreams)
    addresses.push_back(upstream.address.text());
  EXPECT_THAT(addresses, ElementsAre("10.0.0.9:26", "10.0.0.1:25", "[::1]:25", "unix:/run/mta"));
  EXPECT_THAT(findings_of(some),
              ElementsAre(HasSubstr("/n/nginx.conf:8: add_header: TO DO: this is no address")));
}

TEST(Translation, XclientIsOnByDefault) {
  EXPECT_THAT(
      findings("mail { auth_http 127.0.0.1; smtp_auth none; server_name a.example;\nserver { listen 25; } }"),
      ElementsAre(HasSubstr("/n/nginx.conf:2: xclient: TO DO: xclient is on unless it is switched off")));
}

// A file that nginx would refuse.
TEST(Translation, Refusals) {
  EXPECT_THAT(problem_of("events {}"),
              HasSubstr("/n/nginx.conf: there is no mail {} in it; name the nginx.conf"));
  EXPECT_THAT(problem_of("mail {}\nmail {}"), HasSubstr("/n/nginx.conf:2: there is a mail {} already"));
  EXPECT_THAT(problem_of(mail("timeout x;")),
              HasSubstr("/n/nginx.conf:3: \"x\" is no value for timeout; see what "));
  EXPECT_THAT(problem_of(mail("timeout;")), HasSubstr("timeout does not take these arguments"));
  EXPECT_THAT(problem_of(mail("timeout 1s 2s;")), HasSubstr("timeout does not take these arguments"));
  EXPECT_THAT(problem_of(mail("timeout 1s { }")), HasSubstr("timeout does not take these arguments"));
  EXPECT_THAT(problem_of(mail("timeout 1s; timeout 1s;")), HasSubstr("timeout is there already"));
  EXPECT_THAT(problem_of(mail("smtp_auth none kerberos;")), HasSubstr("\"kerberos\" is no method"));
  EXPECT_THAT(problem_of(mail("starttls yes;")), HasSubstr("starttls takes \"on\", \"off\" or \"only\""));
  EXPECT_THAT(problem_of(mail("starttls on;")), HasSubstr("no ssl_certificate"));
  EXPECT_THAT(problem_of(mail("starttls on; ssl_certificate a;")), HasSubstr("no ssl_certificate_key"));
  EXPECT_THAT(problem_of(mail("xclient yes;")), HasSubstr("it takes \"on\" or \"off\""));
  EXPECT_THAT(problem_of(mail("", " listen 26;")), HasSubstr("listen belongs into a server {}"));
  EXPECT_THAT(problem_of("mail {\nserver { listen 25; smtp_auth none; } }"),
              HasSubstr(":2: there is no auth_http"));
  EXPECT_THAT(problem_of(mail("auth_http http://;")), HasSubstr("is not an address that auth_http can have"));
}

// Whatever stands in a value, the result is TOML.
TEST(Translation, OddOctets) {
  const Config c =
      imported(mail("ssl_certificate \"a\\\"\xff\xc3\xbc\"; ssl_certificate_key k\\\\; starttls on;"
                    "error_log \"a\nb\x7f\xff\xed\xa0\x80\";"));
  EXPECT_THAT(c.listeners.at(0).certificate, ElementsAre("/n/a\"?\xc3\xbc"));
  EXPECT_THAT(c.listeners.at(0).private_key, ElementsAre("/n/k\\"));
  EXPECT_THAT(findings(mail("auth_http_header Host x; auth_http_header A \xc3\xbc; auth_http_header B b;")),
              ElementsAre(HasSubstr("auth_http_header: TO DO: a field of HTTP")));
  EXPECT_THAT(imported(mail("auth_http_header Host x; auth_http_header A \xc3\xbc; auth_http_header B b;"))
                  .services.at(0)
                  .headers,
              ElementsAre("B: b"));
}

}  // namespace
}  // namespace ringmx::nginx
