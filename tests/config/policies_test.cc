// SPDX-License-Identifier: GPL-3.0-or-later
// [[rule]] tables: what is wrong with them, the files they name, and what is said of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/explanation.h"
#include "config/notation.h"

namespace ringmx::config {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const std::string digest(64, 'a');

// A listener "mx" at a public address, and what is added to it.
std::string base(const std::string& listener = "starttls = 'optional'\n",
                 const std::string& address = "0.0.0.0:25") {
  return "[server]\nhostname = 'mx.example.com'\n[[upstream]]\nname = 'mta'\naddress = '127.0.0.1:2525'\n"
         "[[listener]]\nname = 'mx'\naddress = '" +
         address + "'\ncertificate = 'a'\nprivate_key = 'b'\n" + listener;
}
std::string rule(const std::string& lines) {
  return "[[rule]]\nname = 'one'\n" + lines + "\n";
}

std::vector<std::string> faults(const std::string& text) {
  Config config;
  std::vector<Problem> problems;
  const bool good = parse(text, "f", config, problems, true);
  EXPECT_EQ(good, problems.empty());
  std::vector<std::string> out;
  for (const Problem& p : problems) {
    const std::string whole = p.text();
    out.push_back(whole.substr(whole.find(' ') + 1));
  }
  return out;
}

struct Loaded {
  Config config;
  policy::Policies policies;
};
Loaded loaded(const std::string& text) {
  Loaded out;
  std::vector<Problem> problems;
  EXPECT_TRUE(parse(text, "f", out.config, problems, true)) << text;
  EXPECT_TRUE(load_policies(out.config, out.policies, problems));
  for (const Problem& p : problems) ADD_FAILURE() << p.text();
  return out;
}

class File {
 public:
  explicit File(const std::string& content) {
    path_ = testing::TempDir() + "ringmx-policies-XXXXXX";
    ::close(::mkstemp(path_.data()));
    std::ofstream(path_) << content;
  }
  ~File() { ::unlink(path_.c_str()); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// ---------------------------------------------------------------- what can be wrong

TEST(Rules, Networks) {
  const auto fault = [](const std::string& network) {
    return faults(base() + rule("clients = ['" + network + "']"));
  };
  for (const char* good : {"192.0.2.0/24", "192.0.2.1", "192.0.2.1/32", "0.0.0.0/0", "::/0", "2001:db8::/32",
                           "::1", "2001:DB8:0::1/128", "::ffff:192.0.2.0/120"}) {
    EXPECT_THAT(fault(good), IsEmpty()) << good;
  }
  for (const char* bad : {"", "/", "mx.example.org", "192.0.2", "192.0.2.256", "192.0.2.1 ",
                          "192.0.2.0-192.0.2.9", "[::1]", "2001:db8::g", "*"}) {
    EXPECT_THAT(fault(bad),
                ElementsAre("rule.clients: \"" + std::string(bad) +
                            "\" is not a network (names are not resolved); write \"192.0.2.0/24\", "
                            "\"2001:db8::/32\" or an address, for example"));
  }
  for (const char* bad :
       {"192.0.2.0/", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/24 ", "192.0.2.0/255.255.255.0"}) {
    EXPECT_THAT(fault(bad),
                ElementsAre("rule.clients: \"" + std::string(bad) +
                            "\" has no prefix length behind the slash; write a number from 0 to 32"));
  }
  EXPECT_THAT(
      fault("::/129"),
      ElementsAre(
          "rule.clients: \"::/129\" has no prefix length behind the slash; write a number from 0 to 128"));
  EXPECT_THAT(fault("192.0.2.1/24"), ElementsAre("rule.clients: \"192.0.2.1/24\" has bits behind its prefix; "
                                                 "write \"192.0.2.0/24\", or the address alone"));
  EXPECT_THAT(fault("2001:db8::1/32"),
              ElementsAre("rule.clients: \"2001:db8::1/32\" has bits behind its prefix; "
                          "write \"2001:db8::/32\", or the address alone"));
}

TEST(Rules, Domains) {
  for (const std::string key : {"helo", "sender_domains", "recipient_domains"}) {
    const auto fault = [&](const std::string& domain) {
      return faults(base() + rule(key + " = [" + in_quotes(domain) + "]"));
    };
    for (const char* good : {"example.org", ".example.org", "*.example.org", "localhost", "win_server.local",
                             "xn--bcher-kva.example",
                             "b\xc3\xbc"
                             "cher.example",
                             "-a.example"}) {
      EXPECT_THAT(fault(good), IsEmpty()) << good;
    }
    for (const char* bad :
         {"", ".", "*", "*.", "a..b", "a.", "..a", "a b", "a@b.example", "*a.example", "a.*.b"}) {
      EXPECT_THAT(fault(bad), ElementsAre(testing::StartsWith("rule." + key + ": \"" + bad +
                                                              "\" is not a domain; write \"example.com\", or "
                                                              "\".example.com\" for its sub-domains")))
          << bad;
    }
    EXPECT_EQ(fault("<>").size(), key == "sender_domains" ? 0U : 1U);
    EXPECT_EQ(fault(std::string(300, 'a')).size(), 1U);
  }
}

TEST(Rules, Fingerprints) {
  const auto fault = [](const std::string& text) {
    return faults(base("starttls = 'optional'\nclient_certificates = 'request'\nclient_ca_file = 'c'\n") +
                  rule("fingerprints = ['" + text + "']"));
  };
  std::string colons;
  for (int i = 0; i < 32; ++i) colons += std::string(i == 0 ? "" : ":") + "0F";
  EXPECT_THAT(fault(digest), IsEmpty());
  EXPECT_THAT(fault(colons), IsEmpty());
  for (const std::string& bad : {std::string(), digest.substr(1), digest + "a", "g" + digest.substr(1),
                                 colons.substr(1) + "0", "+" + digest.substr(1), digest.substr(24)}) {
    EXPECT_THAT(fault(bad),
                ElementsAre(testing::EndsWith("is not a SHA-256 fingerprint; write 64 hexadecimal digits, as "
                                              "openssl x509 -noout -fingerprint -sha256 prints them")))
        << bad;
  }
}

TEST(Rules, Steps) {
  EXPECT_THAT(
      faults(base() + rule("steps = 'helo'")),
      ElementsAre(
          "rule.steps: \"helo\" is not a step here; write \"auth\", \"mail\", \"rcpt\" and \"data\""));
  EXPECT_THAT(
      faults(base() + rule("steps = ['mail', 'connect', 'mail']")),
      ElementsAre(
          "rule.steps: \"connect\" is not a step here; write \"auth\", \"mail\", \"rcpt\" and \"data\"",
          "rule.steps: \"mail\" is listed twice; list it once"));
  EXPECT_THAT(faults(base() + rule("steps = []")),
              ElementsAre("rule.steps: names no step; write steps = \"mail\", for example"));
  EXPECT_THAT(faults(base() + rule("recipient_domains = ['a.example']\nsteps = ['mail', 'rcpt']")),
              ElementsAre("rule.recipient_domains: at the step \"mail\" there is no one recipient; "
                          "write steps = \"rcpt\", or remove the key"));
  EXPECT_THAT(faults(base() + rule("recipient_domains_file = 'a'\nsteps = 'data'")),
              ElementsAre("rule.recipient_domains_file: at the step \"data\" there is no one recipient; "
                          "write steps = \"rcpt\", or remove the key"));
  EXPECT_THAT(faults(base() + rule("sender_domains = ['a.example']\nsteps = 'auth'")),
              ElementsAre("rule.sender_domains: at the step \"auth\" there is no sender; "
                          "write steps = \"mail\", or remove the key"));
  EXPECT_THAT(faults(base() + rule("authenticated = true\nsteps = 'auth'")),
              ElementsAre("rule.authenticated: at the step \"auth\" nobody has said yet who it is; "
                          "write steps = \"mail\", or remove the key"));
  EXPECT_THAT(faults(base() + rule("sender_domains = ['a.example']\nsteps = ['mail', 'rcpt', 'data']")),
              IsEmpty());
}

TEST(Rules, Replies) {
  const auto fault = [](const std::string& reply, const std::string& more = "tls = 'required'") {
    return faults(base() + rule("reply = '" + reply + "'\n" + more));
  };
  EXPECT_THAT(fault("550 5.7.10 Encryption is required, see https://example.com/tls"), IsEmpty());
  EXPECT_THAT(fault("530 No"), IsEmpty());
  EXPECT_THAT(fault("450 4.7.1 Later", "tls = 'required'\notherwise = 'tempfail'"), IsEmpty());
  for (const std::string& bad :
       {std::string("No"), std::string("550"), std::string("550 "), std::string("550-5.7.1 No"),
        std::string("250 Ok"), std::string("350 Go on"), std::string("590 No"), std::string("5500 No"),
        std::string("550 \xc3\xa9"), "550 " + std::string(507, 'x')}) {
    EXPECT_THAT(
        fault(bad),
        ElementsAre(HasSubstr("is not a refusal; write a code and a text, at most 510 printable ASCII")))
        << bad;
  }
  EXPECT_THAT(faults(base() + rule("reply = \"550 a\\r\\n250 b\"\ntls = 'required'")),
              ElementsAre(HasSubstr("\"550 a\\u000D\\u000A250 b\" is not a refusal")));
  EXPECT_THAT(fault("550 " + std::string(506, 'x')), IsEmpty());
  for (const std::string code : {"421", "521"}) {
    EXPECT_THAT(fault(code + " x"),
                ElementsAre("rule.reply: \"" + code +
                            " x\" would end the session; write another code: the session goes on"));
  }
  EXPECT_THAT(fault("550 4.7.0 x"), ElementsAre("rule.reply: \"550 4.7.0 x\" says two things: its status "
                                                "code is of another class; write \"550 5.7.0 x\""));
  EXPECT_THAT(fault("450 4.7.0 x"), ElementsAre("rule.reply: \"450\" is not the code of a refusal; write a "
                                                "code of the form 5xx, or otherwise = \"tempfail\""));
  EXPECT_THAT(fault("550 x", "tls = 'required'\notherwise = 'tempfail'"),
              ElementsAre("rule.reply: \"550\" is not the code of a temporary failure; write a code of the "
                          "form 4xx, or otherwise = \"refuse\""));
  for (const std::string otherwise : {"mark", "next"}) {
    EXPECT_THAT(fault("550 x", "tls = 'required'\notherwise = '" + otherwise + "'"),
                ElementsAre("rule.reply: nobody is told this: the rule refuses nothing; write otherwise = "
                            "\"refuse\" or \"tempfail\", or remove the key"));
  }
  EXPECT_THAT(fault("550 x", ""), ElementsAre("rule.reply: nothing is required, so nobody is told this; "
                                              "write tls = \"required\", for example, or remove the key"));
  EXPECT_THAT(faults(base() + rule("otherwise = 'refuse'")),
              ElementsAre("rule.otherwise: nothing is required, so nobody can lack it; write tls = "
                          "\"required\", for example, or remove the key"));
}

TEST(Rules, NamesAndListeners) {
  EXPECT_THAT(
      faults(base() + rule("") + rule("")),
      ElementsAre("rule.name: \"one\" is already the name of the rule in line 13; write another name"));
  EXPECT_THAT(
      faults(base() + rule("listeners = ['mx', 'my']")),
      ElementsAre("rule.listeners: there is no listener \"my\"; write one of those there are: \"mx\""));
  EXPECT_THAT(faults(base("") + rule("listeners = ['mx']\ntls = 'required'")),
              ElementsAre("rule.listeners: the listener \"mx\" has no TLS, which the rule requires; "
                          "write starttls = \"optional\" there, or remove its name here"));
  EXPECT_THAT(faults(base("") + rule("listeners = ['mx']")), IsEmpty());
  EXPECT_THAT(
      faults(base() + rule("listeners = ['mx']\nclient_certificate = 'verified'")),
      ElementsAre("rule.listeners: the listener \"mx\" asks for no certificates, and the rule requires one; "
                  "write client_certificates = \"request\" there, or remove its name here"));
}

// ---------------------------------------------------------------- files

std::vector<std::string> file_faults(const std::string& key, const std::string& content) {
  const File file(content);
  Loaded out;
  std::vector<Problem> problems;
  EXPECT_TRUE(parse(base() + rule(key + " = '" + file.path() + "'"), "f", out.config, problems, true));
  const bool good = load_policies(out.config, out.policies, problems);
  EXPECT_EQ(good, problems.empty());
  std::vector<std::string> texts;
  for (const Problem& p : problems) {
    EXPECT_EQ(p.file, file.path());
    EXPECT_EQ(p.key, "rule." + key);
    texts.push_back(std::to_string(p.line) + ":" + std::to_string(p.column) + " " + p.message);
  }
  return texts;
}

TEST(RuleFiles, OneEntryInALineAndComments) {
  const std::string lines =
      "# a comment\n\n192.0.2.0/24\n  198.51.100.1\t# with a "
      "comment\r\n2001:db8::/32\n192.0.2.0/24\n203.0.113.9";
  EXPECT_THAT(file_faults("clients_file", lines), IsEmpty());
  const File file(lines);
  const Loaded l = loaded(base() + rule("clients = ['10.0.0.0/8']\nclients_file = '" + file.path() + "'"));
  const policy::Networks& networks = *l.policies.rules[0]->clients;
  for (const char* in : {"10.1.2.3", "192.0.2.77", "198.51.100.1", "2001:db8:1::", "203.0.113.9"})
    EXPECT_TRUE(networks.contains(*parse_client_address(in))) << in;
  for (const char* out : {"11.0.0.0", "198.51.100.2", "::1", "203.0.113.8"})
    EXPECT_FALSE(networks.contains(*parse_client_address(out))) << out;
}

TEST(RuleFiles, Domains) {
  const File file("Example.org\n.example.com # all below\n<>\n");
  const Loaded l = loaded(base() + rule("sender_domains_file = '" + file.path() + "'"));
  EXPECT_EQ(l.policies.rules[0]->senders->size(), 3U);
  EXPECT_TRUE(l.policies.rules[0]->senders->contains("a.EXAMPLE.com"));
  EXPECT_THAT(file_faults("recipient_domains_file", "a.example\n<>\n"),
              ElementsAre("2:1 \"<>\" is not a domain"));
}

TEST(RuleFiles, WhatIsWrongIsSaidWithItsLine) {
  EXPECT_THAT(file_faults("clients_file", "192.0.2.0/24\n   192.0.2.1/24 # x\nmx.example.org\n"),
              ElementsAre("2:4 \"192.0.2.1/24\" has bits behind its prefix",
                          "3:1 \"mx.example.org\" is not a network (names are not resolved)"));
  EXPECT_THAT(file_faults("fingerprints_file", digest + "\nabc\n"),
              ElementsAre("2:1 \"abc\" is not a SHA-256 fingerprint"));
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "a b\n";
  const auto found = file_faults("sender_domains_file", many);
  ASSERT_EQ(found.size(), 11U);
  EXPECT_EQ(found.back(), "0:0 990 more lines are wrong");
  EXPECT_EQ(file_faults("sender_domains_file", std::string("a\0b.example\n", 12)).size(), 1U);
}

TEST(RuleFiles, ThatCannotBeRead) {
  const auto fault = [](const std::string& file) {
    Loaded out;
    std::vector<Problem> problems;
    EXPECT_TRUE(parse(base() + rule("clients_file = '" + file + "'"), "f", out.config, problems, true));
    EXPECT_FALSE(load_policies(out.config, out.policies, problems));
    return problems.size() == 1 ? problems[0].text() : "";
  };
  EXPECT_EQ(fault("/nowhere/x"),
            "/nowhere/x: rule.clients_file: can't be read: No such file or directory; "
            "name a readable file with one entry in each line");
  EXPECT_EQ(fault("/"),
            "/: rule.clients_file: can't be read: Is a directory; name a readable file with one entry in "
            "each line");
  EXPECT_EQ(fault("/dev/zero"),
            "/dev/zero: rule.clients_file: can't be read: Invalid argument; name a readable file with one "
            "entry in each line");
}

// A file that is empty is a list of nobody, not the lack of a list.
TEST(RuleFiles, AnEmptyOneFitsNobody) {
  const File file("# nobody yet\n");
  const Loaded l = loaded(base() + rule("clients_file = '" + file.path() + "'"));
  ASSERT_NE(l.policies.rules[0]->clients, nullptr);
  EXPECT_FALSE(l.policies.rules[0]->clients->contains(*parse_client_address("192.0.2.1")));
}

TEST(Policies, RulesOfTheSameListShareASet) {
  const File file("192.0.2.0/24\n");
  const std::string clients = "clients_file = '" + file.path() + "'\n";
  const Loaded l =
      loaded(base() + "[[rule]]\nname = 'a'\n" + clients + "[[rule]]\nname = 'b'\n" + clients +
             "[[rule]]\nname = 'c'\nclients = ['10.0.0.0/8']\n" + clients + "[[rule]]\nname = 'd'\n");
  EXPECT_EQ(l.policies.rules[0]->clients, l.policies.rules[1]->clients);
  EXPECT_NE(l.policies.rules[0]->clients, l.policies.rules[2]->clients);
  EXPECT_EQ(l.policies.rules[3]->clients, nullptr);
}

TEST(Policies, EachListenerHasItsRules) {
  const Loaded l =
      loaded(base() + "[[listener]]\nname = 'other'\naddress = '127.0.0.1:26'\n[[rule]]\nname = 'all'\n" +
             "[[rule]]\nname = 'mx'\nlisteners = ['mx']\n[[rule]]\nname = 'none'\nlisteners = "
             "['other']\nsteps = 'rcpt'\n");
  const auto names = [&](std::size_t listener, policy::Step step) {
    std::vector<std::string> out;
    for (const policy::Rule* one : l.policies.listeners[listener].rules_at(step)) out.push_back(one->name);
    return out;
  };
  EXPECT_THAT(names(0, policy::Step::mail), ElementsAre("all", "mx"));
  EXPECT_THAT(names(1, policy::Step::mail), ElementsAre("all"));
  EXPECT_THAT(names(0, policy::Step::rcpt), IsEmpty());
  EXPECT_THAT(names(1, policy::Step::rcpt), ElementsAre("none"));
  EXPECT_EQ(l.policies.rules[1]->index, 1U);
}

// ---------------------------------------------------------------- what is said of it

std::string explained(const std::string& text) {
  const Loaded l = loaded(text);
  return explain_listeners(l.config, l.policies);
}
std::vector<std::string> warnings(const std::string& text) {
  const Loaded l = loaded(text);
  return policy_warnings(l.config, l.policies);
}

TEST(Explanation, OfEveryKindOfListener) {
  EXPECT_EQ(explained(base("")),
            "listener \"mx\" at 0.0.0.0:25:\n  There is no TLS. All is said in clear text.\n");
  EXPECT_THAT(explained(base()), HasSubstr("STARTTLS is offered. A client without TLS can deliver mail"));
  EXPECT_THAT(explained(base("starttls = 'required-for-auth'\n")),
              HasSubstr("it can't authenticate: AUTH is not offered, and gets 530"));
  EXPECT_THAT(explained(base("starttls = 'required'\n")), HasSubstr("all else gets 530"));
  EXPECT_THAT(explained(base("implicit_tls = true\n")), HasSubstr("A client without it can do nothing"));
}

// RFC 4954 section 4: what shows a password is for TLS, and who takes it without is told.
TEST(Warnings, PasswordsInClearText) {
  const std::string service = "[[service]]\nname = 's'\naddress = 'http://127.0.0.1:9000/'\nsteps = 'auth'\n";
  const auto text = [&](const std::string& auth, const std::string& listener,
                        const std::string& address = "0.0.0.0:587") {
    return base("services = ['s']\nauth = [" + auth + "]\n" + listener, address) + service;
  };
  EXPECT_THAT(explained(text("'plain', 'xoauth2'", "starttls = 'required'\n")),
              HasSubstr("Clients can authenticate, by PLAIN or XOAUTH2, where AUTH is let pass."));
  const std::string optional = "starttls = 'optional'\n";
  const auto clear = HasSubstr("takes passwords in clear text");
  EXPECT_THAT(warnings(text("'plain'", optional)), ElementsAre(clear));
  EXPECT_THAT(warnings(text("'login', 'cram-md5'", "")), ElementsAre(clear));
  EXPECT_THAT(warnings(text("'oauthbearer'", optional)), ElementsAre(clear));
  EXPECT_THAT(warnings(text("'cram-md5'", optional)), IsEmpty());
  EXPECT_THAT(warnings(text("'plain'", "starttls = 'required-for-auth'\n")), IsEmpty());
  EXPECT_THAT(warnings(text("'plain'", "starttls = 'required'\n")), IsEmpty());
  EXPECT_THAT(warnings(text("'plain'", "implicit_tls = true\n")), IsEmpty());
  EXPECT_THAT(warnings(text("'plain'", optional, "127.0.0.1:587")), IsEmpty());
  EXPECT_THAT(warnings(text("'plain'", optional) + rule("steps = 'auth'\ntls = 'required'")), IsEmpty());
  // Who only marks, or means some, takes them from all others.
  const auto with = [&](const std::string& keys, const std::string& before = "") {
    return warnings(text("'plain'", optional) + before + rule("steps = 'auth'\n" + keys));
  };
  const std::string friends = "[[rule]]\nname = 'friends'\nsteps = 'auth'\nclients = ['192.0.2.0/24']\n";
  const std::string dry = "[[rule]]\nname = 'dry'\nsteps = 'auth'\ntls = 'required'\notherwise = 'mark'\n";
  for (const char* keys :
       {"tls = 'required'\notherwise = 'mark'", "tls = 'required'\notherwise = 'next'",
        "tls = 'required'\nclients = ['192.0.2.0/24']", "tls = 'required'\nclients = ['0.0.0.0/0']",
        "tls = 'required'\nhelo = ['a.example']", ""})
    EXPECT_THAT(with(keys), ElementsAre(clear)) << keys;
  for (const char* keys :
       {"tls = 'TLSv1.3'", "tls = 'required'\notherwise = 'tempfail'",
        "tls = 'required'\nauthenticated = false", "tls = 'required'\nclients = ['0.0.0.0/0', '::/0']",
        "tls = 'required'\nclients = ['0.0.0.0/1', '128.0.0.0/1', '::/1', '8000::/1']"}) {
    EXPECT_THAT(with(keys), IsEmpty()) << keys;
    EXPECT_THAT(with(keys, friends), IsEmpty()) << keys;
    EXPECT_THAT(with(keys, dry), IsEmpty()) << keys;
    EXPECT_THAT(with(keys, "[[rule]]\nname = 'all'\nsteps = 'auth'\n"),
                ElementsAre(clear, HasSubstr("is never asked: \"all\" decides before")))
        << keys;
  }
}

TEST(Warnings, RulesAboutAuthWhereThereIsNone) {
  const std::string none = "rule \"one\" at AUTH of listener \"mx\" is never asked: there is no AUTH";
  const std::string keys = "steps = ['auth', 'mail']\nclients = ['192.0.2.0/24']\n";
  EXPECT_THAT(warnings(base() + rule(keys + "tls = 'required'")), ElementsAre(none));
  EXPECT_THAT(warnings(base("") + rule("steps = 'auth'\ntls = 'required'")), ElementsAre(none));
  const std::string other =
      "[[service]]\nname = 's'\naddress = 'http://127.0.0.1:9000/'\nsteps = 'auth'\n"
      "[[listener]]\nname = 'other'\naddress = '127.0.0.1:587'\nauth = ['plain']\nservices = ['s']\n"
      "starttls = 'optional'\ncertificate = 'a'\nprivate_key = 'b'\n";
  EXPECT_THAT(warnings(base() + other + rule(keys + "tls = 'required'")), IsEmpty());
  EXPECT_THAT(warnings(base() + other + rule(keys + "listeners = ['other', 'mx']\ntls = 'required'")),
              IsEmpty());
  EXPECT_THAT(warnings(base() + other + rule(keys + "listeners = ['mx']\ntls = 'required'")),
              ElementsAre(none));
}

constexpr std::string_view asked_services =
    "[[service]]\nname = 'script'\naddress = 'https://192.0.2.9/x?y'\nsteps = ['connect', 'auth', 'mail']\n"
    "skip_authenticated = false\ntls_name = 'a.example'\n"
    "[[service]]\nname = 'grey'\nprotocol = 'policy'\naddress = 'unix:/run/grey'\nsteps = ['mail', 'rcpt']\n"
    "on_failure = 'allow'\n"
    "[[service]]\nname = 'last'\nprotocol = 'policy'\naddress = '[::1]:10023'\nsteps = 'data'\n"
    "on_failure = 'refuse'\n"
    "[[service]]\nname = 'of-nobody'\naddress = 'http://127.0.0.1:9000/'\nsteps = 'mail'\n";

TEST(Explanation, OfServices) {
  const auto text = [](const std::string& listener) {
    const std::string all =
        explained(base("starttls = 'optional'\nservices = ['grey', 'script', 'last']\n" + listener) +
                  std::string(asked_services) + rule("tls = 'required'\nclients = ['::/0']"));
    return all.substr(all.find("otherwise.\n") + 11);
  };
  constexpr std::string_view unavailable =
      "without a valid answer the client gets \"451 4.3.0 A policy service is not available, try again "
      "later\".\n";
  const std::string script = "    \"script\" at https://192.0.2.9:443/x?y; " + std::string(unavailable);
  const std::string connect = "  Before the greeting this service is asked:\n" + script;
  const std::string mail =
      "  At MAIL the first of these rules that fits decides:\n"
      "    \"one\", if the client is in ::/0: TLS is required; without TLS it gets \"530 5.7.0 Must issue a "
      "STARTTLS command first\".\n"
      "    None fits: it is let pass.\n";
  const std::string several = "  At MAIL these services are asked, one after the other, until one refuses:\n";
  const std::string grey = "    \"grey\" at unix:/run/grey";
  const std::string last = "    \"last\" at [::1]:10023";
  const std::string allowed = "; without a valid answer it is let pass.\n";
  const std::string refused =
      "; without a valid answer the client gets \"550 5.3.0 A policy service is not available\".\n";
  const std::string at_rcpt = "  At RCPT this service is asked:\n";
  const std::string at_data = "  At DATA and BDAT this service is asked:\n";
  EXPECT_EQ(text(""), connect + mail + several + grey + allowed + script + at_rcpt + grey + allowed +
                          at_data + last + refused);
  const std::string skipped = ", but not about clients that have authenticated";
  EXPECT_THAT(text("auth = ['cram-md5']\n"),
              testing::EndsWith("where AUTH is let pass.\n" + connect + "  At AUTH this service is asked:\n" +
                                script + mail + several + grey + skipped + allowed + script + at_rcpt + grey +
                                skipped + allowed + at_data + last + skipped + refused));
  EXPECT_THAT(text("auth = ['cram-md5']\nauth_required = true\n"),
              testing::EndsWith(script + mail + "  At MAIL this service is asked:\n" + script));
}

TEST(Warnings, ServicesThatAreNeverAsked) {
  const std::string services(asked_services);
  const auto text = [&](const std::string& listener) {
    return warnings(base("starttls = 'optional'\nservices = ['grey', 'script']\n" + listener) + services);
  };
  EXPECT_THAT(text(""), IsEmpty());
  EXPECT_THAT(text("auth = ['cram-md5']\n"), IsEmpty());
  EXPECT_THAT(
      text("auth = ['cram-md5']\nauth_required = true\n"),
      ElementsAre("the service \"grey\" is never asked about clients of listener \"mx\": whoever gets to "
                  "its steps has authenticated; skip_authenticated = false asks about them, too"));
  EXPECT_THAT(
      warnings(base("services = ['s']\n") +
               "[[service]]\nname = 's'\naddress = 'http://127.0.0.1:9000/'\nsteps = 'auth'\n"),
      ElementsAre("the service \"s\" is never asked about clients of listener \"mx\": there is no AUTH"));
}

// RFC 4954 section 4 from the other side, and answers about one that another gets.
TEST(Warnings, ServicesThatAreTold) {
  const auto text = [](const std::string& service) {
    return warnings(base("starttls = 'required-for-auth'\nservices = ['s']\nauth = ['plain']\n") +
                    "[[service]]\nname = 's'\n" + service);
  };
  EXPECT_THAT(text("address = 'http://192.0.2.1/x'\nsteps = 'auth'\n"),
              ElementsAre("the service \"s\" is told the passwords of listener \"mx\" in clear text, at "
                          "http://192.0.2.1:80/x; https would not"));
  EXPECT_THAT(text("address = 'https://192.0.2.1/x'\nverify = 'none'\nsteps = 'auth'\n"), IsEmpty());
  EXPECT_THAT(text("address = 'http://127.0.0.1/x'\nsteps = 'auth'\n"), IsEmpty());
  EXPECT_THAT(text("address = 'http://unix:/x:/'\nsteps = 'auth'\n"), IsEmpty());

  const std::string local = "address = 'http://127.0.0.1/x'\nsteps = ['auth', 'mail']\n";
  EXPECT_THAT(text(local + "cache = ['client']\n"), IsEmpty());
  EXPECT_THAT(text(local + "skip_authenticated = false\n"), IsEmpty());
  EXPECT_THAT(text(local + "skip_authenticated = false\ncache = ['client', 'user']\n"), IsEmpty());
  EXPECT_THAT(text(local + "skip_authenticated = false\ncache = ['client']\n"),
              ElementsAre(HasSubstr("which lacks \"user\"")));
}

TEST(Explanation, OfEveryKindOfRule) {
  const std::string all =
      explained(base() +
                "[[rule]]\nname = 'friends'\nclients = ['10.0.0.0/8', '192.0.2.1', '192.0.2.2', '192.0.2.3', "
                "'192.0.2.4']\n"
                "[[rule]]\nname = 'strict'\nhelo = ['a.example']\nauthenticated = false\nsender_domains = "
                "['b.example']\ntls = 'TLSv1.3'\n"
                "client_certificate = 'verified'\nreply = '550 5.7.1 No'\n"
                "[[rule]]\nname = 'late'\nrecipient_domains = ['c.example']\nsteps = 'rcpt'\ntls = "
                "'required'\notherwise = 'tempfail'\n"
                "[[rule]]\nname = 'dry'\nsteps = 'data'\ntls = 'required'\notherwise = 'mark'\n");
  EXPECT_EQ(all,
            "listener \"mx\" at 0.0.0.0:25:\n"
            "  STARTTLS is offered. A client without TLS can deliver mail, unless a rule says otherwise.\n"
            "  At MAIL the first of these rules that fits decides:\n"
            "    \"friends\", if the client is in 10.0.0.0/8, 192.0.2.1, 192.0.2.2 or 2 more: it is let "
            "pass, with TLS or without.\n"
            "    \"strict\", if it says that it is a.example, it is not authenticated and the sender is in "
            "b.example: TLS 1.3 and a "
            "verified client certificate is required; without TLS it gets \"550 5.7.1 No\".\n"
            "    None fits: it is let pass.\n"
            "  At RCPT the first of these rules that fits decides:\n"
            "    \"late\", if the recipient is in c.example: TLS is required; without TLS it gets \"451 "
            "4.7.0 Must issue a STARTTLS "
            "command first\".\n"
            "    None fits: it is let pass.\n"
            "  At DATA and BDAT the first of these rules that fits decides:\n"
            "    \"dry\", always: TLS is looked for; without TLS it is counted and logged, and the next rule "
            "decides.\n"
            "    None fits: it is let pass.\n");
}

// RFC 3207 section 4: on public listeners that require TLS of everybody, and on no other.
TEST(Warnings, PublicListenersThatRequireTls) {
  const auto warned = [](const std::string& text) {
    const auto found = warnings(text);
    EXPECT_LE(found.size(), 1U);
    if (found.empty()) return false;
    EXPECT_THAT(found[0], HasSubstr("RFC 3207 section 4"));
    EXPECT_THAT(found[0], HasSubstr("MUST NOT require use of the STARTTLS extension"));
    return true;
  };
  const std::string all = rule("tls = 'required'");
  EXPECT_FALSE(warned(base()));
  EXPECT_FALSE(warned(base("")));
  EXPECT_FALSE(warned(base("starttls = 'required-for-auth'\n")));
  EXPECT_TRUE(warned(base("starttls = 'required'\n")));
  EXPECT_TRUE(warned(base("implicit_tls = true\n")));
  for (const char* address : {"0.0.0.0:25", "[::]:25", "198.51.100.7:25", "[2001:db8::25]:25"}) {
    EXPECT_TRUE(warned(base("starttls = 'required'\n", address))) << address;
    EXPECT_TRUE(warned(base("starttls = 'optional'\n", address) + all)) << address;
  }
  for (const char* address : {"0.0.0.0:587", "127.0.0.1:25", "10.1.2.3:25", "172.31.0.1:25", "192.168.1.1:25",
                              "100.64.0.1:25", "[::1]:25", "[fd00::1]:25", "[fe80::1]:25"}) {
    EXPECT_FALSE(warned(base("starttls = 'required'\n", address))) << address;
    EXPECT_FALSE(warned(base("starttls = 'optional'\n", address) + all)) << address;
  }
  for (const char* step : {"mail", "rcpt", "data"})
    EXPECT_TRUE(warned(base() + rule("tls = 'required'\nsteps = '" + std::string(step) + "'"))) << step;
  EXPECT_THAT(warnings(base() + rule("tls = 'required'\nsteps = 'auth'")),
              Not(Contains(HasSubstr("RFC 3207"))));
  EXPECT_TRUE(warned(base() + rule("tls = 'required'\notherwise = 'tempfail'")));
  EXPECT_FALSE(warned(base() + rule("tls = 'required'\notherwise = 'mark'")));
  EXPECT_FALSE(warned(base() + rule("tls = 'required'\notherwise = 'next'")));
  EXPECT_TRUE(warned(base() + rule("tls = 'required'\nauthenticated = false")));
  EXPECT_FALSE(warned(base() + rule("tls = 'required'\nauthenticated = true")));
  EXPECT_TRUE(warned(base() + rule("tls = 'required'\nclients = ['0.0.0.0/0']")));
  EXPECT_FALSE(warned(base() + rule("tls = 'required'\nclients = ['192.0.2.0/24']")));
  EXPECT_TRUE(warned(base() + rule("tls = 'required'\nclients = ['128.0.0.0/1', '0.0.0.0/1']")));
  EXPECT_TRUE(warned(base() + rule("tls = 'required'\nclients = ['::/1', '8000::/1']")));
  EXPECT_FALSE(warned(base() + rule("tls = 'required'\nclients = ['129.0.0.0/8', '0.0.0.0/1']")));
  EXPECT_FALSE(warned(base() + rule("tls = 'required'\nsender_domains = ['a.example']")));
  // Some are let pass before; all others are not.
  EXPECT_TRUE(warned(base() + "[[rule]]\nname = 'zero'\nclients = ['10.0.0.0/8']\n" + all));
}

TEST(Warnings, RulesThatNobodyCanMeetOrThatAreNeverAsked) {
  EXPECT_THAT(
      warnings(base("") + rule("tls = 'required'\nclients = ['192.0.2.1']")),
      ElementsAre(
          "rule \"one\" at MAIL requires TLS, which listener \"mx\" has not: nobody can meet it there"));
  EXPECT_THAT(warnings(base() + rule("client_certificate = 'presented'\nclients = ['192.0.2.1']")),
              ElementsAre("rule \"one\" at MAIL requires a certificate, for which listener \"mx\" does not "
                          "ask: nobody can meet it there"));
  EXPECT_THAT(warnings(base("") + rule("tls = 'required'\notherwise = 'mark'")), IsEmpty());
  EXPECT_THAT(
      warnings(base() + "[[rule]]\nname = 'all'\n" + rule("tls = 'required'\nclients = ['192.0.2.1']")),
      ElementsAre("rule \"one\" at MAIL of listener \"mx\" is never asked: \"all\" decides before"));
  EXPECT_THAT(warnings(base() + "[[rule]]\nname = 'all'\n" + rule("tls = 'required'")),
              ElementsAre("rule \"one\" at MAIL of listener \"mx\" is never asked: \"all\" decides before"));
  EXPECT_THAT(warnings(base() + "[[rule]]\nname = 'all'\nsteps = 'data'\n" +
                       rule("tls = 'required'\nclients = ['192.0.2.1']")),
              IsEmpty());
}

// ---------------------------------------------------------------- ringmx explain

Question question(const std::vector<std::string_view>& words) {
  Question out;
  const auto fault = parse_question(words, out);
  if (fault) ADD_FAILURE() << fault->message;
  return out;
}
std::string answer(const Loaded& l, const std::vector<std::string_view>& words) {
  std::string out;
  const auto fault = explain(l.config, l.policies, question(words), out);
  return fault ? fault->message + "; " + fault->mend : out;
}

TEST(Question, WhatIsMissingOrWrong) {
  const auto fault = [](const std::vector<std::string_view>& words) {
    Question out;
    const auto found = parse_question(words, out);
    return found ? found->message : "";
  };
  const std::vector<std::string_view> good = {"--client", "192.0.2.1", "--tls",  "no",
                                              "--mail",   "a@b",       "--rcpt", "c@d"};
  EXPECT_EQ(fault(good), "");
  for (std::size_t i = 0; i < good.size(); i += 2) {
    auto words = good;
    words.erase(words.begin() + static_cast<std::ptrdiff_t>(i),
                words.begin() + static_cast<std::ptrdiff_t>(i + 2));
    EXPECT_NE(fault(words), "") << good[i];
  }
  const auto with = [&](std::string_view option, std::string_view value) {
    auto words = good;
    words.insert(words.end(), {option, value});
    return fault(words);
  };
  EXPECT_EQ(with("--client", "mx.example.org"), "\"mx.example.org\" is no client's address");
  EXPECT_EQ(with("--tls", "1.1"), "\"1.1\" is no version of TLS");
  EXPECT_EQ(with("--certificate", "verified"), "there is no certificate without TLS");
  EXPECT_THAT(with("--certificate", "x"), HasSubstr("is not a SHA-256 fingerprint"));
  EXPECT_EQ(with("--nonsense", "x"), "\"--nonsense\" is no option here");
  EXPECT_EQ(fault({"--mail"}), "--mail needs a value");
}

TEST(Explain, TellsWhichRuleDecidesEachStepAndWhy) {
  const Loaded l =
      loaded(base() +
             "[[rule]]\nname = 'friends'\nclients = ['10.0.0.0/8']\n"
             "[[rule]]\nname = 'dry'\ntls = 'TLSv1.3'\notherwise = 'mark'\n"
             "[[rule]]\nname = 'partners'\nsender_domains = ['.partner.example']\ntls = 'required'\n"
             "[[rule]]\nname = 'secret'\nrecipient_domains = ['secret.example']\ntls = 'required'\n");
  EXPECT_EQ(answer(l, {"--client", "192.0.2.1", "--tls", "no", "--mail", "a@x.partner.example", "--rcpt",
                       "c@d.example"}),
            "listener \"mx\", client 192.0.2.1, no TLS\n"
            "EHLO client.example.com\n"
            "  => allowed\n"
            "MAIL FROM:<a@x.partner.example>\n"
            "  rule \"friends\": does not apply, the client is in none of its networks\n"
            "  rule \"dry\": applies, and there is no TLS; it is marked, and the search goes on\n"
            "  rule \"partners\": applies, and there is no TLS\n"
            "  => 530 5.7.0 Must issue a STARTTLS command first\n");
  EXPECT_EQ(answer(l, {"--client", "2001:db8::1", "--tls", "1.2", "--helo", "h.example", "--mail", "",
                       "--rcpt", "c@secret.example", "--rcpt", "c@d.example"}),
            "listener \"mx\", client 2001:db8::1, TLS 1.2\n"
            "EHLO h.example\n"
            "  => allowed\n"
            "MAIL FROM:<>\n"
            "  rule \"friends\": does not apply, the client is in none of its networks\n"
            "  rule \"dry\": applies, and it is not TLS 1.3; it is marked, and the search goes on\n"
            "  rule \"partners\": does not apply, the sender is in none of its domains\n"
            "  no rule decides\n"
            "  => allowed\n"
            "RCPT TO:<c@secret.example>\n"
            "  rule \"secret\": applies, and lets it pass\n"
            "  => allowed\n"
            "RCPT TO:<c@d.example>\n"
            "  rule \"secret\": does not apply, the recipient is in none of its domains\n"
            "  no rule decides\n"
            "  => allowed\n"
            "DATA\n"
            "  no rule decides\n"
            "  => allowed\n");
  const std::string refused = answer(l, {"--client", "10.0.0.1", "--tls", "no", "--mail",
                                         "a@x.partner.example", "--rcpt", "c@secret.example"});
  EXPECT_THAT(refused, HasSubstr("rule \"friends\": applies, and lets it pass\n  => allowed\nRCPT"));
  EXPECT_THAT(refused, Not(HasSubstr("DATA")));  // no recipient was accepted
}

TEST(Explain, WhyARuleMayConcernAnAddressOfAnotherDomain) {
  const Loaded l =
      loaded(base() +
             "[[rule]]\nname = 'local'\nrecipient_domains = ['loc.example']\n"
             "[[rule]]\nname = 'dry'\nrecipient_domains = ['conf.example']\ntls = 'required'\n"
             "otherwise = 'mark'\n"
             "[[rule]]\nname = 'secret'\nrecipient_domains = ['conf.example']\ntls = 'required'\n"
             "[[rule]]\nname = 'own'\nsender_domains = ['own.example']\ntls = 'required'\n");
  const auto told = [&](std::string_view tls, std::string_view sender, std::string_view recipient) {
    return answer(l, {"--client", "192.0.2.1", "--tls", tls, "--mail", sender, "--rcpt", recipient});
  };
  const std::string hidden = "v%conf.example@loc.example may be read as another domain's";
  EXPECT_THAT(told("no", "a@b.example", "v%conf.example@loc.example"),
              HasSubstr("  rule \"local\": may apply, and would let it pass; but " + hidden +
                        ", and the search goes on\n"
                        "  rule \"dry\": may apply, since " +
                        hidden +
                        ", and there is no TLS; it is marked, and the search goes on\n"
                        "  rule \"secret\": may apply, since " +
                        hidden + ", and there is no TLS\n  => 530"));
  EXPECT_THAT(told("1.3", "a@b.example", "v%conf.example@loc.example"),
              HasSubstr("  rule \"secret\": may apply, and would let it pass; but " + hidden +
                        ", and the search goes on\n  no rule decides\n  => allowed\n"));
  EXPECT_THAT(
      told("no", "boss", "v@loc.example"),
      HasSubstr("  rule \"own\": may apply, since boss may be read as another domain's, and there is"));
  EXPECT_THAT(told("no", "a@b.example", "v@con\xef\xbd\x86.example"),
              HasSubstr("MAIL FROM:<a@b.example> SMTPUTF8\n"));
  EXPECT_THAT(told("no", "a@b.example", "v@con\xef\xbd\x86.example"),
              HasSubstr("v@con\xef\xbd\x86.example may be read as another domain's"));
  EXPECT_THAT(told("no", "a@b.example", "v@m\xc3\xbcnchen.example"),
              HasSubstr("rule \"secret\": does not apply"));
}

TEST(Explain, SessionsThatThereAreNot) {
  const auto told = [](const std::string& listener, const std::vector<std::string_view>& tls) {
    std::vector<std::string_view> words = {"--client", "192.0.2.1", "--mail", "a@b", "--rcpt", "c@d"};
    words.insert(words.end(), tls.begin(), tls.end());
    const std::string out = answer(loaded(base("starttls = 'optional'\n" + listener)), words);
    return out.starts_with("listener") ? "" : out;
  };
  const std::string tls13 = "minimum_tls_version = 'TLSv1.3'\n";
  EXPECT_EQ(told(tls13, {"--tls", "1.2"}), "there is no TLS 1.2 at \"mx\"; write --tls 1.3 or --tls no");
  EXPECT_EQ(told(tls13, {"--tls", "1.3"}), "");
  EXPECT_EQ(told(tls13, {"--tls", "no"}), "");
  EXPECT_EQ(told("", {"--tls", "1.2"}), "");
  EXPECT_EQ(told("", {"--tls", "1.2", "--certificate", "verified"}),
            "nobody is asked for a certificate at \"mx\"; leave --certificate out");
  const std::string ca = "client_ca_file = 'c'\nclient_certificates = ";
  for (const std::vector<std::string_view>& certificate :
       {std::vector<std::string_view>{}, {"--certificate", "verified"}, {"--certificate", "unverified"}}) {
    std::vector<std::string_view> words = {"--tls", "1.3"};
    words.insert(words.end(), certificate.begin(), certificate.end());
    EXPECT_EQ(told(ca + "'request'\n", words), "");
    const bool possible = !certificate.empty() && certificate.back() == "verified";
    EXPECT_EQ(told(ca + "'require'\n", words),
              possible
                  ? ""
                  : "there is no TLS without a verified certificate at \"mx\"; add --certificate verified");
  }
  EXPECT_EQ(told(ca + "'require'\n", {"--tls", "no"}), "");
}

TEST(Explain, WhatTheListenerBars) {
  const Loaded l = loaded(base("starttls = 'required-for-auth'\nauth = ['plain']\nservices = ['s']\n") +
                          "[[service]]\nname = 's'\naddress = 'http://127.0.0.1:9000/'\nsteps = 'auth'\n"
                          "[[listener]]\nname = 'all'\naddress = '127.0.0.1:26'\n"
                          "certificate = 'a'\nprivate_key = 'b'\nstarttls = 'required'\n"
                          "[[listener]]\nname = 'smtps'\naddress = '127.0.0.1:465'\ncertificate = "
                          "'a'\nprivate_key = 'b'\nimplicit_tls = true\n"
                          "[[listener]]\nname = 'plain'\naddress = '127.0.0.1:27'\n" +
                          rule("steps = 'auth'\ntls = 'TLSv1.3'\nlisteners = ['mx']"));
  const std::vector<std::string_view> rest = {"--client",    "192.0.2.1", "--mail",
                                              "a@b.example", "--rcpt",    "c@d.example"};
  const auto with = [&](std::vector<std::string_view> words) {
    words.insert(words.end(), rest.begin(), rest.end());
    return answer(l, words);
  };
  EXPECT_THAT(with({"--listener", "mx", "--tls", "no", "--user", "u"}),
              testing::EndsWith("AUTH\n  starttls = \"required-for-auth\": there is no TLS\n  => 530 5.7.0 "
                                "Must issue a STARTTLS command first\n"));
  EXPECT_THAT(
      with({"--listener", "mx", "--tls", "1.2", "--user", "u"}),
      testing::EndsWith(
          "AUTH\n  rule \"one\": applies, and it is not TLS 1.3\n  => 550 5.7.10 TLS 1.3 is required\n"));
  EXPECT_THAT(with({"--listener", "mx", "--tls", "1.3", "--user", "u"}),
              testing::EndsWith("DATA\n  no rule decides\n  => allowed\n"));
  EXPECT_THAT(with({"--listener", "mx", "--tls", "no"}),
              testing::EndsWith("DATA\n  no rule decides\n  => allowed\n"));
  EXPECT_THAT(with({"--listener", "all", "--tls", "no"}),
              testing::EndsWith("MAIL FROM:<a@b.example>\n  starttls = \"required\": there is no TLS\n  => "
                                "530 5.7.0 Must issue a STARTTLS command first\n"));
  EXPECT_THAT(with({"--listener", "smtps", "--tls", "no"}), HasSubstr("TLS begins with the connection"));
  EXPECT_THAT(with({"--listener", "plain", "--tls", "1.3"}), HasSubstr("there is no TLS at \"plain\""));
  EXPECT_THAT(with({"--listener", "none", "--tls", "no"}), HasSubstr("there is no listener \"none\""));
  EXPECT_THAT(with({"--listener", "plain", "--tls", "no", "--user", "u"}),
              HasSubstr("nobody can authenticate at \"plain\""));
  EXPECT_THAT(with({"--tls", "no"}), HasSubstr("there are several listeners"));
  EXPECT_THAT(
      answer(l, {"--listener", "mx", "--tls", "no", "--client", "192.0.2.1", "--mail", "a b", "--rcpt",
                 "c@d.example"}),
      testing::EndsWith(
          "MAIL FROM:<a b>\n  that is no command that could be done\n  => 501 5.1.7 Bad sender address\n"));
}

TEST(Explain, WhoMustAuthenticate) {
  const Loaded l = loaded(base("starttls = 'required-for-auth'\nauth = ['plain']\nauth_required = true\n"
                               "services = ['script']\n") +
                          std::string(asked_services));
  const auto with = [&](std::vector<std::string_view> words) {
    words.insert(words.end(), {"--client", "192.0.2.1", "--mail", "a@b.example", "--rcpt", "c@d.example"});
    return answer(l, words);
  };
  EXPECT_THAT(with({"--tls", "1.3"}),
              testing::EndsWith("MAIL FROM:<a@b.example>\n  auth_required = true: the client has not "
                                "authenticated\n  => 530 5.7.0 Authentication required\n"));
  EXPECT_THAT(
      with({"--tls", "no", "--user", "u"}),
      testing::EndsWith("AUTH\n  starttls = \"required-for-auth\": there is no TLS\n  => 530 5.7.0 Must "
                        "issue a STARTTLS command first\n"));
  EXPECT_THAT(with({"--tls", "1.3", "--user", "u"}),
              testing::EndsWith("RCPT TO:<c@d.example>\n  no rule decides\n  => allowed\n"
                                "DATA\n  no rule decides\n  => allowed\n"));
}

TEST(Explain, TellsWhichServicesAreAsked) {
  const Loaded l =
      loaded(base("starttls = 'optional'\nauth = ['cram-md5']\nservices = ['grey', 'script', 'last']\n") +
             std::string(asked_services) + rule("recipient_domains = ['secret.example']\ntls = 'required'"));
  const auto with = [&](std::vector<std::string_view> words) {
    words.insert(words.end(), {"--client", "192.0.2.1", "--tls", "no", "--mail", "a@b.example", "--rcpt",
                               "c@secret.example", "--rcpt", "c@d.example"});
    const std::string all = answer(l, words);
    return all.substr(all.find('\n') + 1);
  };
  const std::string script =
      "  service \"script\": is asked at https://192.0.2.9:443/x?y; without a valid answer the client gets "
      "\"451 4.3.0 A policy service is not available, try again later\"\n";
  const std::string grey =
      "  service \"grey\": is asked at unix:/run/grey; without a valid answer it is let pass\n";
  const std::string last =
      "  service \"last\": is asked at [::1]:10023; without a valid answer the client gets \"550 5.3.0 A "
      "policy "
      "service is not available\"\n";
  const auto skipped = [](const std::string& name) {
    return "  service \"" + name + "\": is not asked, since the client has authenticated\n";
  };
  const std::string unless = "  => allowed, unless a service refuses\n";
  const std::string none = "  no rule decides\n";
  const std::string secret =
      "RCPT TO:<c@secret.example>\n  rule \"one\": applies, and there is no TLS\n"
      "  => 530 5.7.0 Must issue a STARTTLS command first\n";
  const std::string rcpt =
      "RCPT TO:<c@d.example>\n  rule \"one\": does not apply, the recipient is in none of its domains\n" +
      none;
  const std::string begin = "connect\n" + script + unless + "EHLO client.example.com\n  => allowed\n";
  EXPECT_EQ(with({}), begin + "MAIL FROM:<a@b.example>\n" + none + grey + script + unless + secret + rcpt +
                          grey + unless + "DATA\n" + none + last + unless);
  EXPECT_EQ(with({"--user", "u"}), begin + "AUTH\n" + none + script + unless + "MAIL FROM:<a@b.example>\n" +
                                       none + skipped("grey") + script + unless + secret + rcpt +
                                       skipped("grey") + "  => allowed\nDATA\n" + none + skipped("last") +
                                       "  => allowed\n");
}

TEST(Explain, Certificates) {
  const Loaded l =
      loaded(base("starttls = 'optional'\nclient_certificates = 'request'\nclient_ca_file = 'c'\n") +
             rule("client_certificate = 'verified'\nfingerprints = ['" + digest + "']"));
  const auto mail = [&](std::vector<std::string_view> words) {
    words.insert(words.end(), {"--client", "192.0.2.1", "--mail", "a@b.example", "--rcpt", "c@d.example"});
    const std::string all = answer(l, words);
    const std::size_t begin = all.find("  rule");
    return all.substr(begin, all.find('\n', begin) - begin);
  };
  EXPECT_EQ(mail({"--tls", "1.3"}), "  rule \"one\": applies, and there is no client certificate");
  EXPECT_EQ(mail({"--tls", "1.3", "--certificate", digest}),
            "  rule \"one\": applies, and the client certificate is not verified");
  EXPECT_EQ(mail({"--tls", "1.3", "--certificate", "verified"}),
            "  rule \"one\": applies, and the client certificate is none of those expected");
  EXPECT_EQ(mail({"--tls", "1.3", "--certificate", "verified", "--certificate", digest}),
            "  rule \"one\": applies, and lets it pass");
}

}  // namespace
}  // namespace ringmx::config
