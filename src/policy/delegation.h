// SPDX-License-Identifier: GPL-3.0-or-later
// Postfix's policy delegation (SMTPD_POLICY_README): a question is a list of attributes, the answer an action
// as access(5) has it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "policy/answer.h"

namespace ringmx::policy {

class Delegation final : public Protocol {
 public:
  [[nodiscard]] std::string request(const Question& question) const override;
  [[nodiscard]] std::unique_ptr<AnswerReader> reader() const override;
};

class DelegationReader final : public AnswerReader {
 public:
  static constexpr std::size_t longest_response = 16 * 1024;

  State feed(std::string_view& input) override;

 private:
  State end_of_line();

  std::size_t size_ = 0;
  bool action_read_ = false;
};

// What `action` ("REJECT not today") means here.
[[nodiscard]] Answer interpret_action(std::string_view action);

}  // namespace ringmx::policy
