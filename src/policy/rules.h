// SPDX-License-Identifier: GPL-3.0-or-later
// Who must use TLS, at which step: a list of rules, of which the first that matches decides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "policy/domains.h"
#include "policy/facts.h"
#include "policy/fingerprints.h"
#include "policy/networks.h"
#include "ringmx/smtp/session.h"

namespace ringmx::policy {

class Steps {
 public:
  constexpr Steps() noexcept = default;
  constexpr Steps(std::initializer_list<Step> steps) noexcept {
    for (const Step step : steps) add(step);
  }
  constexpr void add(Step step) noexcept { bits_ = static_cast<std::uint8_t>(bits_ | bit(step)); }
  [[nodiscard]] constexpr bool has(Step step) const noexcept { return (bits_ & bit(step)) != 0; }
  [[nodiscard]] constexpr bool empty() const noexcept { return bits_ == 0; }
  [[nodiscard]] constexpr bool intersects(Steps other) const noexcept { return (bits_ & other.bits_) != 0; }
  friend bool operator==(const Steps&, const Steps&) = default;

 private:
  static constexpr unsigned bit(Step step) noexcept { return 1u << static_cast<unsigned>(step); }
  std::uint8_t bits_ = 0;
};

// The step that such a decision can be, if any.
[[nodiscard]] constexpr std::optional<Step> step_of(smtp::Action action) noexcept {
  switch (action) {
    case smtp::Action::auth:
      return Step::auth;
    case smtp::Action::mail:
      return Step::mail;
    case smtp::Action::rcpt:
      return Step::rcpt;
    case smtp::Action::data:
    case smtp::Action::bdat:
      return Step::data;
    default:
      return std::nullopt;
  }
}

// The same, for who has to know at each command.
[[nodiscard]] constexpr Steps steps_of(smtp::Action action) noexcept {
  constexpr auto by_action = [] {
    std::array<Steps, static_cast<std::size_t>(smtp::Action::close) + 1> out;
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (const auto step = step_of(static_cast<smtp::Action>(i))) out[i].add(*step);
    }
    return out;
  }();
  return by_action[static_cast<std::size_t>(action)];
}

// The step that a decision of a session is, if it is one. Of a message in chunks the first is.
[[nodiscard]] inline std::optional<Step> step_of(const smtp::Session& session,
                                                 const smtp::Decision& decision) noexcept {
  if (decision.action == smtp::Action::bdat && session.between_chunks()) return std::nullopt;
  return step_of(decision.action);
}

// What a session must have.
enum class Encryption : std::uint8_t { optional, required, tls13 };
enum class ClientCertificate : std::uint8_t { optional, presented, verified };

// What happens to one that has it not. mark: it is counted and told, and that is all the rule ever does: the
// search goes on, even where the session has all that is required. next: the search goes on.
enum class Otherwise : std::uint8_t { refuse, tempfail, mark, next };

// The condition of a rule that a session does not meet.
enum class Mismatch : std::uint8_t { none, client, helo, authenticated, sender, recipient };
// What a session lacks of that which a rule requires.
enum class Lack : std::uint8_t { nothing, tls, tls13, certificate, verification, fingerprint };

struct Rule {
  std::string name;
  std::size_t index = 0;  // among all rules, for who counts
  Steps steps;
  // Conditions. Null or nothing: none.
  std::shared_ptr<const Networks> clients;
  std::shared_ptr<const Domains> helo;
  std::optional<bool> authenticated;
  std::shared_ptr<const Domains> senders;
  std::shared_ptr<const Domains> recipients;
  // Requirements.
  Encryption tls = Encryption::optional;
  ClientCertificate certificate = ClientCertificate::optional;
  std::shared_ptr<const Fingerprints> fingerprints;
  Otherwise otherwise = Otherwise::refuse;
  std::string reply;  // of its own, in wire form

  // An ambiguous address is in a set if one of its readings may be.
  [[nodiscard]] Mismatch mismatch(const Facts& facts) const noexcept;
  // Whether the rule concerns the session depends on how an ambiguous address is read: it may refuse, but
  // lets nobody pass.
  [[nodiscard]] bool in_doubt(const Facts& facts) const noexcept {
    return (facts.sender.ambiguous && senders) || (facts.recipient.ambiguous && recipients);
  }
  [[nodiscard]] Lack lack(const Facts& facts) const noexcept;
  // The reply to a session that lacks something, in wire form; empty where the search goes on.
  [[nodiscard]] std::string_view reply_to(Lack lack) const noexcept;
  // No session can meet this without TLS.
  [[nodiscard]] bool requires_tls() const noexcept;
  // Every session meets its conditions.
  [[nodiscard]] bool unconditional() const noexcept;
  // Or at least all that just deliver mail over IPv4, or over IPv6.
  [[nodiscard]] bool concerns_all_senders() const noexcept;
};

struct Verdict {
  struct Mark {
    const Rule* rule;
    Lack lack;
  };
  const Rule* rule = nullptr;  // that decided; null: none matched
  Lack lack = Lack::nothing;
  std::string_view reply;  // in wire form, the policy's: the refusal; empty: allowed
  absl::InlinedVector<Mark, 2> marks;
  [[nodiscard]] bool allowed() const noexcept { return reply.empty(); }
};

// The rules of one listener, in their order. Immutable: all cores ask the same.
class Policy {
 public:
  Policy() = default;  // allows everything
  // The rules must outlive it.
  explicit Policy(const std::vector<const Rule*>& rules);

  // False: there is no need to ask at this step.
  [[nodiscard]] bool asks(Step step) const noexcept { return !rules_at(step).empty(); }
  // For HELO's name, or at RCPT or DATA for the sender; or whoever reads of a mark does.
  [[nodiscard]] bool asks_for_earlier_steps() const noexcept { return asks_for_earlier_steps_; }
  [[nodiscard]] Verdict decide(Step step, const Facts& facts) const noexcept;
  [[nodiscard]] const std::vector<const Rule*>& rules_at(Step step) const noexcept {
    return rules_[static_cast<std::size_t>(step)];
  }

 private:
  std::array<std::vector<const Rule*>, step_count> rules_;
  bool asks_for_earlier_steps_ = false;
};

// All that a configuration says.
struct Policies {
  std::vector<std::unique_ptr<const Rule>> rules;  // in the order of the file
  std::vector<Policy> listeners;                   // likewise
};

}  // namespace ringmx::policy
