// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/session_facts.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <cstring>
#include <utility>

namespace ringmx::gateway {
namespace {

// Most sessions' HELO and MAIL fit, and cost one allocation.
constexpr std::size_t room_for_both = 111;

// `ask`: getpeername() or getsockname(). False: there is no address.
bool address_of(int fd, int (*ask)(int, sockaddr*, socklen_t*), policy::Address& address,
                std::uint16_t& port) {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } socket;
  socklen_t size = sizeof(socket);
  if (ask(fd, &socket.any, &size) != 0) return false;
  if (socket.any.sa_family == AF_INET) {
    address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::memcpy(&address[12], &socket.v4.sin_addr, 4);
    port = ntohs(socket.v4.sin_port);
  } else if (socket.any.sa_family == AF_INET6) {
    std::memcpy(address.data(), &socket.v6.sin6_addr, address.size());
    port = ntohs(socket.v6.sin6_port);
  }
  return true;
}

// What points into `from`, in a copy of it.
smtp::Path moved(const smtp::Path& path, std::string_view from, std::string_view to) {
  const auto part = [&](std::string_view s) {
    return s.empty() ? std::string_view()
                     : to.substr(static_cast<std::size_t>(s.data() - from.data()), s.size());
  };
  return {part(path.mailbox), part(path.local_part), part(path.domain), path.ambiguous};
}

policy::Fingerprint fingerprint_of(std::string_view hexadecimal) {
  policy::Fingerprint out{};
  if (hexadecimal.size() != out.size() * 2) return out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const char* const octet = hexadecimal.data() + i * 2;
    std::from_chars(octet, octet + 2, out[i], 16);
  }
  return out;
}

}  // namespace

bool SessionFacts::open(int fd, bool remembers, bool recipient) {
  if (!address_of(fd, ::getpeername, client_, client_port_)) return false;
  if (!remembers) return true;
  said_ = std::make_unique<Said>();
  said_->keeps_recipients = recipient;
  return address_of(fd, ::getsockname, said_->server, said_->server_port);
}

void SessionFacts::remember(const smtp::Decision& decision) {
  using smtp::Action;
  Said& said = *said_;
  switch (decision.action) {
    case Action::greet:
    case Action::greet_esmtp:
      said.forget_mail();
      said.arguments.reserve(room_for_both);
      said.arguments = decision.argument;
      said.helo = said.arguments;
      said.esmtp = decision.action == Action::greet_esmtp;
      return;
    case Action::mail: {
      const std::size_t helo = said.helo.size();
      said.arguments.resize(helo);
      said.arguments += decision.argument;
      said.helo = {said.arguments.data(), helo};  // it may have moved
      said.mail_argument = {said.arguments.data() + helo, decision.argument.size()};
      said.sender = moved(decision.mail.reverse_path, decision.argument, said.mail_argument);
      said.size = decision.mail.size;
      return;
    }
    case Action::rcpt:
      if (said.keeps_recipients) {
        const smtp::Path& path = decision.rcpt.forward_path;
        said.asked.push_back({std::string(path.mailbox), path.local_part.size()});
      }
      return;
    case Action::rset:
      return said.forget_mail();
    default:
      return;
  }
}

void SessionFacts::Said::recall_recipient(policy::Facts& facts) const {
  smtp::Path& path = facts.recipient;
  path.mailbox = accepted.mailbox;
  path.local_part = path.mailbox.substr(0, accepted.local_part);
  if (accepted.local_part < path.mailbox.size()) path.domain = path.mailbox.substr(accepted.local_part + 1);
}

void SessionFacts::Said::recipient_replied(bool good) {
  if (asked.empty()) return;
  if (good && accepted.mailbox.empty()) accepted = std::move(asked.front());
  asked.erase(asked.begin());
}

void SessionFacts::Said::forget_mail() {
  asked.clear();
  accepted = {};
  sender = {};
  mail_argument = {};
  size = 0;
}

void SessionFacts::tls_started(const tls::Facts& tls) {
  user_ = {};
  if (said_ != nullptr) {
    said_->forget_mail();
    said_->arguments.clear();
    said_->helo = {};
    said_->esmtp = false;
    said_->mechanism = {};
  }
  auto secured = std::make_unique<Secured>();
  secured->tls = {.version = static_cast<std::uint16_t>(tls.version),
                  .resumed = tls.resumed,
                  .protocol = tls::name_of(tls.version),
                  .suite = tls.suite,
                  .group = tls::name_of(tls.group),
                  .certificate = nullptr};
  if (tls.certificate) {
    auto certificate = std::make_unique<Certificate>();
    certificate->peer = *tls.certificate;
    const tls::PeerCertificate& peer = certificate->peer;
    certificate->facts = {.verified = peer.verified,
                          .sha256 = fingerprint_of(peer.sha256),
                          .subject = peer.subject,
                          .issuer = peer.issuer,
                          .serial = peer.serial,
                          .sha1 = peer.sha1,
                          .der = peer.der};
    secured->certificate = std::move(certificate);
    secured->tls.certificate = &secured->certificate->facts;
  }
  secured_ = std::move(secured);
}

}  // namespace ringmx::gateway
