// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../ring/loop.h"
#include "free_address.h"
#include "net/listen.h"

namespace ringmx::net {
namespace {

constexpr std::uint32_t receive_block = 1024;
constexpr std::uint32_t receive_offered = 4;
constexpr std::uint32_t receive_blocks = 64;
constexpr std::uint32_t text_block = 128;
constexpr std::uint32_t text_blocks = 16;

// Than into the buffers of a connection whose peer does not read.
const std::string more_than_fits(1'000'000, 'M');

std::string_view view(const ring::Slice& slice) {
  return {slice.data(), slice.size()};
}

std::string random_bytes(std::mt19937& random, std::size_t size) {
  std::string bytes(size, '\0');
  std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<char>(random()); });
  return bytes;
}

// The other side of a stream, played by the test: it never blocks.
struct Peer {
  explicit Peer(Socket s = Socket()) : socket(std::move(s)) {}

  [[nodiscard]] int fd() const { return socket.fd(); }
  // How much went.
  std::size_t write(std::string_view bytes) const {
    const ssize_t n = ::send(fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  // Until nothing more goes.
  std::size_t fill(std::string_view bytes) const {
    std::size_t done = 0;
    while (const std::size_t n = write(bytes.substr(done))) done += n;
    return done;
  }
  // One read. False: nothing there, for now or ever.
  bool read(std::size_t limit = 65536) {
    std::string bytes(limit, '\0');
    const ssize_t n = recv(fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n == 0) end_of_stream = true;
    if (n < 0 && errno != EAGAIN) error = errno;
    if (n <= 0) return false;
    received.append(bytes, 0, static_cast<std::size_t>(n));
    return true;
  }
  void read_all() {
    while (read()) {
    }
  }

  Socket socket;
  std::string received;
  bool end_of_stream = false;
  int error = 0;
};

enum class Kind { unix_pair, tcp };

// The stream's end, as accept() returns it, and the peer's.
std::pair<int, Socket> make_connection(Kind kind) {
  if (kind == Kind::unix_pair) {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    return {fds[0], Socket(fds[1])};
  }
  const Address address = free_address();
  const std::vector<Socket> listening = listen(address, 1, 10);
  Socket client(stream_socket(address));
  EXPECT_EQ(connect(client.fd(), address.data(), address.size()), 0);
  return {accept4(listening[0].fd(), nullptr, nullptr, SOCK_CLOEXEC), std::move(client)};
}

struct World {
  ring::Loop loop;
  ring::ReceivePool pool{receive_block, receive_blocks};
  ring::ReceiveBuffers receive{loop.reactor, pool, 1, receive_offered, receive_blocks};
  ring::BlockPool text{text_block, text_blocks};
  ring::Counter received;
  ring::Counter sent;
};

// A stream and what it told its owner.
class Owner final : public Stream::Owner {
 public:
  explicit Owner(World& world)
      : stream(std::make_unique<Stream>(world.loop.reactor,
                                        StreamMemory{world.receive, world.receive, world.text},
                                        StreamTraffic{world.received, world.sent}, *this)) {}

  void stream_received(ring::Slice data) override {
    EXPECT_FALSE(done());
    EXPECT_FALSE(data.empty());
    received += view(data);
    ++pieces;
    on_received(std::move(data));
  }
  void stream_ended(int error) override {
    EXPECT_EQ(closed, 0);
    ended.push_back(error);
    on_ended(error);
  }
  void stream_connected() override {
    ++connected;
    on_connected();
  }
  void stream_sent() override {
    EXPECT_EQ(closed, 0);
    on_sent();
  }
  void stream_closed() override {
    EXPECT_EQ(++closed, 1);
    stream = nullptr;  // as it may be
  }
  [[nodiscard]] bool done() const { return closed > 0; }

  std::unique_ptr<Stream> stream;
  std::string received;
  int pieces = 0;
  std::vector<int> ended;
  int connected = 0;
  int closed = 0;
  std::function<void(ring::Slice)> on_received = [](const ring::Slice&) {};
  std::function<void(int)> on_ended = [](int) {};
  std::function<void()> on_connected = [] {};
  std::function<void()> on_sent = [] {};
};

class StreamTest : public testing::TestWithParam<Kind> {
 protected:
  StreamTest() {
    auto [fd, other] = make_connection(GetParam());
    fd_ = fd;
    peer.socket = std::move(other);
    owner.stream->open(fd);
  }
  ~StreamTest() override {
    if (!owner.done()) owner.stream->close();
    EXPECT_TRUE(run_until([&] { return owner.done(); }));
    EXPECT_EQ(owner.stream, nullptr);
    settle();
    EXPECT_EQ(fcntl(fd_, F_GETFD), -1) << "the descriptor is open still";
    // Nothing of it stays.
    EXPECT_EQ(world.text.blocks_in_use(), 0U);
    EXPECT_EQ(world.pool.blocks_in_use(), world.receive.offered());
  }

  void settle() { world.loop.settle(); }
  [[nodiscard]] StreamMemory memory() { return {world.receive, world.receive, world.text}; }
  template <class Predicate>
  bool run_until(Predicate done) {
    return world.loop.run_until(done);
  }
  bool peer_reads(std::string_view expected) {
    const bool came = run_until([&] {
      peer.read_all();
      return peer.received.size() >= expected.size();
    });
    return came && peer.received == expected;
  }
  // Little goes out at a time. (A small receive buffer would make TCP wait for its persist timer.)
  static void narrow(int fd) {
    const int little = 4096;
    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &little, sizeof little), 0);
  }
  void narrow() const {
    for (const int fd : {fd_, peer.fd()}) narrow(fd);
  }
  // The peer goes: with a RST, or without having read what it was sent. Both directions fail.
  static void reset(Peer& who) {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    setsockopt(who.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    who.socket = Socket();
  }
  // Slices of every kind, more than one send takes; all text blocks, and receive blocks besides.
  std::string fill_queue(Stream& to) {
    std::string bytes;
    for (std::uint32_t n = 0; n < 40; ++n) {
      ring::Slice block = world.pool.allocate();
      if (!block) break;
      std::fill_n(const_cast<char*>(block.data()), receive_block, static_cast<char>('A' + n % 26));
      block.extend(receive_block);
      bytes += view(block);
      to.send(std::move(block));
      const std::string text(n < text_blocks ? text_block : 0, static_cast<char>('a' + n % 26));
      bytes += text;
      to.send_copy(text);
      to.send_constant(" constant ");
      bytes += " constant ";
    }
    EXPECT_EQ(world.text.blocks_free(), 0U);
    return bytes;
  }
  Stream& stream() { return *owner.stream; }

  World world;
  Owner owner{world};
  Peer peer;
  int fd_ = -1;
};

INSTANTIATE_TEST_SUITE_P(, StreamTest, testing::Values(Kind::unix_pair, Kind::tcp),
                         [](const auto& parameter) { return parameter.param == Kind::tcp ? "tcp" : "unix"; });

TEST_P(StreamTest, ReceivesWhileItIsWanted) {
  EXPECT_TRUE(stream().is_open());
  EXPECT_FALSE(stream().receiving());
  peer.write("early");
  settle();
  EXPECT_EQ(owner.received, "");
  stream().resume();
  EXPECT_TRUE(stream().receiving());
  EXPECT_TRUE(run_until([&] { return owner.received == "early"; }));
  peer.write(" and late");
  EXPECT_TRUE(run_until([&] { return owner.received == "early and late"; }));
  EXPECT_EQ(world.received.value(), 14U);
  EXPECT_EQ(world.pool.blocks_in_use(), receive_offered) << "idle, it holds no buffer";
  stream().pause();
  settle();
  peer.write("!");
  settle();
  EXPECT_EQ(owner.received, "early and late");
  stream().resume();
  EXPECT_TRUE(run_until([&] { return owner.received == "early and late!"; }));
}

TEST_P(StreamTest, PauseAndResumeInOneTurn) {
  stream().resume();
  settle();
  for (int i = 0; i < 20; ++i) {
    for (int k = 0; k <= i % 3; ++k) {
      stream().pause();
      stream().resume();
    }
    peer.write("x");
    EXPECT_TRUE(run_until([&] { return owner.received.size() == static_cast<std::size_t>(i) + 1; }));
  }
  EXPECT_TRUE(owner.ended.empty());
}

// What comes in goes out again, out of the same buffers, at the pace of a peer that reads as it likes.
TEST_P(StreamTest, RelaysEveryByteInOrder) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  narrow();
  const std::string bytes = random_bytes(random, 400'000);
  std::size_t most_held = 0;
  owner.on_received = [&](ring::Slice data) {
    stream().send(std::move(data));
    most_held = std::max(most_held, stream().held() / receive_block);
    if (stream().held() / receive_block >= 8 || random() % 16 == 0) stream().pause();
  };
  owner.on_sent = [&] {
    if (!stream().receiving() && stream().held() / receive_block < 4) stream().resume();
  };
  stream().resume();
  std::size_t written = 0;
  EXPECT_TRUE(run_until([&] {
    written += peer.write(std::string_view(bytes).substr(written, 1 + random() % 5000));
    if (random() % 3 != 0) peer.read(1 + random() % 5000);
    // A pause with nothing queued has nobody to end it.
    if (stream().unsent() == 0) stream().resume();
    return peer.received.size() == bytes.size();
  }));
  EXPECT_TRUE(peer.received == bytes);
  EXPECT_TRUE(owner.received == bytes);
  EXPECT_EQ(world.received.value(), bytes.size());
  EXPECT_EQ(world.sent.value(), bytes.size());
  EXPECT_EQ(stream().unsent(), 0U);
  EXPECT_EQ(stream().held() / receive_block, 0U);
  // It was paused at 8: beyond that came what one multishot receive had brought by then.
  EXPECT_LE(most_held, 16U);
}

// Constants, copies and parts of blocks, also more of them than one send takes.
TEST_P(StreamTest, SendsSlicesOfEveryKindInOrder) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  narrow();
  static const std::string constant = random_bytes(random, 10'000);
  std::string expected;
  const auto queue_something = [&] {
    const std::size_t from = random() % constant.size();
    const std::size_t size = random() % std::min<std::size_t>(constant.size() - from, 300);
    const std::string_view part = std::string_view(constant).substr(from, size);
    switch (random() % 3) {
      case 0:
        stream().send_constant(part);
        break;
      case 1: {
        if (world.text.blocks_free() < 4) return;
        stream().send_copy(std::string(part));
        break;
      }
      default: {
        ring::Slice block = world.pool.allocate();
        if (!block) return;
        std::copy(part.begin(), part.end(), const_cast<char*>(block.data()));
        block.extend(static_cast<std::uint32_t>(size));
        stream().send(block.part(block.data(), size / 2));
        stream().send(block.part(block.data() + size / 2, size - size / 2));
        break;
      }
    }
    expected += part;
  };
  for (int round = 0; round < 300; ++round) {
    for (std::size_t n = random() % (round % 50 == 0 ? 200 : 10); n > 0; --n) queue_something();
    ASSERT_EQ(stream().unsent(), expected.size() - world.sent.value());
    world.loop.turn();
    peer.read(1 + random() % 3000);
  }
  EXPECT_TRUE(peer_reads(expected));
  EXPECT_EQ(world.sent.value(), expected.size());
  EXPECT_TRUE(owner.ended.empty());
}

// What is queued in one turn leaves in one send.
TEST(Stream, SendCopyMerges) {
  World world;
  Owner owner(world);
  std::array<int, 2> fds{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()), 0);  // keeps sends apart
  Peer peer{Socket(fds[1])};
  owner.stream->open(fds[0]);
  owner.stream->send_copy("250 a\r\n");
  owner.stream->send_copy("");
  owner.stream->send_copy("250 b\r\n");
  EXPECT_EQ(owner.stream->unsent(), 14U);
  EXPECT_EQ(world.text.blocks_in_use(), 1U);
  EXPECT_EQ(owner.stream->held() / receive_block, 0U) << "its own text is not held against it";
  world.loop.settle();
  EXPECT_TRUE(peer.read());
  EXPECT_EQ(peer.received, "250 a\r\n250 b\r\n");
  EXPECT_EQ(world.text.blocks_in_use(), 0U);
  // Across blocks, between constants, and behind what is on its way: in order, one send per turn.
  const std::string longer(text_block + 10, 'l');
  owner.stream->send_constant("c1 ");
  owner.stream->send_copy(longer);
  owner.stream->send_copy("m");
  EXPECT_EQ(world.text.blocks_in_use(), 2U);
  owner.stream->send_constant(" c2 ");
  owner.stream->send_copy("end");
  world.loop.settle();
  peer.received.clear();
  EXPECT_TRUE(peer.read());
  EXPECT_EQ(peer.received, "c1 " + longer + "m c2 end");
  EXPECT_FALSE(peer.read());
  EXPECT_EQ(world.text.blocks_in_use(), 0U);
  owner.stream->close();
  EXPECT_TRUE(world.loop.run_until([&] { return owner.done(); }));
}

TEST_P(StreamTest, CopiesBehindASendThatIsUnderWay) {
  narrow();
  std::string expected;
  // The kernel holds a part of the block; what comes behind it must not be taken for sent.
  stream().send_constant(more_than_fits);
  expected += more_than_fits;
  settle();
  ASSERT_GT(stream().unsent(), 0U);
  EXPECT_EQ(stream().unsubmitted(), 0U);
  for (int i = 0; i < 50; ++i) {
    const std::string text = "line " + std::to_string(i) + "\r\n";
    const std::size_t before = stream().unsubmitted();
    stream().send_copy(text);
    EXPECT_EQ(stream().unsubmitted(), before + text.size());
    expected += text;
    if (i % 7 == 0) peer.read(1000);
    world.loop.turn();
  }
  EXPECT_TRUE(peer_reads(expected));
}

TEST_P(StreamTest, HeldBlocks) {
  ring::Slice a = world.pool.allocate();
  ring::Slice b = world.pool.allocate();
  for (ring::Slice* slice : {&a, &b}) {
    std::fill_n(const_cast<char*>(slice->data()), 100, 'x');
    slice->extend(100);
  }
  EXPECT_EQ(stream().held() / receive_block, 0U);
  stream().send(a.part(a.data(), 10));
  EXPECT_EQ(stream().held() / receive_block, 1U);
  stream().send(a.part(a.data() + 10, 10));
  EXPECT_EQ(stream().held() / receive_block, 1U);
  stream().send(b.part(b.data(), 10));
  EXPECT_EQ(stream().held() / receive_block, 2U);
  stream().send_copy("text");
  stream().send_constant("constant");
  EXPECT_EQ(stream().held() / receive_block, 2U);
  stream().send(b.part(b.data(), 0));  // nothing to send
  EXPECT_EQ(stream().held() / receive_block, 2U);
  EXPECT_EQ(stream().unsent(), 42U);
  EXPECT_EQ(stream().unsubmitted(), 42U);
  settle();
  EXPECT_EQ(stream().held() / receive_block, 0U);
  EXPECT_EQ(stream().unsent(), 0U);
}

TEST_P(StreamTest, APeerThatOutrunsItsOwnerIsReadOneBufferAtATime) {
  std::mt19937 random(1);
  const std::string bytes = random_bytes(random, 60 * receive_block);
  std::vector<ring::Slice> held;
  bool pausing = true;
  owner.on_received = [&](ring::Slice data) {
    held.push_back(std::move(data));
    if (pausing) stream().pause();
  };
  std::size_t written = peer.fill(bytes);
  ASSERT_GT(written, 30 * receive_block);
  stream().resume();
  settle();
  // The first time it gulps what the reactor offers until the cancel has come through.
  EXPECT_GE(owner.pieces, 1);
  EXPECT_LE(owner.pieces, static_cast<int>(receive_offered) * 4);
  while (owner.received.size() + receive_block < written) {
    const int before = owner.pieces;
    held.clear();
    stream().resume();
    settle();
    ASSERT_EQ(owner.pieces, before + 1);
    EXPECT_LE(held.back().size(), receive_block);
  }
  pausing = false;
  stream().resume();
  EXPECT_TRUE(run_until([&] { return owner.received.size() == written; }));
  held.clear();
  EXPECT_TRUE(owner.received == bytes.substr(0, written));
  // Once it has caught up, one receive serves for many: a turn submits nothing but what the test's loop does.
  peer.write("x");
  settle();
  world.loop.turn();
  const std::uint64_t submissions =
      world.loop.statistics.submissions.value() - world.loop.statistics.enters.value();
  for (int i = 0; i < 10; ++i) {
    peer.write("x");
    settle();
  }
  EXPECT_EQ(owner.received.size(), written + 11);
  EXPECT_EQ(world.loop.statistics.submissions.value() - world.loop.statistics.enters.value(), submissions);
}

// Half of the buffers are held: a piece at a time that a text block can take, until some come back.
TEST_P(StreamTest, ReceivesLittleWhileMemoryIsScarce) {
  static_assert(receive_block > text_block);
  std::vector<ring::Slice> held;
  const auto hold = [&] {
    while (!memory().scarce()) {
      held.push_back(world.pool.allocate());
      ASSERT_TRUE(held.back());
    }
  };
  EXPECT_EQ(memory().spare(), receive_blocks / 2 * receive_block);
  std::uint32_t largest = 0;
  owner.on_received = [&](const ring::Slice& data) { largest = std::max(largest, data.size()); };
  const std::string much(4 * receive_block, 'x');
  // Armed before: it may bring more once, and is stopped then.
  stream().resume();
  settle();
  hold();
  EXPECT_EQ(memory().spare(), 0U);
  peer.write(much);
  EXPECT_TRUE(run_until([&] { return owner.received.size() == much.size(); }));
  largest = 0;
  peer.write(much);
  EXPECT_TRUE(run_until([&] { return owner.received.size() == 2 * much.size(); }));
  EXPECT_EQ(largest, text_block);
  held.clear();
  peer.write("x");
  settle();
  peer.write(much);
  EXPECT_TRUE(run_until([&] { return owner.received.size() == 3 * much.size() + 1; }));
  EXPECT_GT(largest, text_block);
}

TEST_P(StreamTest, EndOfStreamThenReplyThenEnd) {
  owner.on_ended = [&](int error) {
    EXPECT_EQ(error, 0);
    stream().send_copy("221 bye\r\n");
    stream().end();
  };
  stream().resume();
  peer.write("QUIT\r\n");
  ::shutdown(peer.fd(), SHUT_WR);
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  peer.read_all();
  EXPECT_EQ(owner.received, "QUIT\r\n");
  EXPECT_EQ(owner.ended, std::vector{0});
  EXPECT_EQ(peer.received, "221 bye\r\n");
  EXPECT_TRUE(peer.end_of_stream);
  EXPECT_EQ(peer.error, 0);
}

// What a peer still sends when the end comes is read and dropped: were it left, closing would reset the
// connection, and the last reply with it.
TEST_P(StreamTest, EndDeliversTheLastReplyToAPeerThatStillSends) {
  const std::string bytes(300'000, 'b');
  // Receiving; paused before there was anything; never resumed; paused in the midst of it. And the end
  // comes some turns later, so that it meets a receive or a cancel in every state.
  for (int how = 0; how < 4 * 8; ++how) {
    Owner other(world);
    auto [fd, socket] = make_connection(GetParam());
    Peer client(std::move(socket));
    other.stream->open(fd);
    if (how % 4 != 2) other.stream->resume();
    if (how % 4 == 3) other.on_received = [&](const ring::Slice&) { other.stream->pause(); };
    if (how % 4 == 1) {
      settle();
      other.stream->pause();
    }
    std::size_t written = client.fill(bytes);
    for (int turns = how / 4; turns > 0; --turns) world.loop.turn();
    other.stream->send_copy("421 enough\r\n");
    other.stream->end();
    other.stream->send_copy("too late");
    const std::size_t before = other.received.size();
    EXPECT_TRUE(run_until([&] {
      written += client.write(std::string_view(bytes).substr(written));
      return written == bytes.size();
    })) << how;
    EXPECT_TRUE(run_until([&] {
      client.read_all();
      return client.end_of_stream || client.error != 0;
    }));
    EXPECT_EQ(client.error, 0) << how;
    EXPECT_EQ(client.received, "421 enough\r\n") << how;
    EXPECT_FALSE(other.done()) << "before the peer has";
    EXPECT_EQ(other.received.size(), before) << "nothing comes after end()";
    EXPECT_TRUE(other.ended.empty());
    // Linux 6.18 does not tell a receive that is armed after the end of a unix socket's stream of that end,
    // if there are more than 32 buffers of data in front. So let it be armed and have read them.
    settle();
    client.socket = Socket();
    EXPECT_TRUE(run_until([&] { return other.done(); })) << how;
  }
}

TEST_P(StreamTest, EndDeliversAllThatIsQueued) {
  narrow();
  stream().send_constant(more_than_fits);
  stream().send_copy("last words");
  stream().end();
  stream().end();
  EXPECT_TRUE(run_until([&] {
    peer.read(10'000);
    return peer.end_of_stream;
  }));
  EXPECT_TRUE(peer.received == more_than_fits + "last words");
  EXPECT_FALSE(owner.done());
  ::shutdown(peer.fd(), SHUT_WR);
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
}

TEST_P(StreamTest, EndWithAFullQueue) {
  for (const bool under_way : {false, true}) {
    for (const bool peer_has_ended : {false, true}) {
      Owner other(world);
      auto [fd, socket] = make_connection(GetParam());
      Peer client(std::move(socket));
      narrow(fd);
      other.stream->open(fd);
      other.stream->resume();
      if (peer_has_ended) ::shutdown(client.fd(), SHUT_WR);
      settle();
      const std::uint64_t sent_before = world.sent.value();
      std::string expected;
      if (under_way) {
        expected = more_than_fits;
        other.stream->send_constant(more_than_fits);
        settle();
        ASSERT_GT(other.stream->unsent(), 0U);
      }
      expected += fill_queue(*other.stream);
      other.stream->end();
      other.stream->send_copy("too late");
      EXPECT_TRUE(run_until([&] {
        client.read(10'000);
        return client.end_of_stream;
      }));
      EXPECT_TRUE(client.received == expected);
      EXPECT_EQ(client.error, 0);
      EXPECT_EQ(other.ended.size(), peer_has_ended ? 1U : 0U);
      client.socket = Socket();
      EXPECT_TRUE(run_until([&] { return other.done(); }));
      EXPECT_EQ(world.sent.value() - sent_before, expected.size());
    }
  }
}

TEST_P(StreamTest, EndWithAFullQueueAndThePeerGoes) {
  for (const bool under_way : {false, true}) {
    Owner other(world);
    auto [fd, socket] = make_connection(GetParam());
    Peer client(std::move(socket));
    narrow(fd);
    other.stream->open(fd);
    other.stream->resume();
    other.stream->send_constant(more_than_fits);
    fill_queue(*other.stream);
    if (under_way) settle();
    other.stream->end();
    if (under_way) settle();
    reset(client);
    EXPECT_TRUE(run_until([&] { return other.done(); }));
    EXPECT_TRUE(other.ended.empty()) << "nobody wants to know any more";
  }
}

TEST_P(StreamTest, CloseAfterEndWithAFullQueue) {
  narrow();
  stream().send_constant(more_than_fits);
  fill_queue(stream());
  stream().end();
  settle();
  EXPECT_FALSE(owner.done());
  EXPECT_TRUE(stream().is_open());
  stream().close();  // as the owner's deadline does
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_TRUE(owner.ended.empty());
}

TEST_P(StreamTest, EndWithNothingQueued) {
  stream().end();
  EXPECT_TRUE(run_until([&] {
    peer.read_all();
    return peer.end_of_stream;
  }));
  peer.socket = Socket();
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_TRUE(owner.ended.empty());
}

// The owner's pause is about its own memory; what is dropped needs none.
TEST_P(StreamTest, PauseAfterEndDoesNotHoldUpTheEnd) {
  stream().resume();
  stream().end();
  settle();
  stream().pause();
  settle();
  peer.fill(std::string(50'000, 'x'));
  peer.socket = Socket();
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
}

TEST_P(StreamTest, APeerThatNeverStopsSendingIsClosed) {
  const std::string bytes(64 * 1024, 'x');
  stream().resume();
  stream().end();
  std::size_t written = 0;
  EXPECT_TRUE(run_until([&] {
    written += peer.write(bytes);
    return owner.done();
  }));
  EXPECT_GT(written, 1024U * 1024);
}

TEST_P(StreamTest, CloseByTheOwner) {
  for (const bool armed : {false, true}) {
    Owner other(world);
    auto [fd, socket] = make_connection(GetParam());
    Peer client(std::move(socket));
    other.stream->open(fd);
    if (armed) {
      other.stream->resume();
      settle();
    }
    other.stream->close();
    EXPECT_FALSE(other.stream->is_open());
    EXPECT_FALSE(other.done()) << "not from inside close()";
    other.stream->close();
    other.stream->resume();
    other.stream->send_copy("ignored");
    other.stream->end();
    EXPECT_TRUE(run_until([&] { return other.done(); }));
    EXPECT_TRUE(run_until([&] {
      client.read_all();
      return client.end_of_stream;
    }));
    EXPECT_EQ(client.received, "");
    EXPECT_TRUE(other.ended.empty());
  }
}

TEST_P(StreamTest, CloseWhileTheKernelSends) {
  narrow();
  stream().send_constant(more_than_fits);
  for (int i = 0; i < 100; ++i) {
    ring::Slice block = world.pool.allocate();
    if (!block) break;
    block.extend(receive_block);
    stream().send(std::move(block));
  }
  stream().send_copy("text");
  settle();
  ASSERT_GT(stream().unsent(), 0U);
  stream().resume();
  settle();
  stream().close();
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_TRUE(owner.ended.empty());
}

TEST_P(StreamTest, CloseFromReceived) {
  for (const bool metered : {false, true}) {
    Owner other(world);
    auto [fd, socket] = make_connection(GetParam());
    const Peer client(std::move(socket));
    other.stream->open(fd);
    if (metered) other.stream->pause();
    other.stream->resume();
    other.on_received = [&](const ring::Slice&) {
      other.stream->send_copy("ignored or dropped");
      other.stream->close();
    };
    client.write(std::string(5 * receive_block, 'x'));
    EXPECT_TRUE(run_until([&] { return other.done(); }));
    EXPECT_EQ(other.pieces, 1);
    EXPECT_TRUE(other.ended.empty());
  }
}

TEST_P(StreamTest, CloseFromEnded) {
  owner.on_ended = [&](int) { stream().close(); };
  stream().resume();
  ::shutdown(peer.fd(), SHUT_WR);
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_EQ(owner.ended, std::vector{0});
}

TEST_P(StreamTest, CloseFromSent) {
  owner.on_sent = [&] { stream().close(); };
  stream().resume();
  stream().send_copy("a");
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  peer.read_all();
  EXPECT_EQ(peer.received, "a");
}

TEST_P(StreamTest, CloseFromFailedSend) {
  owner.on_ended = [&](int) { stream().close(); };
  peer.socket = Socket();
  // TCP needs to be told by a reset first.
  EXPECT_TRUE(run_until([&] {
    if (!owner.done()) stream().send_copy("a");
    return owner.done();
  }));
  ASSERT_EQ(owner.ended.size(), 1U);
  EXPECT_TRUE(owner.ended[0] == EPIPE || owner.ended[0] == ECONNRESET) << owner.ended[0];
}

TEST_P(StreamTest, CloseFromEndedForWantOfText) {
  owner.on_ended = [&](int) { stream().close(); };
  stream().send_copy(std::string(text_block * text_blocks + 1, 'x'));
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_EQ(owner.ended, std::vector{ENOBUFS});
}

TEST_P(StreamTest, AnErrorMayFollowTheEndOfStreamOnce) {
  stream().resume();
  ::shutdown(peer.fd(), SHUT_WR);
  EXPECT_TRUE(run_until([&] { return owner.ended.size() == 1; }));
  stream().send_copy("still there?");
  EXPECT_TRUE(peer_reads("still there?"));
  peer.socket = Socket();
  EXPECT_TRUE(run_until([&] {
    stream().send_copy("and now?");
    return owner.ended.size() == 2;
  }));
  EXPECT_EQ(owner.ended[0], 0);
  EXPECT_TRUE(owner.ended[1] == EPIPE || owner.ended[1] == ECONNRESET) << owner.ended[1];
  // Whatever the owner still tries, it hears nothing new.
  for (int i = 0; i < 3; ++i) {
    stream().send_copy("hello?");
    stream().resume();
    settle();
  }
  EXPECT_EQ(owner.ended.size(), 2U);
  EXPECT_EQ(stream().unsent(), 0U);
  stream().end();
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
}

TEST_P(StreamTest, AResetIsAnError) {
  if (GetParam() == Kind::unix_pair) {
    // Closed with bytes unread: that is a unix socket's reset.
    stream().send_copy("unread");
    settle();
  } else {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    ASSERT_EQ(setsockopt(peer.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
  }
  stream().resume();
  settle();
  peer.socket = Socket();
  EXPECT_TRUE(run_until([&] { return !owner.ended.empty(); }));
  settle();
  EXPECT_EQ(owner.ended, std::vector{ECONNRESET});
  EXPECT_FALSE(owner.done()) << "it is the owner who closes";
}

TEST_P(StreamTest, BothDirectionsFailAtOnce) {
  bool kept = false;
  for (const bool more_is_queued : {false, true}) {
    for (const bool receives_first : {false, true}) {
      Owner other(world);
      auto [fd, socket] = make_connection(GetParam());
      Peer client(std::move(socket));
      narrow(fd);
      other.stream->open(fd);
      if (receives_first) {
        other.stream->resume();
        settle();
      }
      other.stream->send_constant(more_than_fits);
      settle();
      other.stream->resume();
      if (more_is_queued) fill_queue(*other.stream);
      settle();
      ASSERT_GT(other.stream->unsent(), 0U);
      other.on_ended = [&](int) {
        // What the kernel still sends stays, and what is queued behind it.
        if (other.stream->unsent() == 0) return;
        EXPECT_EQ(world.text.blocks_free() == 0, more_is_queued);
        kept = true;
      };
      reset(client);
      EXPECT_TRUE(run_until([&] { return !other.ended.empty() && other.stream->unsent() == 0; }));
      settle();
      ASSERT_EQ(other.ended.size(), 1U) << "told once, whichever of the two came first";
      EXPECT_TRUE(other.ended[0] == EPIPE || other.ended[0] == ECONNRESET) << other.ended[0];
      EXPECT_FALSE(other.done()) << "it is the owner who closes";
      EXPECT_EQ(other.stream->held(), 0U);
      EXPECT_EQ(world.text.blocks_in_use(), 0U);
      EXPECT_EQ(world.pool.blocks_in_use(), world.receive.offered());
      other.stream->close();
      EXPECT_TRUE(run_until([&] { return other.done(); }));
      EXPECT_EQ(other.ended.size(), 1U);
    }
  }
  EXPECT_TRUE(kept);
}

TEST_P(StreamTest, CloseFromAFailureWhileTheKernelSends) {
  narrow();
  owner.on_ended = [&](int) {
    stream().send_copy("dropped");
    stream().close();
  };
  stream().resume();
  stream().send_constant(more_than_fits);
  settle();
  fill_queue(stream());
  reset(peer);
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_EQ(owner.ended.size(), 1U);
}

// A reply that can't be given ends the session; a part of it must not look like the whole.
TEST_P(StreamTest, TextThatFindsNoBlockEndsTheStream) {
  std::vector<ring::Slice> others;
  while (world.text.blocks_free() > 1) others.push_back(world.text.allocate());
  stream().resume();
  stream().send_copy(std::string(text_block, 'a'));
  EXPECT_TRUE(peer_reads(std::string(text_block, 'a'))) << "what fits goes";
  stream().send_copy(std::string(text_block + 1, 'b'));
  EXPECT_TRUE(owner.ended.empty()) << "not from inside send_copy()";
  EXPECT_TRUE(run_until([&] { return !owner.ended.empty(); }));
  settle();
  peer.read_all();
  EXPECT_EQ(owner.ended, std::vector{ENOBUFS});
  EXPECT_EQ(peer.received, std::string(text_block, 'a'));
  EXPECT_EQ(stream().unsent(), 0U);
  EXPECT_EQ(world.text.blocks_free(), 1U);
  others.clear();
  stream().send_copy("too late");
  settle();
  peer.read_all();
  EXPECT_EQ(peer.received, std::string(text_block, 'a'));
  EXPECT_EQ(owner.ended.size(), 1U);
}

TEST_P(StreamTest, TextThatFindsNoBlockWhileTheKernelSends) {
  narrow();
  stream().send_constant(more_than_fits);
  settle();
  ASSERT_GT(stream().unsent(), 0U);
  stream().send_copy(std::string(text_block * text_blocks + 1, 'b'));
  settle();
  EXPECT_TRUE(owner.ended.empty()) << "the kernel still has its slices";
  EXPECT_TRUE(run_until([&] {
    peer.read(10'000);
    return !owner.ended.empty();
  }));
  EXPECT_EQ(owner.ended, std::vector{ENOBUFS});
  settle();
  peer.read_all();
  EXPECT_EQ(peer.received.find('b'), std::string::npos);
}

TEST_P(StreamTest, EndForWantOfTextCloses) {
  stream().send_copy(std::string(text_block * text_blocks + 1, 'b'));
  stream().end();
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_TRUE(owner.ended.empty());
}

// Many streams and hardly any buffers: everybody gets everything, in turn.
TEST(Stream, SharesFewBuffers) {
  for (const bool slow_owners : {false, true}) {
    ring::Loop loop;
    ring::ReceivePool pool(256, 2);
    ring::ReceiveBuffers receive(loop.reactor, pool, 1, 1, 2);
    ring::BlockPool text(text_block, text_blocks);
    ring::Counter count;
    constexpr std::size_t streams = 20;
    struct Receiver final : Stream::Owner {
      void stream_received(ring::Slice data) override {
        received += view(data);
        if (!slow) return;
        held = std::move(data);
        stream->pause();
      }
      void stream_ended(int error) override { EXPECT_EQ(error, 0); }
      void stream_sent() override {}
      void stream_closed() override { closed = true; }
      std::unique_ptr<Stream> stream;
      std::string received;
      ring::Slice held;
      bool slow = false;
      bool closed = false;
    };
    std::array<Receiver, streams> receivers;
    std::array<Peer, streams> peers;
    std::array<std::string, streams> bytes;
    std::mt19937 random(7);
    for (std::size_t i = 0; i < streams; ++i) {
      auto [fd, socket] = make_connection(Kind::unix_pair);
      peers[i].socket = std::move(socket);
      receivers[i].stream = std::make_unique<Stream>(loop.reactor, StreamMemory{receive, receive, text},
                                                     StreamTraffic{count, count}, receivers[i]);
      receivers[i].slow = slow_owners;
      receivers[i].stream->open(fd);
      receivers[i].stream->resume();
      bytes[i] = random_bytes(random, 5000);
      ASSERT_EQ(peers[i].fill(bytes[i]), bytes[i].size());
    }
    EXPECT_TRUE(loop.run_until([&] {
      bool all = true;
      for (std::size_t i = 0; i < streams; ++i) {
        if (receivers[i].held) {
          receivers[i].held = {};
          receivers[i].stream->resume();
        }
        all = all && receivers[i].received.size() == bytes[i].size();
      }
      return all;
    }));
    for (std::size_t i = 0; i < streams; ++i) EXPECT_TRUE(receivers[i].received == bytes[i]) << i;
    EXPECT_GT(loop.statistics.buffer_starvations.value(), 0U);
    // Some of them wait for a buffer when they are closed.
    std::vector<ring::Slice> all;
    for (Receiver& receiver : receivers) receiver.slow = false;
    while (pool.blocks_free() > 0) all.push_back(pool.allocate());
    for (Peer& peer : peers) peer.write("x");
    loop.settle();
    for (Receiver& receiver : receivers) receiver.stream->close();
    EXPECT_TRUE(loop.run_until(
        [&] { return std::all_of(receivers.begin(), receivers.end(), [](auto& r) { return r.closed; }); }));
    for (Receiver& receiver : receivers) receiver.stream = nullptr;
    all.clear();
    loop.settle();
    EXPECT_EQ(pool.blocks_in_use(), receive.offered());
  }
}

class StreamConnect : public testing::Test {
 protected:
  // A connect that runs until it has succeeded or failed.
  void connect_to(const Address& to) {
    const int fd = stream_socket(to);
    ASSERT_GE(fd, 0);
    owner.stream->connect(fd, to);
  }
  void close_and_destroy() {
    if (!owner.done()) owner.stream->close();
    EXPECT_TRUE(world.loop.run_until([&] { return owner.done(); }));
  }
  World world;
  Owner owner{world};
  Address address = free_address();
};

TEST_F(StreamConnect, ThenSendsAndReceives) {
  const std::vector<Socket> listening = listen(address, 1, 10);
  owner.on_connected = [&] { owner.stream->resume(); };
  connect_to(address);
  owner.stream->send_copy("EHLO");  // waits until it is connected
  EXPECT_TRUE(world.loop.run_until([&] { return owner.connected == 1; }));
  Peer peer(Socket(accept(listening[0].fd(), nullptr, nullptr)));
  peer.write("220");
  EXPECT_TRUE(world.loop.run_until([&] {
    peer.read_all();
    return owner.received == "220" && peer.received == "EHLO";
  }));
  EXPECT_TRUE(owner.ended.empty());
  EXPECT_EQ(owner.connected, 1);
  close_and_destroy();
}

TEST_F(StreamConnect, Refused) {
  owner.on_ended = [&](int) { owner.stream->close(); };
  connect_to(address);
  owner.stream->send_copy("dropped");
  EXPECT_TRUE(world.loop.run_until([&] { return owner.done(); }));
  EXPECT_EQ(owner.ended, std::vector{ECONNREFUSED});
  EXPECT_EQ(owner.connected, 0);
  world.loop.settle();
  EXPECT_EQ(world.text.blocks_in_use(), 0U);
}

TEST_F(StreamConnect, NoSuchSocketFile) {
  const Address path = *Address::unix_path("/nonexistent/mta.sock");
  connect_to(path);
  EXPECT_TRUE(world.loop.run_until([&] { return !owner.ended.empty(); }));
  EXPECT_EQ(owner.ended, std::vector{ENOENT});
  close_and_destroy();
}

TEST_F(StreamConnect, CloseFromConnected) {
  const std::vector<Socket> listening = listen(address, 1, 10);
  owner.on_connected = [&] { owner.stream->close(); };
  connect_to(address);
  owner.stream->send_copy("dropped");
  EXPECT_TRUE(world.loop.run_until([&] { return owner.done(); }));
  world.loop.settle();
  EXPECT_EQ(world.text.blocks_in_use(), 0U);
}

TEST_F(StreamConnect, EndWhileItConnects) {
  const std::vector<Socket> listening = listen(address, 1, 10);
  connect_to(address);
  owner.stream->send_copy("QUIT");
  owner.stream->end();
  EXPECT_TRUE(world.loop.run_until([&] { return owner.connected == 1; }));
  Peer peer(Socket(accept(listening[0].fd(), nullptr, nullptr)));
  EXPECT_TRUE(world.loop.run_until([&] {
    peer.read_all();
    return peer.end_of_stream;
  }));
  EXPECT_EQ(peer.received, "QUIT");
  peer.socket = Socket();
  EXPECT_TRUE(world.loop.run_until([&] { return owner.done(); }));
}

// A host that does not answer: the listening queue is full, so the kernel drops the SYN.
TEST_F(StreamConnect, CloseWhileItConnects) {
  const std::vector<Socket> listening = listen(address, 1, 0);
  std::vector<Socket> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    connect(clients.back().fd(), address.data(), address.size());
  }
  connect_to(address);
  world.loop.settle();
  EXPECT_EQ(owner.connected, 0);
  EXPECT_TRUE(owner.ended.empty());
  close_and_destroy();
  EXPECT_TRUE(owner.ended.empty());
}

// Records as plain as can be: a type ('d' data, 'e' end, anything else makes no sense), the length of the
// content, and the content with each octet inverted.
class FakeRecords final : public UserRecords {
 public:
  static constexpr std::size_t header = 3;

  static std::string record(char type, std::string_view content) {
    std::string octets{type, static_cast<char>(content.size() >> 8), static_cast<char>(content.size() & 255)};
    for (const char c : content) octets += static_cast<char>(~c);
    return octets;
  }

  Opened open(std::span<char>& wire) override {
    while (!wire.empty()) {
      const std::size_t whole = begun_.empty() ? size_of({wire.data(), wire.size()}) : 0;
      if (whole != 0 && whole <= wire.size()) {
        const std::span<char> one = wire.first(whole);
        wire = wire.subspan(whole);
        if (const Opened opened = opened_in(one); opened.event != Event::want_input) return opened;
        continue;
      }
      begun_ += wire.front();
      wire = wire.subspan(1);
      if (begun_.size() != size_of(begun_)) continue;
      opened_ = std::exchange(begun_, {});
      if (const Opened opened = opened_in(opened_); opened.event != Event::want_input) return opened;
    }
    return {Event::want_input, {}};
  }
  Sealed seal(std::span<const std::string_view> pieces, std::span<char> out) override {
    std::string content;
    for (const std::string_view piece : pieces) content += piece;
    content.resize(std::min(content.size(), out.size() - header));
    const std::string sealed = record('d', content);
    std::copy(sealed.begin(), sealed.end(), out.begin());
    return {content.size(), sealed.size()};
  }
  std::size_t seal_end(std::span<char> out) override {
    const std::string sealed = record('e', "");
    std::copy(sealed.begin(), sealed.end(), out.begin());
    return sealed.size();
  }

 private:
  static std::size_t size_of(std::string_view octets) {
    if (octets.size() < header) return 0;
    const auto octet = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(octets[i])}; };
    return header + (octet(1) << 8 | octet(2));
  }
  // An empty one says nothing.
  static Opened opened_in(std::span<char> record) {
    if (record[0] == 'e') return {Event::end, {}};
    if (record[0] != 'd') return {Event::failed, {}};
    const std::span<char> content = record.subspan(header);
    for (char& c : content) c = static_cast<char>(~c);
    return {content.empty() ? Event::want_input : Event::data, {content.data(), content.size()}};
  }

  std::string begun_;
  std::string opened_;
};

// The other side's view of what it was sent.
struct Unsealed {
  explicit Unsealed(std::string wire) {
    FakeRecords records;
    std::span<char> rest(wire);
    for (;;) {
      const UserRecords::Opened opened = records.open(rest);
      if (opened.event == UserRecords::Event::end) ends += 1;
      if (opened.event == UserRecords::Event::want_input || opened.event == UserRecords::Event::failed) break;
      if (ends == 0) data += opened.data;
    }
  }
  std::string data;
  int ends = 0;
};

class SecuredStream : public StreamTest {
 protected:
  SecuredStream() {
    stream().secure(std::make_unique<FakeRecords>());
    stream().resume();
  }
  bool ended_with(int error) {
    return run_until([&] { return !owner.ended.empty(); }) && owner.ended == std::vector{error};
  }
  bool peer_sees_the_end() {
    return run_until([&] {
      peer.read_all();
      return peer.end_of_stream;
    });
  }
};

INSTANTIATE_TEST_SUITE_P(, SecuredStream, testing::Values(Kind::unix_pair, Kind::tcp),
                         [](const auto& parameter) { return parameter.param == Kind::tcp ? "tcp" : "unix"; });

TEST_P(SecuredStream, OpensRecordsWhereverTheyAreSplit) {
  const std::string wire = FakeRecords::record('d', "EHLO") + FakeRecords::record('d', "") +
                           FakeRecords::record('d', "a\r\nb") + FakeRecords::record('d', "c");
  std::string expected;
  for (std::size_t first = 0; first < wire.size(); ++first) {
    for (std::size_t second = first; second < wire.size(); second += 3) {
      for (const std::string& part :
           {wire.substr(0, first), wire.substr(first, second - first), wire.substr(second)}) {
        peer.write(part);
        settle();
      }
      expected += "EHLOa\r\nbc";
      ASSERT_TRUE(run_until([&] { return owner.received.size() >= expected.size(); }))
          << first << ' ' << second;
      ASSERT_EQ(owner.received, expected) << first << ' ' << second;
    }
  }
  EXPECT_EQ(world.pool.blocks_in_use(), receive_offered) << "idle, it holds no buffer";
}

TEST_P(SecuredStream, OpensRecordsOfEverySizeInOrder) {
  std::mt19937 random(1);
  narrow();
  std::string wire;
  std::string plain;
  while (plain.size() < 200'000) {
    const std::string content = random_bytes(random, random() % (random() % 4 == 0 ? 4000 : 200));
    plain += content;
    wire += FakeRecords::record('d', content);
  }
  ASSERT_TRUE(run_until([&] {
    wire.erase(0, peer.write(std::string_view(wire).substr(0, 1 + random() % 3000)));
    return owner.received.size() >= plain.size();
  }));
  EXPECT_TRUE(owner.ended.empty());
  EXPECT_TRUE(owner.received == plain);
}

// Or their owner would keep, and look at, a piece for each octet. They may be of a password: nothing of what
// was moved stays behind.
TEST_P(SecuredStream, SmallRecordsComeTogether) {
  std::string wire;
  for (int n = 0; n < 1000; ++n) wire += FakeRecords::record('d', "?");
  owner.on_received = [&](const ring::Slice& piece) {
    const std::size_t wire_size = piece.size() * FakeRecords::record('d', "?").size();
    const std::string_view behind(piece.data() + piece.size(),
                                  std::min<std::size_t>(wire_size, 900) - piece.size());
    EXPECT_EQ(behind.find('?'), std::string_view::npos) << piece.size();
  };
  ASSERT_TRUE(run_until([&] {
    wire.erase(0, peer.write(wire));
    return owner.received.size() >= 1000;
  }));
  EXPECT_EQ(owner.received, std::string(1000, '?'));
  EXPECT_LE(owner.pieces, 4000 / receive_block * 2 + 8);
}

TEST_P(SecuredStream, SealsSlicesOfEveryKindInOrder) {
  narrow();
  std::string expected;
  for (int n = 0; n < 60; ++n) {
    stream().send_constant("constant ");
    ring::Slice block = world.pool.allocate();
    ASSERT_TRUE(block);
    std::fill_n(const_cast<char*>(block.data()), receive_block, static_cast<char>('A' + n % 26));
    block.extend(receive_block);
    expected += "constant ";
    expected += view(block);
    stream().send(std::move(block));
    if (n % 4 == 0) {
      stream().send_copy("copied");
      expected += "copied";
    }
    if (n % 10 == 9) {
      ASSERT_TRUE(run_until([&] {
        peer.read_all();
        return stream().unsent() == 0;
      }));
      EXPECT_EQ(stream().held(), 0U);
    }
  }
  peer.read_all();
  EXPECT_TRUE(Unsealed(peer.received).data == expected);
}

TEST_P(SecuredStream, EndsAfterAllThatIsQueuedAndSaysSo) {
  stream().send_copy("221 Bye\r\n");
  stream().end();
  ASSERT_TRUE(peer_sees_the_end());
  const Unsealed seen(peer.received);
  EXPECT_EQ(seen.data, "221 Bye\r\n");
  EXPECT_EQ(seen.ends, 1);
  peer.socket = Socket();
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
}

TEST_P(SecuredStream, ThePeerSaysThatItEnds) {
  peer.write(FakeRecords::record('d', "QUIT") + FakeRecords::record('e', "") +
             FakeRecords::record('d', "late"));
  ASSERT_TRUE(ended_with(0));
  EXPECT_EQ(::shutdown(peer.fd(), SHUT_WR), 0);
  settle();
  EXPECT_EQ(owner.received, "QUIT");
  stream().send_copy("221");
  stream().end();
  ASSERT_TRUE(peer_sees_the_end());
  const Unsealed seen(peer.received);
  EXPECT_EQ(seen.data, "221");
  EXPECT_EQ(seen.ends, 1);
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_EQ(owner.ended, std::vector{0});
}

TEST_P(SecuredStream, AnEndThatWasNotSaidIsAnError) {
  peer.write(FakeRecords::record('d', "DATA"));
  EXPECT_EQ(::shutdown(peer.fd(), SHUT_WR), 0);
  EXPECT_TRUE(ended_with(EPROTO));
  EXPECT_EQ(owner.received, "DATA");
}

TEST_P(SecuredStream, AnEndWithinARecordIsAnError) {
  peer.write(FakeRecords::record('e', "").substr(0, 2));
  EXPECT_EQ(::shutdown(peer.fd(), SHUT_WR), 0);
  EXPECT_TRUE(ended_with(EPROTO));
}

TEST_P(SecuredStream, ARecordThatMakesNoSenseEndsItAndThePeerIsTold) {
  peer.write(FakeRecords::record('d', "DATA") + FakeRecords::record('x', "") +
             FakeRecords::record('d', "late"));
  EXPECT_TRUE(ended_with(EBADMSG));
  EXPECT_EQ(owner.received, "DATA");
  peer.read_all();
  EXPECT_EQ(Unsealed(peer.received).ends, 1);
}

TEST_P(SecuredStream, CloseFromReceivedDropsTheRecordsBehind) {
  owner.on_received = [&](const ring::Slice&) { stream().close(); };
  peer.write(FakeRecords::record('d', "one") + FakeRecords::record('d', std::string(text_block + 1, '2')));
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
  EXPECT_EQ(owner.received, "one");
}

TEST_P(SecuredStream, EndFromReceivedDropsTheRecordsBehind) {
  owner.on_received = [&](const ring::Slice&) { stream().end(); };
  peer.write(FakeRecords::record('d', "one") + FakeRecords::record('d', std::string(text_block + 1, '2')));
  ASSERT_TRUE(peer_sees_the_end());
  EXPECT_EQ(owner.received, "one");
  EXPECT_EQ(Unsealed(peer.received).ends, 1);
  peer.socket = Socket();
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
}

TEST_P(SecuredStream, WithoutABlockToSealIntoItEnds) {
  std::vector<ring::Slice> taken;
  while (world.text.blocks_free() > 0) taken.push_back(world.text.allocate());
  stream().send_constant("354");
  EXPECT_TRUE(ended_with(ENOBUFS));
}

TEST_P(SecuredStream, WithOneBlockToSealIntoItGoesOn) {
  std::vector<ring::Slice> taken;
  while (world.text.blocks_free() > 1) taken.push_back(world.text.allocate());
  const std::string much(10 * text_block, 'r');
  stream().send_constant(much);
  EXPECT_TRUE(run_until([&] {
    peer.read_all();
    return Unsealed(peer.received).data == much;
  }));
  EXPECT_TRUE(owner.ended.empty());
}

TEST_P(SecuredStream, ARecordInPiecesTakesWhateverBlockThereIs) {
  for (const bool text : {true, false}) {
    for (const std::size_t size : {text_block / 2, text_block * 2}) {
      ring::BlockPool& pool = text ? world.text : world.receive.pool();
      std::vector<ring::Slice> taken;
      while (pool.blocks_free() > 0) taken.push_back(pool.allocate());
      owner.received.clear();
      const std::string content(size, 'x');
      const std::string wire = FakeRecords::record('d', content);
      peer.write(wire.substr(0, 5));
      settle();
      peer.write(wire.substr(5));
      EXPECT_TRUE(run_until([&] { return owner.received == content; })) << text << ' ' << size;
    }
  }
  EXPECT_TRUE(owner.ended.empty());
}

TEST_P(SecuredStream, WithoutAnyBlockForARecordInPiecesItEnds) {
  std::vector<ring::Slice> taken;
  while (world.text.blocks_free() > 0) taken.push_back(world.text.allocate());
  while (world.receive.pool().blocks_free() > 0) taken.push_back(world.receive.pool().allocate());
  const std::string wire = FakeRecords::record('d', "MAIL");
  peer.write(wire.substr(0, 5));
  settle();
  peer.write(wire.substr(5));
  EXPECT_TRUE(ended_with(ENOBUFS));
}

// The kernel's side, as far as a socket without TLS goes: it ignores the type of a record.
class FakeKernelRecords final : public KernelRecords {
 public:
  Event received(std::uint8_t, std::string_view) override { return Event::none; }
  void rejected(int) override {}
  Record due() override {
    return {22, due_      ? std::string_view("<update>")
                : ending_ ? std::string_view("<end>")
                          : std::string_view()};
  }
  bool sent() override {
    if (std::exchange(due_, false)) return goes_on;
    ending_ = false;
    return true;
  }
  void end() override { ending_ = true; }
  void update() { due_ = true; }

  bool goes_on = true;

 private:
  bool due_ = false;
  bool ending_ = false;
};

class KernelSecuredStream : public StreamTest {
 protected:
  KernelSecuredStream() {
    auto made = std::make_unique<FakeKernelRecords>();
    records = made.get();
    stream().secure(std::move(made));
    stream().resume();
  }
  FakeKernelRecords* records = nullptr;
};

INSTANTIATE_TEST_SUITE_P(, KernelSecuredStream, testing::Values(Kind::unix_pair, Kind::tcp),
                         [](const auto& parameter) { return parameter.param == Kind::tcp ? "tcp" : "unix"; });

TEST_P(KernelSecuredStream, SendsWhatIsDueBeforeDataAndTheEndBehindIt) {
  peer.write("plain");
  EXPECT_TRUE(run_until([&] { return owner.received == "plain"; }));
  stream().send_copy("one");
  EXPECT_TRUE(peer_reads("one"));
  records->update();
  stream().send_copy("two");
  stream().end();
  EXPECT_TRUE(peer_reads("one<update>two<end>"));
  EXPECT_TRUE(run_until([&] {
    peer.read_all();
    return peer.end_of_stream;
  }));
  peer.socket = Socket();
  EXPECT_TRUE(run_until([&] { return owner.done(); }));
}

TEST_P(KernelSecuredStream, CantGoOnAfterWhatWasDue) {
  records->goes_on = false;
  records->update();
  stream().send_copy("never");
  EXPECT_TRUE(run_until([&] { return !owner.ended.empty(); }));
  EXPECT_EQ(owner.ended, std::vector{EBADMSG});
  peer.read_all();
  EXPECT_EQ(peer.received, "<update>");
}

TEST_P(KernelSecuredStream, AnEndThatWasNotSaidIsAnError) {
  EXPECT_EQ(::shutdown(peer.fd(), SHUT_WR), 0);
  EXPECT_TRUE(run_until([&] { return !owner.ended.empty(); }));
  EXPECT_EQ(owner.ended, std::vector{EPROTO});
}

}  // namespace
}  // namespace ringmx::net
