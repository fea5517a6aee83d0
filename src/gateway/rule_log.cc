// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/rule_log.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <string>
#include <utility>

#include "config/notation.h"
#include "policy/explain.h"

namespace ringmx::gateway {
namespace {

constexpr ring::Duration interval{1000};

// Standard error may be a pipe that nobody reads: then the line is lost, and mail goes on. A pipe that can be
// written to takes PIPE_BUF octets at once.
void write_line(std::string line) {
  line.resize(std::min<std::size_t>(line.size(), PIPE_BUF - 1));
  line += '\n';
  pollfd standard_error{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&standard_error, 1, 0) != 1) return;
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

void RuleLog::marked(const policy::Verdict::Mark& mark, policy::Step step, const policy::Facts& facts,
                     ring::Time now) {
  Said& said = rules_[mark.rule->index];
  if (now < said.next) {
    ++said.held_back;
    return;
  }
  said.next = now + interval;
  std::string line = "ringmx: rule " + config::in_quotes(mark.rule->name) + " marks " +
                     std::string(policy::name_of(step)) + " of " + config::format_address(facts.client) +
                     " at " + std::string(facts.listener) + ": " + std::string(policy::text_of(mark.lack)) +
                     "; helo " + config::in_quotes(facts.helo) + ", sender " +
                     config::in_quotes(facts.sender.mailbox);
  if (step == policy::Step::rcpt) line += ", recipient " + config::in_quotes(facts.recipient.mailbox);
  if (const std::uint64_t more = std::exchange(said.held_back, 0); more > 0) {
    line += "; " + std::to_string(more) + " more since the last line";
  }
  write_line(std::move(line));
}

}  // namespace ringmx::gateway
