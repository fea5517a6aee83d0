// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/service.h"
#include "policy/answer.h"
#include "ring/reactor.h"

namespace ringmx::gateway {

// Asks the services of a listener about one step of a session, one after the other, until one refuses or all
// have been asked, but for those that pass this client over. Each question is made anew of what is known at
// that moment, so nothing of the session need stay where it is in the meantime.
class Consultation final : private Inquiry::Owner {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // go_on() has something new to say. The owner may destroy the consultation.
    virtual void consultation_goes_on() = 0;
  };
  enum class State : std::uint8_t { waiting, allowed, refused };

  Consultation(ring::Reactor& reactor, const std::vector<Service*>& services, Owner& owner) noexcept;
  ~Consultation();

  // Goes on with the step as far as it can. Once it is not `waiting` any more it stays so.
  [[nodiscard]] State go_on(const policy::Question& question);

  [[nodiscard]] State state() const noexcept { return state_; }
  // Of a refusal: the reply, and whether the session ends with it.
  [[nodiscard]] const std::string& reply() const noexcept { return reply_; }
  [[nodiscard]] bool closes() const noexcept { return closes_; }
  // Where the mail is to go, and who the client is to the upstream: what the last service that says so says.
  [[nodiscard]] const std::string& upstream() const noexcept { return upstream_; }
  [[nodiscard]] const std::string& upstream_address() const noexcept { return upstream_address_; }
  [[nodiscard]] const std::optional<std::string>& user() const noexcept { return user_; }
  [[nodiscard]] const std::optional<std::string>& password() const noexcept { return password_; }
  // Who refused, or chose the upstream.
  [[nodiscard]] Service& decided_by() const noexcept { return *decided_by_; }
  // It will not be followed: another refusal stands for it.
  void overrule(std::string_view reply);

 private:
  void answered(policy::Answer answer) override;
  [[nodiscard]] bool passed_over(const Service& service, const policy::Question& question) const noexcept;
  [[nodiscard]] bool take(policy::Answer& answer, Service& service);
  void refuse(std::string_view reply, bool closes);
  void wait_until(ring::Time time);
  void on_waited();

  ring::Reactor& reactor_;
  const std::vector<Service*>& services_;
  Owner& owner_;
  const ring::Time patience_ends_;
  State state_ = State::waiting;
  bool closes_ = false;
  bool pausing_ = false;
  bool permitted_ = false;    // a policy server has said so: no other one is asked
  std::size_t position_ = 0;  // in services_
  Service* decided_by_ = nullptr;
  std::optional<Inquiry> inquiry_;
  std::optional<policy::Answer> answer_;  // of the service at position_
  std::string deferral_;                  // if nobody refuses
  std::string deferral_if_rejected_;
  std::string reply_;
  std::string upstream_;
  std::string upstream_address_;
  std::optional<std::string> user_;
  std::optional<std::string> password_;
  ring::TimerOf<&Consultation::on_waited> timer_{*this};
};

}  // namespace ringmx::gateway
