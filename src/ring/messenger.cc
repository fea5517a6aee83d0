// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/messenger.h"

#include <system_error>

namespace ringmx::ring {

Messenger::Messenger() {
  const int error = io_uring_queue_init(4, &ring_, 0);
  if (error != 0) throw std::system_error(-error, std::generic_category(), "io_uring_setup");
}

Messenger::~Messenger() {
  io_uring_queue_exit(&ring_);
}

int Messenger::send(int ring_fd, unsigned message) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) return -EBUSY;
  io_uring_prep_msg_ring(entry, ring_fd, message, message_user_data, 0);
  int result = io_uring_submit(&ring_);
  if (result < 0) return result;
  io_uring_cqe* cqe = nullptr;
  do {
    result = io_uring_wait_cqe(&ring_, &cqe);
  } while (result == -EINTR);
  if (result < 0) return result;
  result = cqe->res;
  io_uring_cqe_seen(&ring_, cqe);
  return result < 0 ? result : 0;
}

}  // namespace ringmx::ring
