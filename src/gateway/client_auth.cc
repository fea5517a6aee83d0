// SPDX-License-Identifier: GPL-3.0-or-later
//
// AUTH (RFC 4954). The exchange is smtp::SaslExchange's, whether there may be one the policy's, whether the
// credentials are good the services' that are asked at the step auth. Of what a client says nothing stays in
// its input: while services are asked, the credentials are in the exchange alone, and are wiped with it.
//
// A client that has said who it is gets an upstream connection of its own where the upstream is told (see
// UpstreamConnection::log_in()), for as long as its session lasts.

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/client.h"
#include "gateway/worker.h"

namespace ringmx::gateway {

using metrics::AuthResult;
using smtp::Action;
using State = smtp::SaslExchange::State;
namespace replies = smtp::replies;

namespace {

// RFC 2195 section 2: unique, and not to be guessed.
std::string make_challenge(std::string_view hostname) {
  std::array<std::uint64_t, 2> random{};
  if (::getrandom(random.data(), sizeof(random), 0) != static_cast<ssize_t>(sizeof(random)))
    throw std::runtime_error("getrandom");  // never, from Linux 5.6 on
  std::string out = "<" + std::to_string(random[0]) + "." + std::to_string(random[1]);
  return out.append("@").append(hostname).append(">");
}

}  // namespace

// By what a client may authenticate after this EHLO: only what it would not be refused for.
smtp::MechanismSet Client::offered_mechanisms(const smtp::Decision& hello) {
  const smtp::MechanismSet mechanisms = session_.mechanisms();
  if (mechanisms.empty() || !listener_.policy->asks(policy::Step::auth)) return mechanisms;
  const policy::Facts facts = facts_at(hello);
  return listener_.policy->decide(policy::Step::auth, facts).allowed() ? mechanisms : smtp::MechanismSet();
}

void Client::authenticate(const smtp::Decision& decision) {
  if (decision.action == Action::auth_response) {
    return exchange_goes_on(authentication_->exchange->respond(decision.argument));
  }
  if (authentication_ == nullptr) authentication_ = std::make_unique<Authentication>();
  const bool challenge = decision.mechanism == smtp::Mechanism::cram_md5;
  authentication_->mechanism = decision.mechanism;
  authentication_->refused = false;
  authentication_->exchange.emplace(
      decision.mechanism, challenge ? make_challenge(worker_.config().server.hostname) : std::string());
  exchange_goes_on(authentication_->exchange->begin(decision.auth.initial_response));
}

void Client::exchange_goes_on(State state) {
  smtp::SaslExchange& exchange = *authentication_->exchange;
  switch (state) {
    case State::responding:
      return reply(exchange.reply());
    case State::failed:
      return authentication_failed(
          exchange.reply(), authentication_->refused ? AuthResult::refused : AuthResult::failed, false);
    case State::complete:
      ++authentication_->attempts;
      return judge_credentials();
  }
}

void Client::judge_credentials() {
  const smtp::SaslCredentials& shown = authentication_->exchange->credentials();
  // Nobody could say whether one user may act as another.
  if (!shown.authorization.empty() && shown.authorization != shown.user)
    return refuse_credentials(replies::bad_credentials, false);
  const policy::Credentials credentials{.method = shown.method,
                                        .user = shown.user,
                                        .password = shown.password,
                                        .salt = shown.salt,
                                        .attempt = authentication_->attempts};
  const policy::Facts facts = facts_at({});
  switch (ask_services(policy::Step::auth, facts, &credentials)) {
    case Consultation::State::waiting:
      phase_ = Phase::authentication;
      return no_deadline();
    case Consultation::State::refused:
      return refuse_credentials(std::string(consultation_->reply()), consultation_->closes());
    case Consultation::State::allowed:
      break;
  }
  std::string user = consultation_->user().value_or(std::string(shown.user));
  const policy::Certificate* const certificate = facts.tls.certificate;
  if (user.empty() && authentication_->mechanism == smtp::Mechanism::external && certificate != nullptr)
    user = certificate->subject;
  if (user.empty()) return refuse_credentials(replies::bad_credentials, false);
  accept_credentials(std::move(user));
}

void Client::accept_credentials(std::string user) {
  listener_.counters->authentications[AuthResult::accepted].add();
  const auto& password = consultation_->password();
  const auto wants_password = [](const config::Upstream& upstream) {
    return upstream.authenticate == config::Upstream::Authenticate::plain;
  };
  const auto& upstreams = worker_.config().upstreams;
  // What CRAM-MD5 shows is a digest, and no password to anybody else.
  const std::string_view shown = authentication_->mechanism == smtp::Mechanism::cram_md5
                                     ? std::string_view()
                                     : authentication_->exchange->credentials().password;
  smtp::Secret kept;
  if (std::any_of(upstreams.begin(), upstreams.end(), wants_password))
    kept = smtp::Secret(password ? *password : shown);
  login_ = std::make_unique<const Login>(Login{std::move(user), std::move(kept)});
  facts_.authenticated(login_->user, smtp::mechanism_name(authentication_->mechanism));
  authentication_->exchange.reset();
  consultation_.reset();
  leave_upstream();  // one that is exclusive, and was told nothing
  session_.authenticated();
  reply(replies::authenticated);
  await_command();
}

// Who guesses has to wait; not who meets a failure of ours.
void Client::refuse_credentials(std::string_view text, bool closes) {
  authentication_->refusal = text;
  authentication_->closes = closes;
  consultation_.reset();
  advice_->at_auth = nullptr;  // it was for somebody
  const ring::Duration delay = listener_.config->auth_failure_delay;
  if (delay == ring::Duration::zero() || !text.starts_with('5')) return pause_is_over();
  phase_ = Phase::authentication;
  set_deadline(delay);
}

void Client::pause_is_over() {
  phase_ = Phase::command;
  smtp::SaslExchange& exchange = *authentication_->exchange;
  const std::string refusal = std::exchange(authentication_->refusal, {});
  const bool closes = std::exchange(authentication_->closes, false);
  if (!closes && exchange.refuse(refusal) == State::responding) {
    authentication_->refused = true;
    reply(exchange.reply());
    return await_command();
  }
  authentication_failed(refusal, refusal.front() == '5' ? AuthResult::refused : AuthResult::tempfailed,
                        closes);
}

void Client::authentication_failed(std::string_view text, AuthResult result, bool closes) {
  listener_.counters->authentications[result].add();
  smtp::Decision decision;
  decision.verb = smtp::Verb::auth;
  decision.action = Action::auth_response;
  smtp::Decision refused = session_.refuse(decision, text);
  if (closes) refused.action = Action::close;
  session_.apply(refused);
  act(refused);
  authentication_->exchange.reset();
  if (phase_ != Phase::ending) await_command();
}

// A line that can be no response has ended it.
void Client::exchange_broken() {
  listener_.counters->authentications[AuthResult::failed].add();
  authentication_->exchange.reset();
}

// RFC 3207 section 4.2. An upstream that was told is not the next one's.
void Client::forget_login() {
  if (login_ == nullptr) return;
  login_.reset();
  leave_upstream();
}

}  // namespace ringmx::gateway
