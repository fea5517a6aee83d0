// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "gateway/handshake.h"
#include "gateway/log.h"
#include "metrics/counters.h"
#include "net/address.h"
#include "net/stream.h"
#include "ring/reactor.h"
#include "ringmx/smtp/capabilities.h"
#include "ringmx/smtp/dialogue.h"
#include "ringmx/smtp/sasl.h"

namespace ringmx::gateway {

class UpstreamConnection;
class UpstreamPool;

// Who a client is, for upstreams that are told.
struct Login {
  std::string user;
  smtp::Secret password;
};

// Whoever uses an upstream connection for a transaction.
class Lessee {
 public:
  virtual ~Lessee() = default;
  // For whom a connection is being made; null: for nobody who has said who he is.
  [[nodiscard]] virtual const Login* login() const noexcept { return nullptr; }
  // The connection that was asked for is there.
  virtual void upstream_ready(UpstreamConnection& connection) = 0;
  // It could not be made in this way; in its place this one is being made.
  virtual void upstream_replaced(UpstreamConnection& connection) = 0;
  // It could not be made; the lease is over.
  virtual void upstream_unavailable() = 0;
  virtual void upstream_replied(smtp::Stage stage, const smtp::Reply& reply) = 0;
  // Bytes went out; see UpstreamConnection::unsent().
  virtual void upstream_sent() = 0;
  // The connection is of no more use; the lease is over. Whatever was asked gets no answer.
  virtual void upstream_lost(metrics::UpstreamLoss loss) = 0;
};

// One SMTP connection to an upstream, for its whole life: connect, TLS before the greeting or by STARTTLS
// and EHLO anew, any number of transactions of changing lessees, QUIT.
class UpstreamConnection final : private net::Stream::Owner, private Handshake::Owner {
 public:
  UpstreamConnection(UpstreamPool& pool, net::StreamMemory memory, net::StreamTraffic traffic);
  ~UpstreamConnection() override;

  // For the lessee.
  [[nodiscard]] const smtp::Capabilities& capabilities() const noexcept { return capabilities_; }
  // A transaction begins. From the second on the connection is reused(): if it is lost at the first
  // command, that may have happened long ago.
  void begin_transaction() noexcept { ++transactions_; }
  [[nodiscard]] bool reused() const noexcept { return transactions_ > 1; }
  [[nodiscard]] const UpstreamPool& pool() const noexcept { return pool_; }
  // Serves one session only: with `reuse = false`, or because the upstream was told who the client is.
  [[nodiscard]] bool exclusive() const noexcept;
  // A further command may be sent now: with PIPELINING a good many before the first reply, else one.
  [[nodiscard]] bool ready_for_command() const noexcept {
    return dialogue_.outstanding() == 0 ||
           (capabilities_.extensions.has(smtp::Extension::pipelining) && !dialogue_.full());
  }
  // A command, whole, with its CRLF; its reply comes to upstream_replied(). Requires ready_for_command().
  void command(smtp::Stage stage, std::string_view text);
  // A reply is due without a command line of its own: the one after the end of data. Its time
  // starts with await_message().
  void expect_message();
  void await_message();
  // All is said, and all is answered.
  [[nodiscard]] bool at_rest() const noexcept { return dialogue_.at_rest() && stream_.unsent() == 0; }
  [[nodiscard]] std::size_t outstanding() const noexcept { return dialogue_.outstanding(); }
  // Message bytes.
  void send(ring::Slice slice);
  void send_constant(std::string_view bytes) { send(ring::Slice(bytes.data(), bytes.size())); }
  void send_copy(std::string_view bytes);
  [[nodiscard]] std::size_t unsent() const noexcept { return stream_.unsent(); }
  [[nodiscard]] std::size_t unsubmitted() const noexcept { return stream_.unsubmitted(); }
  // Bytes of the client's receive buffers that wait here, whole buffers.
  [[nodiscard]] std::size_t held() const noexcept { return stream_.held(); }

  // Ends the lease; the lessee hears nothing more.
  void release();  // all is answered, no transaction is open: the next one may have it
  void abandon();  // not in the middle of a message: RSET first, where it may follow
  void drop();     // in the middle of a message: the connection ends here, so that it is never completed;
                   // or while it is still being made
  // The reply that just came makes no sense: the lessee loses the connection.
  void reject() { lose(metrics::UpstreamLoss::bad_reply); }

 private:
  friend class UpstreamPool;
  enum class State : std::uint8_t {
    connecting,
    greeting,
    hello,
    login,      // XCLIENT or AUTH was said
    starttls,   // it was said
    handshake,  // or nothing in clear text must come any more
    idle,
    leased,
    resetting,
    closing
  };

  void start(Lessee* lessee);
  void lease(Lessee& lessee) noexcept;
  void quit();
  void read_replies(std::string_view input);
  // False: the connection is no longer there to be read.
  bool handle_reply(smtp::Stage stage, const smtp::Reply& reply);
  void hello_accepted();
  void log_in();
  void login_replied(const smtp::Reply& reply);
  void fail_to_log_in(std::string_view why);
  void say_secret(smtp::Stage stage, std::string_view prefix, std::string_view secret);
  [[nodiscard]] bool may_show_passwords() const noexcept;
  void begin_handshake();
  void ready();
  void lose(metrics::UpstreamLoss loss);
  void fail_to_connect(metrics::ConnectResult result);
  // Where TLS is optional: how it is to be done without, now that it has failed.
  enum class WithoutTls : std::uint8_t { at_once, next_time, never };
  void fail_to_secure(WithoutTls without);
  void set_timer();
  [[nodiscard]] ring::Duration patience(smtp::Stage stage) const noexcept;
  void move_to(State state) noexcept;

  void stream_connected() override;
  void stream_received(ring::Slice data) override;
  void stream_ended(int error) override;
  void stream_quiet() override;
  void stream_sent() override;
  void stream_closed() override;
  void handshake_done(const Handshake& handshake) override;
  void handshake_failed(const Handshake& handshake) override;
  void session_resumable(std::shared_ptr<const tls::Session> session) override;
  void on_timeout();

  UpstreamPool& pool_;
  Lessee* lessee_ = nullptr;
  State state_ = State::connecting;
  bool awaiting_message_ = false;
  bool secured_ = false;   // by TLS
  bool in_clear_ = false;  // whatever is configured: TLS has just failed
  bool told_ = false;      // who the client is
  std::uint32_t transactions_ = 0;
  std::uint32_t errors_ = 0;    // refusals since the last message it took
  std::uint32_t index_ = 0;     // in UpstreamPool::connections_
  const std::uint32_t reload_;  // of UpstreamPool::reloads_, when it began
  smtp::Capabilities capabilities_;
  net::Stream stream_;
  std::unique_ptr<Handshake> handshake_;
  std::shared_ptr<const tls::ClientContext> tls_;  // of the handshake
  ring::Time verified_until_{};  // the certificate that the upstream has shown, now or before
  smtp::Dialogue dialogue_;
  ring::TimerOf<&UpstreamConnection::on_timeout> timer_{*this};
};

// The connections of one reactor to one upstream, and what is known about it.
class UpstreamPool {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // What the upstream offers has become known, or has changed.
    virtual void capabilities_changed() = 0;
    // There is one connection less.
    virtual void connection_closed() = 0;
  };

  UpstreamPool(ring::Reactor& reactor, net::StreamMemory memory, net::StreamTraffic traffic,
               const config::Upstream& config, std::string_view hostname, const Offload& offload, Log& log,
               metrics::ReactorCounters& counters, metrics::UpstreamCounters& upstream_counters,
               Owner& owner);
  ~UpstreamPool();

  // For handshakes from here on. What rests was verified by other rules, as may be: it is not used again.
  void use(std::shared_ptr<const tls::ClientContext> tls) {
    tls_ = std::move(tls);
    session_ = nullptr;
    ++reloads_;
    while (!idle_.empty()) idle_.back()->quit();
  }

  // A connection at rest, or null. `lessee` has it until it releases, abandons or drops it, or
  // loses it.
  [[nodiscard]] UpstreamConnection* take_idle(Lessee& lessee);
  // A new connection; `lessee` is told, later, how it went. Null: no socket can be had.
  [[nodiscard]] UpstreamConnection* connect(Lessee& lessee);

  // Upstreams that are told who a client is have a connection of its own for it.
  [[nodiscard]] bool hands_over_login() const noexcept {
    return config_.authenticate != config::Upstream::Authenticate::none;
  }
  // A connect failed a short while ago: other upstreams are to be preferred.
  [[nodiscard]] bool avoided() const noexcept { return reactor_.now() < avoid_until_; }
  // Nothing until a connection was made.
  [[nodiscard]] const smtp::Capabilities* capabilities() const noexcept {
    return known_ ? &capabilities_ : nullptr;
  }
  [[nodiscard]] std::size_t connections() const noexcept { return connections_.size(); }

  // No new use of connections; the idle ones say QUIT, those that wait for the reply to RSET close.
  void drain();
  // All connections end at once, in the middle of whatever they do.
  void close_all();

 private:
  friend class UpstreamConnection;
  void keep(UpstreamConnection& connection);
  void forget(UpstreamConnection& connection) noexcept;
  void learn(const smtp::Capabilities& capabilities);

  ring::Reactor& reactor_;
  net::StreamMemory memory_;
  net::StreamTraffic traffic_;
  const config::Upstream& config_;
  net::Address address_;
  std::string hello_;  // "EHLO name\r\n"
  const Offload& offload_;
  Log& log_;
  metrics::ReactorCounters& reactor_counters_;
  metrics::UpstreamCounters& counters_;
  Owner& owner_;
  std::shared_ptr<const tls::ClientContext> tls_;
  // The last one of `tls_`, to be resumed, as long as its certificate need not be seen again.
  std::shared_ptr<const tls::Session> session_;
  ring::Time session_until_{};
  std::vector<UpstreamConnection*> idle_;  // the last one was used last
  std::uint32_t resetting_ = 0;            // connections that wait for the reply to RSET
  std::vector<std::unique_ptr<UpstreamConnection>> connections_;
  std::uint32_t reloads_ = 0;  // what connections from before were verified by may be gone
  bool draining_ = false;
  bool known_ = false;
  smtp::Capabilities capabilities_;
  ring::Time avoid_until_{};
  // STARTTLS came to nothing a short while ago: where TLS is optional, it is done without.
  ring::Time in_clear_until_{};
};

}  // namespace ringmx::gateway
