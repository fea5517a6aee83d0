// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/generator.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "net/kernel_tls.h"
#include "net/listen.h"
#include "tls/load.h"
#include "tls/records.h"

namespace ringmx::load {

namespace {

// Replies are read as they come and never kept, so a few small buffers do.
constexpr std::uint32_t receive_buffer = 4096;
constexpr std::uint32_t receive_buffers = 1024;
constexpr std::uint32_t receive_offer = 64;
constexpr std::uint16_t receive_group = 1;
// Commands and headers.
constexpr std::uint32_t text_block_size = 1024;
constexpr std::uint32_t text_blocks = 128 * 1024;
// A whole record each; when there are none left, text blocks do.
constexpr std::uint32_t record_block_size =
    (tls::Records::max_plain + tls::Records::max_overhead + 63) / 64 * 64;
constexpr std::uint32_t record_blocks = 1024;
// Closed loop: so long is the place of a session that failed left empty. A server that refuses all
// connections is not asked a hundred thousand times a second.
constexpr ring::Duration recovery{100};

Nanoseconds steady_now() noexcept {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The part of thread `thread` of something that `threads` of them share.
std::uint64_t part(std::uint64_t all, std::uint64_t thread, std::uint64_t threads) noexcept {
  return all / threads + (thread < all % threads ? 1 : 0);
}

std::shared_ptr<const tls::ClientContext> make_context(const Options& options) {
  if (!options.uses_tls()) return nullptr;
  const tls::LoadedCas loaded = tls::load_cas(options.tls.client);
  if (!loaded.errors.empty()) throw std::runtime_error(loaded.errors.front());
  return std::make_shared<const tls::ClientContext>(options.tls.client, loaded.cas);
}

}  // namespace

Generator::Generator(ring::Reactor& reactor, const Options& options, const Mail& mail,
                     const net::Address& target, unsigned thread, unsigned threads, Statistics& statistics,
                     SampleLog& samples)
    : reactor_(reactor),
      options_(options),
      mail_(mail),
      target_(target),
      statistics_(statistics),
      samples_(samples),
      schedule_{
          .rate = options.rate, .ramp = options.ramp, .sessions = part(options.sessions, thread, threads)},
      threads_(threads),
      pool_(receive_buffer, receive_buffers),
      receive_(reactor, pool_, receive_group, receive_offer, receive_buffers),
      text_(text_block_size, text_blocks),
      records_(record_block_size, record_blocks),
      tls_(make_context(options)),
      awaits_session_(options.tls.resume),
      next_message_(thread),
      next_session_(thread) {
  if (tls_) offload_.kernel = net::probe_kernel_tls();
}

Generator::~Generator() = default;

void Generator::start() {
  start_ = steady_now();
  if (options_.duration > 0) {
    // Not before what is due until then: the reactor's clock stands where its last turn began.
    reactor_.timers().set(end_timer_,
                          ring::Time(ring::Duration((start_ + options_.duration) / 1'000'000 + 1)));
  }
  reactor_.defer(advance_);
}

Nanoseconds Generator::clock() const noexcept {
  return steady_now() - start_;
}

int Generator::socket(std::uint64_t number) const {
  const int fd = net::stream_socket(target_);
  const Source& source = options_.source;
  if (fd < 0 || source.address.empty() || target_.is_unix()) return fd;
  net::Address address = *net::Address::ip(source.address, 0);
  sockaddr_in v4{};
  if (source.host_bits > 0) {
    std::memcpy(&v4, address.data(), sizeof v4);
    // All addresses of the network but its first and its last.
    const std::uint32_t hosts = (std::uint32_t{1} << source.host_bits) - 2;
    const std::uint32_t network = ntohl(v4.sin_addr.s_addr) >> source.host_bits << source.host_bits;
    v4.sin_addr.s_addr = htonl(network + 1 + static_cast<std::uint32_t>(number % hosts));
  }
  const int on = 1;
  // The port is chosen at connect(), when the kernel knows the whole connection: more of them fit.
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  const sockaddr* from = source.host_bits > 0 ? reinterpret_cast<const sockaddr*>(&v4) : address.data();
  const socklen_t size = source.host_bits > 0 ? sizeof v4 : address.size();
  if (::bind(fd, from, size) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

// Messages.

bool Generator::more_messages() const noexcept {
  if (stopping_ || options_.idle || (options_.count > 0 && next_message_ >= options_.count)) return false;
  return options_.rate == 0 || options_.duration == 0 || schedule_.due(next_message_) < options_.duration;
}

std::optional<Ticket> Generator::ticket() {
  if (!more_messages()) return std::nullopt;
  const Nanoseconds due = options_.rate > 0 ? schedule_.due(next_message_) : now_;
  if (due > now_) return std::nullopt;
  return Ticket{.number = std::exchange(next_message_, next_message_ + threads_), .due = due};
}

// Open loop: what was due and found no session.
void Generator::count_missed() noexcept {
  if (options_.rate == 0) return;
  const Nanoseconds end = options_.duration > 0 ? std::min(now_, options_.duration) : now_;
  while ((options_.count == 0 || next_message_ < options_.count) && schedule_.due(next_message_) < end) {
    statistics_.missed.add();
    next_message_ += threads_;
  }
}

// Sessions.

void Generator::open(std::optional<Ticket> ticket) {
  const std::uint64_t session = std::exchange(next_session_, next_session_ + threads_);
  statistics_.sessions_opened.add();
  const int fd = socket(session);
  if (fd < 0) {
    const int error = errno;
    count_failure(Failure::system, connecting, std::strerror(error), ticket.has_value());
    if (options_.rate == 0) {
      ++recovering_;
      reactor_.timers().set(rest_timer_, reactor_.now() + recovery);
    }
    return;
  }
  Random random(~options_.mail.seed + session);
  const bool slow = options_.slow > 0 && random.uniform() * 100 < options_.slow_share;
  auto& connection =
      connections_.emplace_back(std::make_unique<Connection>(*this, session, slow ? options_.slow : 0));
  connection->index_ = static_cast<std::uint32_t>(connections_.size() - 1);
  connection->open(fd, ticket);
}

std::uint64_t Generator::allowed_sessions() const noexcept {
  const std::uint64_t allowed = options_.rate > 0 ? schedule_.sessions : schedule_.sessions_at(now_);
  return awaits_session_ ? std::min<std::uint64_t>(allowed, 1) : allowed;
}

bool Generator::send_due() {
  const std::uint64_t allowed = allowed_sessions();
  while (more_messages()) {
    if (resting_.empty() && connections_.size() >= allowed) return false;
    const std::optional<Ticket> next = ticket();
    if (!next) break;
    if (resting_.empty()) {
      open(next);
    } else {
      Connection& connection = *resting_.back();
      resting_.pop_back();
      connection.send(*next);
    }
  }
  return true;
}

void Generator::advance() {
  tick();
  const std::uint64_t allowed = allowed_sessions();
  if (options_.idle) {
    // One that was lost is not replaced: how many are left is the result.
    while (!stopping_ && next_session_ / threads_ < allowed) open(std::nullopt);
  } else if (options_.rate == 0) {
    while (more_messages() && connections_.size() + recovering_ < allowed) open(ticket());
  } else {
    // Without room, the next session that comes to rest goes on.
    if (send_due() && more_messages() && !wake_.pending()) {
      const Nanoseconds time = start_ + schedule_.due(next_message_);
      wake_time_ = {.tv_sec = time / second, .tv_nsec = time % second};
      reactor_.wake_at(wake_, wake_time_);
    }
  }
  if (options_.rate == 0 && !stopping_ && allowed < schedule_.sessions) {
    reactor_.timers().set(ramp_timer_, reactor_.now() + ring::Duration(1));
  }
  if (stopping_ || !(options_.idle || more_messages())) {
    for (Connection* connection : std::exchange(resting_, {})) connection->quit();
    finish();
  }
}

void Generator::at_rest(Connection& connection) {
  const bool may_send = options_.per_session == 0 || connection.messages() < options_.per_session;
  if (options_.idle ? stopping_ : !may_send || !more_messages()) return connection.quit();
  if (const std::optional<Ticket> next = ticket()) return connection.send(*next);
  resting_.push_back(&connection);
  reactor_.defer(advance_);
}

void Generator::message_is_over(Nanoseconds now) noexcept {
  const auto time = static_cast<std::uint64_t>(now);
  if (time > statistics_.last_end.value()) statistics_.last_end.add(time - statistics_.last_end.value());
}

void Generator::count_failure(Failure failure, std::size_t place, std::string_view text, bool with_message) {
  statistics_.sessions_failed.add();
  statistics_.failure(failure, place).add();
  if (statistics_.failure(failure, place).value() <= samples_of_a_kind) {
    sample(std::string(place_name(place)) + " " + std::string(failure_name(failure)), text);
  }
  if (!with_message) return;
  statistics_.failed.add();
  message_is_over(clock());
}

void Generator::failed(Connection& connection) {
  std::erase(resting_, &connection);
  go_on_without_session();
  if (options_.rate > 0) return;
  ++recovering_;
  reactor_.timers().set(rest_timer_, reactor_.now() + recovery);
}

void Generator::on_rested() {
  recovering_ = 0;
  advance();
}

void Generator::closed(Connection& connection) {
  const std::uint32_t index = connection.index_;
  connections_.back()->index_ = index;
  std::swap(connections_[index], connections_.back());
  connections_.pop_back();
  reactor_.defer(advance_);
}

// The end.

void Generator::on_wake(int, unsigned) {
  advance();
}

void Generator::stop() {
  if (stopping_) return cut_off();
  tick();
  // This may be late, and earlier all the same than the wake-up for what was due before it.
  if (options_.rate > 0) static_cast<void>(send_due());
  stopping_ = true;
  count_missed();
  if (options_.idle) message_is_over(now_);
  reactor_.timers().clear(end_timer_);
  reactor_.timers().set(drain_timer_, reactor_.now() + ring::Duration(options_.drain / 1'000'000));
  reactor_.defer(advance_);
}

void Generator::cut_off() {
  resting_.clear();
  // Those that are closed at once take themselves out of the list, but later.
  for (const auto& connection : connections_) connection->cut_off();
}

void Generator::finish() {
  if (!connections_.empty()) return;
  if (wake_.pending()) return reactor_.cancel(wake_);
  for (ring::Timer* timer :
       std::initializer_list<ring::Timer*>{&end_timer_, &drain_timer_, &ramp_timer_, &rest_timer_}) {
    reactor_.timers().clear(*timer);
  }
  reactor_.stop();
}

// TLS.

std::unique_ptr<tls::Connection> Generator::tls_connection() const {
  return std::make_unique<tls::Connection>(tls_, options_.target.host, session_.get());
}

void Generator::resume(std::shared_ptr<const tls::Session> session) {
  session_ = std::move(session);
  go_on_without_session();
}

void Generator::go_on_without_session() {
  if (std::exchange(awaits_session_, false)) reactor_.defer(advance_);
}

void Generator::count_handshake(const gateway::Handshake& handshake, bool makes_session) {
  const tls::Facts& facts = handshake.facts();
  ++statistics_.tls[TlsKind{.version = tls::name_of(facts.version),
                            .suite = facts.suite,
                            .group = tls::name_of(facts.group),
                            .resumed = facts.resumed}];
  // The server would not resume it (any more): the next one makes another.
  if (!facts.resumed && !makes_session) session_ = nullptr;
}

void Generator::sample(std::string kind, std::string_view text) {
  samples_.add({.kind = std::move(kind), .text = std::string(text)});
}

}  // namespace ringmx::load
