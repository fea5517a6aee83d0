// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/service.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "config/notation.h"
#include "gateway/address.h"
#include "net/listen.h"
#include "policy/auth_http.h"
#include "policy/delegation.h"
#include "ringmx/smtp/sasl.h"

namespace ringmx::gateway {

using metrics::ServiceAnswer;
using metrics::ServiceConnect;
using metrics::ServiceFailure;
using policy::Answer;
using policy::AnswerReader;

namespace {

// For what is left of a response whose answer is known.
constexpr ring::Duration drain_patience{1000};

std::unique_ptr<policy::Protocol> protocol_of(const config::Service& config) {
  if (config.protocol == config::Service::Protocol::policy) return std::make_unique<policy::Delegation>();
  policy::AuthHttp::Settings settings;
  const config::ServiceAddress& address = config.address;
  const bool is_unix = address.endpoint.family == config::Endpoint::Family::unix_socket;
  const bool ipv6 = address.endpoint.family == config::Endpoint::Family::ipv6;
  // As nginx: without the port. By name where there is one, as a virtual host is found by it.
  settings.host = address.tls && !config.tls_name.empty() ? config.tls_name
                  : is_unix                               ? "localhost"
                  : ipv6                                  ? "[" + address.endpoint.host + "]"
                                                          : address.endpoint.host;
  settings.target = address.target;
  for (const std::string& header : config.headers) settings.headers += header + "\r\n";
  settings.keep_alive = config.max_idle > 0;
  settings.pass_certificate = config.pass_certificate;
  settings.extra_headers = config.extra_headers;
  return std::make_unique<policy::AuthHttp>(std::move(settings));
}

std::vector<policy::CacheField> cache_fields_of(const config::Service& config) {
  std::vector<policy::CacheField> fields;
  for (std::size_t i = 0; i < policy::cache_field_count; ++i) {
    const auto field = static_cast<policy::CacheField>(i);
    if (std::find(config.cache.begin(), config.cache.end(), policy::name_of(field)) != config.cache.end())
      fields.push_back(field);
  }
  return fields;
}

ServiceAnswer kind_of(const Answer& answer) noexcept {
  using Verdict = Answer::Verdict;
  switch (answer.verdict) {
    case Verdict::allow:
      return ServiceAnswer::allowed;
    case Verdict::ask_again:
      return ServiceAnswer::wait;
    case Verdict::refuse:
      return answer.reply.front() == '5' ? ServiceAnswer::refused : ServiceAnswer::tempfailed;
    case Verdict::defer_if_permit:
    case Verdict::defer_if_reject:
      break;
  }
  return ServiceAnswer::tempfailed;
}

}  // namespace

// ---------------------------------------------------------------------------------------------
// Questions. Its deadline is the question's: it holds from asking to the answer, wherever the time goes.

Inquiry::Inquiry(Service& service, Owner& owner, const policy::Question& question)
    : service_(service),
      owner_(owner),
      request_(service.protocol_->request(question)),
      asked_(service.reactor_.now()) {
  if (service.caches(question)) cache_key_ = policy::cache_key(service.cache_fields_, question);
  service.reactor_.timers().set(timer_, asked_ + service.config_.timeout);
  service.ask(*this);
}

Inquiry::~Inquiry() {
  smtp::wipe(request_.data(), request_.size());  // it may be about a password
  if (connection_ != nullptr) {
    connection_->give_up();
  } else {
    service_.forget(*this);
  }
}

void Inquiry::answer(Answer answer) {
  service_.reactor_.timers().clear(timer_);
  service_.counters_.answers[kind_of(answer)].add();
  service_.counters_.duration.observe(service_.reactor_.now() - asked_);
  if (!answer.remark.empty()) service_.tell(std::exchange(answer.remark, {}));
  if (!cache_key_.empty() && answer.verdict != Answer::Verdict::ask_again) {
    answer.user = answer.password = std::nullopt;  // nobody heeds them but at AUTH
    service_.cache_.insert(std::move(cache_key_), answer, service_.reactor_.now().time_since_epoch().count());
  }
  owner_.answered(std::move(answer));
}

void Inquiry::fail(ServiceFailure failure, std::string_view what) {
  service_.reactor_.timers().clear(timer_);
  service_.counters_.failures[failure].add();
  service_.tell(what);
  owner_.answered(service_.failure());
}

void Inquiry::on_timeout() {
  if (no_socket_) return fail(ServiceFailure::connect, "no socket can be had");
  if (ServiceConnection* connection = std::exchange(connection_, nullptr)) {
    connection->give_up();
  } else {
    service_.forget(*this);
  }
  fail(ServiceFailure::timeout, "no answer in time");
}

// ---------------------------------------------------------------------------------------------
// Connections.

ServiceConnection::ServiceConnection(Service& service)
    : service_(service),
      reload_(service.reloads_),
      stream_(service.reactor_, service.memory_,
              {service.counters_.bytes_received, service.counters_.bytes_sent}, *this) {}

ServiceConnection::~ServiceConnection() = default;

void ServiceConnection::move_to(State state) noexcept {
  const auto gauge = [this](State s) -> metrics::Gauge* {
    switch (s) {
      case State::connecting:
      case State::asking:
      case State::draining:
        return &service_.counters_.busy;
      case State::idle:
        return &service_.counters_.idle;
      case State::closing:
        break;
    }
    return nullptr;
  };
  if (metrics::Gauge* g = gauge(state_)) g->add(-1);
  if (metrics::Gauge* g = gauge(state)) g->add(1);
  state_ = state;
}

void ServiceConnection::set_timer(ring::Duration after) {
  service_.reactor_.timers().set(timer_, service_.reactor_.now() + after);
}

void ServiceConnection::connect(int fd, Inquiry& inquiry) {
  service_.counters_.busy.add(1);  // state_ is connecting from the start
  inquiry_ = &inquiry;
  inquiry.connection_ = this;
  set_timer(service_.config_.connect_timeout);
  stream_.connect(fd, service_.address_);
}

void ServiceConnection::stream_connected() {
  if (!service_.config_.uses_tls() || secured_) {
    service_.counters_.connects[ServiceConnect::ok].add();
    stream_.resume();
    return send_question();
  }
  handshake_ = std::make_unique<Handshake>(
      stream_, static_cast<net::Stream::Owner&>(*this), static_cast<Handshake::Owner&>(*this),
      std::make_unique<tls::Connection>(service_.tls_, service_.config_.tls_name), tls::Role::client,
      service_.offload_, service_.reactor_counters_);
  handshake_->start();
}

void ServiceConnection::handshake_done(const Handshake&) {
  handshake_.reset();
  secured_ = true;
  stream_connected();
}

void ServiceConnection::handshake_failed(const Handshake& handshake) {
  service_.counters_.connects[ServiceConnect::tls].add();
  fail(ServiceFailure::tls, "TLS: " + handshake.failure_text());
}

void ServiceConnection::ask(Inquiry& inquiry) {
  inquiry_ = &inquiry;
  inquiry.connection_ = this;
  send_question();
}

void ServiceConnection::send_question() {
  service_.reactor_.timers().clear(timer_);
  move_to(State::asking);
  touched_ = false;
  reader_ = service_.protocol_->reader();
  stream_.send_copy(inquiry_->request_);
}

// Whoever asked does not want to know any more. The answer would be taken for the next one's.
void ServiceConnection::give_up() {
  inquiry_ = nullptr;
  drop();
  service_.go_on(nullptr);
}

void ServiceConnection::drop() {
  assert(inquiry_ == nullptr);
  if (state_ == State::closing) return;
  if (state_ == State::idle) std::erase(service_.idle_, this);
  move_to(State::closing);
  --service_.open_;
  handshake_.reset();
  service_.reactor_.timers().clear(timer_);
  stream_.close();
}

void ServiceConnection::fail(ServiceFailure failure, std::string_view what) {
  Inquiry* inquiry = std::exchange(inquiry_, nullptr);
  drop();
  if (inquiry == nullptr) return service_.go_on(nullptr);
  inquiry->connection_ = nullptr;
  // It may have been dead for long; nobody need notice. Once: a service that closes on a question is no
  // better on the second.
  if (failure == ServiceFailure::closed && reused_ && !touched_ && !inquiry->retried_) {
    inquiry->retried_ = true;
    return service_.connect(*inquiry);
  }
  service_.go_on(nullptr);
  inquiry->fail(failure, what);
}

void ServiceConnection::stream_received(ring::Slice data) {
  if (state_ == State::closing) return;
  read({data.data(), data.size()});
}

void ServiceConnection::read(std::string_view input) {
  // Nothing was asked, so it answers nothing.
  if (reader_ == nullptr) return drop();
  touched_ = true;
  const AnswerReader::State state = reader_->feed(input);
  if (state == AnswerReader::State::reading) return;
  if (state == AnswerReader::State::failed) {
    const std::string what = "no valid answer: " + std::string(reader_->fault());
    return fail(ServiceFailure::bad_answer, what);
  }
  Inquiry* inquiry = std::exchange(inquiry_, nullptr);
  Answer answer;
  if (inquiry != nullptr) {
    inquiry->connection_ = nullptr;
    answer = std::move(reader_->answer());
  }
  if (state == AnswerReader::State::draining) {
    if (state_ != State::draining) {
      move_to(State::draining);
      set_timer(drain_patience);
    }
  } else {
    reader_.reset();
    reused_ = true;
    const bool free = state == AnswerReader::State::done && input.empty();
    if (!free) drop();
    service_.go_on(free ? this : nullptr);
  }
  // The last thing: whoever asked may end with it.
  if (inquiry != nullptr) inquiry->answer(std::move(answer));
}

void ServiceConnection::stream_ended(int error) {
  if (state_ == State::closing) return;
  if (state_ == State::connecting) {
    service_.counters_.connects[ServiceConnect::failed].add();
    return fail(ServiceFailure::connect, "connect: " + std::string(std::strerror(error)));
  }
  // EPROTO: without close_notify.
  fail(ServiceFailure::closed,
       error == 0 || error == EPROTO ? "closed before it answered" : std::strerror(error));
}

void ServiceConnection::stream_closed() {
  // The last thing to happen to a connection: it is destroyed here.
  Service& service = service_;
  auto& connections = service.connections_;
  const std::uint32_t index = index_;
  connections.back()->index_ = index;
  std::swap(connections[index], connections.back());
  connections.pop_back();
  service.owner_.service_connection_closed();
}

void ServiceConnection::on_timeout() {
  if (state_ != State::connecting) {  // idle for long, or a body that does not end
    drop();
    return service_.go_on(nullptr);
  }
  service_.counters_.connects[ServiceConnect::failed].add();
  fail(ServiceFailure::connect, handshake_ ? "the TLS handshake took too long" : "connecting took too long");
}

// ---------------------------------------------------------------------------------------------
// The service.

Service::Service(ring::Reactor& reactor, net::StreamMemory memory, const config::Service& config,
                 const Offload& offload, Log& log, metrics::ReactorCounters& reactor_counters,
                 metrics::ServiceCounters& counters, Owner& owner)
    : reactor_(reactor),
      memory_(memory),
      config_(config),
      address_(socket_address(config.address.endpoint)),
      protocol_(protocol_of(config)),
      cache_fields_(cache_fields_of(config)),
      cache_(cache_fields_.empty() ? 0 : config.cache_size, config.cache_time.count()),
      offload_(offload),
      reactor_counters_(reactor_counters),
      counters_(counters),
      owner_(owner),
      log_(log) {}

Service::~Service() = default;

// Not what depends on a password.
bool Service::caches(const policy::Question& question) const noexcept {
  return !cache_fields_.empty() && question.credentials == nullptr;
}

const Answer* Service::known(const policy::Question& question) {
  if (!caches(question)) return nullptr;
  const Answer* answer =
      cache_.find(policy::cache_key(cache_fields_, question), reactor_.now().time_since_epoch().count());
  if (answer != nullptr) counters_.cached.add();
  return answer;
}

void Service::tell(std::string_view what) {
  log_.line("service " + config::in_quotes(config_.name) + ": " + std::string(what));
}

Answer Service::failure() const {
  using OnFailure = config::Service::OnFailure;
  Answer answer;
  if (config_.on_failure == OnFailure::allow) return answer;
  answer.verdict = Answer::Verdict::refuse;
  answer.reply = config_.on_failure == OnFailure::refuse ? policy::replies::service_unavailable_for_good
                                                         : policy::replies::service_unavailable;
  return answer;
}

void Service::ask(Inquiry& inquiry) {
  if (!idle_.empty()) {
    ServiceConnection& connection = *idle_.back();
    idle_.pop_back();
    connection.ask(inquiry);
  } else if (open_ < config_.max_connections) {
    connect(inquiry);
  } else {
    waiting_.push_back(&inquiry);
    inquiry.waiting_ = true;
    counters_.waiting.add(1);
  }
}

void Service::connect(Inquiry& inquiry) {
  const int fd = net::stream_socket(address_);
  if (fd < 0) {
    counters_.connects[ServiceConnect::failed].add();
    inquiry.no_socket_ = true;
    return reactor_.timers().set(inquiry.timer_, reactor_.now());
  }
  ++open_;
  auto& connection = connections_.emplace_back(std::make_unique<ServiceConnection>(*this));
  connection->index_ = static_cast<std::uint32_t>(connections_.size() - 1);
  connection->connect(fd, inquiry);
}

void Service::forget(Inquiry& inquiry) noexcept {
  if (!std::exchange(inquiry.waiting_, false)) return;
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), &inquiry));
  counters_.waiting.add(-1);
}

void Service::go_on(ServiceConnection* connection) {
  if (connection != nullptr && connection->reload_ != reloads_) std::exchange(connection, nullptr)->drop();
  if (!waiting_.empty() && (connection != nullptr || open_ < config_.max_connections)) {
    Inquiry& next = *waiting_.front();
    forget(next);
    return connection != nullptr ? connection->ask(next) : connect(next);
  }
  if (connection == nullptr) return;
  if (draining_ || idle_.size() >= config_.max_idle) return connection->drop();
  connection->move_to(ServiceConnection::State::idle);
  connection->set_timer(config_.idle_timeout);
  idle_.push_back(connection);
}

void Service::use(std::shared_ptr<const tls::ClientContext> tls) {
  tls_ = std::move(tls);
  ++reloads_;
  while (!idle_.empty()) idle_.back()->drop();
}

void Service::drain() {
  draining_ = true;
  while (!idle_.empty()) idle_.back()->drop();
}

void Service::close_all() {
  draining_ = true;
  // (Whoever still waits for an answer is gone by now.)
  for (auto& connection : connections_) connection->drop();
}

}  // namespace ringmx::gateway
