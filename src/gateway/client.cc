// SPDX-License-Identifier: GPL-3.0-or-later
//
// How a session flows.
//
// Input waits in input_ and is looked at by process(), which turns until the session waits for
// somebody (Phase). Whoever ends the wait, the client's bytes, a reply, the upstream's readiness or
// a deadline, calls process() again. Three rules keep it in order:
//
//   - Replies leave in the order of the commands (RFC 2920 3.1). Only RCPT is ever passed on while
//     earlier replies are due; any other command stays in input_ until the last of them has come.
//   - Whoever holds the message decides. 250 after the end of data is the upstream's, passed on.
//     From the moment a message can't be completed at the upstream (it died, it refused, a limit
//     was met), Transaction::failure is set: the rest of the client's message is read and dropped,
//     and the failure is the one reply to it. The upstream connection is then gone or reset, so
//     nothing that is dropped can be missed and nothing that was sent can become a message.
//   - An upstream connection that has seen a part of a dot-framed message is never used again
//     unless that message was completed. One that got BDAT is always between chunks, and can be.
//
// BDAT is cut anew: every piece that arrives goes to the upstream as a chunk of its own, and the
// client gets one reply for each of its own. So a chunk that is announced and never sent costs the
// upstream nothing, and mending a message may change its length.

#include "gateway/client.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "config/notation.h"
#include "gateway/worker.h"
#include "policy/explain.h"
#include "ringmx/smtp/forward.h"

namespace ringmx::gateway {

using metrics::ClosedIn;
using metrics::MessageResult;
using metrics::UpstreamLoss;
using metrics::Violation;
using smtp::Action;
using smtp::Framing;
using smtp::Stage;
namespace replies = smtp::replies;

namespace {

// Unread replies of one client beyond which no further command of it is looked at.
constexpr std::size_t reply_backlog = 64 * 1024;
// Pieces of a message below this are copied: that costs less than an entry in the send queue and a
// receive buffer that can't be given back.
constexpr std::size_t copy_below = 256;
// Pieces of input that wait, at most: a client that sends them one by one has to wait as well.
constexpr std::size_t most_pieces = 64;
// close_timeout while draining, at most.
constexpr ring::Duration close_timeout_draining{1000};

Violation violation_of(smtp::LineFault fault) noexcept {
  switch (fault) {
    case smtp::LineFault::bare_lf:
      return Violation::bare_lf_command;
    case smtp::LineFault::bare_cr:
      return Violation::bare_cr_command;
    case smtp::LineFault::nul:
      return Violation::nul_command;
    case smtp::LineFault::too_long:
    case smtp::LineFault::none:
      break;
  }
  return Violation::long_line;
}

// RFC 2920 3.1: what the client may send only when it has read the reply to this.
bool synchronizes(smtp::Verb verb) noexcept {
  switch (verb) {
    case smtp::Verb::helo:
    case smtp::Verb::ehlo:
    case smtp::Verb::data:
    case smtp::Verb::vrfy:
    case smtp::Verb::expn:
    case smtp::Verb::noop:
    case smtp::Verb::quit:
    case smtp::Verb::starttls:
    case smtp::Verb::auth:
      return true;
    default:
      return false;
  }
}

// Who would be hit is what a dry run is for.
std::string text_of(const policy::Verdict::Mark& mark, policy::Step step, const policy::Facts& facts) {
  std::string text = "rule " + config::in_quotes(mark.rule->name) + " marks ";
  text.append(policy::name_of(step)).append(" of ").append(config::format_address(facts.client));
  text.append(" at ").append(facts.listener).append(": ").append(policy::text_of(mark.lack));
  text.append("; helo ").append(config::in_quotes(facts.helo));
  text.append(", sender ").append(config::in_quotes(facts.sender.mailbox));
  if (step == policy::Step::rcpt)
    text.append(", recipient ").append(config::in_quotes(facts.recipient.mailbox));
  return text;
}

std::string_view reply_to_loss(UpstreamLoss loss) noexcept {
  switch (loss) {
    case UpstreamLoss::timeout:
      return replies::upstream_timeout;
    case UpstreamLoss::bad_reply:
    case UpstreamLoss::unsolicited:
      return replies::upstream_confused;
    default:
      return replies::upstream_lost;
  }
}

}  // namespace

struct Client::Transaction {
  // The envelope, until the upstream has it.
  std::string sender;      // mailbox of MAIL
  std::string parameters;  // of MAIL
  bool requiretls = false;
  std::string recipients;  // RCPT commands, kept until MAIL is answered, in case they must be said again
  std::size_t recipients_sent = 0;  // bytes of them
  bool mail_sent = false;
  bool mail_answered = false;
  bool may_retry = false;    // the connection had served before: if it is lost now, another is tried
  std::string mail_refusal;  // the upstream's reply, if it refused MAIL: the reply to every RCPT
  // The choice of an upstream.
  UpstreamPool* chosen = nullptr;  // by a service
  std::vector<bool> tried;         // those of the listener that could not be reached; empty: none yet
  std::size_t first_choice = 0;
  bool fresh = false;  // idle connections are not to be trusted
  // The message.
  std::optional<smtp::BodyFilter> body;
  Framing framing = Framing::dot;  // towards the upstream
  std::string failure;             // the reply to a message that can't be completed any more
  std::string acceptance;          // the upstream's, seen before the word that all its octets have left
  // BDAT.
  bool chunked = false;  // the client uses BDAT
  bool chunk_last = false;
  bool chunk_finished = false;  // the end of the last chunk is on its way
  std::string refusal;  // the reply to a chunk that must not be: its octets are dropped, and that is all
  std::uint64_t chunk_size = 0;
  std::uint64_t chunk_left = 0;
  // Time and size.
  std::uint64_t received = 0;  // octets from the client
  ring::Time body_start{};
  ring::Time unhurried_since = ring::never;  // no octet of the message is waited for since
};

Client::Client(Worker& worker, ListenerContext& listener, int fd)
    : worker_(worker),
      listener_(listener),
      session_(listener.rules),
      lines_(listener.line_limit, listener.rules.bare_lf_ends_line),
      stream_(worker.reactor(), worker.client_memory(), worker.client_traffic(), *this) {
  stream_.open(fd);
  const auto asked = [](const auto& services) { return !services.empty(); };
  if (std::any_of(listener_.services.begin(), listener_.services.end(), asked))
    advice_ = std::make_unique<Advice>();
}

Client::~Client() = default;

void Client::start() {
  if (!listener_.decided.empty() &&
      !facts_.open(stream_.fd(), listener_.remembers, listener_.remembers_recipient))
    return close(metrics::Close::client_lost);
  if (listener_.config->implicit_tls) return begin_handshake();
  begin();
}

void Client::begin() {
  stream_.resume();
  if (draining_) return reply_and_close(replies::shutting_down, metrics::Close::draining);
  phase_ = Phase::greeting;
  if (listener_.config->greeting_delay > ring::Duration::zero()) {
    set_deadline(listener_.config->greeting_delay);
    return;
  }
  greet();
}

void Client::greet() {
  using policy::Step;
  if (!listener_.services[static_cast<std::size_t>(Step::connect)].empty()) {
    const Consultation::State state = ask_services(Step::connect, facts_at({}));
    if (state == Consultation::State::waiting) return no_deadline();
    if (state == Consultation::State::refused)
      return reply_and_close(consultation_->reply(), metrics::Close::refused);
    consultation_.reset();
  }
  phase_ = Phase::command;
  reply(listener_.greeting);
  set_deadline(listener_.config->command_timeout);
}

// ---------------------------------------------------------------------------------------------
// Input.

void Client::stream_received(ring::Slice data) {
  if (phase_ == Phase::ending || overrun_) return;
  if (!keep(std::move(data))) return overrun();
  if (phase_ == Phase::greeting) return out_of_step(Violation::early_talker);
  if (phase_ == Phase::starttls) return out_of_step(Violation::starttls_injection);
  process();
}

void Client::stream_ended(int error) {
  if (phase_ == Phase::ending) return;
  if (error == EPROTO) worker_.counters().violations[Violation::tls_truncation].add();
  if (error != 0) return close(error == ENOBUFS ? metrics::Close::memory : metrics::Close::client_lost);
  input_ended_ = true;
  process();
}

void Client::stream_sent() {
  if (phase_ == Phase::command && !input_.empty()) process();
}

void Client::consume(std::size_t bytes) {
  if (input_.empty()) return;  // the session has ended meanwhile
  input_.front().remove_prefix(bytes);
  if (input_.front().empty()) input_.pop_front();
}

void Client::process() {
  if (processing_) return;
  processing_ = true;
  for (bool more = true; more;) {
    switch (phase_) {
      case Phase::command:
        more = process_command();
        break;
      case Phase::body:
        more = process_body();
        break;
      case Phase::chunk:
        more = process_chunk();
        break;
      default:
        more = false;
    }
  }
  processing_ = false;
  if (phase_ == Phase::ending) return;
  assert(phase_ != Phase::command || timer_.deadline() != ring::never);  // nobody may stay for good
  const bool waits_for_client = phase_ == Phase::greeting || phase_ == Phase::body ||
                                phase_ == Phase::chunk || phase_ == Phase::starttls ||
                                (phase_ == Phase::command && session_.recipients_pending() == 0);
  if (input_ended_ && input_.empty() && waits_for_client) return close(metrics::Close::client_lost);
  if (phase_ == Phase::body || phase_ == Phase::chunk) set_body_deadline();
  update_receiving();
}

// What waits must not keep receive buffers from everybody else:
//
//   - Of much, a session may keep its share (Worker::share()), which shrinks as more is held by all;
//     then its client has to wait. A little is copied.
//   - What a multishot receive had brought beyond the share, before it could be stopped, is copied.
//   - When the half of the buffers that is for waiting is used up, all that arrives is copied, and
//     arrives in pieces small enough for that (net::StreamMemory::scarce()).
//   - Copies of much may fill a quarter of the text blocks, copies of a little half of them: the rest
//     is for replies. If there is no room for what a receive brought all the same, because it was
//     armed before memory became scarce, it keeps its buffer as long as no more than five eighths are
//     kept: a quarter may stand in the ring for bulk, where whoever sends little does not look, so an
//     eighth is left to receive into. Beyond that its session ends.

// False: there is no memory for it.
bool Client::keep(ring::Slice data) {
  const net::StreamMemory memory = worker_.client_memory();
  const bool within_share = !memory.scarce() && input_held() < worker_.share();
  if (!within_share && keep_copy(data)) return true;
  const ring::ReceivePool& pool = memory.receive.pool();
  if (!within_share && pool.held() > pool.blocks() / 8 * 5) return false;
  input_.push_back(std::move(data));
  return true;
}

bool Client::keep_copy(const ring::Slice& data) {
  ring::BlockPool& pool = worker_.text();
  const std::uint32_t blocks = (data.size() + pool.block_size() - 1) / pool.block_size();
  if (pool.blocks_in_use() + blocks > pool.blocks() / (blocks == 1 ? 2 : 4)) return false;
  for (std::string_view bytes(data.data(), data.size()); !bytes.empty();) input_.push_back(pool.copy(bytes));
  forget(data, data.size());
  return true;
}

// A little that waits keeps no buffer.
void Client::release_buffer(ring::Slice& slice) {
  ring::BlockPool& pool = worker_.text();
  if (slice.pool() == &pool || slice.size() > pool.block_size()) return;
  if (pool.blocks_in_use() >= pool.blocks() / 2) return;
  std::string_view bytes(slice.data(), slice.size());
  ring::Slice copy = pool.copy(bytes);
  forget(slice, slice.size());
  slice = std::move(copy);
}

// The first `n` bytes are somewhere else now, and may be of a password.
void Client::forget(const ring::Slice& slice, std::size_t n) const noexcept {
  if (!listener_.rules.auth.empty()) slice.wipe(n);
}

std::size_t Client::input_held() noexcept {
  std::size_t held = 0;
  for (const ring::Slice& slice : input_) held += slice.pool()->block_size();
  return held;
}

void Client::update_receiving() {
  if (phase_ == Phase::starttls || phase_ == Phase::handshake) return;
  if (!input_.empty()) {
    release_buffer(input_.front());
    release_buffer(input_.back());
  }
  const std::size_t held = input_held();
  const std::size_t share = worker_.share();
  if (held >= share || input_.size() >= most_pieces || overrun_) {
    stream_.pause();
  } else if (!stream_.receiving() && held <= share / 2 && !input_ended_) {
    stream_.resume();
  }
}

// Its message, if the upstream has all of it, still gets its reply.
void Client::overrun() {
  if (phase_ != Phase::message_reply && phase_ != Phase::chunk_reply) {
    return reply_and_close(replies::congested, metrics::Close::memory);
  }
  overrun_ = true;
  input_.clear();
  update_receiving();
}

// ---------------------------------------------------------------------------------------------
// Commands.

bool Client::process_command() {
  if (input_.empty() || stream_.unsent() > reply_backlog) return false;
  const std::string_view input(input_.front().data(), input_.front().size());
  smtp::Line line;
  std::size_t used = 0;
  if (!lines_.peek(input, line, used)) {
    forget(input_.front(), used);  // the reader has it, and wipes it
    consume(used);
    return true;
  }
  smtp::Decision decision = session_.decide(line, offered_);
  if (session_.recipients_pending() > 0) {
    const bool may_follow =
        decision.action == Action::rcpt && upstream_ != nullptr && upstream_->ready_for_command();
    if (!may_follow) return false;
  }
  if (listener_.decided.intersects(policy::steps_of(decision.action)) && !consult(decision)) return false;
  metrics::ReactorCounters& counters = worker_.counters();
  if (!session_.authenticating()) counters.commands[static_cast<std::size_t>(decision.verb)].add();
  if (line.fault != smtp::LineFault::none) counters.violations[violation_of(line.fault)].add();
  if (decision.verb == smtp::Verb::foreign) counters.violations[Violation::foreign_protocol].add();
  if (decision.verb == smtp::Verb::unknown && line.fault == smtp::LineFault::none) {
    counters.violations[Violation::unknown_command].add();
  }

  const bool more_follows = input_.size() > 1 || input.size() > used;
  if (decision.action == Action::starttls && more_follows) {
    out_of_step(Violation::starttls_injection);
    return false;
  }
  const bool did_not_wait =
      listener_.config->forbid_unauth_pipelining && more_follows && synchronizes(decision.verb);
  // After a refused DATA a client that had not waited for the reply goes on with its message: that
  // must not be taken for commands, and no message begins with a verb.
  const bool message_instead = data_refused_ && decision.verb == smtp::Verb::unknown;
  if (did_not_wait || message_instead) {
    out_of_step(Violation::unauth_pipelining);
    return false;
  }
  if (decision.action == Action::starttls && !worker_.may_shake_hands(listener_, stream_.fd()))
    decision = session_.refuse(decision, replies::too_many_handshakes);
  data_refused_ = false;
  const bool in_exchange = session_.authenticating();
  session_.apply(decision);
  if (in_exchange && !session_.authenticating()) exchange_broken();
  facts_.applied(decision);
  const ring::Slice secret = decision.verb == smtp::Verb::auth ? input_.front() : ring::Slice();
  act(decision);
  if (secret) secret.wipe(used);
  if (phase_ != Phase::authentication) consultation_.reset();
  if (phase_ == Phase::ending) return false;
  if (decision.verb == smtp::Verb::data && phase_ == Phase::command) {
    // Refused at once, by the session or for a failure that was known.
    data_refused_ = true;
    if (more_follows) {
      counters.violations[Violation::unauth_pipelining].add();
      close_after_replies(metrics::Close::violation);
      return false;
    }
  }
  lines_.consume();
  consume(used);
  if (phase_ == Phase::command) await_command();
  return phase_ != Phase::ending;
}

// ---------------------------------------------------------------------------------------------
// Who decides what a session may, before anybody behind ringmx hears of it: the rules of the listener, then
// its services.

policy::Facts Client::facts_at(const smtp::Decision& decision) const {
  return facts_.at(decision, listener_.config->name, session_.recipients_accepted());
}

// False: not yet. A service is being asked, or replies to earlier commands are due; the command stays where
// it is, and is decided again.
bool Client::consult(smtp::Decision& decision) {
  const auto asked = policy::step_of(session_, decision);
  if (!asked) return true;
  const policy::Step step = *asked;
  const policy::Facts facts = facts_at(decision);
  if (consultation_ == nullptr) {
    if (step == policy::Step::mail && advice_ != nullptr) advice_->instance.clear();
    const policy::Verdict verdict = listener_.policy->decide(step, facts);
    const bool refused = !verdict.allowed();
    if (refused && session_.recipients_pending() > 0) return false;
    if (verdict.rule != nullptr || !verdict.marks.empty()) account_for(verdict, step, facts);
    if (refused) {
      decision = session_.refuse(decision, verdict.reply);
      return true;
    }
  }
  // At AUTH there is nothing to ask them about yet: see judge_credentials().
  if (step == policy::Step::auth || listener_.services[static_cast<std::size_t>(step)].empty()) return true;
  return heed_services(decision, ask_services(step, facts));
}

void Client::account_for(const policy::Verdict& verdict, policy::Step step, const policy::Facts& facts) {
  using metrics::RuleResult;
  metrics::ReactorCounters& counters = worker_.counters();
  if (verdict.rule != nullptr) {
    const RuleResult result = verdict.allowed()              ? RuleResult::allowed
                              : verdict.reply.front() == '5' ? RuleResult::refused
                                                             : RuleResult::tempfailed;
    counters.rules[verdict.rule->index][result].add();
  }
  for (const policy::Verdict::Mark& mark : verdict.marks) {
    counters.rules[mark.rule->index][RuleResult::marked].add();
    worker_.log().line(text_of(mark, step, facts));
  }
}

Consultation::State Client::ask_services(policy::Step step, const policy::Facts& facts,
                                         const policy::Credentials* credentials) {
  if (consultation_ == nullptr) {
    consultation_ =
        std::make_unique<Consultation>(worker_.reactor(), listener_.services[static_cast<std::size_t>(step)],
                                       static_cast<Consultation::Owner&>(*this));
    if (advice_->instance.empty() && step >= policy::Step::mail) advice_->instance = worker_.new_instance();
  }
  const Consultation::State state = consultation_->go_on(
      {.step = step,
       .facts = facts,
       .credentials = credentials,
       .instance = step >= policy::Step::mail ? advice_->instance : std::string_view(),
       .asks_certificate = listener_.config->client_certificates != tls::ClientCertificates::none});
  if (state != Consultation::State::allowed) return state;
  choose_upstream(step);
  return consultation_->state();
}

bool Client::heed_services(smtp::Decision& decision, Consultation::State state) {
  if (state == Consultation::State::waiting) {
    phase_ = Phase::consultation;
    no_deadline();
    return false;
  }
  if (state == Consultation::State::allowed) return true;
  if (session_.recipients_pending() > 0) return false;
  decision = session_.refuse(decision, consultation_->reply());
  if (consultation_->closes()) decision.action = Action::close;
  return true;
}

void Client::consultation_goes_on() {
  if (phase_ == Phase::greeting) return greet();
  if (phase_ == Phase::authentication) {
    judge_credentials();
    return process();
  }
  if (phase_ != Phase::consultation) return;  // it also waits for an upstream: the answer is found then
  expect_command();
  process();
}

// Where the last service that has said so wants the mail to go.
void Client::choose_upstream(policy::Step step) {
  constexpr std::string_view another_transaction =
      "452 4.5.3 This recipient's mail goes another way, send it in a transaction of its own\r\n";
  const std::string& name = consultation_->upstream();
  const std::string& address = consultation_->upstream_address();
  if (name.empty() && address.empty()) return;
  UpstreamPool* const pool = worker_.find_upstream(name, address);
  if (pool == nullptr) {
    const std::string_view key = name.empty() ? "address" : "name";
    consultation_->decided_by().tell(
        "it chooses the upstream " + config::in_quotes(policy::printable(name.empty() ? address : name)) +
        ", which is not configured: there is no [[upstream]] with this " + std::string(key));
    return consultation_->overrule(policy::replies::not_done_here);
  }
  switch (step) {
    case policy::Step::connect:
      advice_->at_connect = pool;
      break;
    case policy::Step::auth:
      advice_->at_auth = pool;
      break;
    case policy::Step::mail:
      advice_->at_mail = pool;
      break;
    case policy::Step::rcpt: {
      const UpstreamPool* const at = upstream_ != nullptr ? &upstream_->pool() : nullptr;
      if (transaction_->mail_sent && at != pool) {
        if (session_.recipients_accepted() + session_.recipients_pending() > 0)
          return consultation_->overrule(another_transaction);
        start_over();
      }
      transaction_->chosen = pool;
      break;
    }
    case policy::Step::data:  // it is on its way
      break;
  }
}

void Client::act(const smtp::Decision& decision) {
  switch (decision.action) {
    case Action::reply:
      return reply(decision.reply);
    case Action::greet:
      abort_transaction();
      offered_ = {};
      return reply(listener_.helo_reply);
    case Action::greet_esmtp:
      abort_transaction();
      offered_ = listener_.offered.extensions;
      if (!session_.secured()) offered_.remove(smtp::Extension::requiretls);
      if (const smtp::MechanismSet mechanisms = offered_mechanisms(decision); !mechanisms.empty()) {
        smtp::Capabilities offered = session_.secured() ? listener_.offered : listener_.offered_in_clear;
        offered.auth = mechanisms;
        offered_.add(smtp::Extension::auth);
        return reply(smtp::format_ehlo_reply(worker_.config().server.hostname, offered));
      }
      return reply(session_.secured() ? listener_.ehlo_reply_in_tls : listener_.ehlo_reply);
    case Action::mail:
      transaction_ = std::make_unique<Transaction>();
      transaction_->sender = decision.mail.reverse_path.mailbox;
      transaction_->parameters = decision.mail.parameters;
      transaction_->requiretls = decision.mail.requiretls;
      if (advice_ != nullptr) {
        for (UpstreamPool* const pool : {advice_->at_connect, advice_->at_auth, advice_->at_mail}) {
          if (pool != nullptr) transaction_->chosen = pool;
        }
        advice_->at_mail = nullptr;
      }
      return reply(decision.reply);
    case Action::rcpt:
      return recipient(decision.rcpt);
    case Action::data:
      return data();
    case Action::bdat:
      return chunk(decision.bdat);
    case Action::bdat_refuse:
      return refuse_chunk(decision.bdat, decision.reply);
    case Action::auth:
    case Action::auth_response:
      return authenticate(decision);
    case Action::rset:
      abort_transaction();
      return reply(decision.reply);
    case Action::starttls:
      abort_transaction();
      phase_ = Phase::starttls;
      set_deadline(listener_.config->handshake_timeout);
      return stream_.quiesce();
    case Action::quit:
      return reply_and_close(decision.reply, metrics::Close::quit);
    case Action::close:
      return reply_and_close(decision.reply, decision.verb == smtp::Verb::foreign ? metrics::Close::violation
                                                                                  : metrics::Close::errors);
  }
}

void Client::abort_transaction() {
  if (!transaction_) return;
  leave_upstream();
  transaction_.reset();
}

// ---------------------------------------------------------------------------------------------
// STARTTLS (RFC 3207). What the client sends behind the command, in the same breath or before it can have
// read 220, is not under TLS, and must not be taken for what is: not run, and not dropped in silence
// either, or an attacker who puts it there would go unnoticed (CVE-2011-0411).

void Client::stream_quiet() {
  if (phase_ != Phase::starttls) return;
  reply(replies::ready_for_tls);
  begin_handshake();
}

void Client::begin_handshake() {
  phase_ = Phase::handshake;
  set_deadline(listener_.config->handshake_timeout);
  handshake_ = std::make_unique<Handshake>(stream_, static_cast<net::Stream::Owner&>(*this),
                                           static_cast<Handshake::Owner&>(*this),
                                           std::make_unique<tls::Connection>(listener_.tls),
                                           tls::Role::server, worker_.offload(), worker_.counters());
  handshake_->start();
}

void Client::handshake_done(const Handshake& handshake) {
  worker_.counters().handshake_duration.observe(handshake.duration());
  listener_.counters->handshakes[handshake.version()][handshake.resumed()].add();
  const auto& certificate = handshake.facts().certificate;
  const bool verified = certificate && certificate->verified;
  if (!listener_.decided.empty()) facts_.tls_started(handshake.facts());
  forget_login();
  if (advice_ != nullptr) advice_->at_auth = nullptr;
  handshake_.reset();
  session_.tls_started(verified);
  offered_ = {};
  if (listener_.config->implicit_tls) return begin();
  stream_.resume();
  await_command();
}

void Client::handshake_failed(const Handshake& handshake) {
  listener_.counters->handshake_failures[handshake.failure()].add();
  worker_.log().line("listener " + listener_.config->name + ": " + handshake.failure_report());
  if (handshake.lost()) return close(metrics::Close::client_lost);
  // Nothing can be said: not in clear text, and not yet in TLS.
  if (handshake.failure() == metrics::HandshakeFailure::timeout) return close(metrics::Close::timeout);
  close_after_replies(metrics::Close::violation);
}

// ---------------------------------------------------------------------------------------------
// The envelope: MAIL is answered here; the first RCPT leases an upstream connection, which gets both.

void Client::recipient(const smtp::RcptCommand& rcpt) {
  Transaction& t = *transaction_;
  if (!t.mail_refusal.empty()) return answer_pending(t.mail_refusal, Origin::upstream);
  if (!t.failure.empty()) return answer_pending(t.failure, Origin::ringmx);
  smtp::append_rcpt_command(t.recipients, rcpt.forward_path.mailbox, rcpt.parameters);
  // An exclusive connection of an earlier transaction.
  const bool other = upstream_ != nullptr && t.chosen != nullptr && &upstream_->pool() != t.chosen;
  if (upstream_ != nullptr && !t.mail_sent && (other || !will_do())) leave_upstream();
  if (upstream_ == nullptr) return acquire_upstream(false);
  send_envelope();
}

std::span<UpstreamPool* const> Client::upstreams() const noexcept {
  if (transaction_->chosen != nullptr) return {&transaction_->chosen, 1};
  return listener_.upstreams;
}

// With another upstream: none of this one's has been accepted.
void Client::start_over() {
  Transaction& t = *transaction_;
  leave_upstream();
  t.recipients.clear();
  t.recipients_sent = 0;
  t.mail_sent = t.mail_answered = false;
  t.mail_refusal.clear();
}

void Client::acquire_upstream(bool fresh) {
  Transaction& t = *transaction_;
  t.tried.clear();
  t.fresh = fresh;
  t.first_choice = listener_.next_upstream++;
  continue_acquiring();
}

// Round robin; those that could not be reached a moment ago only if no other is left.
void Client::continue_acquiring() {
  Transaction& t = *transaction_;
  const std::span<UpstreamPool* const> pools = upstreams();
  const std::size_t count = pools.size();
  for (const bool avoided_too : {false, true}) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t choice = (t.first_choice + i) % count;
      UpstreamPool& pool = *pools[choice];
      if ((!t.tried.empty() && t.tried[choice]) || (pool.avoided() && !avoided_too)) continue;
      const bool own = login_ != nullptr && pool.hands_over_login();
      if (!t.fresh && !own) upstream_ = pool.take_idle(*this);
      if (upstream_ != nullptr && !will_do()) std::exchange(upstream_, nullptr)->release();
      if (upstream_ != nullptr) {
        expect_command();
        return send_envelope();
      }
      t.tried.resize(count);
      t.tried[choice] = true;
      upstream_ = pool.connect(*this);
      if (upstream_ != nullptr) {
        phase_ = Phase::lease;
        return no_deadline();
      }
    }
  }
  expect_command();
  envelope_lost(t.requiretls ? replies::no_upstream_with_tls : replies::no_upstream);
}

// RFC 8689 section 4.2.1. It was offered since all upstreams had it; this one, or its connection, has not.
bool Client::will_do() const noexcept {
  return !transaction_->requiretls || upstream_->capabilities().extensions.has(smtp::Extension::requiretls);
}

void Client::upstream_ready(UpstreamConnection& connection) {
  assert(phase_ == Phase::lease && upstream_ == &connection);
  if (!will_do()) {
    connection.release();
    return upstream_unavailable();
  }
  expect_command();
  send_envelope();
  process();
}

void Client::upstream_unavailable() {
  upstream_ = nullptr;
  continue_acquiring();
  process();
}

// Says to the upstream what it may hear now: all that there is if it takes PIPELINING, else one
// command at a time.
void Client::send_envelope() {
  Transaction& t = *transaction_;
  if (!t.mail_sent) {
    upstream_->begin_transaction();
    t.mail_sent = true;
    t.may_retry = upstream_->reused();
    std::string command;
    smtp::append_mail_command(command, t.sender, t.parameters, upstream_->capabilities().extensions);
    upstream_->command(Stage::mail, command);
  }
  while (t.recipients_sent < t.recipients.size() && upstream_->ready_for_command()) {
    const std::size_t end = t.recipients.find('\n', t.recipients_sent) + 1;
    upstream_->command(Stage::rcpt,
                       std::string_view(t.recipients).substr(t.recipients_sent, end - t.recipients_sent));
    t.recipients_sent = end;
  }
  if (t.mail_answered && t.recipients_sent == t.recipients.size()) {
    t.recipients.clear();
    t.recipients_sent = 0;
  }
}

// The client's time begins anew: the upstream's, which it has waited for, may be as long as its own.
void Client::answer_pending(std::string_view text, Origin origin) {
  while (session_.recipients_pending() > 0) {
    recipient_decided(false);
    if (!reply_to_recipient(text, origin)) return;
  }
  set_deadline(listener_.config->command_timeout);
}

void Client::recipient_decided(bool accepted) {
  session_.recipient_replied(accepted);
  facts_.recipient_replied(accepted);
}

// False: one refusal too many, the session ends instead. The upstream counts them, but for all clients
// together.
bool Client::reply_to_recipient(std::string_view text, Origin origin) {
  if (origin == Origin::upstream && text.front() == '5' && session_.refused_by_upstream()) {
    reply_and_close(smtp::replies::too_many_errors, metrics::Close::errors);
    return false;
  }
  reply(text, origin);
  return true;
}

// The upstream, and with it what it knew of the envelope, is gone. If it had accepted a recipient
// there is no way back for this transaction; else the next RCPT starts afresh.
void Client::envelope_lost(std::string_view text) {
  Transaction& t = *transaction_;
  answer_pending(text, Origin::ringmx);
  if (session_.recipients_accepted() > 0) {
    t.failure = text;
    return;
  }
  t.recipients.clear();
  t.recipients_sent = 0;
  t.mail_sent = t.mail_answered = false;
}

// ---------------------------------------------------------------------------------------------
// The message.

void Client::data() {
  Transaction& t = *transaction_;
  if (!t.failure.empty()) return data_refused(t.failure, Origin::ringmx);
  phase_ = Phase::data_reply;
  no_deadline();
  upstream_->command(Stage::data, "DATA\r\n");
}

// DATA will not be done. If the message is here already, or comes all the same, it is not taken
// for commands.
void Client::data_refused(std::string_view text, Origin origin) {
  reply(text, origin);
  count_message(text);
  // While process_command() is at it, it looks at what follows itself.
  const bool message_here = !processing_ && !input_.empty();
  leave_upstream();
  end_transaction();
  data_refused_ = true;
  if (message_here && phase_ != Phase::ending) {
    worker_.counters().violations[Violation::unauth_pipelining].add();
    close_after_replies(metrics::Close::violation);
  }
}

void Client::begin_body() {
  Transaction& t = *transaction_;
  const bool as_chunks = t.chunked && upstream_->capabilities().extensions.has(smtp::Extension::chunking);
  t.framing = as_chunks ? Framing::octets : Framing::dot;
  t.body.emplace(t.chunked ? Framing::octets : Framing::dot, t.framing);
  t.body_start = worker_.reactor().now();
  // Its answer is due from here on: one that comes before the end can only be a refusal.
  if (t.framing == Framing::dot) upstream_->expect_message();
}

// Hands the pieces of a filtered slice to the upstream. They leave at the end of the batch at the
// earliest, so what inspect_body() finds in them can still stop them.
struct Client::ToUpstream {
  UpstreamConnection& upstream;
  const ring::Slice& source;
  void slice(std::string_view piece) const {
    if (piece.size() < copy_below) {
      upstream.send_copy(piece);
    } else {
      upstream.send(source.part(piece.data(), piece.size()));
    }
  }
  void text(std::string_view constant) const { upstream.send_copy(constant); }
};

namespace {
struct Nowhere {
  void slice(std::string_view) const {}
  void text(std::string_view) const {}
};
}  // namespace

bool Client::process_body() {
  if (input_.empty() || upstream_is_behind()) return false;
  Transaction& t = *transaction_;
  const ring::Slice source = input_.front();
  const std::string_view input(source.data(), source.size());
  const std::size_t used = upstream_ != nullptr ? t.body->feed(input, ToUpstream{*upstream_, source})
                                                : t.body->feed(input, Nowhere{});
  consume(used);
  t.received += used;
  inspect_body();
  if (!t.body->ended()) return true;
  message_is_over();
  return true;
}

void Client::message_is_over() {
  Transaction& t = *transaction_;
  if (!t.failure.empty()) return message_ends(t.failure, Origin::ringmx);
  phase_ = Phase::message_reply;
  no_deadline();
  upstream_->await_message();
}

// May the message go on? Called after every piece, before that piece can leave.
void Client::inspect_body() {
  Transaction& t = *transaction_;
  if (!t.failure.empty()) return;
  const config::Listener& config = *listener_.config;
  const smtp::BodyFaults& faults = t.body->faults();
  if (config.message_size_limit != 0 && t.body->message_size() > config.message_size_limit) {
    fail_message(replies::message_too_big);
  } else if (config.bare_newline == config::FaultPolicy::reject && (faults.bare_lf || faults.bare_cr)) {
    fail_message(replies::bare_newline);
  } else if (config.nul == config::FaultPolicy::reject && faults.nul) {
    fail_message(replies::nul_in_message);
  }
}

void Client::fail_message(std::string_view text) {
  transaction_->failure = text;
  leave_upstream();
}

void Client::message_ends(std::string_view text, Origin origin) {
  count_faults();
  count_message(text);
  reply(text, origin);
  end_transaction();
}

void Client::end_transaction() {
  const bool keeps = upstream_ != nullptr && upstream_->exclusive() && upstream_->at_rest() &&
                     transaction_->chosen == nullptr;
  if (upstream_ != nullptr && !keeps) std::exchange(upstream_, nullptr)->release();
  transaction_.reset();
  facts_.transaction_ended();
  session_.transaction_ended();
  await_command();
}

// ---------------------------------------------------------------------------------------------
// BDAT.

void Client::chunk(const smtp::BdatCommand& bdat) {
  Transaction& t = *transaction_;
  t.chunk_size = t.chunk_left = bdat.size;
  t.chunk_last = bdat.last;
  phase_ = Phase::chunk;
  if (t.body || !t.failure.empty()) return;
  t.chunked = true;
  if (upstream_->capabilities().extensions.has(smtp::Extension::chunking)) return begin_body();
  phase_ = Phase::data_reply;
  no_deadline();
  upstream_->command(Stage::data, "DATA\r\n");
}

// The octets come all the same, and must not be taken for commands.
void Client::refuse_chunk(const smtp::BdatCommand& bdat, std::string_view text) {
  abort_transaction();  // the session has failed it
  transaction_ = std::make_unique<Transaction>();
  transaction_->refusal = text;
  transaction_->chunk_left = bdat.size;
  phase_ = Phase::chunk;
}

bool Client::process_chunk() {
  Transaction& t = *transaction_;
  if (t.chunk_left == 0) {
    end_of_chunk();
    return true;
  }
  const bool dropping = !t.refusal.empty() || !t.failure.empty();
  if (input_.empty() || (!dropping && upstream_is_behind())) return false;
  const ring::Slice source = input_.front();
  const std::string_view piece(source.data(), std::min<std::uint64_t>(source.size(), t.chunk_left));
  consume(piece.size());
  t.received += piece.size();
  t.chunk_left -= piece.size();
  if (dropping) return true;
  if (t.framing == Framing::octets) {
    relay_chunk(piece, source, t.chunk_last && t.chunk_left == 0);
  } else {
    t.body->feed(piece, ToUpstream{*upstream_, source});
    inspect_body();
  }
  return true;
}

// BDAT to BDAT: `piece` becomes a chunk of its own. It is looked at before it is sent: a last chunk
// would complete the message, whatever came behind it.
void Client::relay_chunk(std::string_view piece, const ring::Slice& source, bool finish) {
  struct Collect {
    std::vector<std::string_view>& pieces;
    std::size_t& size;
    void slice(std::string_view p) const { pieces.push_back(p), size += p.size(); }
    void text(std::string_view p) const { slice(p); }
  };
  Transaction& t = *transaction_;
  std::vector<std::string_view>& pieces = worker_.scratch();
  pieces.clear();
  std::size_t size = 0;
  t.body->feed(piece, Collect{pieces, size});
  if (finish) t.body->finish(Collect{pieces, size});
  inspect_body();
  if (!t.failure.empty() || (size == 0 && !finish)) return;
  std::string command;
  smtp::append_bdat_command(command, size, finish);
  upstream_->command(Stage::bdat, command);
  const ToUpstream sink{*upstream_, source};
  for (const std::string_view p : pieces) sink.slice(p);  // constants are short, and copied
  t.chunk_finished = finish;
}

void Client::end_of_chunk() {
  Transaction& t = *transaction_;
  if (!t.refusal.empty()) {
    reply(t.refusal);
    transaction_.reset();
    return await_command();
  }
  // From here to the next chunk it is not the client that is slow with the message.
  if (t.unhurried_since == ring::never) t.unhurried_since = worker_.reactor().now();
  if (t.chunk_last && !t.chunk_finished && t.failure.empty()) {
    if (t.framing == Framing::octets) {
      relay_chunk({}, {}, true);
    } else {
      t.body->finish(ToUpstream{*upstream_, {}});
      t.chunk_finished = true;
      inspect_body();
    }
  }
  if (!t.failure.empty()) return chunk_failed();
  if (t.framing == Framing::dot && t.chunk_last) return message_is_over();
  if (t.framing == Framing::octets && upstream_->outstanding() > 0) {
    phase_ = Phase::chunk_reply;
    return no_deadline();
  }
  // The upstream has nothing to say to this one: it gets DATA, or the chunk held nothing for it.
  reply("250 2.0.0 Ok: " + std::to_string(t.chunk_size) + " octets received\r\n");
  session_.chunk_accepted();
  await_command();
}

// RFC 3030 section 2: a refused chunk ends the transaction.
void Client::chunk_failed() {
  if (transaction_->chunk_last) return message_ends(transaction_->failure, Origin::ringmx);
  count_faults();
  count_message(transaction_->failure);
  reply(transaction_->failure);
  transaction_.reset();
  session_.chunk_failed();
  await_command();
}

// ---------------------------------------------------------------------------------------------
// What the upstream says.

void Client::upstream_replied(Stage stage, const smtp::Reply& text) {
  switch (stage) {
    case Stage::mail:
      mail_replied(text);
      break;
    case Stage::rcpt:
      recipient_replied(text);
      break;
    case Stage::data:
      data_replied(text);
      break;
    case Stage::bdat:
      chunk_replied(text);
      break;
    case Stage::message:
      message_replied(text);
      break;
    default:
      break;
  }
  process();
}

void Client::mail_replied(const smtp::Reply& text) {
  Transaction& t = *transaction_;
  if (text.intermediate()) return upstream_->reject();
  if (text.positive()) {
    t.mail_answered = true;
    return send_envelope();
  }
  t.mail_refusal = text.text;
  leave_upstream();  // with the RCPTs that may be out: their 503 is of no interest
  answer_pending(t.mail_refusal, Origin::upstream);
}

void Client::recipient_replied(const smtp::Reply& text) {
  if (text.intermediate()) return upstream_->reject();
  recipient_decided(text.positive());
  if (text.positive()) worker_.counters().recipients_accepted.add();
  if (!reply_to_recipient(text.text, Origin::upstream)) return;
  if (session_.recipients_pending() == 0) set_deadline(listener_.config->command_timeout);
  send_envelope();
}

void Client::data_replied(const smtp::Reply& text) {
  Transaction& t = *transaction_;
  if (text.positive()) return upstream_->reject();
  if (text.intermediate()) {
    begin_body();
    phase_ = t.chunked ? Phase::chunk : Phase::body;
    if (!t.chunked) reply(text.text, Origin::upstream);
  } else if (t.chunked) {
    fail_message(text.text);
    phase_ = Phase::chunk;
  } else {
    data_refused(text.text, Origin::upstream);
  }
}

void Client::chunk_replied(const smtp::Reply& text) {
  if (text.intermediate()) return upstream_->reject();
  if (!text.positive()) {
    fail_message(text.text);
    if (phase_ == Phase::chunk_reply) chunk_failed();
  } else if (phase_ == Phase::chunk_reply && upstream_->outstanding() == 0) {
    accepted(text.text);
  }
}

void Client::message_replied(const smtp::Reply& text) {
  const bool at_its_end = phase_ == Phase::message_reply;
  // Accepted before it was whole, or 3xx: whatever the upstream means, it is not this message.
  if (text.intermediate() || (text.positive() && !at_its_end)) return upstream_->reject();
  if (text.positive()) return accepted(text.text);
  if (at_its_end) return message_ends(text.text, Origin::upstream);
  fail_message(text.text);
}

// A message, or a chunk. What the kernel has not been given can't have been accepted: its end came from the
// client in the same batch of completions as the reply, and either may stand first in that. What is under way
// may have been, for a receive can complete before an earlier send: so the reply waits for the word on the
// send, which then says that it took all.
void Client::accepted(std::string_view text) {
  Transaction& t = *transaction_;
  if (upstream_->unsubmitted() > 0) return upstream_->reject();
  if (upstream_->unsent() > 0) {
    t.acceptance = text;
    return;
  }
  if (!t.chunked || t.chunk_last) return message_ends(text, Origin::upstream);
  reply(text, Origin::upstream);
  session_.chunk_accepted();
  await_command();
}

void Client::upstream_sent() {
  if (transaction_ && !transaction_->acceptance.empty()) {
    accepted(std::exchange(transaction_->acceptance, {}));
    return process();
  }
  if (phase_ == Phase::body || phase_ == Phase::chunk) process();
}

void Client::upstream_lost(UpstreamLoss loss) {
  upstream_ = nullptr;
  if (!transaction_) return;  // an exclusive connection, between transactions
  Transaction& t = *transaction_;
  const std::string_view text = reply_to_loss(loss);
  switch (phase_) {
    case Phase::command:
    case Phase::consultation:
      if (t.may_retry && !t.mail_answered) {
        // It may have been dead for long; the client need not notice.
        t.mail_sent = false;
        t.recipients_sent = 0;
        acquire_upstream(true);
      } else if (t.body) {
        fail_message(text);  // between two chunks
      } else {
        envelope_lost(text);
      }
      break;
    case Phase::data_reply:
      if (t.chunked) {
        fail_message(text);
        phase_ = Phase::chunk;
      } else {
        data_refused(text, Origin::ringmx);
      }
      break;
    case Phase::body:
    case Phase::chunk:
      if (t.failure.empty()) fail_message(text);
      break;
    case Phase::chunk_reply:
      fail_message(text);
      chunk_failed();
      break;
    case Phase::message_reply:
      message_ends(text, Origin::ringmx);
      break;
    case Phase::greeting:
    case Phase::authentication:
    case Phase::lease:
    case Phase::starttls:
    case Phase::handshake:
    case Phase::ending:
      break;
  }
  process();
}

// Ends the lease in the way that the state of the connection allows.
void Client::leave_upstream() {
  if (upstream_ == nullptr) return;
  UpstreamConnection& upstream = *std::exchange(upstream_, nullptr);
  if (phase_ == Phase::lease) return upstream.drop();
  if (!transaction_ || !transaction_->mail_sent) return upstream.release();
  const bool within_message =
      transaction_->body && transaction_->framing == Framing::dot && phase_ != Phase::message_reply;
  const bool may_begin = phase_ == Phase::data_reply && upstream.outstanding() > 0;
  if (within_message || may_begin) {
    upstream.drop();
  } else {
    upstream.abandon();
  }
}

bool Client::upstream_is_behind() const noexcept {
  if (upstream_ == nullptr) return false;
  // In whole buffers, for they are what is scarce, and in bytes, for what was copied into none.
  const std::size_t share = worker_.share();
  return upstream_->held() >= share || upstream_->unsent() >= share ||
         (transaction_->framing == Framing::octets && !upstream_->ready_for_command());
}

// ---------------------------------------------------------------------------------------------
// Replies and the end.

void Client::reply(std::string_view text, Origin origin) {
  metrics::ReactorCounters& counters = worker_.counters();
  auto& by_class = origin == Origin::ringmx ? counters.own_replies : counters.upstream_replies;
  by_class[static_cast<std::size_t>(text.front() - '2')].add();
  // Copied, always: a reply is short, and what it was read from is needed by others.
  stream_.send_copy(text);
}

// It is the client's turn, and its time runs: one without the other, and it could stay for good.
void Client::expect_command() {
  phase_ = Phase::command;
  set_deadline(listener_.config->command_timeout);
}

void Client::await_command() {
  expect_command();
  if (overrun_) return reply_and_close(replies::congested, metrics::Close::memory);
  if (draining_ && !transaction_) reply_and_close(replies::shutting_down, metrics::Close::draining);
}

void Client::reply_and_close(std::string_view text, metrics::Close reason) {
  reply(text);
  close_after_replies(reason);
}

// It has sent what it must not send yet.
void Client::out_of_step(Violation violation) {
  worker_.counters().violations[violation].add();
  reply_and_close(replies::synchronization, metrics::Close::violation);
}

void Client::close_after_replies(metrics::Close reason) {
  leave(reason);
  stream_.end();
  const ring::Duration patience = listener_.config->close_timeout;
  set_deadline(draining_ ? std::min(patience, close_timeout_draining) : patience);
}

void Client::close(metrics::Close reason) {
  // A client that has only ended its side still reads.
  if (input_ended_) return close_after_replies(reason);
  leave(reason);
  stream_.close();
}

void Client::leave(metrics::Close reason) {
  handshake_.reset();
  consultation_.reset();
  listener_.counters->closed[static_cast<std::size_t>(reason)][stage()].add();
  if (transaction_ && transaction_->mail_sent) worker_.counters().messages[MessageResult::aborted].add();
  leave_upstream();
  transaction_.reset();
  input_.clear();
  phase_ = Phase::ending;
}

void Client::stream_closed() {
  worker_.client_closed(*this);
}

void Client::drain() {
  if (draining_ || phase_ == Phase::ending) return;
  draining_ = true;
  const bool in_handshake = phase_ == Phase::starttls || phase_ == Phase::handshake;
  if (!transaction_ && !in_handshake) reply_and_close(replies::shutting_down, metrics::Close::draining);
}

void Client::shut_down() {
  draining_ = true;
  if (phase_ == Phase::handshake) return close(metrics::Close::draining);
  if (phase_ != Phase::ending) reply_and_close(replies::shutting_down, metrics::Close::draining);
}

void Client::count_message(std::string_view text) {
  const MessageResult result = text.front() == '2'   ? MessageResult::accepted
                               : text.front() == '5' ? MessageResult::refused
                                                     : MessageResult::tempfailed;
  worker_.counters().messages[result].add();
}

void Client::count_faults() {
  if (!transaction_->body) return;
  const smtp::BodyFaults& faults = transaction_->body->faults();
  metrics::ReactorCounters& counters = worker_.counters();
  const auto count = [&](bool fault, Violation violation, config::FaultPolicy policy) {
    if (!fault) return;
    (policy == config::FaultPolicy::reject ? counters.violations : counters.mended)[violation].add();
  };
  count(faults.bare_lf, Violation::bare_lf_message, listener_.config->bare_newline);
  count(faults.bare_cr, Violation::bare_cr_message, listener_.config->bare_newline);
  count(faults.nul, Violation::nul_message, listener_.config->nul);
}

ClosedIn Client::stage() const noexcept {
  switch (phase_) {
    case Phase::greeting:
      return ClosedIn::greeting;
    case Phase::consultation:
    case Phase::authentication:
      return ClosedIn::service_wait;
    case Phase::lease:
    case Phase::data_reply:
      return ClosedIn::upstream_wait;
    case Phase::body:
    case Phase::chunk:
      return ClosedIn::data;
    case Phase::chunk_reply:
    case Phase::message_reply:
      return ClosedIn::reply;
    case Phase::starttls:
    case Phase::handshake:
      return ClosedIn::handshake;
    case Phase::command:
    case Phase::ending:
      break;
  }
  return ClosedIn::command;
}

// ---------------------------------------------------------------------------------------------
// Time. One deadline: for the client's next command, which single bytes of it do not extend; or for
// its message, which has to keep a minimum rate. While the upstream is waited for, the upstream's
// own deadlines rule.

void Client::set_deadline(ring::Duration after) {
  worker_.reactor().timers().set(timer_, worker_.reactor().now() + after);
}

void Client::no_deadline() {
  worker_.reactor().timers().clear(timer_);
}

void Client::set_body_deadline() {
  Transaction& t = *transaction_;
  const config::Listener& config = *listener_.config;
  const ring::Time now = worker_.reactor().now();
  if (t.body_start == ring::Time{}) t.body_start = now;
  if (upstream_is_behind()) {
    if (t.unhurried_since == ring::never) t.unhurried_since = now;
    return no_deadline();
  }
  if (t.unhurried_since != ring::never) {
    t.body_start += now - t.unhurried_since;  // not the client's fault
    t.unhurried_since = ring::never;
  }
  ring::Time deadline = now + config.data_timeout;
  if (config.min_data_rate != 0) {
    const ring::Duration earned(static_cast<std::int64_t>(t.received * 1000 / config.min_data_rate));
    deadline = std::min(deadline, t.body_start + config.data_timeout + earned);
  }
  worker_.reactor().timers().set(timer_, deadline);
}

void Client::on_timeout() {
  switch (phase_) {
    case Phase::greeting:
      return greet();
    case Phase::command:
      // Waiting for replies to RCPT: the upstream's time, not the client's.
      if (session_.recipients_pending() > 0) return set_deadline(listener_.config->command_timeout);
      return reply_and_close(replies::command_timeout, metrics::Close::timeout);
    case Phase::body:
    case Phase::chunk:
      return reply_and_close(replies::too_slow, metrics::Close::too_slow);
    case Phase::starttls:
      return close(metrics::Close::timeout);
    case Phase::handshake:
      return handshake_->expire();
    case Phase::authentication:
      pause_is_over();
      return process();
    case Phase::ending:
      return stream_.close();
    case Phase::consultation:
    case Phase::lease:
    case Phase::data_reply:
    case Phase::chunk_reply:
    case Phase::message_reply:
      return;
  }
}

}  // namespace ringmx::gateway
