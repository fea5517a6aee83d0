// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "load/generator.h"
#include "load/report.h"

namespace ringmx::load {

using smtp::Stage;

namespace {

// After the reply to QUIT: so long for the server to close first, which spares our port its TIME_WAIT.
constexpr Nanoseconds last_words = second;

constexpr Span span_of(Stage stage) noexcept {
  switch (stage) {
    case Stage::greeting:
      return Span::greeting;
    case Stage::mail:
      return Span::mail;
    case Stage::rcpt:
      return Span::rcpt;
    case Stage::data:
      return Span::data;
    case Stage::bdat:
      return Span::bdat;
    case Stage::message:
      return Span::body;
    case Stage::starttls:
      return Span::starttls;
    case Stage::ehlo:
    case Stage::helo:
    case Stage::rset:
    case Stage::quit:
    case Stage::xclient:  // never said here, nor is AUTH
    case Stage::auth:
      return Span::ehlo;
  }
  return Span::ehlo;
}

}  // namespace

Connection::Connection(Generator& generator, std::uint64_t session, std::uint64_t slow)
    : generator_(generator),
      stream_(generator.reactor_, generator.memory(), generator.traffic(), *this),
      script_(generator.options_.manners, generator.mail_, session, *this),
      session_(session),
      slow_(slow) {}

void Connection::open(int fd, std::optional<Ticket> ticket) {
  ticket_ = ticket;
  opened_ = said_ = generator_.now();
  stream_.connect(fd, generator_.target_);
  wait(generator_.options_.connect_timeout);
}

void Connection::stream_connected() {
  const Nanoseconds now = generator_.clock();
  generator_.statistics_.span(Span::connect).record(now - opened_);
  connected_ = true;
  said_ = now;
  if (generator_.options_.tls.implicit) return shake_hands();
  script_.start();
  stream_.resume();
  wait(generator_.options_.timeout);
}

// TLS.

void Connection::start_tls() {
  starttls_ = true;
  stream_.quiesce();
}

void Connection::stream_quiet() {
  if (!over_) shake_hands();
}

void Connection::shake_hands() {
  said_ = generator_.tick();
  handshake_ = std::make_unique<gateway::Handshake>(
      stream_, static_cast<net::Stream::Owner&>(*this), static_cast<gateway::Handshake::Owner&>(*this),
      generator_.tls_connection(), tls::Role::client, generator_.offload_, generator_.tls_counters_);
  waited_for_ = generator_.options_.tls.resume && !generator_.session_;
  if (waited_for_) handshake_->want_session();
  wait(generator_.options_.timeout);
  handshake_->start();
}

void Connection::handshake_done(const gateway::Handshake& handshake) {
  const Nanoseconds now = generator_.tick();
  generator_.statistics_.span(Span::handshake).record(now - said_);
  generator_.count_handshake(handshake, waited_for_);
  handshake_.reset();
  secured_ = true;
  said_ = now;
  if (starttls_) {
    starttls_ = false;
    script_.tls_started();
  } else {
    script_.start();
  }
  stream_.resume();
  wait(generator_.options_.timeout);
}

void Connection::session_resumable(std::shared_ptr<const tls::Session> session) {
  waited_for_ = false;
  generator_.resume(std::move(session));
}

void Connection::handshake_failed(const gateway::Handshake& handshake) {
  const bool lost = handshake.lost();
  count_failure(lost ? Failure::closed : Failure::tls, shaking_hands, handshake.failure_text());
  handshake_.reset();
  if (lost) return stream_.close();
  // The server hears why.
  wait(last_words);
  stream_.end();
}

// Replies.

void Connection::stream_received(ring::Slice data) {
  if (over_) return;
  generator_.tick();
  if (starttls_) {
    return fail(Failure::unsolicited, static_cast<std::size_t>(Stage::starttls),
                "clear text behind the reply to STARTTLS: " + on_one_line({data.data(), data.size()}));
  }
  read({data.data(), data.size()});
}

void Connection::read(std::string_view data) {
  // The server has spoken and given no ticket: it may still come, but nobody waits for it.
  if (secured_ && waited_for_) {
    waited_for_ = false;
    generator_.go_on_without_session();
  }
  switch (script_.received(data)) {
    case Script::Fault::none:
      break;
    case Script::Fault::bad_reply:
      return fail(Failure::bad_reply, "not an SMTP reply: " + on_one_line(data));
    case Script::Fault::unsolicited:
      return fail(Failure::unsolicited, "a reply to nothing: " + on_one_line(data));
  }
  if (!over_ && !at_rest_) wait(generator_.options_.timeout);
}

// What leaves for the server.

void Connection::say(std::string_view commands) {
  said_ = generator_.now();
  put_copy(commands);
}

void Connection::say_message(const Message& message, std::uint64_t from, std::uint64_t to,
                             smtp::Framing framing) {
  const auto piece = [this](std::string_view text) { put(ring::Slice(text.data(), text.size())); };
  const Mail& mail = generator_.mail_;
  sending_ = true;
  sent_ = 0;
  if (from < message.header_size) {
    std::string header;
    mail.append_header(header, message);
    put_copy(std::string_view(header).substr(from, to - from));
  }
  if (framing == smtp::Framing::dot) {
    mail.stuffed_body(message, piece);
  } else if (to > message.header_size) {
    mail.body(message, std::max<std::uint64_t>(from, message.header_size) - message.header_size,
              to - message.header_size, piece);
  }
}

void Connection::put(ring::Slice slice) {
  if (slow_ == 0) return stream_.send(std::move(slice));
  if (waiting_.empty()) {
    paced_ = generator_.now();
    generator_.reactor_.timers().set(pace_, generator_.reactor_.now());
  }
  waiting_.push_back(std::move(slice));
}

void Connection::put_copy(std::string_view bytes) {
  if (slow_ == 0) return stream_.send_copy(bytes);
  ring::BlockPool& pool = generator_.text_;
  while (!bytes.empty()) {
    ring::Slice block = pool.copy(bytes);
    if (!block) return fail(Failure::system, "out of memory for what slow clients have to say");
    put(std::move(block));
  }
}

// A slow client's turn: as much as the time since the last one allows.
void Connection::on_pace() {
  const Nanoseconds now = generator_.tick();
  auto allowed =
      static_cast<std::uint64_t>(static_cast<double>(now - paced_) / second * static_cast<double>(slow_));
  if (allowed > 0)
    paced_ += static_cast<Nanoseconds>(static_cast<double>(allowed) / static_cast<double>(slow_) * second);
  while (allowed > 0 && !waiting_.empty()) {
    ring::Slice& front = waiting_.front();
    const std::size_t n = std::min<std::uint64_t>(allowed, front.size());
    stream_.send(front.part(front.data(), n));
    front.remove_prefix(n);
    allowed -= n;
    if (front.empty()) waiting_.pop_front();
  }
  wait(generator_.options_.timeout);
  if (!waiting_.empty())
    generator_.reactor_.timers().set(pace_, generator_.reactor_.now() + ring::Duration(1));
}

void Connection::stream_sent() {
  if (over_) return;
  if (!at_rest_) wait(generator_.options_.timeout);
  if (sending_ && stream_.unsent() == 0 && waiting_.empty()) {
    sending_ = false;
    sent_ = generator_.tick();
  }
}

// What comes back.

void Connection::replied(Stage stage, const smtp::Reply& reply) {
  Statistics& s = generator_.statistics_;
  s.reply(stage, reply.code).add();
  const Nanoseconds now = generator_.now();
  switch (stage) {
    case Stage::rset:
    case Stage::quit:
      break;
    case Stage::message:
      // A reply that did not wait for the end of the message measures nothing.
      if (sent_ != 0) s.span(Span::body).record(now - sent_);
      break;
    default:
      s.span(span_of(stage)).record(now - said_);
  }
  const bool good = stage == Stage::data ? reply.intermediate() : reply.positive();
  if (stage == Stage::rcpt) (good ? s.recipients_accepted : s.recipients_refused).add();
  if (!good && s.reply(stage, reply.code).value() <= Generator::samples_of_a_kind) {
    generator_.sample(std::string(smtp::stage_name(stage)) + " " + std::to_string(reply.code),
                      on_one_line(reply.text));
  }
}

void Connection::message_ended(const Outcome& outcome) {
  if (over_) return;  // it has failed with its session already
  Statistics& s = generator_.statistics_;
  const Nanoseconds now = generator_.now();
  if (outcome.accepted) {
    s.accepted.add();
    s.octets.add(size_);
    s.span(Span::transaction).record(now - begun_);
    s.span(Span::message).record(now - ticket_->due);
  } else {
    s.refused.add();
  }
  ticket_.reset();
  ++messages_;
  generator_.message_is_over(now);
}

void Connection::ready() {
  if (over_) return;
  if (script_.lacks_starttls())
    return fail(Failure::no_starttls, at_rest, "the server does not offer STARTTLS");
  if (script_.lacks_chunking())
    return fail(Failure::no_chunking, at_rest, "the server does not offer CHUNKING");
  if (ticket_) return begin();
  at_rest_ = true;
  generator_.reactor_.timers().clear(timer_);
  generator_.at_rest(*this);
}

void Connection::send(const Ticket& ticket) {
  at_rest_ = false;
  ticket_ = ticket;
  begin();
}

void Connection::begin() {
  begun_ = generator_.now();
  sent_ = 0;
  const Message message = generator_.mail_.message(ticket_->number, session_);
  size_ = message.size;
  script_.begin(message);
  wait(generator_.options_.timeout);
}

void Connection::quit() {
  at_rest_ = false;
  script_.quit();
  wait(generator_.options_.timeout);
}

// The end.

void Connection::said_bye() {
  Statistics& s = generator_.statistics_;
  s.span(Span::session).record(generator_.now() - opened_);
  s.sessions_closed.add();
  over_ = true;
  wait(last_words);
}

void Connection::dismissed(std::optional<Stage> stage, const smtp::Reply& reply) {
  // The message at hand was refused with these words, too; or never begun.
  if (ticket_) {
    generator_.statistics_.refused.add();
    ticket_.reset();
    generator_.message_is_over(generator_.now());
  }
  fail(Failure::dismissed, stage ? static_cast<std::size_t>(*stage) : load::at_rest, on_one_line(reply.text));
}

void Connection::fail(Failure failure, std::string_view text) {
  fail(failure,
       !connected_               ? connecting
       : handshake_ || starttls_ ? shaking_hands
       : script_.waiting()       ? static_cast<std::size_t>(script_.stage())
                                 : load::at_rest,
       text);
}

void Connection::fail(Failure failure, std::size_t place, std::string_view text) {
  if (over_) return;
  count_failure(failure, place, text);
  handshake_.reset();  // gives the stream back
  stream_.close();
}

void Connection::count_failure(Failure failure, std::size_t place, std::string_view text) {
  over_ = true;
  generator_.count_failure(failure, place, text, ticket_.has_value());
  ticket_.reset();
  generator_.failed(*this);
}

void Connection::cut_off() {
  if (!over_) {
    over_ = true;
    Statistics& s = generator_.statistics_;
    s.sessions_closed.add();
    if (ticket_) s.unfinished.add();
    ticket_.reset();
  }
  handshake_.reset();
  stream_.close();
}

void Connection::stream_ended(int error) {
  // To close_notify ours is the answer.
  if (over_) return secured_ && error == 0 ? stream_.end() : stream_.close();
  if (!connected_) {
    const bool refused = error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH ||
                         error == ENOENT || error == ECONNRESET;
    return fail(error == ETIMEDOUT ? Failure::timeout
                : refused          ? Failure::refused
                                   : Failure::system,
                std::strerror(error));
  }
  if (secured_ && error == EBADMSG) return fail(Failure::tls, "a TLS record made no sense, or was an alert");
  fail(error == ETIMEDOUT ? Failure::timeout : Failure::closed,
       error == 0                    ? "the server closed the connection"
       : secured_ && error == EPROTO ? "the server closed the connection without close_notify"
                                     : std::strerror(error));
}

void Connection::stream_closed() {
  generator_.closed(*this);
}

// Time.

void Connection::wait(Nanoseconds patience) {
  generator_.reactor_.timers().set(timer_, generator_.reactor_.now() + ring::Duration(patience / 1'000'000));
}

void Connection::on_timeout() {
  if (over_) return stream_.close();
  if (!connected_) {
    return fail(Failure::timeout, "no connection in " + format_duration(generator_.options_.connect_timeout));
  }
  fail(Failure::timeout, (stream_.unsent() > 0 ? "the server took nothing for "
                          : handshake_         ? "the handshake was not over in "
                                               : "no reply in ") +
                             format_duration(generator_.options_.timeout));
}

}  // namespace ringmx::load
