// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
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
#include "policy/answer.h"
#include "policy/answer_cache.h"
#include "ring/reactor.h"

namespace ringmx::gateway {

class Service;
class ServiceConnection;

// A question that is under way to a service, until it is answered. Destroying it gives it up.
class Inquiry {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // Comes once, never from within the constructor, and ends the inquiry: the owner may destroy it. If there
    // is no valid answer, it is what the configuration says for that.
    virtual void answered(policy::Answer answer) = 0;
  };

  Inquiry(Service& service, Owner& owner, const policy::Question& question);
  ~Inquiry();
  Inquiry(const Inquiry&) = delete;
  Inquiry& operator=(const Inquiry&) = delete;

 private:
  friend class Service;
  friend class ServiceConnection;
  void answer(policy::Answer answer);
  void fail(metrics::ServiceFailure failure, std::string_view what);
  void on_timeout();

  Service& service_;
  Owner& owner_;
  std::string request_;
  std::string cache_key_;  // empty: the answer is not to be kept
  ServiceConnection* connection_ = nullptr;
  bool waiting_ = false;  // for a connection
  bool no_socket_ = false;
  bool retried_ = false;
  ring::Time asked_;
  ring::TimerOf<&Inquiry::on_timeout> timer_{*this};
};

// A connection to a service: one question at a time.
class ServiceConnection final : private net::Stream::Owner, private Handshake::Owner {
 public:
  explicit ServiceConnection(Service& service);
  ~ServiceConnection() override;

 private:
  friend class Service;
  friend class Inquiry;
  enum class State : std::uint8_t { connecting, asking, draining, idle, closing };

  void connect(int fd, Inquiry& inquiry);
  void ask(Inquiry& inquiry);
  void send_question();
  void give_up();
  void move_to(State state) noexcept;
  void set_timer(ring::Duration after);
  void drop();
  void fail(metrics::ServiceFailure failure, std::string_view what);
  void read(std::string_view input);

  void stream_connected() override;
  void stream_received(ring::Slice data) override;
  void stream_ended(int error) override;
  void stream_sent() override {}
  void stream_closed() override;
  void handshake_done(const Handshake& handshake) override;
  void handshake_failed(const Handshake& handshake) override;
  void on_timeout();

  Service& service_;
  State state_ = State::connecting;
  bool secured_ = false;
  const std::uint32_t reload_;  // of Service::reloads_, when it began
  bool reused_ = false;         // it has answered before
  bool touched_ = false;        // something of the present response has come
  std::uint32_t index_ = 0;
  Inquiry* inquiry_ = nullptr;
  std::unique_ptr<policy::AnswerReader> reader_;  // while a response is being read
  net::Stream stream_;
  std::unique_ptr<Handshake> handshake_;
  ring::TimerOf<&ServiceConnection::on_timeout> timer_{*this};
};

// A service as one reactor sees it: its connections, and the answers that are kept.
class Service {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // There is one connection less.
    virtual void service_connection_closed() = 0;
  };

  Service(ring::Reactor& reactor, net::StreamMemory memory, const config::Service& config,
          const Offload& offload, Log& log, metrics::ReactorCounters& reactor_counters,
          metrics::ServiceCounters& counters, Owner& owner);
  ~Service();

  // For handshakes from here on; connections are not kept any more that were verified by other rules.
  void use(std::shared_ptr<const tls::ClientContext> tls);

  [[nodiscard]] const config::Service& config() const noexcept { return config_; }
  // The answer to this question, if it is known. Stays until the service is asked something else.
  [[nodiscard]] const policy::Answer* known(const policy::Question& question);
  // A line for the log.
  void tell(std::string_view what);
  // The answer where there is none.
  [[nodiscard]] policy::Answer failure() const;

  [[nodiscard]] std::size_t connections() const noexcept { return connections_.size(); }
  // Connections are not kept any more.
  void drain();
  // All of them end at once.
  void close_all();

 private:
  friend class Inquiry;
  friend class ServiceConnection;
  [[nodiscard]] bool caches(const policy::Question& question) const noexcept;
  void ask(Inquiry& inquiry);
  void connect(Inquiry& inquiry);
  void forget(Inquiry& inquiry) noexcept;
  // Somebody else may ask: on `connection`, or, if it is null, on a new one.
  void go_on(ServiceConnection* connection);

  ring::Reactor& reactor_;
  net::StreamMemory memory_;
  const config::Service& config_;
  net::Address address_;
  std::unique_ptr<policy::Protocol> protocol_;
  std::vector<policy::CacheField> cache_fields_;
  policy::AnswerCache cache_;
  const Offload& offload_;
  metrics::ReactorCounters& reactor_counters_;
  metrics::ServiceCounters& counters_;
  Owner& owner_;
  Log& log_;
  std::shared_ptr<const tls::ClientContext> tls_;
  std::vector<ServiceConnection*> idle_;  // the last one was used last
  std::deque<Inquiry*> waiting_;
  std::size_t open_ = 0;  // connections that are not closing
  std::vector<std::unique_ptr<ServiceConnection>> connections_;
  std::uint32_t reloads_ = 0;
  bool draining_ = false;
};

}  // namespace ringmx::gateway
