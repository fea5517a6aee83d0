// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/listen.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "free_address.h"

namespace ringmx::net {
namespace {

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  EXPECT_EQ(getsockopt(fd, level, name, &value, &size), 0);
  return value;
}

std::string why_not(const Address& address, unsigned reactors = 2) {
  try {
    const std::vector<Socket> sockets = listen(address, reactors, 10);
  } catch (const std::system_error& error) {
    return error.what();
  }
  return "";
}

// Connects from `source`; takes the connection and returns which socket it came to, or -1.
int place_of_connection(const std::vector<Socket>& sockets, const Address& to, const Address& source) {
  const Socket client(stream_socket(to));
  if (bind(client.fd(), source.data(), source.size()) != 0) return -1;
  if (connect(client.fd(), to.data(), to.size()) != 0) return -1;
  std::vector<pollfd> ready;
  for (const Socket& socket : sockets) ready.push_back({.fd = socket.fd(), .events = POLLIN, .revents = 0});
  if (poll(ready.data(), ready.size(), 5000) != 1) return -1;
  int place = 0;
  while (ready[static_cast<std::size_t>(place)].revents == 0) ++place;
  const Socket accepted(accept(ready[static_cast<std::size_t>(place)].fd, nullptr, nullptr));
  return accepted.fd() >= 0 ? place : -1;
}

struct TemporaryFolder {
  TemporaryFolder() {
    std::string name = testing::TempDir() + "ringmx-listen-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path;
};

TEST(Socket, ClosesItself) {
  const auto open = [](int fd) { return fcntl(fd, F_GETFD) >= 0; };
  int fd = -1;
  {
    Socket a(dup(0));
    fd = a.fd();
    Socket b(std::move(a));
    EXPECT_EQ(a.fd(), -1);  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
    EXPECT_EQ(b.fd(), fd);
    Socket c;
    c = std::move(b);
    EXPECT_TRUE(open(fd));
    Socket& same = c;
    c = std::move(same);
    EXPECT_EQ(c.fd(), fd);
    EXPECT_TRUE(open(fd));
  }
  EXPECT_FALSE(open(fd));
  Socket d(dup(0));
  fd = d.fd();
  d = Socket();
  EXPECT_FALSE(open(fd));
  Socket e(dup(0));
  fd = e.release();
  EXPECT_EQ(e.fd(), -1);
  EXPECT_TRUE(open(fd));
  ::close(fd);
}

TEST(Listen, Options) {
  const Address address = free_address();
  for (const unsigned reactors : {1U, 3U}) {
    const std::vector<Socket> sockets = listen(address, reactors, 10);
    ASSERT_EQ(sockets.size(), reactors);
    for (const Socket& socket : sockets) {
      EXPECT_EQ(option(socket.fd(), SOL_SOCKET, SO_ACCEPTCONN), 1);
      EXPECT_NE(option(socket.fd(), IPPROTO_TCP, TCP_NODELAY), 0);
      EXPECT_NE(fcntl(socket.fd(), F_GETFD) & FD_CLOEXEC, 0);
    }
    const Socket client(stream_socket(address));
    EXPECT_NE(option(client.fd(), IPPROTO_TCP, TCP_NODELAY), 0);
    EXPECT_NE(fcntl(client.fd(), F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST(Listen, OneClientAlwaysLandsOnTheSameSocket) {
  const Address address = free_address();
  constexpr unsigned reactors = 4;
  const std::vector<Socket> sockets = listen(address, reactors, 100);
  std::array<int, reactors> clients{};
  constexpr int sources = 64;
  for (int i = 0; i < sources; ++i) {
    // Neighbours, as in one provider's network, and others far away.
    const std::string host = i % 2 == 0
                                 ? "127.3.4." + std::to_string(1 + i)
                                 : "127." + std::to_string(10 + i) + "." + std::to_string(7 * i % 256) + ".9";
    const Address source = *Address::ip(host, 0);
    const int place = place_of_connection(sockets, address, source);
    ASSERT_GE(place, 0) << host;
    ++clients[static_cast<std::size_t>(place)];
    for (int again = 0; again < 3; ++again)
      ASSERT_EQ(place_of_connection(sockets, address, source), place) << host;
  }
  for (const int n : clients) {
    EXPECT_GE(n, sources / 4 / 2);
    EXPECT_LE(n, sources / 4 * 2);
  }
}

// In a network of its own, where loopback can have more than one IPv6 address: a client owns its /64.
TEST(Listen, AnIpv6ClientIsItsNetwork) {
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) _exit(77);
    const Socket control(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq interface {};
    std::strcpy(interface.ifr_name, "lo");
    interface.ifr_flags = IFF_UP;
    if (control.fd() < 0 || ioctl(control.fd(), SIOCSIFFLAGS, &interface) != 0 ||
        ioctl(control.fd(), SIOCGIFINDEX, &interface) != 0) {
      _exit(77);
    }
    const auto add = [&](const std::string& host) {
      // struct in6_ifreq of linux/ipv6.h, which can't be had together with netinet/in.h.
      struct {
        in6_addr address;
        std::uint32_t prefix_length;
        int interface_index;
      } request{.address = {}, .prefix_length = 128, .interface_index = interface.ifr_ifindex};
      if (inet_pton(AF_INET6, host.c_str(), &request.address) != 1 ||
          ioctl(control.fd(), SIOCSIFADDR, &request) != 0) {
        return false;
      }
      // It is tentative until a thread of the kernel has had its turn.
      const Address address = *Address::ip(host, 0);
      for (int tries = 0; tries < 2000; ++tries) {
        const Socket probe(stream_socket(address));
        if (bind(probe.fd(), address.data(), address.size()) == 0) return true;
        poll(nullptr, 0, 1);
      }
      return false;
    };
    const Address address = *Address::ip("::1", 25'252);
    constexpr int networks = 32;
    std::set<int> places;
    try {
      const std::vector<Socket> sockets = listen(address, 4, 100);
      for (int i = 0; i < networks; ++i) {
        const std::string network = "2001:db8:" + std::to_string(i / 8) + ":" + std::to_string(i) + ":";
        std::set<int> of_network;
        for (const char* host : {"1:2:3:4", "1:2:3:5", "ffff:a:b:c"}) {
          if (!add(network + host)) _exit(77);
          of_network.insert(place_of_connection(sockets, address, *Address::ip(network + host, 0)));
        }
        if (of_network.size() != 1 || of_network.contains(-1)) _exit(1);
        places.merge(of_network);
      }
    } catch (const std::system_error&) {
      _exit(2);
    }
    _exit(places.size() == 4 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no network namespace with IPv6 can be had here";
  EXPECT_EQ(WEXITSTATUS(status), 0) << "1: one network in two places; 2: can't listen; 3: not all are used";
}

TEST(Listen, IsExclusive) {
  const Address address = free_address();
  std::vector<Socket> sockets = listen(address, 2, 10);
  for (const unsigned reactors : {1U, 2U}) {
    const std::string what = why_not(address, reactors);
    EXPECT_NE(what.find(address.text()), std::string::npos) << what;
    EXPECT_NE(what.find(std::generic_category().message(EADDRINUSE)), std::string::npos) << what;
  }
  // The first one goes on.
  EXPECT_GE(place_of_connection(sockets, address, *Address::ip("127.0.0.1", 0)), 0);
  sockets.clear();
  EXPECT_EQ(why_not(address), "");
}

TEST(Listen, TakesThePortOverFromConnectionsThatLinger) {
  const Address address = free_address();
  std::vector<Socket> sockets = listen(address, 1, 10);
  const Socket client(stream_socket(address));
  ASSERT_EQ(connect(client.fd(), address.data(), address.size()), 0);
  Socket accepted(accept(sockets[0].fd(), nullptr, nullptr));
  ASSERT_GE(accepted.fd(), 0);
  accepted = Socket();  // this side closes first, so its port stays in TIME_WAIT or FIN_WAIT
  sockets.clear();
  EXPECT_EQ(why_not(address), "");
}

TEST(Listen, NamesTheAddress) {
  const std::string what = why_not(*Address::ip("192.0.2.1", 25));  // TEST-NET-1: not ours
  EXPECT_NE(what.find("192.0.2.1:25"), std::string::npos) << what;
  const std::string no_folder = why_not(*Address::unix_path("/nonexistent/mta.sock"));
  EXPECT_NE(no_folder.find("unix:/nonexistent/mta.sock"), std::string::npos) << no_folder;
}

TEST(Listen, ReactorsShareAUnixSocket) {
  const TemporaryFolder folder;
  const Address address = *Address::unix_path(folder.path + "/s");
  const std::vector<Socket> sockets = listen(address, 3, 10);
  ASSERT_EQ(sockets.size(), 3U);
  for (const Socket& socket : sockets) {
    EXPECT_NE(fcntl(socket.fd(), F_GETFD) & FD_CLOEXEC, 0);
    const Socket client(stream_socket(address));
    EXPECT_EQ(connect(client.fd(), address.data(), address.size()), 0);
    const Socket accepted(accept(socket.fd(), nullptr, nullptr));
    EXPECT_GE(accepted.fd(), 0);
  }
}

TEST(Listen, ReplacesAStaleUnixSocketButNotALiveOne) {
  const TemporaryFolder folder;
  const Address address = *Address::unix_path(folder.path + "/s");
  std::vector<Socket> sockets = listen(address, 1, 10);
  const std::string what = why_not(address);
  EXPECT_NE(what.find(address.text()), std::string::npos) << what;
  const Socket client(stream_socket(address));
  EXPECT_EQ(connect(client.fd(), address.data(), address.size()), 0) << "the first one goes on";
  sockets.clear();
  EXPECT_TRUE(std::filesystem::exists(folder.path + "/s"));
  EXPECT_EQ(why_not(address), "");
}

// Whoever listens there is too busy to accept: that is no reason to wait for it, nor to replace it.
TEST(Listen, ABusyUnixSocketIsALiveOne) {
  const TemporaryFolder folder;
  const Address address = *Address::unix_path(folder.path + "/s");
  const std::vector<Socket> sockets = listen(address, 1, 1);
  std::vector<Socket> clients;
  int result = 0;
  while (result == 0) {
    clients.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    result = connect(clients.back().fd(), address.data(), address.size());
    ASSERT_LT(clients.size(), 100U);
  }
  ASSERT_EQ(errno, EAGAIN);
  alarm(10);  // ends a test that hangs
  EXPECT_NE(why_not(address).find(address.text()), std::string::npos);
  alarm(0);
  EXPECT_TRUE(std::filesystem::exists(folder.path + "/s"));
}

// The kernel refuses connections to what is no socket at all, just as it does to a stale one.
TEST(Listen, RemovesNothingButSockets) {
  const TemporaryFolder folder;
  const std::string path = folder.path + "/precious";
  std::ofstream(path) << "data";
  const std::string link = folder.path + "/link";
  std::filesystem::create_symlink(path, link);
  for (const std::string& name : {path, link}) {
    const std::string what = why_not(*Address::unix_path(name));
    EXPECT_NE(what.find(name), std::string::npos) << what;
    EXPECT_TRUE(std::filesystem::exists(name));
  }
  std::string content;
  std::ifstream(path) >> content;
  EXPECT_EQ(content, "data");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
}

}  // namespace
}  // namespace ringmx::net
