// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/upstream.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "config/notation.h"
#include "gateway/address.h"
#include "net/listen.h"
#include "policy/answer.h"
#include "ringmx/smtp/forward.h"

namespace ringmx::gateway {

using metrics::ConnectResult;
using metrics::UpstreamLoss;
using smtp::Stage;

namespace {

// After QUIT: so long for the upstream to end its side.
constexpr ring::Duration quit_patience{5000};
// A resumed session shows no certificate: so often it is verified anew, whatever the server would allow.
constexpr ring::Duration resumable_for{std::chrono::hours{1}};
// Of a command, with its CRLF (RFC 5321 4.5.3.1.4); Postfix holds XCLIENT to it.
constexpr std::size_t command_line_limit = 512;

ConnectResult connect_result(int error) noexcept {
  switch (error) {
    case ECONNREFUSED:
    case ENOENT:  // a unix socket
      return ConnectResult::refused;
    case ETIMEDOUT:
      return ConnectResult::timeout;
    case ENETUNREACH:
    case EHOSTUNREACH:
      return ConnectResult::unreachable;
    default:
      return ConnectResult::error;
  }
}

bool is_of_certificate(metrics::HandshakeFailure failure) noexcept {
  using metrics::HandshakeFailure;
  return failure == HandshakeFailure::no_certificate || failure == HandshakeFailure::unknown_ca ||
         failure == HandshakeFailure::expired_certificate || failure == HandshakeFailure::wrong_name ||
         failure == HandshakeFailure::bad_certificate;
}

}  // namespace

UpstreamConnection::UpstreamConnection(UpstreamPool& pool, net::StreamMemory memory,
                                       net::StreamTraffic traffic)
    : pool_(pool),
      reload_(pool.reloads_),
      stream_(pool.reactor_, memory, traffic, *this),
      dialogue_(pool.config_.reply_limit) {}

UpstreamConnection::~UpstreamConnection() = default;

bool UpstreamConnection::exclusive() const noexcept {
  return told_ || !pool_.config_.reuse;
}

void UpstreamConnection::move_to(State state) noexcept {
  const auto gauge = [this](State s) -> metrics::Gauge* {
    switch (s) {
      case State::connecting:
      case State::greeting:
      case State::hello:
      case State::login:
      case State::starttls:
      case State::handshake:
        return &pool_.counters_.connecting;
      case State::idle:
        return &pool_.counters_.idle;
      case State::leased:
      case State::resetting:
        return &pool_.counters_.leased;
      case State::closing:
        break;
    }
    return nullptr;
  };
  if (metrics::Gauge* g = gauge(state_)) g->add(-1);
  if (metrics::Gauge* g = gauge(state)) g->add(1);
  if (state_ == State::resetting) --pool_.resetting_;
  if (state == State::resetting) ++pool_.resetting_;
  if (state_ == State::leased) pool_.reactor_.exchange_ends();
  if (state == State::leased) pool_.reactor_.exchange_begins();
  state_ = state;
}

// Life until it is ready.

void UpstreamConnection::start(Lessee* lessee) {
  lessee_ = lessee;
  pool_.counters_.connecting.add(1);  // state_ is connecting from the start
  set_timer();
}

void UpstreamConnection::stream_connected() {
  if (pool_.config_.implicit_tls && !secured_) return begin_handshake();
  move_to(State::greeting);
  dialogue_.expect(Stage::greeting);
  stream_.resume();
  set_timer();
}

// RFC 3207. What the upstream says in clear text behind its 220 is not its own (CVE-2021-38371 and others):
// nothing of it is read as a reply, now or later.
void UpstreamConnection::hello_accepted() {
  const smtp::StartTls wanted = pool_.config_.starttls;
  if (told_) return ready();
  if (secured_ || wanted == smtp::StartTls::off) return log_in();
  const bool optional = wanted == smtp::StartTls::optional;
  if (optional && (in_clear_ || pool_.reactor_.now() < pool_.in_clear_until_)) return log_in();
  if (capabilities_.extensions.has(smtp::Extension::starttls)) {
    move_to(State::starttls);
    return command(Stage::starttls, "STARTTLS\r\n");
  }
  if (optional) return log_in();
  fail_to_connect(ConnectResult::tls);
}

// Who the client is, to upstreams that are told. From here on the connection serves nobody else.

void UpstreamConnection::log_in() {
  using Authenticate = config::Upstream::Authenticate;
  const Authenticate how = pool_.config_.authenticate;
  const Login* const login = how == Authenticate::none ? nullptr : lessee_->login();
  if (login == nullptr) return ready();
  pool_.learn(capabilities_);
  move_to(State::login);
  std::string text;
  if (how == Authenticate::xclient) {
    if (!capabilities_.xclient_login) return fail_to_log_in("it does not offer XCLIENT LOGIN");
    smtp::append_xclient_login(text, login->user);
    if (text.size() > command_line_limit) return fail_to_log_in("the name is too long for XCLIENT");
    return command(Stage::xclient, text);
  }
  if (!capabilities_.auth.has(smtp::Mechanism::plain)) return fail_to_log_in("it does not offer AUTH PLAIN");
  if (!may_show_passwords()) return fail_to_log_in("there is no TLS, nor authenticate_in_clear_text = true");
  if (login->password.view().empty()) return fail_to_log_in("there is no password for AUTH PLAIN");
  const smtp::Secret response = smtp::plain_response(login->user, login->password.view());
  // The command is held to the length of any other (RFC 4954 section 4).
  constexpr std::string_view auth = "AUTH PLAIN";
  if (auth.size() + 1 + response.view().size() + 2 > command_line_limit)
    return command(Stage::auth, "AUTH PLAIN\r\n");
  say_secret(Stage::auth, "AUTH PLAIN ", response.view());
}

void UpstreamConnection::say_secret(Stage stage, std::string_view prefix, std::string_view secret) {
  std::string line;
  line.reserve(prefix.size() + secret.size() + 2);
  line.append(prefix).append(secret).append("\r\n");
  command(stage, line);
  smtp::wipe(line.data(), line.size());
}

bool UpstreamConnection::may_show_passwords() const noexcept {
  return secured_ || pool_.config_.authenticate_in_clear_text || pool_.config_.address.local();
}

void UpstreamConnection::login_replied(const smtp::Reply& reply) {
  const bool xclient = pool_.config_.authenticate == config::Upstream::Authenticate::xclient;
  if (!xclient && reply.intermediate() && !told_) {
    // Its one response; whatever comes instead of the last word is a failure.
    const Login* const login = lessee_->login();
    told_ = true;
    return say_secret(Stage::auth, {}, smtp::plain_response(login->user, login->password.view()).view());
  }
  if (!reply.positive()) {
    const std::string_view line = reply.text.substr(0, reply.text.find('\r'));
    return fail_to_log_in("it says " + config::in_quotes(policy::printable(line)));
  }
  told_ = true;
  if (!xclient) {
    capabilities_.extensions.add(smtp::Extension::auth);
    return ready();
  }
  // 220: it begins anew, and forgets what was said (Postfix's XCLIENT_README).
  capabilities_ = {};
  move_to(State::hello);
  command(Stage::ehlo, pool_.hello_);
}

void UpstreamConnection::fail_to_log_in(std::string_view why) {
  pool_.log_.line("upstream " + pool_.config_.name + " (" + pool_.address_.text() +
                  "): can't be told who a client is: " + std::string(why));
  fail_to_connect(ConnectResult::login);
}

void UpstreamConnection::stream_quiet() {
  if (state_ == State::handshake) begin_handshake();
}

void UpstreamConnection::begin_handshake() {
  move_to(State::handshake);
  set_timer();
  verified_until_ = pool_.session_until_;
  const bool resume = pool_.session_ != nullptr && pool_.reactor_.now() < verified_until_;
  tls_ = pool_.tls_;
  handshake_ = std::make_unique<Handshake>(
      stream_, static_cast<net::Stream::Owner&>(*this), static_cast<Handshake::Owner&>(*this),
      std::make_unique<tls::Connection>(tls_, pool_.config_.tls_name,
                                        resume ? pool_.session_.get() : nullptr),
      tls::Role::client, pool_.offload_, pool_.reactor_counters_);
  handshake_->want_session();
  handshake_->start();
}

void UpstreamConnection::handshake_done(const Handshake& handshake) {
  pool_.counters_.handshakes[handshake.resumed()].add();
  if (handshake.resumed() == metrics::Flag::no) verified_until_ = pool_.reactor_.now() + resumable_for;
  handshake_.reset();
  secured_ = true;
  if (pool_.config_.implicit_tls) return stream_connected();
  // All that was said in clear text is forgotten.
  capabilities_ = {};
  move_to(State::hello);
  stream_.resume();
  command(Stage::ehlo, pool_.hello_);
}

void UpstreamConnection::session_resumable(std::shared_ptr<const tls::Session> session) {
  if (std::exchange(tls_, nullptr) != pool_.tls_) return;  // verified by other rules
  pool_.session_ = std::move(session);
  pool_.session_until_ = verified_until_;
}

void UpstreamConnection::handshake_failed(const Handshake& handshake) {
  pool_.session_ = nullptr;  // lest it be the reason
  pool_.counters_.handshake_failures[handshake.failure()].add();
  pool_.log_.line("upstream " + pool_.config_.name + " (" + pool_.address_.text() +
                  "): " + handshake.failure_report());
  // To go on in clear text would make nothing of the verification that was asked for.
  const bool refused =
      pool_.config_.verify != tls::ClientSettings::Verify::none && is_of_certificate(handshake.failure());
  fail_to_secure(refused ? WithoutTls::never : WithoutTls::at_once);
}

// The lessee need not notice: nothing was said to it yet, and the upstream is there.
void UpstreamConnection::fail_to_secure(WithoutTls without) {
  if (pool_.config_.starttls != smtp::StartTls::optional) without = WithoutTls::never;
  if (without != WithoutTls::never) {
    pool_.in_clear_until_ = pool_.reactor_.now() + pool_.config_.retry_after;
  }
  if (without != WithoutTls::at_once || lessee_ == nullptr) return fail_to_connect(ConnectResult::tls);
  pool_.counters_.connects[ConnectResult::tls].add();
  Lessee& lessee = *std::exchange(lessee_, nullptr);
  drop();
  UpstreamConnection* const next = pool_.connect(lessee);
  if (next == nullptr) return lessee.upstream_unavailable();
  next->in_clear_ = true;
  lessee.upstream_replaced(*next);
}

void UpstreamConnection::ready() {
  pool_.counters_.connects[ConnectResult::ok].add();
  pool_.avoid_until_ = {};
  if (!told_) pool_.learn(capabilities_);
  lease(*lessee_);
  lessee_->upstream_ready(*this);
}

void UpstreamConnection::fail_to_connect(ConnectResult result) {
  pool_.counters_.connects[result].add();
  // One client's login says nothing about the next one's.
  if (result != ConnectResult::login) pool_.avoid_until_ = pool_.reactor_.now() + pool_.config_.retry_after;
  Lessee* lessee = std::exchange(lessee_, nullptr);
  drop();
  if (lessee != nullptr) lessee->upstream_unavailable();
}

// Leases.

void UpstreamConnection::lease(Lessee& lessee) noexcept {
  lessee_ = &lessee;
  move_to(State::leased);
  set_timer();
}

void UpstreamConnection::command(Stage stage, std::string_view text) {
  const bool first = dialogue_.outstanding() == 0;
  dialogue_.expect(stage);
  stream_.send_copy(text);
  if (first) set_timer();
}

void UpstreamConnection::expect_message() {
  dialogue_.expect(Stage::message);
  awaiting_message_ = false;
  set_timer();
}

void UpstreamConnection::await_message() {
  awaiting_message_ = true;
  set_timer();
}

void UpstreamConnection::send(ring::Slice slice) {
  const bool first = stream_.unsent() == 0;
  stream_.send(std::move(slice));
  if (first) set_timer();
}

void UpstreamConnection::send_copy(std::string_view bytes) {
  const bool first = stream_.unsent() == 0;
  stream_.send_copy(bytes);
  if (first) set_timer();
}

void UpstreamConnection::release() {
  lessee_ = nullptr;
  if (!at_rest()) return drop();
  if (exclusive() || pool_.draining_) return quit();
  pool_.keep(*this);
}

void UpstreamConnection::abandon() {
  lessee_ = nullptr;
  // Not more than could be kept: who aborts many transactions must not make many connections wait.
  if (!ready_for_command() || pool_.resetting_ >= pool_.config_.max_idle) return drop();
  if (exclusive() || pool_.draining_) return quit();
  move_to(State::resetting);
  dialogue_.expect(Stage::rset);
  stream_.send_constant("RSET\r\n");
  set_timer();
}

void UpstreamConnection::drop() {
  lessee_ = nullptr;
  if (state_ == State::closing) return;
  const bool alert = handshake_ != nullptr && stream_.unsent() > 0;
  handshake_.reset();
  pool_.forget(*this);
  move_to(State::closing);
  if (alert) {  // why the handshake came to nothing: it is small, and the upstream may want to know
    stream_.end();
    return set_timer();
  }
  pool_.reactor_.timers().clear(timer_);
  stream_.close();
}

void UpstreamConnection::quit() {
  pool_.forget(*this);
  move_to(State::closing);
  stream_.send_constant("QUIT\r\n");
  stream_.end();
  set_timer();
}

void UpstreamConnection::lose(UpstreamLoss loss) {
  if (state_ == State::closing) return;
  if (state_ < State::idle) {
    if (state_ == State::starttls || state_ == State::handshake) {
      const bool gone =
          loss == UpstreamLoss::closed || loss == UpstreamLoss::timeout || loss == UpstreamLoss::error;
      return fail_to_secure(gone ? WithoutTls::at_once : WithoutTls::next_time);
    }
    return fail_to_connect(loss == UpstreamLoss::timeout ? ConnectResult::timeout
                                                         : ConnectResult::bad_greeting);
  }
  // An idle connection that its server closes is the normal end of one.
  if (state_ != State::idle || loss != UpstreamLoss::closed) pool_.counters_.lost[loss].add();
  Lessee* lessee = std::exchange(lessee_, nullptr);
  drop();
  if (lessee != nullptr) lessee->upstream_lost(loss);
}

// Replies.

void UpstreamConnection::stream_received(ring::Slice data) {
  if (state_ == State::handshake) return lose(UpstreamLoss::unsolicited);
  if (state_ != State::closing) read_replies({data.data(), data.size()});
}

void UpstreamConnection::read_replies(std::string_view input) {
  while (!input.empty()) {
    Stage stage{};
    smtp::Reply reply;
    std::size_t consumed = 0;
    switch (dialogue_.next(input, stage, reply, consumed)) {
      case smtp::Dialogue::Event::need_more:
        return;
      case smtp::Dialogue::Event::fault:
        return lose(UpstreamLoss::bad_reply);
      case smtp::Dialogue::Event::unsolicited:
        return lose(reply.code == 421 ? UpstreamLoss::closed : UpstreamLoss::unsolicited);
      case smtp::Dialogue::Event::reply: {
        // What stands behind the last reply that was due answers nothing, whatever may be asked next.
        const bool surplus = dialogue_.outstanding() == 0 && consumed < input.size();
        pool_.counters_.replies[static_cast<std::size_t>(stage)][reply.code / 100 - 2u].add();
        if (!handle_reply(stage, reply)) return;
        if (surplus && (dialogue_.outstanding() > 0 || state_ == State::handshake))
          return lose(UpstreamLoss::unsolicited);
        break;
      }
    }
    input.remove_prefix(consumed);
  }
}

bool UpstreamConnection::handle_reply(Stage stage, const smtp::Reply& reply) {
  switch (state_) {
    case State::greeting:
      if (!reply.positive()) {
        fail_to_connect(ConnectResult::bad_greeting);
        return false;
      }
      move_to(State::hello);
      command(Stage::ehlo, pool_.hello_);
      return true;
    case State::hello:
      if (reply.positive()) {
        if (stage == Stage::ehlo) capabilities_ = smtp::parse_ehlo_reply(reply.text);
        // Only to somebody whose name was verified (RFC 8689 section 4.2.1).
        if (!secured_ || pool_.config_.verify == tls::ClientSettings::Verify::none) {
          capabilities_.extensions.remove(smtp::Extension::requiretls);
        }
        hello_accepted();
      } else if (stage == Stage::ehlo && reply.permanent()) {
        command(Stage::helo, "HELO" + pool_.hello_.substr(4));
      } else {
        fail_to_connect(ConnectResult::bad_greeting);
      }
      break;
    case State::login:
      login_replied(reply);
      break;
    case State::starttls:
      if (reply.positive()) {
        move_to(State::handshake);
        set_timer();
        stream_.quiesce();
      } else if (pool_.config_.starttls == smtp::StartTls::optional && !reply.intermediate() &&
                 reply.code != 421) {
        log_in();
      } else {
        fail_to_secure(WithoutTls::next_time);
      }
      break;
    case State::leased:
      // 421 answers whatever was asked, but first of all it says that the server is going away.
      if (reply.code == 421) {
        lose(UpstreamLoss::closed);
        return false;
      }
      if (stage == Stage::message && reply.positive()) errors_ = 0;
      if (reply.transient() || reply.permanent()) ++errors_;
      set_timer();
      lessee_->upstream_replied(stage, reply);
      break;
    case State::resetting:
      if (stage != Stage::rset) {
        set_timer();
      } else if (reply.positive()) {
        pool_.keep(*this);
      } else {
        quit();
      }
      break;
    case State::connecting:
    case State::handshake:
    case State::idle:
    case State::closing:
      break;
  }
  return state_ != State::closing;
}

void UpstreamConnection::stream_ended(int error) {
  if (state_ == State::connecting) return fail_to_connect(connect_result(error));
  // EPROTO: without close_notify, as many servers do.
  const bool closed = error == 0 || error == ECONNRESET || error == EPIPE || error == EPROTO;
  lose(closed ? UpstreamLoss::closed : UpstreamLoss::error);
}

void UpstreamConnection::stream_sent() {
  if (state_ != State::leased) return;
  if (dialogue_.outstanding() == 0 || dialogue_.oldest() == Stage::message) set_timer();
  lessee_->upstream_sent();
}

void UpstreamConnection::stream_closed() {
  // The last thing to happen to a connection: it is destroyed here.
  UpstreamPool& pool = pool_;
  auto& connections = pool.connections_;
  const std::uint32_t index = index_;
  connections.back()->index_ = index;
  std::swap(connections[index], connections.back());
  connections.pop_back();
  pool.owner_.connection_closed();
}

// Time.

ring::Duration UpstreamConnection::patience(Stage stage) const noexcept {
  const config::Upstream& c = pool_.config_;
  switch (stage) {
    case Stage::greeting:
    case Stage::ehlo:
    case Stage::helo:
    case Stage::starttls:
    case Stage::xclient:
    case Stage::auth:
      return c.greeting_timeout;
    case Stage::mail:
    case Stage::rcpt:
    case Stage::rset:
    case Stage::quit:
      return c.command_timeout;
    case Stage::data:
      return c.data_timeout;
    case Stage::message:
    case Stage::bdat:
      return c.message_timeout;
  }
  return c.command_timeout;
}

// One deadline, for the one thing that is being waited for: it starts anew with every event that
// calls here.
void UpstreamConnection::set_timer() {
  const config::Upstream& c = pool_.config_;
  ring::Duration left = ring::Duration::zero();
  switch (state_) {
    case State::connecting:
      left = c.connect_timeout;
      break;
    case State::idle:
      left = c.idle_timeout;
      break;
    case State::closing:
      left = quit_patience;
      break;
    case State::handshake:
      left = c.greeting_timeout;
      break;
    case State::greeting:
    case State::hello:
    case State::login:
    case State::starttls:
    case State::leased:
    case State::resetting: {
      const bool streaming =
          dialogue_.outstanding() == 0 || (dialogue_.oldest() == Stage::message && !awaiting_message_);
      if (!streaming) {
        left = patience(dialogue_.oldest());
      } else if (stream_.unsent() > 0) {
        left = c.send_timeout;
      }
      break;
    }
  }
  if (left == ring::Duration::zero()) {
    pool_.reactor_.timers().clear(timer_);
  } else {
    pool_.reactor_.timers().set(timer_, pool_.reactor_.now() + left);
  }
}

void UpstreamConnection::on_timeout() {
  switch (state_) {
    case State::connecting:
      return fail_to_connect(ConnectResult::timeout);
    case State::idle:
      return quit();
    case State::closing:
      return stream_.close();
    case State::handshake:
      if (handshake_) return handshake_->expire();
      return lose(UpstreamLoss::timeout);
    case State::greeting:
    case State::hello:
    case State::login:
    case State::starttls:
    case State::leased:
    case State::resetting:
      return lose(UpstreamLoss::timeout);
  }
}

// The pool.

UpstreamPool::UpstreamPool(ring::Reactor& reactor, net::StreamMemory memory, net::StreamTraffic traffic,
                           const config::Upstream& config, std::string_view hostname, const Offload& offload,
                           Log& log, metrics::ReactorCounters& counters,
                           metrics::UpstreamCounters& upstream_counters, Owner& owner)
    : reactor_(reactor),
      memory_(memory),
      traffic_(traffic),
      config_(config),
      address_(socket_address(config.address)),
      hello_("EHLO " + std::string(hostname) + "\r\n"),
      offload_(offload),
      log_(log),
      reactor_counters_(counters),
      counters_(upstream_counters),
      owner_(owner) {}

UpstreamPool::~UpstreamPool() = default;

UpstreamConnection* UpstreamPool::take_idle(Lessee& lessee) {
  while (!idle_.empty()) {
    UpstreamConnection* connection = idle_.back();
    // A part of a reply may have come that nobody has asked for.
    if (!connection->at_rest()) {
      connection->drop();
      continue;
    }
    idle_.pop_back();
    connection->lease(lessee);
    counters_.reused.add();
    return connection;
  }
  return nullptr;
}

UpstreamConnection* UpstreamPool::connect(Lessee& lessee) {
  const int fd = net::stream_socket(address_);
  if (fd < 0) {
    counters_.connects[ConnectResult::error].add();
    return nullptr;
  }
  auto& connection =
      connections_.emplace_back(std::make_unique<UpstreamConnection>(*this, memory_, traffic_));
  connection->index_ = static_cast<std::uint32_t>(connections_.size() - 1);
  connection->start(&lessee);
  connection->stream_.connect(fd, address_);
  return connection.get();
}

void UpstreamPool::keep(UpstreamConnection& connection) {
  connection.lessee_ = nullptr;
  // Servers count a client's errors, and for them all our clients are one: it leaves before it is
  // slowed down or thrown out in the middle of somebody else's transaction.
  const bool tired = config_.error_limit != 0 && connection.errors_ >= config_.error_limit;
  const bool outlived = connection.reload_ != reloads_;
  if (draining_ || tired || outlived || connection.exclusive() || idle_.size() >= config_.max_idle)
    return connection.quit();
  connection.move_to(UpstreamConnection::State::idle);
  connection.set_timer();
  idle_.push_back(&connection);
}

void UpstreamPool::forget(UpstreamConnection& connection) noexcept {
  if (connection.state_ == UpstreamConnection::State::idle) std::erase(idle_, &connection);
}

void UpstreamPool::learn(const smtp::Capabilities& capabilities) {
  if (known_ && capabilities == capabilities_) return;
  known_ = true;
  capabilities_ = capabilities;
  owner_.capabilities_changed();
}

void UpstreamPool::drain() {
  draining_ = true;
  while (!idle_.empty()) idle_.back()->quit();
  for (auto& connection : connections_) {
    if (connection->state_ == UpstreamConnection::State::resetting) connection->drop();
  }
}

void UpstreamPool::close_all() {
  draining_ = true;
  for (auto& connection : connections_) {
    connection->lessee_ = nullptr;
    connection->drop();
    connection->stream_.close();  // also those that wait for the answer to QUIT
  }
}

}  // namespace ringmx::gateway
