// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/reactor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "loop.h"
#include "ring/messenger.h"
#include "ring/receive_buffers.h"

namespace ringmx::ring {
namespace {

using namespace std::literals;

struct Task {
  void run() { action(); }
  std::function<void()> action;
  DeferredOf<&Task::run> deferred{*this};
};

struct Alarm {
  void run() { action(); }
  std::function<void()> action;
  TimerOf<&Alarm::run> timer{*this};
};

// Remembers what its completions said.
struct Completions {
  void on_completion(int result, unsigned cqe_flags) {
    results.push_back(result);
    flags.push_back(cqe_flags);
    action(result);
  }

  std::vector<int> results;
  std::vector<unsigned> flags;
  std::function<void(int)> action = [](int) {};
  OperationOf<&Completions::on_completion> operation{*this};
};

struct Pair {
  explicit Pair(int type = SOCK_STREAM) {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
    ours = fds[0];
    peers = fds[1];
    // The reactor's side is a blocking one, as every socket of ringmx is.
    EXPECT_EQ(fcntl(ours, F_SETFL, 0), 0);
  }
  ~Pair() {
    ::close(ours);
    ::close(peers);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  void write(std::string_view bytes) const {
    ASSERT_EQ(::write(peers, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  [[nodiscard]] std::string read() const {
    std::string bytes(4096, '\0');
    const ssize_t n = ::read(peers, bytes.data(), bytes.size());
    bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return bytes;
  }

  int ours = -1;
  int peers = -1;
};

TEST(Deferred, RunsInOrderAndOnce) {
  Loop loop;
  std::string order;
  std::array<Task, 4> tasks;
  for (std::size_t i = 0; i < tasks.size(); ++i)
    tasks[i].action = [&, i] { order += static_cast<char>('0' + i); };
  for (const std::size_t i : {2U, 0U, 3U, 0U, 2U, 1U, 1U}) loop.reactor.defer(tasks[i].deferred);
  EXPECT_TRUE(tasks[0].deferred.scheduled());
  EXPECT_EQ(order, "");
  loop.turn();
  EXPECT_EQ(order, "2031");
  EXPECT_FALSE(tasks[0].deferred.scheduled());
  loop.turn();
  EXPECT_EQ(order, "2031");
  loop.reactor.defer(tasks[3].deferred);
  loop.turn();
  EXPECT_EQ(order, "20313");
}

TEST(Deferred, MayDeferAndMayGo) {
  Loop loop;
  std::string order;
  Task last{.action = [&] { order += 'l'; }};
  Task again;
  int times = 0;
  again.action = [&] {
    order += 'a';
    if (++times < 3) loop.reactor.defer(again.deferred);  // itself, for the same turn
    loop.reactor.defer(last.deferred);
  };
  auto gone = std::make_unique<Task>();
  gone->action = [&order, &gone] {
    order += 'g';
    gone.reset();  // the end of a stream or a session
  };
  loop.reactor.defer(gone->deferred);
  loop.reactor.defer(again.deferred);
  loop.turn();
  EXPECT_EQ(order, "gaalal");
  EXPECT_EQ(gone, nullptr);
}

TEST(Deferred, WhatABatchDefersRunsAfterTheWholeBatch) {
  Loop loop;
  std::string order;
  Task flush{.action = [&] { order += 'f'; }};
  const Pair pair;
  std::array<Completions, 3> sends;
  for (Completions& send : sends) {
    send.action = [&](int) {
      order += 'c';
      loop.reactor.defer(flush.deferred);
    };
    loop.reactor.send(send.operation, pair.ours, "x", 1);
  }
  loop.turn();
  EXPECT_EQ(order, "ccc");
  loop.turn();
  EXPECT_EQ(order, "cccf");
}

TEST(Reactor, TakesMoreSubmissionsThanItsQueueHolds) {
  Loop loop(ReactorOptions{.submission_entries = 8, .completion_entries = 16});
  constexpr std::size_t count = 1000;  // more than the completion queue holds, too
  std::vector<std::unique_ptr<Pair>> pairs;
  std::vector<Completions> sends(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (i % 100 == 0) pairs.push_back(std::make_unique<Pair>());  // what a socket's buffer takes at once
    loop.reactor.send(sends[i].operation, pairs.back()->ours, "x", 1);
    ASSERT_TRUE(sends[i].operation.pending());
  }
  EXPECT_TRUE(loop.run_until([&] {
    return std::none_of(sends.begin(), sends.end(), [](auto& s) { return s.operation.pending(); });
  }));
  for (const Completions& send : sends) EXPECT_EQ(send.results, std::vector{1});
  for (const auto& pair : pairs) EXPECT_EQ(pair->read(), std::string(100, 'x'));
  EXPECT_GE(loop.statistics.submissions.value(), count);
  EXPECT_GT(loop.statistics.cq_overflows.value(), 0U);
}

TEST(Reactor, GathersStayUntilTheyAreSubmitted) {
  Loop loop(ReactorOptions{.submission_entries = 8, .completion_entries = 1024});
  constexpr std::size_t count = 300;  // more than there are gathers
  std::vector<std::unique_ptr<Pair>> pairs;
  std::vector<Completions> sends(count);
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) {
    pairs.push_back(std::make_unique<Pair>());
    texts.push_back("message " + std::to_string(i));
  }
  for (std::size_t i = 0; i < count; ++i) {
    Reactor::Gather& gather = loop.reactor.gather();
    gather.vectors[0] = {.iov_base = texts[i].data(), .iov_len = 3};
    gather.vectors[1] = {.iov_base = texts[i].data() + 3, .iov_len = texts[i].size() - 3};
    gather.message = {};
    gather.message.msg_iov = gather.vectors.data();
    gather.message.msg_iovlen = 2;
    loop.reactor.send_message(sends[i].operation, pairs[i]->ours, gather.message);
  }
  EXPECT_TRUE(loop.run_until([&] { return !sends.back().operation.pending(); }));
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_EQ(sends[i].results, std::vector{static_cast<int>(texts[i].size())});
    EXPECT_EQ(pairs[i]->read(), texts[i]);
  }
}

TEST(Reactor, ClosesDescriptors) {
  Loop loop;
  std::array<int, 2> fds{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  loop.reactor.close(fds[0]);
  loop.settle();
  char c = 0;
  EXPECT_EQ(read(fds[1], &c, 1), 0);
  EXPECT_EQ(fcntl(fds[0], F_GETFD), -1);
  ::close(fds[1]);
}

// With the number of exchanges under way: where there are many, it waits for several completions.
class Waiting : public testing::TestWithParam<int> {
 protected:
  Waiting() {
    for (int i = 0; i < GetParam(); ++i) loop.reactor.exchange_begins();
  }
  Loop loop;
};
INSTANTIATE_TEST_SUITE_P(Reactor, Waiting, testing::Values(0, 1, 100, 100000));

TEST_P(Waiting, EndsAtDeadlines) {
  Alarm first;
  Alarm second;
  const Time begin = loop.reactor.now();
  Time fired{};
  first.action = [&] { fired = loop.reactor.now(); };
  second.action = [&] { loop.reactor.stop(); };
  loop.reactor.timers().set(first.timer, begin + 20ms);
  loop.reactor.timers().set(second.timer, begin + 150ms);
  loop.reactor.run();
  EXPECT_GE(fired, begin + 20ms);
  EXPECT_GE(loop.reactor.now(), begin + 150ms);
  EXPECT_LT(fired, loop.reactor.now());
  // It slept meanwhile.
  EXPECT_LE(loop.statistics.enters.value(), 10U);
}

__kernel_timespec in(std::chrono::nanoseconds time) {
  const auto at = std::chrono::steady_clock::now().time_since_epoch() + time;
  return {.tv_sec = at / 1s, .tv_nsec = (at % 1s) / 1ns};
}

TEST(Reactor, WakesAtATimeThatIsNoTick) {
  Loop loop;
  Completions wake;
  wake.action = [&](int) { loop.reactor.stop(); };
  const auto begin = std::chrono::steady_clock::now();
  {
    const __kernel_timespec time = in(5ms);
    loop.reactor.wake_at(wake.operation, time);
    loop.reactor.run();
  }
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 5ms);
  // A time that is over is now; and other completions are none of it.
  const __kernel_timespec over = in(-1s);
  loop.reactor.wake_at(wake.operation, over);
  loop.reactor.run();
  EXPECT_EQ(wake.results, (std::vector{-ETIME, -ETIME}));

  const __kernel_timespec later = in(1h);
  loop.reactor.wake_at(wake.operation, later);
  loop.settle();
  EXPECT_TRUE(wake.operation.pending());
  loop.reactor.cancel(wake.operation);
  EXPECT_TRUE(loop.run_until([&] { return !wake.operation.pending(); }));
  EXPECT_EQ(wake.results.back(), -ECANCELED);
}

// One exchange of all that are under way goes on, the others wait for somebody: nothing ever comes with
// what it is waiting for.
TEST_P(Waiting, EndsWithOneCompletionIfThereAreNoMore) {
  constexpr std::size_t rounds = 300;
  ReceivePool pool(256, 2);
  ReceiveBuffers buffers(loop.reactor, pool, 1, 2, 2);
  const Pair pair;
  ASSERT_EQ(fcntl(pair.peers, F_SETFL, 0), 0);
  std::thread peer([&] {
    char c = 0;
    while (::read(pair.peers, &c, 1) == 1) {
      if (::write(pair.peers, &c, 1) != 1) break;
    }
  });
  Completions send;
  Completions receive;
  Alarm too_late;
  too_late.action = [&] { loop.reactor.stop(); };
  loop.reactor.timers().set(too_late.timer, loop.reactor.now() + 10s);
  receive.action = [&](int) {
    const Slice data = buffers.filled(receive.flags.back(), 1);
    if (receive.results.size() == rounds) return loop.reactor.stop();
    loop.reactor.send(send.operation, pair.ours, "x", 1);
  };
  loop.reactor.receive_multishot(receive.operation, pair.ours, buffers.group());
  loop.reactor.send(send.operation, pair.ours, "x", 1);
  loop.reactor.run();
  EXPECT_EQ(receive.results, std::vector<int>(rounds, 1));
  ::shutdown(pair.ours, SHUT_RDWR);
  peer.join();
  loop.settle();
}

TEST(Reactor, StopEndsTheLoopAfterTheRunningTurn) {
  Loop loop;
  const Pair pair;
  std::array<Completions, 3> sends;
  for (Completions& send : sends) {
    send.action = [&](int) { loop.reactor.stop(); };
    loop.reactor.send(send.operation, pair.ours, "x", 1);
  }
  loop.reactor.run();
  for (const Completions& send : sends) EXPECT_EQ(send.results.size(), 1U);  // the whole batch
  // From what was deferred, nothing is waited for.
  Task stop{.action = [&] { loop.reactor.stop(); }};
  loop.reactor.defer(stop.deferred);
  loop.reactor.run();
  // And it runs again.
  loop.reactor.send(sends[0].operation, pair.ours, "x", 1);
  loop.reactor.run();
  EXPECT_EQ(sends[0].results.size(), 2U);
}

TEST(Reactor, CancelsAnArmedReceive) {
  Loop loop;
  ReceivePool pool(256, 2);
  ReceiveBuffers buffers(loop.reactor, pool, 1, 2, 2);
  const Pair pair;
  Completions receive;
  loop.reactor.receive_multishot(receive.operation, pair.ours, buffers.group());
  loop.settle();
  EXPECT_TRUE(receive.operation.pending());
  EXPECT_TRUE(receive.results.empty());
  loop.reactor.cancel(receive.operation);
  EXPECT_TRUE(receive.operation.pending()) << "until its last completion";
  loop.settle();
  EXPECT_EQ(receive.results, std::vector{-ECANCELED});
  EXPECT_FALSE(receive.operation.pending());
  // What comes now stays in the socket for the next one.
  pair.write("later");
  loop.settle();
  EXPECT_EQ(receive.results.size(), 1U);
  loop.reactor.receive(receive.operation, pair.ours, buffers.group());
  loop.settle();
  ASSERT_EQ(receive.results.size(), 2U);
  EXPECT_EQ(receive.results[1], 5);
  EXPECT_FALSE(receive.operation.pending()) << "once, into one buffer";
  const Slice slice = buffers.filled(receive.flags[1], 5);
  EXPECT_EQ(std::string_view(slice.data(), slice.size()), "later");
}

// The last completion stands in the same batch: the cancel finds nothing, and must not hit what is
// armed under the same name right behind it.
TEST(Reactor, CancelOfWhatIsAlreadyOverHitsNothingElse) {
  Loop loop;
  ReceivePool pool(256, 2);
  ReceiveBuffers buffers(loop.reactor, pool, 1, 2, 2);
  const Pair pair;
  Completions receive;
  std::string received;
  bool canceled = false;
  receive.action = [&](int result) {
    if (result > 0) {
      const Slice slice = buffers.filled(receive.flags.back(), static_cast<std::uint32_t>(result));
      received.append(slice.data(), slice.size());
      // As close() and open() on one object would: the operation is over once the first one ends.
      if (receive.operation.pending() && !std::exchange(canceled, true))
        loop.reactor.cancel(receive.operation);
    }
    if (!receive.operation.pending())
      loop.reactor.receive_multishot(receive.operation, pair.ours, buffers.group());
  };
  loop.reactor.receive_multishot(receive.operation, pair.ours, buffers.group());
  std::string sent;
  for (char c = 'a'; c <= 'z'; ++c) {
    pair.write(std::string(100, c));
    sent += std::string(100, c);
    if (c % 5 == 0) {
      loop.settle();
      canceled = false;
    }
  }
  EXPECT_TRUE(loop.run_until([&] { return received.size() == sent.size(); }));
  EXPECT_EQ(received, sent);
  EXPECT_TRUE(receive.operation.pending());
  receive.action = [](int) {};
  loop.reactor.cancel(receive.operation);
  loop.settle();
}

TEST(ReceiveBuffers, RingsOfOnePoolShareItsBlocks) {
  Loop loop;
  ReceivePool pool(256, 5);
  ReceiveBuffers first(loop.reactor, pool, 1, 1, 1);
  ReceiveBuffers second(loop.reactor, pool, 2, 2, 4);
  const Pair pair;
  Completions receive;
  std::vector<Slice> held;
  ReceiveBuffers* from = nullptr;
  receive.action = [&](int result) {
    ASSERT_EQ(result, 100);  // and the rest stays: a receive of less than a block
    held.push_back(from->filled(receive.flags.back(), static_cast<std::uint32_t>(result)));
  };
  const auto take = [&](ReceiveBuffers& buffers) {
    from = &buffers;
    loop.reactor.receive(receive.operation, pair.ours, buffers.group(), 100);
    loop.settle();
  };
  pair.write(std::string(1000, 'x'));
  take(first);
  take(second);
  take(second);
  EXPECT_EQ(pool.held(), 3U);
  EXPECT_EQ(pool.blocks_free(), 0U);
  take(second);
  EXPECT_EQ(pool.held(), 4U);
  held.erase(held.begin());  // one is back: the second ring lacks two, the first none
  take(second);
  take(first);
  EXPECT_EQ(pool.held(), 5U);
  // All are held. The first ring is served first, whoever used them.
  held.pop_back();
  take(first);
  EXPECT_EQ(held.size(), 5U);
  receive.action = [&](int result) { EXPECT_EQ(result, -ENOBUFS); };
  take(second);
  EXPECT_EQ(receive.results.back(), -ENOBUFS);
  held.clear();
  EXPECT_EQ(pool.held(), 0U);
  EXPECT_EQ(pool.blocks_in_use(), 3U);  // offered again
}

TEST(ReceiveBuffers, MultishotReceiveStaysArmed) {
  Loop loop;
  ReceivePool pool(256, 16);
  ReceiveBuffers buffers(loop.reactor, pool, 7, 4, 16);
  EXPECT_EQ(buffers.group(), 7);
  EXPECT_EQ(pool.blocks_in_use(), 4U);  // what is offered
  const Pair pair;
  Completions receive;
  std::vector<std::string> received;
  receive.action = [&](int result) {
    if (result <= 0) return;
    EXPECT_NE(receive.flags.back() & IORING_CQE_F_BUFFER, 0U);
    const Slice slice = buffers.filled(receive.flags.back(), static_cast<std::uint32_t>(result));
    EXPECT_EQ(slice.pool(), &pool);
    received.emplace_back(slice.data(), slice.size());
  };
  loop.reactor.receive_multishot(receive.operation, pair.ours, buffers.group());
  std::vector<std::string> sent;
  for (std::size_t i = 0; i < 1000; ++i) {
    sent.emplace_back(1 + i % 256, static_cast<char>('a' + i % 26));
    pair.write(sent.back());
    loop.settle();
    ASSERT_TRUE(receive.operation.pending());
  }
  EXPECT_EQ(received, sent);
  EXPECT_EQ(pool.blocks_in_use(), 4U);
  EXPECT_EQ(loop.statistics.buffer_starvations.value(), 0U);
  ::shutdown(pair.peers, SHUT_WR);
  loop.settle();
  EXPECT_FALSE(receive.operation.pending());
  EXPECT_EQ(receive.results.back(), 0);
}

// A receiver as the streams are: waits when there is no buffer, holds what it got as long as it likes.
struct Receiver final : ReceiveBuffers::Waiter {
  Receiver(Loop& l, ReceiveBuffers& b, int descriptor) : loop(l), buffers(b), fd(descriptor) { arm(); }
  ~Receiver() override { buffers.stop_waiting(*this); }

  void arm() { loop.reactor.receive_multishot(operation, fd, buffers.group()); }
  void buffers_available() override {
    ++woken;
    arm();
  }
  void on_receive(int result, unsigned flags) {
    if (result > 0) {
      EXPECT_NE(flags & IORING_CQE_F_BUFFER, 0U);
      held.push_back(buffers.filled(flags, static_cast<std::uint32_t>(result)));
      received.append(held.back().data(), held.back().size());
    } else {
      EXPECT_EQ(flags & IORING_CQE_F_BUFFER, 0U);
      EXPECT_TRUE(result == -ENOBUFS || result == -ECANCELED) << result;
    }
    if (result == -ENOBUFS) {
      buffers.wait(*this);
    } else if (result != -ECANCELED && !operation.pending()) {
      arm();
    }
  }
  void finish() {
    held.clear();
    buffers.stop_waiting(*this);
    if (operation.pending()) loop.reactor.cancel(operation);
    while (operation.pending()) loop.turn();
  }

  Loop& loop;
  ReceiveBuffers& buffers;
  int fd;
  int woken = 0;
  std::string received;
  std::deque<Slice> held;
  OperationOf<&Receiver::on_receive> operation{*this};
};

TEST(ReceiveBuffers, StarvationOffersMoreAndEndsInOrder) {
  Loop loop;
  ReceivePool pool(16, 4);
  ReceiveBuffers buffers(loop.reactor, pool, 1, 1, 4);
  const Pair pair;
  Receiver receiver(loop, buffers, pair.ours);
  std::string sent;
  for (char c = 'a'; c < 'k'; ++c) sent += std::string(16, c);
  pair.write(sent);
  // Everything there is gets used, and no more than that.
  EXPECT_TRUE(loop.run_until([&] { return receiver.held.size() == 4; }));
  EXPECT_EQ(buffers.offered(), 4U);
  loop.settle();
  EXPECT_TRUE(ReceiveBuffers::waiting(receiver));
  EXPECT_FALSE(receiver.operation.pending());
  EXPECT_EQ(receiver.received, sent.substr(0, 64));
  EXPECT_EQ(pool.blocks_free(), 0U);
  EXPECT_GE(loop.statistics.buffer_starvations.value(), 2U);
  // One goes, one comes, and what was held meanwhile is as it was.
  for (std::size_t n = 5; n <= 10; ++n) {
    receiver.held.pop_front();
    EXPECT_TRUE(loop.run_until([&] { return receiver.received.size() == 16 * n; })) << n;
    EXPECT_EQ(receiver.held.size(), 4U);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(std::string_view(receiver.held[i].data(), receiver.held[i].size()),
                std::string(16, static_cast<char>('a' + n - 4 + i)));
    }
  }
  EXPECT_EQ(receiver.received, sent);
  receiver.finish();
  loop.settle();
  EXPECT_EQ(pool.blocks_in_use(), buffers.offered());
}

TEST(ReceiveBuffers, WaitersAreServedInTurn) {
  Loop loop;
  ReceivePool pool(16, 2);
  ReceiveBuffers buffers(loop.reactor, pool, 1, 2, 2);
  std::vector<std::unique_ptr<Pair>> pairs;
  std::vector<std::unique_ptr<Receiver>> receivers;
  for (std::size_t i = 0; i < 7; ++i) {
    pairs.push_back(std::make_unique<Pair>());
    receivers.push_back(std::make_unique<Receiver>(loop, buffers, pairs[i]->ours));
    loop.settle();
    pairs[i]->write("0123456789abcdef");
    loop.settle();
  }
  for (std::size_t i = 2; i < 7; ++i) EXPECT_TRUE(ReceiveBuffers::waiting(*receivers[i]));
  // In the middle, at the front and at the back somebody gives up.
  for (const std::size_t i : {4U, 2U, 6U}) buffers.stop_waiting(*receivers[i]);
  buffers.stop_waiting(*receivers[4]);
  receivers[0]->held.clear();
  EXPECT_TRUE(loop.run_until([&] { return receivers[3]->held.size() == 1; }));
  EXPECT_TRUE(ReceiveBuffers::waiting(*receivers[5]));
  receivers[1]->held.clear();
  EXPECT_TRUE(loop.run_until([&] { return receivers[5]->held.size() == 1; }));
  for (const std::size_t i : {2U, 4U, 6U}) EXPECT_EQ(receivers[i]->woken, 0);
  for (auto& receiver : receivers) receiver->finish();
}

// Woken for a buffer, but with nothing to read: the next in line gets it without anybody's doing.
TEST(ReceiveBuffers, ABufferThatNobodyTookGoesToTheNext) {
  Loop loop;
  ReceivePool pool(16, 1);
  ReceiveBuffers buffers(loop.reactor, pool, 1, 1, 1);
  const Pair first;
  const Pair idle;
  const Pair next;
  Receiver holder(loop, buffers, first.ours);
  Receiver nothing(loop, buffers, idle.ours);
  Receiver wants(loop, buffers, next.ours);
  loop.settle();
  first.write("0123456789abcdef");
  loop.settle();
  ASSERT_EQ(holder.held.size(), 1U);
  for (Receiver* receiver : {&nothing, &wants}) {
    loop.reactor.cancel(receiver->operation);
    while (receiver->operation.pending()) loop.turn();
    buffers.wait(*receiver);
  }
  next.write("x");
  holder.held.clear();
  EXPECT_TRUE(loop.run_until([&] { return wants.received == "x"; }));
  EXPECT_EQ(nothing.woken, 1);
  EXPECT_EQ(nothing.received, "");
  for (Receiver* receiver : {&holder, &nothing, &wants}) receiver->finish();
}

// Were a buffer given back twice or too early, somebody would read another's bytes in it.
TEST(ReceiveBuffers, NoByteIsLostMixedUpOrOverwritten) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Loop loop(ReactorOptions{.submission_entries = 16, .completion_entries = 64});
  ReceivePool pool(128, 32);
  ReceiveBuffers buffers(loop.reactor, pool, 1, 4, 32);
  constexpr std::size_t peers = 40;
  constexpr std::size_t each = 20'000;
  std::vector<std::unique_ptr<Pair>> pairs;
  std::vector<std::unique_ptr<Receiver>> receivers;
  std::vector<std::string> sent(peers);
  std::vector<std::size_t> released(peers);  // bytes that have been held and let go
  for (std::size_t i = 0; i < peers; ++i) {
    pairs.push_back(std::make_unique<Pair>());
    receivers.push_back(std::make_unique<Receiver>(loop, buffers, pairs[i]->ours));
  }
  const auto release = [&](std::size_t i) {
    const Slice slice = std::move(receivers[i]->held.front());
    receivers[i]->held.pop_front();
    ASSERT_EQ(std::string_view(slice.data(), slice.size()), sent[i].substr(released[i], slice.size())) << i;
    released[i] += slice.size();
  };
  const auto done = [&] {
    return std::all_of(released.begin(), released.end(), [](std::size_t n) { return n == each; });
  };
  while (!done()) {
    for (int n = 0; n < 10; ++n) {
      const std::size_t i = random() % peers;
      std::string piece(std::min<std::size_t>(1 + random() % 700, each - sent[i].size()), '\0');
      std::generate(piece.begin(), piece.end(), [&] { return static_cast<char>(random()); });
      pairs[i]->write(piece);
      sent[i] += piece;
    }
    loop.turn();
    // Most hold on for a while: several of them starve.
    for (std::size_t i = 0; i < peers; ++i) {
      while (!receivers[i]->held.empty() && random() % 3 != 0) release(i);
    }
    ASSERT_FALSE(HasFatalFailure());
    if (std::all_of(sent.begin(), sent.end(), [](const std::string& s) { return s.size() == each; })) {
      ASSERT_TRUE(loop.run_until([&] {
        for (std::size_t i = 0; i < peers; ++i)
          while (!receivers[i]->held.empty()) release(i);
        return done() || HasFatalFailure();
      }));
      ASSERT_FALSE(HasFatalFailure());
    }
  }
  EXPECT_GT(loop.statistics.buffer_starvations.value(), 0U);
  for (std::size_t i = 0; i < peers; ++i) EXPECT_EQ(receivers[i]->received, sent[i]);
  for (auto& receiver : receivers) receiver->finish();
  loop.settle();
  EXPECT_EQ(pool.blocks_in_use(), buffers.offered());
}

TEST(Messenger, SpeaksToAReactorThatSleeps) {
  Loop loop;
  std::vector<unsigned> messages;
  struct Context {
    Loop& loop;
    std::vector<unsigned>& messages;
  } context{loop, messages};
  loop.reactor.on_message(
      [](void* p, unsigned message) {
        auto& c = *static_cast<Context*>(p);
        c.messages.push_back(message);
        if (message == 0xffffffff) c.loop.reactor.stop();
      },
      &context);
  const std::vector<unsigned> sent = {0, 1, 2, 1, 0x7fffffff, 0x80000000, 0xffffffff};
  std::thread other([&sent, fd = loop.reactor.ring_fd()] {
    Messenger messenger;
    for (const unsigned message : sent) EXPECT_EQ(messenger.send(fd, message), 0);
  });
  loop.reactor.run();
  other.join();
  EXPECT_EQ(messages, sent);
}

TEST(Messenger, SeveralThreadsAtOnce) {
  Loop loop(ReactorOptions{.submission_entries = 8, .completion_entries = 16});
  constexpr unsigned senders = 4;
  constexpr unsigned each = 500;
  std::vector<std::vector<unsigned>> messages(senders);
  loop.reactor.on_message(
      [](void* p, unsigned message) {
        (*static_cast<std::vector<std::vector<unsigned>>*>(p))[message / each].push_back(message % each);
      },
      &messages);
  std::vector<std::thread> threads;
  // All are there until all are done. The next ring would be mapped where one that is gone was, and
  // ThreadSanitizer, which sees no mapping by a raw system call, would take the two for one.
  std::barrier done(senders);
  for (unsigned i = 0; i < senders; ++i) {
    threads.emplace_back([i, &done, fd = loop.reactor.ring_fd()] {
      Messenger messenger;
      for (unsigned k = 0; k < each; ++k) EXPECT_EQ(messenger.send(fd, i * each + k), 0);
      done.arrive_and_wait();
    });
  }
  EXPECT_TRUE(loop.run_until([&] {
    return std::all_of(messages.begin(), messages.end(), [](auto& m) { return m.size() == each; });
  }));
  for (std::thread& thread : threads) thread.join();
  for (const auto& of_one : messages)
    for (unsigned k = 0; k < each; ++k) EXPECT_EQ(of_one[k], k);
}

TEST(Messenger, ReportsWhatCanNotBeDelivered) {
  Messenger messenger;
  EXPECT_LT(messenger.send(-1, 1), 0);
  const Pair pair;
  EXPECT_LT(messenger.send(pair.ours, 1), 0);  // no ring
  Loop loop;
  loop.reactor.on_message([](void* p, unsigned m) { *static_cast<unsigned*>(p) = m; }, nullptr);
  unsigned got = 0;
  loop.reactor.on_message([](void* p, unsigned m) { *static_cast<unsigned*>(p) = m; }, &got);
  EXPECT_EQ(messenger.send(loop.reactor.ring_fd(), 42), 0);
  loop.settle();
  EXPECT_EQ(got, 42U);
}

}  // namespace
}  // namespace ringmx::ring
