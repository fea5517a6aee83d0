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

// `ask`: getpeername() or getsockname(). A peer that has gone has no address; its session is over anyway.
void address_of(int fd, int (*ask)(int, sockaddr*, socklen_t*), policy::Address& address,
                std::uint16_t& port) {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } socket{};
  socklen_t size = sizeof(socket);
  if (ask(fd, &socket.any, &size) != 0) return;
  if (socket.any.sa_family == AF_INET) {
    address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::memcpy(&address[12], &socket.v4.sin_addr, 4);
    port = ntohs(socket.v4.sin_port);
  } else if (socket.any.sa_family == AF_INET6) {
    std::memcpy(address.data(), &socket.v6.sin6_addr, address.size());
    port = ntohs(socket.v6.sin6_port);
  }
}

// What points into `from`, in a copy of it.
smtp::Path moved(const smtp::Path& path, std::string_view from, std::string_view to) {
  const auto part = [&](std::string_view s) {
    return s.empty() ? std::string_view()
                     : to.substr(static_cast<std::size_t>(s.data() - from.data()), s.size());
  };
  return {part(path.mailbox), part(path.local_part), part(path.domain)};
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

SessionFacts::SessionFacts(int fd, std::string_view listener) {
  facts_.listener = listener;
  address_of(fd, ::getpeername, facts_.client, facts_.client_port);
  address_of(fd, ::getsockname, facts_.server, facts_.server_port);
}

const policy::Facts& SessionFacts::at(const smtp::Decision& decision, std::uint32_t recipients) {
  facts_.recipients = recipients;
  if (decision.action == smtp::Action::mail) {
    sender_in_line_ = true;
    facts_.sender = decision.mail.reverse_path;
    facts_.mail_argument = decision.argument;
    facts_.size = decision.mail.size;
  }
  const bool rcpt = decision.action == smtp::Action::rcpt;
  facts_.recipient = rcpt ? decision.rcpt.forward_path : smtp::Path{};
  facts_.rcpt_argument = rcpt ? decision.argument : std::string_view();
  return facts_;
}

void SessionFacts::applied(const smtp::Decision& decision) {
  using smtp::Action;
  switch (decision.action) {
    case Action::greet:
    case Action::greet_esmtp:
      forget_envelope();
      said_.reserve(room_for_both);
      said_ = decision.argument;
      facts_.helo = said_;
      facts_.esmtp = decision.action == Action::greet_esmtp;
      return;
    case Action::mail: {
      const std::size_t helo = facts_.helo.size();
      said_.resize(helo);
      said_ += decision.argument;
      facts_.helo = {said_.data(), helo};  // it may have moved
      facts_.mail_argument = {said_.data() + helo, decision.argument.size()};
      facts_.sender = moved(decision.mail.reverse_path, decision.argument, facts_.mail_argument);
      facts_.size = decision.mail.size;
      sender_in_line_ = false;
      return;
    }
    case Action::rset:
      return forget_envelope();
    default:
      if (sender_in_line_) forget_envelope();
  }
}

void SessionFacts::forget_envelope() {
  sender_in_line_ = false;
  facts_.sender = {};
  facts_.mail_argument = {};
  facts_.size = 0;
}

void SessionFacts::tls_started(const tls::Facts& tls) {
  forget_envelope();
  said_.clear();
  facts_.helo = {};
  facts_.esmtp = false;
  facts_.user = {};
  facts_.tls = {.version = static_cast<std::uint16_t>(tls.version),
                .resumed = tls.resumed,
                .protocol = tls::name_of(tls.version),
                .suite = tls.suite,
                .group = tls::name_of(tls.group),
                .certificate = nullptr};
  if (!tls.certificate) return;
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
  certificate_ = std::move(certificate);
  facts_.tls.certificate = &certificate_->facts;
}

}  // namespace ringmx::gateway
