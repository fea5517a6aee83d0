// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/consultation.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "ringmx/smtp/sasl.h"

namespace ringmx::gateway {

using policy::Answer;

namespace {

// For so long after a step began may services have the client wait by Auth-Wait, all together and with the
// time that they take to answer. RFC 5321 4.5.3.2 has clients wait for five minutes.
constexpr std::chrono::seconds longest_wait{60};

}  // namespace

Consultation::Consultation(ring::Reactor& reactor, const std::vector<Service*>& services,
                           Owner& owner) noexcept
    : reactor_(reactor), services_(services), owner_(owner), patience_ends_(reactor.now() + longest_wait) {}

Consultation::~Consultation() {
  if (password_) smtp::wipe(password_->data(), password_->size());
}

Consultation::State Consultation::go_on(const policy::Question& question) {
  while (state_ == State::waiting && !inquiry_ && !pausing_) {
    if (position_ == services_.size()) {
      if (deferral_.empty()) return state_ = State::allowed;
      refuse(deferral_, false);
      break;
    }
    Service& service = *services_[position_];
    if (passed_over(service, question)) {
      ++position_;
      continue;
    }
    if (!answer_) {
      if (const Answer* known = service.known(question)) {
        answer_ = *known;
      } else {
        inquiry_.emplace(service, static_cast<Inquiry::Owner&>(*this), question);
        break;
      }
    }
    Answer answer = std::move(*answer_);
    answer_.reset();
    if (take(answer, service)) ++position_;
  }
  return pausing_ ? State::waiting : state_;
}

// As with Postfix: permit_sasl_authenticated comes first, and a permit ends its list of restrictions. It does
// not speak for services of another kind.
bool Consultation::passed_over(const Service& service, const policy::Question& question) const noexcept {
  const config::Service& config = service.config();
  if (config.skip_authenticated && !question.facts.user.empty()) return true;
  return permitted_ && config.protocol == config::Service::Protocol::policy;
}

// True: the next one may be asked.
bool Consultation::take(Answer& answer, Service& service) {
  using Verdict = Answer::Verdict;
  switch (answer.verdict) {
    case Verdict::allow:
      permitted_ = permitted_ || answer.permits;
      break;
    case Verdict::ask_again: {
      const ring::Time until = reactor_.now() + std::chrono::seconds(answer.wait);
      if (until > patience_ends_) {
        service.tell("it has the client wait for more than a minute");
        answer_ = service.failure();
      } else {
        wait_until(until);
      }
      return false;
    }
    case Verdict::defer_if_permit:
      if (deferral_.empty()) {
        deferral_ = std::move(answer.reply);
        decided_by_ = &service;
      }
      break;
    case Verdict::defer_if_reject:
      if (deferral_if_rejected_.empty()) deferral_if_rejected_ = std::move(answer.reply);
      break;
    case Verdict::refuse: {
      const bool for_good = answer.reply.front() == '5';
      decided_by_ = &service;
      if (for_good && !deferral_if_rejected_.empty()) {
        refuse(deferral_if_rejected_, false);
      } else {
        const bool ends = answer.reply.starts_with("421") || answer.reply.starts_with("521");
        refuse(answer.reply, ends || (answer.closes && service.config().close_after_refusal));
      }
      const ring::Time until = std::min(reactor_.now() + std::chrono::seconds(answer.wait), patience_ends_);
      if (until > reactor_.now()) wait_until(until);
      return false;
    }
  }
  if (!answer.upstream.empty() || !answer.upstream_address.empty()) {
    upstream_ = std::move(answer.upstream);
    upstream_address_ = std::move(answer.upstream_address);
    decided_by_ = &service;
  }
  if (answer.user) user_ = std::move(answer.user);
  if (answer.password) password_ = std::move(answer.password);
  return true;
}

void Consultation::refuse(std::string_view reply, bool closes) {
  state_ = State::refused;
  reply_ = reply;
  closes_ = closes;
}

void Consultation::overrule(std::string_view reply) {
  refuse(reply, false);
}

void Consultation::answered(Answer answer) {
  inquiry_.reset();
  answer_ = std::move(answer);
  owner_.consultation_goes_on();
}

void Consultation::wait_until(ring::Time time) {
  pausing_ = true;
  reactor_.timers().set(timer_, time);
}

void Consultation::on_waited() {
  pausing_ = false;
  owner_.consultation_goes_on();
}

}  // namespace ringmx::gateway
