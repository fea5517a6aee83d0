// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/statistics.h"

namespace ringmx::load {

std::string_view span_name(Span span) noexcept {
  constexpr std::array<std::string_view, span_count> names{
      "connect", "greeting", "ehlo", "starttls",    "handshake", "mail",   "rcpt",
      "data",    "bdat",     "body", "transaction", "message",   "session"};
  return names[static_cast<std::size_t>(span)];
}

std::string_view failure_name(Failure failure) noexcept {
  constexpr std::array<std::string_view, failure_count> names{
      "refused",     "timeout",     "closed",      "dismissed", "bad_reply",
      "unsolicited", "no_chunking", "no_starttls", "tls",       "system"};
  return names[static_cast<std::size_t>(failure)];
}

std::string_view place_name(std::size_t place) noexcept {
  if (place == connecting) return "connect";
  if (place == at_rest) return "idle";
  if (place == shaking_hands) return "handshake";
  return smtp::stage_name(static_cast<smtp::Stage>(place));
}

void Statistics::add_to(Totals& totals) const noexcept {
  totals.accepted += accepted.value();
  totals.refused += refused.value();
  totals.failed += failed.value();
  totals.unfinished += unfinished.value();
  totals.missed += missed.value();
  totals.recipients_accepted += recipients_accepted.value();
  totals.recipients_refused += recipients_refused.value();
  totals.octets += octets.value();
  totals.sessions_opened += sessions_opened.value();
  totals.sessions_closed += sessions_closed.value();
  totals.sessions_failed += sessions_failed.value();
  totals.bytes_sent += bytes_sent.value();
  totals.bytes_received += bytes_received.value();
}

}  // namespace ringmx::load
