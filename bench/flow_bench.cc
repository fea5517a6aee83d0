// SPDX-License-Identifier: GPL-3.0-or-later
//
// How should a session's flow be written: as a coroutine that awaits its next line, or as an
// explicit state machine that is handed one? Three versions of the same small SMTP dialogue, driven
// by the same loop:
//
//   Machine      a switch over verbs, guarded by the state
//   Flat         one coroutine per session
//   Nested       the same, with the transaction as a coroutine of its own (a frame that exists while
//                a transaction does): what a flow becomes when it is cut into readable pieces
//
// BM_Step: time per line ("step") in steady state; the argument is the number of sessions, taken in
// turn as a busy reactor would, so that with many of them the memory of each counts.
// BM_Session: a whole session, opened and closed.
// bytes: what a session holds in the middle of a transaction, allocator overhead not included.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

namespace {

enum class Verb { ehlo, mail, rcpt, data, rset, noop, quit, unknown };

Verb verb_of(std::string_view line) {
  constexpr std::array<std::string_view, 7> verbs = {"EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"};
  const std::string_view word = line.substr(0, 4);
  for (std::size_t i = 0; i < verbs.size(); ++i) {
    if (word == verbs[i]) return static_cast<Verb>(i);
  }
  return Verb::unknown;
}

constexpr std::string_view ok = "250 2.0.0 Ok\r\n";
constexpr std::string_view start_mail_input = "354 End data with <CR><LF>.<CR><LF>\r\n";
constexpr std::string_view bad_sequence = "503 5.5.1 Bad sequence of commands\r\n";
constexpr std::string_view not_recognized = "500 5.5.2 Command not recognized\r\n";
constexpr std::string_view bye = "221 2.0.0 Bye\r\n";
constexpr std::string_view no_reply = "";  // a line of the message

// The dialogue; QUIT stands last, so that BM_Step can leave it out.
constexpr std::array<std::string_view, 12> script = {
    "EHLO client.example.test",
    "MAIL FROM:<alice@example.test>",
    "RCPT TO:<bob@example.test>",
    "RCPT TO:<carol@example.test>",
    "DATA",
    "Subject: dialogue",
    "",
    "A line of the message, of about the usual length of a line of mail text.",
    "A line of the message, of about the usual length of a line of mail text.",
    "A line of the message, of about the usual length of a line of mail text.",
    ".",
    "QUIT"};
constexpr std::size_t in_transaction = 3;  // so many lines into the script, two frames are alive

// ---- the explicit machine

class Machine {
 public:
  [[gnu::noinline]] std::string_view step(std::string_view line) {
    if (state_ == State::body) {
      if (line != ".") {
        octets_ += line.size() + 2;
        return no_reply;
      }
      state_ = State::greeted;
      return ok;
    }
    switch (verb_of(line)) {
      case Verb::ehlo:
        state_ = State::greeted;
        return ok;
      case Verb::mail:
        if (state_ != State::greeted) return bad_sequence;
        state_ = State::transaction;
        recipients_ = 0;
        octets_ = 0;
        return ok;
      case Verb::rcpt:
        if (state_ != State::transaction) return bad_sequence;
        ++recipients_;
        return ok;
      case Verb::data:
        if (state_ != State::transaction || recipients_ == 0) return bad_sequence;
        state_ = State::body;
        return start_mail_input;
      case Verb::rset:
        if (state_ == State::transaction) state_ = State::greeted;
        return ok;
      case Verb::noop:
        return ok;
      case Verb::quit:
        state_ = State::connected;
        return bye;
      case Verb::unknown:
        break;
    }
    return not_recognized;
  }
  [[nodiscard]] std::size_t bytes() const { return sizeof(*this); }

 private:
  enum class State : std::uint8_t { connected, greeted, transaction, body };
  State state_ = State::connected;
  std::uint32_t recipients_ = 0;
  std::uint64_t octets_ = 0;
};

// ---- the coroutines

// What passes between the loop and the flow that it resumes; one per reactor.
struct Turn {
  std::string_view line;
  std::string_view reply;
};

std::size_t frame_bytes = 0;  // alive at the moment

// A session's end of the scheduler: who waits for its next line.
class Port {
 public:
  explicit Port(Turn& turn) : turn_(&turn) {}
  void reply(std::string_view text) { turn_->reply = text; }
  void resume() { waiting_.resume(); }

  auto line() {
    struct Awaiter {
      Port& port;
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> h) noexcept { port.waiting_ = h; }
      [[nodiscard]] std::string_view await_resume() const noexcept { return port.turn_->line; }
    };
    return Awaiter{*this};
  }

 private:
  Turn* turn_;
  std::coroutine_handle<> waiting_;
};

class Flow {
 public:
  struct promise_type {
    std::coroutine_handle<> continuation = std::noop_coroutine();

    Flow get_return_object() { return Flow(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
      struct Awaiter {
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> h) noexcept {
          return h.promise().continuation;
        }
        void await_resume() const noexcept {}
      };
      return Awaiter{};
    }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }

    static void* operator new(std::size_t size) {
      frame_bytes += size;
      return ::operator new(size);
    }
    static void operator delete(void* frame, std::size_t size) noexcept {
      frame_bytes -= size;
      ::operator delete(frame);
    }
  };

  Flow(Flow&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  Flow& operator=(Flow&&) = delete;
  ~Flow() {
    if (handle_) handle_.destroy();
  }

  void start() { handle_.resume(); }
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
    handle_.promise().continuation = caller;
    return handle_;
  }
  void await_resume() const noexcept {}

 private:
  explicit Flow(std::coroutine_handle<promise_type> h) : handle_(h) {}
  std::coroutine_handle<promise_type> handle_;
};

Flow flat(Port& port) {
  bool greeted = false;
  for (;;) {
    switch (verb_of(co_await port.line())) {
      case Verb::ehlo:
        greeted = true;
        port.reply(ok);
        break;
      case Verb::mail: {
        if (!greeted) {
          port.reply(bad_sequence);
          break;
        }
        port.reply(ok);
        std::uint32_t recipients = 0;
        std::uint64_t octets = 0;
        for (bool open = true; open;) {
          switch (verb_of(co_await port.line())) {
            case Verb::rcpt:
              ++recipients;
              port.reply(ok);
              break;
            case Verb::data: {
              if (recipients == 0) {
                port.reply(bad_sequence);
                break;
              }
              port.reply(start_mail_input);
              for (;;) {
                const std::string_view line = co_await port.line();
                if (line == ".") break;
                octets += line.size() + 2;
                port.reply(no_reply);
              }
              benchmark::DoNotOptimize(octets);
              port.reply(ok);
              open = false;
              break;
            }
            case Verb::ehlo:
            case Verb::rset:
              port.reply(ok);
              open = false;
              break;
            case Verb::noop:
              port.reply(ok);
              break;
            case Verb::mail:
              port.reply(bad_sequence);
              break;
            case Verb::quit:
              port.reply(bye);
              co_return;
            case Verb::unknown:
              port.reply(not_recognized);
              break;
          }
        }
        break;
      }
      case Verb::rcpt:
      case Verb::data:
        port.reply(bad_sequence);
        break;
      case Verb::rset:
      case Verb::noop:
        port.reply(ok);
        break;
      case Verb::quit:
        port.reply(bye);
        co_return;
      case Verb::unknown:
        port.reply(not_recognized);
        break;
    }
  }
}

Flow transaction(Port& port, bool& quit) {
  std::uint32_t recipients = 0;
  std::uint64_t octets = 0;
  for (;;) {
    switch (verb_of(co_await port.line())) {
      case Verb::rcpt:
        ++recipients;
        port.reply(ok);
        break;
      case Verb::data:
        if (recipients == 0) {
          port.reply(bad_sequence);
          break;
        }
        port.reply(start_mail_input);
        for (;;) {
          const std::string_view line = co_await port.line();
          if (line == ".") break;
          octets += line.size() + 2;
          port.reply(no_reply);
        }
        benchmark::DoNotOptimize(octets);
        port.reply(ok);
        co_return;
      case Verb::ehlo:
      case Verb::rset:
        port.reply(ok);
        co_return;
      case Verb::noop:
        port.reply(ok);
        break;
      case Verb::mail:
        port.reply(bad_sequence);
        break;
      case Verb::quit:
        port.reply(bye);
        quit = true;
        co_return;
      case Verb::unknown:
        port.reply(not_recognized);
        break;
    }
  }
}

Flow nested(Port& port) {
  bool greeted = false;
  for (bool quit = false; !quit;) {
    switch (verb_of(co_await port.line())) {
      case Verb::ehlo:
        greeted = true;
        port.reply(ok);
        break;
      case Verb::mail:
        if (!greeted) {
          port.reply(bad_sequence);
          break;
        }
        port.reply(ok);
        co_await transaction(port, quit);
        break;
      case Verb::rcpt:
      case Verb::data:
        port.reply(bad_sequence);
        break;
      case Verb::rset:
      case Verb::noop:
        port.reply(ok);
        break;
      case Verb::quit:
        port.reply(bye);
        quit = true;
        break;
      case Verb::unknown:
        port.reply(not_recognized);
        break;
    }
  }
}

template <Flow (*flow)(Port&)>
class Coroutine {
 public:
  Coroutine() : port_(turn), frame_before_(frame_bytes), flow_(flow(port_)) { flow_.start(); }
  Coroutine(const Coroutine&) = delete;
  Coroutine& operator=(const Coroutine&) = delete;

  [[gnu::noinline]] std::string_view step(std::string_view line) {
    turn.line = line;
    port_.resume();
    return turn.reply;
  }
  // Of the only one alive.
  [[nodiscard]] std::size_t bytes() const {
    return sizeof(port_) + sizeof(flow_) + frame_bytes - frame_before_;
  }

 private:
  static inline Turn turn;
  Port port_;
  std::size_t frame_before_;  // for bytes(); not counted
  Flow flow_;
};
using Flat = Coroutine<flat>;
using Nested = Coroutine<nested>;

// ---- the measurements

template <class Session>
double bytes_in_transaction() {
  Session session;
  for (std::size_t i = 0; i < in_transaction; ++i) session.step(script[i]);
  return static_cast<double>(session.bytes());
}

template <class Session>
void check_replies(benchmark::State& state) {
  constexpr std::array<std::string_view, script.size()> expected = {
      ok, ok, ok, ok, start_mail_input, no_reply, no_reply, no_reply, no_reply, no_reply, ok, bye};
  Session session;
  for (std::size_t i = 0; i < script.size(); ++i) {
    if (session.step(script[i]) != expected[i]) state.SkipWithError("wrong reply");
  }
}

template <class Session>
void BM_Step(benchmark::State& state) {
  check_replies<Session>(state);
  const double bytes = bytes_in_transaction<Session>();
  std::vector<std::unique_ptr<Session>> sessions(static_cast<std::size_t>(state.range(0)));
  for (auto& session : sessions) session = std::make_unique<Session>();
  std::shuffle(sessions.begin(), sessions.end(),
               std::mt19937(1));  // they do not speak in the order they came
  std::size_t line = 0;
  for (auto _ : state) {
    for (auto& session : sessions) benchmark::DoNotOptimize(session->step(script[line]));
    if (++line == script.size() - 1) line = 0;
  }
  state.counters["step"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(sessions.size()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["bytes"] = bytes;
}

template <class Session>
void BM_Session(benchmark::State& state) {
  check_replies<Session>(state);
  for (auto _ : state) {
    auto session = std::make_unique<Session>();
    for (std::string_view line : script) benchmark::DoNotOptimize(session->step(line));
  }
}

BENCHMARK(BM_Step<Machine>)->Arg(1)->Arg(100)->Arg(20000);
BENCHMARK(BM_Step<Flat>)->Arg(1)->Arg(100)->Arg(20000);
BENCHMARK(BM_Step<Nested>)->Arg(1)->Arg(100)->Arg(20000);
BENCHMARK(BM_Session<Machine>);
BENCHMARK(BM_Session<Flat>);
BENCHMARK(BM_Session<Nested>);

}  // namespace

BENCHMARK_MAIN();
