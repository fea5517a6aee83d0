// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/acceptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "../ring/loop.h"
#include "free_address.h"
#include "net/listen.h"

namespace ringmx::net {
namespace {

using namespace std::literals;

struct Owner final : Acceptor::Owner {
  void accepted(Acceptor& acceptor, int fd) override {
    EXPECT_EQ(acceptor.id(), 7U);
    connections.emplace_back(fd);
    on_accepted();
  }
  void accept_starved(Acceptor&, int error) override {
    errors.push_back(error);
    on_starved();
  }
  void acceptor_closed(Acceptor& acceptor) override {
    EXPECT_TRUE(acceptor.closed());
    ++closed;
    on_closed();
  }

  std::vector<Socket> connections;
  std::vector<int> errors;
  int closed = 0;
  std::function<void()> on_accepted = [] {};
  std::function<void()> on_starved = [] {};
  std::function<void()> on_closed = [] {};
};

class AcceptorTest : public testing::Test {
 protected:
  AcceptorTest() { make_acceptor(); }
  ~AcceptorTest() override {
    if (acceptor == nullptr) return;
    if (owner.closed == 0) acceptor->stop();
    EXPECT_TRUE(loop.run_until([&] { return owner.closed > 0; }));
  }

  void make_acceptor() {
    std::vector<Socket> sockets = listen(address, 1, 100);
    acceptor = std::make_unique<Acceptor>(loop.reactor, owner, std::move(sockets[0]), 7);
  }
  Socket connect_client() {
    Socket client(stream_socket(address));
    EXPECT_EQ(connect(client.fd(), address.data(), address.size()), 0);
    return client;
  }
  bool refused() {
    const Socket client(stream_socket(address));
    return connect(client.fd(), address.data(), address.size()) != 0 && errno == ECONNREFUSED;
  }

  Address address = free_address();
  ring::Loop loop;
  Owner owner;
  std::unique_ptr<Acceptor> acceptor;
};

TEST_F(AcceptorTest, AcceptsAsLongAsItRuns) {
  acceptor->start();
  acceptor->start();  // once is enough
  std::vector<Socket> clients;
  for (std::size_t n = 1; n <= 200; ++n) {
    clients.push_back(connect_client());
    if (n % 50 == 0) {  // many at once
      ASSERT_TRUE(loop.run_until([&] { return owner.connections.size() == n; })) << n;
    }
  }
  for (std::size_t n = 201; n <= 220; ++n) {
    clients.push_back(connect_client());
    ASSERT_TRUE(loop.run_until([&] { return owner.connections.size() == n; })) << n;
  }
  for (const Socket& connection : owner.connections)
    EXPECT_NE(fcntl(connection.fd(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_TRUE(owner.errors.empty());
}

TEST_F(AcceptorTest, StopClosesTheSocket) {
  acceptor->start();
  loop.settle();
  acceptor->stop();
  EXPECT_TRUE(loop.run_until([&] { return owner.closed == 1; }));
  EXPECT_TRUE(acceptor->closed());
  EXPECT_TRUE(refused());
  loop.settle();
  EXPECT_EQ(owner.closed, 1);
  acceptor->start();
  loop.settle();
  EXPECT_TRUE(acceptor->closed());
}

TEST_F(AcceptorTest, StopBeforeStart) {
  acceptor->stop();
  EXPECT_EQ(owner.closed, 0) << "not from inside stop()";
  EXPECT_TRUE(loop.run_until([&] { return owner.closed == 1; }));
  EXPECT_TRUE(refused());
}

TEST_F(AcceptorTest, StopTwiceIsToldOnce) {
  acceptor->start();
  loop.settle();
  acceptor->stop();
  acceptor->stop();
  EXPECT_TRUE(loop.run_until([&] { return owner.closed == 1; }));
  acceptor->stop();
  loop.settle();
  EXPECT_EQ(owner.closed, 1);
}

TEST_F(AcceptorTest, OwnerMayDestroyItWhenItIsClosed) {
  owner.on_closed = [&] { acceptor = nullptr; };
  acceptor->start();
  loop.settle();
  acceptor->stop();
  EXPECT_TRUE(loop.run_until([&] { return owner.closed == 1; }));
  EXPECT_EQ(acceptor, nullptr);
}

// Those that the kernel accepted in the same batch are the owner's: nobody else can close them.
TEST_F(AcceptorTest, StopFromTheCallbackLosesNoConnection) {
  owner.on_accepted = [&] { acceptor->stop(); };
  std::vector<Socket> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(connect_client());
  acceptor->start();
  EXPECT_TRUE(loop.run_until([&] { return owner.closed == 1; }));
  EXPECT_GE(owner.connections.size(), 1U);
  // Each client talks to the owner or has been told that nobody is there; none is left hanging.
  owner.connections.clear();
  for (const Socket& client : clients) {
    char c = 0;
    EXPECT_LE(recv(client.fd(), &c, 1, 0), 0);
  }
}

class FewDescriptors {
 public:
  // No more than those that are open.
  FewDescriptors() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const int next = dup(0);
    ::close(next);
    rlimit few = before_;
    few.rlim_cur = static_cast<rlim_t>(next);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  }
  ~FewDescriptors() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
};

class StarvedAcceptor : public AcceptorTest {
 protected:
  // UBSan's check of virtual calls, which the library has, opens a pipe when it meets a class for the first
  // time: it meets the owner here, where there are descriptors. (An accept goes by the limit of the time
  // when it began, so this one has to end.)
  StarvedAcceptor() {
    acceptor->start();
    const Socket client = connect_client();
    EXPECT_TRUE(loop.run_until([&] { return owner.connections.size() == 1; }));
    acceptor->stop();
    EXPECT_TRUE(loop.run_until([&] { return owner.closed == 1; }));
    owner.connections.clear();
    owner.closed = 0;
    make_acceptor();
  }
};

TEST_F(StarvedAcceptor, TriesAgainAfterDescriptorsRanOut) {
  const Socket client = connect_client();
  loop.settle();
  const auto begin = std::chrono::steady_clock::now();
  {
    const FewDescriptors few;
    acceptor->start();
    ASSERT_TRUE(loop.run_until([&] { return owner.errors.size() == 3; }));
    EXPECT_EQ(owner.errors, (std::vector{EMFILE, EMFILE, EMFILE}));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 200ms) << "it must not spin";
    EXPECT_TRUE(owner.connections.empty());
  }
  // The connection has waited in the kernel's queue.
  EXPECT_TRUE(loop.run_until([&] { return owner.connections.size() == 1; }));
  const Socket another = connect_client();
  EXPECT_TRUE(loop.run_until([&] { return owner.connections.size() == 2; }));
  EXPECT_EQ(owner.errors.size(), 3U);
}

TEST_F(StarvedAcceptor, StopWhileItWaitsToTryAgain) {
  const FewDescriptors few;
  acceptor->start();
  ASSERT_TRUE(loop.run_until([&] { return owner.errors.size() == 1; }));
  acceptor->stop();
  EXPECT_TRUE(loop.run_until([&] { return owner.closed == 1; }));
  loop.settle();
  EXPECT_EQ(owner.errors.size(), 1U);
}

TEST_F(StarvedAcceptor, StopFromStarved) {
  owner.on_starved = [&] { acceptor->stop(); };
  const FewDescriptors few;
  acceptor->start();
  EXPECT_TRUE(loop.run_until([&] { return owner.closed == 1; }));
  loop.settle();
  EXPECT_EQ(owner.closed, 1);
  EXPECT_EQ(owner.errors.size(), 1U);
}

}  // namespace
}  // namespace ringmx::net
