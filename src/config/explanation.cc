// SPDX-License-Identifier: GPL-3.0-or-later
#include "config/explanation.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "policy/answer.h"
#include "policy/explain.h"
#include "ringmx/smtp/session.h"

namespace ringmx::config {
namespace {

using policy::ClientCertificate;
using policy::Encryption;
using policy::Lack;
using policy::Mismatch;
using policy::Otherwise;
using policy::Step;

// ---------------------------------------------------------------- listeners

// Reached by anybody on the Internet, as an MX is.
bool is_public(const Listener& listener) {
  if (listener.address.port != 25) return false;
  static const policy::Networks special = [] {
    std::vector<policy::Network> networks;
    // Loopback, private use, shared, link-local: RFC 6890.
    for (const std::string_view text :
         {"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
          "::1/128", "fc00::/7", "fe80::/10"}) {
      static_cast<void>(parse_network(text, networks.emplace_back()));
    }
    return policy::Networks(networks);
  }();
  const auto address = parse_client_address(listener.address.host);
  return address && !special.contains(*address);
}

std::string reply_text(std::string_view wire) {
  return std::string(wire.substr(0, wire.find('\r')));
}

// A list as it is written, or its beginning, and its file.
std::string listed(const std::vector<std::string>& list, const std::string& file) {
  constexpr std::size_t shown = 3;
  std::vector<std::string> words(list.begin(),
                                 list.begin() + static_cast<std::ptrdiff_t>(std::min(list.size(), shown)));
  if (list.size() > shown) words.push_back(std::to_string(list.size() - shown) + " more");
  if (!file.empty()) words.push_back("those of " + file);
  return enumerate(words, "or");
}

// "if the client is in 192.0.2.0/24 and the sender in example.org"
std::string conditions(const Rule& rule) {
  std::vector<std::string> parts;
  if (!rule.clients.empty() || !rule.clients_file.empty())
    parts.push_back("the client is in " + listed(rule.clients, rule.clients_file));
  if (!rule.helo.empty()) parts.push_back("it says that it is " + listed(rule.helo, ""));
  if (rule.authenticated)
    parts.emplace_back(*rule.authenticated ? "it is authenticated" : "it is not authenticated");
  if (rule.names_senders())
    parts.push_back("the sender is in " + listed(rule.sender_domains, rule.sender_domains_file));
  if (rule.names_recipients())
    parts.push_back("the recipient is in " + listed(rule.recipient_domains, rule.recipient_domains_file));
  return parts.empty() ? "always" : "if " + enumerate(parts, "and");
}

std::string requirements(const Rule& rule) {
  std::vector<std::string> parts;
  if (rule.tls == Encryption::tls13) parts.emplace_back("TLS 1.3");
  if (rule.tls == Encryption::required || parts.empty()) parts.emplace_back("TLS");
  if (rule.client_certificate == ClientCertificate::presented) parts.emplace_back("a client certificate");
  if (rule.client_certificate == ClientCertificate::verified)
    parts.emplace_back("a verified client certificate");
  if (rule.names_fingerprints()) parts.emplace_back("a client certificate of those it lists");
  return enumerate(parts, "and");
}

// What a rule says to a client without TLS that it concerns.
std::string without_tls(const policy::Rule& rule) {
  switch (rule.otherwise) {
    case Otherwise::refuse:
    case Otherwise::tempfail:
      return "it gets " + in_quotes(reply_text(rule.reply_to(Lack::tls)));
    case Otherwise::mark:
      return "it is counted and logged, and the next rule decides";
    case Otherwise::next:
      return "the next rule decides";
  }
  return {};
}

std::string command_of(Step step) {
  switch (step) {
    case Step::connect:
      return "connect";
    case Step::auth:
      return "AUTH";
    case Step::mail:
      return "MAIL";
    case Step::rcpt:
      return "RCPT";
    case Step::data:
      return "DATA and BDAT";
  }
  return {};
}

// Those that can be asked at `step`, in their order.
std::vector<const Service*> services_at(const Config& config, const Listener& listener, Step step) {
  std::vector<const Service*> out;
  if (step == Step::auth && listener.auth.empty()) return out;
  for (const std::string& name : listener.services) {
    for (const Service& service : config.services) {
      // Whoever gets so far has authenticated.
      const bool skips = step > Step::auth && service.skip_authenticated && listener.auth_required;
      if (service.name == name && service.steps.has(step) && !skips) out.push_back(&service);
    }
  }
  return out;
}

std::string without_answer(const Service& service) {
  switch (service.on_failure) {
    case Service::OnFailure::tempfail:
      return "the client gets " + in_quotes(reply_text(policy::replies::service_unavailable));
    case Service::OnFailure::refuse:
      return "the client gets " + in_quotes(reply_text(policy::replies::service_unavailable_for_good));
    case Service::OnFailure::allow:
      return "it is let pass";
  }
  return {};
}

std::string list_services(const Config& config, const Listener& listener, Step step) {
  const std::vector<const Service*> services = services_at(config, listener, step);
  if (services.empty()) return {};
  std::string out = step == Step::connect ? "  Before the greeting " : "  At " + command_of(step) + " ";
  out += services.size() == 1 ? "this service is asked:\n"
                              : "these services are asked, one after the other, until one refuses:\n";
  for (const Service* service : services) {
    out += "    " + in_quotes(service->name) + " at " + service->address.text();
    const bool skips = step > Step::auth && service->skip_authenticated && !listener.auth.empty();
    if (skips) out += ", but not about clients that have authenticated";
    out += "; without a valid answer " + without_answer(*service) + ".\n";
  }
  return out;
}

// Whether a client without TLS can say AUTH. Rules for some clients are taken for what they say: those whom
// they let pass are meant to, and all others are for the next rule.
bool lets_auth_pass_in_clear_text(const policy::Policy& policy) {
  for (const policy::Rule* rule : policy.rules_at(Step::auth)) {
    // Nobody is authenticated yet.
    policy::Rule at_auth = *rule;
    if (at_auth.authenticated == false) at_auth.authenticated.reset();
    if (!at_auth.unconditional() || rule->otherwise == Otherwise::mark) continue;
    if (!rule->requires_tls()) return true;
    if (!rule->reply_to(Lack::tls).empty()) return false;
  }
  return true;
}

// RFC 4954 section 4: mechanisms that show a password or a token to whoever listens.
bool takes_passwords_in_clear_text(const Listener& listener, const policy::Policy& policy) {
  using smtp::Mechanism;
  smtp::MechanismSet telling = listener.auth;
  for (const Mechanism m : {Mechanism::cram_md5, Mechanism::external}) telling.remove(m);
  const bool optional =
      listener.starttls == smtp::StartTls::off || listener.starttls == smtp::StartTls::optional;
  return !telling.empty() && optional && !listener.implicit_tls && !listener.address.local() &&
         lets_auth_pass_in_clear_text(policy);
}

// One of the listeners that the rule is for has AUTH.
bool has_auth_somewhere(const Config& config, const Rule& rule) {
  const auto concerned = [&](const Listener& l) {
    return rule.listeners.empty() ||
           std::find(rule.listeners.begin(), rule.listeners.end(), l.name) != rule.listeners.end();
  };
  return std::any_of(config.listeners.begin(), config.listeners.end(),
                     [&](const Listener& l) { return concerned(l) && !l.auth.empty(); });
}

// The first rule that keeps all clients without TLS from delivering mail to `listener`.
const policy::Rule* bars_everybody(const policy::Policy& policy) {
  for (const Step step : {Step::mail, Step::rcpt, Step::data}) {
    for (const policy::Rule* rule : policy.rules_at(step)) {
      if (rule->concerns_all_senders() &&
          !rule->reply_to(rule->requires_tls() ? Lack::tls : Lack::nothing).empty())
        return rule;
      if (rule->unconditional() && !rule->requires_tls()) break;  // lets all pass
    }
  }
  return nullptr;
}

}  // namespace

std::string explain_listeners(const Config& config, const policy::Policies& policies) {
  std::string out;
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    const Listener& listener = config.listeners[i];
    const policy::Policy& policy = policies.listeners[i];
    out += "listener " + in_quotes(listener.name) + " at " + listener.address.text() + ":\n  ";
    if (listener.implicit_tls) {
      out += "TLS begins with the connection. A client without it can do nothing.\n";
    } else {
      switch (listener.starttls) {
        case smtp::StartTls::off:
          out += "There is no TLS. All is said in clear text.\n";
          break;
        case smtp::StartTls::optional:
          out +=
              "STARTTLS is offered. A client without TLS can deliver mail, unless a rule says otherwise.\n";
          break;
        case smtp::StartTls::required_for_auth:
          out +=
              "STARTTLS is offered. A client without TLS can deliver mail, unless a rule says otherwise;\n"
              "  it can't authenticate: AUTH is not offered, and gets 530.\n";
          break;
        case smtp::StartTls::required:
          out +=
              "STARTTLS is required. A client without TLS can say HELO, EHLO, STARTTLS, NOOP, RSET, HELP "
              "and\n"
              "  QUIT; it can't authenticate or deliver mail: all else gets 530.\n";
          break;
      }
    }
    if (!listener.auth.empty()) {
      std::vector<std::string> names;
      for (std::size_t m = 0; m < smtp::mechanism_count; ++m) {
        const auto mechanism = static_cast<smtp::Mechanism>(m);
        if (listener.auth.has(mechanism)) names.emplace_back(smtp::mechanism_name(mechanism));
      }
      out += "  Clients can authenticate, by " + enumerate(names, "or") + ", where AUTH is let pass";
      out += listener.auth_required ? "; MAIL gets 530 from all that have not.\n" : ".\n";
    }
    for (std::size_t s = 0; s < policy::step_count; ++s) {
      const auto step = static_cast<Step>(s);
      if (!policy.asks(step)) {
        out += list_services(config, listener, step);
        continue;
      }
      out += "  At " + command_of(step) + " the first of these rules that fits decides:\n";
      for (const policy::Rule* rule : policy.rules_at(step)) {
        const Rule& written = config.rules[rule->index];
        out += "    " + in_quotes(rule->name) + ", " + conditions(written) + ": ";
        if (rule->requires_tls()) {
          out += requirements(written) +
                 (rule->otherwise == Otherwise::mark ? " is looked for" : " is required") + "; without TLS " +
                 without_tls(*rule) + ".\n";
        } else {
          out += "it is let pass, with TLS or without.\n";
        }
      }
      out += "    None fits: it is let pass.\n" + list_services(config, listener, step);
    }
  }
  return out;
}

std::vector<std::string> policy_warnings(const Config& config, const policy::Policies& policies) {
  std::vector<std::string> out;
  for (const Service& service : config.services) {
    const auto& fields = service.cache;
    const bool by_user = std::find(fields.begin(), fields.end(), "user") != fields.end();
    if (fields.empty() || service.skip_authenticated || by_user) continue;
    out.push_back("the service " + in_quotes(service.name) +
                  " is asked about clients that have authenticated, and others get the same answers from its "
                  R"(cache, which lacks "user")");
  }
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    const Listener& listener = config.listeners[i];
    const policy::Policy& policy = policies.listeners[i];
    const std::string name = "listener " + in_quotes(listener.name);
    const policy::Rule* const rule = bars_everybody(policy);
    const bool by_key = listener.implicit_tls || listener.starttls == smtp::StartTls::required;
    if (is_public(listener) && (by_key || rule != nullptr)) {
      const std::string by = listener.implicit_tls ? "implicit_tls"
                             : by_key              ? R"(starttls = "required")"
                                                   : "the rule " + in_quotes(rule->name);
      out.push_back(
          name + " is public (" + listener.address.text() + "), and " + by +
          " requires TLS of everybody who delivers mail. RFC 3207 section 4: \"A publicly-referenced SMTP "
          "server MUST NOT require use of the STARTTLS extension in order to deliver mail locally.\" "
          "Mail from servers without TLS does not arrive; " +
          (by_key ? R"(starttls = "optional" and rules for those who have it would do)"
                  : R"(otherwise = "mark" tells who they are)"));
    }
    if (takes_passwords_in_clear_text(listener, policy)) {
      out.push_back(name + " takes passwords in clear text; " +
                    (listener.uses_tls() ? R"(starttls = "required-for-auth" would not)"
                                         : "it has no TLS, which could be required for AUTH"));
    }
    for (const Service* service : services_at(config, listener, Step::auth)) {
      if (!service->uses_tls() && !service->address.endpoint.local()) {
        out.push_back("the service " + in_quotes(service->name) + " is told the passwords of " + name +
                      " in clear text, at " + service->address.text() + "; https would not");
      }
    }
    for (const std::string& service : listener.services) {
      const auto asked_at = [&](std::size_t step) {
        const auto asked = services_at(config, listener, static_cast<Step>(step));
        return std::any_of(asked.begin(), asked.end(), [&](const Service* s) { return s->name == service; });
      };
      bool asked = false;
      for (std::size_t s = 0; s < policy::step_count; ++s) asked = asked || asked_at(s);
      if (asked) continue;
      out.push_back("the service " + in_quotes(service) + " is never asked about clients of " + name + ": " +
                    (listener.auth_required
                         ? "whoever gets to its steps has authenticated; skip_authenticated = false asks "
                           "about them, too"
                         : "there is no AUTH"));
    }
    for (std::size_t s = 0; s < policy::step_count; ++s) {
      if (static_cast<Step>(s) == Step::auth && listener.auth.empty()) {
        for (const policy::Rule* one : policy.rules_at(Step::auth)) {
          if (!has_auth_somewhere(config, config.rules[one->index]))
            out.push_back("rule " + in_quotes(one->name) + " at AUTH of " + name +
                          " is never asked: there is no AUTH");
        }
        continue;
      }
      const policy::Rule* before = nullptr;
      for (const policy::Rule* one : policy.rules_at(static_cast<Step>(s))) {
        const std::string which = "rule " + in_quotes(one->name) + " at " + command_of(static_cast<Step>(s));
        if (before != nullptr) {
          out.push_back(which + " of " + name + " is never asked: " + in_quotes(before->name) +
                        " decides before");
        } else if (one->requires_tls() && !one->reply_to(Lack::tls).empty()) {
          if (!listener.uses_tls()) {
            out.push_back(which + " requires TLS, which " + name + " has not: nobody can meet it there");
          } else if (config.rules[one->index].requires_certificate() &&
                     listener.client_certificates == tls::ClientCertificates::none) {
            out.push_back(which + " requires a certificate, for which " + name +
                          " does not ask: nobody can meet it there");
          }
        }
        const bool decides_always =
            one->unconditional() && one->otherwise != Otherwise::mark && one->otherwise != Otherwise::next;
        if (before == nullptr && decides_always) before = one;
      }
    }
  }
  return out;
}

// ---------------------------------------------------------------- a session

const std::string_view question_usage =
    "--listener NAME --client ADDRESS --tls no|1.2|1.3 [--certificate verified|unverified|SHA256] [--helo "
    "NAME]\n"
    "                      [--user NAME] --mail ADDRESS --rcpt ADDRESS ...";

std::optional<Fault> parse_question(std::span<const std::string_view> words, Question& out) {
  bool has_client = false;
  bool has_tls = false;
  bool has_mail = false;
  policy::Certificate certificate;
  for (std::size_t i = 0; i < words.size(); i += 2) {
    const std::string_view option = words[i];
    if (i + 1 == words.size()) return Fault{std::string(option) + " needs a value", "write one behind it"};
    const std::string_view value = words[i + 1];
    if (option == "--listener") {
      out.listener = value;
    } else if (option == "--client") {
      const auto address = parse_client_address(value);
      if (!address)
        return Fault{in_quotes(value) + " is no client's address", "write --client 192.0.2.1, for example"};
      out.client = *address;
      has_client = true;
    } else if (option == "--tls") {
      if (value != "no" && value != "1.2" && value != "1.3")
        return Fault{in_quotes(value) + " is no version of TLS", "write --tls no, --tls 1.2 or --tls 1.3"};
      out.tls = value == "no" ? 0 : value == "1.2" ? 0x0303 : 0x0304;
      has_tls = true;
    } else if (option == "--certificate") {
      if (value == "verified" || value == "unverified") {
        certificate.verified = value == "verified";
      } else if (auto fault = parse_fingerprint(value, certificate.sha256)) {
        return fault;
      }
      out.certificate = certificate;
    } else if (option == "--helo") {
      out.helo = value;
    } else if (option == "--user") {
      out.user = value;
    } else if (option == "--mail") {
      out.sender = value;
      has_mail = true;
    } else if (option == "--rcpt") {
      out.recipients.emplace_back(value);
    } else {
      return Fault{in_quotes(option) + " is no option here", "write " + std::string(question_usage)};
    }
  }
  if (!has_client) return Fault{"there is no client", "write --client 192.0.2.1, for example"};
  if (!has_tls) return Fault{"it is not said whether there is TLS", "write --tls no, --tls 1.2 or --tls 1.3"};
  if (!has_mail)
    return Fault{"there is no sender", "write --mail a@example.org, or --mail \"\" for the null sender"};
  if (out.recipients.empty())
    return Fault{"there is no recipient", "write --rcpt b@example.com, for example"};
  if (out.certificate && out.tls == 0)
    return Fault{"there is no certificate without TLS", "write --tls 1.3, or leave --certificate out"};
  return std::nullopt;
}

namespace {

// Says the commands to a session like those that are served, and asks the policy as they do. Which services
// are asked then it says, and takes it that they let the session pass.
class Walk {
 public:
  Walk(const Config& config, const Listener& listener, const policy::Policy& policy, const Question& question,
       std::string& out)
      : config_(config),
        listener_(listener),
        policy_(policy),
        rules_(session_rules(listener)),
        session_(rules_),
        out_(out) {
    facts_.listener = listener.name;
    facts_.client = question.client;
    facts_.tls.version = question.tls;
    if (question.certificate) facts_.tls.certificate = &*question.certificate;
    facts_.helo = question.helo;
    if (question.tls != 0) session_.tls_started();
  }

  void connect() {
    if (services_at(config_, listener_, Step::connect).empty()) return;
    out_ += "connect\n";
    ask_services(Step::connect);
    end({});
  }

  void authenticated(const std::string& user) {
    smtp::Decision exchange;
    exchange.verb = smtp::Verb::auth;
    exchange.action = smtp::Action::auth;
    session_.apply(exchange);
    session_.authenticated();
    facts_.user = user;
  }

  // True: allowed. `step`: none for a command that no rule is asked about.
  bool say(const std::string& line, std::optional<Step> step) {
    out_ += line + "\n";
    const smtp::Decision decision = session_.decide({.text = line}, listener_.extensions);
    // Of AUTH, whose mechanism is left open, all that the session can say is whether TLS has to come first.
    const bool refused = step == Step::auth
                             ? decision.reply.starts_with("530")
                             : decision.reply.starts_with('4') || decision.reply.starts_with('5');
    if (refused) {
      out_ += "  " + why_not(decision.reply) + "\n";
      return end(decision.reply);
    }
    if (decision.action == smtp::Action::mail) facts_.sender = decision.mail.reverse_path;
    facts_.recipient = decision.action == smtp::Action::rcpt ? decision.rcpt.forward_path : smtp::Path{};
    std::string_view reply;
    if (step) reply = ask(*step);
    if (step && reply.empty()) ask_services(*step);
    if (reply.empty()) {
      session_.apply(decision);
      if (decision.action == smtp::Action::rcpt) session_.recipient_replied(true);
    }
    return end(reply);
  }

 private:
  [[nodiscard]] std::string why_not(std::string_view reply) const {
    if (reply == smtp::replies::authentication_required)
      return "auth_required = true: the client has not authenticated";
    if (!reply.starts_with("530")) return "that is no command that could be done";
    const bool of_all = listener_.starttls == smtp::StartTls::required;
    return "starttls = " + in_quotes(of_all ? "required" : "required-for-auth") + ": there is no TLS";
  }

  // Why it is not known whether a rule applies.
  [[nodiscard]] std::string doubt(const policy::Rule& rule) const {
    std::vector<std::string> addresses;
    if (rule.senders && facts_.sender.ambiguous) addresses.emplace_back(facts_.sender.mailbox);
    if (rule.recipients && facts_.recipient.ambiguous) addresses.emplace_back(facts_.recipient.mailbox);
    return enumerate(addresses, "and") + " may be read as another domain's";
  }

  std::string_view ask(Step step) {
    for (const policy::Finding& finding : policy::findings(policy_, step, facts_)) {
      out_ += "  rule " + in_quotes(finding.rule->name) + ": ";
      if (finding.mismatch != Mismatch::none) {
        out_ += "does not apply, " + std::string(policy::text_of(finding.mismatch));
      } else if (finding.lack == Lack::nothing) {
        out_ += finding.decides ? "applies, and lets it pass"
                : finding.rule->otherwise == Otherwise::mark
                    ? "applies, and would let it pass; it only marks"
                    : "may apply, and would let it pass; but " + doubt(*finding.rule) +
                          ", and the search goes on";
      } else {
        out_ += (finding.in_doubt ? "may apply, since " + doubt(*finding.rule) : std::string("applies")) +
                ", and " + std::string(policy::text_of(finding.lack));
        if (finding.rule->otherwise == Otherwise::mark) out_ += "; it is marked, and the search goes on";
        if (finding.rule->otherwise == Otherwise::next) out_ += "; the search goes on";
      }
      out_ += '\n';
    }
    const policy::Verdict verdict = policy_.decide(step, facts_);
    if (verdict.rule == nullptr) out_ += "  no rule decides\n";
    return verdict.reply;
  }

  void ask_services(Step step) {
    for (const Service* service : services_at(config_, listener_, step)) {
      out_ += "  service " + in_quotes(service->name) + ": ";
      if (service->skip_authenticated && !facts_.user.empty()) {
        out_ += "is not asked, since the client has authenticated\n";
        continue;
      }
      asked_ = true;
      out_ += "is asked at " + service->address.text() + "; without a valid answer " +
              without_answer(*service) + "\n";
    }
  }

  bool end(std::string_view reply) {
    const std::string allowed =
        std::exchange(asked_, false) ? "allowed, unless a service refuses" : "allowed";
    out_ += "  => " + (reply.empty() ? allowed : reply_text(reply)) + "\n";
    return reply.empty();
  }

  const Config& config_;
  const Listener& listener_;
  const policy::Policy& policy_;
  smtp::SessionRules rules_;
  smtp::Session session_;
  policy::Facts facts_;
  bool asked_ = false;  // a service was, about the present command
  std::string& out_;
};

}  // namespace

std::optional<Fault> explain(const Config& config, const policy::Policies& policies, const Question& question,
                             std::string& out) {
  std::vector<std::string> names;
  std::size_t index = config.listeners.size();
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    names.push_back(in_quotes(config.listeners[i].name));
    if (config.listeners[i].name == question.listener ||
        (question.listener.empty() && config.listeners.size() == 1))
      index = i;
  }
  if (index == config.listeners.size()) {
    return Fault{question.listener.empty() ? "there are several listeners"
                                           : "there is no listener " + in_quotes(question.listener),
                 "write --listener and one of " + enumerate(names, "or")};
  }
  const Listener& listener = config.listeners[index];
  if (question.tls == 0 && listener.implicit_tls)
    return Fault{"TLS begins with the connection at " + names[index], "write --tls 1.2 or --tls 1.3"};
  if (question.tls != 0 && !listener.uses_tls())
    return Fault{"there is no TLS at " + names[index], "write --tls no"};
  if (question.tls == 0x0303 && listener.minimum_tls_version == tls::Version::tls13)
    return Fault{"there is no TLS 1.2 at " + names[index], "write --tls 1.3 or --tls no"};
  using tls::ClientCertificates;
  if (question.certificate && listener.client_certificates == ClientCertificates::none)
    return Fault{"nobody is asked for a certificate at " + names[index], "leave --certificate out"};
  const bool verified = question.certificate && question.certificate->verified;
  if (question.tls != 0 && listener.client_certificates == ClientCertificates::require && !verified)
    return Fault{"there is no TLS without a verified certificate at " + names[index],
                 "add --certificate verified"};
  if (!question.user.empty() && listener.auth.empty())
    return Fault{"nobody can authenticate at " + names[index], "leave --user out"};

  out += "listener " + names[index] + ", client " + format_address(question.client) +
         (question.tls == 0        ? ", no TLS"
          : question.tls == 0x0303 ? ", TLS 1.2"
                                   : ", TLS 1.3") +
         "\n";
  Walk walk(config, listener, policies.listeners[index], question, out);
  walk.connect();
  if (!walk.say("EHLO " + question.helo, std::nullopt)) return std::nullopt;
  if (!question.user.empty()) {
    if (!walk.say("AUTH", Step::auth)) return std::nullopt;
    walk.authenticated(question.user);
  }
  const auto eight_bit = [](const std::string& s) {
    return std::any_of(s.begin(), s.end(), [](char c) { return (c & 0x80) != 0; });
  };
  const bool utf8 = eight_bit(question.sender) ||
                    std::any_of(question.recipients.begin(), question.recipients.end(), eight_bit);
  // What the facts point into.
  const std::string mail = "MAIL FROM:<" + question.sender + (utf8 ? "> SMTPUTF8" : ">");
  if (!walk.say(mail, Step::mail)) return std::nullopt;
  bool any = false;
  for (const std::string& recipient : question.recipients)
    any = walk.say("RCPT TO:<" + recipient + ">", Step::rcpt) || any;
  if (any) walk.say("DATA", Step::data);
  return std::nullopt;
}

}  // namespace ringmx::config
